//! Clients, which are the core's machines, and their applications.

use voltlane_core::client::{self as machine, Code, DropCause, Event, State};
use voltlane_core::edge::CloseReason;

use super::closing::Closing;
use super::ledger::Ledger;
use super::setup::Setup;
use super::tap::{Down, Up};
use super::{Owner, World, time};
use crate::clients::{self, Drives, Parts};
use crate::ledgered::Runs as _;
use crate::payload::{self, Direction};
use crate::takes::Takes;

const SECOND_NANOS: u64 = 1_000_000_000;

pub(super) struct Client {
    number: usize,
    pub(super) machine: machine::Client,
    pub(super) is_v3: bool,
    pub(super) conn: Option<usize>,
    /// All its connections so far.
    pub(super) conns: Vec<usize>,
    /// Which of its sessions it is, and the packets that its application has sent in it.
    pub(super) life: u32,
    sizes: Vec<usize>,
    pub(super) id: Option<u64>,
    pub(super) session: Option<usize>,
    /// The highest number down that its application got, or the next one that may come in version 2.
    pub(super) received: u64,
    pub(super) sent_down: u32,
    pub(super) sent_volatile: u32,
    /// The packets that its application is busy with.
    takes: Takes<u64>,
    pub(super) stalled_until: u64,
    pub(super) loses_reply: bool,
    /// The place of the attempt by which it came back last, and where its replay ends.
    knows: u64,
    replay_until: Option<u64>,
    /// How often more its network fails unseen by the edge, each time it is back.
    pub(super) vanishes: u64,
    says_goodbye: bool,
    /// It does nothing more.
    pub(super) is_gone: bool,
    /// Attempts since the network has no faults.
    pub(super) attempts: u64,
    pub(super) end: Option<machine::End>,
}

fn machine_of(setup: &Setup, number: usize, life: u32) -> machine::Client {
    let config = clients::config(number < setup.clients)
        .with_take_over(setup.takes_over)
        .with_padding(setup.config.clients.padding);
    clients::machine_of(config, setup.seed, "client of version 3", (number, life))
}

impl Client {
    pub(super) fn new(setup: &Setup, number: usize) -> Client {
        Client {
            number,
            machine: machine_of(setup, number, 0),
            is_v3: number < setup.clients,
            conn: None,
            conns: Vec::new(),
            life: 0,
            sizes: Vec::new(),
            id: None,
            session: None,
            received: 0,
            sent_down: 0,
            sent_volatile: 0,
            takes: Takes::default(),
            stalled_until: 0,
            loses_reply: false,
            knows: 0,
            replay_until: None,
            vanishes: 0,
            says_goodbye: false,
            is_gone: false,
            attempts: 0,
            end: None,
        }
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, now: u64) {
        self.says_goodbye = true;
        self.machine.close(time(now));
    }

    /// Begins another session, with nothing of the one before.
    fn start_over(&mut self) {
        self.life += 1;
        self.sizes.clear();
        (self.id, self.session) = (None, None);
        (self.received, self.sent_down, self.sent_volatile) = (0, 0, 0);
        self.takes.clear();
        (self.knows, self.replay_until) = (0, None);
        (self.attempts, self.vanishes, self.says_goodbye) = (0, 0, false);
    }

    /// The edge has given it an id.
    pub(super) fn welcomed(&mut self, session: usize, ledger: &mut Ledger) {
        self.session = Some(session);
        for bytes in &self.sizes {
            ledger.numbered_up(session, *bytes);
        }
    }

    pub(super) fn is_established(&self) -> bool {
        self.machine.state() == State::Established
    }

    pub(super) fn wants_turn_at(&self) -> Option<u64> {
        if self.is_gone && self.conn.is_none() {
            return None;
        }
        clients::wants_turn_at(&self.machine, &self.takes, self.stalled_until)
    }
}

impl Drives for World {
    fn now(&self) -> u64 {
        self.now
    }

