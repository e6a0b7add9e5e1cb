//! The comparison after an event: the edge must show what follows from it, and nothing else.

use super::admission::{LAPSED, MADE_ROOM};
use super::conn::{Conn, Manner, Piece, State};
use super::{Ended, Model};
use crate::codec::Hello;

/// What an edge shows of itself after an event.
pub trait View {
    /// Makes output for a connection, and returns the first bytes that wait for its transport.
    fn output(&mut self, conn: u32) -> [&[u8]; 2];
    /// Returns whether the edge wants a connection closed: `Some(true)` abruptly, `Some(false)` in order.
    fn close(&mut self, conn: u32) -> Option<bool>;
    /// Returns how many bytes of a connection the edge would take.
    fn budget(&self, conn: u32) -> usize;
    /// Returns the first bytes that wait for the link.
    fn link_output(&self) -> [&[u8]; 2];
    /// Returns whether the edge wants the link reset.
    fn link_wants_close(&self) -> bool;
    /// Returns the edge's deadline.
    fn deadline(&self) -> Option<u64>;
    /// Returns how many sessions have expired so far.
    fn expired(&self) -> u64;
    /// Returns how many sessions are away.
    fn away(&self) -> usize;
    /// Returns how many bytes of the backend the edge would take.
    fn link_budget(&self) -> usize;
    /// Returns the packets and bytes in the link queue.
    fn link_queued(&self) -> (usize, usize);
    /// Returns the bytes that wait anywhere.
    fn held_bytes(&self) -> usize;
    /// Returns the edge's counters: accepted connections, resumes, takeovers, and ended sessions by reason.
    fn counted(&self) -> Vec<(&'static str, u64)>;
}

/// The number of waiting bytes compared at each event. All bytes are compared when the transport takes them.
const PEEK_BYTES: usize = 160;

/// Returns whether the shown bytes, up to the limit, continue `pieces` after their first `skipped` bytes.
fn begins<'a>(
    shown: [&[u8]; 2],
    mut pieces: impl Iterator<Item = &'a [u8]>,
    mut skipped: usize,
) -> bool {
    let first = shown[0].len().min(PEEK_BYTES);
    let second = shown[1].len().min(PEEK_BYTES - first);
    let mut piece: &[u8] = &[];
    for mut part in [&shown[0][..first], &shown[1][..second]] {
        while !part.is_empty() {
            if piece.is_empty() {
                let Some(next) = pieces.next() else {
                    return false;
                };
                piece = &next[skipped.min(next.len())..];
                skipped -= next.len() - piece.len();
                continue;
            }
            let count = part.len().min(piece.len());
            if part[..count] != piece[..count] {
                return false;
            }
            (part, piece) = (&part[count..], &piece[count..]);
        }
    }
    true
}

impl Model {
    /// Compares the edge with the model. `touched` are the connections that the edge told the adapter to serve.
    pub fn check(&mut self, view: &mut dyn View, touched: &[u32]) {
        self.note_holders();
        if self.is_lost() {
            self.reach.lost = 1;
            return;
        }
        self.check_expiries(view);
        self.learn_waits(view);
        self.dirty.extend(touched);
        self.learn_joins(view);
        while let Some(conn) = self.dirty.pop_first() {
            if self.conns.contains_key(&conn) {
                self.check_conn(view, conn);
            }
        }
        if self.is_lost() {
            self.reach.lost = 1;
            return;
        }
        self.refused_now = false;
        if std::mem::take(&mut self.one_in_join_goes) > 0 {
            let text = "no connection in JOIN made room".to_string();
            self.fail("S16", "10.6(c)", text);
        }
        self.check_link(view);
        self.check_account(view);
        let (away, must) = (view.away(), self.session_counts().1);
        if away != must {
            self.fail(
                "S4",
                "8.3",
                format!("{away} sessions are away, {must} must be"),
            );
        }
    }

    /// Checks, before the adapter waits, that the edge's deadline is no later than the first thing due.
    pub fn check_deadline(&mut self, view: &dyn View) {
        if let Some(due) = self.next_due() {
            match view.deadline() {
                Some(at) if at <= due.at => {}
                other => self.fail(
                    "T3",
                    "11",
                    format!(
                        "{:?} is due at {}, the edge waits until {other:?}",
                        due.what, due.at
                    ),
                ),
            }
        }
    }

