//! Acknowledgements and buffers of a connection whose packets are numbered (SPEC 24.3).

use crate::protocol::Records;
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::conns::state::State;
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
    pub(crate) fn heard(&mut self, now: Time, index: u32, session: u32) {
        if self.conns.live_mut(index).channel().numbered().is_some() {
            self.heard_numbered(now, index, session);
        }
    }

    #[inline(never)]
    fn heard_numbered(&mut self, now: Time, index: u32, session: u32) {
        let conn = self.conns.live_mut(index);
        if !conn.is_established() {
            return;
        }
        let entry = self.sessions.live_mut(session);
        let has_backlog = entry.backlog_bytes() > 0;
        let unacknowledged = entry.unacknowledged_up();
        let is_end_to_end = self.link_queue.version.is_end_to_end();
        let Some(Records {
            channel,
            outbox,
            numbers,
        }) = conn.channel().records(entry.lend())
        else {
            return;
        };
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
        if self.link_queue.version.may_be_version_3() && entry.outbox.acked() > entry.told_settled()
        {
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
        let Some(Records {
            channel,
            outbox,
            numbers,
        }) = conn.channel().records(lent)
        else {
            return;
        };
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
}
