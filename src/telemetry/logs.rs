//! Logs: one line an event, as JSON or text, on standard error.
//!
//! Our own code never has a value in hand when it logs, other than in [`Sensitive`](crate::sensitive::Sensitive). The Kubernetes client
//! has: see [`ECHOES`].

use tracing_subscriber::{EnvFilter, filter::ParseError, filter::filter_fn, fmt, prelude::*};

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Logs the API server's answers whole, at debug and even as warnings; an admission policy or a broken proxy can echo a value in one.
const ECHOES: &str = "kube_client::client";

/// Starts logging. `filter` is a level (`info`) or a list of targets with levels (`info,kube=debug`).
///
/// # Errors
/// When the filter can't be read.
pub fn start(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    let registry = tracing_subscriber::registry().with(EnvFilter::try_new(filter)?).with(filter_fn(|about| about.is_span() || about.target() != ECHOES));
    match format {
        LogFormat::Json => registry.with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr)).init(),
        LogFormat::Text => registry.with(fmt::layer().with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_writer(std::io::stderr)).init(),
    }
    Ok(())
}
