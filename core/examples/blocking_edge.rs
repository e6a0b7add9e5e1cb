//! An edge in one blocking loop: `poll(2)`, sockets of the standard library, no async runtime.
//!
//! The core decides everything. The adapter's part is shown here in full: accept, read, write, close, and one deadline. A real adapter
//! would also open the backend's stream without blocking, and set keep-alive on its sockets, as `voltlane-driver` does.
//!
//! ```text
//! cargo run -p voltlane-tokio --example backend      the backend, at 127.0.0.1:42001
//! cargo run -p voltlane-core --example blocking_edge          the edge, at 127.0.0.1:42000
//! cargo run -p voltlane-core --example blocking_client -- hello
//! ```

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "an adapter has the clock that the core must not have"
)]

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use voltlane_core::Time;
use voltlane_core::edge::HasLink;
use voltlane_core::edge::{CloseKind, Closed, ConnKey, Duty, Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;

/// How long one attempt to reach the backend may block the loop.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The edge, and the sockets by their keys.
struct Server {
    edge: Edge,
    started: Instant,
    listener: TcpListener,
    backend_address: SocketAddr,
    clients: BTreeMap<ConnKey, TcpStream>,
    backend: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Server {
    fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    /// Waits until a socket is ready or the edge's deadline is due, and serves what is ready.
    fn turn(&mut self) -> io::Result<()> {
        let wait = self.edge.poll_timeout().map(|due| due.at.since(self.now()));
        let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());

        // The listener, the backend and each client, with the events of interest.
        let mut waits = vec![PollFd::new(&self.listener, PollFlags::IN)];
        if let Some(backend) = &self.backend {
            let unwritten = self.edge.link_output().iter().any(|part| !part.is_empty());
            let reads = self.edge.link_read_budget() > 0;
            waits.push(PollFd::new(backend, interest(reads, unwritten)));
        }
        for (&key, stream) in &self.clients {
            let unwritten = matches!(self.edge.client_duty(key), Duty::Write(_));
            let reads = self.edge.read_budget(key) > 0;
            waits.push(PollFd::new(stream, interest(reads, unwritten)));
        }
        rustix::event::poll(&mut waits, timeout.as_ref())?;
        let ready: Vec<bool> = waits.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(waits);

        let now = self.now();
        self.edge.handle_timeout(now);
        let mut ready = ready.into_iter();
        let accepts = ready.next() == Some(true);
        if self.backend.is_some() && ready.next() == Some(true) {
            self.read_backend(now);
        }
        let keys: Vec<ConnKey> = self
            .clients
            .keys()
            .copied()
            .zip(ready)
            .filter(|&(_, ready)| ready)
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.read_client(now, key);
            self.serve(now, key);
        }
        if accepts {
            self.accept(now);
        }
        self.serve_link(now);
        // Each connection of which something has changed is returned once.
        while let Some(key) = self.edge.poll_client() {
            self.serve(now, key);
        }
        Ok(())
    }

    fn accept(&mut self, now: Time) {
        while let Ok((stream, peer)) = self.listener.accept() {
            if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
                continue;
            }
            match self.edge.handle_accepted(now, peer.ip()) {
                Ok(key) => drop(self.clients.insert(key, stream)),
                Err(rejected) => eprintln!("{peer}: {rejected:?}"),
            }
        }
    }

    fn read_client(&mut self, now: Time, key: ConnKey) {
        let budget = self.edge.read_budget(key).min(self.buffer.len());
        let (Some(stream), 1..) = (self.clients.get_mut(&key), budget) else {
            return;
        };
        match stream.read(&mut self.buffer[..budget]) {
            Ok(0) => self.close(now, key, Closed::Eof),
            Ok(n) => self.edge.handle_client_bytes(now, key, &self.buffer[..n]),
            Err(error) if is_transient(&error) => {}
            Err(_) => self.close(now, key, Closed::Error),
        }
    }

    /// Does what the edge asks of a client's connection. What the socket does not take waits until it can be written.
    fn serve(&mut self, now: Time, key: ConnKey) {
        while let Some(stream) = self.clients.get_mut(&key) {
            match self.edge.client_duty(key) {
                Duty::Write([first, second]) => {
                    let output = if first.is_empty() { second } else { first };
                    match write(stream, output) {
                        Ok(0) => return,
                        Ok(n) => self.edge.handle_client_written(now, key, n),
                        Err(_) => self.close(now, key, Closed::Error),
                    }
                }
                Duty::Close(kind) => {
                    if kind == CloseKind::Abort {
                        // Data in flight is discarded, and the client sees a reset.
                        let none = Some(Duration::ZERO);
                        let _ = rustix::net::sockopt::set_socket_linger(&*stream, none);
                    }
                    self.close(now, key, Closed::Asked);
                }
                Duty::Read(_) | Duty::Rest => return,
                Duty::Entropy => {
                    let mut entropy = [0; 32];
                    getrandom::fill(&mut entropy).expect("the system has randomness");
                    self.edge.handle_entropy(now, key, entropy);
                }
                Duty::HandOver(_) => unreachable!("there is one shard"),
            }
        }
    }

    fn close(&mut self, now: Time, key: ConnKey, cause: Closed) {
        self.clients.remove(&key);
        self.edge.handle_client_closed(now, key, cause);
    }

    fn read_backend(&mut self, now: Time) {
        let budget = self.edge.link_read_budget().min(self.buffer.len());
        let (Some(stream), 1..) = (&mut self.backend, budget) else {
            return;
        };
        match stream.read(&mut self.buffer[..budget]) {
            Ok(0) => self.lose_backend(now, Closed::Eof),
            Ok(n) => self.edge.handle_link_bytes(now, &self.buffer[..n]),
            Err(error) if is_transient(&error) => {}
            Err(_) => self.lose_backend(now, Closed::Error),
        }
    }

    /// Opens the stream to the backend when it is due, and writes the output for it.
    fn serve_link(&mut self, now: Time) {
        if self.backend.is_none() && self.edge.link_wants_connect(now) {
            self.edge.handle_link_connecting(now);
            let opened = TcpStream::connect_timeout(&self.backend_address, CONNECT_TIMEOUT)
                .and_then(|stream| stream.set_nonblocking(true).and(Ok(stream)));
            let now = self.now();
            match opened {
                Ok(stream) => {
                    self.backend = Some(stream);
                    self.edge.handle_link_connected(now);
                }
                Err(_) => self.edge.handle_link_closed(now, Closed::Error),
            }
        }
        if let Some(stream) = &mut self.backend {
            let [first, second] = self.edge.link_output();
            let output = if first.is_empty() { second } else { first };
            match write(stream, output) {
                Ok(n) => self.edge.handle_link_written(now, n),
                Err(_) => self.lose_backend(now, Closed::Error),
            }
        }
        if self.edge.link_wants_close() {
            self.lose_backend(now, Closed::Asked);
        }
    }

    fn lose_backend(&mut self, now: Time, cause: Closed) {
        self.backend = None;
        self.edge.handle_link_closed(now, cause);
    }
}

