//! What a connection of version 3 does besides packets: acknowledgements, keep-alive, buffers (SPEC 24.3, 25.1).

use crate::protocol::{Delays, Due, Progress, Records};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::conns::state::State;
use crate::edge::conns::wait::Wait;
use crate::edge::contract::CloseKind;
use crate::edge::counters::CloseReason;
use crate::edge::sessions::Place;

impl Edge {
    /// Gives the channel of the connection at `index` memory to read into, if its packets are numbered.
    #[inline(never)]
    pub(crate) fn lend_read_buffer(&mut self, index: u32) {
        let channel = self.conns.live_mut(index).channel().numbered_mut();
        if let Some(channel) = channel.filter(|channel| channel.wants_reading())
            && let Some(reading) = self.spare.take_reading()
        {
            channel.adopt_reading(reading);
        }
    }

    /// Handles that something of the client at `index` was read, or passed on from its line, if its packets are numbered: acknowledgements
    /// have freed packets, and there may be an answer.
    #[inline]
    pub(crate) fn beat(&mut self, now: Time, index: u32, session: u32) {
        if self.conns.live_mut(index).channel().numbered().is_some() {
            self.beat_numbered(now, index, session);
        }
    }

    #[inline(never)]
    fn beat_numbered(&mut self, now: Time, index: u32, session: u32) {
        let conn = self.conns.live_mut(index);
        if !conn.is_established() {
            return;
        }
        let entry = self.sessions.live_mut(session);
        let has_backlog = entry.backlog_bytes() > 0;
        let unacknowledged = entry.unacknowledged_up();
        let is_end_to_end = self.link_queue.speech.is_end_to_end();
        let Some(records) = conn.channel().records(entry.lend()) else {
            return;
        };
        let Records {
            channel,
            outbox,
            numbers,
        } = records;
        if is_end_to_end {
            // The backend acknowledges (SPEC 37.5).
            numbers.take(numbers.received().saturating_sub(unacknowledged));
        } else if !has_backlog {
            numbers.take_all();
        }
        let confirmed = channel.take_confirmed();
        let timing = channel.timing();
        timing.heard(now);
        timing.count(now, numbers.due());
        if numbers.is_due_alone() {
            channel.outbound().acknowledge();
        }
        let has_output = channel.has_output(outbox, numbers);
        let (reading, buffer) = (channel.surrender_reading(), outbox.surrender());
        if confirmed && let Some(numbered) = self.sessions.live_mut(session).numbered_mut() {
            numbered.standing.confirm();
        }
        if let Some(reading) = reading {
            self.spare.keep_reading(reading);
        }
        if let Some(buffer) = buffer {
            self.spare.keep(buffer);
        }
        self.sessions.recount(session, &mut self.account);
        self.set_alarm(now, index, session);
        let entry = self.sessions.live(session);
        if self.link_queue.speech.may_be_new() && entry.outbox.acked() > entry.told_settled() {
            self.note_settled(now, session);
        }
        if has_output {
            self.watch_writes(now, index);
        }
    }

    /// Handles that the backend has acknowledged packets of the session's client (SPEC 37.5).
    pub(crate) fn take_acknowledged(&mut self, now: Time, session: u32) {
        let entry = self.sessions.live_mut(session);
        let (place, unacknowledged) = (entry.place, entry.unacknowledged_up());
        let Some(numbers) = entry.lend().numbers else {
            return;
        };
        numbers.take(numbers.received().saturating_sub(unacknowledged));
        let (due, is_due_alone) = (numbers.due(), numbers.is_due_alone());
        let Place::Attached(index) = place else {
            return;
        };
        let Some(channel) = self.conns.live_mut(index).channel().numbered_mut() else {
            return;
        };
        channel.timing().count(now, due);
        if is_due_alone {
            channel.outbound().acknowledge();
        }
        self.set_alarm(now, index, session);
        if is_due_alone {
            self.watch_writes(now, index);
        }
    }

