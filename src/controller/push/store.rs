//! One secret or parameter at the store: looked at, compared with what the Secret holds, and written if it differs and is ours.
//!
//! A target, the Secret and whose it is enter; what was found or written leaves. Each write waits for its turn within the provider's limits, is permitted at
//! the last moment, and is made over the version that was read; a store that doesn't answer is left alone for a while. It must never write what is
//! somebody else's, or nobody's; never write twice what is there already; and never tell a part of a value.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::sync::watch;

use super::{
    breakers::{Breakers, Ended},
    plan::Target,
    source::{Pushed, Seen},
};
use crate::{
    api::{
        Reason,
        reference::{Source, Store, Version},
        robotopush::{OWNER_TAG, SHARED_TAG, UpdatePolicy},
    },
    limit::{Calls, Family, Turns},
    provider::{
        Question, ReadError, Reading, ServedVersion, Value, WriteError, misunderstood,
        opened::{Opened, unsupported},
        silent,
        writing::{Described, Recovery, Written},
    },
    reader::Reader,
    render::{RenderError, merge::Owed},
    sensitive::Sensitive,
};

/// How often a target is looked at anew because somebody else wrote meanwhile.
const ATTEMPTS: usize = 3;
/// How often while somebody's change that was written over is not done again yet.
const MERGES: usize = 30;
/// How soon.
const AGAIN: Duration = Duration::from_millis(250);
/// How long a read may take.
const READ_LIMIT: Duration = Duration::from_secs(5);

/// What was found to hold what the Secret holds: this version, of this content of the Secret, for this generation of the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    secret: Seen,
    generation: i64,
    version: Option<String>,
    changed: Option<String>,
}

/// What came of a look.
#[derive(Debug)]
pub enum Done {
    /// It holds what the Secret holds. With a mark by which the next look knows it without reading.
    Agrees(Box<Described>, Mark),
    /// It was written. `anew`: it was made.
    Written {
        /// What.
        written: Written,
        /// Whether there was none before.
        anew: bool,
    },
    /// It is there, and `updatePolicy: IfNotExists` leaves it as it is.
    Left(Box<Described>),
}

/// What came of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It was deleted.
    Deleted,
    /// Nothing that is ours is there.
    Nothing,
    /// Something is there that has no mark, and was about to be made by us: whether it was can't be told.
    Doubtful,
}

/// Whether something may be done at this very moment.
pub type Permit<'p> = &'p (dyn Fn() -> Result<(), ReadError> + Send + Sync);

/// Writes something down before it is done.
pub type Announce<'a> = &'a (dyn Fn() -> BoxFuture<'a, Result<(), ReadError>> + Send + Sync);

/// Whose target it is, and under which terms.
pub struct Owned<'o> {
    /// The store.
    pub store: &'o Opened,
    /// Whose limits hold.
    pub reader: &'o Reader,
    /// The owner's mark.
    pub owner: &'o str,
    /// The spec's generation.
    pub generation: i64,
    /// What happens to what is there.
    pub policy: UpdatePolicy,
    /// Whether what has no mark is taken over.
    pub adopt: bool,
    /// What the status says of what is there, where the store itself can't say it.
    pub claim: Claim,
    /// Whether members were pushed into it, as the status says: somebody may have taken the tag off.
    pub shared: bool,
    /// Whether something may be written at this very moment.
    pub permit: Permit<'o>,
    /// Writes into the status that something is about to be made.
    pub announce: Announce<'o>,
    /// Whether the store is asked at all.
    pub breakers: &'o Breakers,
    /// Told that the store answers again.
    pub came_back: &'o watch::Sender<()>,
    /// What happened on the way.
    pub met: Met,
}

/// What happened at the store, however it ended.
#[derive(Debug, Default)]
pub struct Met {
    /// It was asked something.
    pub asked: AtomicBool,
    /// It left a call without an answer.
    pub hung: AtomicBool,
    /// Something was taken over.
    pub adopted: AtomicBool,
    /// Something was certainly made.
    pub made: AtomicBool,
}

/// What is known, besides the mark, about whose something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing.
    None,
    /// It was about to be made by us: if it is what we make, it is ours.
    Making,
    /// It is ours.
    Owned,
}

/// Whether something may be written to.
enum Right {
    /// It is ours.
    Ours,
    /// It is nobody's, and will be ours.
    Adopted,
    /// It is ours if it holds what we were about to make.
    IfEqual,
}