    /// Handles that the transport of `conn` took these bytes.
    pub fn client_written(&mut self, now: u64, conn: u32, bytes: &[u8]) {
        self.now = now;
        self.dirty.insert(conn);
        let since = self.wait();
        let Some(state) = self
            .conns
            .get_mut(&conn)
            .filter(|state| state.close.is_none())
        else {
            return;
        };
        let mut rest = bytes;
        while let Some(piece) = state.pieces.front().filter(|_| !rest.is_empty()) {
            let left = &piece.bytes()[state.offset..];
            let count = left.len().min(rest.len());
            if left[..count] != rest[..count] {
                let rule = match piece {
                    Piece::Data(_) => "S10",
                    _ => "S16",
                };
                let text = format!("conn {conn}: what is written is not what was shown or is next");
                return self.fail(rule, "1.4(b)", text);
            }
            rest = &rest[count..];
            state.offset += count;
            if count == left.len() {
                state.pop();
            }
        }
        if state.is_established() && !bytes.is_empty() {
            state.write_since = (state.queued_packets > 0).then_some(since);
        }
        if !rest.is_empty() {
            return self.fail(
                "S15",
                "8.1(a)",
                format!("conn {conn}: {} bytes more than there were", rest.len()),
            );
        }
        self.drained(conn);
    }

    /// Checks that nothing is left once everybody has gone and every deadline has passed.
    pub fn check_end(&mut self) {
        let (sessions, conns) = (self.sessions.len(), self.conns.len());
        if sessions + conns + self.out_packets > 0 {
            let packets = self.out_packets;
            let text = format!(
                "the world is empty, and {sessions} sessions, {conns} connections, {packets} packets are left"
            );
            self.fail("H2", "8.3(b)", text);
        }
    }

    /// Returns the number of sessions that there must be: (attached, away).
    #[must_use]
    pub fn session_counts(&self) -> (usize, usize) {
        let attached = self
            .sessions
            .values()
            .filter(|session| session.conn.is_some())
            .count();
        (attached, self.sessions.len() - attached)
    }

    /// Returns whether `conn` is the connection of a session.
    #[must_use]
    pub fn is_attached(&self, conn: u32) -> bool {
        self.conns
            .get(&conn)
            .is_some_and(|state| state.sid.is_some())
    }

    /// Returns whether `sid` is a session that could be resumed now.
    #[must_use]
    pub fn may_resume(&self, sid: u64) -> bool {
        self.sessions
            .get(&sid)
            .is_some_and(|session| session.conn.is_some() || self.now < session.deadline)
    }

    /// Checks that sessions expire when they must, and no others.
    fn check_expiries(&mut self, view: &dyn View) {
        let text =
            |what: &str| format!("a session {what}, as of its deadline and the reap interval");
        if view.expired() > self.expired {
            self.fail("T1", "9.6(c)", text("expired too early"));
        }
        if view.expired() < self.expired {
            self.fail("T2", "9.6(c)", text("is away for too long"));
        }
    }

    /// Learns whether the edge made a resume wait for the session's line (9.3(e)), which it may. It shows in the number of sessions away,
    /// and in whether the old connection is closed.
    fn learn_waits(&mut self, view: &mut dyn View) {
        // It is one choice, made in the step of the response or of the next attempt.
        let mut undecided = std::mem::take(&mut self.undecided);
        undecided.sort_unstable();
        for conn in undecided {
            if self
                .conns
                .get(&conn)
                .is_none_or(|state| state.state != State::Wait)
            {
                continue;
            }
            let Some(sid) = self.conns.get(&conn).and_then(|state| state.claim) else {
                continue;
            };
            let Some(session) = self.sessions.get(&sid) else {
                continue;
            };
            let resumed = match session.conn {
                // Otherwise, after an end for a frame above the limit, the session would be away.
                Some(old) => view.close(old).is_some() && view.away() == self.session_counts().1,
                None => view.away() < self.session_counts().1,
            };
            if resumed {
                self.resume(conn, sid);
                self.parse(conn);
            }
        }
    }