    fn parts(&mut self, client: usize) -> Parts<'_> {
        let client = &mut self.clients[client];
        let conn = client.conn.map(|conn| &mut self.conns[conn]);
        let ways = conn.map(|conn| (&mut conn.up, &mut conn.down));
        Parts {
            machine: &mut client.machine,
            conn: &mut client.conn,
            takes: &mut client.takes,
            stalled_until: client.stalled_until,
            ways,
            wakes: &mut self.wakes,
        }
    }

    fn chunk(&mut self) -> usize {
        self.chunk()
    }

    fn took(&mut self, client: usize, number: u64) {
        if let Some(session) = self.clients[client].session {
            let down = &mut self.ledger.sessions[session].down;
            down.taken = down.taken.max(number);
        }
    }

    fn connect(&mut self, client: usize) {
        let last = self.clients[client].conns.last();
        let is_taken_over = last.is_some_and(|conn| self.conns[*conn].watch.is_taken_over);
        let is_same =
            last.is_some_and(|conn| self.conns[*conn].session == self.clients[client].session);
        if is_taken_over && is_same && !self.setup.takes_over {
            let text = format!("client {client} comes back to a session that was taken over");
            self.ledger.fail("V4", "25.2", text);
        }
        let random = self.entropy();
        let now = time(self.now);
        let opened = self.open(Owner::Client(client), random);
        let state = &mut self.clients[client];
        // Whether it may be refused is judged by V20.
        state.attempts += u64::from(opened.is_some() || !self.setup.is_crowd);
        match opened {
            Some(conn) => {
                state.machine.handle_connected(now, random);
                state.conn = Some(conn);
                state.conns.push(conn);
                self.conns[conn].loses_reply = std::mem::take(&mut state.loses_reply);
                self.note(|| format!("client {client} opens connection {conn}"));
            }
            None => state.machine.handle_connect_failed(now),
        }
    }

    fn came(&mut self, client: usize, conn: usize, bytes: &[u8]) {
        self.steps += 1;
        let state = &mut self.conns[conn];
        state.down_read += bytes.len() as u64;
        while let Some(seen) = state
            .down_seen
            .pop_front_if(|seen| seen.end <= state.down_read)
        {
            if let (Down::Record(items), Some(session)) = (&seen.what, state.session) {
                self.ledger.came_down(session, &mut state.watch, items);
            }
        }
        self.clients_machine_reads(client, conn, bytes);
    }

    fn writes(&mut self, conn: usize, bytes: &[u8]) {
        self.steps += 1;
        let state = &mut self.conns[conn];
        if state.down_read == 0 && state.flight.len() < 20_000 {
            state.flight.extend(bytes);
        }
        let mut seen = Vec::new();
        let read = state.tap.up(bytes, &mut self.common, &mut seen);
        for seen in seen {
            let state = &mut self.conns[conn];
            match &seen.what {
                Up::Claim(claim) => {
                    state.session = self.ledger.by_id.get(&claim.id).copied();
                    if let Some(session) = state.session {
                        let used = &mut self.ledger.sessions[session].used;
                        *used = claim.counter.max(*used);
                    }
                }
                Up::Record(items) => {
                    if let Some(session) = state.session {
                        self.ledger.sealed_up(session, &mut state.watch, items);
                    }
                }
                Up::Hello => {}
            }
            state.up_seen.push_back(seen);
        }
        if let Err(text) = read {
            self.misread(conn, text);
        }
    }

    fn hear_ends(&mut self, client: usize) -> bool {
        let Some(event) = self.clients[client].machine.poll_event() else {
            return false;
        };
        self.note(|| format!("client {client}: {event:?}"));
        let state = &mut self.clients[client];
        match event {
            Event::Dropped { cause, .. } => {
                state.replay_until = None;
                let last = state.conns.last();
                let has_ended = last.is_some_and(|conn| self.conns[*conn].watch.has_ended);
                let is_calm = self.closing.as_ref().is_some_and(Closing::is_calm);
                if let DropCause::Moved(code) = cause {
                    return self.left(client, code);
                }
                // Judged when they were sealed, and when they came.
                let was_asked = matches!(cause, DropCause::Told(Code::GOING_AWAY | Code::RESTART));
                // It has none. It comes again, until all must have come back.
                let is_to_wait = self.setup.is_crowd && cause == DropCause::Told(Code::BUSY);
                let reason = last.and_then(|conn| self.conns[*conn].reason);
                let is_shed = reason == Some(CloseReason::Memory);
                // A flood may cost an attempt to join. `turned_away` judges whether it was right.
                let is_turned_away = self.setup.is_crowd
                    && matches!(reason, Some(CloseReason::MadeRoom | CloseReason::Rejected));
                let is_excused = has_ended || was_asked || is_shed || is_to_wait || is_turned_away;
                if state.is_v3 && is_calm && !is_excused {
                    let text = format!("client {client} has lost its connection: {cause}");
                    return self.fail_of("V14", "25.1", text);
                }
                let state = &mut self.clients[client];
                match cause {
                    DropCause::Violation(violation) if state.is_v3 => {
                        let text = format!("client {client} says: {violation}");
                        self.ledger.fail("V9", "26.3", text);
                    }
                    DropCause::Told(Code::BUSY) => {
                        state.attempts = state.attempts.saturating_sub(1);
                    }
                    _ if is_turned_away => {
                        state.attempts = state.attempts.saturating_sub(1);
                        self.ledger.reached("client came again");
                    }
                    DropCause::Told(Code::STALE) => self.ledger.reached("stale"),
                    DropCause::Silent => self.ledger.reached("silent"),
                    _ => {}
                }
            }
            Event::Ended(end) => self.session_ended(client, &end),
            Event::Refused(_) => {
                state.start_over();
                state.machine.start_over();
            }
            _ => {}
        }
        true
    }

    fn sees_reset(&mut self, client: usize) {
        if let Some(conn) = self.clients[client].conn {
            self.lose_conn(client, conn);
        }
    }
}

