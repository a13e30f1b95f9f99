//! HTTP for stores that have no client of their own.
//!
//! A request enters, its status and its body leave, or why there is none. Time and size are bounded, TLS is always verified, proxies are those of the
//! environment, and no redirect is followed: it would carry a token along. What was sent and what came back stands in no error.

use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Certificate, Client, RequestBuilder, header::HeaderValue, redirect::Policy};

use super::{ReadError, deepest, silent};
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
        // Who uses this as a library may have named one already, or none.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let broken = || {
            ReadError::new(
                Reason::InvalidSpec,
                "the provider's caBundle (on the command line the file that VAULT_CACERT names) holds something that is no certificate in PEM, or nothing",
            )
        };
        let trusted = match certificates {
            None => Vec::new(),
            Some(pem) => Certificate::from_pem_bundle(pem.as_bytes()).ok().filter(|all| !all.is_empty()).ok_or_else(broken)?,
        };
        let builder = Client::builder().redirect(Policy::none()).connect_timeout(CONNECT).timeout(CALL).https_only(false);
        let builder = trusted.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        builder.build().map(Self).map_err(|error| {
            let problem = if certificates.is_some() { broken() } else { ReadError::new(Reason::InternalError, "no HTTP client could be made") };
            ReadError { detail: Some(deepest(&error)), ..problem }
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
                    Ok(Some(_)) => Err(ReadError::new(Reason::TargetRejected, "the store's answer is longer than any value")),
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

fn unsent(error: &reqwest::Error) -> ReadError {
    let cause = deepest(error);
    let said = if error.is_timeout() {
        silent()
    } else {
        let refused = if cause.contains("refused") { " (connection refused)" } else { "" };
        let problem = format!("the store could not be reached{refused}; check its address and the way there");
        ReadError::new(Reason::ProviderUnavailable, problem)
    };
    // Nothing was answered, so that the cause (an address, DNS, TLS) holds no value.
    ReadError { detail: Some(cause), ..said }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, body::Body, http::StatusCode, response::IntoResponse, routing::get};
    use reqwest::header::AUTHORIZATION;
    use tokio::net::TcpListener;

    use super::*;

    async fn serve(app: Router) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_the_token_goes_nowhere_else() {
        let arrived = Arc::new(AtomicUsize::new(0));
        let seen = arrived.clone();
        let elsewhere = serve(Router::new().fallback(move || async move { seen.fetch_add(1, Ordering::Relaxed).to_string() })).await;
        for status in [301, 302, 303, 307, 308] {
            let target = format!("{elsewhere}/x");
            let away = move || async move { (StatusCode::from_u16(status).expect("a status"), [("location", target)]).into_response() };
            let here = serve(Router::new().route("/", get(away))).await;
            let http = Http::new(None).expect("a client");
            let token = secret_header("Bearer ", &Sensitive::from("canary".to_owned())).expect("a header");
            let answer = http.send(http.client().get(here).header(AUTHORIZATION, token)).await.expect("an answer");
            assert_eq!(answer.status, status);
        }
        assert_eq!(arrived.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_not_taken_in() {
        let endless = || async { Body::from_stream(futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 65536]))) };
        let here = serve(Router::new().route("/", get(endless))).await;
        let http = Http::new(None).expect("a client");
        let error = http.send(http.client().get(here)).await.err().expect("an error");
        assert_eq!((error.reason, error.message.as_str()), (Reason::TargetRejected, "the store's answer is longer than any value"));
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        let here = serve(Router::new().route("/", get(|| async { std::future::pending::<()>().await }))).await;
        let http = Http::new(None).expect("a client");
        let error = http.send(http.client().get(here)).await.err().expect("an error");
        assert_eq!((error.reason, error.message.as_str()), (Reason::ProviderUnavailable, "the store did not answer within 5 s"));
    }

    #[tokio::test]
    async fn what_is_no_server_or_no_certificate_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let http = Http::new(None).expect("a client");
        let error = http.send(http.client().get(format!("http://{address}/canary"))).await.err().expect("an error");
        assert_eq!(error.reason, Reason::ProviderUnavailable);
        assert!(error.message.contains("(connection refused)") && !format!("{error:?}").contains("canary"), "{error:?}");
        for broken in [
            "-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\nbm8=\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----",
            "",
        ] {
            assert_eq!(Http::new(Some(broken)).err().map(|error| error.reason), Some(Reason::InvalidSpec), "{broken}");
        }
    }

    #[test]
    fn a_secret_header_is_printed_nowhere_and_holds_no_line_end() {
        let header = secret_header("Bearer ", &Sensitive::from("canary\n".to_owned())).expect("a header");
        assert_eq!((header.as_bytes(), format!("{header:?}").as_str()), (&b"Bearer canary"[..], "Sensitive"));
        let error = secret_header("", &Sensitive::from("cana\nry".to_owned())).expect_err("no header");
        assert!(!error.message.contains("cana"));
    }
}
