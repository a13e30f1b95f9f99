//! Ctrl-C and SIGTERM as a question that can be asked. Signals enter, "were we told to end?" leaves. Without it the process would end at
//! once: children die all the same, but what was made in a cluster that isn't ours would stay there.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Listens for the signals from the moment it is installed. A second signal ends the process at once.
pub struct Interrupt {
    /// Disconnected by the first signal; nothing is ever sent.
    told: Mutex<Receiver<()>>,
}

impl Interrupt {
    /// Takes over SIGINT and SIGTERM for the rest of the process's life.
    pub fn install() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut interrupt, mut terminate) = {
            let _inside = runtime.enter();
            (signal(SignalKind::interrupt()).context("listening for Ctrl-C")?, signal(SignalKind::terminate()).context("listening for SIGTERM")?)
        };
        let (alive, told) = channel::<()>();
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                drop(alive);
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            });
            // The guards of our children see the end of this process.
            std::process::exit(130);
        });
        Ok(Self { told: Mutex::new(told) })
    }

    /// Waits up to `time`, less if a signal arrives. True once there was one.
    pub fn wait(&self, time: Duration) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }
}
