//! Whatever fails, and whichever policies hold: no good key is lost, none is kept that is gone, the resource says what is wrong while it
//! lasts, and all is well again by itself.
//!
//! A fault is a row of [`SCENES`]. In each scene stands a resource for every policy and kind of content, and for each fault one more
//! ([`combinations`]), and a [`witness`] sees every version that their Secrets ever have. One fault follows the other there. While one lasts,
//! a source of each content is rotated and another is deleted; the one has to arrive after it, and in the end all that were deleted have to be
//! gone, with the proof that an absence takes. The scenes run beside each other; one takes as long as its faults, and that proof.
//!
//! It is a test program of its own: beside all others, so many controllers on few cores would slow each other down until moments blur.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)] // A test fails by panicking.

mod combinations;
#[allow(dead_code)] // The other test program uses the rest of it.
#[path = "../behaviour/support.rs"]
mod support;
mod witness;

use std::{
    collections::BTreeMap,
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
use serde_json::json;
use testbed::{
    Door,
    front::{Answer, Call, Cut, Fault},
};

use self::{
    combinations::{Combination, Content, Data, Group, delete, plant, rotate},
    witness::Witness,
};
use crate::support::{SECONDS, Scene, emulated_before_controller, no_status, root, until, world};

/// How long after a first look nothing is removed.
const PROOF: Duration = Duration::from_secs(60);
/// How often the second look is asked for from then on. It would come by itself, a minute later.
const NUDGE: Duration = Duration::from_secs(15);
/// How long it may take until a fault is told (a TTL, twice for who has to be late first), and all is well after it (the longest pause that
/// its length leads to), on a machine that is busy with all scenes.
const TOLD: Duration = Duration::from_secs(90);

/// What is asked of the stores while all is well.
const READS: [&str; 4] = ["BatchGetSecretValue", "GetParameters", "ListSecrets", "GetParametersByPath"];

/// A name, and the faults of the scene.
type Row = (&'static str, &'static [Trouble]);

/// What goes wrong.
enum Trouble {
    /// Calls are answered otherwise than they should, from `begin` on until that is taken back.
    Store {
        hits: Hits,
        /// What Ready and Fresh of those say meanwhile.
        says: [&'static str; 2],
        /// From when all say so.
        lasts: Duration,
        begin: fn(&Scene, &[Group]),
    },
    /// The API server can't be reached.
    ApiServer,
    /// The controller is killed with signal 9.
    Killed(When),
    /// The namespace is deleted, while the store can't be reached and after a source was deleted there. The last one of its scene.
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

/// The store answers like that, until so many seconds after all that are hit have said so.
const fn store(says: [&'static str; 2], hits: Hits, seconds: u64, begin: fn(&Scene, &[Group])) -> Trouble {
    Trouble::Store { hits, says, lasts: Duration::from_secs(seconds), begin }
}

const SCENES: &[Row] = &[
    ("faults-throttled", &[store(THROTTLED, Hits::Everybody, 55, |s, _| _ = s.front.throttle())]),
    (
        "faults-denied",
        &[
            store(DENIED, Hits::A, 10, |s, _| deny(s, &[Group::Kept], &["a"])),
            store(DENIED, Hits::Everybody, 10, |s, groups| deny(s, groups, &["a", "b", "goes", "stays"])),
        ],
    ),
    ("faults-hidden", &[store(DENIED, Hits::A, 62, hide), store(CALM, Hits::Nobody, 5, |s, groups| pass_over(s, groups, is_list))]),
    (
        "faults-broken",
        &[
            store(UNAVAILABLE, Hits::Everybody, 5, |s, _| _ = s.front.fail(500)),
            store(UNAVAILABLE, Hits::Everybody, 5, |s, _| _ = s.front.cut(Cut::Body)),
            store(UNAVAILABLE, Hits::Everybody, 5, |s, _| _ = s.front.malformed()),
        ],
    ),
    ("faults-silent", &[store(UNAVAILABLE, Hits::Everybody, 5, expire), store(UNAVAILABLE, Hits::Everybody, 10, |s, _| _ = s.front.hang())]),
    (
        "faults-partial",
        &[
            store(CALM, Hits::Nobody, 5, |s, groups| pass_over(s, groups, is_batch)),
            store(CALM, Hits::Nobody, 5, |s, _| _ = s.front.always(Answer::Pages { size: 1, empty_between: true })),
            store(CALM, Hits::Nobody, 5, |s, _| _ = s.emulator().stale_for(Duration::from_secs(15))),
        ],
    ),
    ("faults-killed", &[Trouble::Killed(When::Read), Trouble::Killed(When::Written), Trouble::Killed(When::Told)]),
    ("faults-cluster", &[Trouble::ApiServer, Trouble::Namespace]),
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

/// No list has the source `a`, and asking for it is refused.
fn hide(s: &Scene, _: &[Group]) {
    for content in Content::ALL {
        let id = content.id(s, Group::Kept, "a");
        s.front.leave_out(&id);
        s.front.deny(&id);
    }
}

/// These answers say nothing about half of all sources, which are there or not all the same.
fn pass_over(s: &Scene, groups: &[Group], which: fn(&Call) -> bool) {
    for content in Content::ALL {
        for &group in groups {
            for key in group.keys().into_iter().filter(|key| *key != "b") {
                s.front.add_fault(Fault::new(which, Answer::LeftOut { id: content.id(s, group, key) }));
            }
        }
    }
}

fn is_batch(call: &Call) -> bool {
    matches!(call.action.as_str(), "BatchGetSecretValue" | "GetParameters")
}

fn is_list(call: &Call) -> bool {
    matches!(call.action.as_str(), "ListSecrets" | "GetParametersByPath")
}

/// Answers come in pages, and after a first page for each action the credentials have run out. What has no pages is refused from the start: one
/// answer would hold all that a resource asks for, and who had failed with another call before would be well again in the midst of it.
fn expire(s: &Scene, _: &[Group]) {
    s.front.always(Answer::Pages { size: 1, empty_between: false });
    let message = "The security token included in the request is expired".into();
    let expired = Answer::Error { status: 400, code: "ExpiredTokenException".into(), message };
    let has_pages = |call: &Call| call.action == "BatchGetSecretValue" || is_list(call);
    for action in READS {
        let before = AtomicUsize::new(0);
        s.front.add_fault(Fault::new(move |call| call.action == action && before.fetch_add(1, Ordering::Relaxed) > 0, expired.clone()));
    }
    s.front.add_fault(Fault::new(move |call| !has_pages(call), expired));
}

#[test]
fn whatever_fails_no_good_key_is_lost_and_none_is_kept_that_is_gone() {
    let run = |row: &'static Row| {
        thread::spawn(move || {
            let started = Instant::now();
            let tried = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(endured(row));
            println!("{}: {tried:?} combinations in {:.0} s", row.0, started.elapsed().as_secs_f64());
            tried
        })
    };
    let runs: Vec<_> = SCENES.iter().map(|row| (row.0, run(row))).collect();
    let ended: Vec<_> = runs.into_iter().map(|(name, run)| (name, run.join())).collect();
    let failed: Vec<_> = ended.iter().filter(|(_, tried)| tried.is_err()).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "{failed:?} failed, as told above");
    let tried: Vec<[usize; 2]> = ended.into_iter().filter_map(|(_, tried)| tried.ok()).collect();
    let [rotated, deleted] = [0, 1].map(|which| tried.iter().map(|tried| tried[which]).sum::<usize>());
    println!("{rotated} combinations of a fault, policies and a content, {deleted} with a source that goes");
    let documented = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    for number in [format!(" {rotated} combinations "), format!(" {deleted} of them ")] {
        assert!(documented.contains(&number), "docs/security.md does not say{number}");
    }
}

/// Runs a scene. Returns in how many combinations of a fault, policies and a content a source was rotated, and in how many one was deleted.
async fn endured((name, faults): &Row) -> [usize; 2] {
    let groups = Group::all(faults.len());
    let all = combinations::all(&groups);
    emulated_before_controller(name, async |s| {
        s.provide(&["*"]).await;
        plant(s, &groups, &all).await;
        let (door, kubeconfig) = s.door(&world().kubeconfig);
        s.start_controller_as(&kubeconfig, &[]);
        s.controller_ready().await;
        let witness = Witness::start(s).await;
        Scenery { groups: &groups, all: &all, witness, door, kubeconfig }.stands(s, faults).await;
    })
    .await;
    let kept = all.iter().filter(|c| c.group == Group::Kept).count();
    [faults.len() * kept, all.len() - kept]
}

/// What stands in a scene.
struct Scenery<'a> {
    groups: &'a [Group],
    all: &'a [Combination],
    witness: Witness,
    /// Before the API server.
    door: Door,
    /// The controller's, through that door.
    kubeconfig: PathBuf,
}

/// When what happened during a fault may show at the soonest: what is new, and that something is gone.
struct Soonest {
    new: Instant,
    gone: Instant,
}

impl Scenery<'_> {
    /// One fault after the other comes and goes; in the end nobody lost anything, or has kept what is gone.
    async fn stands(&self, s: &mut Scene, faults: &[Trouble]) {
        let planted = Instant::now().checked_sub(TOLD).unwrap();
        self.reached(s, "is mirrored", TOLD, |c| self.is_calm(c)).await;
        let passing: Vec<&Trouble> = faults.iter().filter(|fault| !matches!(fault, Trouble::Namespace)).collect();
        let (mut new, mut gone) = (vec![planted], Vec::new());
        for (number, fault) in passing.iter().enumerate() {
            let soonest = self.passes(s, fault, number).await;
            new.push(soonest.new);
            gone.push(soonest.gone);
        }
        self.loses_what_is_gone(s, passing.len()).await;
        let deleted = if passing.len() < faults.len() { Some(self.goes_with_its_namespace(s, passing.len()).await) } else { None };
        for combination in self.all {
            let states = combination.states(s, u8::try_from(passing.len()).unwrap());
            let moments = match combination.group {
                Group::Kept => new.clone(),
                // What was deleted with the namespace goes with it.
                Group::Lost(fault) => [planted].into_iter().chain(gone.get(fault).copied()).collect(),
            };
            let theirs = combination.theirs().map(|theirs| (Some([theirs].into()), planted));
            let states: Vec<_> = theirs.into_iter().chain(states.into_iter().zip(moments)).chain(deleted.map(|deleted| (None, deleted))).collect();
            self.witness.went_through(&combination.name(), &states);
        }
    }

    /// Brings a trouble about, changes the sources meanwhile, and ends it; then those that stay are well and new without help.
    async fn passes(&self, s: &mut Scene, fault: &Trouble, number: usize) -> Soonest {
        let rotations = u8::try_from(number).unwrap();
        let began = Instant::now();
        match fault {
            Trouble::Store { begin, .. } => begin(s, self.groups),
            // It can read the store, and write nothing.
            Trouble::ApiServer | Trouble::Killed(When::Read) => self.door.shut(),
            Trouble::Killed(When::Written) => {
                s.kill_controller();
                let crippled = s.account(&[], no_status).await;
                s.start_controller_as(&crippled, &[]);
            }
            Trouble::Killed(When::Told) | Trouble::Namespace => {}
        }
        let changed = |c: &Combination| self.witness.says(&c.name()).changed;
        let before: Vec<_> = self.all.iter().map(changed).collect();
        let reads = || READS.map(|action| s.front.count(|call| call.action == action && call.status == Some(200)));
        let read = reads();
        rotate(s, rotations).await;
        let is_kept = |c: &Combination| c.group == Group::Kept;
        let newest: BTreeMap<String, Option<Data>> = self.all.iter().map(|c| (c.name(), c.states(s, rotations + 1).pop().unwrap())).collect();
        let is_new = |c: &Combination| !is_kept(c) || self.witness.holds(&c.name()) == newest[&c.name()];
        let (says, everybody) = if let Trouble::Store { says, hits, .. } = fault { (*says, *hits == Hits::Everybody) } else { (CALM, false) };
        // What goes while nobody can see it goes when nobody can.
        if !everybody {
            delete(s, number);
        }
        // Whoever lost something before has more to say.
        let has_lost = |c: &Combination, by: usize| matches!(c.group, Group::Lost(fault) if fault < by);
        let is_hit = |c: &Combination| (everybody && !has_lost(c, number)) || is_kept(c);
        match *fault {
            Trouble::Store { hits, lasts, .. } => {
                if hits == Hits::Nobody {
                    self.reached(s, "is new all the same", TOLD, is_new).await;
                } else {
                    self.reached(s, &format!("says {says:?}"), TOLD, |c| !is_hit(c) || self.witness.says(&c.name()).conditions == says).await;
                }
                if everybody {
                    delete(s, number);
                }
                let said = Instant::now();
                let over = async || (said.elapsed() >= lasts).then_some(());
                until("it has lasted long enough", lasts * 2, over).await;
                if hits == Hits::A && lasts >= PROOF {
                    // If a refusal could prove an absence, this look would.
                    for combination in self.all.iter().filter(|c| is_hit(c)) {
                        s.refresh(&combination.name(), &format!("fault {rotations}")).await;
                    }
                    let looked = |c: &Combination| self.witness.says(&c.name()).refreshed == Some(format!("fault {rotations}"));
                    self.reached(s, "was looked at", TOLD, |c| !is_hit(c) || looked(c)).await;
                }
            }
            Trouble::ApiServer | Trouble::Killed(When::Read) => {
                let again = async || reads().iter().zip(read).all(|(now, before)| *now >= before + 3).then_some(());
                until("the stores are read again and again", TOLD, again).await;
            }
            Trouble::Killed(When::Written) => self.reached(s, "is written", TOLD, is_new).await,
            Trouble::Killed(When::Told) => {
                let told = async || self.all.iter().zip(&before).all(|(c, before)| !is_kept(c) || changed(c) != *before).then_some(());
                until("what is new is told", TOLD, told).await;
            }
            Trouble::Namespace => {}
        }
        if let Trouble::Killed(_) = fault {
            s.kill_controller();
        }
        let ended = Instant::now();
        for combination in self.all.iter().filter(|c| is_hit(c)) {
            self.witness.said_only(&combination.name(), CALM, says, [began, ended]);
        }
        s.front.clear_faults();
        s.front.up().unwrap();
        self.door.open();
        if s.controller.is_none() {
            s.start_controller_as(&self.kubeconfig, &[]);
            s.controller_ready().await;
        }
        if let Trouble::Store { hits: Hits::A, lasts, .. } = fault
            && *lasts >= PROOF
        {
            // After so long a refusal the pauses are longer than a test may take.
            for combination in self.all.iter().filter(|c| is_hit(c)) {
                s.refresh(&combination.name(), &format!("after fault {rotations}")).await;
            }
        }
        self.reached(s, "is well again, and new", TOLD, |c| has_lost(c, number + 1) || (self.is_calm(c) && is_new(c))).await;
        match *fault {
            // Nobody could see before its end what happened meanwhile.
            Trouble::Store { hits: Hits::Everybody, .. } | Trouble::Killed(When::Read) => Soonest { new: ended, gone: ended + PROOF },
            // Whoever misses one source takes up nothing of another; and without the API server nothing can be written.
            Trouble::Store { hits: Hits::A, .. } | Trouble::ApiServer => Soonest { new: ended, gone: began + PROOF },
            Trouble::Store { hits: Hits::Nobody, .. } | Trouble::Namespace => Soonest { new: began, gone: began + PROOF },
            // A new process begins a new proof.
            Trouble::Killed(When::Written | When::Told) => Soonest { new: began, gone: ended + PROOF },
        }
    }

    /// What is gone from the stores goes as each policy says, once that is proven.
    async fn loses_what_is_gone(&self, s: &Scene, faults: usize) {
        let is_lost = |c: &Combination| matches!(c.group, Group::Lost(fault) if fault < faults);
        self.reached(s, "misses its source", TOLD, |c| !is_lost(c) || !self.is_calm(c) || c.in_the_end() == CALM[0]).await;
        let is_over = |c: &Combination| {
            let (said, expected) = (self.witness.says(&c.name()), c.states(s, 0).pop().unwrap());
            // Also who keeps what is gone had a second look.
            said.refreshed.is_some() && said.conditions[0] == c.in_the_end() && self.witness.holds(&c.name()) == expected
        };
        let (missed, mut nudges) = (Instant::now(), 0);
        while nudges == 0 || !self.all.iter().all(|c| !is_lost(c) || is_over(c)) {
            if missed.elapsed() > PROOF + NUDGE * nudges {
                nudges += 1;
                if nudges == 8 {
                    break;
                }
                for combination in self.all.iter().filter(|c| is_lost(c) && !is_over(c)) {
                    s.refresh(&combination.name(), &nudges.to_string()).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.reached(s, "ends as its policy says", SECONDS, |c| !is_lost(c) || is_over(c)).await;
    }

    /// The namespace is deleted, with every Secret, and nothing is in its way: no finalizer that waits for a store, and no Secret made anew.
    /// Returns when it was deleted.
    async fn goes_with_its_namespace(&self, s: &Scene, number: usize) -> Instant {
        let namespaces: Api<Namespace> = Api::all(s.client.clone());
        let deleted = Instant::now();
        s.front.down().unwrap();
        delete(s, number);
        namespaces.delete(&s.namespace, &DeleteParams::background()).await.unwrap();
        let gone = async || namespaces.get_opt(&s.namespace).await.unwrap().is_none().then_some(());
        until(&format!("the namespace {} is gone", s.namespace), TOLD * 2, gone).await;
        self.reached(s, "has no Secret any more", SECONDS, |c| self.witness.holds(&c.name()).is_none()).await;
        // A scene ends in its namespace.
        namespaces.create(&PostParams::default(), &serde_json::from_value(json!({"metadata": {"name": s.namespace}})).unwrap()).await.unwrap();
        deleted
    }

    fn is_calm(&self, combination: &Combination) -> bool {
        self.witness.says(&combination.name()).conditions == CALM
    }

    /// Waits until something holds for all.
    async fn reached(&self, s: &Scene, what: &str, limit: Duration, holds: impl Fn(&Combination) -> bool) {
        let started = Instant::now();
        while let Some(other) = self.all.iter().find(|combination| !holds(combination)) {
            let name = other.name();
            let shown = || format!("{name}, which says {:?} and holds {:?}\n{}", self.witness.says(&name), self.witness.holds(&name), s.log_tail());
            assert!(started.elapsed() < limit, "{}: not within {limit:?}: each {what}, not so {}", s.namespace, shown());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
