//! Restarts of workloads: whether one is due, when, and for what. After a rotation, once a burst, a few a second over all resources.
//!
//! What was mirrored and what resources ask for enter; the part of the status that tells it, and one restart at a time, leave. Pure: no
//! I/O, and the clock is the caller's; [`Rollouts`] shares the schedule and wakes who waits for it. A need must never be lost before
//! its restart was made: it stands in the status until then, and this memory is made anew from there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use tokio::{sync::Notify, time::Instant};

use super::{cache::Key, drift::is_older, queue::woken, schedule, status::Mirrored};
use crate::{
    api::{
        Reason, RobotoSecretStatus,
        robotosecret::RolloutTarget,
        status::{READY, RolloutStatus},
    },
    limit::Bucket,
};

/// How long after the last change a restart is made: what is rotated together needs one.
const QUIET: Duration = Duration::from_secs(10);
/// How long after the first change it is made although there are further ones.
const LATEST: Duration = Duration::from_mins(1);
/// How many workloads are restarted a second at most, over all resources.
const PER_SECOND: f64 = 5.0;
/// What Ready says besides where a rollout is asked for and not granted.
const REFUSED: &str = "; nothing is restarted, since the controller runs without --allow-rollout (chart: rollout.enabled)";

/// What a spec asks for, and whether the controller may do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It asks for no restart.
    Nothing,
    /// The controller was started without the permission.
    Refused,
    /// Restarts are made.
    Granted,
}

/// Writes into the next status what it says of rollouts. `mirrored`: what was just mirrored, if anything was.
pub fn amend(next: &mut RobotoSecretStatus, prior: &RobotoSecretStatus, wish: Wish, mirrored: Option<&Mirrored>, now: Timestamp) {
    let mut rollout = prior.rollout.clone().unwrap_or_default();
    if wish != Wish::Granted {
        (rollout.pending_since, rollout.pending_for) = (None, None);
    } else if let Some(mirrored) = mirrored.filter(|mirrored| is_due(prior, mirrored)) {
        rollout.pending_since.get_or_insert(Time(now));
        rollout.pending_for = Some(mirrored.target.resource_version.clone());
    }
    next.rollout = (rollout != RolloutStatus::default()).then_some(rollout);
    if let Some(ready) = next.conditions.iter_mut().find(|condition| condition.type_ == READY) {
        let plain = ready.message.trim_end_matches(REFUSED).len();
        ready.message.truncate(plain);
        if wish == Wish::Refused && ready.status == "True" {
            ready.message.push_str(REFUSED);
        }
    }
}

/// Whether a status says that a rollout is refused.
#[must_use]
pub fn is_refused(status: &RobotoSecretStatus) -> bool {
    status.condition(READY).is_some_and(|ready| ready.message.ends_with(REFUSED))
}

/// Takes note in a status that the restarts it waits for were made.
pub fn mark_made(status: &mut RobotoSecretStatus) {
    if let Some(rollout) = &mut status.rollout {
        *rollout = RolloutStatus { done_for: rollout.pending_for.take(), ..RolloutStatus::default() };
    }
}

/// Whether the data changed at its source: the Secret moved, and what it is made from did. Never at the first mirroring.
fn is_due(prior: &RobotoSecretStatus, mirrored: &Mirrored) -> bool {
    if prior.target.is_none() || !mirrored.moved {
        return false;
    }
    // Where the versions are not comparable, a write that changed the Secret tells, unless it repaired it.
    let silent = || mirrored.rewritten && !mirrored.respecified && mirrored.repaired.is_none();
    mirrored.compared.rotated(mirrored.respecified).unwrap_or_else(silent)
}

/// A workload of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// The namespace.
    pub namespace: String,
    /// Its kind and name.
    pub target: RolloutTarget,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.target.kind, self.target.name)
    }
}

/// One restart to make now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What is restarted.
    pub workload: Workload,
    /// For whom, each with the resourceVersion of its Secret.
    pub askers: Vec<(Arc<Key>, String)>,
}

impl Job {
    /// What the restart is made for: the newest of the resourceVersions.
    #[must_use]
    pub fn token(&self) -> &str {
        let newest = |one, other| if is_older(one, other) { other } else { one };
        self.askers.iter().map(|(_, token)| token.as_str()).reduce(newest).unwrap_or_default()
    }
}

