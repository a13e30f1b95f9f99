//! The rules that make calls fail. A call enters, a [`Verdict`] leaves. It knows nothing of HTTP and of what stands behind the front.

use std::fmt::{self, Debug};
use std::time::{Duration, Instant};

use super::Call;

/// The actions that share SSM's quota for reads.
pub const SSM_READS: &[&str] = &["GetParameter", "GetParameters", "GetParametersByPath"];

/// What happens instead of an ordinary answer, or to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An AWS error in the form that the call's protocol has.
    Error {
        /// The HTTP status: 400 for a refusal, 500 and above for trouble at AWS.
        status: u16,
        /// The error code, for instance `ThrottlingException`.
        code: String,
        /// The text for people.
        message: String,
    },
    /// 400 `AccessDeniedException` as IAM words it. `BatchGetSecretValue` answers as AWS does: 200, this id among `Errors`, the
    /// other secrets as they are.
    Denied {
        /// The id that may not be read.
        id: String,
    },
    /// As `Denied`, but it is the key that may not be used.
    KmsDenied {
        /// The id that can't be decrypted.
        id: String,
    },
    /// As `Denied`, with any error.
    ItemError {
        /// The id that fails.
        id: String,
        /// The error code.
        code: String,
        /// The text for people.
        message: String,
    },
    /// `BatchGetSecretValue` and `GetParameters` say nothing about this id, neither a value nor an error; a list (`ListSecrets`,
    /// `GetParametersByPath`, `DescribeParameters`) hasn't got it. Other calls are as ever.
    LeftOut {
        /// The id that is passed over.
        id: String,
    },
    /// `BatchGetSecretValue` and lists answer in pages, with a `NextToken` on all but the last. Other calls are as ever.
    Pages {
        /// How many values and errors a page holds; at least 1.
        size: usize,
        /// Whether an empty page comes after each that isn't the last.
        empty_between: bool,
    },
    /// Reads of what was written a moment ago answer what was there before: the version before, or nothing if it is new. For as
    /// long as either limit says. A deletion is seen at once, and so is what is asked for by version. Only an emulator can; a front
    /// before moto answers 502.
    Stale {
        /// How many reads of a secret or parameter after each write.
        reads: u32,
        /// How long after each write.
        within: Duration,
    },
    /// This status and body, as JSON by its content type.
    Body {
        /// The HTTP status.
        status: u16,
        /// The body, which need not be JSON.
        body: String,
    },
    /// The connection ends in the middle of the answer, or before it.
    Cut(Cut),
    /// `ThrottlingException` for what exceeds a token bucket that all matching calls share.
    Quota {
        /// How many calls a second it lets through.
        per_second: u32,
        /// How many at once after a pause.
        burst: u32,
    },
    /// The answer is made at once and arrives late: nothing that is written meanwhile shows in it.
    Delay {
        /// How late, at least.
        latency: Duration,
        /// How much later than that, at most; evenly spread.
        jitter: Duration,
    },
    /// No answer at all; the connection stays open.
    Hang,
    /// Waits until no fault holds calls back any more; then the call is answered as if nothing had been.
    Hold,
    /// The answer is made at once and arrives when no fault holds calls back any more.
    HoldAnswer,
}

/// Where a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Reset (RST) instead of an answer.
    Reset,
    /// Closed (FIN) instead of an answer.
    Close,
    /// Closed in the middle of the answer's head.
    Head,
    /// Closed in the middle of the answer's body, which is shorter than its `Content-Length` then.
    Body,
}

impl Answer {
    /// Whether it says all that there is to say of the call. The others change a part of the ordinary answer.
    fn is_whole(&self, call: &Call) -> bool {
        match self {
            Self::Denied { .. } | Self::KmsDenied { .. } | Self::ItemError { .. } => call.action != "BatchGetSecretValue",
            Self::LeftOut { .. } | Self::Pages { .. } | Self::Stale { .. } => false,
            _ => true,
        }
    }

