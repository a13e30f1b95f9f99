//! Whatever fails, and whichever policies hold: no good key is lost, none is kept that is gone, the resource says what is wrong while it
//! lasts, and all is well again by itself.
//!
//! A fault is a row of [`FAULTS`] and a scene. In each scene stands a resource for every policy and kind of content
//! ([`combinations`]), and a [`witness`] sees every version that their Secrets ever have. While the fault lasts, one source of each content
//! is rotated and one deleted; when it is over, the one has to arrive and the other to go, with the proof that an absence takes. All scenes
//! run beside each other; a scene takes as long as its fault, and that proof.

mod combinations;
mod witness;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use testbed::{
    Door,
    front::{Answer, Call, Cut, Fault},
};
use tokio::sync::Semaphore;

use self::{
    combinations::{Combination, Content, Data, Group, change, plant},
    witness::Witness,
};
use crate::support::{SECONDS, Scene, emulated_before_controller, no_status, root, until, world};

/// How long after a first look nothing is removed.
const PROOF: Duration = Duration::from_secs(60);
/// How long it may take until a fault is told: a TTL, twice for who has to be late first, on a machine that is busy with all scenes.
const TOLD: Duration = Duration::from_secs(90);
/// How long it may take until all is well after a fault: the longest pause that its length leads to, and the same.
const RECOVERED: Duration = Duration::from_secs(90);
/// How many scenes are set up at once: a machine that is busy with more is slower for all.
static SETTING_UP: Semaphore = Semaphore::const_new(4);

/// What goes wrong.
struct Row {
    /// The name of its scene.
    name: &'static str,
    trouble: Trouble,
    /// How long it lasts at least.
    lasts: Duration,
    /// What Ready and Fresh say meanwhile.
    says: [&'static str; 2],
}

enum Trouble {
    /// Calls are answered otherwise than they should, from here on until that is taken back.
    Store(Hits, fn(&Scene)),
    /// The API server can't be reached.
    ApiServer,
    /// The controller is killed with signal 9.
    Killed(When),
    /// The namespace is deleted, while the store can't be reached.
    Namespace,
}

/// Who can't be read because of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Hits {
    Everybody,
    /// Whoever reads the source `a`.
    A,
    Nobody,
}

/// When the controller is killed.
#[derive(Clone, Copy)]
enum When {
    /// After it read what is new, before it wrote that.
    Read,
    /// After it wrote the Secrets, before any status.
    Written,
    /// After it wrote the statuses.
    Told,
}

const CALM: [&str; 2] = ["True Mirrored", "True Verified"];
const THROTTLED: [&str; 2] = ["True Mirrored", "False Throttled"];
const UNAVAILABLE: [&str; 2] = ["True Mirrored", "False ProviderUnavailable"];
const DENIED: [&str; 2] = ["False AccessDenied", "False AccessDenied"];

const fn store(name: &'static str, says: [&'static str; 2], hits: Hits, begin: fn(&Scene)) -> Row {
    Row { name, trouble: Trouble::Store(hits, begin), lasts: Duration::from_secs(25), says }
}

const fn other(name: &'static str, trouble: Trouble) -> Row {
    Row { name, trouble, lasts: Duration::from_secs(20), says: CALM }
}

const FAULTS: &[Row] = &[
    Row { lasts: Duration::from_secs(60), ..store("fault-throttled", THROTTLED, Hits::Everybody, |s| _ = s.front.throttle()) },
    store("fault-denied-one", DENIED, Hits::A, |s| deny(s, &[Group::Kept], &["a"])),
    store("fault-denied-all", DENIED, Hits::Everybody, |s| deny(s, &Group::ALL, &["a", "b", "goes", "stays"])),
    store("fault-half-batch", CALM, Hits::Nobody, |s| pass_over(s, is_batch)),
    store("fault-short-list", CALM, Hits::Nobody, |s| pass_over(s, is_list)),
    store("fault-empty-pages", CALM, Hits::Nobody, |s| _ = s.front.always(Answer::Pages { size: 1, empty_between: true })),
    store("fault-stale", CALM, Hits::Nobody, |s| _ = s.emulator().stale_for(Duration::from_secs(15))),
    store("fault-expired", UNAVAILABLE, Hits::Everybody, expire),
    store("fault-http-500", UNAVAILABLE, Hits::Everybody, |s| _ = s.front.fail(500)),
    store("fault-http-503", UNAVAILABLE, Hits::Everybody, |s| _ = s.front.fail(503)),
    store("fault-hang", UNAVAILABLE, Hits::Everybody, |s| _ = s.front.hang()),
    store("fault-malformed", UNAVAILABLE, Hits::Everybody, |s| _ = s.front.malformed()),
    store("fault-cut", UNAVAILABLE, Hits::Everybody, |s| _ = s.front.cut(Cut::Body)),
    store("fault-down", UNAVAILABLE, Hits::Everybody, |s| s.front.down().unwrap()),
    other("fault-api-server", Trouble::ApiServer),
    other("fault-killed-read", Trouble::Killed(When::Read)),
    other("fault-killed-written", Trouble::Killed(When::Written)),
    other("fault-killed-told", Trouble::Killed(When::Told)),
    other("fault-namespace", Trouble::Namespace),
];

