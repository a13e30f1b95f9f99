//! How what is kept on disk is encrypted, and named. Pure, but for the random bytes.
//!
//! A key of the user's, what is said of the identity and what was read enter; bytes leave that tell nothing but a length and a time. What can't be opened is
//! `None`, for whatever reason. Keys and what is opened are wiped; the copies that the cipher makes of a key while it works are freed.

use std::{fmt, str};

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ring::{
    aead::{self, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use super::Error;
use crate::{
    api::reference::Source,
    provider::{Reading, ServedVersion, Value},
    sensitive::Sensitive,
};

/// The size of a key, in bytes.
const KEY: usize = 32;
/// What the time when it was read takes, before the nonce.
const TIME: usize = size_of::<u64>();
/// What stands before what is encrypted.
const HEAD: usize = TIME + aead::NONCE_LEN;
/// Other files than these are another version's.
const PURPOSE: &[u8] = b"robotosecret cache 1";

/// The key of a cache on disk: 32 random bytes that nobody else has, such as `openssl rand -base64 32` prints. It is wiped when it is dropped.
#[derive(Clone)]
pub struct CacheKey(Zeroizing<[u8; KEY]>);

impl CacheKey {
    /// Of 32 bytes.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`]: they are more or fewer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; KEY]);
        if bytes.len() != KEY {
            return Err(wrong(bytes.len()));
        }
        key.copy_from_slice(bytes);
        Ok(Self(key))
    }

    /// Of 32 bytes in base64, in either alphabet, with or without `=` at the end; space around it is left out.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidRequest`]: it is no base64, or of more or fewer bytes.
    pub fn from_base64(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        let alphabet = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
        let engine = GeneralPurpose::new(&alphabet, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));
        let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
        match engine.decode_slice(text, &mut bytes) {
            Ok(length) => Self::from_bytes(&bytes[..length]),
            Err(_) => Err(Error::InvalidRequest("the key of the cache on disk is no base64".to_owned())),
        }
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey(redacted)")
    }
}

fn wrong(length: usize) -> Error {
    Error::InvalidRequest(format!("the key of the cache on disk has {length} bytes; it takes {KEY} random ones, such as `openssl rand -base64 {KEY}` prints"))
}

/// Who reads one store, as far as it is known before any call: each part of it changes all names and keys.
pub(super) struct Scope(hmac::Context);

impl Scope {
    pub(super) fn new(key: &CacheKey) -> Self {
        Self(hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.0.as_slice())))
    }

    /// One more part; that there is none is told from an empty one.
    pub(super) fn add(&mut self, part: Option<&[u8]>) {
        // No part is as long as the mark of none.
        self.0.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        self.0.update(part.unwrap_or_default());
    }

    /// The keys of this scope.
    pub(super) fn keys(self, key: &CacheKey) -> Option<Keys> {
        let scope = self.0.sign();
        let prk = Salt::new(HKDF_SHA256, PURPOSE).extract(key.0.as_slice());
        let derived = |purpose: &[u8]| {
            let mut key = Zeroizing::new([0; KEY]);
            prk.expand(&[purpose, scope.as_ref()], HKDF_SHA256).and_then(|okm| okm.fill(key.as_mut_slice())).ok()?;
            Some(key)
        };
        Some(Keys { seal: derived(b"seal")?, name: derived(b"name")? })
    }
}

/// What one identity's files of one store are named and encrypted with.
pub(super) struct Keys {
    seal: Zeroizing<[u8; KEY]>,
    name: Zeroizing<[u8; KEY]>,
}

