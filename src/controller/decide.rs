//! Whether to read the store now, and why: the one place where the rules about that stand together.
//!
//! What is known of a resource enters, a decision leaves. Pure: no I/O, no clock.

use crate::api::robotosecret::RefreshPolicy;

/// What is known of a resource at this moment.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own, and every combination can occur.
pub struct Situation {
    /// The refresh policy.
    pub policy: RefreshPolicy,
    /// The spec is not the one that the status speaks of.
    pub spec_changed: bool,
    /// Everything was mirrored at least once.
    pub mirrored_once: bool,
    /// The refresh annotation has a value that was not handled.
    pub refresh_requested: bool,
    /// A provider became available, allows what it refused, or reads elsewhere than before.
    pub provider_changed: bool,
    /// A template that is kept in a ConfigMap is not the one of the last try.
    pub retemplated: bool,
    /// The Secret holds what was last written.
    pub intact: bool,
    /// The damage came after the last try, whose pause knows nothing of it.
    pub newly_damaged: bool,
    /// A repair is not too soon after the last one.
    pub may_repair: bool,
    /// The last try failed; whether its pause is over.
    pub failing: Option<Pause>,
    /// A recheck found another version in the store.
    pub changed: bool,
    /// What the last read left open needs another one by now: a version that is not believed yet, or what a listing does not have.
    pub unfinished: bool,
}

/// The pause after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// It goes on.
    Running,
    /// It is over.
    Over,
}

/// Why the store is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// New, or a changed spec.
    Spec,
    /// The refresh annotation.
    Forced,
    /// Its provider changed.
    Provider,
    /// A template in a ConfigMap changed.
    Template,
    /// Somebody damaged the Secret.
    Drift,
    /// A failure is tried again.
    Retry,
    /// A recheck found another version.
    Changed,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Read, and write if something differs.
    Read(Why),
    /// The spec changed, but its policy asks for no further read.
    Once,
    /// Nothing.
    Wait,
}

/// Decides.
#[must_use]
pub fn decide(situation: &Situation) -> Decision {
    let once = situation.policy == RefreshPolicy::Once && situation.mirrored_once;
    if situation.refresh_requested {
        return Decision::Read(Why::Forced);
    }
    if situation.spec_changed && !once {
        return Decision::Read(Why::Spec);
    }
    if situation.provider_changed && !once {
        return Decision::Read(Why::Provider);
    }
    if situation.retemplated && !once {
        return Decision::Read(Why::Template);
    }
    if situation.newly_damaged && situation.mirrored_once && situation.may_repair {
        return Decision::Read(Why::Drift);
    }
    if situation.failing == Some(Pause::Running) {
        return Decision::Wait;
    }
    if !situation.intact && situation.mirrored_once {
        return if situation.may_repair { Decision::Read(Why::Drift) } else { Decision::Wait };
    }
    if situation.failing == Some(Pause::Over) {
        return Decision::Read(Why::Retry);
    }
    if situation.spec_changed {
        return Decision::Once;
    }
    // What a read began is carried out to its end, whatever made it read.
    let due = situation.unfinished || (situation.policy == RefreshPolicy::Ttl && situation.changed);
    if due { Decision::Read(Why::Changed) } else { Decision::Wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALM: Situation = Situation {
        policy: RefreshPolicy::Ttl,
        spec_changed: false,
        mirrored_once: true,
        refresh_requested: false,
        provider_changed: false,
        retemplated: false,
        intact: true,
        newly_damaged: false,
        may_repair: true,
        failing: None,
        changed: false,
        unfinished: false,
    };

    #[test]
    fn an_unchanged_resource_reads_nothing() {
        assert_eq!(decide(&CALM), Decision::Wait);
    }

    #[test]
    fn each_cause_reads() {
        for (situation, why) in [
            (Situation { spec_changed: true, ..CALM }, Why::Spec),
            (Situation { refresh_requested: true, ..CALM }, Why::Forced),
            (Situation { provider_changed: true, ..CALM }, Why::Provider),
            (Situation { retemplated: true, ..CALM }, Why::Template),
            (Situation { intact: false, ..CALM }, Why::Drift),
            (Situation { failing: Some(Pause::Over), ..CALM }, Why::Retry),
            (Situation { changed: true, ..CALM }, Why::Changed),
        ] {
            assert_eq!(decide(&situation), Decision::Read(why));
        }
    }

    #[test]
    fn a_failure_pauses_all_but_what_a_user_asks_for() {
        let paused = Situation { failing: Some(Pause::Running), changed: true, unfinished: true, intact: false, ..CALM };
        assert_eq!(decide(&paused), Decision::Wait);
        assert_eq!(decide(&Situation { spec_changed: true, ..paused }), Decision::Read(Why::Spec));
        assert_eq!(decide(&Situation { refresh_requested: true, ..paused }), Decision::Read(Why::Forced));
    }

    #[test]
    fn damage_during_a_pause_is_tried_once_at_once() {
        let damaged = Situation { failing: Some(Pause::Running), intact: false, newly_damaged: true, ..CALM };
        assert_eq!(decide(&damaged), Decision::Read(Why::Drift));
        assert_eq!(decide(&Situation { newly_damaged: false, ..damaged }), Decision::Wait);
        assert_eq!(decide(&Situation { may_repair: false, ..damaged }), Decision::Wait);
    }

    #[test]
    fn the_policies_differ_in_what_makes_them_read() {
        for (policy, spec, changed) in [
            (RefreshPolicy::Ttl, Decision::Read(Why::Spec), Decision::Read(Why::Changed)),
            (RefreshPolicy::OnChange, Decision::Read(Why::Spec), Decision::Wait),
            (RefreshPolicy::Once, Decision::Once, Decision::Wait),
        ] {
            assert_eq!(decide(&Situation { policy, spec_changed: true, ..CALM }), spec);
            assert_eq!(decide(&Situation { policy, changed: true, ..CALM }), changed);
            assert_eq!(decide(&Situation { policy, unfinished: true, ..CALM }), Decision::Read(Why::Changed), "what was begun is finished");
            assert_eq!(decide(&Situation { policy, spec_changed: true, mirrored_once: false, intact: false, ..CALM }), Decision::Read(Why::Spec));
            assert_eq!(decide(&Situation { policy, refresh_requested: true, ..CALM }), Decision::Read(Why::Forced));
            assert_eq!(decide(&Situation { policy, intact: false, ..CALM }), Decision::Read(Why::Drift));
        }
    }

    #[test]
    fn repairs_are_not_made_without_end() {
        assert_eq!(decide(&Situation { intact: false, may_repair: false, changed: true, ..CALM }), Decision::Wait);
    }
}