impl Owned<'_> {
    /// Makes a target what the Secret says. `known`: what the last look found.
    pub async fn bring(&self, target: &Target, secret: &Pushed, known: Option<&Mark>) -> Result<Done, ReadError> {
        let source = &target.source;
        if target.is_members() && !self.store.compares() {
            let error = unsupported(source.store, "compare, so that a member could be lost; push a whole value there");
            return Err(Trouble::Write(error).about(source));
        }
        let (mut owed, mut claim, mut last) = (Owed::default(), self.claim, None);
        for attempt in 0..MERGES {
            if attempt > 0 {
                tokio::time::sleep(AGAIN).await;
            }
            match self.bring_once(target, secret, known, &mut owed, claim).await {
                // Somebody else made, wrote or deleted it between the look and the write: what it is now is looked at again.
                Err(Trouble::Write(error @ (WriteError::Conflict | WriteError::AlreadyExists | WriteError::NotFound)))
                    if attempt + 1 < ATTEMPTS || !owed.is_empty() =>
                {
                    // It was not made by us.
                    claim = if matches!(error, WriteError::AlreadyExists) { Claim::None } else { claim };
                    last = last.or(Some(error));
                }
                Err(Trouble::Write(error @ WriteError::Overtaken { .. })) if !owed.is_empty() => last = Some(error),
                answer => return answer.map_err(|trouble| trouble.about(source)),
            }
        }
        Err(last.map_or_else(|| misunderstood().about(source), |error| Trouble::Write(error).about(source)))
    }

    async fn bring_once(&self, target: &Target, secret: &Pushed, known: Option<&Mark>, owed: &mut Owed, claim: Claim) -> Result<Done, Trouble> {
        let source = &target.source;
        let (there, reading) = match self.look(source).await {
            Err(Trouble::Write(WriteError::NotFound)) => return self.make(target, secret).await,
            there => there?,
        };
        if self.is_deleted(&there) {
            self.right(&there, Claim::Owned)?;
            return self.make(target, secret).await;
        }
        if let Some(problem) = closed(source, &there) {
            return Err(ReadError::new(Reason::TargetRejected, problem).into());
        }
        let leaves = self.policy == UpdatePolicy::IfNotExists;
        if leaves && claim != Claim::Making {
            return Ok(Done::Left(Box::new(there)));
        }
        let right = self.right(&there, claim)?;
        if (self.shared || is_shared(&there)) && !target.is_members() && !self.adopt {
            return Err(shared().into());
        }
        let mut lacking = self.lacking(target, &there);
        let is_known = known.is_some_and(|known| {
            known.secret == *secret.seen() && known.generation == self.generation && known.version == there.version && known.changed == there.changed
        });
        if is_known && there.version.is_some() && matches!(right, Right::Ours) && lacking.is_empty() && owed.is_empty() {
            return Ok(Done::Agrees(Box::new(there.clone()), self.mark(secret, &there)));
        }
        let data = secret.data().await?;
        let reading = match reading {
            Some(reading) => Ok(reading),
            None => self.read(source).await,
        };
        let (wanted, held, base) = match reading {
            Ok(Reading { value: Value::Text(held) | Value::Binary(held), version, .. }) => {
                let wanted = target.over(data, &owed.onto(&held).map_err(|error| unmergeable(&error))?)?;
                (wanted, Some(held), Some(version))
            }
            Ok(_) => return Err(misunderstood().into()),
            // It has no value yet.
            Err(error) if error.reason == Reason::SourceNotFound => (target.fresh(data)?, None, None),
            Err(error) => return Err(error.into()),
        };
        let agrees = held.as_ref().is_some_and(|held| self.store.agrees(&wanted, held));
        match right {
            Right::IfEqual if !agrees && leaves => return Ok(Done::Left(Box::new(there))),
            Right::IfEqual if !agrees => return Err(unmarked().into()),
            Right::Adopted | Right::IfEqual if self.store.keeps_tags() => {
                self.met.adopted.store(true, Ordering::Relaxed);
                lacking.tags.insert(OWNER_TAG.to_owned(), self.owner.to_owned());
            }
            Right::Ours | Right::Adopted | Right::IfEqual => {}
        }
        if agrees && (lacking.description.is_none() || source.store != Store::ParameterStore) {
            self.supply(source, &lacking).await?;
            // Read after the look: only what both saw is known to agree.
            let there = Described { version: base.filter(ServedVersion::lasts).map(|base| base.id), ..there };
            return Ok(Done::Agrees(Box::new(there.clone()), self.mark(secret, &there)));
        }
        let description = target.attributes.description.as_deref();
        let written = self.write(source, self.store.update(source, &wanted, base.as_ref(), description).boxed()).await;
        let written = match written {
            Err(WriteError::Overtaken { base, written }) => self.overtaken(target, (base, written), owed).await?,
            written => written?,
        };
        // Not before: what refuses the value stays whose it was.
        self.supply(source, &lacking).await?;
        Ok(Done::Written { written, anew: false })
    }

    /// Makes what isn't there.
    async fn make(&self, target: &Target, secret: &Pushed) -> Result<Done, Trouble> {
        let value = target.fresh(secret.data().await?)?;
        let (source, mut attributes) = (&target.source, target.attributes.clone());
        if self.store.keeps_tags() {
            attributes.tags.insert(OWNER_TAG.to_owned(), self.owner.to_owned());
            if target.is_members() {
                attributes.tags.insert(SHARED_TAG.to_owned(), true.to_string());
            }
        }
        if matches!(self.store, Opened::Aws(_)) {
            let written = self.write(source, self.store.create(source, &value, &attributes).boxed()).await?;
            return Ok(Done::Written { written, anew: true });
        }
        // Where the mark doesn't come with the value, a crash in between would leave something that nobody knows for ours.
        (self.permit)()?;
        (self.announce)().await?;
        let tags = std::mem::take(&mut attributes.tags);
        let written = self.write(source, self.store.create(source, &value, &attributes).boxed()).await?;
        self.met.made.store(true, Ordering::Relaxed);
        if !tags.is_empty() {
            self.write(source, self.store.tag(source, &tags).boxed()).await?;
        }
        Ok(Done::Written { written, anew: true })
    }

    /// What is known of a target without its value, and the value where it comes with that.
    async fn look(&self, source: &Source) -> Result<(Described, Option<Reading>), Trouble> {
        let family = self.store.family_of_looks(source.store);
        if let Some(described) = self.call(family, &|| Ok(()), async |_| self.store.describe(source).boxed().await.transpose()).await? {
            return Ok((described, None));
        }
        let reading = match self.read(source).await {
            Err(error) if error.reason == Reason::SourceNotFound => return Err(WriteError::NotFound.into()),
            reading => reading?,
        };
        let arn = Some(reading.version.arn.clone()).filter(|arn| !arn.is_empty());
        Ok((Described { arn, ..Described::default() }, Some(reading)))
    }

    /// Of a value that was deleted Vault keeps what was said of it, the mark too.
    fn is_deleted(&self, there: &Described) -> bool {
        self.store.keeps_tags() && there.version.is_none() && !matches!(self.store, Opened::Aws(_))
    }

    /// Whether it may be written to.
    fn right(&self, there: &Described, claim: Claim) -> Result<Right, ReadError> {
        let mark = if self.store.keeps_tags() { mark_of(there)? } else { None };
        match mark {
            Some(owner) if owner == self.owner => Ok(Right::Ours),
            Some(_) => Err(ReadError::new(
                Reason::TargetNotOwned,
                "it is another RobotoPush's, of this cluster or another one (tag robotosecret.dev/owner); choose another name, or delete the tag and set adopt: true",
            )),
            // Where there is a mark, it is missing still.
            None if claim == Claim::Owned => Ok(if self.store.keeps_tags() { Right::Adopted } else { Right::Ours }),
            None if self.adopt => Ok(Right::Adopted),
            None if claim == Claim::Making => Ok(Right::IfEqual),
            None if self.store.keeps_tags() => Err(unmarked()),
            None => Err(ReadError::new(
                Reason::TargetNotOwned,
                "it is there, and this RobotoPush did not make it; choose another name, or set adopt: true to take it over",
            )),
        }
    }

    /// What the spec says besides the value, and the store doesn't.
    fn lacking(&self, target: &Target, there: &Described) -> Lacking {
        let said = &target.attributes;
        let has = there.tags.as_ref();
        let tags = said.tags.iter().filter(|(name, value)| has.is_some_and(|has| has.get(*name) != Some(*value)));
        let shared = target.is_members();
        let sharing = (shared != is_shared(there)).then(|| (SHARED_TAG.to_owned(), shared.to_string()));
        let tags = tags.map(|(name, value)| (name.clone(), value.clone())).chain(sharing);
        let tags = if self.store.keeps_tags() { tags.collect() } else { BTreeMap::new() };
        let description = said.description.clone().filter(|said| matches!(self.store, Opened::Aws(_)) && there.description.as_ref() != Some(said));
        Lacking { tags, description }
    }

    /// Gives a target what it lacks besides its value; what Parameter Store takes with a value alone is written with that.
    async fn supply(&self, source: &Source, lacking: &Lacking) -> Result<(), Trouble> {
        if !lacking.tags.is_empty() {
            self.write(source, self.store.tag(source, &lacking.tags).boxed()).await?;
        }
        if let (Some(description), Opened::Aws(provider), Store::SecretsManager) = (&lacking.description, self.store, source.store) {
            self.write(source, provider.set_description(source, description).boxed()).await?;
        }
        Ok(())
    }

    /// This was written over what somebody else wrote at the same moment. A whole value would have been put back in any case; what others changed beside
    /// members is owed to them.
    async fn overtaken(&self, target: &Target, (base, written): (u64, u64), owed: &mut Owed) -> Result<Written, Trouble> {
        if !target.is_members() || written <= base + 1 {
            return Ok(Written { arn: String::new(), version: written.to_string() });
        }
        let read = |number| {
            let version = Source { version: Some(Version::Number(number)), ..target.source.clone() };
            let read = async move {
                match self.read(&version).await.ok()?.value {
                    Value::Text(text) => Some(text),
                    Value::Binary(_) | Value::List(_) => None,
                }
            };
            read.boxed()
        };
        // Where they can't be read it is told, with the versions.
        owed.learn(base, written, read).await;
        Err(WriteError::Overtaken { base, written }.into())
    }

    fn mark(&self, secret: &Pushed, there: &Described) -> Mark {
        Mark { secret: secret.seen().clone(), generation: self.generation, version: there.version.clone(), changed: there.changed.clone() }
    }

    /// Deletes what is ours. `made`: tells what may have been made of the Secret, by which what has no mark yet is known; not asked where nothing is there.
    pub async fn remove(
        &self,
        source: &Source,
        recovery: Recovery,
        made: impl AsyncFnOnce() -> Result<Vec<Sensitive>, ReadError>,
    ) -> Result<Removed, ReadError> {
        let remove = async {
            let (there, reading) = match self.look(source).await {
                Err(Trouble::Write(WriteError::NotFound)) => return Ok(Removed::Nothing),
                there => there?,
            };
            if there.deletion.is_some() || self.is_deleted(&there) || is_shared(&there) {
                return Ok(Removed::Nothing);
            }
            let mark = if self.store.keeps_tags() { mark_of(&there)? } else { None };
            match (mark, self.claim) {
                (Some(owner), _) if owner != self.owner => return Ok(Removed::Nothing),
                (None, Claim::None) => return Ok(Removed::Nothing),
                (None, Claim::Making) => {
                    let reading = if let Some(reading) = reading { reading } else { self.read(source).await? };
                    let (Value::Text(held) | Value::Binary(held)) = reading.value else { return Err(misunderstood().into()) };
                    if !made().await?.iter().any(|made| self.store.agrees(made, &held)) {
                        return Ok(Removed::Doubtful);
                    }
                }
                (Some(_), _) | (None, Claim::Owned) => {}
            }
            match self.write(source, self.store.delete(source, recovery).boxed()).await {
                Err(WriteError::NotFound) => Ok(Removed::Nothing),
                answer => Ok(answer.map(|_| Removed::Deleted)?),
            }
        };
        remove.await.map_err(|trouble: Trouble| trouble.about(source))
    }

    /// Writes when it is its turn, if that is permitted then.
    async fn write<T>(&self, source: &Source, write: BoxFuture<'_, Result<T, WriteError>>) -> Result<T, WriteError> {
        self.call(self.store.family_of_writes(source.store), self.permit, async |_| write.await).await
    }

    async fn call<T>(&self, family: Family, permit: Permit<'_>, call: impl AsyncFnOnce(Turns) -> Result<T, WriteError>) -> Result<T, WriteError> {
        if !self.breakers.admit(family, Instant::now()) {
            return Err(unasked().into());
        }
        let turns = self.reader.turns(&*self.store.provider(), family);
        turns.next().await;
        permit()?;
        let left = Instant::now();
        if !self.breakers.leave(family, left) {
            return Err(unasked().into());
        }
        self.met.asked.store(true, Ordering::Relaxed);
        let answer = call(turns.clone()).await;
        match self.breakers.ended(family, left, &answer, Instant::now()) {
            Ended::Answered => {}
            Ended::CameBack => self.came_back.send_replace(()),
            Ended::Hung => self.met.hung.store(true, Ordering::Relaxed),
        }
        if answer.as_ref().is_err_and(|error| error.reason() == Reason::Throttled) {
            turns.throttled();
        }
        answer
    }

    async fn read(&self, source: &Source) -> Result<Reading, ReadError> {
        let question = Question::Value(source.staged());
        let provider = self.store.provider();
        let read = async |turns: Turns| {
            let answer = tokio::time::timeout(READ_LIMIT, provider.read_one(&question, &Calls::new(turns))).await;
            Ok(answer.unwrap_or_else(|_| Err(silent()))?)
        };
        let answer = self.call(provider.route(&question).single, &|| Ok(()), read).await;
        answer.map_err(|error| if let WriteError::Failed(error) = error { error } else { misunderstood() })
    }
}

