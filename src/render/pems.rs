//! PEM texts: bytes enter, their blocks leave.
//!
//! Pure. The parser's own errors quote tags and headers, which are the value's: they go nowhere.

use pem::{EncodeConfig, LineEnding, Pem};

/// Whether a block of this tag is a certificate.
pub(super) fn is_certificate(tag: &str) -> bool {
    tag == "CERTIFICATE"
}

/// Whether a block of this tag is a private key, in any of its forms.
pub(super) fn is_key(tag: &str) -> bool {
    tag.ends_with("PRIVATE KEY")
}

/// All blocks in order; `None` if one of them is broken, or cut short.
pub(super) fn blocks(text: &[u8]) -> Option<Vec<Pem>> {
    let blocks = pem::parse_many(text).ok()?;
    // The parser stops at a block without an end, as if it were not there.
    let begun = text.windows(11).filter(|window| window == b"-----BEGIN ").count();
    (begun == blocks.len()).then_some(blocks)
}

/// A block as text, in lines of 64 characters.
pub(super) fn text(block: &Pem) -> String {
    pem::encode_config(block, EncodeConfig::new().set_line_ending(LineEnding::LF))
}
