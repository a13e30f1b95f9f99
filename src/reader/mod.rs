//! Between many resources and few calls.

pub mod breaker;
pub mod limit;
