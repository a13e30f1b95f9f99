//! The table against a store that lives in the test: time is a number here, and a call is answered when the test says so.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::atomic::Ordering,
};

use proptest::prelude::*;

use super::*;
use crate::{
    api::reference::Store,
    provider::{Found, Listing, Reading, ServedVersion, Value},
    sensitive::Sensitive,
};

const SINGLE: Family = Family("single");
const BATCH: Family = Family("batch");
const LOT: Lot = Lot { name: "lot", size: 20, family: BATCH, action: "read:Many" };
const TTL: Duration = Duration::from_secs(60);

fn key(name: &str) -> Arc<Key> {
    Arc::new(("shop".to_owned(), name.to_owned()))
}

fn question(name: &str) -> Arc<Question> {
    let reference: crate::api::reference::Reference = format!("aws.sm://{name}").parse().expect("a reference");
    Arc::new(Question::Value(reference.source))
}

fn item(scope: u64, name: &str) -> Item {
    // Names that differ in their last letter's case alone denote the same thing here.
    let aliases = [name.to_lowercase()].into();
    Item { scope: ScopeId(scope), question: question(name), route: Route { service: "aws.sm", single: SINGLE, lot: Some(&LOT), aliases } }
}

fn version(id: &str) -> ServedVersion {
    ServedVersion { arn: "arn".to_owned(), id: id.to_owned(), created: None, region: None }
}

/// A value that tells where it comes from.
fn reading(scope: ScopeId, question: &Question, id: &str) -> Reading {
    let text = format!("{}/{question}/{id}", scope.0);
    Reading { value: Value::Text(Sensitive::from(text)), version: version(id), denotes: Vec::new(), record: None }
}

fn text(answer: &Answer) -> String {
    match answer {
        Ok(held) => match &held.reading().value {
            Value::Text(value) | Value::Binary(value) => String::from_utf8_lossy(value.expose()).into_owned(),
            Value::List(found) => format!("{} found", found.len()),
        },
        Err(error) => error.reason.to_string(),
    }
}

fn error(reason: Reason) -> ReadError {
    ReadError::new(reason, "because")
}

/// A table with scopes 1 and 2 of one account, and its time.
struct World {
    table: Table,
    now: Instant,
    woken: Vec<(String, Lane)>,
    denied: usize,
    /// All calls so far, by what they ask for.
    calls: Vec<Vec<String>>,
}

impl World {
    fn new() -> Self {
        let (mut table, now) = (Table::default(), Instant::now());
        for scope in [1, 2] {
            let account = Arc::from("account");
            table.open(ScopeId(scope), Arc::clone(&account));
            for (family, ceiling) in [(SINGLE, 500.0), (BATCH, 50.0)] {
                table.budgets().lock().unwrap().enlist(&scope.to_string(), &account, family, ceiling, now);
            }
        }
        Self { table, now, woken: Vec::new(), denied: 0, calls: Vec::new() }
    }

    fn after(&mut self, millis: u64) -> &mut Self {
        self.now += Duration::from_millis(millis);
        self
    }

    fn ask(&mut self, asker: &str, lane: Lane, names: &[&str]) {
        let items: Vec<Item> = names.iter().map(|name| item(1, name)).collect();
        self.table.ask(&key(asker), lane, &items, self.now);
    }

    /// Watches a name in scope 1 at version `seen`, due after so many seconds.
    fn watch(&mut self, watcher: &str, name: &str, seen: &str, due: u64) {
        let due = self.now + Duration::from_secs(due);
        let recheck = Recheck { item: item(1, name), expected: Expected::Version((&version(seen)).into()), checked: None, due };
        self.table.watch(&key(watcher), TTL, vec![recheck], self.now);
    }

    fn poll(&mut self) -> Vec<Call> {
        let todo = self.table.poll(self.now);
        self.wake(todo.wake);
        self.calls.extend(todo.calls.iter().map(names));
        todo.calls
    }

    fn wake(&mut self, wake: Vec<(Arc<Key>, Lane)>) {
        self.woken.extend(wake.into_iter().map(|(key, lane)| (key.1.clone(), lane)));
    }

    fn finish(&mut self, call: &Call, outcome: Outcome) {
        let told = self.table.finish(call.id, outcome, self.now);
        self.denied += usize::from(told.denied.is_some());
        self.wake(told.wake);
    }

    /// Answers a call, each question with the version `id`.
    fn answer(&mut self, call: &Call, id: &str) {
        let outcome = answered(call, |question| Some(Ok(reading(call.scope, question, id))));
        self.finish(call, outcome);
    }

    /// Lets the time run for so many seconds; each call is answered after 15 ms by `outcome`.
    fn run(&mut self, seconds: u64, outcome: impl FnMut(&Call) -> Outcome) {
        self.run_for(Duration::from_secs(seconds), outcome);
    }

    fn run_for(&mut self, time: Duration, mut outcome: impl FnMut(&Call) -> Outcome) {
        let end = self.now + time;
        let mut flying: VecDeque<(Instant, Call)> = VecDeque::new();
        while self.now < end {
            let todo = self.table.poll(self.now);
            self.wake(todo.wake);
            self.calls.extend(todo.calls.iter().map(names));
            flying.extend(todo.calls.into_iter().map(|call| (self.now + Duration::from_millis(15), call)));
            let lands = flying.front().map(|(lands, _)| *lands);
            self.now = lands.into_iter().chain(todo.next).chain([end]).min().unwrap_or(end).max(self.now);
            while flying.front().is_some_and(|(lands, _)| *lands <= self.now) {
                let Some((_, call)) = flying.pop_front() else { break };
                let outcome = outcome(&call);
                self.finish(&call, outcome);
            }
        }
        for (_, call) in flying {
            let outcome = outcome(&call);
            self.finish(&call, outcome);
        }
    }

    fn took(&mut self, asker: &str) -> Option<Vec<String>> {
        Some(self.table.take(&key(asker))?.iter().map(text).collect())
    }
}

fn names(call: &Call) -> Vec<String> {
    call.questions.iter().map(|question| question.to_string().trim_start_matches("aws.sm://").to_owned()).collect()
}

fn answered(call: &Call, mut answer: impl FnMut(&Question) -> Option<Result<Reading, ReadError>>) -> Outcome {
    let mut answers: Vec<_> = call.questions.iter().map(|question| answer(question)).collect();
    match call.lot {
        Some(_) => Outcome::Lot(LotAnswer::Each { answers, pages: 1 }),
        None => Outcome::One(answers.remove(0).unwrap_or_else(|| Err(error(Reason::ProviderUnavailable)))),
    }
}

fn all(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("s{i:04}")).collect()
}

#[test]
fn those_who_ask_in_one_breath_share_a_call() {
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.ask(name, Lane::New, &[name]);
        assert!(world.after(2).poll().is_empty());
    }
    let calls = world.after(5).poll();
    assert_eq!(calls.iter().map(names).collect::<Vec<_>>(), [["a", "b", "c"]]);
    world.answer(&calls[0], "v1");
    assert_eq!(world.woken, [("a".into(), Lane::New), ("b".into(), Lane::New), ("c".into(), Lane::New)]);
    assert_eq!(world.took("b"), Some(vec!["1/aws.sm://b/v1".into()]));
    assert_eq!(world.took("b"), None);
}

