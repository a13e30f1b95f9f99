//! A value between the store and the Secret: counted for as long as anybody holds it.
//!
//! A reading enters, shared holds of it leave. The counters tell the reader how much was read and is not used yet.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::provider::{ReadError, Reading};

/// What came of one question.
pub type Answer = Result<Arc<Held>, ReadError>;

/// A reading that is counted until the last who holds it lets go.
#[derive(Debug)]
pub struct Held {
    reading: Reading,
    bytes: usize,
    counters: [Arc<AtomicUsize>; 2],
}

impl Held {
    pub(crate) fn new(reading: Reading, counters: [Arc<AtomicUsize>; 2]) -> Self {
        let bytes = reading.size();
        for counter in &counters {
            counter.fetch_add(bytes, Ordering::Relaxed);
        }
        Self { reading, bytes, counters }
    }

    /// What the store answered.
    #[must_use]
    pub fn reading(&self) -> &Reading {
        &self.reading
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for counter in &self.counters {
            counter.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}
