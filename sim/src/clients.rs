//! Clients of the engines with a ledger: the core's machine, an application that takes its time, and two pipes to the edge.

use std::collections::BTreeSet;
use std::time::Duration;

use voltlane_core::client::{self as machine, ClientConfig, State, Versions};

use crate::engine::host::time;
use crate::engine::pipe::{End, Pipe};
use crate::payload::{self, Direction, Label};
use crate::rng::Rng;
use crate::takes::Takes;

/// Returns what a client is configured with in all engines.
pub(crate) fn config(is_numbered: bool) -> ClientConfig {
    let (least, most) = (Duration::from_millis(20), Duration::from_millis(500));
    let versions = if is_numbered {
        Versions::V3
    } else {
        Versions::V2
    };
    ClientConfig::default()
        .with_versions(versions)
        .with_backoff(least, most)
        .expect("in order")
}

/// Returns the machine of a client in one of its lives.
pub(crate) fn machine_of(
    config: ClientConfig,
    seed: u64,
    engine: &str,
    (number, life): (usize, u32),
) -> machine::Client {
    let mut secret = [0; 32];
    let purpose = (number as u64) << 32 | u64::from(life);
    Rng::fork(seed, engine, purpose).fill(&mut secret);
    machine::Client::new(config, secret)
}

/// Returns a packet up: the `place`th of a client's life, from 0.
pub(crate) fn packet_up((client, life): (usize, u32), place: u32, bytes: usize) -> Vec<u8> {
    let label = Label {
        direction: Direction::Up,
        owner: client as u32,
        conn: life,
        seq: place,
    };
    payload::encode(label, bytes.max(payload::HEADER_BYTES))
}

/// Returns when a client wants a turn.
pub(crate) fn wants_turn_at(
    machine: &machine::Client,
    takes: &Takes<u64>,
    stalled_until: u64,
) -> Option<u64> {
    let machine = machine.poll_timeout().map(|at| at.as_nanos());
    [machine, takes.next_at(), Some(stalled_until)]
        .into_iter()
        .flatten()
        .filter(|at| *at > 0)
        .min()
}

/// A client of an engine of version 3 of the backend link.
pub(crate) struct Client {
    pub(crate) machine: machine::Client,
    number: usize,
    pub(crate) is_numbered: bool,
    pub(crate) conn: Option<usize>,
    /// Which of its sessions it is, and the packets that its application has sent in it.
    pub(crate) life: u32,
    pub(crate) sent: u32,
    pub(crate) id: Option<u64>,
    /// The packets that its application is busy with.
    pub(crate) takes: Takes<u64>,
    pub(crate) stalled_until: u64,
    pub(crate) says_goodbye: bool,
    /// Whether it was established before it read something last.
    pub(crate) was_established: bool,
    /// Whether it is gone before its Ping when it proves itself next.
    pub(crate) cuts_proof: bool,
}

impl Client {
    /// Begins a life of a client. `engine` is what its secrets are drawn for.
    pub(crate) fn new(
        is_numbered: bool,
        seed: u64,
        engine: &str,
        (number, life): (usize, u32),
    ) -> Client {
        Client {
            machine: machine_of(config(is_numbered), seed, engine, (number, life)),
            number,
            is_numbered,
            conn: None,
            life,
            sent: 0,
            id: None,
            takes: Takes::default(),
            stalled_until: 0,
            says_goodbye: false,
            was_established: false,
            cuts_proof: false,
        }
    }

    pub(crate) fn is_established(&self) -> bool {
        self.machine.state() == State::Established
    }

    pub(crate) fn wants_turn_at(&self) -> Option<u64> {
        wants_turn_at(&self.machine, &self.takes, self.stalled_until)
    }

    pub(crate) fn send_up(&mut self, bytes: u64) {
        let data = packet_up((self.number, self.life), self.sent, bytes as usize);
        self.sent += u32::from(self.machine.send(&data).is_ok());
    }

    /// Lends what a turn needs. `ways` are those of its connection.
    pub(crate) fn parts<'a>(
        &'a mut self,
        ways: Option<(&'a mut Pipe, &'a mut Pipe)>,
        wakes: &'a mut BTreeSet<u64>,
    ) -> Parts<'a> {
        Parts {
            machine: &mut self.machine,
            conn: &mut self.conn,
            takes: &mut self.takes,
            stalled_until: self.stalled_until,
            ways,
            wakes,
        }
    }
}

/// What a client's turn needs of an engine.
pub(crate) struct Parts<'a> {
    pub(crate) machine: &'a mut machine::Client,
    pub(crate) conn: &'a mut Option<usize>,
    pub(crate) takes: &'a mut Takes<u64>,
    /// Until then it reads nothing.
    pub(crate) stalled_until: u64,
    /// Up and down, if it has a connection.
    pub(crate) ways: Option<(&'a mut Pipe, &'a mut Pipe)>,
    /// When something arrives somewhere.
    pub(crate) wakes: &'a mut BTreeSet<u64>,
}