impl Keys {
    /// The name of the file for a reference, which says nothing to whoever hasn't the key.
    pub(super) fn name(&self, source: &Source) -> String {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.name.as_slice()), source.to_string().as_bytes());
        hex(tag.as_ref())
    }

    /// What is written of what was read at this time, in milliseconds.
    pub(super) fn seal(&self, source: &Source, read: u64, reading: &Reading) -> Option<Vec<u8>> {
        let mut content = encode(reading)?;
        let nonce: [u8; aead::NONCE_LEN] = random()?;
        let tag = self.cipher()?.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), about(source, read), content.as_mut_slice()).ok()?;
        Some([&read.to_be_bytes(), &nonce[..], content.as_slice(), tag.as_ref()].concat())
    }

    /// When it was read, and what. Only what was sealed for this reference, by this identity and at the time that it says, is opened.
    pub(super) fn open(&self, source: &Source, file: Vec<u8>) -> Option<(u64, Reading)> {
        let mut file = Zeroizing::new(file);
        let (head, content) = file.split_at_mut_checked(HEAD)?;
        let (read, nonce) = head.split_at(TIME);
        let read = u64::from_be_bytes(read.try_into().ok()?);
        let content = self.cipher()?.open_in_place(Nonce::try_assume_unique_for_key(nonce).ok()?, about(source, read), content).ok()?;
        Some((read, decode(content)?))
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        UnboundKey::new(&CHACHA20_POLY1305, self.seal.as_slice()).map(LessSafeKey::new).ok()
    }
}

/// What is sealed with a value, and not written: whose it is. The identity is in the key.
fn about(source: &Source, read: u64) -> Aad<Vec<u8>> {
    Aad::from([&read.to_be_bytes(), source.to_string().as_bytes()].concat())
}

/// Bytes that nobody guesses.
pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

/// As text that a file can be named by.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect()
}

/// A kind, the four parts of a version, each after its length, and the value. What else a reading has is for the controller.
fn encode(Reading { value, version, .. }: &Reading) -> Option<Zeroizing<Vec<u8>>> {
    let (kind, value) = match value {
        Value::Text(value) => (b't', value),
        Value::Binary(value) => (b'b', value),
        Value::List(_) => return None,
    };
    let ServedVersion { arn, id, created, region } = version;
    let parts = [Some(arn), Some(id), created.as_ref(), region.as_ref()];
    let length = parts.iter().map(|part| size_of::<u32>() + part.map_or(0, String::len)).sum::<usize>() + 1 + value.len();
    // As long as it gets, so that no copy is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length));
    bytes.push(kind);
    for part in parts {
        let length = part.map_or(Ok(u32::MAX), |part| u32::try_from(part.len())).ok()?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(part.map_or(&[], |part| part.as_bytes()));
    }
    bytes.extend_from_slice(value.expose());
    Some(bytes)
}

