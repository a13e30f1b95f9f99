//! What the emulator answers when nothing is wrong.

use testbed::Emulator;

use crate::error;

#[tokio::test]
async fn secrets_are_read_one_by_one_and_in_batches() {
    let emulator = Emulator::start().unwrap();
    emulator.put_secret("prod/db", "first");
    emulator.put_binary("prod/key", &[0, 159, 146, 150]);
    let client = emulator.secrets_manager();
    let db = client.get_secret_value().secret_id("prod/db").send().await.unwrap();
    assert_eq!((db.name(), db.secret_string(), db.version_stages()), (Some("prod/db"), Some("first"), ["AWSCURRENT".to_owned()].as_slice()));
    let arn = emulator.secret_arn("prod/db").unwrap();
    assert_eq!(db.arn(), Some(arn.as_str()));
    let batch = client.batch_get_secret_value().secret_id_list("prod/key").secret_id_list("none").secret_id_list(&arn).send().await.unwrap();
    let values: Vec<_> = batch.secret_values().iter().map(|value| (value.name().unwrap(), value.secret_string())).collect();
    assert_eq!(values, [("prod/db", Some("first")), ("prod/key", None)]);
    assert_eq!(batch.secret_values()[1].secret_binary().unwrap().as_ref(), [0, 159, 146, 150]);
    assert_eq!(batch.errors().len(), 1);
    assert_eq!((batch.errors()[0].secret_id(), batch.errors()[0].error_code()), (Some("none"), Some("ResourceNotFoundException")));
    assert_eq!(error(client.get_secret_value().secret_id("none").send().await).0, "ResourceNotFoundException");
}
