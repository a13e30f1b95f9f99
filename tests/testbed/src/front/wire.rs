//! How AWS speaks: requests enter and become [`Call`]s, answers leave in the form of their protocol (awsJson 1.1, XML for STS). And
//! the socket that can break off. It must never log what it carries.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Answer, Call, Cut};
use crate::aws;

/// An answer on its way out.
pub(crate) type Reply = Response<Full<Bytes>>;

/// One request, read.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) call: Call,
    pub(super) parts: Parts,
    pub(super) body: Bytes,
    /// The body of a call in awsJson 1.1, else null.
    pub(super) json: Value,
}

impl Question {
    pub(super) fn read(parts: Parts, body: Bytes) -> Self {
        let mut call = Call {
            service: "",
            action: String::new(),
            ids: Vec::new(),
            access_key_id: credential(&parts.headers, 0).to_owned(),
            region: credential(&parts.headers, 2).to_owned(),
            temporary: parts.headers.contains_key("x-amz-security-token"),
            parameters: BTreeMap::new(),
            status: None,
            at: Instant::now(),
        };
        let mut json = Value::Null;
        if let Some((service, action)) = header(&parts.headers, &HeaderName::from_static("x-amz-target")).rsplit_once('.') {
            call.service = match service {
                "secretsmanager" => "secretsmanager",
                "AmazonSSM" => "ssm",
                _ => "",
            };
            action.clone_into(&mut call.action);
            json = serde_json::from_slice(&body).unwrap_or_default();
            for field in ["SecretId", "SecretIdList", "Name", "Names", "Path", "ResourceId"] {
                match &json[field] {
                    Value::String(id) => call.ids.push(id.clone()),
                    Value::Array(ids) => call.ids.extend(ids.iter().filter_map(Value::as_str).map(str::to_owned)),
                    _ => {}
                }
            }
        } else if parts.method == Method::GET && parts.uri.path() == "/credentials" {
            call.service = "credentials";
            "GetCredentials".clone_into(&mut call.action);
        } else if let Some(function) = parts.uri.path().strip_prefix("/2015-03-31/functions/").and_then(|rest| rest.strip_suffix("/invocations")) {
            call.service = "lambda";
            "Invoke".clone_into(&mut call.action);
            call.ids.push(percent_decode_str(function).decode_utf8_lossy().into_owned());
            json = serde_json::from_slice(&body).unwrap_or_default();
        } else if let Some(action) = form(&body).remove("Action") {
            // STS is the only service with the query protocol here.
            call.service = "sts";
            call.action = action;
            call.parameters = form(&body);
            if let Some(token) = call.parameters.get_mut("WebIdentityToken") {
                *token = claims(token);
            }
            call.ids.extend(call.parameters.get("RoleArn").cloned());
        }
        Self { call, parts, body, json }
    }

    /// The same for the page of this `NextToken`.
    pub(super) fn with_token(&self, token: Option<&str>) -> Self {
        let mut json = self.json.clone();
        json["NextToken"] = json!(token);
        Self { body: json.to_string().into(), json, ..self.clone() }
    }

    /// The same for other ids in the list `field`, from the first page on.
    pub(super) fn with_ids(&self, field: &str, ids: &[&str]) -> Self {
        let mut json = self.json.clone();
        json[field] = json!(ids);
        if let Some(fields) = json.as_object_mut() {
            fields.remove("NextToken");
        }
        Self { body: json.to_string().into(), json, ..self.clone() }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// A part of `AWS4-HMAC-SHA256 Credential=<access key id>/<date>/<region>/…`.
fn credential(headers: &HeaderMap, part: usize) -> &str {
    header(headers, &AUTHORIZATION).split_once("Credential=").and_then(|(_, rest)| rest.split('/').nth(part)).unwrap_or_default()
}

/// The fields of a form; empty if it is none.
fn form(body: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(body);
    let decoded = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&').filter_map(|field| field.split_once('=')).map(|(key, value)| (decoded(key), decoded(value))).collect()
}

/// What a token claims; "" if it is none.
fn claims(token: &str) -> String {
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    payload.and_then(|payload| String::from_utf8(payload).ok()).unwrap_or_default()
}

/// Code and message with which `answer` refuses an item, as IAM or KMS words them.
pub(super) fn refusal<'a>(call: &Call, answer: &'a Answer) -> Option<(&'a str, &'a str, String)> {
    match answer {
        Answer::KmsDenied { id } => {
            let message = if call.service == "secretsmanager" {
                "Access to KMS is not allowed".to_owned()
            } else {
                not_authorized("kms:Decrypt", &format!("arn:aws:kms:{}:{}:key/11111111-2222-3333-4444-555555555555", aws::REGION, aws::ACCOUNT))
            };
            Some((id, "AccessDeniedException", message))
        }
        Answer::Denied { id } => {
            // The items of a batch are read under the permission for single reads.
            let action = if call.action == "BatchGetSecretValue" { "GetSecretValue" } else { &call.action };
            Some((id, "AccessDeniedException", not_authorized(&format!("{}:{action}", call.service), id)))
        }
        Answer::ItemError { id, code, message } => Some((id, code, message.clone())),
        _ => None,
    }
}

/// As IAM says that no policy allows `action` on `resource`.
pub(super) fn not_authorized(action: &str, resource: &str) -> String {
    format!(
        "User: arn:aws:iam::{}:user/testbed is not authorized to perform: {action} on resource: {resource} because no identity-based \
         policy allows the {action} action",
        aws::ACCOUNT
    )
}

/// A body that is called JSON.
pub(crate) fn json_response(status: u16, body: Bytes) -> Reply {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    response.headers_mut().insert("x-amzn-requestid", HeaderValue::from_static("11111111-2222-3333-4444-555555555555"));
    response
}

/// A body that is called XML.
pub(crate) fn xml_response(status: u16, body: String) -> Reply {
    let mut response = json_response(status, body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response
}

/// An error in awsJson 1.1, or in XML for STS.
pub(crate) fn error_response(service: &str, status: u16, code: &str, message: &str) -> Reply {
    if service == "sts" {
        let kind = if status < 500 { "Sender" } else { "Receiver" };
        let xml = format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>{kind}</Type><Code>{code}</Code>\
             <Message>{message}</Message></Error><RequestId>11111111-2222-3333-4444-555555555555</RequestId></ErrorResponse>"
        );
        return xml_response(status, xml);
    }
    json_response(status, json!({"__type": code, "Message": message}).to_string().into())
}

/// Tells a [`Socket`] to break off.
#[derive(Debug, Clone, Default)]
pub(super) struct Scissors(Arc<Mutex<Option<Cut>>>);

impl Scissors {
    /// The next answer is cut.
    pub(super) fn cut(&self, cut: Cut) {
        *self.lock() = Some(cut);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Cut>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that an answer can be cut on. After a cut every write fails, so that the server drops it.
pub(super) struct Socket {
    stream: TcpStream,
    scissors: Scissors,
    cut: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, scissors: Scissors) -> Self {
        Self { stream, scissors, cut: false }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

// Without vectored writes, so that head and body come in one piece and can be told apart.
impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(cut) = *self.scissors.lock() else { return Pin::new(&mut self.stream).poll_write(context, bytes) };
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |end| end + 4);
        let keep = match cut {
            _ if self.cut => 0,
            Cut::Reset => {
                self.stream.set_zero_linger()?;
                0
            }
            Cut::Close => 0,
            Cut::Head => head / 2,
            Cut::Body => usize::midpoint(head, bytes.len()),
        };
        if keep == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, &bytes[..keep]))?;
        self.cut = true;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
