//! What the types of Secrets demand of their data.
//!
//! A type and the rendered keys enter; nothing, or what is missing, leaves. It refuses what the API server would refuse, and what
//! would make the Secret useless to those who know the type. Pure; an error names the type and the key, never a part of a value.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Data, RenderError, pems};
use crate::sensitive::Sensitive;

/// A JSON object, of which nothing but the names is copied.
type Object<'v> = BTreeMap<String, &'v RawValue>;

#[derive(serde::Deserialize)]
struct DockerConfig<'v> {
    #[serde(borrow, rename = "auths")]
    _auths: Object<'v>,
}

/// Checks what the type demands; types that demand nothing are all right.
pub fn check(type_: &str, data: &Data) -> Result<(), RenderError> {
    demand(type_, data).map_err(|problem| RenderError::Type { type_: type_.to_owned(), problem })
}

/// The error completes a sentence that starts with the type.
fn demand(type_: &str, data: &Data) -> Result<(), String> {
    match type_ {
        "kubernetes.io/dockerconfigjson" => {
            let config: Option<DockerConfig<'_>> = serde_json::from_slice(value(data, ".dockerconfigjson")?.expose()).ok();
            ensure(config.is_some(), "the key .dockerconfigjson to be a JSON object with an object auths")
        }
        "kubernetes.io/dockercfg" => {
            let config: Option<Object<'_>> = serde_json::from_slice(value(data, ".dockercfg")?.expose()).ok();
            ensure(config.is_some(), "the key .dockercfg to be a JSON object")
        }
        "kubernetes.io/tls" => {
            let (certificates, key) = (value(data, "tls.crt")?, value(data, "tls.key")?);
            ensure(count(certificates, pems::is_certificate) > 0, "the key tls.crt to hold a PEM block CERTIFICATE, and no block that is broken")?;
            ensure(count(key, pems::is_key) == 1, "the key tls.key to hold exactly one PEM block with a private key, and no block that is broken")
        }
        "kubernetes.io/ssh-auth" => ensure(!value(data, "ssh-privatekey")?.is_empty(), "the key ssh-privatekey not to be empty"),
        "kubernetes.io/basic-auth" if !data.contains_key("username") && !data.contains_key("password") => Err(missing("username or password", data)),
        _ => Ok(()),
    }
}

fn value<'d>(data: &'d Data, key: &str) -> Result<&'d Sensitive, String> {
    data.get(key).ok_or_else(|| missing(key, data))
}

fn missing(key: &str, data: &Data) -> String {
    let there: Vec<_> = data.keys().map(String::as_str).collect();
    match there.as_slice() {
        [] => format!("needs the key {key}; there are no keys"),
        _ => format!("needs the key {key}; it is not among {}", there.join(", ")),
    }
}

fn ensure(good: bool, demand: &str) -> Result<(), String> {
    if good { Ok(()) } else { Err(format!("needs {demand}")) }
}

/// How many blocks of this sort the PEM text holds; none if it is broken.
fn count(value: &Sensitive, sort: fn(&str) -> bool) -> usize {
    pems::blocks(value.expose()).map_or(0, |blocks| blocks.iter().filter(|block| sort(block.tag())).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nQ0FOQVJZ\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nQ0FOQVJZ\n-----END EC PRIVATE KEY-----\n";
    const PARAMETERS: &str = "-----BEGIN EC PARAMETERS-----\nQ0FOQVJZ\n-----END EC PARAMETERS-----\n";

    fn checked(type_: &str, data: &[(&str, &str)]) -> Result<(), String> {
        let data: Data = data.iter().map(|(key, value)| ((*key).to_owned(), Sensitive::from((*value).to_owned()))).collect();
        check(type_, &data).map_err(|error| {
            assert_eq!(error.reason(), Reason::TargetRejected);
            assert!(!format!("{error} {error:?}").contains("CANARY"));
            error.to_string()
        })
    }

    #[test]
    fn what_is_complete_passes() {
        for (type_, data) in [
            ("Opaque", &[][..]),
            ("example.com/own", &[("a", "")]),
            ("kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", r#"{"auths":{"r.example":{"auth":"eDp5"}},"credsStore":"x"}"#)]),
            ("kubernetes.io/dockercfg", &[(".dockercfg", r#"{"r.example":{}}"#), ("more", "x")]),
            ("kubernetes.io/tls", &[("tls.crt", &format!("Bag\n{CERTIFICATE}{CERTIFICATE}")), ("tls.key", &format!("{PARAMETERS}{KEY}"))]),
            ("kubernetes.io/tls", &[("tls.crt", &CERTIFICATE.replace('\n', "\r\n")), ("tls.key", KEY)]),
            ("kubernetes.io/ssh-auth", &[("ssh-privatekey", "x")]),
            ("kubernetes.io/basic-auth", &[("password", "x")]),
            ("kubernetes.io/basic-auth", &[("username", "")]),
        ] {
            assert_eq!(checked(type_, data), Ok(()), "{type_}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (type_, data, expected) in [
            ("kubernetes.io/tls", &[("a", "CANARY"), ("b", ""), ("tls.crt", CERTIFICATE)][..], "needs the key tls.key; it is not among a, b, tls.crt"),
            ("kubernetes.io/tls", &[], "needs the key tls.crt; there are no keys"),
            ("kubernetes.io/tls", &[("tls.crt", KEY), ("tls.key", KEY)], "needs the key tls.crt to hold a PEM block CERTIFICATE, and no block that is broken"),
            (
                "kubernetes.io/tls",
                &[("tls.crt", &format!("{CERTIFICATE}{}", &CERTIFICATE[..40])), ("tls.key", KEY)],
                "needs the key tls.crt to hold a PEM block CERTIFICATE, and no block that is broken",
            ),
            (
                "kubernetes.io/tls",
                &[("tls.crt", CERTIFICATE), ("tls.key", &format!("{KEY}{KEY}"))],
                "needs the key tls.key to hold exactly one PEM block with a private key, and no block that is broken",
            ),
            (
                "kubernetes.io/tls",
                &[("tls.crt", CERTIFICATE), ("tls.key", &KEY.replace("Q0FO", "CANARY!"))],
                "needs the key tls.key to hold exactly one PEM block with a private key, and no block that is broken",
            ),
            ("kubernetes.io/dockerconfigjson", &[("value", "CANARY")], "needs the key .dockerconfigjson; it is not among value"),
            ("kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", "CANARY")], "needs the key .dockerconfigjson to be a JSON object with an object auths"),
            (
                "kubernetes.io/dockerconfigjson",
                &[(".dockerconfigjson", r#"{"auths":["CANARY"]}"#)],
                "needs the key .dockerconfigjson to be a JSON object with an object auths",
            ),
            ("kubernetes.io/dockercfg", &[(".dockercfg", r#"["CANARY"]"#)], "needs the key .dockercfg to be a JSON object"),
            ("kubernetes.io/ssh-auth", &[("ssh-privatekey", "")], "needs the key ssh-privatekey not to be empty"),
            ("kubernetes.io/basic-auth", &[("pass", "CANARY")], "needs the key username or password; it is not among pass"),
        ] {
            assert_eq!(checked(type_, data), Err(format!("the type {type_} {expected}")));
        }
    }
}
