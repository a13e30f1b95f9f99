//! Logs: one line an event, as JSON or text, on standard error.
//!
//! Our own code never has a value in hand when it logs, other than in [`Sensitive`](crate::sensitive::Sensitive). The Kubernetes client
//! has, and so has the AWS SDK: see [`is_safe`].

use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, ParseError, filter_fn},
    fmt,
    prelude::*,
};

use super::traces;

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// These log the API server's answers whole, at debug and even as warnings; an admission policy or a broken proxy can echo a value in one. What a watch
/// meets is logged by the controller, in its own words.
const ECHOES: [&str; 2] = ["kube_client::client", "kube_runtime::watcher"];

/// Checks a filter before anything is logged with it. A misspelt level would be taken for a target, and then nothing is logged at all.
///
/// # Errors
/// What to write instead.
pub fn checked(filter: &str) -> Result<String, String> {
    let advice = "error, warn, info, debug, trace or off, or a target with one of them: info,robotosecret=debug";
    let is_level = |directive: &str| directive.parse::<LevelFilter>().is_ok();
    let understood = EnvFilter::try_new(filter).is_ok() && filter.split(',').all(|directive| directive.contains('=') || is_level(directive.trim()));
    if understood { Ok(filter.to_owned()) } else { Err(advice.to_owned()) }
}

/// Whether what a target logs at a level holds no value. At trace the AWS SDK logs whole answers, of which it blacks out values, but not
/// the tags, which can be mirrored as well.
fn is_safe(target: &str, level: Level) -> bool {
    !(ECHOES.contains(&target) || level == Level::TRACE && target.starts_with("aws_"))
}

/// Starts logging. `filter` is a level (`info`) or a list of targets with levels (`info,kube=debug`). `traces` takes the spans that are
/// traced, whatever is logged.
///
/// # Errors
/// When the filter can't be read.
pub fn start(filter: &str, format: LogFormat, traces: Option<Box<dyn Layer<Registry> + Send + Sync>>) -> Result<(), ParseError> {
    let safe = filter_fn(|about| about.target() != traces::TARGET && (about.is_span() || is_safe(about.target(), *about.level())));
    // The hint lets the macros of what the other filter leaves out cost nothing.
    let shown = EnvFilter::try_new(filter)?.and(safe.with_max_level_hint(LevelFilter::TRACE));
    let registry = tracing_subscriber::registry().with(traces);
    match format {
        LogFormat::Json => registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).with_filter(shown)).init(),
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            registry.with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr).with_filter(shown)).init();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_log_with_whole_answers_in_it_is_dropped() {
        assert!(ECHOES.iter().all(|target| !is_safe(target, Level::WARN)));
        assert!(!is_safe("aws_sdk_ssm::operation::list_tags_for_resource", Level::TRACE));
        assert!(is_safe("aws_smithy_runtime::client", Level::DEBUG) && is_safe("robotosecret::controller", Level::TRACE));
    }

    #[test]
    fn a_misspelt_level_is_no_target() {
        for filter in ["info", "off", "info,robotosecret=debug", "robotosecret::controller=trace", "warn,[span{a=1}]=debug"] {
            assert!(checked(filter).is_ok(), "{filter}");
        }
        for filter in ["verbose", "warning", "info,robotosecret", "info,kube=loud"] {
            assert!(checked(filter).is_err(), "{filter}");
        }
    }
}