    /// Learns which waiting newcomers have a session now, before the others are judged: these may have come after them.
    fn learn_joins(&mut self, view: &mut dyn View) {
        let waits = |state: &Conn| state.state == State::Join && state.pieces.is_empty();
        let begins = |conn: &u32| {
            self.conns.get(conn).is_some_and(waits)
                && view.output(*conn).iter().any(|part| !part.is_empty())
        };
        let begun: Vec<_> = self.dirty.iter().copied().filter(begins).collect();
        for conn in begun {
            if self.sessions.len() >= self.limits.max_sessions {
                let text =
                    format!("conn {conn} begins a session, and all that there may be are there");
                self.fail("S15", "10.6(f)", text);
            }
            if !self.has_place(false) {
                let text = format!("conn {conn} begins a session in a full house");
                self.fail("S15", "10.6(j)", text);
            }
            self.begin_session(conn);
            self.parse(conn);
        }
    }

    fn check_conn(&mut self, view: &mut dyn View, conn: u32) {
        self.check_close(view, conn);
        let shown = view.output(conn);
        if self
            .conns
            .get(&conn)
            .is_none_or(|state| state.close.is_some())
        {
            return;
        }
        self.learn_pieces(conn, shown);
        self.check_output(conn, shown);
        self.check_budget(view, conn);
    }

    fn check_output(&mut self, conn: u32, shown: [&[u8]; 2]) {
        let Some(state) = self.conns.get(&conn) else {
            return;
        };
        let (pending, length) = (state.pending(), shown[0].len() + shown[1].len());
        let same = begins(shown, state.shown().map(Piece::bytes), state.offset);
        let (rule, seen) = match (state.state, length) {
            (_, 0) if pending > 0 => ("S16", "nothing waits"),
            (State::Established | State::Draining, _) if length > pending || !same => {
                ("S10", "other bytes wait")
            }
            _ if length > pending || !same => ("S15", "other bytes wait"),
            _ => return,
        };
        let next = state.shown().next().map(|piece| piece.bytes().len());
        let text = format!(
            "conn {conn} ({:?}): {seen} ({length}), {pending} must; the next piece has {next:?} bytes",
            state.state
        );
        self.fail(rule, "8.1(a)", text);
    }

    fn check_close(&mut self, view: &mut dyn View, conn: u32) {
        let Some(state) = self.conns.get(&conn) else {
            return;
        };
        match (state.close, view.close(conn)) {
            (None, None) => {}
            (Some(close), Some(abrupt)) => {
                let right = match close.manner {
                    Manner::Orderly => !abrupt,
                    Manner::Abrupt => abrupt,
                    Manner::Either => true,
                };
                if !right {
                    let text = format!(
                        "conn {conn} is closed in the wrong manner ({:?}): {}",
                        close.manner, close.why
                    );
                    self.fail("S16", "8.2", text);
                }
            }
            (Some(close), None) => {
                let rule = match close.why {
                    "a response that is not acceptable" | LAPSED => "S6",
                    why if why.ends_with("deadline") || why == "write timed out" => "T2",
                    _ => "S16",
                };
                self.fail(
                    rule,
                    "8.2",
                    format!("conn {conn} must be closed: {}", close.why),
                );
            }
            (None, Some(true)) if state.state == State::Join && self.one_in_join_goes > 0 => {
                self.one_in_join_goes -= 1;
                self.close(conn, MADE_ROOM, Manner::Abrupt);
            }
            (None, Some(_))
                if state.state == State::Join
                    && (self.has_memory_bound()
                        || self.sessions_may_be_full()
                        || !self.has_place(false)) =>
            {
                self.close(conn, "no session may begin", Manner::Orderly);
            }
            (None, Some(_)) if self.may_close(conn) => {
                self.close_and_detach(conn, "the edge came to it now")
            }
            (None, Some(_)) if self.may_end_for_pace(conn) => {
                self.close_and_detach(conn, "too fast or silent")
            }
            (None, Some(_)) => {
                let text = format!("conn {conn} ({:?}) is closed without a cause", state.state);
                // A takeover without a proof.
                let rule = if self.refused_now { "S6" } else { "S15" };
                self.fail(rule, "8.2", text);
            }
        }
    }

    /// Returns whether something that the model cannot see exactly would explain that the edge closes `conn` now.
    fn may_close(&self, conn: u32) -> bool {
        self.conns.get(&conn).is_some_and(|state| {
            let timeout = self.limits.frame_timeout;
            let frame = state
                .frame
                .filter(|begun| begun.earliest < begun.latest && timeout > 0);
            state.hidden_violation
                || frame.is_some_and(|begun| begun.earliest.saturating_add(timeout) <= self.now)
        })
    }