/// These sources may not be read. AWS knows no such right for a single parameter below a path, but for the path.
fn deny(s: &Scene, groups: &[Group], keys: &[&str]) {
    for group in groups {
        for content in Content::ALL {
            for key in keys {
                s.front.deny(&content.id(s, *group, key));
            }
        }
        let id = Content::ByPath.id(s, *group, "");
        let listed = id.trim_end_matches('/').to_owned();
        let is_it = move |call: &Call| call.action == "GetParametersByPath" && call.ids.iter().any(|id| id.trim_end_matches('/') == listed);
        s.front.add_fault(Fault::new(is_it, Answer::Denied { id }));
    }
}

/// These answers say nothing about half of all sources, which are there or not all the same.
fn pass_over(s: &Scene, which: fn(&Call) -> bool) {
    for content in Content::ALL {
        for (group, key) in [(Group::Kept, "a"), (Group::Lost, "goes"), (Group::Lost, "stays")] {
            s.front.add_fault(Fault::new(which, Answer::LeftOut { id: content.id(s, group, key) }));
        }
    }
}

fn is_batch(call: &Call) -> bool {
    matches!(call.action.as_str(), "BatchGetSecretValue" | "GetParameters")
}

fn is_list(call: &Call) -> bool {
    matches!(call.action.as_str(), "ListSecrets" | "GetParametersByPath")
}

/// Answers come in pages, and after a first page for each action the credentials have run out.
fn expire(s: &Scene) {
    s.front.always(Answer::Pages { size: 1, empty_between: false });
    for action in ["BatchGetSecretValue", "GetParameters", "ListSecrets", "GetParametersByPath"] {
        let before = AtomicUsize::new(0);
        let expired =
            Answer::Error { status: 400, code: "ExpiredTokenException".into(), message: "The security token included in the request is expired".into() };
        s.front.add_fault(Fault::new(move |call| call.action == action && before.fetch_add(1, Ordering::Relaxed) > 0, expired.clone()));
        s.front.add_fault(Fault::new(|call| !is_batch(call) && !is_list(call), expired));
    }
}

#[test]
fn whatever_fails_no_good_key_is_lost_and_none_is_kept_that_is_gone() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let run = |row: &'static Row| {
        thread::spawn(move || {
            let started = Instant::now();
            let tried = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(endured(row));
            println!("{}: {tried} combinations in {:.0} s", row.name, started.elapsed().as_secs_f64());
            tried
        })
    };
    let runs: Vec<_> = FAULTS.iter().filter(|row| row.name.contains(&only)).map(|row| (row.name, run(row))).collect();
    let ended: Vec<_> = runs.into_iter().map(|(name, run)| (name, run.join())).collect();
    let failed: Vec<_> = ended.iter().filter(|(_, tried)| tried.is_err()).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "{failed:?} failed, as told above");
    let tried: usize = ended.into_iter().filter_map(|(_, tried)| tried.ok()).sum();
    println!("{tried} combinations of a fault, policies and a content");
    let documented = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    assert!(documented.contains(&format!(" {tried} combinations ")), "docs/security.md does not say that {tried} combinations are tried");
}

