//! What an operator of the controller sees of it: metrics, the health server, logs.

pub mod health;
pub mod logs;
pub mod metrics;

pub use health::Readiness;
pub use metrics::Metrics;
