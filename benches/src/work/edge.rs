//! The whole machine without sockets: the calls that an adapter would make.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use voltlane_core::Time;
use voltlane_core::edge::HasLink;
use voltlane_core::edge::testkit::Adapter;
use voltlane_core::edge::{Closed, ConnKey, Edge, EdgeConfig, RESUME_REPLY_DELAY};
use voltlane_core::keys::KeyPair;
use voltlane_core::protocol::OfferedVersions;

use super::{Kind, SIZES, Work};
use crate::load::keys::Keys;
use crate::wire::{self, EdgeSays};

/// Clients that are active in a step, each with one packet unless stated otherwise.
pub(super) const ACTIVE: usize = 100;
/// Packets of each client in a burst.
pub(super) const BURST: usize = 16;
const BATCH_BYTES: usize = 32 * 1024;
/// The time between two turns.
const TURN: Duration = Duration::from_micros(100);
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for size in SIZES {
        kinds.push(Kind::new("up", size, |size| up(size, 1)));
        kinds.push(Kind::new("down", size, |size| down(size, 1)));
    }
    kinds.push(Kind::new("up-burst", 64, |size| up(size, BURST)));
    kinds.push(Kind::new("down-burst", 64, |size| down(size, BURST)));
    for sessions in [ACTIVE, 10_000, 100_000] {
        kinds.push(Kind::new("echo-beside-idle", sessions, echo_beside_idle));
    }
    kinds.push(Kind::allocating("join", 1, 5, join));
    kinds.push(Kind::allocating("resume", 1, 13, resume));
    kinds.push(Kind::allocating(
        "join-and-first-resume",
        1,
        19,
        first_resume,
    ));
    kinds
}

/// Returns how many clients take part in a step with `bytes` each: a batch is at most half of one read from the backend.
pub(super) fn active(bytes: usize) -> usize {
    (BATCH_BYTES / (bytes + BURST * (wire::LENGTH_BYTES + wire::TAG_BYTES))).clamp(1, ACTIVE)
}

/// Client to backend.
fn up(size: usize, packets: usize) -> Work {
    let clients = active(size * packets);
    let mut rig = Rig::new(clients);
    let mut bytes = Vec::new();
    (0..packets).for_each(|_| wire::put_frame(&mut bytes, &vec![7; size]));
    Work::new(clients * packets, move || {
        rig.pass_time();
        for nth in 0..clients {
            rig.client_says(nth, black_box(&bytes));
        }
        rig.take_link_output();
        rig.take_client_output();
    })
}

/// Backend to client.
fn down(size: usize, packets: usize) -> Work {
    let clients = active(size * packets);
    let mut rig = Rig::new(clients);
    let mut bytes = Vec::new();
    for client in &rig.clients {
        (0..packets)
            .for_each(|_| wire::put_tagged(&mut bytes, client.id, wire::FLAG_DATA, &vec![7; size]));
    }
    Work::new(clients * packets, move || {
        rig.pass_time();
        rig.backend_says(black_box(&bytes));
        rig.take_client_output();
    })
}

/// Both directions for a hundred clients while the others of `sessions` are silent. Their cost shows as a difference.
fn echo_beside_idle(sessions: usize) -> Work {
    let mut rig = Rig::new(sessions);
    let mut up = Vec::new();
    wire::put_frame(&mut up, &[7; 64]);
    let mut down = Vec::new();
    // Spread over the whole table, as active clients would be.
    let active: Vec<usize> = (0..ACTIVE).map(|nth| nth * sessions / ACTIVE).collect();
    for &nth in &active {
        wire::put_tagged(&mut down, rig.clients[nth].id, wire::FLAG_DATA, &[7; 64]);
    }
    Work::new(ACTIVE, move || {
        rig.pass_time();
        active
            .iter()
            .for_each(|&nth| rig.client_says(nth, black_box(&up)));
        rig.take_link_output();
        rig.backend_says(black_box(&down));
        rig.take_client_output();
    })
}

/// A client joins and leaves; its session expires in a later step.
fn join(_: usize) -> Work {
    let mut rig = Rig::new(0);
    Work::new(1, move || {
        rig.pass_time();
        rig.join();
        rig.take_link_output();
        let client = rig.clients.pop().expect("it has just joined");
        rig.edge
            .handle_client_closed(rig.now, client.conn, Closed::Eof);
        rig.take_client_output();
    })
}

/// A client joins, leaves and resumes for the first time, including the key agreement, which the session caches.
fn first_resume(_: usize) -> Work {
    let mut rig = Rig::new(0);
    Work::new(1, move || {
        // Slow enough not to be a storm of reconnects, in which newcomers wait.
        rig.pass(Duration::from_millis(10));
        rig.join();
        rig.resume(0);
        rig.take_link_output();
        let client = rig.clients.pop().expect("it is back");
        rig.edge
            .handle_client_closed(rig.now, client.conn, Closed::Eof);
        rig.take_client_output();
    })
}

/// A client leaves and resumes, with every check. Includes the client's own computation (one open, one seal).
fn resume(_: usize) -> Work {
    let mut rig = Rig::new(1);
    Work::new(1, move || {
        rig.pass_time();
        rig.resume(0);
        rig.take_link_output();
        rig.take_client_output();
    })
}

struct Client {
    conn: ConnKey,
    id: u64,
}

/// A machine with its link up, and its clients.
pub(super) struct Rig {
    pub(super) edge: Edge,
    pub(super) now: Time,
    clients: Vec<Client>,
    keys: Keys,
    frame: Vec<u8>,
}

