//! The end of a run: no more faults, everybody is back, everything arrives, everybody leaves, and nothing is left.

use voltlane_core::client::Code;

use super::World;
use super::clients::Client;
use super::crowd::{CRUMB_BYTES, END_BYTES};
use super::ledger::Session;
use super::restart::Counted;
use crate::ledgered::Runs as _;

/// How many attempts the owner may need.
const ATTEMPTS: u64 = 3;
/// How long everybody may take to be back, in nanoseconds.
const BACK_WITHIN: u64 = 60_000_000_000;
/// How long ends of connections are under way at most, in nanoseconds.
const SETTLES: u64 = 500_000_000;
/// How long what is under way may take, without the delays of acknowledgements.
const ARRIVES_WITHIN: u64 = 20_000_000_000;
/// How long the last sessions may take, without their expiry.
const ENDS_WITHIN: u64 = 120_000_000_000;
/// How often the end looks whether it can go on.
const LOOKS_EVERY: u64 = 20_000_000;
/// Packets that each client sends and gets once it is back.
const PACKETS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Back,
    Arrive,
    Idle,
    Leave,
}

pub(super) struct Closing {
    step: Step,
    until: u64,
    looks_at: u64,
    /// What had arrived when something arrived last.
    arrived: u64,
}

impl Closing {
    pub(super) fn looks_at(&self) -> u64 {
        self.looks_at
    }

    /// Returns whether everybody is back, and nothing may go wrong any more.
    pub(super) fn is_calm(&self) -> bool {
        matches!(self.step, Step::Arrive | Step::Idle)
    }
}

impl World {
    /// Ends all faults.
    pub(super) fn begin_closing(&mut self) {
        self.note(|| "no more faults".to_owned());
        self.link.stalled_until = 0;
        self.setup.slow_nanos = 0;
        for client in &mut self.clients {
            (client.stalled_until, client.attempts, client.vanishes) = (0, 0, 0);
            client.loses_reply = false;
        }
        self.others_leave();
        for conn in 0..self.conns.len() {
            self.conns[conn].loses_reply = false;
            if self.conns[conn].is_silent {
                self.reset(conn);
            }
        }
        self.begin(Step::Back, BACK_WITHIN);
    }

    fn begin(&mut self, step: Step, within: u64) {
        self.closing = Some(Closing {
            step,
            until: self.now + within,
            looks_at: self.now + LOOKS_EVERY,
            arrived: 0,
        });
    }

    pub(super) fn close(&mut self) -> bool {
        let Some(closing) = &mut self.closing else {
            return false;
        };
        if closing.looks_at > self.now {
            return false;
        }
        closing.looks_at = self.now + LOOKS_EVERY;
        let (step, is_late) = (closing.step, self.now > closing.until);
        if step != Step::Leave {
            self.flood_on();
        }
        match step {
            Step::Back => self.await_back(is_late),
            Step::Arrive => self.await_arrival(is_late),
            Step::Idle if is_late => {
                self.everybody_has_asked();
                self.everybody_leaves();
            }
            Step::Idle => {}
            Step::Leave => self.await_end(is_late),
        }
        true
    }

    fn await_back(&mut self, is_late: bool) {
        let tired = self
            .clients
            .iter()
            .position(|client| client.is_v3 && client.id.is_some() && client.attempts > ATTEMPTS);
        if let Some(client) = tired {
            let text = format!(
                "client {client} has made {} attempts: {:?}",
                self.clients[client].attempts,
                self.clients[client].machine.state()
            );
            return self.ledger.fail("V11", "23.4", text);
        }
        if let Some(client) = self
            .clients
            .iter()
            .position(|client| !client.is_established() || !self.is_there(client))
        {
            if is_late {
                let text = format!("client {client} is {:?}", self.clients[client].machine);
                self.ledger.fail("L2", "4.6", text);
            }
            return;
        }
        // Ends of connections are still under way.
        if self
            .closing
            .as_ref()
            .is_some_and(|closing| closing.until > self.now + BACK_WITHIN - SETTLES)
        {
            return;
        }
        for client in 0..self.clients.len() {
            for _ in 0..PACKETS {
                self.send_up(client, 40);
                self.send_down(client, 40);
            }
        }
        let delays = self.setup.config.clients.ack_delay.as_nanos() as u64 * 16;
        self.begin(Step::Arrive, ARRIVES_WITHIN + delays);
    }

    /// Returns how much has arrived and was acknowledged.
    fn arrived(&self) -> u64 {
        let of = |session: &Session| {
            let (up, down) = (&session.up, &session.down);
            up.taken + up.acked + up.arrived + down.arrived + down.taken + down.acked
        };
        let of_link = self.edge.counters().link_bytes_out;
        of_link + self.ledger.sessions.iter().map(of).sum::<u64>()
    }

    /// Returns whether the client's session is attached to its connection.
    fn is_there(&self, client: &Client) -> bool {
        let session = client.session.map(|session| &self.ledger.sessions[session]);
        let conn = session.and_then(|session| session.conn);
        !client.is_v3 || (conn.is_some() && conn == client.conn)
    }

