//! A client comes back with a ticket to an edge that does not have its session, or has an old copy of it (SPEC 44).
//!
//! The backend decides. An edge takes a session up when ADOPTED has come, and has it no longer when DISOWNED has.

use core::mem;
use std::collections::BTreeMap;

use crate::code::Code;
use crate::edge::Edge;
use crate::edge::conns::conn::ConnKey;
use crate::edge::conns::state::{Phase, State};
use crate::edge::contract::CloseKind;
use crate::edge::counters::CloseReason;
use crate::edge::door::sources::{Admission, Nesting};
use crate::edge::lifecycle::last_words::Words;
use crate::edge::lifecycle::notices::encoded;
use crate::edge::lifecycle::welcome::{BUSY_WAIT, millis};
use crate::edge::memory::account::Pressure;
use crate::edge::sessions::saved::SavedSession;
use crate::edge::sessions::{Linked, Numbered, Place};
use crate::edge::shares::Bound;
use crate::edge::uplink::rewrite::{head_of, rewrite};
use crate::id::ClientId;
use crate::link::v3::{Adopt, Adopted, Disowned, Feature, Peer, ToBackend, flag};
use crate::protocol::{
    FEATURE_TICKETS, Position, Progress, ResumeSecret, Resumed, Ticket, Verdict, verdict,
};
use crate::queue::FrameQueue;
use crate::time::Time;

/// What an edge has of sessions that move.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moves {
    /// The attempts of which the backend was asked: with the sessions, as many as there may be sessions.
    adopting: BTreeMap<ClientId, Adopting>,
    /// The packets in the link's queue that are of a copy which is no longer here. No copy may count them as its own (SPEC 44.6(d)). Each
    /// entry has a frame in the queue.
    old: BTreeMap<ClientId, u64>,
}

image!(Moves { adopting, old });

/// An attempt of which the backend was asked.
#[derive(Clone, Debug)]
struct Adopting {
    /// Its connection, which may be gone.
    conn: ConnKey,
    position: Position,
    /// What the ticket says, with the attempt accepted.
    ticket: Ticket,
    peer: Peer,
}

image!(Adopting {
    conn,
    position,
    ticket,
    peer
});

impl Moves {
    /// Returns the number of attempts of which the backend was asked.
    pub(crate) fn adopting(&self) -> usize {
        self.adopting.len()
    }

    /// Returns how many of the packets that the backend has acknowledged are of the present copy. Those of old copies went before.
    pub(crate) fn of_present_copy(&mut self, id: ClientId, packets: u64) -> u64 {
        let Some(old) = self.old.get_mut(&id) else {
            return packets;
        };
        let of_old = packets.min(*old);
        *old -= of_old;
        if *old == 0 {
            self.old.remove(&id);
        }
        packets - of_old
    }
}

/// An attempt that may go on: where the client is, the secret of the attempt, and the longest packet up.
pub(crate) type GoesOnCold = (Position, ResumeSecret, u32);

impl Edge {
    // ---- tickets

    /// Handles that the backend has the JOINED of a session: its client may have a ticket (SPEC 44.3(b)).
    pub(crate) fn hear_taken(&mut self, now: Time, id: ClientId) {
        let Some(session) = self.sessions.lookup(id) else {
            return;
        };
        self.sessions.live_mut(session).linked().is_taken = true;
        self.give_ticket(session);
        if let Place::Attached(index) = self.sessions.live(session).place {
            self.watch_writes(now, index);
        }
    }

    /// Gives the client of a session a ticket, if it takes one and the backend knows the session.
    pub(crate) fn give_ticket(&mut self, session: u32) {
        let entry = self.sessions.live(session);
        let is_taken = entry.known().is_some_and(|linked| linked.is_taken);
        let numbered = entry.numbered();
        let numbered = numbered.filter(|numbered| numbered.features & FEATURE_TICKETS != 0);
        let (Some(numbered), Place::Attached(index), true) = (numbered, entry.place, is_taken)
        else {
            return;
        };
        let sealed = self.offer.seal_ticket(&Ticket {
            id: entry.id,
            standing: numbered.standing.clone(),
            longest_up: numbered.longest_up,
            longest_down: numbered.longest_down,
            ring: numbered.progress.ring(),
        });
        let channel = self.conns.live_mut(index).channel().numbered_mut();
        if let Some(channel) = channel {
            channel.outbound().give_ticket(&sealed);
        }
    }

    // ---- an attempt with a ticket

