//! A door before a server: while it is shut, the server can't be reached through it, and who was inside is thrown out. An address
//! enters, another one leaves that leads to it. It looks at nothing that goes through, but counts what goes in.

use std::io::{self, Read};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

/// An open or shut door. All methods take `&self` and hardly block. It stays until the process ends, and is shut when dropped.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    /// Both ends of each connection that went through; none at all while it is shut.
    inside: Arc<Mutex<Option<Vec<TcpStream>>>>,
    /// How many bytes went to the server.
    sent: Arc<AtomicU64>,
}

impl Door {
    /// An open door before the server at this address, on a free loopback port.
    pub fn before(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("binding")?;
        let door = Self { address: listener.local_addr()?, inside: Arc::new(Mutex::new(Some(Vec::new()))), sent: Arc::default() };
        let (inside, sent) = (Arc::clone(&door.inside), Arc::clone(&door.sent));
        thread::spawn(move || {
            for client in listener.incoming() {
                // Who finds it shut, or finds no server behind it, is cut off.
                let _ = client.and_then(|client| connect(client, server, &inside, &sent));
            }
        });
        Ok(door)
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many bytes went to the server so far. A request has hundreds.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
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
fn connect(client: TcpStream, server: SocketAddr, inside: &Mutex<Option<Vec<TcpStream>>>, sent: &Arc<AtomicU64>) -> io::Result<()> {
    let mut inside = lock(inside);
    let Some(inside) = inside.as_mut() else { return Ok(()) };
    let server = TcpStream::connect(server)?;
    for (from, to, count) in [(&client, &server, sent), (&server, &client, &Arc::default())] {
        let (from, mut to, count) = (from.try_clone()?, to.try_clone()?, Arc::clone(count));
        thread::spawn(move || {
            // However it ends, the other side learns it.
            let _ = io::copy(&mut Counted(from, &count), &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    inside.extend([client, server]);
    Ok(())
}

/// What is read is counted.
struct Counted<'c>(TcpStream, &'c AtomicU64);

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