    fn await_arrival(&mut self, is_late: bool) {
        // One whose session has ended meanwhile, for want of room, comes back as another.
        let owed = self.clients.iter().position(|client| {
            let Some(session) = client.session else {
                return client.is_v3;
            };
            let entry = &self.ledger.sessions[session];
            let has_arrived = entry.up.taken == entry.up.numbered()
                && entry.fates.passed(client.received) == entry.down.numbered()
                && entry.down.acked == entry.down.numbered()
                && client.machine.queued_packets() == 0;
            !has_arrived || !client.is_established()
        });
        let is_quiet = self.link_is_quiet();
        if owed.is_none() && is_quiet {
            self.everything_came();
            let keep_alive = self.setup.config.clients.keep_alive.as_nanos() as u64;
            return self.begin(Step::Idle, keep_alive * 3);
        }
        let arrived = self.arrived();
        if let Some(closing) = self
            .closing
            .as_mut()
            .filter(|closing| closing.arrived != arrived)
        {
            // A slow network is no fault.
            closing.arrived = arrived;
            closing.until = closing.until.max(self.now + ARRIVES_WITHIN);
            return;
        }
        if is_late {
            let text = match owed {
                Some(client) => {
                    let state = &self.clients[client];
                    let session = state.session.map(|session| &self.ledger.sessions[session]);
                    let room = state.conn.map(|conn| self.conns[conn].down.room());
                    let (machine, received) = (&state.machine, state.received);
                    format!(
                        "client {client}: {machine:?}, {received} received, {room:?}; {session:?}"
                    )
                }
                None => "the link is not quiet".to_owned(),
            };
            self.ledger.fail("V12", "24.3", text);
        }
    }

    /// Each number came in some way: superseded + delivered + gapped = numbered. (SPEC 24.7)
    fn everything_came(&mut self) {
        let mut sessions = self.clients.iter().filter_map(|client| client.session);
        let wrong =
            sessions.find_map(|session| self.ledger.sessions[session].fates.all_came().err());
        if let Some(text) = wrong {
            self.ledger.fail("V17", "24.6(c)", text);
        }
        let gauges = self.edge.gauges();
        // Packets for clients of version 2, and for whoever is away, are not waited for.
        if self.setup.is_crowd || self.setup.plain > 0 || gauges.away > 0 {
            return;
        }
        // What is remembered of ends, and marks of attempts that their client may not know.
        let crumbs = (gauges.connections + gauges.sessions) * CRUMB_BYTES;
        let ends = (self.counted().ended * END_BYTES) as usize;
        if gauges.held_bytes > crumbs + ends {
            let text = format!("{gauges:?} are held at rest");
            self.ledger.fail("V12", "24.2(g)", text);
        }
    }

    /// In the time that it was idle, each client has asked its edge whether it is there.
    fn everybody_has_asked(&mut self) {
        let keep_alive = self.setup.config.clients.keep_alive.as_nanos() as u64;
        let since = self.now.saturating_sub(keep_alive * 2);
        let silent = self.clients.iter().position(|client| {
            let conn = client.conn.map(|conn| &self.conns[conn]);
            let has_asked = conn.is_none_or(|conn| {
                let pinged_at = conn.watch.pinged_at.unwrap_or(conn.opened_at);
                pinged_at >= since
            });
            client.is_v3 && client.is_established() && !has_asked
        });
        if let Some(client) = silent.filter(|_| keep_alive > 0) {
            let text = format!("client {client} has not asked for {} ns", keep_alive * 2);
            self.ledger.fail("V14", "25.1(a)", text);
        }
    }

    /// Half of the clients say goodbye, and the others are not seen again.
    fn everybody_leaves(&mut self) {
        self.others_leave();
        for client in 0..self.clients.len() {
            let state = &mut self.clients[client];
            state.is_gone = true;
            state.end = None;
            let conn = state.conn;
            if client % 2 == 0 {
                for _ in 0..PACKETS {
                    self.send_up(client, 40);
                }
                self.clients[client].close(self.now);
            } else if let Some(conn) = conn {
                self.reset(conn);
                self.clients[client].conn = None;
            }
        }
        let expiry = self.setup.config.clients.stale_timeout.as_nanos() as u64;
        self.begin(Step::Leave, ENDS_WITHIN + expiry);
    }

    fn await_end(&mut self, is_late: bool) {
        let gauges = self.edge.gauges();
        let is_empty = gauges.sessions + gauges.connections == 0 && gauges.link_bytes == 0;
        if !is_empty {
            if is_late {
                self.ledger.fail("H2", "-", format!("{gauges:?} are left"));
            }
            return;
        }
        self.is_done = true;
        self.edge.audit();
        let Counted {
            joined,
            ended,
            broken,
            ..
        } = self.counted();
        // What is remembered of ends of which no client was told.
        let held = gauges.held_bytes as u64;
        if !held.is_multiple_of(END_BYTES) || held / END_BYTES > ended {
            self.ledger
                .fail("H2", "10.5", format!("{gauges:?} are left"));
        }
        let told = self.ledger.sessions.iter();
        let told = told.filter(|session| session.ended.is_some()).count();
        let told = told + self.plain.values().filter(|plain| plain.has_ended).count();
        if joined != ended || ended != told as u64 {
            let text = format!("{joined} joined, {ended} ended, of {told} the backend was told");
            self.ledger.fail("S16", "7.3(a)", text);
        }
        if broken > 0 {
            let text = format!("{broken} connections of honest clients broke the protocol");
            self.ledger.fail("V9", "25.4", text);
        }
        for (number, client) in self.clients.iter().enumerate() {
            if number % 2 != 0 || !client.is_v3 {
                continue;
            }
            let is_right = client.end.as_ref().is_some_and(|end| {
                let (up, down) = (end.ledgers.up, end.ledgers.down);
                end.code == Code::GOODBYE
                    && end.text != "the edge did not answer"
                    && up.acknowledged == up.numbered
                    && down.acknowledged + down.superseded + down.gapped == down.numbered
            });
            if !is_right {
                let text = format!("client {number} said goodbye: {:?}", client.end);
                return self.ledger.fail("V13", "25.4(d)", text);
            }
        }
    }
}
