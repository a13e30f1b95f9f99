//! The calls themselves, made by a provider of the test's own.

use std::collections::BTreeMap;

use futures::{FutureExt, future::BoxFuture};

use super::*;
use crate::{
    api::reference::Store,
    provider::{Family, Listing, LotAnswer, Reading, Route, ServedVersion, Value},
    sensitive::Sensitive,
};

const SINGLE: Family = Family("single");

/// Reads one by one; meets a defect at `bad`, and much at `large…`. A listing has six pages of a second each, with the path `quick`
/// of none, and with the path `hangs` another one that never comes.
struct Faulty {
    /// Calls a second.
    ceiling: f64,
}

impl Provider for Faulty {
    fn route(&self, question: &Question) -> Route {
        Route { service: "aws.sm", single: SINGLE, lot: None, aliases: [question.to_string()].into() }
    }

    fn account(&self) -> &'static str {
        "account"
    }

    fn ceilings(&self) -> Vec<(Family, f64)> {
        vec![(SINGLE, self.ceiling)]
    }

    fn read_one<'a>(&'a self, question: &'a Question, calls: &'a Calls) -> BoxFuture<'a, Result<Reading, ReadError>> {
        let read = async move {
            assert!(!question.to_string().ends_with("bad"), "a defect");
            if let Question::List(listing) = question {
                let page = Duration::from_secs(u64::from(listing.path.as_deref() != Some("quick")));
                for _ in 0..6 {
                    calls.make(tokio::time::sleep(page).boxed()).await;
                }
                if listing.path.as_deref() == Some("hangs") {
                    calls.make(std::future::pending::<()>().boxed()).await;
                }
            }
            let value = if question.to_string().contains("large") { "x".repeat(3 << 20) } else { "value".to_owned() };
            let version = ServedVersion { arn: question.to_string(), id: "1".to_owned(), created: None, region: None };
            Ok(Reading { value: Value::Text(Sensitive::from(value)), version, denotes: Vec::new(), record: None })
        };
        read.boxed()
    }

    fn read_lot<'a>(&'a self, _: &'static Lot, _: &'a [Question]) -> BoxFuture<'a, LotAnswer> {
        unreachable!("no route has a lot")
    }
}

/// What comes of each question, by its text.
async fn told(ceiling: f64, questions: &[Question]) -> BTreeMap<String, Result<(), ReadError>> {
    let reader = Reader::new(Metrics::default());
    let scope = reader.open(Arc::new(Faulty { ceiling }));
    let stop = CancellationToken::new();
    for question in questions {
        let item = reader.item(scope, question).expect("an open scope");
        reader.ask(&Arc::new(("shop".to_owned(), question.to_string())), Lane::New, &[item]);
    }
    let told: Mutex<BTreeMap<String, Result<(), ReadError>>> = Mutex::default();
    let wake = |key: &Arc<Key>, _: Lane| {
        let answers = reader.take(key).expect("answers for whom is woken");
        let mut told = told.lock().expect("no panic here");
        told.insert(key.1.clone(), answers[0].as_ref().map(|_| ()).map_err(Clone::clone));
        if told.len() == questions.len() {
            stop.cancel();
        }
    };
    let run = reader.run(wake, |_| {}, stop.clone());
    tokio::time::timeout(Duration::from_secs(40), run).await.expect("everybody is told");
    told.into_inner().expect("no panic here")
}

fn listing(path: &str) -> Question {
    Question::List(Listing { store: Store::SecretsManager, path: Some(path.to_owned()), recursive: true, tags: BTreeMap::new() })
}

#[tokio::test]
async fn a_listing_may_take_longer_than_a_call_but_none_of_its_pages() {
    let told = told(500.0, &[listing("long"), listing("hangs")]).await;
    assert!(told["aws.sm://long**"].is_ok(), "{told:?}");
    let error = told["aws.sm://hangs**"].as_ref().expect_err("a page that never comes");
    assert_eq!((error.reason, error.message.as_str()), (Reason::ProviderUnavailable, "aws.sm://hangs**: the store did not answer within 5 s"));
}

#[tokio::test]
async fn the_pages_of_a_listing_are_paid_from_the_budget_of_its_family() {
    let started = Instant::now();
    assert!(told(10.0, &[listing("quick")]).await["aws.sm://quick**"].is_ok());
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(450), "six calls in {took:?}, where ten a second are allowed");
}

fn question(name: &str) -> Question {
    let reference: crate::api::reference::Reference = format!("aws.sm://{name}").parse().expect("a reference");
    Question::Value(reference.source)
}

#[tokio::test]
async fn what_is_not_wanted_any_more_makes_room_for_others_at_once() {
    for let_go in [Reader::unask, Reader::forget] {
        let reader = Reader::new(Metrics::default());
        let scope = reader.open(Arc::new(Faulty { ceiling: 500.0 }));
        let (woken, mut told) = tokio::sync::mpsc::unbounded_channel();
        let ask = |name: &str| {
            let item = reader.item(scope, &question(name)).expect("an open scope");
            reader.ask(&Arc::new(("shop".to_owned(), name.to_owned())), Lane::New, &[item]);
        };
        let run = reader.run(|key, _| drop(woken.send(key.1.clone())), |_| {}, CancellationToken::new());
        let act = async {
            ask("large-1");
            assert_eq!(told.recv().await.as_deref(), Some("large-1"));
            ask("large-2");
            tokio::task::yield_now().await;
            // Nobody uses the first: without a word, the reader has no reason to look again.
            assert!(tokio::time::timeout(Duration::from_millis(50), told.recv()).await.is_err());
            let_go(&reader, &("shop".to_owned(), "large-1".to_owned()));
            let next = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
            assert_eq!(next.expect("the other is read").as_deref(), Some("large-2"));
        };
        tokio::select! { () = run => {}, () = act => {} }
    }
}

#[test]
fn what_changed_is_looked_at_again_within_half_a_minute_and_all_else_in_its_own_time() {
    let (ttl, now) = (Duration::from_mins(15), Timestamp::now());
    for id in 0..100 {
        let id = id.to_string();
        let wait = |changed| first_recheck(&id, ttl, Since::Now { changed }, now, 0);
        assert_eq!(wait(true), (SECOND_LOOK, true), "{id}");
        assert!(wait(false).0 >= ttl / SOONEST && wait(false).0 <= ttl, "{id}");
        assert!(first_recheck(&id, Duration::from_secs(10), Since::Now { changed: true }, now, 0).0 <= Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_defect_in_one_call_fails_only_who_waits_for_it() {
    let told = told(500.0, &["good", "bad", "fine"].map(question)).await;
    let told: Vec<_> = told.iter().map(|(question, answer)| (question.as_str(), answer.as_ref().copied().map_err(|error| error.reason))).collect();
    assert_eq!(told, [("aws.sm://bad", Err(Reason::InternalError)), ("aws.sm://fine", Ok(())), ("aws.sm://good", Ok(()))]);
}