/// Who asks for which restarts, and when they are due.
#[derive(Debug)]
struct Schedule {
    bucket: Bucket,
    restarts: BTreeMap<Workload, Restart>,
    askers: HashMap<Arc<Key>, Asker>,
}

#[derive(Debug, Default)]
struct Asker {
    token: String,
    wanted: BTreeSet<Workload>,
    made: BTreeSet<Workload>,
}

#[derive(Debug)]
struct Restart {
    /// Who asks for it, and the cause of its failure that each was told.
    askers: BTreeMap<Arc<Key>, Option<String>>,
    first: Instant,
    last: Instant,
    failures: u32,
    retry: Option<Instant>,
}

impl Restart {
    fn due(&self) -> Instant {
        let calm = (self.last + QUIET).min(self.first + LATEST);
        self.retry.map_or(calm, |retry| retry.max(calm))
    }
}

impl Schedule {
    fn new(now: Instant) -> Self {
        Self { bucket: Bucket::new(PER_SECOND, now.into_std()), restarts: BTreeMap::new(), askers: HashMap::new() }
    }

    /// A resource asks that these workloads are restarted for a version of its Secret. The same asked again changes nothing.
    fn ask(&mut self, key: &Arc<Key>, token: &str, wanted: BTreeSet<Workload>, now: Instant) {
        if self.askers.get(key).is_some_and(|asker| asker.token == token && asker.wanted == wanted) {
            return;
        }
        let was = self.askers.remove(key).unwrap_or_default();
        let changed = was.token != token;
        for workload in was.wanted.difference(&wanted) {
            self.withdraw(key, workload);
        }
        let made = if changed { BTreeSet::new() } else { was.made };
        for workload in wanted.difference(&made) {
            let new = || Restart { askers: BTreeMap::new(), first: now, last: now, failures: 0, retry: None };
            let restart = self.restarts.entry(workload.clone()).or_insert_with(new);
            restart.askers.entry(key.clone()).or_default();
            if changed {
                // What failed until now begins anew.
                restart.first = if restart.failures == 0 { restart.first } else { now };
                (restart.last, restart.failures, restart.retry) = (now, 0, None);
            }
        }
        self.askers.insert(key.clone(), Asker { token: token.to_owned(), wanted, made });
    }

    fn withdraw(&mut self, key: &Key, workload: &Workload) {
        if let Some(restart) = self.restarts.get_mut(workload) {
            restart.askers.remove(key);
            if restart.askers.is_empty() {
                self.restarts.remove(workload);
            }
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(asker) = self.askers.remove(key) {
            asker.wanted.iter().for_each(|workload| self.withdraw(key, workload));
        }
    }

    fn is_finished(&self, key: &Key, token: &str) -> bool {
        self.askers.get(key).is_some_and(|asker| asker.token == token && asker.wanted.is_subset(&asker.made))
    }

    /// The next restart. The error tells when there will be one; `None`: nobody asks. Whoever takes it makes it before asking again.
    fn next(&mut self, now: Instant) -> Result<Job, Option<Instant>> {
        let (workload, restart) = self.restarts.iter().min_by_key(|(_, restart)| restart.due()).ok_or(None)?;
        if restart.due() > now {
            return Err(Some(restart.due()));
        }
        self.bucket.take(now.into_std()).map_err(|then| Some(then.into()))?;
        let token = |key: &Arc<Key>| self.askers.get(key).map(|asker| (key.clone(), asker.token.clone()));
        Ok(Job { workload: workload.clone(), askers: restart.askers.keys().filter_map(token).collect() })
    }

    /// A restart was made. Who asked again meanwhile, for a later version, goes on waiting.
    fn made(&mut self, job: &Job) {
        for (key, token) in &job.askers {
            let Some(asker) = self.askers.get_mut(key).filter(|asker| asker.token == *token && asker.wanted.contains(&job.workload)) else { continue };
            asker.made.insert(job.workload.clone());
            self.withdraw(key, &job.workload);
        }
        if let Some(restart) = self.restarts.get_mut(&job.workload) {
            restart.first = restart.last;
        }
    }

    /// A restart failed; it is tried again after growing pauses. Returns who was not told of this cause yet.
    fn failed(&mut self, job: &Job, cause: &str, now: Instant) -> Vec<Arc<Key>> {
        let Some(restart) = self.restarts.get_mut(&job.workload) else { return Vec::new() };
        restart.failures = restart.failures.saturating_add(1);
        restart.retry =
            schedule::until_retry(Reason::KubernetesError, restart.failures, schedule::LONGEST_RETRY, &job.workload.target.name).map(|wait| now + wait);
        let untold = restart.askers.iter_mut().filter(|(_, told)| told.as_deref() != Some(cause));
        untold.map(|(key, told)| (*told = Some(cause.to_owned()), key.clone()).1).collect()
    }
}

/// The restarts that are asked for, over all resources.
#[derive(Debug)]
pub struct Rollouts {
    schedule: Mutex<Schedule>,
    changed: Notify,
}

impl Default for Rollouts {
    fn default() -> Self {
        Self { schedule: Mutex::new(Schedule::new(Instant::now())), changed: Notify::new() }
    }
}

impl Rollouts {
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A resource asks that these workloads are restarted for a version of its Secret. The same asked again changes nothing.
    pub fn ask(&self, key: &Arc<Key>, token: &str, wanted: BTreeSet<Workload>) {
        self.schedule().ask(key, token, wanted, Instant::now());
        self.changed.notify_one();
    }