#[test]
fn while_a_call_is_under_way_another_leaves_only_full_or_after_a_tenth_of_a_second() {
    let mut world = World::new();
    world.ask("a", Lane::New, &["a"]);
    assert_eq!(world.after(5).poll().len(), 1);
    world.ask("b", Lane::New, &["b"]);
    assert!(world.after(99).poll().is_empty());
    assert_eq!(world.after(1).poll().len(), 1);
    let many = all(20);
    world.ask("many", Lane::New, &many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(world.poll().iter().map(|call| call.questions.len()).collect::<Vec<_>>(), [20]);
}

#[test]
fn what_merely_comes_round_waits_while_a_call_is_under_way() {
    let mut world = World::new();
    world.watch("a", "a", "v1", 0);
    world.watch("b", "b", "v1", 31);
    let first = world.poll();
    assert_eq!(names(&first[0]), ["a"]);
    assert!(world.after(40_000).poll().is_empty());
    world.answer(&first[0], "v1");
    assert_eq!(world.poll().len(), 1);
}

#[test]
fn rechecks_that_fit_into_a_call_come_to_share_it_wherever_they_began() {
    for (count, calls_a_ttl) in [(2, 1), (10, 1), (20, 1), (21, 2), (60, 3), (200, 10)] {
        let mut world = World::new();
        for (i, name) in all(count).iter().enumerate() {
            world.watch(name, name, "v1", u64::try_from(i * 60 / count).expect("seconds"));
        }
        let answer = |call: &Call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1"))));
        world.run(120, answer);
        let before = world.calls.len();
        world.run(600, answer);
        let made = world.calls.len() - before;
        assert!(made <= calls_a_ttl * 10 + 2, "{made} calls in ten TTLs for {count} references");
    }
}

#[test]
fn what_is_read_seldom_is_not_taken_along_each_time() {
    let mut world = World::new();
    let often = Recheck { item: item(1, "often"), expected: Expected::Version((&version("v1")).into()), checked: None, due: world.now };
    world.table.watch(&key("often"), Duration::from_secs(10), vec![often], world.now);
    let (seldom, due) = (item(1, "seldom"), world.now + Duration::from_secs(3000));
    let seldom = Recheck { item: seldom, expected: Expected::Version((&version("v1")).into()), checked: None, due };
    world.table.watch(&key("seldom"), Duration::from_secs(3600), vec![seldom], world.now);
    let answer = |call: &Call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1"))));
    world.run(600, answer);
    world.ask("new", Lane::New, &["new"]);
    world.run(600, answer);
    assert!(world.calls.iter().all(|call| !call.contains(&"seldom".to_owned())), "{:?}", world.calls);
    world.run(2400, answer);
    assert_eq!(world.calls.iter().filter(|call| call.contains(&"seldom".to_owned())).count(), 1);
}

#[test]
fn as_many_as_a_call_takes_share_a_phase() {
    let mut world = World::new();
    let mut phases: Vec<String> = Vec::new();
    for name in all(45) {
        phases.push(world.table.phase(&item(1, &name), world.now));
        world.watch(&name, &name, "v1", 60);
    }
    assert_eq!(world.table.phase(&item(1, "s0003"), world.now), phases[3], "it keeps its phase");
    let distinct: BTreeSet<&String> = phases.iter().collect();
    assert_eq!(distinct.len(), 3, "{phases:?}");
    assert_ne!(world.table.phase(&item(2, "s0003"), world.now), phases[3], "each scope has its own");
}

/// A listing, which has the family of single reads here.
fn listing(path: &str) -> Item {
    let listing = Listing { store: Store::SecretsManager, path: Some(path.to_owned()), recursive: true, tags: BTreeMap::new() };
    let route = Route { service: "aws.sm", single: SINGLE, lot: None, aliases: [].into() };
    Item { scope: ScopeId(1), question: Arc::new(Question::List(listing)), route }
}

#[test]
fn listings_keep_neither_each_other_nor_single_reads_waiting() {
    let mut world = World::new();
    for number in 0..40 {
        world.table.ask(&key(&format!("list{number}")), Lane::New, &[listing(&number.to_string())], world.now);
    }
    assert_eq!(world.poll().len(), 4, "listings are long: a few at a time");
    let single = Item { route: Route { lot: None, ..item(1, "a").route }, ..item(1, "a") };
    world.table.ask(&key("single"), Lane::New, &[single], world.now);
    let calls = world.poll();
    assert_eq!(calls.iter().map(names).collect::<Vec<_>>(), [["a"]]);
    // What is large is not taken for the size of every other answer, and two large listings still go side by side.
    world.answer(&calls[0], "v1");
    let listings: Vec<Call> =
        world.table.flights.keys().map(|id| Call { id: *id, scope: ScopeId(1), family: SINGLE, lot: None, questions: Vec::new() }).collect();
    for call in &listings[..2] {
        let found = (0..3000).map(|number| {
            let name = format!("aws.sm://{}{number}", "x".repeat(500)).parse::<crate::api::reference::Reference>().expect("a reference");
            Found { source: name.source, reading: None }
        });
        let reading = Reading { value: Value::List(found.collect()), version: version("v1"), denotes: Vec::new(), record: None };
        world.finish(call, Outcome::One(Ok(reading)));
    }
    let scope = &world.table.scopes[&ScopeId(1)];
    assert!(scope.largest < 10_000 && scope.largest_listing > 1_500_000, "{} {}", scope.largest, scope.largest_listing);
    assert!(scope.held.load(Ordering::Relaxed) > 3_000_000, "the names of what is held count");
}

#[test]
fn a_new_resource_does_not_wait_behind_a_wave() {
    let mut world = World::new();
    for name in all(1000) {
        world.watch(&name, &name, "v1", 0);
    }
    let wave = world.poll();
    assert!(wave.iter().all(|call| call.questions.len() == 20));
    world.ask("new", Lane::New, &["new"]);
    let next = world.after(100).poll();
    assert_eq!(names(&next[0])[0], "new");
    assert_eq!(next[0].questions.len(), 20, "it is filled with what is due");
}

#[test]
fn urgent_reads_without_end_leave_rechecks_a_share() {
    let mut world = World::new();
    let account = Arc::from("account");
    for scope in ["1", "2"] {
        world.table.budgets().lock().unwrap().enlist(scope, &account, SINGLE, 3.0, world.now);
        world.table.budgets().lock().unwrap().enlist(scope, &account, BATCH, 3.0, world.now);
    }
    let alone = |name: &str| Item { route: Route { lot: None, ..item(1, name).route }, ..item(1, name) };
    for name in all(20) {
        world.watch(&name, &name, "v1", 0);
        let recheck = Recheck { item: alone(&format!("alone-{name}")), expected: Expected::Version((&version("v1")).into()), checked: None, due: world.now };
        world.table.watch(&key(&format!("alone-{name}")), TTL, vec![recheck], world.now);
    }
    for second in 0..120 {
        for i in 0..20 {
            let name = format!("urgent-{i}");
            if second == 0 || world.took(&name).is_some() {
                world.table.ask(&key(&name), Lane::Event, &[alone(&name)], world.now);
            }
        }
        world.run(1, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
    }
    let rechecks = world.calls.iter().filter(|call| call[0].starts_with("alone-")).count();
    assert!(rechecks >= 20, "{rechecks} of {} calls", world.calls.len());
    assert!(all(20).iter().all(|name| world.table.checked(&key(name)).is_some()));
}

#[test]
fn a_recheck_that_never_gets_its_turn_is_told_and_one_that_is_late_is_not() {
    for (per_second, told) in [(0.02, true), (0.2, false)] {
        let mut world = World::new();
        for scope in ["1", "2"] {
            world.table.budgets().lock().unwrap().enlist(scope, &Arc::from("account"), BATCH, per_second, world.now);
        }
        for name in all(200) {
            world.watch(&name, &name, "v1", 0);
        }
        world.run(400, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
        assert_eq!(world.woken.iter().any(|(_, lane)| *lane == Lane::Drift), told, "at {per_second} a second: {} calls", world.calls.len());
    }
}

#[test]
fn an_ask_never_joins_a_call_that_has_left() {
    let mut world = World::new();
    world.ask("a", Lane::New, &["x"]);
    let before = world.after(5).poll();
    world.ask("a", Lane::Event, &["x"]);
    world.ask("b", Lane::Event, &["x"]);
    world.answer(&before[0], "old");
    assert_eq!((world.took("a"), world.took("b")), (None, None));
    let after = world.after(5).poll();
    world.answer(&after[0], "new");
    assert_eq!(world.took("a"), Some(vec!["1/aws.sm://x/new".into()]));
    assert_eq!(world.took("b"), Some(vec!["1/aws.sm://x/new".into()]));
}

#[test]
fn who_leaves_is_not_read_for_and_who_stays_is() {
    let mut world = World::new();
    world.ask("a", Lane::New, &["x"]);
    world.ask("b", Lane::New, &["y"]);
    world.table.unask(&key("a"));
    let calls = world.after(5).poll();
    assert_eq!(names(&calls[0]), ["y"]);
    world.ask("c", Lane::New, &["z"]);
    world.table.unask(&key("b"));
    world.answer(&calls[0], "v1");
    assert!(world.woken.is_empty());
    assert_eq!(names(&world.after(5).poll()[0]), ["z"]);
    world.table.unask(&key("c"));
    assert!(world.table.askers.is_empty());
}

#[test]
fn a_value_is_counted_until_the_last_lets_go() {
    let mut world = World::new();
    world.ask("a", Lane::New, &["x"]);
    world.ask("b", Lane::New, &["x"]);
    let calls = world.after(5).poll();
    world.answer(&calls[0], "v1");
    let held = || world.table.held.load(Ordering::Relaxed);
    let bytes = "1/aws.sm://x/v1".len();
    assert_eq!(held(), bytes);
    let taken = world.table.take(&key("a"));
    world.table.unask(&key("b"));
    assert_eq!(world.table.held.load(Ordering::Relaxed), bytes);
    drop(taken);
    assert_eq!(world.table.held.load(Ordering::Relaxed), 0);
}

#[test]
fn two_names_of_one_thing_never_share_a_call() {
    let mut world = World::new();
    world.ask("a", Lane::New, &["x", "X", "y"]);
    let calls = world.after(5).poll();
    assert_eq!(calls.iter().map(names).collect::<Vec<_>>(), [["x", "y"]]);
    world.answer(&calls[0], "v1");
    assert_eq!(world.took("a"), None);
    let calls = world.after(5).poll();
    assert_eq!(names(&calls[0]), ["X"]);
    world.answer(&calls[0], "v1");
    assert_eq!(world.took("a").map(|answers| answers.len()), Some(3));
}

#[test]
fn a_recheck_wakes_nobody_unless_something_changed() {
    let mut world = World::new();
    world.watch("a", "x", "v1", 1);
    world.watch("b", "x", "v0", 1);
    let calls = world.after(1000).poll();
    world.answer(&calls[0], "v1");
    assert_eq!(world.woken, [("b".into(), Lane::Event)]);
    assert!(matches!(world.table.news(&key("b")), Some(News::Changed)) && world.table.news(&key("a")).is_none());
    assert_eq!(world.table.checked(&key("a")), Some(world.now));
    assert_eq!(world.table.held.load(Ordering::Relaxed), 0, "the value is dropped");
    assert!(world.after(59_999).poll().is_empty());
    assert_eq!(world.after(1).poll().len(), 1);
}

#[test]
fn a_fetch_tells_the_others_who_watch_the_same() {
    let mut world = World::new();
    world.watch("watcher", "x", "v1", 50);
    world.ask("forced", Lane::Event, &["x"]);
    let calls = world.after(5).poll();
    world.answer(&calls[0], "v2");
    assert_eq!(world.woken, [("forced".into(), Lane::Event), ("watcher".into(), Lane::Event)]);
}

#[test]
fn a_failed_recheck_is_told_and_an_expected_absence_is_not() {
    let mut world = World::new();
    world.watch("a", "x", "v1", 0);
    let recheck = Recheck { item: item(1, "y"), expected: Expected::Absent, checked: None, due: world.now };
    world.table.watch(&key("b"), TTL, vec![recheck], world.now);
    let calls = world.poll();
    let outcome = answered(&calls[0], |_| Some(Err(error(Reason::SourceNotFound))));
    world.finish(&calls[0], outcome);
    assert_eq!(world.woken, [("a".into(), Lane::Drift)]);
    assert!(matches!(world.table.news(&key("a")), Some(News::Failed(error)) if error.reason == Reason::SourceNotFound));
}

#[test]
fn the_shortest_ttl_counts_until_its_owner_goes() {
    let mut world = World::new();
    world.watch("slow", "x", "v1", 0);
    let recheck = Recheck { item: item(1, "x"), expected: Expected::Version((&version("v1")).into()), checked: None, due: world.now };
    world.table.watch(&key("fast"), Duration::from_secs(10), vec![recheck], world.now);
    world.run(60, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
    assert_eq!(world.calls.len(), 6);
    world.table.unwatch(&key("fast"), world.now);
    world.calls.clear();
    world.run(120, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
    assert!((2..=3).contains(&world.calls.len()), "{}", world.calls.len());
}

#[test]
fn a_thousand_references_cost_a_twentieth_of_it_an_interval() {
    let mut world = World::new();
    for (i, name) in all(1000).into_iter().enumerate() {
        let due = world.now + TTL.mul_f64(f64::from(u32::try_from(i * 7919 % 1000).unwrap_or_default()) / 1000.0);
        let recheck = Recheck { item: item(1, &name), expected: Expected::Version((&version("v1")).into()), checked: None, due };
        world.table.watch(&key(&name), TTL, vec![recheck], world.now);
    }
    for interval in 0..10 {
        world.calls.clear();
        world.run(60, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
        assert!((50..=55).contains(&world.calls.len()), "{} calls in interval {interval}", world.calls.len());
    }
    assert!(world.woken.is_empty());
}

/// Refuses every call in company that holds one of these; alone they fail.
fn refuse<'a>(culprits: &'a [&str], reason: Reason) -> impl FnMut(&Call) -> Outcome + 'a {
    move |call| {
        let guilty = |question: &Question| culprits.iter().any(|culprit| question.to_string().ends_with(culprit));
        if call.lot.is_some() && call.questions.iter().any(|question| guilty(question)) {
            return Outcome::Lot(LotAnswer::Refused(error(reason)));
        }
        answered(call, |question| Some(if guilty(question) { Err(error(reason)) } else { Ok(reading(call.scope, question, "v1")) }))
    }
}

#[test]
fn a_refused_call_is_halved_until_the_culprit_is_alone_and_stays_so() {
    for reason in [Reason::SourceNotFound, Reason::AccessDenied] {
        let mut world = World::new();
        let names = all(20);
        for name in &names {
            world.ask(name, Lane::New, &[name]);
        }
        world.run(2, refuse(&["s0013"], reason));
        for name in &names {
            let expected = if name == "s0013" { reason.to_string() } else { format!("1/aws.sm://{name}/v1") };
            assert_eq!(world.took(name), Some(vec![expected]));
        }
        assert!(world.calls.len() <= 11, "{:?}", world.calls);
        // From here on it costs the others nothing.
        world.calls.clear();
        for name in &names {
            world.watch(name, name, "v1", 0);
            world.ask(name, Lane::New, &[name]);
        }
        world.run(1, refuse(&["s0013"], reason));
        let mut shown = world.calls.clone();
        shown.sort();
        assert_eq!(shown.iter().map(Vec::len).collect::<Vec<_>>(), [19, 1], "{shown:?}");
        assert_eq!(world.denied, 0);
        // Once it works alone, it travels in company again.
        world.ask("s0013", Lane::New, &["s0013"]);
        world.run(1, refuse(&[], reason));
        world.calls.clear();
        for name in ["s0012", "s0013"] {
            world.ask(name, Lane::New, &[name]);
        }
        world.run(1, refuse(&[], reason));
        assert_eq!(world.calls, [["s0012", "s0013"]]);
    }
}

#[test]
fn one_tenants_bad_references_do_not_turn_others_into_singles() {
    let mut world = World::new();
    let names = all(200);
    for name in &names {
        world.ask(name, Lane::New, &[name]);
    }
    let culprits = ["s0003", "s0047", "s0048", "s0122", "s0199"];
    world.run(10, refuse(&culprits, Reason::AccessDenied));
    assert_eq!(world.denied, 0);
    world.calls.clear();
    for name in &names {
        world.ask(name, Lane::Event, &[name]);
    }
    world.run(5, refuse(&culprits, Reason::AccessDenied));
    let (single, company): (Vec<_>, Vec<_>) = world.calls.iter().partition(|call| call.len() == 1);
    assert_eq!((single.len(), company.len()), (5, 10), "{:?}", world.calls);
}

#[test]
fn who_may_not_read_in_company_reads_alone_and_tries_again_after_an_hour() {
    let denied = |call: &Call| match call.lot {
        Some(_) => Outcome::Lot(LotAnswer::Denied(error(Reason::AccessDenied))),
        None => answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))),
    };
    let mut world = World::new();
    for name in ["a", "b", "c"] {
        world.watch(name, name, "v1", 0);
    }
    world.run(3590, denied);
    assert_eq!(world.calls.iter().filter(|call| call.len() > 1).count(), 1, "{:?}", world.calls);
    assert!(world.woken.is_empty());
    assert_eq!(world.denied, 1);
    world.calls.clear();
    world.run(120, denied);
    assert_eq!(world.calls.iter().filter(|call| call.len() > 1).count(), 1);
    assert_eq!(world.denied, 1, "said once");
    world.run(3600, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
    world.calls.clear();
    world.run(60, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
    assert_eq!(world.calls.iter().map(Vec::len).collect::<Vec<_>>(), [3]);
}

#[test]
fn that_company_itself_is_forbidden_shows_when_all_work_alone() {
    // As GetParameters does it: the refusal does not tell whether a name or the action is forbidden.
    let forbidden = |call: &Call| match call.lot {
        Some(_) => Outcome::Lot(LotAnswer::Refused(error(Reason::AccessDenied))),
        None => answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))),
    };
    for count in [2, 3, 4, 10] {
        let mut world = World::new();
        let names = all(count);
        // So few may as well be refused for one of them: it takes longer to be sure.
        for _ in 0..if count > 3 { 1 } else { 70 } {
            for name in &names {
                world.ask(name, Lane::New, &[name]);
            }
            world.run(61, forbidden);
            assert!(names.iter().all(|name| world.took(name).is_some()));
        }
        assert_eq!(world.denied, 1, "with {count}: {:?}", world.calls);
        assert!(world.calls.iter().filter(|call| call.len() > 1).count() <= 12, "{:?}", world.calls);
        world.calls.clear();
        for name in &names {
            world.ask(name, Lane::Event, &[name]);
        }
        world.run(1, forbidden);
        assert_eq!(world.calls.len(), count);
    }
}