    /// Whether it says anything of the call.
    fn concerns(&self, call: &Call) -> bool {
        match self {
            Self::LeftOut { .. } => call.lists().is_some() || matches!(call.action.as_str(), "BatchGetSecretValue" | "GetParameters"),
            Self::Pages { .. } => call.lists().is_some() || call.action == "BatchGetSecretValue",
            _ => true,
        }
    }

    pub(super) fn throttled() -> Self {
        Self::Error { status: 400, code: "ThrottlingException".to_owned(), message: "Rate exceeded".to_owned() }
    }
}

/// A rule that makes matching calls fail.
pub struct Fault {
    matcher: Box<dyn Fn(&Call) -> bool + Send>,
    answer: Answer,
    left: Option<usize>,
    /// Of a quota.
    tokens: f64,
    refilled: Instant,
}

impl Fault {
    /// Gives `answer` to each call that `matcher` says yes to. The call's `status` is none at that point.
    pub fn new(matcher: impl Fn(&Call) -> bool + Send + 'static, answer: Answer) -> Self {
        let tokens = if let Answer::Quota { burst, .. } = answer { f64::from(burst) } else { 0.0 };
        Self { matcher: Box::new(matcher), answer, left: None, tokens, refilled: Instant::now() }
    }

    /// Applies to the next `times` matching calls only.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.left = Some(times);
        self
    }

    fn use_up(&mut self) {
        self.left = self.left.map(|left| left - 1);
    }

    /// What it answers a call for which it is asked; nothing if it is a quota that has a token left, which is taken.
    fn decide(&mut self, now: Instant) -> Option<Answer> {
        let Answer::Quota { per_second, burst } = self.answer else { return Some(self.answer.clone()) };
        let gained = now.saturating_duration_since(self.refilled).as_secs_f64() * f64::from(per_second);
        self.tokens = (self.tokens + gained).min(f64::from(burst));
        self.refilled = now;
        if self.tokens < 1.0 {
            return Some(Answer::throttled());
        }
        self.tokens -= 1.0;
        None
    }
}

impl Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault").field("answer", &self.answer).field("left", &self.left).finish_non_exhaustive()
    }
}

/// Names a fault, to take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(u64);

/// What happens to one call.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// How late the answer is.
    pub(super) delay: Duration,
    /// What takes the place of the ordinary answer.
    pub(super) whole: Option<Answer>,
    /// What changes the ordinary answer, the newest first.
    pub(super) parts: Vec<Answer>,
}

