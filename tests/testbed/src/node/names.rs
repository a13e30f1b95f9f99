//! The names of Services, as a cluster's DNS answers for them: the least of it that pods need to find each other. Questions enter over UDP,
//! cluster addresses leave. It must never ask anybody else: a name that isn't a Service's doesn't exist.

use std::future::ready;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

use crate::control_plane::client;

/// What the names of all Services end with.
pub(super) const DOMAIN: &str = "cluster.local";

/// As many bytes as a question has at most without extensions that nobody needs here.
const LONGEST: usize = 512;

const ADDRESS: u16 = 1;
const INTERNET: u16 = 1;
const NO_SUCH_NAME: u8 = 3;

/// A running server. Ends on drop.
#[derive(Debug)]
pub(super) struct Names {
    /// None only during drop.
    runtime: Option<Runtime>,
}

impl Names {
    /// Listens on port 53 of this address and watches the Services of a cluster. Blocks the thread.
    pub(super) fn start(address: Ipv4Addr, kubeconfig: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("names").enable_all().build()?;
        let (client, socket) = std::thread::scope(|scope| {
            // The caller may be inside another runtime.
            let start = || runtime.block_on(async { anyhow::Ok((client(kubeconfig).await?, UdpSocket::bind(SocketAddr::from((address, 53))).await?)) });
            scope.spawn(start).join().map_err(|_| anyhow::anyhow!("a helper thread panicked"))?.context("starting to answer for names")
        })?;
        let (services, writer) = reflector::store();
        let events = watcher(Api::<Service>::all(client), watcher::Config::default()).default_backoff();
        runtime.spawn(reflector(writer, events).for_each(|_| ready(())));
        runtime.spawn(serve(socket, services));
        Ok(Self { runtime: Some(runtime) })
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // An ordinary drop of a runtime waits, which panics inside another one.
            runtime.shutdown_background();
        }
    }
}

async fn serve(socket: UdpSocket, services: Store<Service>) {
    let address_of = |name: &str, namespace: &str| {
        let service = services.get(&ObjectRef::new(name).within(namespace))?;
        service.spec.as_ref()?.cluster_ip.as_ref()?.parse().ok()
    };
    let mut question = [0; LONGEST];
    loop {
        let Ok((length, asker)) = socket.recv_from(&mut question).await else { continue };
        if let Some(answer) = answer(&question[..length], address_of) {
            // An asker that is gone needs no answer.
            let _ = socket.send_to(&answer, asker).await;
        }
    }
}

/// The answer to a question, both as RFC 1035 has them; none if it isn't a question.
fn answer(message: &[u8], address_of: impl Fn(&str, &str) -> Option<Ipv4Addr>) -> Option<Vec<u8>> {
    let header: &[u8; 12] = message.first_chunk()?;
    let (labels, length) = labels(&message[12..])?;
    let question = message.get(12..12 + length + 4)?;
    let kind = u16::from_be_bytes([question[length], question[length + 1]]);

    let address = match labels.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [name, namespace, "svc", "cluster", "local"] => address_of(name, namespace),
        _ => None,
    };
    // A name that exists has answers of other kinds, too: none.
    let code = if address.is_some() { 0 } else { NO_SUCH_NAME };
    let address = address.filter(|_| kind == ADDRESS);

    let wants_recursion = header[2] & 1;
    let mut answer = vec![header[0], header[1], 0x84 | wants_recursion, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0];
    answer.extend(question);
    if let Some(address) = address {
        // The name that stands in the question; five seconds to live.
        answer.extend([0xc0, 12]);
        answer.extend([ADDRESS, INTERNET].map(u16::to_be_bytes).concat());
        answer.extend(5_u32.to_be_bytes());
        answer.extend(4_u16.to_be_bytes());
        answer.extend(address.octets());
    }
    Some(answer)
}

/// The labels of a name in lower case, and how many bytes they take.
fn labels(bytes: &[u8]) -> Option<(Vec<String>, usize)> {
    let mut labels = Vec::new();
    let mut position = 0;
    loop {
        let length = usize::from(*bytes.get(position)?);
        position += 1;
        match length {
            0 => return Some((labels, position)),
            // Longer ones would be references, which questions don't have.
            1..64 => labels.push(String::from_utf8_lossy(bytes.get(position..position + length)?).to_lowercase()),
            _ => return None,
        }
        position += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question with id 7 that wants recursion.
    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.bytes());
        }
        message.push(0);
        message.extend([kind, INTERNET].map(u16::to_be_bytes).concat());
        message
    }

    fn address_of(name: &str, namespace: &str) -> Option<Ipv4Addr> {
        (name == "web" && namespace == "shop").then_some(Ipv4Addr::new(10, 0, 0, 9))
    }

    #[test]
    fn a_service_has_an_address_and_no_other_kind_of_it() {
        let found = answer(&question("Web.shop.svc.cluster.local", ADDRESS), address_of).unwrap();
        assert_eq!((&found[..8], &found[found.len() - 4..]), (&[0, 7, 0x85, 0x80, 0, 1, 0, 1][..], &[10, 0, 0, 9][..]));
        let ipv6 = question("web.shop.svc.cluster.local", 28);
        let none = answer(&ipv6, address_of).unwrap();
        assert_eq!((&none[2..8], &none[12..]), (&[0x85, 0x80, 0, 1, 0, 0][..], &ipv6[12..]));
    }

    #[test]
    fn everything_else_does_not_exist() {
        for name in ["db.shop.svc.cluster.local", "web.shop", "web.shop.svc.cluster.local.example.com", "example.com"] {
            assert_eq!(answer(&question(name, ADDRESS), address_of).unwrap()[3], 0x80 | NO_SUCH_NAME, "{name}");
        }
    }

    #[test]
    fn what_is_no_question_gets_no_answer() {
        let whole = question("web.shop.svc.cluster.local", ADDRESS);
        for length in 0..whole.len() {
            assert!(answer(&whole[..length], address_of).is_none(), "{length}");
        }
        let mut reference = whole;
        reference[12] = 0xc0;
        assert!(answer(&reference, address_of).is_none());
    }
}
