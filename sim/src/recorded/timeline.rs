//! What happened to each connection and session of a recorded edge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use voltlane_core::ClientId;
use voltlane_core::edge::record::{Call, Difference, Recording, Replay, ReplayError};
use voltlane_core::edge::{Closed, ConnKey, Counters, EndReason, Rejected};

/// The maximum number of connections, sessions and events that a page shows: of a longer recording the last ones, where the incident is.
pub(super) const MOST: usize = 2_000;
/// The parts of the whole time in which bytes are counted.
pub(super) const PARTS: usize = 240;

/// How sources are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// As they are.
    Shown,
    /// By their number, so that the page can be shared.
    Numbered,
}

/// A connection of a client.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) number: u64,
    pub(super) opened: u64,
    pub(super) closed: Option<u64>,
    pub(super) source: String,
    pub(super) listener: usize,
    pub(super) session: Option<usize>,
    /// Whether it began the session or resumed it.
    pub(super) resumed: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// Why it ended.
    pub(super) end: String,
}

/// A session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) version: u8,
    pub(super) began: u64,
    pub(super) ended: Option<u64>,
    pub(super) connections: u64,
    pub(super) end: String,
}

/// Something that is no packet.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) at: u64,
    pub(super) kind: &'static str,
    pub(super) text: String,
}

/// The state at the end of a part of the time, and what moved in it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Part {
    /// Whether anything happened in it.
    pub(super) is_seen: bool,
    pub(super) connections: usize,
    pub(super) sessions: usize,
    pub(super) away: usize,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
}

/// A recording, run again.
#[derive(Debug)]
pub struct Timeline {
    addresses: Addresses,
    sources: BTreeMap<IpAddr, usize>,
    pub(super) records: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) parts: Vec<Part>,
    pub(super) connections: Vec<Connection>,
    pub(super) sessions: Vec<Session>,
    pub(super) events: Vec<Event>,
    pub(super) calls: BTreeMap<&'static str, u64>,
    pub(super) counters: Counters,
    /// Whether it begins in the middle of a run.
    pub(super) begins_late: bool,
    /// Whether the edge wrote the end.
    pub(super) has_end: bool,
    /// Whether the next segment goes on.
    pub(super) goes_on: bool,
    pub(super) torn_bytes: usize,
    pub(super) difference: Option<Difference>,
    /// The connections that are open, and the sessions that have not ended.
    open: BTreeMap<ConnKey, usize>,
    living: BTreeMap<ClientId, usize>,
}

impl Timeline {
    /// Runs a recording again, and looks at the machine after each call.
    ///
    /// # Errors
    /// When a record is malformed.
    pub fn of(recording: &Recording, addresses: Addresses) -> Result<Timeline, ReplayError> {
        let (first, last) = recording.times()?;
        let first = first.as_nanos();
        // A time can be divided by it.
        let last = last.as_nanos().max(first + 1);
        let mut timeline = Timeline {
            addresses,
            sources: BTreeMap::new(),
            records: 0,
            first,
            last,
            parts: vec![Part::default(); PARTS],
            connections: Vec::new(),
            sessions: Vec::new(),
            events: Vec::new(),
            calls: BTreeMap::new(),
            counters: Counters::default(),
            begins_late: false,
            has_end: false,
            goes_on: false,
            torn_bytes: recording.torn_bytes(),
            difference: None,
            open: BTreeMap::new(),
            living: BTreeMap::new(),
        };
        let mut replay = Replay::new(recording)?;
        timeline.begin(&replay);
        while let Some(step) = replay.step()? {
            timeline.records = step.number;
            timeline.see(&replay, step.at.as_nanos(), &step.call, step.answer);
            if let Some(difference) = step.difference {
                timeline.difference = Some(difference);
                timeline.tell(step.at.as_nanos(), "difference", difference.to_string());
                break;
            }
        }
        timeline.counters = replay.edge().counters().clone();
        Ok(timeline)
    }

