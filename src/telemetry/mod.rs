//! What an operator of the controller sees of it: metrics, the health server, logs, traces.

pub mod health;
pub mod logs;
pub mod metrics;
pub mod traces;

pub use health::Readiness;
pub use metrics::Metrics;
pub use traces::Traces;
