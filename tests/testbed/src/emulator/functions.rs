//! Lambda: functions that tell a secret by its key, as Envase's do. An event enters, what the function answers leaves.

use std::collections::BTreeMap;

use http_body_util::Full;
use hyper::Response;
use serde_json::{Value, json};

use crate::front::wire::{Reply, error_response};

/// One function.
#[derive(Default)]
pub(super) struct Function {
    /// Secrets by organisation ("" for none) and key.
    pub(super) secrets: BTreeMap<(String, String), Value>,
    /// Whether it breaks off with an error.
    pub(super) broken: bool,
}

/// Functions by name.
#[derive(Default)]
pub(super) struct Functions(pub(super) BTreeMap<String, Function>);

impl Functions {
    pub(super) fn answer(&self, name: &str, event: &Value) -> Reply {
        let Some(function) = self.0.get(name) else {
            return error_response("lambda", 404, "ResourceNotFoundException", &format!("Function not found: {name}"));
        };
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        let found = function.secrets.get(&(text("organization"), text("key")));
        let (error, answer) = match found {
            // A real one tells what it was about, too.
            _ if function.broken => (true, json!({"errorMessage": format!("failed on {event}"), "errorType": "Exception"})),
            Some(secret) => (false, json!({"statusCode": 200, "body": json!({"key": text("key"), "secret": secret}).to_string()})),
            None => (false, json!({"statusCode": 404, "body": json!({"m": 1}).to_string()})),
        };
        let mut reply = Response::new(Full::new(answer.to_string().into()));
        if error {
            reply.headers_mut().insert("x-amz-function-error", hyper::header::HeaderValue::from_static("Unhandled"));
        }
        reply
    }
}