fn interest(reads: bool, writes: bool) -> PollFlags {
    let read = if reads {
        PollFlags::IN
    } else {
        PollFlags::empty()
    };
    let write = if writes {
        PollFlags::OUT
    } else {
        PollFlags::empty()
    };
    read | write
}

/// Returns how many bytes the socket took, or 0 if it takes none now.
fn write(stream: &mut TcpStream, output: &[u8]) -> io::Result<usize> {
    if output.is_empty() {
        return Ok(0);
    }
    match stream.write(output) {
        Err(error) if is_transient(&error) => Ok(0),
        written => written,
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:42000")?;
    listener.set_nonblocking(true)?;
    // An edge that clients must recognise after a restart keeps its key in a file.
    let (mut private_key, mut seed) = ([0; 32], [0; 32]);
    getrandom::fill(&mut private_key)?;
    getrandom::fill(&mut seed)?;
    let mut server = Server {
        edge: Edge::new(
            EdgeConfig::default(),
            KeyPair::from_bytes(&private_key)?,
            seed,
        ),
        started: Instant::now(),
        listener,
        backend_address: SocketAddr::from(([127, 0, 0, 1], 42001)),
        clients: BTreeMap::new(),
        backend: None,
        buffer: vec![0; 64 * 1024],
    };
    loop {
        server.turn()?;
    }
}