/// As `GetParameters` does it where somebody may be read with `GetParameter` only: the whole call is refused, and alone all work.
fn alone_only<'a>(culprits: &'a [&str]) -> impl FnMut(&Call) -> Outcome + 'a {
    move |call| {
        let guilty = |question: &Arc<Question>| culprits.iter().any(|culprit| question.to_string().ends_with(culprit));
        if call.lot.is_some() && call.questions.iter().any(guilty) {
            return Outcome::Lot(LotAnswer::Refused(error(Reason::AccessDenied)));
        }
        answered(call, |question| Some(Ok(reading(call.scope, question, "v1"))))
    }
}

/// Whether these, and nobody else, were read alone.
fn only_these_alone(world: &World, culprits: &[&str]) -> bool {
    world.calls.iter().all(|call| (call.len() == 1) == call.iter().any(|name| culprits.contains(&name.as_str())))
}

#[test]
fn who_works_only_alone_is_kept_from_company_and_nobody_else_notices() {
    for (count, culprit) in (0..20).map(|place| (20, place)).chain([(200, 7), (3, 1), (5, 4), (65, 64)]) {
        let mut world = World::new();
        let names = all(count);
        let culprits = [&*names[culprit]];
        for name in &names {
            world.watch(name, name, "v1", 0);
        }
        // Of three, it takes a while until anything is known of the others.
        world.run(if count > 3 { 90 } else { 300 }, alone_only(&culprits));
        assert!(world.calls.len() <= count.div_ceil(20) * 3 + 25, "{count}, {culprit}: {:?}", world.calls);
        world.calls.clear();
        world.run(3000, alone_only(&culprits));
        assert!(only_these_alone(&world, &culprits), "{count}, {culprit}: {:?}", world.calls);
        world.calls.clear();
        // It is tried with one other now and then.
        world.run(3 * 3600, alone_only(&culprits));
        let together: Vec<_> = world.calls.iter().filter(|call| call.len() > 1 && call.contains(&names[culprit])).collect();
        assert!((2..=3).contains(&together.len()) && together.iter().all(|call| call.len() == 2), "{count}, {culprit}: {together:?}");
        assert!(world.calls.iter().filter(|call| call.len() == 1 && call[0] != names[culprit]).count() <= 6, "{count}, {culprit}");
        assert_eq!(world.denied, 0, "{count}, {culprit}");
        assert!(world.woken.is_empty() && world.table.scopes[&ScopeId(1)].proofs.is_empty());
        // Once company takes it, it stays there.
        world.run(2 * 3600, alone_only(&[]));
        world.calls.clear();
        world.run(600, alone_only(&[]));
        assert!(only_these_alone(&world, &[]), "{count}, {culprit}: {:?}", world.calls);
    }
}

