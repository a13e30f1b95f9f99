//! Logs: one line an event, as JSON or text, on standard error.
//!
//! Nothing here filters values out: the code that logs never has one in hand, other than in [`Sensitive`](crate::sensitive::Sensitive).

use tracing_subscriber::{EnvFilter, filter::ParseError, fmt, prelude::*};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Starts logging. `filter` is a level (`info`) or a list of targets with levels (`info,kube=debug`).
///
/// # Errors
/// When the filter can't be read.
pub fn start(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    let registry = tracing_subscriber::registry().with(EnvFilter::try_new(filter)?);
    match format {
        LogFormat::Json => registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).init(),
        LogFormat::Text => registry.with(fmt::layer().with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_writer(std::io::stderr)).init(),
    }
    Ok(())
}
