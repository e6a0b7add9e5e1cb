//! Clients that come and go without end: they connect, fail, resume, are kicked, expire. Checks what that leaves behind.
//!
//! One machine without network faults and without a model: only many cycles, with the machine's own counts compared to what the clients
//! did.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use voltlane_core::edge::HasLink;
use voltlane_core::edge::testkit::Adapter;
use voltlane_core::edge::{Closed, ConnKey, Counters, Edge, EdgeConfig, Gauges};

use crate::audited::Audited;
use crate::codec::{self, Tagged, frame};
use crate::engine::host::time;
use crate::engine::identity::{STRANGER, edge_pair};
use crate::engine::peer::{Outcome, Peer, Role, Stage};
use crate::plan::{Attempt, Join};
use crate::rng::Rng;

/// The number of key pairs that the clients share. Creating one costs more than a cycle.
const IDENTITIES: u64 = 64;
/// The time between two cycles, in nanoseconds.
const GAP: u64 = 10_000_000;
/// The time after the last cycle, in nanoseconds: longer than anything is remembered.
const AFTER: u64 = 3_600_000_000_000;
/// The maximum number of calls in one conversation. More means that it does not end.
const TURNS: usize = 100;

/// The result of many cycles.
#[derive(Clone, Debug)]
pub struct Left {
    /// The gauges once everybody has left and every deadline has passed.
    pub gauges: Gauges,
    /// The machine's counters.
    pub counters: Counters,
    /// Sessions that clients joined.
    pub joined: u64,
    /// Sessions that clients resumed.
    pub resumed: u64,
    /// The maxima, between two cycles, of sessions and of connections.
    pub most: (usize, usize),
}

/// Runs `cycles` cycles. `progress` is called now and then with the number of cycles done.
#[must_use]
pub fn run(cycles: u64, mut progress: impl FnMut(u64)) -> Left {
    let mut churn = Churn::new();
    let mut most = (0, 0);
    for cycle in 0..cycles {
        churn.cycle();
        let gauges = churn.edge.gauges();
        most = (most.0.max(gauges.sessions), most.1.max(gauges.connections));
        if cycle.is_multiple_of(1_000) {
            progress(cycle);
        }
    }
    churn.pass(AFTER);
    Left {
        gauges: churn.edge.gauges(),
        counters: churn.edge.counters().clone(),
        joined: churn.joined,
        resumed: churn.resumed,
        most,
    }
}

/// One connection, both ends.
struct Conn {
    key: ConnKey,
    peer: Peer,
    sid: u64,
}

struct Churn {
    edge: Audited,
    now: u64,
    opened: u32,
    joined: u64,
    resumed: u64,
    rng: Rng,
}

impl Churn {
    fn new() -> Churn {
        let mut config = EdgeConfig::default();
        config.clients.stale_timeout = Duration::from_secs(1);
        config.clients.stale_reap_interval = Duration::from_millis(100);
        config.clients.missed_packets_buffer_size = 8;
        let mut edge = Edge::new(config, edge_pair().clone(), [7; 32]);
        edge.link_up(time(0));
        Churn {
            edge: Audited::new(edge),
            now: 0,
            opened: 0,
            joined: 0,
            resumed: 0,
            rng: Rng::fork(0, "churn", 0),
        }
    }

    /// Performs one way of coming and going.
    fn cycle(&mut self) {
        self.pass(GAP);
        let number = self.rng.below(IDENTITIES) as usize;
        let way = self.rng.below(6);
        if way == 0 {
            let join = self.rng.pick(Join::ALL);
            let turns = self.rng.below(4) as usize;
            if let Some(mut conn) = self.open(Role::Join(join), number, 0) {
                self.converse(&mut conn, turns);
                self.joined += u64::from(conn.sid != 0);
                self.leave(&conn);
            }
            return;
        }
        let Some(conn) = self.join(number) else {
            return;
        };
        self.backend_says(conn.sid, codec::DATA, b"welcome");
        match way {
            1 => self.kick(conn),
            2 => {
                // Nobody resumes it, so it expires.
                self.leave(&conn);
                self.attempt(Attempt::Echo, number, conn.sid);
            }
            3 => {
                self.leave(&conn);
                self.backend_says(conn.sid, codec::DATA, b"missed");
                let back = self.resume(number, conn.sid);
                back.into_iter().for_each(|back| self.kick(back));
            }
            4 => {
                // Takes over its own live connection, while a connection in a handshake claims it too.
                let stalled = self.open(Role::Attempt(Attempt::Stall), number, conn.sid);
                let back = self.resume(number, conn.sid);
                stalled.into_iter().for_each(|conn| self.leave(&conn));
                self.attempt(Attempt::Cross, number, conn.sid);
                self.leave(&conn);
                back.into_iter().for_each(|back| self.kick(back));
            }
            _ => {
                // Kicked while it is away.
                self.leave(&conn);
                self.backend_says(conn.sid, codec::KICK, &[]);
            }
        }
    }