impl World {
    pub(super) fn send_up(&mut self, client: usize, bytes: usize) {
        let state = &mut self.clients[client];
        let place = state.sizes.len() as u32;
        let packet = clients::packet_up((client, state.life), place, bytes);
        let Ok(number) = state.machine.send(&packet) else {
            return;
        };
        let bytes = packet.len();
        state.sizes.push(bytes);
        let expected = state.sizes.len() as u64;
        if let Some(session) = state.session.filter(|_| state.is_v3) {
            self.ledger.numbered_up(session, bytes);
        }
        if number != expected {
            let text = format!("packet {expected} of client {client} has number {number}");
            self.ledger.fail("V1", "24.1(a)", text);
        }
    }

    /// Gives a client a turn, unless it does nothing more.
    pub(super) fn turn_of(&mut self, client: usize) -> bool {
        let state = &self.clients[client];
        let is_out = state.is_gone && state.conn.is_none();
        !is_out && self.client_turn(client)
    }

    /// The client's end of a connection is gone.
    pub(super) fn lose_conn(&mut self, client: usize, conn: usize) {
        let now = time(self.now);
        let state = &mut self.clients[client];
        if state.conn == Some(conn) {
            state.conn = None;
            state.machine.handle_closed(now, machine::Closed::Error);
            self.conns[conn].down.discard();
            self.hear_ends(client);
        }
    }

    fn clients_machine_reads(&mut self, client: usize, conn: usize, bytes: &[u8]) {
        let (now, slow) = (self.now, self.setup.slow_nanos);
        let mut input = bytes;
        loop {
            let state = &mut self.clients[client];
            let Some(event) = state.machine.handle_bytes(time(now), &mut input) else {
                return;
            };
            match event {
                Event::Packet { data, number: 0 } if state.is_v3 => {
                    if let Some(session) = state.session {
                        self.ledger.delivered_volatile(session, data);
                    }
                }
                Event::Packet { data, number } => {
                    if state.is_v3 {
                        let before = std::mem::replace(&mut state.received, number);
                        if let Some(session) = state.session {
                            self.ledger.delivered_down(session, number, data, before);
                        }
                    } else if let Some(text) =
                        misplaced(state.number, state.id, &mut state.received, data)
                    {
                        self.ledger.fail("S10", "1.4", text);
                    }
                    if state.replay_until.is_some_and(|until| number > until) {
                        let text = format!("packet {number} comes before the replay is told over");
                        self.ledger.fail("V5", "24.5(d)", text);
                    }
                    state.takes.push(now + self.rng.below(slow), number);
                }
                Event::Connected { id } => {
                    let id = id.as_u64();
                    state.id = Some(id);
                    (state.received, state.sent_down, state.attempts) = (0, 0, 0);
                    state.sent_volatile = 0;
                    if !state.is_v3 {
                        let before = self.plain.entry(id).or_default().owner.replace(client);
                        if before.is_some() {
                            let text = format!("client {client} has the id of {before:?}");
                            self.ledger.fail("S3", "9.1(b)", text);
                        }
                    }
                    let known = self.ledger.by_id.get(&id).copied();
                    if state.is_v3 && known != state.session {
                        let text = format!("client {client} joins as {id:016x}");
                        self.ledger.fail("S3", "22(a)", text);
                    }
                    self.ledger.reached("joined");
                }
                Event::Resumed { id, .. } => {
                    if Some(id.as_u64()) != state.id {
                        self.ledger.fail("S3", "23", "it resumes as another".into());
                    }
                    state.attempts = 0;
                    self.came_back(client, conn);
                }
                Event::Gap(gap) if gap.reason == 1 && self.setup.has_classes => {
                    let before = std::mem::replace(&mut state.received, gap.first + gap.count - 1);
                    if let Some(session) = state.session {
                        self.ledger.gap_told(session, gap.first, gap.count, before);
                    }
                }
                Event::Skipped { .. } if self.setup.has_classes => {}
                Event::CaughtUp => {
                    let entry = state.session.map(|one| &self.ledger.sessions[one]);
                    let received = state.received;
                    let received = entry.map_or(received, |entry| entry.fates.passed(received));
                    let until = state.replay_until.take();
                    if until.is_none_or(|until| received < until) {
                        let text = format!("caught up at {received} of {until:?}");
                        self.ledger.fail("V5", "24.5(d)", text);
                    }
                }
                other => {
                    let text = format!("client {client}: {other:?}");
                    self.ledger.fail("V8", "24.4", text);
                }
            }
        }
    }