/// An engine that drives clients. It says what it makes of what they do.
pub(crate) trait Drives {
    fn now(&self) -> u64;

    fn parts(&mut self, client: usize) -> Parts<'_>;

    /// Draws how many bytes one call takes at most.
    fn chunk(&mut self) -> usize;

    /// A client's application has taken a packet.
    fn took(&mut self, client: usize, number: u64);

    /// A client wants a connection.
    fn connect(&mut self, client: usize);

    /// These bytes have come to a client, whose machine is to read them.
    fn came(&mut self, client: usize, conn: usize, bytes: &[u8]);

    /// A client has something to write. Returns whether it is gone instead.
    fn is_gone_instead(&mut self, _client: usize, _conn: usize) -> bool {
        false
    }

    /// A client writes these bytes.
    fn writes(&mut self, conn: usize, bytes: &[u8]);

    /// Takes one event that the machine of a client tells. Returns whether there was one.
    fn hear_ends(&mut self, client: usize) -> bool;

    /// A client sees that its network has failed.
    fn sees_reset(&mut self, client: usize) {
        self.sees_end(client, machine::Closed::Error);
    }

    fn client_turn(&mut self, client: usize) -> bool {
        let now = self.now();
        let mut moved = false;
        while let Some(number) = self.parts(client).takes.pop_done(now) {
            self.parts(client).machine.taken(time(now), number);
            self.took(client, number);
            moved = true;
        }
        let Parts { machine, conn, .. } = self.parts(client);
        let due = machine.poll_timeout();
        if due.is_some_and(|at| at.as_nanos() <= now) {
            machine.handle_timeout(time(now));
            moved = true;
        }
        if machine.wants_close() {
            self.hang_up(client);
            return true;
        }
        if conn.is_none() && machine.wants_connect(time(now)) {
            self.connect(client);
            moved = true;
        }
        if let Some(conn) = *self.parts(client).conn {
            moved |= self.client_reads(client, conn);
        }
        if let Some(conn) = *self.parts(client).conn {
            moved |= self.client_writes(client, conn);
        }
        moved | self.hear_ends(client)
    }

    fn client_reads(&mut self, client: usize, conn: usize) -> bool {
        let now = self.now();
        if now < self.parts(client).stalled_until {
            return false;
        }
        let most = self.chunk();
        let Some((_, down)) = self.parts(client).ways else {
            return false;
        };
        down.advance(now);
        if down.is_reset(now) {
            self.sees_reset(client);
            return true;
        }
        if down.readable() > 0 {
            let bytes = down.read(most);
            self.came(client, conn, &bytes);
            return true;
        }
        let has_ended = down.ended(now).is_some();
        if has_ended {
            self.sees_end(client, machine::Closed::Eof);
        }
        has_ended
    }

    fn client_writes(&mut self, client: usize, conn: usize) -> bool {
        let now = self.now();
        let most = self.chunk();
        let Parts { machine, ways, .. } = self.parts(client);
        let room = ways.map_or(0, |(up, _)| up.room());
        let output = machine.output();
        let count = output.len().min(room).min(most);
        if count == 0 {
            return false;
        }
        let bytes = output[..count].to_vec();
        if self.is_gone_instead(client, conn) {
            return true;
        }
        let machine = self.parts(client).machine;
        machine.handle_written(time(now), count);
        self.writes(conn, &bytes);
        let Parts { ways, wakes, .. } = self.parts(client);
        if let Some((up, _)) = ways {
            up.write(now, &bytes, wakes);
        }
        true
    }

    /// A client has read to the end of its connection, and ends its own way.
    fn sees_end(&mut self, client: usize, end: machine::Closed) {
        let now = self.now();
        let parts = self.parts(client);
        if let Some((up, _)) = parts.ways {
            parts.wakes.extend(up.end(now, End::Fin));
        }
        *parts.conn = None;
        parts.machine.handle_closed(time(now), end);
        self.hear_ends(client);
    }

    /// A client closes its connection, if it has one, and reads nothing more of it.
    fn let_go(&mut self, client: usize) {
        let now = self.now();
        let parts = self.parts(client);
        *parts.conn = None;
        if let Some((up, down)) = parts.ways {
            parts.wakes.extend(up.end(now, End::Fin));
            down.discard();
        }
    }

    /// A client closes its connection, or gives up opening one.
    fn hang_up(&mut self, client: usize) {
        self.let_go(client);
        let now = time(self.now());
        let machine = self.parts(client).machine;
        machine.handle_closed(now, machine::Closed::Eof);
        self.hear_ends(client);
    }

    /// The network of a connection has failed at once, and its client learns of it, unless it has another one.
    fn loses(&mut self, client: usize, conn: usize) {
        let now = time(self.now());
        let parts = self.parts(client);
        if *parts.conn == Some(conn) {
            *parts.conn = None;
            parts.machine.handle_closed(now, machine::Closed::Error);
            self.hear_ends(client);
        }
    }
}