    /// Judges a Claim by its ticket, if it has one and the session is not here (SPEC 44.4(a)). `None`: it is judged by the session.
    pub(crate) fn judge_cold(
        &mut self,
        now: Time,
        index: u32,
        id: ClientId,
    ) -> Option<Result<GoesOnCold, Verdict>> {
        if self.config.home == 0 {
            return None;
        }
        let (opening, _) = self.conns.live_mut(index).opening();
        let (ticket, position) = opening.numbered().with_ticket()?;
        let ticket = ticket.clone();
        #[cfg(feature = "backends")]
        if self.is_on_its_way(id) {
            return Some(Err(self.in_a_moment()));
        }
        if self.has_newest(now, id, &position) {
            return None;
        }
        Some(self.judge_by_ticket(id, &ticket, position))
    }

    fn judge_by_ticket(
        &self,
        id: ClientId,
        ticket: &Ticket,
        position: Position,
    ) -> Result<GoesOnCold, Verdict> {
        if !self.may_ask() {
            return Err(self.later(Code::BACKEND_DOWN));
        }
        // One that was asked of is not overtaken by an older one.
        let asked = self.moves.adopting.get(&id);
        let highest = asked.map_or(0, |asked| asked.position.counter);
        let highest = highest.max(ticket.standing.highest());
        let refused = |code| Verdict {
            highest,
            ..verdict(code, self.run)
        };
        if position.counter <= highest {
            return Err(refused(Code::STALE));
        }
        let link = ticket.standing.judge(position.counter).map_err(refused)?;
        Ok((position, link, ticket.longest_up))
    }

    /// Returns whether the backend can be asked now.
    fn may_ask(&self) -> bool {
        let version = &self.link_queue.version;
        let features = version.features();
        version.is_granted() && features.is_some_and(|features| features.has(Feature::Adopt))
    }

    /// Returns an Answer that asks the client to come back later.
    fn later(&self, code: Code) -> Verdict {
        Verdict {
            wait_ms: millis(BUSY_WAIT),
            jitter_ms: millis(BUSY_WAIT),
            ..verdict(code, self.run)
        }
    }

    /// Returns whether this edge has the session, and nothing that the client claims is newer (SPEC 44.6(a)).
    fn has_newest(&self, now: Time, id: ClientId, position: &Position) -> bool {
        let Some(session) = self.sessions.lookup(id) else {
            return false;
        };
        let entry = self.sessions.live(session);
        let Some(numbers) = entry.numbers() else {
            return true;
        };
        let is_over = entry.place == Place::Away && self.expires_at(entry) <= now;
        let sent = numbers.sent().max(entry.outbox.acked());
        !is_over
            && position.run == self.run
            && position.received_down <= sent
            && position.first_up.saturating_sub(1) <= numbers.received()
    }

    /// Goes on to the first early record, or refuses.
    pub(crate) fn go_on_cold(
        &mut self,
        now: Time,
        index: u32,
        judged: Result<GoesOnCold, Verdict>,
    ) {
        let (opening, _) = self.conns.live_mut(index).opening();
        match judged {
            Ok((position, link, longest_up)) => {
                opening.numbered().expect_early(position, link, longest_up);
                opening.numbered().set_cold();
                self.conns.enter(index, State::Handshake(Phase::Early), now);
                self.conns.mark_ready(index);
            }
            Err(refusal) => {
                opening.numbered().refuse(refusal);
                self.want_entropy(now, index, true);
            }
        }
    }

    /// Answers an attempt whose first early record has opened: the client has to prove that it is there (SPEC 44.4(b)).
    pub(crate) fn begin_cold(&mut self, now: Time, index: u32, id: ClientId, random: [u8; 32]) {
        let (opening, _) = self.conns.live_mut(index).opening();
        let checked = opening.numbered().check_early();
        let checked = checked.map_err(|code| verdict(code, self.run));
        let judged = checked.and_then(|()| {
            let (opening, _) = self.conns.live_mut(index).opening();
            let known = opening.numbered().with_ticket();
            let (ticket, position) = known.expect("an attempt without a ticket is not cold");
            let ticket = ticket.clone();
            self.judge_by_ticket(id, &ticket, position)
        });
        let judged = judged.and_then(|judged| match self.has_room_for_adoption(id) {
            true => Ok(judged),
            false => Err(self.later(Code::BUSY)),
        });
        let position = match judged {
            Ok((position, ..)) => position,
            Err(refusal) => return self.refuse_proven(now, index, refusal, random),
        };
        let answer = Verdict {
            highest: position.counter,
            ..verdict(Code::COLD, self.run)
        };
        let pads = self.config.clients.padding;
        let (opening, control) = self.conns.live_mut(index).opening();
        opening.numbered().begin_cold(answer, random, pads, control);
        let cold = State::Handshake(Phase::Cold { asked: false });
        self.conns.enter(index, cold, now);
        self.conns.mark_ready(index);
        self.resume_reading(now, index);
    }

