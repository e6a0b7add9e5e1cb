//! How a connection of version 3 ends, and what is said then (SPEC 25.4, 25.5).

use core::time::Duration;

use crate::id::ClientId;
use crate::link::v3 as link;
use crate::link::v3::Kick;
use crate::protocol::{Close, Code, GoAway, Ledger, Stop};
use crate::queue::{Outbox, Retention};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::conns::state::{Draining, LastWords, Phase, State};
use crate::edge::conns::wait::Wait;
use crate::edge::contract::CloseKind;
use crate::edge::counters::{CloseReason, EndReason};
use crate::edge::lifecycle::welcome::millis;
use crate::edge::sessions::Place;
use crate::edge::sessions::ends::{End, MOST};

/// How much of a client is still read and thrown away once it is told why its connection ends.
pub const LAST_WORDS_BYTES: usize = 131_072;

/// Why clients are asked to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GoAwayCode {
    /// The edge will not serve them any longer.
    GoingAway,
    /// The edge restarts.
    Restart,
}

impl From<GoAwayCode> for Code {
    fn from(code: GoAwayCode) -> Self {
        match code {
            GoAwayCode::GoingAway => Code::GOING_AWAY,
            GoAwayCode::Restart => Code::RESTART,
        }
    }
}

/// What a CLOSE says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    code: Code,
    detail: u64,
    wait_ms: u32,
    jitter: Duration,
    /// Whether packets that wait go out before it.
    flushes: bool,
}

impl Words {
    pub(crate) fn new(code: Code, detail: u64) -> Self {
        Words {
            code,
            detail,
            wait_ms: 0,
            jitter: Duration::ZERO,
            flushes: false,
        }
    }

    /// Says that the client is to come back no earlier than after this time, and this long at random.
    #[cfg(feature = "cluster")]
    pub(crate) fn in_a_while(self, wait: Duration) -> Self {
        Words {
            wait_ms: millis(wait),
            jitter: wait,
            ..self
        }
    }

    /// Says it behind the packets that wait, as far as the ring has room.
    fn behind_packets(self) -> Self {
        Words {
            flushes: true,
            ..self
        }
    }

    /// Returns the CLOSE, whose ledgers are filled in when it is sealed.
    pub(crate) fn close<'a>(&self, text: &'a str) -> Close<'a> {
        Close {
            code: self.code,
            wait_ms: self.wait_ms,
            jitter_ms: millis(self.jitter),
            detail: self.detail,
            up: Ledger::default(),
            down: Ledger::default(),
            text,
        }
    }
}

impl Edge {
    /// Says the last words on the connection at `index` of the session.
    pub(crate) fn say(&mut self, index: u32, session: u32, words: &Words) {
        self.say_with(index, session, words, "");
    }

    /// Like [`say`](Self::say), with a text for people.
    fn say_with(&mut self, index: u32, session: u32, words: &Words, text: &str) {
        let conn = self.conns.live_mut(index);
        let lent = self.sessions.live_mut(session).lend();
        if let Some(records) = conn.channel().records(lent) {
            let (outbox, numbers) = (records.outbox, records.numbers);
            records
                .channel
                .close(&words.close(text), words.flushes, outbox, numbers);
        }
        self.sessions.recount(session, &mut self.account);
    }

    /// Lets the connection at `index`, which no session is attached to any more, write what it has to say, and then closes it. `ended` is
    /// the session whose end it tells.
    pub(crate) fn drain(
        &mut self,
        now: Time,
        index: u32,
        reason: CloseReason,
        ended: Option<ClientId>,
    ) {
        self.clear_alarm(index);
        let draining = Draining {
            outbox: Outbox::new(Retention::UntilAcked),
            reason,
            last_words: Some(LastWords {
                ended,
                discards: LAST_WORDS_BYTES,
            }),
        };
        let draining = State::Draining(Box::new(draining));
        self.conns.enter(index, draining, now);
        let conn = self.conns.live_mut(index);
        conn.reader.clear();
        if let Some(channel) = conn.channel().numbered_mut() {
            channel.forget_input();
        }
        self.conns.recount(index, &mut self.account);
        self.punish(now, index, reason);
        self.conns.mark_ready(index);
        self.check_last_words(now, index);
    }