#[test]
fn a_tenant_all_of_whose_references_work_only_alone_keeps_nobody_else_from_company() {
    let mut world = World::new();
    let names = all(120);
    let culprits: Vec<&str> = names.iter().step_by(3).map(String::as_str).collect();
    for name in &names {
        world.watch(name, name, "v1", 0);
    }
    world.run(300, alone_only(&culprits));
    world.calls.clear();
    world.run(600, alone_only(&culprits));
    assert!(only_these_alone(&world, &culprits), "{:?}", world.calls);
    assert!(world.denied == 0 && world.woken.is_empty());
}

#[test]
fn two_who_meet_first_do_not_tell_that_company_is_forbidden() {
    // Nobody else was there to tell by.
    let mut world = World::new();
    for name in ["bad", "good"] {
        world.watch(name, name, "v1", 0);
    }
    world.run(2, alone_only(&["bad"]));
    for name in all(98) {
        world.watch(&name, &name, "v1", 0);
    }
    world.run(300, alone_only(&["bad"]));
    world.calls.clear();
    world.run(300, alone_only(&["bad"]));
    assert!(only_these_alone(&world, &["bad"]) && world.denied == 0, "{:?}", world.calls);
}

#[test]
fn a_permission_to_read_in_company_that_is_taken_away_is_noticed_at_once() {
    let mut world = World::new();
    let names = all(100);
    for (place, name) in names.iter().enumerate() {
        world.watch(name, name, "v1", u64::try_from(place).expect("seconds") / 2);
    }
    world.run(90, alone_only(&[]));
    let everybody: Vec<&str> = names.iter().map(String::as_str).collect();
    world.calls.clear();
    world.run(300, alone_only(&everybody));
    assert_eq!(world.denied, 1, "{:?}", world.calls);
    let company = world.calls.iter().filter(|call| call.len() > 1).count();
    assert!(company <= 30, "{company}: {:?}", world.calls);
    assert!(world.woken.is_empty() && world.table.scopes[&ScopeId(1)].proofs.is_empty());
}

