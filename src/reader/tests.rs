//! The calls themselves, made by a provider of the test's own.

use std::collections::BTreeMap;

use futures::{FutureExt, future::BoxFuture};

use super::*;
use crate::{
    api::Reason,
    provider::{Family, LotAnswer, Reading, Route, ServedVersion, Value},
    sensitive::Sensitive,
};

const SINGLE: Family = Family("single");

/// Reads one by one; meets a defect at `bad`.
struct Faulty;

impl Provider for Faulty {
    fn route(&self, question: &Question) -> Route {
        Route { service: "aws.sm", single: SINGLE, lot: None, aliases: [question.to_string()].into() }
    }

    fn account(&self) -> &'static str {
        "account"
    }

    fn ceilings(&self) -> Vec<(Family, f64)> {
        vec![(SINGLE, 500.0)]
    }

    fn read_one<'a>(&'a self, question: &'a Question) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let read = async move {
            assert!(!question.to_string().ends_with("bad"), "a defect");
            let version = ServedVersion { arn: question.to_string(), id: "1".to_owned(), created: None };
            Ok(Reading { value: Value::Text(Sensitive::from("value".to_owned())), version, denotes: Vec::new() })
        };
        read.boxed()
    }

    fn read_lot<'a>(&'a self, _: &'static Lot, _: &'a [Question]) -> BoxFuture<'a, LotAnswer> {
        unreachable!("no route has a lot")
    }
}

#[tokio::test]
async fn a_defect_in_one_call_fails_only_who_waits_for_it() {
    let reader = Reader::new(Metrics::default());
    let scope = reader.open(Arc::new(Faulty));
    let stop = CancellationToken::new();
    for name in ["good", "bad", "fine"] {
        let reference: crate::api::reference::Reference = format!("aws.sm://{name}").parse().expect("a reference");
        let item = reader.item(scope, &Question::Value(reference.source)).expect("an open scope");
        reader.ask(&Arc::new(("shop".to_owned(), name.to_owned())), Lane::New, &[item]);
    }
    let told: Mutex<BTreeMap<String, Result<(), Reason>>> = Mutex::default();
    let wake = |key: &Arc<Key>, _: Lane| {
        let answers = reader.take(key).expect("answers for whom is woken");
        let mut told = told.lock().expect("no panic here");
        told.insert(key.1.clone(), answers[0].as_ref().map(|_| ()).map_err(|error| error.reason));
        if told.len() == 3 {
            stop.cancel();
        }
    };
    let run = reader.run(wake, |_| {}, stop.clone());
    tokio::time::timeout(Duration::from_secs(20), run).await.expect("everybody is told");
    let told = told.into_inner().expect("no panic here");
    assert_eq!(told, BTreeMap::from([("good".to_owned(), Ok(())), ("bad".to_owned(), Err(Reason::InternalError)), ("fine".to_owned(), Ok(()))]));
}
