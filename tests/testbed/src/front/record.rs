//! What a front remembers of its calls. Calls enter as they arrive and as they are answered, lists and counts leave. It holds names
//! and numbers, never a value.

use std::collections::BTreeMap;
use std::time::Instant;

/// One call that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `secretsmanager`, `ssm`, `sts`, `lambda` or `credentials` (`GET /credentials`, see [`crate::Emulator`]); "" for anything else.
    pub service: &'static str,
    /// The action, for instance `GetSecretValue`; "" if the request named none.
    pub action: String,
    /// The secret ids, parameter names, path or tagged resource that it asks for, as they were sent: an ARN stays an ARN, a selector stays on.
    pub ids: Vec<String>,
    /// The access key id that it is signed with; "" if it isn't signed.
    pub access_key_id: String,
    /// Whether a session token came with it, as it does with temporary credentials.
    pub temporary: bool,
    /// The region that it is signed for; "" if it isn't signed.
    pub region: String,
    /// The fields of a call to STS. In place of a `WebIdentityToken` stands what it claims, as JSON: whoever has the token could use it.
    pub parameters: BTreeMap<String, String>,
    /// The HTTP status of the answer; none yet if the call is under way, hangs or was cut off.
    pub status: Option<u16>,
    /// When it arrived.
    pub at: Instant,
}

impl Call {
    /// Under which name the answer holds the items, if the call lists what there is.
    pub(super) fn lists(&self) -> Option<&'static str> {
        match self.action.as_str() {
            "ListSecrets" => Some("SecretList"),
            "GetParametersByPath" | "DescribeParameters" => Some("Parameters"),
            _ => None,
        }
    }
}

/// The calls of one action.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// All that arrived.
    pub calls: u64,
    /// Those answered with an error of the HTTP status, throttled ones included.
    pub refused: u64,
    /// Those answered `ThrottlingException`.
    pub throttled: u64,
}

/// Counters, and the calls one by one unless that is switched off.
pub(super) struct Record {
    pub(super) calls: Vec<Call>,
    /// How many calls were listed and forgotten before the first of `calls`.
    forgotten: usize,
    pub(super) listing: bool,
    pub(super) totals: BTreeMap<String, Total>,
    in_flight: usize,
    pub(super) most_in_flight: usize,
}

impl Default for Record {
    fn default() -> Self {
        Self { calls: Vec::new(), forgotten: 0, listing: true, totals: BTreeMap::new(), in_flight: 0, most_in_flight: 0 }
    }
}

impl Record {
    /// Counts and lists a call; its place in the list, if it has one.
    pub(super) fn arrived(&mut self, call: &Call) -> Option<usize> {
        self.total(&call.action).calls += 1;
        self.in_flight += 1;
        self.most_in_flight = self.most_in_flight.max(self.in_flight);
        self.listing.then(|| {
            self.calls.push(call.clone());
            self.forgotten + self.calls.len() - 1
        })
    }

    /// A call was answered.
    pub(super) fn answered(&mut self, place: Option<usize>, action: &str, status: u16, throttled: bool) {
        let total = self.total(action);
        total.refused += u64::from(status >= 400);
        total.throttled += u64::from(throttled);
        if let Some(call) = place.and_then(|place| place.checked_sub(self.forgotten)).and_then(|index| self.calls.get_mut(index)) {
            call.status = Some(status);
        }
    }

    /// A call ended, answered or not.
    pub(super) fn ended(&mut self) {
        self.in_flight -= 1;
    }

    /// Starts anew; calls under way stay in flight.
    pub(super) fn forget(&mut self) {
        self.forgotten += self.calls.len();
        self.calls.clear();
        self.totals.clear();
        self.most_in_flight = self.in_flight;
    }

    fn total(&mut self, action: &str) -> &mut Total {
        self.totals.entry(action.to_owned()).or_default()
    }
}