/// All rules of a front, the newest first.
#[derive(Default)]
pub(super) struct Faults {
    list: Vec<(FaultId, Fault)>,
    last_id: u64,
    /// The state of the generator behind the jitter, which need be even and not more.
    random: u64,
}

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) -> FaultId {
        self.last_id += 1;
        let id = FaultId(self.last_id);
        self.list.insert(0, (id, fault));
        id
    }

    pub(super) fn remove(&mut self, id: FaultId) {
        self.list.retain(|(other, _)| *other != id);
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
    }

    pub(super) fn hold(&self) -> bool {
        self.list.iter().any(|(_, fault)| matches!(fault.answer, Answer::Hold | Answer::HoldAnswer))
    }

    pub(super) fn judge(&mut self, call: &Call, now: Instant) -> Verdict {
        let mut verdict = Verdict::default();
        let (mut delayed, mut parts) = (false, Vec::new());
        for (index, (_, fault)) in self.list.iter_mut().enumerate() {
            if fault.left == Some(0) || !fault.answer.concerns(call) || !(fault.matcher)(call) {
                continue;
            }
            if let Answer::Delay { latency, jitter } = fault.answer {
                if !delayed {
                    delayed = true;
                    fault.use_up();
                    // Knuth's generator; the upper bits are the good ones.
                    self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let share = f64::from(u32::try_from(self.random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX);
                    verdict.delay = latency + jitter.mul_f64(share);
                }
            } else if !fault.answer.is_whole(call) {
                parts.push(index);
            } else if verdict.whole.is_none()
                && let Some(answer) = fault.decide(now)
            {
                fault.use_up();
                verdict.whole = Some(answer);
            }
        }
        // A call that is refused as a whole has no part to change, unless its answer is made and kept back or cut.
        if matches!(verdict.whole, None | Some(Answer::HoldAnswer | Answer::Cut(_))) {
            for index in parts {
                let fault = &mut self.list[index].1;
                fault.use_up();
                verdict.parts.push(fault.answer.clone());
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(action: &str, ids: &[&str], at: Instant) -> Call {
        Call {
            service: "secretsmanager",
            action: action.to_owned(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            access_key_id: String::new(),
            temporary: false,
            region: String::new(),
            parameters: std::collections::BTreeMap::new(),
            status: None,
            at,
        }
    }

    fn error(code: &str) -> Answer {
        Answer::Error { status: 400, code: code.to_owned(), message: String::new() }
    }

    #[test]
    fn a_quota_lets_through_its_burst_and_then_its_rate() {
        let mut faults = Faults::default();
        faults.add(Fault::new(|_| true, Answer::Quota { per_second: 40, burst: 10 }));
        let start = Instant::now();
        let call = call("GetParameters", &[], start);
        let passed = |faults: &mut Faults, after: Duration| faults.judge(&call, start + after).whole.is_none();
        let hour = Duration::from_secs(3600);
        assert_eq!((0..100).filter(|_| passed(&mut faults, hour)).count(), 10);
        // Over two seconds, tried every millisecond: the rate, within one call.
        let through = (0..2000).filter(|milliseconds| passed(&mut faults, hour + Duration::from_millis(*milliseconds))).count();
        assert!((79..=80).contains(&through), "{through}");
    }

    #[test]
    fn the_newest_decides_and_only_what_decides_is_used_up() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        let call = call("GetSecretValue", &["a"], now);
        faults.add(Fault::new(|_| true, error("Old")));
        faults.add(Fault::new(|_| true, Answer::Quota { per_second: 0, burst: 1 }));
        let newest = faults.add(Fault::new(|_| true, error("New")).times(2));
        let code = |faults: &mut Faults| match faults.judge(&call, now).whole {
            Some(Answer::Error { code, .. }) => code,
            other => format!("{other:?}"),
        };
        // The quota's only token is still there when the newest is used up; then the quota decides.
        assert_eq!([code(&mut faults), code(&mut faults), code(&mut faults), code(&mut faults)], ["New", "New", "Old", "ThrottlingException"]);
        faults.remove(newest);
        faults.clear();
        assert_eq!(code(&mut faults), "None");
    }

    #[test]
    fn parts_give_way_to_a_whole_answer_and_wait_for_their_turn() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        let batch = call("BatchGetSecretValue", &["a", "b"], now);
        faults.add(Fault::new(|_| true, error("Whole")).times(1));
        faults.add(Fault::new(|_| true, Answer::Denied { id: "a".to_owned() }).times(1));
        faults.add(Fault::new(|_| true, Answer::LeftOut { id: "b".to_owned() }));
        let verdict = faults.judge(&batch, now);
        assert!(verdict.whole == Some(error("Whole")) && verdict.parts.is_empty(), "{verdict:?}");
        let verdict = faults.judge(&batch, now);
        assert!(verdict.whole.is_none() && verdict.parts.len() == 2, "{verdict:?}");
        assert_eq!(faults.judge(&batch, now).parts, [Answer::LeftOut { id: "b".to_owned() }]);
        // A single read is never left out.
        assert_eq!(faults.judge(&call("GetSecretValue", &["b"], now), now).parts, []);
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_uses_them() {
        let (mut faults, now) = (Faults::default(), Instant::now());
        let (latency, jitter) = (Duration::from_millis(10), Duration::from_millis(20));
        faults.add(Fault::new(|_| true, Answer::Delay { latency, jitter }));
        let delays: Vec<_> = (0..1000).map(|_| faults.judge(&call("GetSecretValue", &[], now), now).delay).collect();
        assert!(delays.iter().all(|delay| (latency..=latency + jitter).contains(delay)));
        let early = delays.iter().filter(|delay| **delay < latency + jitter / 2).count();
        assert!((400..600).contains(&early), "{early}");
    }
}