#[test]
fn one_that_is_throttled_by_itself_neither_slows_the_account_nor_keeps_company() {
    let mut world = World::new();
    let names = all(20);
    for name in &names {
        world.watch(name, name, "v1", 0);
    }
    let throttle = || ReadError { own: true, ..error(Reason::Throttled) };
    let throttled = |call: &Call| {
        answered(call, |question| Some(if question.to_string().ends_with("s0004") { Err(throttle()) } else { Ok(reading(call.scope, question, "v1")) }))
    };
    world.run(300, throttled);
    assert!(matches!(world.table.news(&key("s0004")), Some(News::Failed(error)) if error.reason == Reason::Throttled));
    assert_eq!(world.woken, [("s0004".into(), Lane::Drift)]);
    let account: Arc<str> = Arc::from("account");
    for (family, ceiling) in [(SINGLE, 500.0_f64), (BATCH, 50.0)] {
        let rate = world.table.budgets().lock().unwrap().bucket(&(account.clone(), family)).map(|bucket| bucket.rate().to_bits());
        assert_eq!(rate, Some(ceiling.to_bits()));
    }
    assert!(world.calls[1..].iter().all(|call| (call.len() == 1) == (call[0] == "s0004")), "{:?}", world.calls);
}

#[test]
fn a_call_that_is_refused_again_and_again_for_the_sake_of_one_key_is_taken_apart() {
    let throttle = || ReadError { own: true, ..error(Reason::Throttled) };
    let throttled = |call: &Call| {
        let guilty = |question: &Question| question.to_string().ends_with("s0004");
        match call.lot {
            Some(_) if call.questions.iter().any(|question| guilty(question)) => Outcome::Lot(LotAnswer::Refused(throttle())),
            _ => answered(call, |question| Some(if guilty(question) { Err(throttle()) } else { Ok(reading(call.scope, question, "v1")) })),
        }
    };
    let mut world = World::new();
    let names = all(20);
    for name in &names {
        world.watch(name, name, "v1", 0);
        world.ask(name, Lane::New, &[name]);
    }
    world.run(8, throttled);
    for name in &names {
        assert_eq!(world.took(name).map(|answers| answers[0] == "Throttled"), Some(name == "s0004"), "{name}: {:?}", world.calls);
    }
    assert!(world.calls.len() <= 14, "{:?}", world.calls);
    world.calls.clear();
    world.run(300, throttled);
    assert!(only_these_alone(&world, &["s0004"]) && world.denied == 0, "{:?}", world.calls);
}

#[test]
fn a_part_of_a_refused_call_that_is_throttled_is_told_too() {
    let mut world = World::new();
    world.watch("watches", "a", "v1", 0);
    world.ask("waits", Lane::New, &["b"]);
    world.run(60 + 15, |call| match call.lot {
        Some(_) => Outcome::Lot(LotAnswer::Refused(error(Reason::AccessDenied))),
        None => Outcome::One(Err(error(Reason::Throttled))),
    });
    assert_eq!(world.took("waits"), Some(vec!["Throttled".into()]));
    assert!(matches!(world.table.news(&key("watches")), Some(News::Failed(error)) if error.reason == Reason::Throttled));
    assert!(world.table.scopes[&ScopeId(1)].proofs.is_empty(), "nobody will know any more");
}

#[test]
fn an_outage_costs_no_more_calls_than_health() {
    // All that fails retries by itself, after pauses that grow and are spread.
    let (names, mut failures) = (all(200), HashMap::<String, u32>::new());
    let mut world = World::new();
    let mut retries: BTreeSet<(Instant, String)> = names.iter().map(|name| (world.now, name.clone())).collect();
    let (start, mut calls) = (world.now, Vec::new());
    while world.now < start + Duration::from_secs(3600) {
        while let Some((when, name)) = retries.pop_first() {
            if when > world.now {
                retries.insert((when, name));
                break;
            }
            world.ask(&name, Lane::Drift, &[&name]);
        }
        let (next, before) = (retries.first().map(|(when, _)| *when), world.calls.len());
        // A moment after another, as they come.
        let step = next
            .map_or(Duration::from_millis(200), |next| next.saturating_duration_since(world.now).clamp(Duration::from_millis(1), Duration::from_millis(200)));
        world.run_for(step, |call| match call.lot {
            Some(_) => Outcome::Lot(LotAnswer::Failed(error(Reason::ProviderUnavailable))),
            None => Outcome::One(Err(error(Reason::ProviderUnavailable))),
        });
        calls.extend((before..world.calls.len()).map(|_| world.now));
        for (name, _) in std::mem::take(&mut world.woken) {
            assert_eq!(world.took(&name), Some(vec!["ProviderUnavailable".into()]));
            let count = failures.entry(name.clone()).or_default();
            *count += 1;
            let pause = crate::controller::schedule::until_retry(Reason::ProviderUnavailable, *count, Duration::from_secs(900), &name);
            retries.insert((world.now + pause.expect("a retry"), name));
        }
    }
    // The pauses are five minutes by then: a round of all takes as many calls as they fit into, and a few that are not full.
    let round = |minute: u64| calls.iter().filter(|when| (minute..minute + 5).contains(&((**when - start).as_secs() / 60))).count();
    let rounds: Vec<usize> = (0..12).map(|round| round * 5).map(round).collect();
    assert!(rounds[2..].iter().all(|calls| *calls <= 20), "{rounds:?}");
    assert!(failures.values().all(|count| *count >= 12), "{failures:?}");
}

#[test]
fn what_the_store_leaves_out_is_read_alone_once() {
    let mut world = World::new();
    for name in ["a", "b"] {
        world.ask(name, Lane::New, &[name]);
    }
    world.run(1, |call| {
        answered(call, |question| match call.lot {
            Some(_) if question.to_string().ends_with('a') => None,
            _ => Some(Ok(reading(call.scope, question, "v1"))),
        })
    });
    assert_eq!(world.calls, [vec!["a", "b"], vec!["a"]]);
    assert!(world.took("a").is_some() && world.took("b").is_some());
}