    /// Ends the opening at `index`, whose refusal is queued.
    pub(crate) fn end_opening(&mut self, now: Time, index: u32, reason: CloseReason) {
        let last_words = LastWords {
            ended: None,
            discards: LAST_WORDS_BYTES,
        };
        let last = State::Handshake(Phase::Last(Box::new((reason, last_words))));
        self.conns.enter(index, last, now);
        self.conns.live_mut(index).reader.clear();
        self.conns.recount(index, &mut self.account);
        self.conns.mark_ready(index);
    }

    /// Gives the client at `index` a moment to read its last words, once they are written.
    pub(crate) fn check_last_words(&mut self, now: Time, index: u32) {
        let conn = self.conns.live_mut(index);
        if conn.last_words().is_some() && conn.has_drained() {
            self.conns.arm(Wait::Drain, index, now);
        }
    }

    /// Handles that the time is over in which the connection at `index` takes what is queued for it, or reads its last words.
    pub(crate) fn end_last_words(&mut self, now: Time, index: u32) {
        let conn = self.conns.live_mut(index);
        let kind = match conn.last_words().is_some() && conn.has_drained() {
            true => CloseKind::Graceful,
            false => CloseKind::Abort,
        };
        let reason = match conn.state() {
            State::Draining(draining) => draining.reason,
            State::Handshake(Phase::Last(last)) => last.0,
            _ => unreachable!("only who must take something before it closes has this timer"),
        };
        self.begin_closing(now, index, kind, reason);
    }

    /// Throws away bytes of a connection that was told why it ends. It closes if there are too many.
    pub(crate) fn discard(&mut self, now: Time, index: u32, bytes: usize) {
        let Some(last_words) = self.conns.live_mut(index).last_words() else {
            return;
        };
        match last_words.discards.checked_sub(bytes) {
            Some(left) => last_words.discards = left,
            None => self.end_last_words(now, index),
        }
    }

    /// Handles that the client at `index` has ended its stream. One that had its last words knows how its session ended.
    pub(crate) fn hear_last_words(&mut self, index: u32) {
        let conn = self.conns.live_mut(index);
        if conn.has_drained()
            && let Some(LastWords {
                ended: Some(id), ..
            }) = conn.last_words()
        {
            self.ends.forget(*id);
        }
    }

    /// Remembers how the session ends, in case its client is not told.
    pub(crate) fn remember_end(
        &mut self,
        session: u32,
        reason: EndReason,
        kick: Option<&Kick<'_>>,
    ) {
        let entry = self.sessions.live(session);
        let Some(numbered) = entry.numbered() else {
            return;
        };
        let end = End {
            code: kick.map_or(reason.code(), |kick| kick.code),
            highest: numbered.standing.highest(),
            acknowledged_up: numbered.progress.received(),
            acknowledged_down: entry.outbox.acked(),
        };
        let admission = match entry.place {
            Place::Attached(index) => Some(self.conns.live(index).admission),
            _ => self.sessions.admission_of(session),
        };
        let source = admission.and_then(|admission| self.sources.lock().address_of(admission));
        let most = MOST.div_ceil(usize::from(self.config.shards.max(1)));
        self.ends.remember(entry.id, source, end, most);
    }

    /// Tells the client at `index` how its session ends, and lets it read that.
    pub(crate) fn tell_end(
        &mut self,
        index: u32,
        session: u32,
        reason: EndReason,
        kick: Option<&Kick<'_>>,
    ) {
        let code = match (reason, kick) {
            (_, Some(kick)) => kick.code,
            (EndReason::Goodbye, None) => Code::GOODBYE,
            (reason, None) => reason.code(),
        };
        let detail = match (reason, self.sessions.live(session).numbered()) {
            (EndReason::PacketTooLong, Some(numbered)) => numbered.longest_down.into(),
            _ => 0,
        };
        let words = Words {
            wait_ms: kick.map_or(0, |kick| kick.wait_ms),
            ..Words::new(code, detail)
        };
        let words = match reason {
            EndReason::Kicked | EndReason::Goodbye => words.behind_packets(),
            _ => words,
        };
        self.say_with(index, session, &words, kick.map_or("", |kick| kick.text));
    }

