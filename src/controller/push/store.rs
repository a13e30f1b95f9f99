//! One secret or parameter at the store: looked at, compared with what the Secret holds, and written if it differs and is ours.
//!
//! A target, the Secret and whose it is enter; what was found or written leaves. Each write is permitted at the last moment and made over the version that
//! was read. It must never write what has somebody else's mark, or none; never write twice what is there already; and never tell a part of a value.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    plan::{Content, Target},
    source::{Pushed, Seen},
};
use crate::{
    api::{
        Reason,
        reference::{Source, Version},
        robotopush::{OWNER_TAG, UpdatePolicy},
    },
    limit::{Budgets, Calls, Turns},
    provider::{
        Provider, Question, ReadError, Reading, ServedVersion, Value, WriteError,
        aws::AwsProvider,
        misunderstood, silent,
        writing::{Described, Recovery, Written},
    },
};

/// How often a target is looked at anew because somebody else wrote meanwhile.
const ATTEMPTS: usize = 3;
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

/// Whose target it is, and under which terms.
pub struct Owned<'o> {
    /// The store.
    pub provider: &'o AwsProvider,
    /// The owner's mark.
    pub owner: &'o str,
    /// The spec's generation.
    pub generation: i64,
    /// What happens to what is there.
    pub policy: UpdatePolicy,
    /// Whether what has no mark is taken over.
    pub adopt: bool,
    /// Whether something may be written at this very moment.
    pub permit: &'o (dyn Fn() -> Result<(), ReadError> + Send + Sync),
}