#[test]
fn a_throttled_call_goes_back_to_its_lane_and_costs_budget() {
    let mut world = World::new();
    world.ask("a", Lane::New, &["x"]);
    world.watch("b", "y", "v1", 0);
    let mut throttles = 3;
    world.run(20, |call| {
        if throttles > 0 {
            throttles -= 1;
            return Outcome::Lot(LotAnswer::Failed(error(Reason::Throttled)));
        }
        answered(call, |question| Some(Ok(reading(call.scope, question, "v1"))))
    });
    assert_eq!(world.took("a"), Some(vec!["1/aws.sm://x/v1".into()]));
    assert_eq!(world.woken, [("a".into(), Lane::New)]);
}

#[test]
fn who_waits_for_long_behind_a_throttle_is_told() {
    let mut world = World::new();
    world.ask("a", Lane::New, &["x"]);
    world.watch("b", "y", "v1", 0);
    world.run(9, |_| Outcome::Lot(LotAnswer::Failed(error(Reason::Throttled))));
    assert!(world.woken.is_empty());
    world.run(4, |_| Outcome::Lot(LotAnswer::Failed(error(Reason::Throttled))));
    assert_eq!(world.took("a"), Some(vec!["Throttled".into()]));
    assert!(world.table.news(&key("b")).is_none());
    world.run(60, |_| Outcome::Lot(LotAnswer::Failed(error(Reason::Throttled))));
    assert!(matches!(world.table.news(&key("b")), Some(News::Failed(error)) if error.reason == Reason::Throttled));
    assert!(world.calls.len() < 150, "{} calls in 73 s", world.calls.len());
}

