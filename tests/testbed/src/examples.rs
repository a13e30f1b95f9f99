//! What `examples/` reads. An emulated AWS and what to make values of enter; every secret and parameter that an example names, under that
//! name and in the form that its comments tell, stands there afterwards.

use anyhow::{Context, Result};
use aws_sdk_secretsmanager::{config::Region, types::Tag};
use aws_sdk_ssm::types::ParameterType;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use crate::Moto;

/// The name of the secret that most examples read, a JSON object with `username` and `password`.
pub const DATABASE: &str = "prod/databases/mysql/bigdb/root";
/// The name of the parameter that most examples read.
pub const API_TOKEN: &str = "/prod/shop/api-token";

/// The version of the secret prod/shop/license that an example asks for. In AWS the store makes such ids up.
const LICENSE: (&str, &str) = ("prod/shop/license", "11111111-2222-3333-4444-555555555555");
/// The label of a version of the parameter that an example asks for.
const LABELLED: (&str, &str) = ("/prod/shop/web/log-level", "blue");
/// The other region that an example reads the license from.
const OTHER_REGION: &str = "us-east-1";

/// The secrets and their values. `value` makes one value of a name, which tells what it is for.
pub fn secrets(value: &dyn Fn(&str) -> String) -> Vec<(&'static str, String)> {
    let block = |tag: &str, of: &str| format!("-----BEGIN {tag}-----\n{}\n-----END {tag}-----\n", BASE64_STANDARD.encode(value(of)));
    vec![
        (DATABASE, json!({"username": "root", "password": value("password")}).to_string()),
        ("prod/shop/app", json!({"DB_USER": "shop", "DB_PASSWORD": value("app"), "internal.note": "not for pods"}).to_string()),
        ("prod/shop/license", value("license")),
        ("prod/shop/mail", json!({"smtp host": "mail.example.com"}).to_string()),
        ("prod/shop/keys/signing", value("signing")),
        ("prod/shop/keys/old/signing", value("old")),
        ("prod/shop/billing/stripe", value("stripe")),
        ("prod/shop/billing/paypal", value("paypal")),
        ("prod/shop/billing/untagged/stripe", value("untagged")),
        ("prod/shop/keystore", BASE64_STANDARD.encode([&[0, 255], value("keystore").as_bytes()].concat())),
        ("prod/shop/registry", json!({"user": "puller", "password": value("registry")}).to_string()),
        ("prod/shop/tls", [block("PRIVATE KEY", "key"), block("CERTIFICATE", "leaf"), block("CERTIFICATE", "chain")].concat()),
        ("prod/shop/partners/a", value("a")),
        ("prod/shop/partners/b", value("b")),
        ("prod/shop/deploy-key", block("OPENSSH PRIVATE KEY", "deploy")),
        ("prod/shop/session-key", json!({"SESSION_KEY": value("session")}).to_string()),
    ]
}

/// The parameters and their values.
pub fn parameters(value: &dyn Fn(&str) -> String) -> Vec<(&'static str, String)> {
    vec![(API_TOKEN, value("token")), ("/prod/shop/web/log-level", "info".to_owned()), ("/prod/shop/web/db/host", "bigdb.example.com".to_owned())]
}

/// The tags of a secret.
fn tags(name: &str) -> Vec<Tag> {
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build();
    match name {
        "prod/shop/billing/stripe" | "prod/shop/billing/paypal" => vec![tag("app", "billing")],
        "prod/shop/keystore" => vec![tag("owner", "payments"), tag("stage", "prod")],
        _ => Vec::new(),
    }
}

/// Puts all of them into an emulated AWS that has none of them.
pub async fn store(moto: &Moto, value: &dyn Fn(&str) -> String) -> Result<()> {
    for (name, text) in secrets(value) {
        let version = (name == LICENSE.0).then(|| LICENSE.1.to_owned());
        let secret = moto.secrets_manager().create_secret().name(name).secret_string(text).set_tags(Some(tags(name)));
        secret.set_client_request_token(version).send().await.with_context(|| format!("creating the secret {name}"))?;
    }
    for (name, text) in parameters(value) {
        let parameter = moto.ssm().put_parameter().name(name).value(text).r#type(ParameterType::SecureString);
        parameter.send().await.with_context(|| format!("creating the parameter {name}"))?;
    }
    let label = moto.ssm().label_parameter_version().name(LABELLED.0).parameter_version(1).labels(LABELLED.1);
    label.send().await.with_context(|| format!("labelling the parameter {}", LABELLED.0))?;
    let elsewhere = moto.secrets_manager().config().to_builder().region(Region::new(OTHER_REGION)).build();
    let secret = aws_sdk_secretsmanager::Client::from_conf(elsewhere).create_secret().name(LICENSE.0).secret_string(value("us-license"));
    secret.send().await.with_context(|| format!("creating the secret {} in {OTHER_REGION}", LICENSE.0))?;
    Ok(())
}
