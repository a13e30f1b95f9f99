//! Canaries: made-up secret values that can be recognised wherever they turn up. A seed text enters, values to store leave;
//! later logs, events, statuses or metrics enter and what leaked leaves. It must find a value in every form in which Rust and Kubernetes
//! software writes text, so it decodes what it is given in all of them, also one form within another.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::sync::OnceLock;

use anyhow::Result;
use ring::digest::{SHA256, digest};

use crate::folder::random_hex;

/// Token characters; long enough that a half of it is found, too.
const TOKEN: usize = 40;

/// The shortest part of a token that counts as a leak.
const PART: usize = 12;

/// How many forms may be nested: base64 of percent-encoded JSON is two around one.
const DEPTH: usize = 3;

/// What an excerpt shows before a leak.
const CONTEXT: usize = 80;

/// A made-up secret with a token that occurs nowhere else.
#[derive(Debug, Clone)]
pub struct Canary {
    seed: String,
    token: String,
    parts: HashSet<Vec<u8>>,
    /// Which two bytes a part can begin with; keeps scans of megabytes fast.
    beginnings: Vec<bool>,
}

/// A place in which a part of a token of at least 12 characters was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// What was scanned, as the caller named it.
    pub what: String,
    /// The seed of the canary, which tells whose value it is.
    pub seed: String,
    /// The forms that had to be undone, outermost first: "raw", "base64", "escapes > base64".
    pub form: String,
    /// How many characters of the token stand there.
    pub length: usize,
    /// The text before it, in the decoded form.
    pub context: String,
}

impl Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} characters of canary \"{}\" ({}) after: …{}", self.what, self.length, self.seed, self.form, self.context)
    }
}

impl Canary {
    /// A canary for `seed`, a text that tells people whose value it is. The token has 40 characters of A-Z, a-z and 0-9; it
    /// doesn't contain the seed. The same seed gives the same token within a process and another one in the next.
    /// An error only if the system gives no random bytes.
    pub fn new(seed: &str) -> Result<Self> {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        static PROCESS: OnceLock<String> = OnceLock::new();
        let fresh = random_hex(32)?;
        let process = PROCESS.get_or_init(|| fresh);
        let bytes = [0, 1].map(|half: u8| digest(&SHA256, &[&[half], process.as_bytes(), seed.as_bytes()].concat()));
        let token: String = bytes.iter().flat_map(AsRef::as_ref).take(TOKEN).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect();
        let parts: HashSet<Vec<u8>> = token.as_bytes().windows(PART).map(<[u8]>::to_vec).collect();
        let mut beginnings = vec![false; 1 << 16];
        for part in &parts {
            beginnings[beginning(part)] = true;
        }
        Ok(Self { seed: seed.to_owned(), token, parts, beginnings })
    }

    /// The token: 40 alphanumeric characters.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A value to store: the token followed by `suffix`, so that one canary gives the values before and after a rotation.
    #[must_use]
    pub fn value(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.token)
    }

    /// Where at least 12 characters of the token stand in `bytes`: as they are, or in base64 (any alignment and alphabet),
    /// percent-encoded, JSON-escaped, in hex, as a list of byte values, or in one of these within another. `what` names the bytes in the result.
    #[must_use]
    pub fn scan(&self, what: &str, bytes: impl AsRef<[u8]>) -> Vec<Leak> {
        let mut leaks = Vec::new();
        self.look(what, &mut Vec::new(), bytes.as_ref(), &mut leaks);
        leaks
    }

    fn look(&self, what: &str, forms: &mut Vec<&'static str>, bytes: &[u8], leaks: &mut Vec<Leak>) {
        for (start, length) in self.matches(bytes) {
            let context = String::from_utf8_lossy(&bytes[start.saturating_sub(CONTEXT)..start]).into_owned();
            // Undoing escapes leaves the rest of a text as it was, and so finds there again what was found before.
            if leaks.iter().any(|leak| leak.context == context && leak.length == length) {
                continue;
            }
            let form = if forms.is_empty() { "raw".to_owned() } else { forms.join(" > ") };
            leaks.push(Leak { what: what.to_owned(), seed: self.seed.clone(), form, length, context });
        }
        if forms.len() == DEPTH {
            return;
        }
        for (form, view) in views(bytes) {
            forms.push(form);
            self.look(what, forms, &view, leaks);
            forms.pop();
        }
    }

    /// The longest stretches of `bytes` that consist of parts: start and length.
    fn matches(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let mut found: Vec<(usize, usize)> = Vec::new();
        for (start, part) in bytes.windows(PART).enumerate() {
            if !self.beginnings[beginning(part)] || !self.parts.contains(part) {
                continue;
            }
            match found.last_mut() {
                Some((first, length)) if *first + *length == start + PART - 1 => *length += 1,
                _ => found.push((start, PART)),
            }
        }
        found
    }
}