    /// Returns whether an attempt finds room that the backend is to be asked of. It takes the places of another attempt of that id, or of an
    /// old copy, if there is one.
    fn has_room_for_adoption(&self, id: ClientId) -> bool {
        let asked = self.moves.adopting.get(&id);
        let copy = self.sessions.lookup(id);
        let is_attached =
            copy.is_some_and(|copy| matches!(self.sessions.live(copy).place, Place::Attached(_)));
        let has_entry = asked.is_some() || copy.is_some();
        let has_place = is_attached || asked.is_some_and(|one| self.asking(one.conn).is_some());
        let has_room = || {
            self.session_places() < self.shares.most(Bound::Sessions)
                && self.pressure() < Pressure::Full
        };
        (has_entry || has_room()) && (has_place || self.has_place_for_return())
    }

    /// Reads what the client at `index` sends up to its proof, and asks the backend when that has come.
    pub(crate) fn read_cold(&mut self, now: Time, index: u32, mut input: &[u8]) {
        let conn = self.conns.live_mut(index);
        let mut reader = mem::take(&mut conn.reader);
        let (opening, _) = conn.opening();
        let proven = opening.numbered().read_cold(&mut reader, &mut input);
        conn.reader = reader;
        match proven {
            Ok(false) => {
                let conn = self.conns.live(index);
                let most = self.config.limits.handshake_max_bytes;
                if conn.taken_bytes() >= most.saturating_add(conn.further_bytes()) {
                    self.close_conn(now, index, CloseKind::Graceful, CloseReason::BadHandshake);
                }
            }
            Ok(true) => self.ask_backend(now, index),
            Err(_) => self.close_conn(now, index, CloseKind::Graceful, CloseReason::BadRecord),
        }
    }

    /// Asks the backend whether the session of the client at `index`, which has proven that it is there, goes on here (SPEC 44.5).
    pub(crate) fn ask_backend(&mut self, now: Time, index: u32) {
        let id = self.conns.live(index).claim().id;
        if !self.may_ask() {
            #[cfg(feature = "backends")]
            let word = self.search_on(now, index, id, Code::BACKEND_DOWN);
            #[cfg(not(feature = "backends"))]
            let word = Some(Code::BACKEND_DOWN);
            if let Some(word) = word {
                self.end_cold(now, index, word, 0);
            }
            return;
        }
        let peer = self.peer_of(index);
        let (opening, _) = self.conns.live_mut(index).opening();
        let cold = opening.numbered().cold().expect("it was read");
        let (position, ticket) = (cold.position, cold.ticket.clone());
        let before = self.moves.adopting.get(&id);
        let before = before.map(|before| (before.position.counter, before.conn));
        if before.is_some_and(|(counter, _)| counter >= position.counter) {
            return self.close_conn(now, index, CloseKind::Abort, CloseReason::Refused);
        }
        if !self.has_room_for_adoption(id) {
            return self.end_cold(now, index, Code::BUSY, 0);
        }
        if let Some((_, conn)) = before
            && let Some(old) = self.asking(conn)
        {
            self.close_conn(now, old, CloseKind::Abort, CloseReason::Replaced);
        }
        if let Some(session) = self.sessions.lookup(id) {
            let words = Words::new(Code::TAKEN_OVER, position.counter);
            self.drop_copy(now, session, &words);
        }
        let conn = self.conns.key(index);
        let adopting = Adopting {
            conn,
            position,
            ticket,
            peer,
        };
        self.push_adopt(id, &adopting);
        self.moves.adopting.insert(id, adopting);
        let asked = State::Handshake(Phase::Cold { asked: true });
        self.conns.enter(index, asked, now);
        self.conns.mark_ready(index);
    }

    /// Returns the index of a connection that awaits the backend's word, if it is still there.
    fn asking(&self, conn: ConnKey) -> Option<u32> {
        let found = self.conns.find(conn)?;
        let asks = matches!(found.state(), State::Handshake(Phase::Cold { asked: true }));
        asks.then_some(conn.0.index)
    }