fn decode(bytes: &[u8]) -> Option<Reading> {
    let (kind, mut rest) = bytes.split_first()?;
    let mut part = || -> Option<Option<String>> {
        let (length, behind) = rest.split_first_chunk()?;
        rest = behind;
        let length = u32::from_be_bytes(*length);
        if length == u32::MAX {
            return Some(None);
        }
        let (text, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = behind;
        Some(Some(str::from_utf8(text).ok()?.to_owned()))
    };
    let version = ServedVersion { arn: part()??, id: part()??, created: part()?, region: part()? };
    let value = Sensitive::new(rest.to_vec());
    let value = match kind {
        b't' => Value::Text(value),
        b'b' => Value::Binary(value),
        _ => return None,
    };
    Some(Reading { value, version, denotes: Vec::new(), record: None })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::reference::Reference;

    pub(in crate::secrets) fn source(text: &str) -> Source {
        text.parse::<Reference>().unwrap().source
    }

    pub(in crate::secrets) fn keys(byte: u8, who: &str) -> Keys {
        let key = CacheKey::from_bytes(&[byte; KEY]).unwrap();
        let mut scope = Scope::new(&key);
        scope.add(Some(who.as_bytes()));
        scope.keys(&key).unwrap()
    }

    pub(in crate::secrets) fn reading(value: &[u8]) -> Reading {
        let version = ServedVersion { arn: "arn:x".into(), id: "v-7".into(), created: Some(String::new()), region: None };
        Reading { value: Value::of(Sensitive::new(value.to_vec())), version, denotes: Vec::new(), record: None }
    }

    #[test]
    fn only_what_was_sealed_for_this_reference_identity_and_time_is_opened() {
        let (ours, at) = (source("vault://kv/db"), 7_000);
        for value in [&b"hunter2"[..], &[0, 255], b""] {
            let file = keys(1, "me").seal(&ours, at, &reading(value)).unwrap();
            let (read, back) = keys(1, "me").open(&ours, file.clone()).unwrap();
            let bytes = match (&back.value, value) {
                (Value::Binary(bytes), [0, 255]) => bytes,
                (Value::Text(text), _) => text,
                other => panic!("{other:?}"),
            };
            assert_eq!((read, bytes.expose(), &back.version), (at, value, &reading(value).version));
            assert_ne!(file, keys(1, "me").seal(&ours, at, &reading(value)).unwrap(), "the nonce is another each time");
            for (keys, source) in [(keys(2, "me"), &ours), (keys(1, "you"), &ours), (keys(1, "me"), &source("vault://kv/db?version=1"))] {
                assert!(keys.open(source, file.clone()).is_none());
            }
            // Each bit of it counts, and each byte, those of the time, too.
            for bit in 0..file.len() * 8 {
                let mut other = file.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(keys(1, "me").open(&ours, other).is_none(), "bit {bit}");
            }
            for length in 0..file.len() {
                assert!(keys(1, "me").open(&ours, file[..length].to_vec()).is_none(), "{length} bytes");
            }
        }
        let name = keys(1, "me").name(&ours);
        assert_eq!((name.len(), &name), (64, &keys(1, "me").name(&ours)));
        assert!([keys(2, "me").name(&ours), keys(1, "you").name(&ours), keys(1, "me").name(&source("vault://kv/d"))].iter().all(|other| *other != name));
    }

    #[test]
    fn what_is_said_of_an_identity_is_not_run_together() {
        let key = CacheKey::from_bytes(&[1; KEY]).unwrap();
        let name = |parts: &[Option<&str>]| {
            let mut scope = Scope::new(&key);
            for part in parts {
                scope.add(part.map(str::as_bytes));
            }
            scope.keys(&key).unwrap().name(&source("vault://kv/db"))
        };
        let all = [&[Some("ab"), Some("c")][..], &[Some("a"), Some("bc")], &[None, Some("abc")], &[Some(""), Some("abc")], &[Some("abc")]];
        let names: std::collections::BTreeSet<String> = all.into_iter().map(name).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn a_key_is_32_bytes_and_is_not_shown() {
        let bytes: Vec<u8> = (224..=255).collect();
        let text = "4OHi4-Tl5ufo6err7O3u7_Dx8vP09fb3-Pn6-_z9_v8";
        for text in [text.to_owned(), format!(" {text}=\n"), text.replace('-', "+").replace('_', "/")] {
            assert_eq!(CacheKey::from_base64(&text).unwrap().0.as_slice(), bytes, "{text}");
        }
        let said = |answer: Result<CacheKey, Error>| answer.unwrap_err().to_string();
        assert!(said(CacheKey::from_bytes(&bytes[..31])).contains("has 31 bytes; it takes 32"));
        assert!(said(CacheKey::from_bytes(&[])).contains("has 0 bytes"));
        assert!(said(CacheKey::from_base64(&text[..40])).contains("has 30 bytes"));
        assert!(said(CacheKey::from_base64(&text[..40].repeat(2))).contains("has 60 bytes"));
        assert_eq!(said(CacheKey::from_base64("hunter2!")), "the key of the cache on disk is no base64");
        assert_eq!(format!("{:?}", CacheKey::from_bytes(&bytes).unwrap()), "CacheKey(redacted)");
    }
}