fn beginning(part: &[u8]) -> usize {
    usize::from(part[0]) << 8 | usize::from(part[1])
}

/// Every way to read `bytes` as an encoding of something. A view that holds nothing new is left out.
fn views(bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut views = vec![("percent", unpercent(bytes)), ("escapes", unescape(bytes)), ("byte list", unlist(bytes))];
    views.extend([0, 1].map(|skip| ("hex", decode_runs(bytes, 2 * PART, skip, |byte| hex_digit(*byte).is_some(), from_hex))));
    views.extend([0, 1, 2, 3].map(|skip| ("base64", decode_runs(bytes, PART, skip, |byte| sextet(*byte).is_some(), from_base64))));
    views.retain(|(_, view)| view.len() >= PART);
    views
}

/// Decodes each run of at least `shortest` bytes of an alphabet, from its `skip`th byte on, since a value can begin anywhere in
/// it. The results are kept apart by line breaks.
fn decode_runs(bytes: &[u8], shortest: usize, skip: usize, alphabet: impl Fn(&u8) -> bool, decode: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut decoded = Vec::new();
    for run in bytes.split(|byte| !alphabet(byte)).filter(|run| run.len() >= shortest + skip) {
        decoded.extend(decode(&run[skip..]));
        decoded.push(b'\n');
    }
    decoded
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn from_hex(run: &[u8]) -> Vec<u8> {
    run.chunks_exact(2).filter_map(|pair| Some(hex_digit(pair[0])? << 4 | hex_digit(pair[1])?)).collect()
}

/// Both alphabets at once: a leak doesn't say which one it uses.
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

fn from_base64(run: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(run.len());
    for group in run.chunks(4) {
        let bits = group.iter().filter_map(|byte| sextet(*byte)).fold(0_u32, |bits, sextet| bits << 6 | u32::from(sextet)) << (6 * (4 - group.len()));
        // Of 2, 3, 4 characters the first 1, 2, 3 bytes are whole.
        decoded.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    decoded
}

/// The text with each `%XX` as the byte it stands for; empty if there is none.
fn unpercent(bytes: &[u8]) -> Vec<u8> {
    undo(bytes, b'%', |rest| Some((vec![byte_of(rest.get(1..3)?)?], 3)))
}

/// The text with each `\uXXXX`, `\u{X}`, `\xXX` and backslashed character as what it stands for; empty if there is none.
fn unescape(bytes: &[u8]) -> Vec<u8> {
    undo(bytes, b'\\', |rest| match rest.get(1)? {
        b'u' if rest.get(2) == Some(&b'{') => {
            let end = rest.iter().take(10).position(|byte| *byte == b'}')?;
            Some((char_of(&rest[3..end])?, end + 1))
        }
        b'u' => Some((char_of(rest.get(2..6)?)?, 6)),
        b'x' => Some((vec![byte_of(rest.get(2..4)?)?], 4)),
        b'n' | b'r' | b't' => Some((vec![b'\n'], 2)),
        other => Some((vec![*other], 2)),
    })
}

fn byte_of(hex: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

fn char_of(hex: &[u8]) -> Option<Vec<u8>> {
    let number = u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?;
    Some(char::from_u32(number)?.to_string().into_bytes())
}

/// Replaces what `replace` recognises at each `mark` (new bytes, how many it takes the place of); empty if it never does.
fn undo(bytes: &[u8], mark: u8, replace: impl Fn(&[u8]) -> Option<(Vec<u8>, usize)>) -> Vec<u8> {
    let mut undone = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    let mut any = false;
    while let Some(position) = rest.iter().position(|byte| *byte == mark) {
        undone.extend(&rest[..position]);
        rest = &rest[position..];
        let (new, taken) = replace(rest).inspect(|_| any = true).unwrap_or_else(|| (vec![mark], 1));
        undone.extend(new);
        rest = &rest[taken..];
    }
    undone.extend(rest);
    if any { undone } else { Vec::new() }
}

/// Lists of numbers below 256, as Rust's `Debug` and JSON write bytes: `[67, 97]`. Lists are kept apart by line breaks.
fn unlist(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    for run in bytes.split(|byte| !(byte.is_ascii_digit() || matches!(byte, b',' | b' ' | b'\n'))).filter(|run| run.len() >= 3 * PART) {
        let numbers = run.split(|byte| !byte.is_ascii_digit()).filter(|digits| !digits.is_empty());
        decoded.extend(numbers.filter_map(|digits| std::str::from_utf8(digits).ok()?.parse::<u8>().ok()));
        decoded.push(b'\n');
    }
    decoded
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    fn canary() -> Canary {
        Canary::new("unit test").unwrap()
    }

    fn each(text: &str, form: impl Fn(u8) -> String) -> String {
        text.bytes().map(form).collect()
    }

    /// `planted` is found as `form` between other text, and nothing is found without it.
    #[track_caller]
    fn found(form: &str, planted: &str) {
        let canary = canary();
        let text = |planted: &str| format!("2026-01-02T03:04:05Z DEBUG mirrored name=\"bigdb\" {{\"v\":\"{planted}\"}} resourceVersion=4711\n");
        assert_eq!(canary.scan("log", text("")), []);
        let leaks = canary.scan("log", text(planted));
        assert!(leaks.iter().any(|leak| leak.form == form && leak.length >= PART), "{form}: {leaks:?}");
        assert!(!format!("{leaks:?}").contains(canary.token()));
    }

    #[test]
    fn tokens_are_unguessable_and_stable_within_a_process() {
        let token = canary().token().to_owned();
        assert_eq!(token, canary().token());
        assert_ne!(token, Canary::new("another").unwrap().token());
        assert!(token.len() == TOKEN && token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{token}");
        assert_eq!(canary().value("-v2"), format!("{token}-v2"));
    }

    #[test]
    fn raw() {
        found("raw", canary().token());
        let leaks = canary().scan("a log", format!("before {} after", canary().token()));
        assert_eq!(leaks.len(), 1);
        assert_eq!((leaks[0].length, leaks[0].context.as_str(), leaks[0].what.as_str()), (TOKEN, "before ", "a log"));
    }

    #[test]
    fn base64_in_every_alignment_and_alphabet() {
        for prefix in ["", "\u{3ff}", "a", "ab", "?>?"] {
            let value = format!("{prefix}{}???>>>", canary().token());
            found("base64", &BASE64_STANDARD.encode(&value));
            found("base64", &BASE64_URL_SAFE_NO_PAD.encode(&value));
            for cut in 1..4 {
                found("base64", &BASE64_STANDARD.encode(&value)[cut..]);
            }
        }
    }

    #[test]
    fn percent_encoded() {
        found("percent", &each(canary().token(), |byte| format!("%{byte:02x}")));
        found("percent", &each(canary().token(), |byte| format!("%{byte:02X}")));
    }

    #[test]
    fn escaped() {
        found("escapes", &each(canary().token(), |byte| format!("\\u{byte:04x}")));
        found("escapes", &each(canary().token(), |byte| format!("\\u{byte:04X}")));
        found("escapes", &each(canary().token(), |byte| format!("\\u{{{byte:x}}}")));
        found("escapes", &each(canary().token(), |byte| format!("\\x{byte:02x}")));
    }

    #[test]
    fn hex() {
        found("hex", &each(canary().token(), |byte| format!("{byte:02x}")));
        found("hex", &each(canary().token(), |byte| format!("{byte:02X}")));
        found("hex", &format!("a{}", each(canary().token(), |byte| format!("{byte:02x}"))));
    }

    #[test]
    fn byte_lists() {
        found("byte list", &format!("{:?}", canary().token().as_bytes()));
        found("byte list", &format!("{:#?}", canary().token().as_bytes()));
    }

    #[test]
    fn one_form_within_another() {
        let base64 = BASE64_STANDARD.encode(canary().token());
        found("base64 > base64", &BASE64_STANDARD.encode(&base64));
        found("escapes > base64", &each(&base64, |byte| format!("\\u{byte:04x}")));
        found("base64 > escapes", &BASE64_STANDARD.encode(each(canary().token(), |byte| format!("\\u{byte:04x}"))));
        found("percent > base64", &each(&base64, |byte| format!("%{byte:02X}")));
        found("hex > percent", &each(&each(canary().token(), |byte| format!("%{byte:02X}")), |byte| format!("{byte:02x}")));
        found("base64 > hex > base64", &BASE64_STANDARD.encode(each(&base64, |byte| format!("{byte:02x}"))));
    }

    #[test]
    fn any_part_of_twelve_characters_and_none_of_eleven() {
        let canary = canary();
        for start in 0..=TOKEN - PART {
            let part = &canary.token()[start..start + PART];
            assert_eq!(canary.scan("log", part).len(), 1);
            for prefix in ["", "a", "ab"] {
                found("base64", &BASE64_STANDARD.encode(format!("{prefix}{part}")));
            }
            assert_eq!(canary.scan("log", format!("{}_{}", &part[..PART - 1], &part[PART - 1..])), []);
        }
    }

    #[test]
    fn a_megabyte_of_log_is_no_matter() {
        let line = "2026-01-02T03:04:05Z DEBUG robotosecret::reader read store=aws.sm name=prod/db/bigdb version=8f2c1d34-aaaa-bbbb-cccc-1234567890ab\n";
        let mut log = line.repeat(10_000);
        assert_eq!(canary().scan("log", &log), []);
        log.push_str(&BASE64_STANDARD.encode(canary().token()));
        assert_eq!(canary().scan("log", &log).len(), 1);
    }
}