    fn join(&mut self, number: usize) -> Option<Conn> {
        let mut conn = self.open(Role::Join(Join::Normal), number, 0)?;
        self.converse(&mut conn, TURNS);
        self.joined += 1;
        let packet = frame(b"hello");
        conn.peer.send(&packet);
        self.converse(&mut conn, TURNS);
        Some(conn)
    }

    fn resume(&mut self, number: usize, sid: u64) -> Option<Conn> {
        let mut conn = self.open(Role::Resume, number, sid)?;
        self.converse(&mut conn, TURNS);
        self.resumed += u64::from(conn.peer.stage == Stage::Established);
        Some(conn)
    }

    fn attempt(&mut self, how: Attempt, number: usize, sid: u64) {
        if let Some(mut conn) = self.open(Role::Attempt(how), number, sid) {
            self.converse(&mut conn, TURNS);
            self.leave(&conn);
        }
    }

    fn open(&mut self, role: Role, number: usize, sid: u64) -> Option<Conn> {
        self.opened += 1;
        // Each address, and its /24, connects seldom enough for its limits.
        let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (self.opened % 60_000) * 256));
        let key = self.edge.handle_accepted(time(self.now), address).ok()?;
        let stranger = matches!(role, Role::Attempt(how) if !how.has_the_key());
        let number = if stranger { STRANGER } else { number };
        let rng = Rng::fork(0, "peer", self.opened.into());
        let mut peer = Peer::new(role, 0, number, sid, rng);
        peer.start();
        Some(Conn { key, peer, sid })
    }

    /// Exchanges bytes until neither side has more, in at most `turns` turns.
    fn converse(&mut self, conn: &mut Conn, turns: usize) {
        for _ in 0..turns {
            let said: Vec<u8> = conn.peer.outbox.drain(..).collect();
            self.edge
                .handle_client_bytes(time(self.now), conn.key, &said);
            // A challenge is delayed.
            self.pass(2_000_000);
            let now = time(self.now);
            let bytes = self.edge.client_takes(now, conn.key, usize::MAX);
            for outcome in conn.peer.take(&bytes) {
                if let Outcome::Joined(sid) = outcome {
                    conn.sid = sid;
                }
            }
            self.settle();
            if bytes.is_empty() && conn.peer.outbox.is_empty() {
                break;
            }
        }
    }

    fn kick(&mut self, mut conn: Conn) {
        self.backend_says(conn.sid, codec::KICK, &[]);
        self.converse(&mut conn, TURNS);
        self.leave(&conn);
    }

    fn leave(&mut self, conn: &Conn) {
        self.edge
            .handle_client_closed(time(self.now), conn.key, Closed::Eof);
        self.settle();
    }

    fn backend_says(&mut self, id: u64, flag: u8, data: &[u8]) {
        let bytes = Tagged { id, flag, data }.to_frame();
        self.edge.handle_link_bytes(time(self.now), &bytes);
        self.settle();
    }

    /// Advances time, handling everything that is due at its instant.
    fn pass(&mut self, nanos: u64) {
        let (mut now, until) = (time(self.now), time(self.now + nanos));
        while self.edge.handle_next(&mut now, until).is_some() {
            self.now = now.as_nanos();
            self.settle();
        }
        self.now = now.as_nanos();
    }

    /// Does what the adapter does after every call: the link takes everything.
    fn settle(&mut self) {
        self.edge.skip_listed();
        self.edge.link_takes(time(self.now), usize::MAX);
    }
}