    /// Makes output for the client at `index`, whose packets are numbered.
    #[inline(never)]
    pub(crate) fn make_output(&mut self, index: u32) {
        let now = self.now;
        let conn = self.conns.live_mut(index);
        let State::Established { session } = *conn.state() else {
            return;
        };
        let lent = self.sessions.live_mut(session).lend();
        let Some(records) = conn.channel().records(lent) else {
            return;
        };
        let Records {
            channel,
            outbox,
            numbers,
        } = records;
        if channel.has_wire() || !channel.has_output(outbox, numbers) {
            return;
        }
        if channel.outbound().wants_sending()
            && let Some(sending) = self.spare.take_sending()
        {
            channel.outbound().adopt(sending);
        }
        let before = numbers.due();
        channel.fill(outbox, numbers);
        let told = before > 0 && numbers.due() == 0;
        if told {
            channel.timing().acknowledged();
        }
        self.conns.recount(index, &mut self.account);
        self.sessions.recount(session, &mut self.account);
        if told {
            self.set_alarm(now, index, session);
        }
    }

    /// Handles that the transport of the client at `index`, whose packets are numbered, took something.
    #[inline(never)]
    pub(crate) fn take_wire_back(&mut self, index: u32) {
        let Some(channel) = self.conns.live_mut(index).channel().numbered_mut() else {
            return;
        };
        if let Some(sending) = channel.outbound().surrender() {
            self.spare.keep_sending(sending);
        }
        self.conns.recount(index, &mut self.account);
    }

    /// Returns the times of a connection of version 3.
    fn delays(&self) -> Delays {
        let clients = &self.config.clients;
        Delays::of_edge(clients.ack_delay, clients.keep_alive)
    }

    /// Begins the clock of the connection at `index`, if its packets are numbered.
    pub(crate) fn begin_pulse(&mut self, now: Time, index: u32, session: u32) {
        let channel = self.conns.live_mut(index).channel().numbered_mut();
        if let Some(channel) = channel {
            channel.timing().heard(now);
            self.set_alarm(now, index, session);
        }
    }

    /// Sets when the connection at `index` is looked at next.
    pub(crate) fn set_alarm(&mut self, now: Time, index: u32, session: u32) {
        let delays = self.delays();
        let numbers = self.sessions.live(session).numbers();
        let due = numbers.map_or(0, Progress::due);
        let Some(channel) = self.conns.live_mut(index).channel().numbered_mut() else {
            return;
        };
        let timing = channel.timing();
        let next = timing.next(due, &delays).map(|(at, _)| at.max(now));
        let before = timing.looks_at();
        // One that comes too early is looked at then, which is cheaper than to move it at each packet.
        let next = match (before, next) {
            (Some(before), Some(next)) if before <= next && before > now => Some(before),
            (_, next) => next,
        };
        timing.look_at(next);
        self.alarms.set(index, before, next);
    }

    /// Stops the clock of the connection at `index`, which is no longer established.
    pub(crate) fn silence(&mut self, index: u32) {
        if let Some(channel) = self.conns.live_mut(index).channel().numbered_mut() {
            let before = channel.timing().look_at(None);
            self.alarms.set(index, before, None);
        }
    }

    /// Looks at the clock of the connection at `index`.
    pub(crate) fn handle_alarm(&mut self, now: Time, index: u32) {
        let delays = self.delays();
        let Some(session) = self.conns.live(index).session() else {
            return self.silence(index);
        };
        let entry = self.sessions.live(session);
        let is_waiting = entry.waiting || entry.is_paused();
        let due = entry.numbers().map_or(0, Progress::due);
        let conn = self.conns.live_mut(index);
        // The silence of a client that the edge does not read is the edge's own (SPEC 25.1(c)).
        let is_unread = is_waiting || conn.waits_for(Wait::Pace);
        let Some(channel) = conn.channel().numbered_mut() else {
            return;
        };
        let before = channel.timing().look_at(None);
        self.alarms.set(index, before, None);
        let next = channel.timing().next(due, &delays);
        match next.filter(|(at, _)| *at <= now).map(|(_, due)| due) {
            None => return self.set_alarm(now, index, session),
            Some(Due::Leave(code)) => return self.end_leaving(now, index, code),
            Some(Due::Dead) if !is_unread => {
                return self.close_conn(now, index, CloseKind::Abort, CloseReason::Silent);
            }
            Some(Due::Ack) => {
                channel.outbound().acknowledge();
                channel.timing().acknowledged();
            }
            Some(Due::Ping | Due::Dead) => {
                if is_unread {
                    channel.timing().heard(now);
                }
                channel.outbound().ping(now.as_nanos().to_le_bytes());
                channel.timing().pinged();
            }
        }
        self.set_alarm(now, index, session);
        self.watch_writes(now, index);
    }
}