    /// Handles that the client at `index` is not read any further.
    #[cold]
    pub(crate) fn stop(&mut self, now: Time, index: u32, stop: Stop) {
        let closing = |edge: &mut Edge, reason| {
            edge.close_conn(now, index, CloseKind::Graceful, reason);
        };
        match stop {
            Stop::TooLong => match self.conns.live(index).session() {
                // It would come again with the next connection.
                Some(session) if self.sessions.live(session).numbered().is_some() => {
                    self.end_session(now, session, EndReason::PacketTooLong);
                }
                _ => closing(self, CloseReason::FrameTooLong),
            },
            Stop::Foreign => closing(self, CloseReason::BadRecord),
            Stop::Closed(Code::GOODBYE) => {
                if let Some(session) = self.conns.live(index).session() {
                    self.end_session(now, session, EndReason::Goodbye);
                }
            }
            Stop::Closed(_) => closing(self, CloseReason::PeerError),
            Stop::Token => unreachable!("whoever opens packets takes the token"),
            Stop::Fault { code, detail } => {
                let words = Words::new(code, detail.into());
                self.part(now, index, code, &words, CloseReason::ProtocolError);
            }
        }
    }

    /// Lets go of the client at `index` with `words`. Its session goes away, and learns of `cause` when it comes back.
    fn part(&mut self, now: Time, index: u32, cause: Code, words: &Words, reason: CloseReason) {
        let Some(session) = self.conns.live(index).session() else {
            return;
        };
        self.set_cause(session, cause);
        self.say(index, session, words);
        self.go_away(now, index, session);
        self.drain(now, index, reason, None);
    }

    /// Records why the edge lets go of the session's connection.
    pub(crate) fn set_cause(&mut self, session: u32, cause: Code) {
        if let Some(numbered) = self.sessions.live_mut(session).numbered_mut() {
            numbered.cause = cause;
        }
    }

    /// Parks the session of the client at `index`, which takes nothing: nothing of it is lost (SPEC 24.2(f)).
    pub(crate) fn park(&mut self, now: Time, index: u32, session: u32) {
        self.set_cause(session, Code::PARKED);
        self.close_conn(now, index, CloseKind::Abort, CloseReason::Parked);
    }

    /// Asks all clients of version 3 to leave, by GOAWAY with `code`, and closes those that are still there after `within` (SPEC 25.3). Until
    /// then they are served as before. They leave at different times within it. Clients of version 2 cannot be asked. They are closed at even
    /// distances within the time (SPEC 9.8(d)).
    ///
    /// An adapter calls it before its clients are to go to another process or address. Before an [end](Edge::handle_shutdown) that comes at
    /// once there is no need: it tells them, too.
    pub fn handle_leaving(&mut self, now: Time, code: GoAwayCode, within: Duration) {
        noted!(
            self,
            now,
            Leaving {
                restarts: crate::edge::record::restarts(code),
                within
            }
        );
        self.step(now, |edge, now| {
            edge.ask_all_to_leave(now, code, within);
            edge.spread_closings(now, within);
        });
    }

    /// Closes the clients that cannot be asked to leave at even distances within the time.
    fn spread_closings(&mut self, now: Time, within: Duration) {
        let mut from = 0;
        let mut indexes = Vec::new();
        while let Some(index) = self.conns.next_from(from) {
            from = index + 1;
            let conn = self.conns.live_mut(index);
            if conn.is_established() && conn.channel().numbered().is_none() {
                indexes.push(index);
            }
        }
        let count = u32::try_from(indexes.len()).expect("indexes are of 32 bits");
        for (place, index) in (1..).zip(indexes) {
            let closes_at = now + within / (count + 1) * place;
            self.alarms.set(index, Some(closes_at));
        }
    }

    pub(crate) fn ask_all_to_leave(&mut self, now: Time, code: GoAwayCode, within: Duration) {
        // They leave about as slowly as those of version 2, and the last one before the edge closes it (SPEC 25.3(c)).
        let drain_ms = millis(within);
        let go_away = GoAway {
            code: code.into(),
            earliest_ms: 0,
            latest_ms: drain_ms - drain_ms / 8,
            drain_ms,
        };
        let mut from = 0;
        while let Some(index) = self.conns.next_from(from) {
            from = index + 1;
            self.ask_one_to_leave(now, index, go_away);
        }
    }