    /// Whether all restarts were made that a resource asked for, for this version of its Secret.
    #[must_use]
    pub fn is_finished(&self, key: &Key, token: &str) -> bool {
        self.schedule().is_finished(key, token)
    }

    /// A resource asks for nothing any more.
    pub fn forget(&self, key: &Key) {
        self.schedule().forget(key);
    }

    /// The next restart, when it is due; whoever takes it calls [`Rollouts::made`] or [`Rollouts::failed`] before asking for another.
    pub async fn next(&self) -> Job {
        loop {
            let next = self.schedule().next(Instant::now());
            let then = match next {
                Ok(job) => return job,
                Err(then) => then,
            };
            woken(&self.changed, then).await;
        }
    }

    /// A restart was made.
    pub fn made(&self, job: &Job) {
        self.schedule().made(job);
    }

    /// A restart failed. Returns who was not told of this cause yet.
    #[must_use]
    pub fn failed(&self, job: &Job, cause: &str) -> Vec<Arc<Key>> {
        self.schedule().failed(job, cause, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{
            robotosecret::WorkloadKind,
            status::{LISTED, SourceStatus, TargetStatus},
        },
        controller::{
            drift::Seen,
            served::{self, Served},
        },
        provider::ServedVersion,
    };

    fn key(name: &str) -> Arc<Key> {
        Arc::new(("shop".to_owned(), name.to_owned()))
    }

    fn workload(name: &str) -> Workload {
        Workload { namespace: "shop".into(), target: RolloutTarget { kind: WorkloadKind::Deployment, name: name.into() } }
    }

    fn workloads(names: &[&str]) -> BTreeSet<Workload> {
        names.iter().map(|name| workload(name)).collect()
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Makes restarts as they become due until `end`; returns when, what and for which version.
    fn made(schedule: &mut Schedule, start: Instant, end: Instant) -> Vec<(u64, String, String)> {
        let (mut now, mut made) = (start, Vec::new());
        loop {
            match schedule.next(now) {
                Ok(job) => {
                    made.push(((now - start).as_secs(), job.workload.target.name.clone(), job.token().to_owned()));
                    schedule.made(&job);
                }
                Err(Some(then)) if then <= end => now = then,
                Err(_) => return made,
            }
        }
    }

    fn is(time: u64, name: &str, token: &str) -> (u64, String, String) {
        (time, name.to_owned(), token.to_owned())
    }

    #[test]
    fn a_burst_makes_one_restart_when_it_is_over_and_one_without_end_makes_one_a_minute() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        for (second, token) in [(0, "9"), (4, "10"), (8, "11")] {
            assert_eq!(made(&mut schedule, start + SECOND * second, start + SECOND * second), []);
            schedule.ask(&key("a"), token, workloads(&["web"]), start + SECOND * second);
            // Each look asks the same again.
            schedule.ask(&key("a"), token, workloads(&["web"]), start + SECOND * (second + 1));
        }
        assert_eq!(made(&mut schedule, start, start + SECOND * 300), [is(18, "web", "11")]);
        assert!(schedule.is_finished(&key("a"), "11") && !schedule.is_finished(&key("a"), "10"));
        let mut times = Vec::new();
        for second in 0..200 {
            let now = start + SECOND * (300 + second);
            schedule.ask(&key("a"), &(100 + second).to_string(), workloads(&["web"]), now);
            times.extend(made(&mut schedule, now, now).iter().map(|_| second));
        }
        assert_eq!(times, [60, 121, 182]);
    }

    #[test]
    fn many_are_restarted_a_few_a_second() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        for number in 0..100 {
            schedule.ask(&key(&format!("a{number}")), "7", workloads(&[&format!("web{number}")]), start);
        }
        let made = made(&mut schedule, start, start + SECOND * 300);
        assert_eq!(made.len(), 100);
        for second in 10..30 {
            let in_second = made.iter().filter(|(time, ..)| *time == second).count();
            assert!((4..=6).contains(&in_second), "{in_second} in the second {second}");
        }
    }

