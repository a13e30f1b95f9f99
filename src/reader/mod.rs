//! Between many resources and few calls.

pub mod limit;