    /// Asks the client at `index` to leave. Returns false if it cannot be asked.
    fn ask_one_to_leave(&mut self, now: Time, index: u32, go_away: GoAway) -> bool {
        let conn = self.conns.live_mut(index);
        let State::Established { session } = *conn.state() else {
            return false;
        };
        let Some(channel) = conn.channel().numbered_mut() else {
            return false;
        };
        let within = Duration::from_millis(go_away.drain_ms.into());
        channel.outbound().go_away(go_away);
        channel.leave(now + within, go_away.code);
        self.set_alarm(now, index, session);
        self.watch_writes(now, index);
        true
    }

    /// Asks a client to leave, as the backend wants (SPEC 36.5). One of version 2 cannot be asked. It is closed after the time. One that is
    /// away has left.
    pub(crate) fn ask_for_backend(&mut self, now: Time, id: ClientId, go_away: link::GoAway) {
        if let Some(session) = self.lookup_told(id)
            && let Place::Attached(index) = self.sessions.live(session).place
        {
            self.ask_or_close(now, index, handed_on(go_away));
        }
    }

    /// Asks all clients, as the backend wants. They leave no faster than they can come back.
    pub(crate) fn ask_all_for_backend(&mut self, now: Time, go_away: link::GoAway) {
        let mut go_away = handed_on(go_away);
        let fastest = millis(self.time_to_come_back()).min(go_away.drain_ms);
        go_away.latest_ms = go_away.latest_ms.max(fastest);
        let mut from = 0;
        while let Some(index) = self.conns.next_from(from) {
            from = index + 1;
            self.ask_or_close(now, index, go_away);
        }
    }

    fn ask_or_close(&mut self, now: Time, index: u32, go_away: GoAway) {
        if !self.ask_one_to_leave(now, index, go_away) && self.conns.live(index).is_established() {
            // A newer time takes the place of an older one.
            let within = Duration::from_millis(go_away.drain_ms.into());
            self.alarms.set(index, Some(now + within));
        }
    }

    /// Lets clients stay that were asked to leave and are still there.
    pub(crate) fn let_all_stay(&mut self, now: Time) {
        let mut from = 0;
        while let Some(index) = self.conns.next_from(from) {
            from = index + 1;
            let conn = self.conns.live_mut(index);
            let State::Established { session } = *conn.state() else {
                continue;
            };
            if let Some(channel) = conn.channel().numbered_mut() {
                channel.stay();
                self.set_alarm(now, index, session);
            }
        }
    }

    /// Lets go of the client at `index`, which was asked to leave in time and did not.
    pub(crate) fn end_leaving(&mut self, now: Time, index: u32, code: Code) {
        let words = Words::new(code, 0);
        self.part(now, index, Code::GOODBYE, &words, CloseReason::Shutdown);
    }

    /// Returns in what time the attached clients can come back: a millisecond each.
    fn time_to_come_back(&self) -> Duration {
        // Each shard knows its own sessions, of which all have about the same number.
        let here = u32::try_from(self.sessions.attached()).unwrap_or(u32::MAX);
        let all = here.saturating_mul(self.config.shards.max(1).into());
        Duration::from_millis(1).saturating_mul(all)
    }

    /// Tells all clients of version 3 that the edge restarts, behind what waits for them. They come back at different times.
    pub(crate) fn send_all_away(&mut self, now: Time) {
        let words = Words {
            jitter: self.time_to_come_back(),
            ..Words::new(Code::RESTART, 0).behind_packets()
        };
        let mut from = 0;
        while let Some(index) = self.conns.next_from(from) {
            let conn = self.conns.live_mut(index);
            if conn.is_established() && conn.channel().numbered().is_some() {
                self.part(now, index, Code::GOODBYE, &words, CloseReason::Shutdown);
            }
            from = index + 1;
        }
    }
}

/// Returns a GOAWAY of the backend as its client gets it.
fn handed_on(go_away: link::GoAway) -> GoAway {
    GoAway {
        code: go_away.code,
        earliest_ms: go_away.earliest_ms,
        latest_ms: go_away.latest_ms,
        drain_ms: go_away.drain_ms,
    }
}