    /// The owner of a session is told that it is back.
    fn came_back(&mut self, client: usize, conn: usize) {
        let state = &mut self.clients[client];
        let (Some(session), true) = (state.session, state.is_v3) else {
            return;
        };
        let Some(accepted) = self.conns[conn].watch.accepted else {
            let text = format!("client {client} is back, and its edge does not know");
            return self.ledger.fail("V5", "24.5", text);
        };
        state.replay_until = Some(accepted.until);
        let knows = std::mem::replace(&mut state.knows, accepted.place);
        let others = &self.ledger.sessions[session].foreign;
        let was_other = others
            .iter()
            .any(|place| (knows..accepted.place).contains(place));
        if was_other && !self.setup.takes_over {
            let text = format!("client {client} does not hear of a thief");
            self.ledger.fail("V4", "23.6(b)", text);
        }
        self.note(|| format!("client {client} is back on connection {conn}"));
    }

    /// A client has left, as it was asked to.
    fn left(&mut self, client: usize, code: Code) -> bool {
        let asked = self.clients[client].conns.last();
        let asked = asked.and_then(|conn| self.conns[*conn].watch.asked);
        let is_right = asked.is_some_and(|asked| {
            asked.code == u64::from(code.to_u16()) && asked.is_now(self.now, self.ledger.leapt)
        });
        if !is_right {
            let text = format!("client {client} leaves by {code}: asked {asked:?}");
            self.ledger.fail("V15", "25.3(a)", text);
        }
        self.ledger.reached("left when asked");
        true
    }

    fn fail_of(&mut self, id: &'static str, section: &'static str, text: String) -> bool {
        self.ledger.fail(id, section, text);
        true
    }

    fn session_ended(&mut self, client: usize, end: &machine::End) {
        self.ledger.reached("a client's session ended");
        let state = &mut self.clients[client];
        let knows = state.knows;
        let says_goodbye = state.says_goodbye;
        self.look_at_link();
        let state = &mut self.clients[client];
        if let Some((session, entry)) = state
            .session
            .map(|session| (session, &self.ledger.sessions[session]))
        {
            let is_over = self.ledger.may_be_over(session);
            let expiry = self.ledger.expiry;
            let is_silent = self.now + SECOND_NANOS >= entry.heard_at + expiry;
            let is_expired = is_silent || entry.left_at.is_some_and(|at| self.now >= at + expiry);
            let has_begun = entry.has_begun;
            let has_heard = entry.up.acked + entry.down.arrived + knows > 0;
            let is_right = match end.code {
                Code::CONFLICT => entry.foreign.iter().any(|place| *place > knows),
                Code::KICKED => entry.kicked,
                Code::EXPIRED => is_over || is_expired,
                Code::GOODBYE => says_goodbye,
                Code::SAID_GOODBYE => says_goodbye && entry.said_goodbye,
                // Its Join record may have come behind its Claim. (SPEC 22(g))
                Code::GONE => is_over || !has_begun || !has_heard,
                Code::RING_FULL | Code::MEMORY | Code::TOO_MANY_AWAY => is_over,
                _ => false,
            };
            let (up, down) = (end.ledgers.up, end.ledgers.down);
            // The edge acknowledges nothing that has not come to it.
            let most = entry.up.arrived;
            let adds_up = up.is_balanced()
                && down.is_balanced()
                && up.acknowledged <= most
                && down.acknowledged <= entry.fates.passed(entry.down.taken);
            let text = format!("client {client} ends with {end:?}; {entry:?}");
            if !is_right {
                let rule = if end.code == Code::CONFLICT {
                    "V4"
                } else {
                    "V3"
                };
                self.ledger.fail(rule, "25.2", text);
            } else if !adds_up {
                self.ledger.fail("V10", "24.7", text);
            }
            if end.code == Code::CONFLICT {
                self.ledger.reached("conflict");
            }
        }
        let state = &mut self.clients[client];
        state.end = Some(end.clone());
        if self.closing.is_some() && state.is_gone {
            return;
        }
        state.start_over();
        state.machine = machine_of(&self.setup, client, state.life);
    }
}

/// Returns what is wrong with a packet down of version 2 for a client with this number and id: it may miss some, and repeats none. `received`
/// is the place of the last one.
fn misplaced(number: usize, id: Option<u64>, received: &mut u64, data: &[u8]) -> Option<String> {
    let label = match payload::decode(data) {
        Ok(label) => label,
        Err(error) => return Some(error.to_string()),
    };
    let expected = (Direction::Down, number as u32, id.map(|id| id as u32));
    let (place, before) = (u64::from(label.seq) + 1, *received);
    let is_it = (label.direction, label.owner, Some(label.conn)) == expected && place > before;
    *received = place;
    (!is_it).then(|| format!("{label:?} behind {before}"))
}
