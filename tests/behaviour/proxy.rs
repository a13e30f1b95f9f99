//! A proxy as companies have one between their machines and all else: it is asked to `CONNECT`, and does or doesn't.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

/// It stays until the process ends.
pub struct Proxy {
    /// Host and port of it.
    pub address: String,
    asked: mpsc::Receiver<String>,
}

impl Proxy {
    /// One that leads to this host and port, whatever it is asked for; or one that lets nobody through.
    pub fn start(leads_to: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, asked) = mpsc::channel();
        let leads_to = leads_to.map(str::to_owned);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (tell, leads_to) = (tell.clone(), leads_to.clone());
                thread::spawn(move || serve(client, leads_to.as_deref(), &tell));
            }
        });
        Self { address, asked }
    }

    /// The heads of the requests that came since the last time.
    pub fn asked(&self) -> Vec<String> {
        self.asked.try_iter().collect()
    }
}

fn serve(mut client: TcpStream, leads_to: Option<&str>, tell: &mpsc::Sender<String>) -> Option<()> {
    // What comes after the head comes only after the answer, so that the buffer takes nothing of it along.
    let head: Vec<String> = BufReader::new(&client).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let _ = tell.send(head.join("\n"));
    head.first()?.strip_prefix("CONNECT ")?;
    let Some(mut server) = leads_to.and_then(|target| TcpStream::connect(target).ok()) else {
        return client.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").ok();
    };
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    thread::spawn(move || std::io::copy(&mut from, &mut to).and_then(|_| to.shutdown(Shutdown::Write)));
    std::io::copy(&mut server, &mut client).and_then(|_| client.shutdown(Shutdown::Write)).ok()
}