/// Others were not answered.
fn unasked() -> ReadError {
    ReadError::new(Reason::ProviderUnavailable, "the store was not asked, since it does not answer; one call at a time is tried until it does")
}

/// What the spec says besides the value, and the store doesn't.
struct Lacking {
    tags: BTreeMap<String, String>,
    description: Option<String>,
}

impl Lacking {
    fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.description.is_none()
    }
}

fn unmarked() -> ReadError {
    ReadError::new(
        Reason::TargetNotOwned,
        "it is there and has nobody's mark (tag robotosecret.dev/owner); choose another name, or set adopt: true to take it over",
    )
}

fn shared() -> ReadError {
    ReadError::new(
        Reason::TargetNotOwned,
        "members were pushed into it (tag robotosecret.dev/shared), so that others may keep theirs there; push to another name, or set adopt: true to write over all of it",
    )
}

/// Whether others may keep members in it.
fn is_shared(there: &Described) -> bool {
    there.tags.as_ref().and_then(|tags| tags.get(SHARED_TAG)).is_some_and(|shared| shared == "true")
}

fn unmergeable(error: &RenderError) -> ReadError {
    ReadError::new(Reason::KeypathNotFound, format!("what somebody else changed at the same time can't be done again: {error}"))
}

/// Whose mark something has.
fn mark_of(there: &Described) -> Result<Option<&str>, ReadError> {
    let unseen =
        || ReadError::new(Reason::AccessDenied, "its tags can't be seen, by which it is known whose it is; grant the identity ssm:ListTagsForResource");
    let tags = there.tags.as_ref().ok_or_else(unseen)?;
    Ok(tags.get(OWNER_TAG).map(String::as_str))
}