    #[test]
    fn what_several_ask_for_is_made_once_for_the_newest() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.ask(&key("a"), "9", workloads(&["db", "web"]), start);
        schedule.ask(&key("b"), "10", workloads(&["web"]), start + SECOND * 3);
        assert_eq!(made(&mut schedule, start, start + SECOND * 300), [is(10, "db", "9"), is(13, "web", "10")]);
        assert!(schedule.is_finished(&key("a"), "9") && schedule.is_finished(&key("b"), "10"));
        for name in ["a", "b"] {
            schedule.forget(&key(name));
        }
        assert!(schedule.restarts.is_empty() && schedule.askers.is_empty());
    }

    #[test]
    fn a_change_while_a_restart_is_made_asks_for_another() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.ask(&key("a"), "9", workloads(&["web"]), start);
        let job = schedule.next(start + QUIET).expect("a restart");
        schedule.ask(&key("a"), "10", workloads(&["web"]), start + QUIET);
        schedule.made(&job);
        assert!(!schedule.is_finished(&key("a"), "10"));
        assert_eq!(made(&mut schedule, start, start + SECOND * 300), [is(20, "web", "10")]);
        assert!(schedule.is_finished(&key("a"), "10"));
    }

    #[test]
    fn what_nobody_asks_for_any_more_is_not_restarted_and_what_was_is_not_again() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.ask(&key("a"), "9", workloads(&["db", "web"]), start);
        schedule.ask(&key("a"), "9", workloads(&["web"]), start);
        schedule.ask(&key("b"), "9", workloads(&["gone"]), start);
        schedule.forget(&key("b"));
        assert_eq!(made(&mut schedule, start, start + SECOND * 300), [is(10, "web", "9")]);
        // Another is named while the status still waits to be written.
        schedule.ask(&key("a"), "9", workloads(&["web", "job"]), start + SECOND * 20);
        assert_eq!(made(&mut schedule, start, start + SECOND * 300), [is(30, "job", "9")]);
    }

    #[test]
    fn a_failure_is_told_once_a_cause_and_tried_again_ever_more_slowly() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        schedule.ask(&key("a"), "9", workloads(&["web"]), start);
        let (mut now, mut pauses, mut told) = (start + QUIET, Vec::new(), Vec::new());
        for number in 0..12 {
            let job = schedule.next(now).expect("a try");
            told.push(schedule.failed(&job, if number < 10 { "missing" } else { "forbidden" }, now).len());
            let Err(Some(then)) = schedule.next(now) else { panic!("no further try") };
            pauses.push((then - now).as_secs_f64());
            now = then;
        }
        assert_eq!(told, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert!(pauses[0] <= 1.0 && pauses[5] > 20.0 && pauses[11] > 200.0 && pauses.iter().all(|pause| *pause <= 300.0), "{pauses:?}");
        // Another change does not wait for the end of a long pause.
        let now = now - SECOND * 100;
        schedule.ask(&key("a"), "10", workloads(&["web"]), now);
        assert_eq!(schedule.next(now).err().flatten(), Some(now + QUIET));
    }

    fn version(id: &str) -> ServedVersion {
        ServedVersion { arn: "arn".into(), id: id.into(), created: None, region: None }
    }

    fn before(sources: usize) -> RobotoSecretStatus {
        let source = |number| SourceStatus { uri: format!("aws.sm://{number}"), arn: "arn".into(), version: "v1".into(), ..SourceStatus::default() };
        RobotoSecretStatus {
            target: Some(TargetStatus { resource_version: "7".into(), ..TargetStatus::default() }),
            sources: (0..sources.min(LISTED)).map(source).collect(),
            source_count: i32::try_from(sources).ok(),
            ..RobotoSecretStatus::default()
        }
    }

    /// A write that moved the Secret, after there were so many sources; now there are these.
    fn after(was: usize, sources: Vec<Served>) -> Mirrored {
        let before = before(was);
        Mirrored {
            target: Seen { name: "db".into(), resource_version: "8".into(), ..Seen::default() },
            keys: vec!["a".into()],
            compared: served::compare(&served::record(&before, &[]), before.source_count, &sources, &[]),
            sources,
            gone: Vec::new(),
            moved: true,
            rewritten: true,
            respecified: false,
            template_hash: None,
            repaired: None,
        }
    }

    fn sources(number: usize) -> Vec<Served> {
        (0..number).map(|number| Served { uri: format!("aws.sm://{number}"), provider: None, version: version("v1"), region: None, record: None }).collect()
    }

    fn unchanged(number: usize) -> Mirrored {
        after(number, sources(number))
    }

    fn rotated(number: usize, which: usize) -> Mirrored {
        let mut sources = sources(number);
        sources[which].version = version("v2");
        after(number, sources)
    }

    #[test]
    fn a_restart_is_due_when_the_secret_moved_and_a_source_did() {
        assert!(is_due(&before(2), &rotated(2, 1)));
        assert!(is_due(&before(2), &Mirrored { respecified: true, ..rotated(2, 1) }), "together with an edit");
        assert!(is_due(&before(2), &Mirrored { repaired: Some(None), ..rotated(2, 1) }), "together with a repair");
        assert!(is_due(&before(2), &Mirrored { rewritten: false, ..rotated(2, 1) }), "written by a process that died");
        assert!(is_due(&before(2), &after(2, sources(3))) && is_due(&before(2), &after(2, sources(1))), "a member came or went");
        assert!(!is_due(&RobotoSecretStatus::default(), &rotated(2, 1)), "the first mirroring");
        assert!(!is_due(&before(2), &Mirrored { moved: false, ..rotated(2, 1) }), "the value is the same");
        assert!(!is_due(&before(2), &Mirrored { repaired: Some(None), ..unchanged(2) }), "a repair");
        assert!(!is_due(&before(2), &Mirrored { respecified: true, ..unchanged(2) }), "an edit");
        assert!(!is_due(&before(2), &Mirrored { respecified: true, ..after(2, sources(3)) }), "an edit that names more");
    }

    #[test]
    fn of_more_sources_than_a_status_lists_the_secret_itself_must_have_changed() {
        let many = LISTED + 20;
        assert!(is_due(&before(many), &rotated(many, 3)), "a listed one");
        assert!(is_due(&before(many), &rotated(many, LISTED + 1)));
        assert!(!is_due(&before(many), &Mirrored { rewritten: false, ..unchanged(many) }), "foreign metadata, as a restart meets it");
        assert!(!is_due(&before(many), &Mirrored { repaired: Some(None), ..unchanged(many) }), "a repair");
        assert!(!is_due(&before(many), &Mirrored { respecified: true, ..unchanged(many) }), "an edit");
    }

    #[test]
    fn the_status_keeps_a_need_until_its_restart_was_made() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let mirror = |prior: &RobotoSecretStatus, wish, mirrored: Option<&Mirrored>, second| {
            let mut next = prior.clone();
            amend(&mut next, prior, wish, mirrored, at(second));
            next
        };
        let first = mirror(&before(2), Wish::Granted, Some(&rotated(2, 1)), 100);
        let pending = |version: &str| RolloutStatus { pending_since: Some(Time(at(100))), pending_for: Some(version.into()), done_for: None };
        assert_eq!(first.rollout, Some(pending("8")));
        assert_eq!(mirror(&first, Wish::Granted, None, 110), first);
        let mut again = rotated(2, 0);
        again.target.resource_version = "9".into();
        let mut again = mirror(&first, Wish::Granted, Some(&again), 110);
        assert_eq!(again.rollout, Some(pending("9")), "since the first");
        mark_made(&mut again);
        assert_eq!(again.rollout, Some(RolloutStatus { done_for: Some("9".into()), ..RolloutStatus::default() }));
        for wish in [Wish::Nothing, Wish::Refused] {
            assert_eq!(mirror(&before(2), wish, Some(&rotated(2, 1)), 100).rollout, None);
            assert_eq!(mirror(&first, wish, None, 100).rollout, None, "withdrawn");
        }
    }
}