    /// Queues ADOPT, behind all that this edge has for the backend of that session. It needs no room: there are no more than attempts.
    fn push_adopt(&mut self, id: ClientId, adopting: &Adopting) {
        let position = &adopting.position;
        let adopt = Adopt {
            counter: position.counter,
            received_down: position.received_down,
            acknowledged_up: position.first_up.saturating_sub(1),
            peer: adopting.peer,
        };
        let frame = encoded(&ToBackend::Adopt { id, adopt });
        self.link_queue.frames.push_frame(&frame, &[]);
        self.uplink.seal_full(&mut self.link_queue);
    }

    // ---- the backend's word

    /// Handles that a session goes on here (SPEC 44.5).
    pub(crate) fn hear_adopted(&mut self, now: Time, id: ClientId, adopted: &Adopted) {
        let asked = self.moves.adopting.get(&id);
        if asked.is_none_or(|asked| asked.position.counter != adopted.counter) {
            // It answers an older attempt (SPEC 44.6(b)).
            return;
        }
        let Some(adopting) = self.moves.adopting.remove(&id) else {
            return;
        };
        let up = adopted.next_up.saturating_sub(1);
        let Adopting { ticket, conn, .. } = adopting;
        let numbered = Numbered {
            standing: ticket.standing,
            progress: Progress::restored(
                ticket.ring,
                up,
                adopted.numbered_down,
                adopted.numbered_down,
            ),
            cause: Code::GOODBYE,
            longest_up: ticket.longest_up,
            longest_down: ticket.longest_down,
            gives_up: false,
            features: FEATURE_TICKETS,
        };
        let linked = Linked::of_adopted(adopted.counter, adopted.numbered_down);
        let saved = SavedSession::of_ticket(id, numbered, adopted.numbered_down, linked);
        let Some(session) = self.sessions.restore(now, saved) else {
            return;
        };
        self.sessions.begin_absence(session, now);
        // Where it comes from is known again once it has a connection.
        self.sessions
            .count_absence(session, Admission::EXEMPT, &Nesting::NONE);
        self.sessions.recount(session, &mut self.account);
        self.ends.forget(id);
        #[cfg(feature = "backends")]
        self.note_pin(id);
        match self.asking(conn) {
            Some(index) => self.resume_cold(now, index, session, adopted),
            None => self.tell_away(session),
        }
    }

    /// Attaches the client at `index` to the session that goes on here.
    fn resume_cold(&mut self, now: Time, index: u32, session: u32, adopted: &Adopted) {
        let (opening, _) = self.conns.live_mut(index).opening();
        let cold = opening.numbered().take_cold();
        let mut channel = cold.expect("it awaits the backend's word").channel;
        let up = adopted.next_up.saturating_sub(1);
        let resumed = Resumed {
            until: adopted.until,
            received_up: up,
            away_ms: 0,
            cause: Code::GOODBYE,
        };
        let numbered = self.sessions.live(session).numbered();
        let marks = numbered.map_or(&[][..], |numbered| numbered.standing.before());
        channel.resume_cold(resumed, marks, up);
        self.agree(now, session);
        self.attach_again(now, index, session);
        self.establish(now, index, session, channel.into());
        self.give_ticket(session);
        self.watch_writes(now, index);
        self.sessions.recount(session, &mut self.account);
        let id = self.sessions.live(session).id;
        tracing::debug!(conn = index, %id, "resumed with a ticket");
        self.resume_reading(now, index);
    }

    /// Handles that a session does not go on here, or no longer (SPEC 44.6).
    pub(crate) fn hear_disowned(&mut self, now: Time, id: ClientId, disowned: Disowned) {
        let Disowned { asked, known, code } = disowned;
        if let Some(adopting) = self.moves.adopting.get(&id) {
            let counter = adopting.position.counter;
            if asked == counter || known >= counter {
                let conn = adopting.conn;
                self.moves.adopting.remove(&id);
                self.refuse_cold(now, conn, id, known, code);
            }
            // It is no word of an older copy either: that was dropped before this attempt.
            return;
        }
        let words = words_of(code, known);
        match self.sessions.lookup(id) {
            Some(session) => {
                let linked = self.sessions.live(session).known();
                let came_by = linked.map_or(0, |linked| linked.came_by);
                if asked == 0 && (known > came_by || code == Code::NUMBERS) {
                    self.drop_copy(now, session, &words);
                }
            }
            None => {
                // A copy that has ended has nothing more to say (SPEC 44.6(c)).
                self.ends.forget(id);
                self.disown_frames(id);
            }
        }
    }