impl Rig {
    pub(super) fn new(clients: usize) -> Self {
        let mut rig = Self::with(|_| {});
        (0..clients).for_each(|_| rig.join());
        rig
    }

    /// Like [`new`](Self::new) without clients, by a configuration that `change` has changed.
    pub(super) fn with(change: impl FnOnce(&mut EdgeConfig)) -> Self {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let keys = KeyPair::generate(&mut rng);
        let mut config = EdgeConfig::default();
        // Expired sessions end within the steps and do not pile up.
        config.clients.stale_timeout = Duration::from_millis(10);
        config.clients.stale_reap_interval = Duration::from_millis(2);
        // The steps come faster than any allowed pace.
        config.limits.accept_rate = 0;
        config.limits.join_rate = 0;
        config.listener.versions = OfferedVersions::new(&[2, 3]).expect("they exist");
        change(&mut config);
        let edge = Edge::new(config, keys, [6; 32]);
        let mut rig = Self {
            edge,
            now: Time::ZERO,
            clients: Vec::new(),
            keys: Keys::new(),
            frame: Vec::new(),
        };
        rig.edge.link_up(rig.now);
        rig
    }

    /// Returns the ids of the clients of version 2.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.clients.iter().map(|client| client.id).collect()
    }

    /// Returns the connection of a client of version 2.
    pub(super) fn conn(&self, nth: usize) -> ConnKey {
        self.clients[nth].conn
    }

    /// Begins a turn of the driver and handles whatever is due.
    pub(super) fn pass_time(&mut self) {
        self.pass(TURN);
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.meet_deadlines();
    }

    fn meet_deadlines(&mut self) {
        if self
            .edge
            .poll_timeout()
            .is_some_and(|deadline| deadline.at <= self.now)
        {
            self.edge.handle_timeout(self.now);
        }
    }

    pub(super) fn client_says(&mut self, nth: usize, bytes: &[u8]) {
        let conn = self.clients[nth].conn;
        assert!(
            self.edge.read_budget(conn) >= bytes.len(),
            "there is room for all that a step sends"
        );
        self.edge.handle_client_bytes(self.now, conn, bytes);
    }

    pub(super) fn backend_says(&mut self, bytes: &[u8]) {
        for read in bytes.chunks(64 * 1024) {
            self.edge.handle_link_bytes(self.now, read);
        }
    }

    pub(super) fn take_link_output(&mut self) {
        let written = self
            .edge
            .link_output()
            .iter()
            .map(|part| black_box(part).len())
            .sum();
        self.edge.handle_link_written(self.now, written);
    }

    pub(super) fn take_client_output(&mut self) {
        self.take_client_output_but_for(None);
    }

    /// Like [`take_client_output`](Self::take_client_output), and `slow` takes nothing.
    pub(super) fn take_client_output_but_for(&mut self, slow: Option<ConnKey>) {
        while let Some(conn) = self.edge.poll_client() {
            if Some(conn) != slow {
                self.write(conn);
            }
        }
    }

    fn write(&mut self, conn: ConnKey) {
        self.edge.client_drains(self.now, conn, |output| {
            black_box(output);
        });
    }

    /// Accepts a client that has sent nothing.
    pub(super) fn accept_silent(&mut self) -> ConnKey {
        self.edge
            .handle_accepted(self.now, SOURCE)
            .expect("there is room for all that a step accepts")
    }

    fn accept(&mut self) -> ConnKey {
        let conn = self.accept_silent();
        self.edge
            .handle_client_bytes(self.now, conn, &wire::VERSION_FRAME);
        let [control, _] = self.edge.client_output(conn);
        let (body, _) = wire::split_frame(control).expect("the edge sends its key");
        if let Some(EdgeSays::PubKey(key)) = EdgeSays::decode(body) {
            self.keys.note_edge(key);
        }
        self.write(conn);
        conn
    }

    pub(super) fn join(&mut self) {
        let conn = self.accept();
        self.frame.clear();
        wire::put_pub_key(&mut self.frame, self.keys.public(0));
        self.edge.handle_client_bytes(self.now, conn, &self.frame);
        let [control, _] = self.edge.client_output(conn);
        let (body, _) = wire::split_frame(control).expect("the edge gives an id");
        let Some(EdgeSays::ClientId(id)) = EdgeSays::decode(body) else {
            panic!("the edge gives an id")
        };
        self.write(conn);
        self.take_client_output();
        self.clients.push(Client { conn, id });
    }

    fn resume(&mut self, nth: usize) {
        let Client { conn, id } = self.clients[nth];
        self.edge.handle_client_closed(self.now, conn, Closed::Eof);
        let conn = self.accept();
        self.frame.clear();
        wire::put_client_id(&mut self.frame, id);
        self.edge.handle_client_bytes(self.now, conn, &self.frame);
        self.now = self.now + RESUME_REPLY_DELAY;
        self.edge.handle_timeout(self.now);
        let [control, _] = self.edge.client_output(conn);
        let (body, _) = wire::split_frame(control).expect("the edge challenges");
        let Some(EdgeSays::Challenge(sealed)) = EdgeSays::decode(body) else {
            panic!("the edge challenges")
        };
        let response = self
            .keys
            .respond(0, sealed)
            .expect("the challenge is for this client");
        self.write(conn);
        self.frame.clear();
        wire::put_challenge_response(&mut self.frame, &response);
        self.frame.extend_from_slice(&wire::PING_FRAME);
        self.edge.handle_client_bytes(self.now, conn, &self.frame);
        let [control, _] = self.edge.client_output(conn);
        assert_eq!(control, wire::PING_FRAME, "the edge takes the client back");
        self.write(conn);
        self.clients[nth].conn = conn;
    }
}
