//! When a connection whose packets are numbered is looked at: it acknowledges, asks whether its client is there, gives up or closes
//! (SPEC 24.3, 25.1, 25.3).

use crate::protocol::{Delays, Due, Progress};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::conns::wait::Wait;
use crate::edge::contract::CloseKind;
use crate::edge::counters::CloseReason;

impl Edge {
    /// Returns the times of a connection of version 3.
    fn delays(&self) -> Delays {
        let clients = &self.config.clients;
        Delays::of_edge(clients.ack_delay, clients.keep_alive)
    }

    /// Sets the first alarm of the connection at `index`, if its packets are numbered.
    pub(crate) fn start_alarm(&mut self, now: Time, index: u32, session: u32) {
        let channel = self.conns.live_mut(index).channel().numbered_mut();
        if let Some(channel) = channel {
            channel.timing().heard(now);
            self.set_alarm(now, index, session);
        }
    }

    /// Sets the alarm of the connection at `index`: when it is looked at next.
    pub(crate) fn set_alarm(&mut self, now: Time, index: u32, session: u32) {
        let delays = self.delays();
        let numbers = self.sessions.live(session).numbers();
        let due = numbers.map_or(0, Progress::due);
        let Some(channel) = self.conns.live_mut(index).channel().numbered_mut() else {
            return;
        };
        let next = channel.next_due(due, &delays).map(|(at, _)| at.max(now));
        let before = self.alarms.at(index);
        // An alarm that comes too early is set again then. That is cheaper than to move it at each packet.
        let next = match (before, next) {
            (Some(before), Some(next)) if before <= next && before > now => Some(before),
            (_, next) => next,
        };
        if before != next {
            self.alarms.set(index, next);
        }
    }

    /// Clears the alarm of the connection at `index`, which is no longer established.
    pub(crate) fn clear_alarm(&mut self, index: u32) {
        self.alarms.set(index, None);
    }

    /// Handles the alarm of the connection at `index`.
    pub(crate) fn handle_alarm(&mut self, now: Time, index: u32) {
        let delays = self.delays();
        let Some(session) = self.conns.live(index).session() else {
            return self.clear_alarm(index);
        };
        let entry = self.sessions.live(session);
        let is_waiting = entry.waiting || entry.is_paused();
        let due = entry.numbers().map_or(0, Progress::due);
        let conn = self.conns.live_mut(index);
        // The silence of a client that the edge does not read is the edge's own (SPEC 25.1(c)).
        let is_unread = is_waiting || conn.waits_for(Wait::Pace);
        let Some(channel) = conn.channel().numbered_mut() else {
            // It cannot be asked to leave (SPEC 36.5(b)), and comes back after an abrupt end.
            self.clear_alarm(index);
            return self.close_conn(now, index, CloseKind::Abort, CloseReason::Shutdown);
        };
        self.alarms.set(index, None);
        let next = channel.next_due(due, &delays);
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
