//! Values arrive in Secrets as they are in the store.

use aws_sdk_secretsmanager::primitives::Blob;
use aws_sdk_ssm::types::ParameterType;

use crate::support::{SECONDS, scene, world};

#[tokio::test]
async fn a_json_secret_in_short_form_becomes_one_key_a_member() {
    scene("short-form", async |s| {
        let (user, password) = (s.value("user"), s.value("pä$\n\"日本\""));
        s.put_secret("db", &serde_json::json!({"user": user, "password": password, "port": 3306}).to_string()).await;
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        assert_eq!(s.ready("db").await, "3 keys from 1 source");
        s.holds("db", &[("password", &password), ("port", "3306"), ("user", &user)], SECONDS).await;
    })
    .await;
}
