//! The cure of each reason: what helps, for whoever meets it.
//!
//! A reason enters, a sentence leaves. Pure. The table of reasons in docs/operations.md says the same; a test fails when they drift.

use super::status::Reason;

impl Reason {
    /// What helps.
    #[must_use]
    pub const fn cure(self) -> &'static str {
        match self {
            Self::Mirrored | Self::Pushed | Self::Verified => "none needed",
            Self::Pending => "if it stays: does the controller run and serve that namespace (rbac.namespaces, --namespaces)? Is it the leader?",
            Self::Suspended => "take it out of the spec",
            Self::NotRechecked => "choose TTL, or OnChange; for one read more, the refresh annotation",
            Self::Stale => "the reason of Fresh is the cause; mend that",
            Self::InvalidSpec => "edit the spec as the message says",
            Self::KeyCollision => "rename or exclude one, or onCollision: Override",
            Self::TemplateError => "mend template or ConfigMap; the message names template and line",
            Self::ProviderNotFound => "create it; the resources that wait for it are looked at at once",
            Self::NotAllowed => "add what the message says is missing, or name another provider",
            Self::SourceNotFound => "check the name, and where it is looked for (region, account, mount, organisation); put it back; or delete the resource",
            Self::SourceDeleted => "put it back, and it is mirrored again; or delete the resource",
            Self::KeypathNotFound => "correct the #/pointer or the value, for Envase perhaps the provider's fields",
            Self::DecodeError => "correct the value, or leave decode out",
            Self::InvalidKey => "conversion: Underscore, rewrite, or single keys with data",
            Self::AccessDenied => {
                "grant the action that the message names, on that secret, parameter or key; in Vault, Roboto, Envase let the identity in there"
            }
            Self::CredentialsError => {
                "for AWS the ServiceAccount's annotation (IRSA) or pod identity association, the role's trust policy, the clock; else put another token, key or secret into the Secret that the provider names"
            }
            Self::Throttled => "it passes by itself; if it lasts, a longer ttl, or less for the controller with spec.aws.limits",
            Self::ProviderUnavailable => "it passes with the outage; if not: endpoint, DNS, network policy, proxy",
            Self::TargetNotOwned => "delete it, choose another target.name, or hand it over with robotosecret.dev/adopt",
            Self::TargetConflict => "rename the key, or have the other let go of it; the message names both",
            Self::TargetRejected => "as the message says; for admission ask whoever wrote the policy (its text is not repeated, it could hold a value)",
            Self::TargetDrifted => "the reason of Fresh; or stop whoever changes it (event DriftFight names who)",
            Self::KubernetesError => "the roles of the controller's ServiceAccount; the API server",
            Self::InternalError => "report it with the controller's log",
        }
    }
}
