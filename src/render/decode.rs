//! Decoding: base64 text enters, the bytes that it stands for leave.
//!
//! Pure. It must never put a part of the value into an error: that tells the form that was expected and a place at most.

use base64::{
    DecodeError, DecodeSliceError, Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use super::RenderError;
use crate::{api::robotosecret::Decode, sensitive::Sensitive};

const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, CONFIG);
const URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, CONFIG);

/// Decodes a value as the spec says: `none` gives it back as it is. Padding is optional and ASCII whitespace is skipped.
pub fn decode(value: Sensitive, how: Decode) -> Result<Sensitive, RenderError> {
    let (engine, form) = match how {
        Decode::None => return Ok(value),
        Decode::Base64 => (STANDARD, "base64 (letters, digits, + and /)"),
        Decode::Base64Url => (URL, "base64url (letters, digits, - and _)"),
    };
    let mut text = Zeroizing::new(Vec::with_capacity(value.len()));
    text.extend(value.expose().iter().filter(|byte| !byte.is_ascii_whitespace()));
    let mut bytes = Zeroizing::new(vec![0; base64::decoded_len_estimate(text.len())]);
    match engine.decode_slice(&*text, &mut bytes) {
        Ok(length) => {
            bytes.truncate(length);
            Ok(Sensitive::new(std::mem::take(&mut *bytes)))
        }
        Err(DecodeSliceError::DecodeError(DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _))) => {
            Err(RenderError::Decode { form, at: place(value.expose(), at) })
        }
        Err(_) => Err(RenderError::Decode { form, at: None }),
    }
}

/// Where in the value the byte stands that is at this place without the whitespace.
fn place(value: &[u8], stripped: usize) -> Option<usize> {
    value.iter().enumerate().filter(|(_, byte)| !byte.is_ascii_whitespace()).nth(stripped).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(text: &str, how: Decode) -> Result<Vec<u8>, String> {
        decode(Sensitive::from(text.to_owned()), how).map(|value| value.expose().to_vec()).map_err(|error| error.to_string())
    }

    #[test]
    fn both_alphabets_with_and_without_padding_and_with_line_breaks() {
        for text in ["-_8=", "-_8", " -_\r\n8=\n"] {
            assert_eq!(decoded(text, Decode::Base64Url), Ok(vec![0xfb, 0xff]), "{text}");
            assert_eq!(decoded(&text.replace('-', "+").replace('_', "/"), Decode::Base64), Ok(vec![0xfb, 0xff]), "{text}");
        }
        assert_eq!(decoded("", Decode::Base64), Ok(Vec::new()));
        assert_eq!(decoded("aGk=", Decode::None), Ok(b"aGk=".to_vec()));
    }

    #[test]
    fn what_is_of_another_form_is_an_error_with_its_place() {
        let wrong = |text: &str, how| decoded(text, how).expect_err("an error");
        assert_eq!(wrong("aG\nk-", Decode::Base64), "the value is not base64 (letters, digits, + and /): see byte 4");
        assert_eq!(wrong("aGk/", Decode::Base64Url), "the value is not base64url (letters, digits, - and _): see byte 3");
        assert_eq!(wrong("aGk=aGk=", Decode::Base64), "the value is not base64 (letters, digits, + and /): see byte 3");
        assert_eq!(wrong("aGkaa", Decode::Base64), "the value is not base64 (letters, digits, + and /)");
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_byte_for_byte(bytes in any::<Vec<u8>>()) {
            for (engine, how) in [(STANDARD, Decode::Base64), (URL, Decode::Base64Url)] {
                prop_assert_eq!(decode(Sensitive::from(engine.encode(&bytes)), how).map(|value| value.expose().to_vec()), Ok(bytes.clone()));
            }
        }

        #[test]
        fn no_text_panics_and_no_error_quotes_it(text in any::<String>()) {
            let value = format!("CANARY{text}!");
            for how in [Decode::Base64, Decode::Base64Url] {
                let error = decode(Sensitive::from(value.clone()), how).expect_err("an exclamation mark");
                let shown = format!("{error} {error:?}");
                prop_assert!(!shown.contains("CANARY"));
            }
        }
    }
}