    /// Sees what is there already, if this is a later segment.
    fn begin(&mut self, replay: &Replay<'_>) {
        let edge = replay.edge();
        self.counters.ended = edge.counters().ended;
        let connections = replay.connections();
        self.begins_late = edge.counters().accepted > 0 || !connections.is_empty();
        let at = self.first;
        for conn in connections {
            self.open.insert(conn, self.connections.len());
            self.connections.push(Connection {
                number: self.connections.len() as u64,
                opened: at,
                closed: None,
                source: "from before".to_owned(),
                listener: 0,
                session: None,
                resumed: false,
                bytes_in: 0,
                bytes_out: 0,
                end: String::new(),
            });
            self.look(replay, at, conn);
        }
    }

    /// Returns whether the machine did what the recorded one did.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.difference.is_none()
    }

    /// Says in a few lines what came of the replay.
    #[must_use]
    pub fn summary(&self) -> String {
        let verdict = match &self.difference {
            None => "event for event the same".to_owned(),
            Some(difference) => format!("NOT the same: {difference}"),
        };
        let end = match self.end() {
            "" => String::new(),
            end => format!("; {end}"),
        };
        let seconds = self.last.saturating_sub(self.first) as f64 / 1e9;
        format!(
            "{} records of {seconds:.3} s, {} connections, {} sessions: {verdict}{end}",
            self.records,
            self.counters.accepted,
            self.sessions.len()
        )
    }

    /// Says how it ends, unless it goes to the end of the edge.
    pub(super) fn end(&self) -> &'static str {
        match (self.has_end, self.goes_on, self.torn_bytes) {
            (true, ..) => "",
            (_, true, _) => "the next segment goes on",
            (.., 0) => "it has no end: the edge was killed, or runs, or could not write more",
            _ => "its last chunk is torn and left out",
        }
    }

    fn part(&mut self, at: u64) -> &mut Part {
        let whole = u128::from(self.last.saturating_sub(self.first).max(1));
        let since = u128::from(at.saturating_sub(self.first));
        let part = (since * PARTS as u128 / whole) as usize;
        &mut self.parts[part.min(PARTS - 1)]
    }

    fn source(&mut self, peer: IpAddr) -> String {
        match self.addresses {
            Addresses::Shown => peer.to_string(),
            Addresses::Numbered => {
                let next = self.sources.len() + 1;
                format!("source {}", self.sources.entry(peer).or_insert(next))
            }
        }
    }

    fn tell(&mut self, at: u64, kind: &'static str, text: String) {
        if self.events.len() >= 2 * MOST {
            self.events.drain(..MOST);
        }
        self.events.push(Event { at, kind, text });
    }

    fn see(&mut self, replay: &Replay<'_>, at: u64, call: &Call<'_>, answer: Option<u64>) {
        let edge = replay.edge();
        *self.calls.entry(call.name()).or_default() += 1;
        match *call {
            Call::Accepted { listener, peer, .. } => {
                self.accepted(at, listener, peer, answer, replay)
            }
            Call::ClientBytes { conn, bytes } => {
                self.part(at).bytes_up += bytes.len() as u64;
                if let Some(&index) = self.open.get(&conn) {
                    self.connections[index].bytes_in += bytes.len() as u64;
                }
                self.look(replay, at, conn);
            }
            Call::Entropy { conn, .. } | Call::ClientDuty { conn } => self.look(replay, at, conn),
            Call::ClientWritten { conn, bytes } => {
                self.part(at).bytes_down += bytes as u64;
                if let Some(&index) = self.open.get(&conn) {
                    self.connections[index].bytes_out += bytes as u64;
                }
            }
            Call::ClientClosed { conn, cause } => self.closed(at, conn, cause),
            Call::LinkConnected => self.tell(at, "link", "the link is up".into()),
            Call::LinkClosed(cause) => {
                self.tell(at, "link", format!("the link is lost: {cause:?}"));
            }
            Call::Config(_) => self.tell(at, "operator", "another configuration".into()),
            Call::Leaving { within, .. } => {
                self.tell(
                    at,
                    "operator",
                    format!("clients are asked to leave within {within:?}"),
                );
            }
            Call::Shutdown { within } => {
                self.tell(at, "operator", format!("shutdown within {within:?}"));
            }
            Call::Drain(within) => {
                let text =
                    within.map_or("drain undone".into(), |within| format!("drain: {within:?}"));
                self.tell(at, "operator", text);
            }
            Call::Kick { id, code, .. } => {
                self.tell(
                    at,
                    "operator",
                    format!("kick of {:016x} with {code}", id.as_u64()),
                );
            }
            Call::Ban { .. } => self.tell(at, "operator", "a network is banned".into()),
            Call::Unban(_) => self.tell(at, "operator", "a ban is lifted".into()),
            Call::Restore(_) => {
                self.tell(at, "operator", "sessions of the last process go on".into())
            }
            Call::End => self.has_end = true,
            Call::Turn => self.goes_on = true,
            _ => {}
        }
        self.look_at_ends(replay, at);
        let gauges = edge.gauges();
        let part = self.part(at);
        part.is_seen = true;
        part.connections = gauges.connections;
        part.sessions = gauges.sessions - gauges.ending;
        part.away = gauges.away;
    }

    fn accepted(
        &mut self,
        at: u64,
        listener: usize,
        peer: IpAddr,
        answer: Option<u64>,
        replay: &Replay<'_>,
    ) {
        let source = self.source(peer);
        let answer = answer.unwrap_or_default();
        if answer & 1 == 1 {
            let reason = Rejected::ALL.get((answer >> 1) as usize);
            let reason = reason.map_or("?", |reason| reason.name());
            return self.tell(at, "refused", format!("{source} is turned away: {reason}"));
        }
        let Some(conn) = replay.accepted() else {
            return;
        };
        self.open.insert(conn, self.connections.len());
        self.connections.push(Connection {
            number: self.connections.len() as u64,
            opened: at,
            closed: None,
            source,
            listener,
            session: None,
            resumed: false,
            bytes_in: 0,
            bytes_out: 0,
            end: String::new(),
        });
    }

    /// Looks whether a connection has a session now, and whether the edge closes it.
    fn look(&mut self, replay: &Replay<'_>, at: u64, conn: ConnKey) {
        let Some(&index) = self.open.get(&conn) else {
            return;
        };
        let edge = replay.edge();
        if self.connections[index].session.is_none()
            && let Some(id) = edge.session_of(conn)
        {
            let known = self.living.get(&id).copied();
            let session = known.unwrap_or(self.sessions.len());
            if known.is_none() {
                let version = edge.inspect(id).map_or(0, |info| info.version);
                self.living.insert(id, session);
                self.sessions.push(Session {
                    id: id.as_u64(),
                    version,
                    began: at,
                    ended: None,
                    connections: 0,
                    end: String::new(),
                });
            }
            self.sessions[session].connections += 1;
            let connection = &mut self.connections[index];
            (connection.session, connection.resumed) = (Some(session), known.is_some());
        }
        if self.connections[index].end.is_empty()
            && let Some(reason) = edge.close_reason(conn)
        {
            self.connections[index].end = reason.name().to_owned();
        }
    }

    fn closed(&mut self, at: u64, conn: ConnKey, cause: Closed) {
        let Some(index) = self.open.remove(&conn) else {
            return;
        };
        let connection = &mut self.connections[index];
        connection.closed = Some(at);
        if connection.end.is_empty() {
            connection.end = match cause {
                Closed::Eof => "client ended",
                Closed::Error => "connection lost",
                Closed::Asked => "edge ended",
                Closed::Violation => "transport violated",
            }
            .to_owned();
        }
    }

    /// Finds the sessions that have ended, when the counters say that some have.
    fn look_at_ends(&mut self, replay: &Replay<'_>, at: u64) {
        let ended = replay.edge().counters().ended;
        if ended == self.counters.ended {
            return;
        }
        let mut reasons: BTreeSet<&str> = BTreeSet::new();
        for (reason, (now, before)) in EndReason::ALL
            .iter()
            .zip(ended.iter().zip(self.counters.ended))
        {
            if *now > before {
                reasons.insert(reason.name());
            }
        }
        self.counters.ended = ended;
        let reasons: Vec<_> = reasons.into_iter().collect();
        let reasons = reasons.join(" or ");
        let edge = replay.edge();
        let gone: Vec<_> = self
            .living
            .keys()
            .copied()
            .filter(|id| edge.inspect(*id).is_none())
            .collect();
        for id in gone {
            if let Some(session) = self.living.remove(&id) {
                let session = &mut self.sessions[session];
                session.ended = Some(at);
                session.end.clone_from(&reasons);
            }
            self.tell(
                at,
                "session",
                format!("{:016x} ended: {reasons}", id.as_u64()),
            );
        }
    }
}
