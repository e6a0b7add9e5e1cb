//! The published client and backend libraries, `voltlane-client` and `voltlane-server`, as parties of a scenario.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use voltlane_client::Connection;
use voltlane_client::net::{TaggedPacket, recv_size_prefixed, send_size_prefixed};
use voltlane_server::{MasterServer, ServerCore};

use crate::PATIENCE;

/// A client of the published library.
#[expect(
    missing_debug_implementations,
    reason = "a failure shows what was seen, not this"
)]
pub struct PublishedClient {
    runtime: Runtime,
    connection: Connection,
}

impl PublishedClient {
    /// Joins with a new session.
    #[must_use]
    pub fn join(edge: SocketAddr) -> PublishedClient {
        let runtime = runtime();
        let address = edge.to_string();
        let connection = wait(&runtime, Connection::new(&address)).expect("it joins");
        PublishedClient {
            runtime,
            connection,
        }
    }

    /// Returns the client's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.connection.client_id
    }

    /// Sends a packet.
    pub fn send(&mut self, data: &[u8]) {
        let sent = wait(
            &self.runtime,
            send_size_prefixed(&mut self.connection.write, data),
        );
        sent.expect("the edge takes it");
    }

    /// Returns the next packet.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn try_recv(&mut self) -> Result<Vec<u8>, String> {
        let received = wait(&self.runtime, recv_size_prefixed(&mut self.connection.read));
        received
            .map(|bytes| bytes.to_vec())
            .map_err(|error| error.to_string())
    }

    /// Waits for exactly this packet.
    #[track_caller]
    pub fn expect(&mut self, data: &[u8]) {
        let received = self.try_recv().expect("a packet");
        assert!(
            received == data,
            "{} bytes came, not {}",
            received.len(),
            data.len()
        );
    }

    /// Closes its direction of the connection.
    pub fn shut_down(&mut self) {
        let shut_down = wait(&self.runtime, self.connection.write.shutdown());
        shut_down.expect("it is open");
    }

    /// Replaces its connection by a new one, and proves that it is the same client. The old connection is still open meanwhile.
    ///
    /// # Errors
    /// When the edge refuses it.
    pub fn reconnect(&mut self) -> Result<(), String> {
        wait(&self.runtime, self.connection.reconnect()).map_err(|error| error.to_string())
    }
}

/// Events of a [`PublishedBackend`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A packet of a client.
    Data(u64, Vec<u8>),
    /// A client ended.
    Failure(u64, String),
    /// A client resumed its session.
    Reconnection(u64),
}

/// A backend of the published library on a thread of its own. It echoes packets, except for commands.
#[expect(
    missing_debug_implementations,
    reason = "a failure shows what was seen, not this"
)]
pub struct PublishedBackend {
    address: SocketAddr,
    heard: mpsc::Receiver<Heard>,
}

impl PublishedBackend {
    /// Listens on a free port, and serves the first edge that connects.
    #[must_use]
    pub fn start() -> PublishedBackend {
        let (sender, heard) = mpsc::channel();
        let (address_sender, address) = mpsc::channel();
        thread::spawn(move || {
            let runtime = runtime();
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let address = listener.local_addr().expect("bound");
                let _ = address_sender.send(address);
                let Ok(Ok((stream, _))) = timeout(PATIENCE, listener.accept()).await else {
                    return;
                };
                let core = ServerCore::<(), Master>::new(stream, Master(sender));
                // It ends with an error when the edge leaves.
                let _ = core.expect("a link").run().await;
            });
        });
        PublishedBackend {
            address: address.recv_timeout(PATIENCE).expect("it listens"),
            heard,
        }
    }

    /// Returns the address that the edge connects to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for exactly this event.
    #[track_caller]
    pub fn expect(&self, expected: Heard) {
        let heard = self.heard.recv_timeout(PATIENCE).expect("something comes");
        assert_eq!(heard, expected);
    }

    /// Returns the next event.
    #[must_use]
    #[track_caller]
    pub fn heard(&self) -> Heard {
        self.heard.recv_timeout(PATIENCE).expect("something comes")
    }

    /// Returns a packet that makes the backend kick `id`.
    #[must_use]
    pub fn kick_command(id: u64) -> Vec<u8> {
        [KICK, &id.to_le_bytes()].concat()
    }

    /// Returns a packet that makes the backend send `data` to `id`.
    #[must_use]
    pub fn tell_command(id: u64, data: &[u8]) -> Vec<u8> {
        [TELL, &id.to_le_bytes(), data].concat()
    }
}

const KICK: &[u8] = b"kick:";
const TELL: &[u8] = b"tell:";

/// Echoes packets and executes commands.
struct Master(mpsc::Sender<Heard>);

impl MasterServer for Master {
    async fn handle_packet(
        &mut self,
        packet: TaggedPacket,
        mut send_packet: impl AsyncFnMut(TaggedPacket) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (heard, answer) = match packet {
            TaggedPacket::Data { client_id, data } => {
                let answer = answer(client_id, &data);
                (Heard::Data(client_id, data), Some(answer))
            }
            TaggedPacket::Failure { client_id, error } => (Heard::Failure(client_id, error), None),
            TaggedPacket::Reconnection { client_id } => (Heard::Reconnection(client_id), None),
            TaggedPacket::Kick { client_id } => panic!("the edge kicks {client_id}"),
        };
        // The receiver is gone once the scenario is over.
        let _ = self.0.send(heard);
        match answer {
            Some(answer) => send_packet(answer).await,
            None => Ok(()),
        }
    }
}

fn answer(client_id: u64, data: &[u8]) -> TaggedPacket {
    let target = |rest: &[u8]| {
        let (id, rest) = rest.split_first_chunk()?;
        Some((u64::from_le_bytes(*id), rest.to_vec()))
    };
    if let Some((client_id, _)) = data.strip_prefix(KICK).and_then(target) {
        TaggedPacket::Kick { client_id }
    } else if let Some((client_id, data)) = data.strip_prefix(TELL).and_then(target) {
        TaggedPacket::Data { client_id, data }
    } else {
        let data = data.to_vec();
        TaggedPacket::Data { client_id, data }
    }
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

fn wait<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    let done = runtime.block_on(async { timeout(PATIENCE, future).await });
    done.expect("it happens in time")
}