    /// Copies the bytes that the edge chose itself, and checks their form.
    fn learn_pieces(&mut self, conn: u32, shown: [&[u8]; 2]) {
        let Some(state) = self.conns.get(&conn) else {
            return;
        };
        let unknown = |piece: &Piece| matches!(piece, Piece::AnyId | Piece::AnyChallenge);
        let Some(place) = state.pieces.iter().position(unknown) else {
            return;
        };
        let before: usize = state
            .pieces
            .iter()
            .take(place)
            .map(|piece| piece.bytes().len())
            .sum();
        let rest: Vec<u8> = shown
            .concat()
            .split_off((before - state.offset).min(shown[0].len() + shown[1].len()));
        let body = rest
            .first_chunk()
            .map(|length| u32::from_le_bytes(*length) as usize);
        let frame = body.and_then(|body| rest.get(..4 + body));
        let hello = frame.and_then(|frame| Hello::read(&frame[4..]));
        let wanted_id = state.pieces.get(place) == Some(&Piece::AnyId);
        let sid = state.sid;
        match (wanted_id, hello) {
            (true, Some(Hello::Id(id))) => self.learn_id(sid.unwrap_or_default(), id),
            (false, Some(Hello::Challenge(sealed))) if sealed.len() == 72 => {}
            (_, other) => {
                let what = if wanted_id {
                    "a ClientId"
                } else {
                    "a Challenge of 72 bytes"
                };
                return self.fail(
                    "S16",
                    "8.2",
                    format!("conn {conn}: {what} must follow, not {other:?}"),
                );
            }
        }
        if let (Some(state), Some(frame)) = (self.conns.get_mut(&conn), frame) {
            state.piece_bytes += frame.len();
            state.pieces[place] = Piece::Hello(frame.to_vec());
        }
    }

    fn check_budget(&mut self, view: &dyn View, conn: u32) {
        let Some(state) = self.conns.get(&conn) else {
            return;
        };
        if self.shutdown_at.is_some() {
            if view.budget(conn) > 0 {
                let text = format!("conn {conn} is read, and the edge shuts down");
                self.fail("S15", "9.8(a)", text);
            }
            return;
        }
        if let Some(look) = state.pace.look_at
            && state.is_established()
            && view.budget(conn) > 0
        {
            let text = format!(
                "conn {conn} is read and beyond its pace, as of the look at {}",
                look.at
            );
            return self.fail("S15", "10.6(h)", text);
        }
        let reads = match state.state {
            State::Established if state.pace.stops_reading() => false,
            // If the link queue is full, an edge may read from no client.
            State::Established => {
                !self.is_uncertain(state.sid.unwrap_or_default()) && self.surely_fits(1)
            }
            State::Join | State::Delay | State::Wait | State::Draining => false,
            State::Proxy | State::Version | State::KeyOrId | State::Response | State::Ping => true,
        };
        if reads && view.budget(conn) == 0 {
            let text = format!(
                "conn {conn} ({:?}) is not read, and nothing of it waits; for the link {} packets of {} bytes wait",
                state.state, self.out_packets, self.out_bytes
            );
            self.fail("L5", "10.4(b)", text);
        }
    }

    fn check_link(&mut self, view: &dyn View) {
        let (packets, bytes) = view.link_queued();
        let limits = &self.limits;
        if packets > 1 && (packets > limits.link_packets || bytes > limits.link_bytes) {
            let text = format!("{packets} packets of {bytes} bytes are in the link queue");
            self.fail("B4", "10.4(a)", text);
        }
        if !self.link.up {
            return;
        }
        if view.link_wants_close() != self.link.must_close {
            let text = format!("the link must be reset: {}", self.link.must_close);
            return self.fail(
                if self.link.must_close { "S16" } else { "S15" },
                "7.5(c)",
                text,
            );
        }
        if self.link.must_close {
            return;
        }
        if view.link_budget() == 0 {
            self.fail("L5", "10.2(c)", "the backend is not read".to_string());
        }
        let waiting = view.link_output().iter().any(|part| !part.is_empty());
        if !waiting {
            self.check_announced();
            self.check_all_emitted();
        } else if self.out_packets == 0 && self.link.announcing.is_none() {
            self.fail(
                "S15",
                "8.1(a)",
                "bytes wait for the backend without a cause".to_string(),
            );
        }
    }

    /// Handles a connection that the adapter refused, or whose key the edge did not assign.
    pub fn not_accepted(&mut self, now: u64, conn: u32) {
        self.client_closed(now, conn, Ended::ByEdge);
    }
}
