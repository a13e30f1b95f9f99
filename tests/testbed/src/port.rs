//! Free loopback ports. Nothing enters, numbers leave. A port is free when it is handed out, not for ever: who starts a
//! server on it has to try another one when somebody was faster ([`retry`]).

use std::net::TcpListener;

use anyhow::{Context, Result};

/// `N` different ports on 127.0.0.1 that nobody listens on right now.
pub fn free<const N: usize>() -> Result<[u16; N]> {
    // All are held until the last one is known, so that they differ.
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").context("asking the system for a free port")?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Runs `start` up to three times, as long as it fails because "address already in use" stands in its error.
pub fn retry<T>(mut start: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..2 {
        match start() {
            Err(error) if format!("{error:#}").contains("ddress already in use") => {}
            outcome => return outcome,
        }
    }
    start()
}
