//! A door before a server: while it is shut, the server can't be reached through it, and who was inside is thrown out. An address
//! enters, another one leaves that leads to it. It looks at nothing that goes through.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// An open or shut door. All methods take `&self` and hardly block. It stays until the process ends, and is shut when dropped.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    /// Both ends of each connection that went through; none at all while it is shut.
    inside: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

impl Door {
    /// An open door before the server at this address, on a free loopback port.
    pub fn before(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("binding")?;
        let door = Self { address: listener.local_addr()?, inside: Arc::new(Mutex::new(Some(Vec::new()))) };
        let inside = Arc::clone(&door.inside);
        thread::spawn(move || {
            for client in listener.incoming() {
                // Who finds it shut, or finds no server behind it, is cut off.
                let _ = client.and_then(|client| connect(client, server, &inside));
            }
        });
        Ok(door)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts all connections, and every new one, until it is opened.
    pub fn shut(&self) {
        for stream in lock(&self.inside).take().into_iter().flatten() {
            // One that has ended already can't be cut.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets everybody through again.
    pub fn open(&self) {
        lock(&self.inside).get_or_insert_default();
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.shut();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Joins a client with the server, each way on a thread of its own.
fn connect(client: TcpStream, server: SocketAddr, inside: &Mutex<Option<Vec<TcpStream>>>) -> io::Result<()> {
    let mut inside = lock(inside);
    let Some(inside) = inside.as_mut() else { return Ok(()) };
    let server = TcpStream::connect(server)?;
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            // However it ends, the other side learns it.
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    inside.extend([client, server]);
    Ok(())
}