impl Owned<'_> {
    /// Makes a target what the Secret says. `known`: what the last look found.
    pub async fn bring(&self, target: &Target, secret: &mut Pushed, known: Option<&Mark>) -> Result<Done, ReadError> {
        let mut last = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(AGAIN).await;
            }
            match self.bring_once(target, secret, known).await {
                // Somebody else made, wrote or deleted it between the look and the write: what it is now is looked at again.
                Err(Trouble::Write(error @ (WriteError::Conflict | WriteError::AlreadyExists | WriteError::NotFound))) => last = Some(error),
                answer => return answer.map_err(|trouble| trouble.about(&target.source)),
            }
        }
        Err(last.map_or_else(|| misunderstood().about(&target.source), |error| Trouble::Write(error).about(&target.source)))
    }

    async fn bring_once(&self, target: &Target, secret: &mut Pushed, known: Option<&Mark>) -> Result<Done, Trouble> {
        let source = &target.source;
        let there = match self.provider.describe(source).await {
            Err(WriteError::NotFound) => {
                let value = Value::of(target.fresh(secret.data().await?)?);
                (self.permit)()?;
                let written = self.provider.create(source, &value, &target.attributes_of(self.owner)).await?;
                return Ok(Done::Written { written, anew: true });
            }
            there => there?,
        };
        if self.policy == UpdatePolicy::IfNotExists {
            return Ok(Done::Left(Box::new(there)));
        }
        if let Some(problem) = closed(source, &there) {
            return Err(ReadError::new(Reason::TargetRejected, problem).into());
        }
        self.own(source, &there).await?;
        let is_known = known.is_some_and(|known| {
            known.secret == *secret.seen() && known.generation == self.generation && known.version == there.version && known.changed == there.changed
        });
        if is_known && there.version.is_some() {
            return Ok(Done::Agrees(Box::new(there.clone()), self.mark(secret, &there)));
        }
        let data = secret.data().await?;
        let (wanted, base) = match self.read(source).await {
            Ok(Reading { value: Value::Text(held) | Value::Binary(held), version, .. }) => {
                let wanted = target.over(data, &held)?;
                if wanted == held {
                    // Read after the look: only what both saw is known to agree.
                    let there = Described { version: Some(version.id), ..there };
                    return Ok(Done::Agrees(Box::new(there.clone()), self.mark(secret, &there)));
                }
                (wanted, Some(version))
            }
            Ok(_) => return Err(misunderstood().into()),
            // It has no value yet.
            Err(error) if error.reason == Reason::SourceNotFound => (target.fresh(data)?, None),
            Err(error) => return Err(error.into()),
        };
        (self.permit)()?;
        let written = match self.provider.update(source, &Value::of(wanted), base.as_ref()).await {
            Err(WriteError::Overtaken { base, written }) => self.overtaken(target, secret, (base, written)).await?,
            written => written?,
        };
        Ok(Done::Written { written, anew: false })
    }

    /// This was written over what somebody else wrote at the same moment. Of a whole value that would have been put back in any case; members of others are
    /// taken out of the version between and written once more.
    async fn overtaken(&self, target: &Target, secret: &mut Pushed, (base, written): (u64, u64)) -> Result<Written, Trouble> {
        let ours = Written { arn: String::new(), version: written.to_string() };
        if !matches!(target.content, Content::Members(_)) || written <= base {
            return Ok(ours);
        }
        let between = Source { version: Some(Version::Number(written - 1)), ..target.source.clone() };
        let Value::Text(theirs) = self.read(&between).await?.value else { return Err(misunderstood().into()) };
        let merged = target.over(secret.data().await?, &theirs)?;
        (self.permit)()?;
        let base = ServedVersion { arn: String::new(), id: ours.version, created: None, region: None };
        Ok(self.provider.update(&target.source, &Value::of(merged), Some(&base)).await?)
    }

    fn mark(&self, secret: &Pushed, there: &Described) -> Mark {
        Mark { secret: secret.seen().clone(), generation: self.generation, version: there.version.clone(), changed: there.changed.clone() }
    }

    /// Sees to it that what is there has our mark; else it is not ours to write.
    async fn own(&self, source: &Source, there: &Described) -> Result<(), Trouble> {
        let foreign = |problem: &str| Trouble::Read(ReadError::new(Reason::TargetNotOwned, problem));
        match mark_of(there)? {
            Some(owner) if owner == self.owner => Ok(()),
            Some(_) => Err(foreign(
                "it is another RobotoPush's, of this cluster or another one (tag robotosecret.dev/owner); choose another name, or delete the tag and set adopt: true",
            )),
            None if self.adopt => {
                (self.permit)()?;
                Ok(self.provider.tag(source, OWNER_TAG, self.owner).await?)
            }
            None => Err(foreign("it is there and has nobody's mark (tag robotosecret.dev/owner); choose another name, or set adopt: true to take it over")),
        }
    }

    /// Deletes what has our mark. Returns whether anything was deleted.
    pub async fn remove(&self, source: &Source, recovery: Recovery) -> Result<bool, ReadError> {
        let remove = async {
            let there = match self.provider.describe(source).await {
                Err(WriteError::NotFound) => return Ok(false),
                there => there?,
            };
            if there.deletion.is_some() || mark_of(&there)? != Some(self.owner) {
                return Ok(false);
            }
            (self.permit)()?;
            match self.provider.delete(source, recovery).await {
                Err(WriteError::NotFound) => Ok(false),
                answer => Ok(answer.map(|_| true)?),
            }
        };
        remove.await.map_err(|trouble: Trouble| trouble.about(source))
    }

    async fn read(&self, source: &Source) -> Result<Reading, ReadError> {
        let question = Question::Value(source.staged());
        // Without a bucket: the few calls of pushes count against no ceiling yet.
        let turns = Turns::new(Arc::new(Mutex::new(Budgets::default())), (self.provider.account().into(), self.provider.route(&question).single));
        let answer = tokio::time::timeout(READ_LIMIT, self.provider.read_one(&question, &Calls::new(turns))).await;
        answer.unwrap_or_else(|_| Err(silent()))
    }
}

/// Whose mark something has.
fn mark_of(there: &Described) -> Result<Option<&str>, Trouble> {
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
            Self::Write(_) => ReadError::new(Reason::TargetConflict, "somebody else writes it at the same time; it is tried again"),
        };
        error.about(source)
    }
}