/// Why something that is there can't be written to.
fn closed(source: &Source, there: &Described) -> Option<&'static str> {
    if there.deletion.is_some() {
        return Some("the secret is scheduled for deletion; restore it, or wait until it is gone");
    }
    // AWS takes the beginning of an ARN for the whole one.
    let is_another = source.arn().is_some() && there.arn.as_ref().is_some_and(|arn| *arn != source.id());
    is_another.then_some("the ARN is the beginning of another secret's; write that one, or the name")
}

/// Why a look came to nothing.
#[derive(Debug)]
enum Trouble {
    Read(ReadError),
    Write(WriteError),
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<WriteError> for Trouble {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl Trouble {
    fn about(self, source: &Source) -> ReadError {
        let error = match self {
            // What already names what it is about.
            Self::Read(error) | Self::Write(WriteError::Failed(error)) if error.message.starts_with(&source.to_string()) => return error,
            Self::Read(error) | Self::Write(WriteError::Failed(error)) => error,
            // It depends on the value as much as on the spec, so that it is tried again.
            Self::Write(WriteError::Refused(problem)) => ReadError::new(Reason::TargetRejected, problem),
            Self::Write(error @ WriteError::NotSupported { .. }) => ReadError::new(Reason::InvalidSpec, error.to_string()),
            Self::Write(error @ WriteError::Overtaken { .. }) => ReadError::new(Reason::TargetConflict, error.to_string()),
            Self::Write(_) => ReadError::new(Reason::TargetConflict, "somebody else writes it at the same time; it is tried again"),
        };
        error.about(source)
    }
}
