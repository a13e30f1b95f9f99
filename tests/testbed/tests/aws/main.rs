//! The emulated AWS as real SDK clients see it: moto behind a front, the emulator, and what both can be told to do wrong.
#![allow(clippy::unwrap_used)]

mod emulator;
mod faults;
mod front;
mod lists;

use std::time::{Duration, Instant};

use aws_sdk_secretsmanager::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Code, message and the whole chain of a failed call.
fn error<T: std::fmt::Debug, E: ProvideErrorMetadata + std::error::Error + 'static, R: std::fmt::Debug>(
    outcome: Result<T, SdkError<E, R>>,
) -> (String, String, String) {
    let error = outcome.unwrap_err();
    (error.code().unwrap_or("none").to_owned(), error.message().unwrap_or_default().to_owned(), DisplayErrorContext(&error).to_string())
}

/// Waits until `condition` holds.
async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