    /// Tells the client at `conn` that the backend refuses. Another backend may have its session.
    #[cfg_attr(not(feature = "backends"), expect(unused_variables))]
    fn refuse_cold(&mut self, now: Time, conn: ConnKey, id: ClientId, known: u64, code: Code) {
        let Some(index) = self.asking(conn) else {
            return;
        };
        #[cfg(feature = "backends")]
        let code = match code {
            Code::TAKEN_OVER => code,
            word => match self.search_on(now, index, id, word) {
                Some(word) => word,
                None => return,
            },
        };
        self.end_cold(now, index, code, known);
    }

    /// Tells the client at `index`, which was told COLD, why its session does not go on here now.
    fn end_cold(&mut self, now: Time, index: u32, code: Code, known: u64) {
        let words = words_of(code, known);
        let (opening, _) = self.conns.live_mut(index).opening();
        if let Some(mut cold) = opening.numbered().take_cold() {
            let said = cold.close(&words.close(""));
            self.conns.live_mut(index).say_in_opening(&said);
        }
        self.end_opening(now, index, CloseReason::Refused);
    }

    // ---- copies that are not the newest

    /// Drops this edge's copy of a session that lives elsewhere: the backend is told nothing, and its client this. What waits of it for the
    /// backend is not acknowledged to anybody any more.
    fn drop_copy(&mut self, now: Time, session: u32, words: &Words) {
        let entry = self.sessions.live_mut(session);
        let (id, place) = (entry.id, entry.place);
        let unacknowledged = entry.unacknowledged_up();
        let mut in_line = 0;
        if entry.waiting {
            let backlog = mem::take(&mut entry.line_entry().backlog);
            in_line = packets_of(&backlog, id);
        }
        let old = unacknowledged.saturating_sub(in_line);
        if old > 0 {
            *self.moves.old.entry(id).or_default() += old;
        }
        tracing::info!(%id, "another edge has this session");
        if let Place::Attached(index) = place {
            self.conns.live_mut(index).reader.clear();
            self.say(index, session, words);
        }
        self.sessions.retire(id);
        #[cfg(feature = "backends")]
        self.forget_departure(id);
        self.end_absence(now, session);
        self.forget_linked(session);
        self.clear_ended(session);
        if let Place::Attached(index) = place {
            match self.conns.live(index).is_established() {
                true => self.drain(now, index, CloseReason::Replaced, None),
                false => self.close_conn(now, index, CloseKind::Abort, CloseReason::Replaced),
            }
        }
    }

    /// Notes that the frames of this id that wait for the backend are of nobody who is here.
    fn disown_frames(&mut self, id: ClientId) {
        self.link_queue.unseal();
        let packets = packets_of(&self.link_queue.frames, id);
        if packets > 0 {
            self.moves.old.insert(id, packets);
        }
    }

    // ---- a new boot of the backend

    /// Drops the frames of old copies, since no OWN tells of them.
    pub(crate) fn drop_old_frames(&mut self) {
        let mut old = mem::take(&mut self.moves.old);
        if old.is_empty() {
            return;
        }
        rewrite(&mut self.link_queue.frames, |body, out| {
            let head = head_of(body);
            let left = head.and_then(|(id, _)| old.get_mut(&id));
            match left.filter(|left| **left > 0) {
                // What is before the last packet of an old copy is of that copy.
                Some(left) => *left -= u64::from(head.is_some_and(|(_, flag)| flag == flag::DATA)),
                None => out.push_body(body),
            }
        });
    }

    /// Asks a new boot of what the one before has not answered, behind all that it is told.
    pub(crate) fn adopt_again(&mut self) {
        let adopting = mem::take(&mut self.moves.adopting);
        for (id, adopting) in &adopting {
            self.push_adopt(*id, adopting);
        }
        self.moves.adopting = adopting;
    }
}

/// Returns what a client is told to whom the backend refuses its session.
fn words_of(code: Code, known: u64) -> Words {
    match code {
        Code::TAKEN_OVER => Words::new(code, known),
        Code::BUSY | Code::BACKEND_DOWN => Words::new(code, 0).in_a_while(BUSY_WAIT),
        _ => Words::new(code, 0),
    }
}

/// Returns the packets of a session that wait in a queue.
fn packets_of(frames: &FrameQueue, id: ClientId) -> u64 {
    let packets = frames.bodies().filter_map(head_of);
    packets
        .filter(|(of, flag)| *of == id && *flag == flag::DATA)
        .count() as u64
}
