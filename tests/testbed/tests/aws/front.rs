//! The front's misbehaviour as a real AWS SDK client sees it, in front of a real moto.

use aws_sdk_secretsmanager::error::SdkError;
use aws_sdk_ssm::types::ParameterType;
use testbed::front::{Answer, Fault};
use testbed::{Front, Moto, TempFolder};

use crate::{error, wait_until};

#[tokio::test]
#[allow(clippy::too_many_lines)]
async fn calls_are_forwarded_recorded_and_spoilt() {
    let dir = TempFolder::new("test").unwrap();
    let moto = Moto::start(dir.path()).unwrap();
    let front = Front::start(moto.url()).unwrap();
    for name in ["prod/db", "prod/web"] {
        moto.secrets_manager().create_secret().name(name).secret_string(format!("{{\"of\":\"{name}\"}}")).send().await.unwrap();
    }
    moto.ssm().put_parameter().name("/prod/token").value("first").r#type(ParameterType::SecureString).send().await.unwrap();
    assert_eq!(front.calls(), []);

    // Forwarded and recorded.
    let (sm, ssm) = (front.secrets_manager(), front.ssm());
    let read = sm.get_secret_value().secret_id("prod/db").send().await.unwrap();
    assert_eq!(read.secret_string(), Some("{\"of\":\"prod/db\"}"));
    let read = ssm.get_parameters().names("/prod/token").names("/none").with_decryption(true).send().await.unwrap();
    assert_eq!(read.parameters()[0].value(), Some("first"));
    let binary = vec![0, 159, 146, 150];
    sm.put_secret_value().secret_id("prod/web").secret_binary(binary.clone().into()).send().await.unwrap();
    assert_eq!(sm.get_secret_value().secret_id("prod/web").send().await.unwrap().secret_binary().unwrap().as_ref(), binary);
    let (code, ..) = error(sm.get_secret_value().secret_id("none").send().await);
    assert_eq!(code, "ResourceNotFoundException");
    let seen: Vec<_> = front.calls().into_iter().map(|call| (call.service, call.action, call.ids, call.status)).collect();
    let of =
        |service, action: &str, ids: &[&str], status| (service, action.to_owned(), ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>(), Some(status));
    assert_eq!(
        seen,
        [
            of("secretsmanager", "GetSecretValue", &["prod/db"], 200),
            of("ssm", "GetParameters", &["/prod/token", "/none"], 200),
            of("secretsmanager", "PutSecretValue", &["prod/web"], 200),
            of("secretsmanager", "GetSecretValue", &["prod/web"], 200),
            // moto says 404 where AWS says 400; the code in the body is the same.
            of("secretsmanager", "GetSecretValue", &["none"], 404),
        ]
    );
    assert_eq!(front.count(|call| call.action == "GetSecretValue" && call.status == Some(200)), 2);

    // Denied: alone, in a batch, by KMS.
    front.deny("prod/db");
    let (code, message, _) = error(sm.get_secret_value().secret_id("prod/db").send().await);
    assert_eq!(code, "AccessDeniedException");
    assert!(message.contains("not authorized to perform: secretsmanager:GetSecretValue on resource: prod/db"), "{message}");
    let batch = sm.batch_get_secret_value().secret_id_list("prod/db").secret_id_list("prod/web").send().await.unwrap();
    assert_eq!(batch.secret_values().iter().map(|value| value.name().unwrap()).collect::<Vec<_>>(), ["prod/web"]);
    assert_eq!(batch.errors()[0].secret_id(), Some("prod/db"));
    assert_eq!(batch.errors()[0].error_code(), Some("AccessDeniedException"));
    let batch = sm.batch_get_secret_value().secret_id_list("prod/db").send().await.unwrap();
    assert!(batch.secret_values().is_empty() && batch.errors().len() == 1);
    front.kms_denied("prod/web");
    front.kms_denied("/prod/token");
    let (code, message, _) = error(sm.get_secret_value().secret_id("prod/web").send().await);
    assert_eq!((code.as_str(), message.as_str()), ("AccessDeniedException", "Access to KMS is not allowed"));
    let (code, message, _) = error(ssm.get_parameter().name("/prod/token").with_decryption(true).send().await);
    assert!(code == "AccessDeniedException" && message.contains("kms:Decrypt"), "{code} {message}");
    let batch = sm.batch_get_secret_value().secret_id_list("prod/db").secret_id_list("prod/web").send().await.unwrap();
    assert_eq!(batch.errors().len(), 2);
    front.clear_faults();

    // Throttled for two calls, then failing until taken back.
    front.throttle_next(2);
    for _ in 0..2 {
        let (code, ..) = error(ssm.get_parameter().name("/prod/token").send().await);
        assert_eq!(code, "ThrottlingException");
    }
    ssm.get_parameter().name("/prod/token").send().await.unwrap();
    for (status, code) in [(500, "InternalFailure"), (503, "ServiceUnavailable")] {
        let fault = front.fail(status);
        assert_eq!(error(sm.get_secret_value().secret_id("prod/db").send().await).0, code);
        assert_eq!(front.calls().last().unwrap().status, Some(status));
        front.remove_fault(fault);
    }
    let throttle = front.throttle();
    assert_eq!(error(sm.get_secret_value().secret_id("prod/db").send().await).0, "ThrottlingException");
    front.remove_fault(throttle);
    sm.get_secret_value().secret_id("prod/db").send().await.unwrap();

    // Malformed, and a fault of the test's own.
    front.malformed();
    let (code, _, text) = error(sm.get_secret_value().secret_id("prod/db").send().await);
    assert!(code == "none" && text.contains("UnexpectedToken"), "{code} {text}");
    front.add_fault(Fault::new(|call| call.ids == ["prod/db"], Answer::Error { status: 400, code: "DecryptionFailure".to_owned(), message: "no".to_owned() }));
    assert_eq!(error(sm.get_secret_value().secret_id("prod/db").send().await).0, "DecryptionFailure");
    front.clear_faults();

    // Hanging, seen as a call without a status, and cut off when the front goes down.
    front.hang();
    let hanging = tokio::spawn({
        let sm = front.secrets_manager();
        async move { sm.get_secret_value().secret_id("prod/db").send().await }
    });
    wait_until("the call arrives", || front.calls().last().is_some_and(|call| call.status.is_none())).await;
    front.clear_faults();
    assert!(!hanging.is_finished());
    front.down().unwrap();
    front.down().unwrap();
    assert!(matches!(hanging.await.unwrap(), Err(SdkError::DispatchFailure(_))));
    let calls = front.calls().len();
    let (_, _, text) = error(sm.get_secret_value().secret_id("prod/db").send().await);
    assert!(text.contains("refused"), "{text}");
    assert_eq!(front.calls().len(), calls);
    let url = front.url();
    front.up().unwrap();
    front.up().unwrap();
    assert_eq!(front.url(), url);
    sm.get_secret_value().secret_id("prod/db").send().await.unwrap();

    // moto gone is an error that says so.
    drop(moto);
    assert!(sm.get_secret_value().secret_id("prod/db").send().await.is_err());
    assert_eq!(front.calls().last().unwrap().status, Some(502));
    drop(front);
    assert!(sm.get_secret_value().secret_id("prod/db").send().await.is_err());
}