#[test]
fn a_scope_that_hangs_is_asked_by_one_call_at_a_time_and_delays_no_other() {
    let mut world = World::new();
    world.ask("a", Lane::New, &["a"]);
    let first = world.after(5).poll();
    world.ask("b", Lane::New, &["b"]);
    let second = world.after(100).poll();
    world.table.ask(&key("spans"), Lane::New, &[item(1, "c"), item(2, "c")], world.now);
    let third = world.after(100).poll();
    assert_eq!(third.iter().map(|call| call.scope.0).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
    let healthy = third.iter().find(|call| call.scope == ScopeId(2)).expect("a call of the healthy scope");
    world.answer(healthy, "v1");
    world.after(4800);
    world.finish(&first[0], Outcome::TimedOut);
    world.finish(&second[0], Outcome::TimedOut);
    world.ask("d", Lane::New, &["d"]);
    assert!(world.poll().is_empty(), "the scope's breaker is open");
    assert_eq!(world.took("d"), Some(vec!["ProviderUnavailable".into()]));
    // The healthy half of a resource that spans both waits for the other half, which fails soon.
    let hung = third.iter().find(|call| call.scope == ScopeId(1)).expect("a call of the hung scope");
    world.finish(hung, Outcome::TimedOut);
    assert_eq!(world.took("spans"), Some(vec!["ProviderUnavailable".into(), "2/aws.sm://c/v1".into()]));
    world.ask("e", Lane::New, &["e"]);
    let todo = world.table.poll(world.now);
    assert!(todo.calls.is_empty());
    // One probe, and when it is answered all go again.
    world.after(2000);
    world.ask("f", Lane::New, &["f"]);
    let probe = world.after(5).poll();
    assert_eq!(probe.len(), 1);
    world.ask("g", Lane::New, &["g"]);
    assert!(world.after(200).poll().is_empty());
    assert_eq!(world.took("g"), Some(vec!["ProviderUnavailable".into()]));
    world.answer(&probe[0], "v1");
    world.ask("h", Lane::New, &["h"]);
    assert_eq!(world.after(5).poll().len(), 1);
}

#[test]
fn what_hangs_takes_nobody_along_twice() {
    let hangs = |call: &Call| {
        if call.questions.iter().any(|question| question.to_string().ends_with("bad")) {
            return Outcome::TimedOut;
        }
        answered(call, |question| Some(Ok(reading(call.scope, question, "v1"))))
    };
    let mut world = World::new();
    for name in ["a", "b", "bad"] {
        world.ask(name, Lane::New, &[name]);
    }
    world.run(1, hangs);
    assert_eq!(world.took("a"), Some(vec!["ProviderUnavailable".into()]));
    for _ in 0..3 {
        for name in ["a", "b", "bad"] {
            world.ask(name, Lane::New, &[name]);
        }
        world.run(1, hangs);
        assert!(world.took("a").is_some_and(|answers| answers[0].ends_with("v1")));
        assert_eq!(world.took("bad"), Some(vec!["ProviderUnavailable".into()]));
    }
    // From the second time on the others travel in company again.
    assert_eq!(world.calls.iter().filter(|call| call.len() == 2).count(), 2, "{:?}", world.calls);
}

#[test]
fn a_panic_fails_only_its_own_call() {
    let mut world = World::new();
    world.ask("a", Lane::New, &["a"]);
    let first = world.after(5).poll();
    world.ask("b", Lane::New, &["b"]);
    let second = world.after(100).poll();
    world.finish(&first[0], Outcome::Panicked);
    world.answer(&second[0], "v1");
    assert_eq!((world.took("a"), world.took("b")), (Some(vec!["InternalError".into()]), Some(vec!["1/aws.sm://b/v1".into()])));
}

#[test]
fn so_much_is_read_ahead_and_no_more() {
    let mut world = World::new();
    let names = all(2000);
    for name in &names {
        world.ask(name, Lane::New, &[name]);
    }
    let large = |call: &Call| {
        answered(call, |_| {
            let value = Value::Binary(Sensitive::new(vec![0; 64 << 10]));
            Some(Ok(Reading { value, version: version("v1"), denotes: Vec::new(), record: None }))
        })
    };
    world.run(10, large);
    let held = world.table.held.load(Ordering::Relaxed);
    // Before the first answer nobody knows how large the values are.
    assert!(held <= leaving::SCOPE_BYTES + 64 * 20 * (64 << 10) / 8, "{held} bytes");
    let calls = world.calls.len();
    assert!(calls < 20, "{calls}");
    // As they are used, the rest follows.
    for _ in 0..200 {
        for (name, _) in std::mem::take(&mut world.woken) {
            drop(world.table.take(&key(&name)));
        }
        world.run(1, large);
    }
    assert_eq!(world.calls.iter().map(Vec::len).sum::<usize>(), 2000);
}

#[test]
fn so_much_is_held_over_all_scopes_and_no_more() {
    let mut world = World::new();
    for scope in 3..=20 {
        let account = Arc::from("account");
        world.table.open(ScopeId(scope), Arc::clone(&account));
        world.table.budgets().lock().unwrap().enlist(&scope.to_string(), &account, SINGLE, 500.0, world.now);
    }
    let large = |call: &Call| {
        answered(call, |_| {
            let value = Value::Binary(Sensitive::new(vec![0; 1 << 20]));
            Some(Ok(Reading { value, version: version("v1"), denotes: Vec::new(), record: None }))
        })
    };
    let single = |scope, name: &str| Item { route: Route { lot: None, ..item(scope, name).route }, ..item(scope, name) };
    // Once each scope knows how large its values are,
    for scope in 1..=20 {
        world.table.ask(&key("first"), Lane::New, &[single(scope, "first")], world.now);
        world.run(1, large);
        assert!(world.table.take(&key("first")).is_some());
    }
    world.woken.clear();
    // each has room for three, and all together for more than all may have.
    for scope in 1..=20 {
        for name in ["a", "b", "c"] {
            world.table.ask(&key(&format!("{name}-{scope}")), Lane::New, &[single(scope, name)], world.now);
        }
    }
    let mut answers = 0;
    for _ in 0..60 {
        world.run(1, large);
        let held = world.table.held.load(Ordering::Relaxed);
        assert!(held <= leaving::ALL_BYTES, "{held} bytes");
        assert!(answers > 0 || held > leaving::ALL_BYTES - (2 << 20), "{held} bytes: there was room for more");
        let Some((name, _)) = world.woken.pop() else { break };
        answers += usize::from(world.table.take(&key(&name)).is_some());
    }
    for (name, _) in std::mem::take(&mut world.woken) {
        answers += usize::from(world.table.take(&key(&name)).is_some());
    }
    assert_eq!(answers, 60);
}

#[test]
fn a_service_that_hangs_takes_no_calls_from_another() {
    let mut world = World::new();
    let of = |name: &str, service| Item { route: Route { lot: None, service, ..item(1, name).route }, ..item(1, name) };
    for name in all(40) {
        world.table.ask(&key(&name), Lane::New, &[of(&name, "aws.sm")], world.now);
    }
    assert_eq!(world.poll().len(), 32);
    world.table.ask(&key("other"), Lane::New, &[of("other", "aws.ps")], world.now);
    assert_eq!(world.poll().iter().map(names).collect::<Vec<_>>(), [["other"]]);
}

#[test]
fn who_was_failed_by_a_store_is_told_once_when_it_answers_again() {
    let mut world = World::new();
    for name in ["a", "b"] {
        world.table.strand(&key(name), &[(ScopeId(1), "aws.sm")]);
    }
    world.table.strand(&key("elsewhere"), &[(ScopeId(1), "aws.ps"), (ScopeId(2), "aws.sm")]);
    world.table.strand(&key("gone"), &[(ScopeId(1), "aws.sm")]);
    world.table.forget(&key("gone"), world.now);
    world.ask("asks", Lane::New, &["x"]);
    world.run(1, |call| answered(call, |_| Some(Err(error(Reason::ProviderUnavailable)))));
    assert_eq!(world.woken, [("asks".into(), Lane::New)], "an error is no recovery");
    world.ask("asks", Lane::New, &["x"]);
    world.run(1, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
    assert_eq!(world.woken[1..], [("asks".into(), Lane::New), ("a".into(), Lane::Drift), ("b".into(), Lane::Drift)]);
    assert!(matches!(world.table.news(&key("a")), Some(News::Recovered)));
    // A store that answers now and then is not asked by all each time.
    world.table.strand(&key("a"), &[(ScopeId(1), "aws.sm")]);
    for (seconds, told) in [(5, 3), (5, 4)] {
        world.after(seconds * 1000).ask("asks", Lane::New, &["x"]);
        world.run(1, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
        assert_eq!(world.woken.iter().filter(|(_, lane)| *lane == Lane::Drift).count(), told - 1);
    }
    for name in ["a", "b", "elsewhere", "asks"] {
        world.table.forget(&key(name), world.now);
    }
    assert!(world.table.askers.is_empty());
}

#[test]
fn scopes_of_one_account_take_turns() {
    let mut world = World::new();
    for i in 0..200 {
        let name = format!("s{i:04}");
        world.table.ask(&key(&format!("one-{name}")), Lane::Event, &[item(1, &name)], world.now);
        world.table.ask(&key(&format!("two-{name}")), Lane::Event, &[item(2, &name)], world.now);
    }
    let mut scopes = Vec::new();
    world.run(1, |call| {
        scopes.push(call.scope.0);
        answered(call, |question| Some(Ok(reading(call.scope, question, "v1"))))
    });
    assert_eq!(scopes.len(), 20);
    assert!(scopes.chunks(2).all(|pair| pair[0] != pair[1]), "{scopes:?}");
}

#[test]
fn a_closed_scope_lets_go_of_everybody() {
    let mut world = World::new();
    world.watch("a", "x", "v1", 0);
    let calls = world.poll();
    world.ask("b", Lane::New, &["y"]);
    let mut gone: Vec<String> = world.table.close(ScopeId(1), world.now).iter().map(|key| key.1.clone()).collect();
    gone.sort();
    assert_eq!(gone, ["a", "b"]);
    world.answer(&calls[0], "v2");
    assert!(world.woken.is_empty() && world.table.entries.is_empty() && world.table.askers.is_empty());
    world.ask("b", Lane::New, &["y"]);
    assert!(world.poll().is_empty());
    assert_eq!(world.took("b"), Some(vec!["ProviderUnavailable".into()]));
}

#[test]
fn a_part_that_nobody_wants_any_more_costs_no_call_and_holds_up_nobody() {
    let mut world = World::new();
    world.ask("a", Lane::New, &["x", "y"]);
    world.ask("b", Lane::New, &["z", "w"]);
    let calls = world.after(10).poll();
    assert_eq!(calls.len(), 1);
    world.finish(&calls[0], Outcome::Lot(LotAnswer::Refused(error(Reason::AccessDenied))));
    world.table.unask(&key("a"));
    world.table.unask(&key("b"));
    assert!(world.table.entries.is_empty(), "{:?}", world.table.entries);
    world.ask("c", Lane::New, &["v"]);
    world.run(1, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
    assert_eq!(world.calls[1..], [["v"]]);
    assert!(world.took("c").is_some());
    // Nor does anything stay of what a part was to tell.
    world.ask("a", Lane::New, &["x", "y"]);
    let calls = world.after(10).poll();
    world.finish(&calls[0], Outcome::Lot(LotAnswer::Refused(error(Reason::AccessDenied))));
    world.table.unask(&key("a"));
    assert!(world.table.scopes[&ScopeId(1)].proofs.is_empty());
}

/// What happens next in a random history.
#[derive(Clone, Debug)]
enum Deed {
    Ask { asker: u8, lane: u8, items: Vec<(u64, u8)> },
    Unask(u8),
    Watch { asker: u8, items: Vec<(u64, u8)>, ttl: u8 },
    Unwatch(u8),
    Take(u8),
    Wait(u16),
    Land { which: u8, how: u8 },
    Strand { asker: u8, scope: u64 },
    Reopen,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let items = || proptest::collection::vec((1_u64..3, 0_u8..36), 1..4);
    let deed = prop_oneof![
        4 => (0_u8..12, 0_u8..4, items()).prop_map(|(asker, lane, items)| Deed::Ask { asker, lane, items }),
        1 => (0_u8..12).prop_map(Deed::Unask),
        2 => (0_u8..12, items(), 10_u8..100).prop_map(|(asker, items, ttl)| Deed::Watch { asker, items, ttl }),
        1 => (0_u8..12).prop_map(Deed::Unwatch),
        3 => (0_u8..12).prop_map(Deed::Take),
        4 => (0_u16..3000).prop_map(Deed::Wait),
        5 => (any::<u8>(), 0_u8..14).prop_map(|(which, how)| Deed::Land { which, how }),
        1 => (0_u8..12, 1_u64..3).prop_map(|(asker, scope)| Deed::Strand { asker, scope }),
        1 => Just(Deed::Reopen),
    ];
    proptest::collection::vec(deed, 1..250)
}

/// Something to ask in each scope: names of which several denote the same thing, names that are never read in company, and listings.
fn any_item(scope: u64, number: u8) -> Item {
    match number {
        33.. => Item { scope: ScopeId(scope), ..listing(&format!("l{number}")) },
        30.. => Item { route: Route { lot: None, ..item(scope, "s").route }, ..item(scope, &format!("s{number}")) },
        20.. => item(scope, &format!("N{}", number - 20)),
        _ => item(scope, &format!("n{number}")),
    }
}

fn outcome(call: &Call, how: u8) -> Outcome {
    let good = |question: &Question| Some(Ok(reading(call.scope, question, "v1")));
    match (how, call.lot) {
        (0, _) => Outcome::TimedOut,
        (1, _) => Outcome::Panicked,
        (2, Some(_)) => Outcome::Lot(LotAnswer::Refused(error(Reason::AccessDenied))),
        (3, Some(_)) => Outcome::Lot(LotAnswer::Refused(error(Reason::SourceNotFound))),
        (4, Some(_)) => Outcome::Lot(LotAnswer::Denied(error(Reason::AccessDenied))),
        (5, Some(_)) => Outcome::Lot(LotAnswer::Failed(error(Reason::Throttled))),
        (5, None) => Outcome::One(Err(error(Reason::Throttled))),
        (6, Some(_)) => Outcome::Lot(LotAnswer::Failed(error(Reason::ProviderUnavailable))),
        (7, _) => answered(call, |question| if question.to_string().ends_with('3') { None } else { good(question) }),
        (8, _) => answered(call, |question| if question.to_string().ends_with('4') { Some(Err(error(Reason::AccessDenied))) } else { good(question) }),
        (9, _) => answered(call, |question| Some(Ok(reading(call.scope, question, "v2")))),
        (12, Some(_)) => Outcome::Lot(LotAnswer::Refused(ReadError { own: true, ..error(Reason::Throttled) })),
        (12 | 13, _) => answered(call, |question| {
            let own = || Err(ReadError { own: true, ..error(Reason::Throttled) });
            if question.to_string().ends_with('5') { Some(own()) } else { good(question) }
        }),
        _ => answered(call, good),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Whatever mix of resources, aliases and scopes: a value read under one scope is never delivered to somebody who asked another, nor
    /// one of another reference; no call holds two names of one thing; and once the store is well, everybody gets all answers.
    #[test]
    fn values_stay_in_their_scope_and_every_ask_is_answered(deeds in deeds()) {
        let mut world = World::new();
        let lanes = [Lane::New, Lane::Event, Lane::Drift, Lane::Periodic];
        let mut asked: HashMap<u8, Vec<(u64, u8)>> = HashMap::new();
        let mut flying: Vec<Call> = Vec::new();
        let check = |wanted: &[(u64, u8)], answers: &[Answer]| {
            prop_assert_eq!(wanted.len(), answers.len());
            for ((scope, number), answer) in wanted.iter().zip(answers) {
                if answer.is_ok() {
                    let text = text(answer);
                    let question = any_item(*scope, *number).question;
                    prop_assert!(text.starts_with(&format!("{scope}/{question}/")), "{} was given for {} in {}", text, question, scope);
                }
            }
            Ok(())
        };
        for deed in deeds {
            let items = |items: &[(u64, u8)]| -> Vec<Item> { items.iter().map(|(scope, number)| any_item(*scope, *number)).collect() };
            match deed {
                Deed::Ask { asker, lane, items: wanted } => {
                    world.table.ask(&key(&asker.to_string()), lanes[usize::from(lane)], &items(&wanted), world.now);
                    asked.insert(asker, wanted);
                }
                Deed::Unask(asker) => {
                    world.table.unask(&key(&asker.to_string()));
                    asked.remove(&asker);
                }
                Deed::Watch { asker, items: wanted, ttl } => {
                    let rechecks = items(&wanted).into_iter().map(|item| Recheck { item, expected: Expected::Version((&version("v1")).into()), checked: None, due: world.now + Duration::from_secs(u64::from(ttl) / 2) });
                    world.table.watch(&key(&asker.to_string()), Duration::from_secs(ttl.into()), rechecks.collect(), world.now);
                }
                Deed::Unwatch(asker) => world.table.unwatch(&key(&asker.to_string()), world.now),
                Deed::Take(asker) => {
                    if let Some(answers) = world.table.take(&key(&asker.to_string())) {
                        let wanted = asked.remove(&asker);
                        prop_assert!(wanted.is_some(), "an answer that nobody asked for");
                        check(&wanted.unwrap_or_default(), &answers)?;
                    }
                }
                Deed::Wait(millis) => drop(world.after(millis.into())),
                Deed::Land { which, how } => {
                    if !flying.is_empty() {
                        let call = flying.remove(usize::from(which) % flying.len());
                        let outcome = outcome(&call, how);
                        world.finish(&call, outcome);
                    }
                }
                Deed::Strand { asker, scope } => world.table.strand(&key(&asker.to_string()), &[(ScopeId(scope), "aws.sm")]),
                Deed::Reopen => {
                    for key in world.table.close(ScopeId(2), world.now) {
                        asked.retain(|asker, _| asker.to_string() != key.1);
                    }
                    world.table.open(ScopeId(2), Arc::from("account"));
                    flying.retain(|call| call.scope != ScopeId(2));
                }
            }
            let calls = world.poll();
            for call in &calls {
                let distinct: BTreeSet<String> = names(call).iter().map(|name| name.to_lowercase()).collect();
                prop_assert_eq!(distinct.len(), call.questions.len(), "two names of one thing: {:?}", names(call));
                prop_assert!(call.questions.len() <= LOT.size);
            }
            flying.extend(calls);
        }
        // The store is well from here on.
        for call in flying {
            world.answer(&call, "v1");
        }
        world.run(40, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
        for (asker, wanted) in asked {
            let answers = world.table.take(&key(&asker.to_string()));
            prop_assert!(answers.is_some(), "asker {} waits for ever for {:?}: {:?}", asker, wanted, world.table);
            check(&wanted, &answers.unwrap_or_default())?;
        }
        // Nothing is left of those who are gone.
        for asker in 0..12_u8 {
            world.table.forget(&key(&asker.to_string()), world.now);
        }
        world.run(1, |call| answered(call, |question| Some(Ok(reading(call.scope, question, "v1")))));
        prop_assert!(world.table.entries.is_empty() && world.table.askers.is_empty() && world.table.by_question.is_empty(), "{:?}", world.table);
        prop_assert_eq!((world.table.complete, world.table.held.load(Ordering::Relaxed), world.table.flights.len()), (0, 0, 0));
        for scope in world.table.scopes.values() {
            prop_assert_eq!((scope.flying, scope.expected, scope.held.load(Ordering::Relaxed)), (0, 0, 0));
            prop_assert!(scope.proofs.is_empty() && scope.suspects.is_empty() && scope.stranded.values().all(BTreeSet::is_empty), "{:?}", scope);
            prop_assert!(scope.lines.values().all(|line| line.is_empty() && line.flying == 0), "{:?}", scope.lines);
        }
    }
}
