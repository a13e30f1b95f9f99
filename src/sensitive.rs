//! The only type that holds a secret value.
//!
//! Bytes enter once, from a store's answer; they leave only through [`Sensitive::expose`], which makes every use easy to find.
//! It must never be printed, compared in a message, or serialized: there is no `Display` and no `Serialize`, and `Debug` is redacted.

use std::fmt;

use zeroize::Zeroizing;

/// A secret value: bytes that are overwritten when dropped.
///
/// Copies made by the AWS SDK, the JSON parser and the HTTP and TLS layers on the way in and out are freed, not overwritten.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(Zeroizing<Vec<u8>>);

impl Sensitive {
    /// Takes the bytes over.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The value itself. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The size in bytes, which is no secret.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the value has no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Sensitive {
    fn from(text: String) -> Self {
        Self::new(text.into_bytes())
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sensitive(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_value() {
        let value = Sensitive::from("hunter2".to_owned());
        assert_eq!(format!("{value:?} {value:#?}"), "Sensitive(redacted) Sensitive(redacted)");
    }
}
