//! HTTP for stores that have no client of their own.
//!
//! A request enters, its status and its body leave, or why there is none. Time and size are bounded, TLS is always verified, proxies are those of the
//! environment, and no redirect is followed: it would carry a token along. What was sent and what came back stands in no error.

use std::{error::Error as StdError, time::Duration};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Certificate, Client, RequestBuilder, header::HeaderValue, redirect::Policy};

use super::ReadError;
use crate::{api::Reason, sensitive::Sensitive};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a call may take in all; the reader waits for 5 s.
const CALL: Duration = Duration::from_secs(6);
/// The largest answer that is taken in: many times what a Secret holds.
const MOST_BYTES: usize = 8 << 20;

/// What is percent-encoded in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A client.
#[derive(Clone)]
pub struct Http(Client);

/// What came back.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Sensitive,
}

impl Http {
    /// A client that trusts these certificates (PEM) besides the system's. An error says what is wrong with them.
    pub fn new(certificates: Option<&str>) -> Result<Self, ReadError> {
        let broken = |_| ReadError::new(Reason::InvalidSpec, "the provider's caBundle holds something that is no certificate in PEM");
        let certificates = certificates.map(|pem| Certificate::from_pem_bundle(pem.as_bytes()).map_err(broken)).transpose()?.unwrap_or_default();
        let builder = Client::builder().redirect(Policy::none()).connect_timeout(CONNECT).timeout(CALL).https_only(false);
        let builder = certificates.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        builder.build().map(Self).map_err(|error| {
            let problem = "no HTTP client could be made";
            ReadError { detail: Some(deepest(&error)), ..ReadError::new(Reason::InternalError, problem) }
        })
    }

    /// The client, to begin a request with.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.0
    }

    /// Sends a request.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, ReadError> {
        let mut response = request.send().await.map_err(|error| unsent(&error))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await;
            let done = !matches!(chunk, Ok(Some(_)));
            if let Ok(Some(chunk)) = &chunk {
                body.extend_from_slice(chunk);
            }
            if done || body.len() > MOST_BYTES {
                // Wiped also where it isn't used.
                let body = Sensitive::new(body);
                return match chunk {
                    Ok(None) => Ok(Answer { status, body }),
                    Ok(Some(_)) => Err(ReadError::new(Reason::TargetRejected, "the store's answer is more than a Secret can ever hold")),
                    Err(error) => Err(unsent(&error)),
                };
            }
        }
    }
}

/// A header's value that nobody prints: what comes before the secret, and the secret.
pub fn secret_header(before: &str, secret: &Sensitive) -> Result<HeaderValue, ReadError> {
    let text = Sensitive::new([before.as_bytes(), secret.expose().trim_ascii()].concat());
    let broken = |_| ReadError::new(Reason::CredentialsError, "the token holds something that no token has");
    let mut value = HeaderValue::from_bytes(text.expose()).map_err(broken)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A text as one segment of a path.
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// An answer that isn't what was agreed upon.
pub fn misunderstood() -> ReadError {
    ReadError::new(Reason::ProviderUnavailable, "the store's answer could not be understood")
}

fn unsent(error: &reqwest::Error) -> ReadError {
    let message = if error.is_timeout() {
        "the store did not answer within 5 s".to_owned()
    } else {
        let cause = deepest(error);
        let refused = if cause.contains("refused") { " (connection refused)" } else { "" };
        format!("the store could not be reached{refused}; check the provider's address and the way there")
    };
    // Nothing was answered, so that the cause (an address, DNS, TLS) holds no value.
    ReadError { detail: Some(deepest(error)), ..ReadError::new(Reason::ProviderUnavailable, message) }
}

/// The innermost cause, in words.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