/// Runs the scene of a fault. Returns how many combinations of policies and content it held.
async fn endured(row: &Row) -> usize {
    let mut tried = BTreeSet::new();
    emulated_before_controller(row.name, async |s| {
        let all = combinations::all();
        let turn = SETTING_UP.acquire().await.unwrap();
        s.provide(&["*"]).await;
        plant(s, &all).await;
        let door = Door::before(world().plane.url().trim_start_matches("https://").parse().unwrap()).unwrap();
        s.start_controller_as(&through(&door, &s.namespace), &[]);
        s.controller_ready().await;
        s.all("Ready", CALM[0], SECONDS * 2).await;
        s.all("Fresh", CALM[1], SECONDS).await;
        let witness = Witness::start(s).await;
        drop(turn);
        match row.trouble {
            Trouble::Namespace => namespace_goes(s, &all, &witness).await,
            _ => passes(s, row, &all, &witness, &door).await,
        }
        tried.extend(all.iter().map(|combination| format!("{} {} {:?}", combination.creation, combination.deletion, combination.content)));
    })
    .await;
    tried.len()
}

/// The controller's kubeconfig, by way of a door.
fn through(door: &Door, name: &str) -> PathBuf {
    let mut config: Value = serde_json::from_slice(&std::fs::read(&world().kubeconfig).unwrap()).unwrap();
    config["clusters"][0]["cluster"]["server"] = json!(format!("https://{}", door.address()));
    // Beside the other one: that folder is private, and goes at the end.
    let path = world().kubeconfig.with_file_name(format!("{name}.door.kubeconfig"));
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

/// Brings the trouble about, changes the sources meanwhile, and looks what becomes of every resource, until long after it ended.
async fn passes(s: &mut Scene, row: &Row, all: &[Combination], witness: &Witness, door: &Door) {
    let began = Instant::now();
    let hits = match row.trouble {
        Trouble::Store(hits, begin) => {
            begin(s);
            change(s).await;
            hits
        }
        Trouble::ApiServer => {
            door.shut();
            change(s).await;
            Hits::Everybody
        }
        Trouble::Killed(when) => {
            killed(s, when, all, witness, door).await;
            Hits::Nobody
        }
        Trouble::Namespace => unreachable!("it does not pass"),
    };
    let of = |group| all.iter().filter(move |combination| combination.group == group);
    let concerned: Vec<String> = all.iter().filter(|combination| hits == Hits::Everybody || combination.group == Group::Kept).map(Combination::name).collect();
    let others = async || concerned.iter().find(|name| witness.says(name).conditions != row.says);
    reached(s, witness, &format!("all say {:?}", row.says), TOLD, others).await;
    let said = Instant::now();
    let lasts = async || (began.elapsed() < row.lasts || said.elapsed() < Duration::from_secs(5)).then_some(&concerned[0]);
    reached(s, witness, "it has lasted long enough", row.lasts * 2, lasts).await;
    let ended = Instant::now();
    for name in &concerned {
        witness.said_only(name, CALM, row.says, ended);
    }
    s.front.clear_faults();
    s.front.up().unwrap();
    door.open();
    if s.controller.is_none() {
        s.start_controller(&[]).await;
    }

    // Those that stay recover without help.
    let names: Vec<(String, Option<Data>)> = of(Group::Kept).map(|combination| (combination.name(), combination.states(s).pop().unwrap())).collect();
    let others = async || names.iter().find(|(name, data)| witness.says(name).conditions != CALM || witness.holds(name) != *data).map(|(name, _)| name);
    reached(s, witness, "all that stays is mirrored again, and new", RECOVERED, others).await;

    // What is gone goes as well, once that is proven: by a second look that would come by itself, and is asked for to save a minute.
    let lost: Vec<(String, &Combination)> = of(Group::Lost).map(|combination| (combination.name(), combination)).collect();
    let is_missed = |(name, combination): &(String, &Combination)| {
        let said = witness.says(name);
        let waits = said.message.contains("a look at least a minute later has to agree") || combination.states(s).len() == 1;
        (waits && said.conditions[0] == "False SourceNotFound") || said.conditions[0] == combination.in_the_end()
    };
    let others = async || lost.iter().find(|lost| !is_missed(lost)).map(|(name, _)| name);
    reached(s, witness, "all that is gone is missed", SECONDS * 2, others).await;
    let missed = Instant::now();
    reached(s, witness, "the proof is due", PROOF * 2, async || (missed.elapsed() < PROOF + Duration::from_secs(1)).then_some(&lost[0].0)).await;
    for (name, _) in &lost {
        s.refresh(name, "now").await;
    }
    let is_over = |(name, combination): &(String, &Combination)| {
        let (said, expected) = (witness.says(name), combination.states(s).pop().unwrap());
        said.refreshed.as_deref() == Some("now") && said.conditions[0] == combination.in_the_end() && witness.holds(name) == expected
    };
    let others = async || lost.iter().find(|lost| !is_over(lost)).map(|(name, _)| name);
    reached(s, witness, "what is gone has gone as its policy says", SECONDS * 2, others).await;

    let (new, gone) = match (&row.trouble, hits) {
        // Nobody could see before its end what happened meanwhile.
        (Trouble::Store(..), Hits::Everybody) => (ended, ended + PROOF),
        // Whoever misses one source takes up nothing of another; and without the API server nothing can be written.
        (Trouble::Store(..), Hits::A) | (Trouble::ApiServer, _) => (ended, began + PROOF),
        // A new process begins a new proof.
        (Trouble::Killed(When::Read), _) => (ended, ended + PROOF),
        (Trouble::Killed(_), _) => (began, ended + PROOF),
        _ => (began, began + PROOF),
    };
    for combination in all {
        let (name, states) = (combination.name(), combination.states(s));
        witness.went_through(&name, &states, if combination.group == Group::Kept { new } else { gone });
        let expected = states.last().cloned().flatten().map(|data| data.into_iter().collect::<Vec<_>>());
        assert_eq!(s.data(&name).await, expected, "{name}");
    }
}

/// Waits until there is no other any more: `others` names one for which something does not hold yet.
async fn reached<'n>(s: &Scene, witness: &Witness, what: &str, limit: Duration, others: impl AsyncFn() -> Option<&'n String>) {
    let started = Instant::now();
    while let Some(other) = others().await {
        let shown = || format!("{other} says {:?} and holds {:?}\n{}", witness.says(other), witness.holds(other), s.log_tail());
        assert!(started.elapsed() < limit, "{}: not within {limit:?}: {what}; {}", s.namespace, shown());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Changes the sources, and kills the controller when it got so far with that. Leaves none behind.
async fn killed(s: &mut Scene, when: When, all: &[Combination], witness: &Witness, door: &Door) {
    let kept: Vec<&Combination> = all.iter().filter(|combination| combination.group == Group::Kept).collect();
    let changes = || kept.iter().map(|combination| witness.says(&combination.name()).changed).collect::<Vec<_>>();
    let before = changes();
    match when {
        When::Read => {
            // It can read the store, and write nothing.
            door.shut();
            change(s).await;
            let read = |action: &str| s.front.count(|call| call.action == action && call.status == Some(200));
            let actions = ["BatchGetSecretValue", "GetParameters", "ListSecrets", "GetParametersByPath"];
            let first = actions.map(read);
            let again = async || actions.map(read).iter().zip(first).all(|(now, first)| *now >= first + 3).then_some(());
            until("all is read again", TOLD, again).await;
            s.kill_controller();
        }
        When::Written => {
            s.kill_controller();
            change(s).await;
            let crippled = s.account(&[], no_status).await;
            s.start_controller_as(&crippled, &[]);
        }
        When::Told => change(s).await,
    }
    if !matches!(when, When::Read) {
        let written = async || kept.iter().all(|combination| witness.holds(&combination.name()) == combination.states(s).pop().unwrap()).then_some(());
        until("all that is new is written", TOLD, written).await;
        if matches!(when, When::Told) {
            let told = async || changes().iter().zip(&before).all(|(now, before)| now != before).then_some(());
            until("all that is new is told", TOLD, told).await;
        }
        s.kill_controller();
    }
}

/// The namespace is deleted, with every Secret, and nothing is in its way: no finalizer that waits for a store, and no Secret made anew.
async fn namespace_goes(s: &Scene, all: &[Combination], witness: &Witness) {
    let namespaces: Api<Namespace> = Api::all(s.client.clone());
    s.front.down().unwrap();
    namespaces.delete(&s.namespace, &DeleteParams::background()).await.unwrap();
    let gone = async || namespaces.get_opt(&s.namespace).await.unwrap().is_none().then_some(());
    until(&format!("the namespace {} is gone", s.namespace), TOLD, gone).await;
    for combination in all {
        let name = combination.name();
        until(&format!("the witness knows that {name} is gone"), SECONDS, async || witness.holds(&name).is_none().then_some(())).await;
        witness.went_through(&name, &[combination.states(s)[0].clone(), None], Instant::now() - TOLD * 2);
    }
    // A scene ends in its namespace.
    namespaces.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": s.namespace}})).unwrap()).await.unwrap();
}
