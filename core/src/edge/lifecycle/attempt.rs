//! Attempts to resume a session of version 3 (SPEC 23).
//!
//! Nothing of a session changes before the first early record has opened, so attempts are independent of each other.

use core::time::Duration;

use crate::id::ClientId;
use crate::protocol::{
    Code, GAP_CLAIMED_LESS, GAP_NO_ROOM, GivenUp, Numbers, Position, ResumeSecret, Resumed, Stop,
    Verdict, verdict,
};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::conns::state::{Phase, State};
use crate::edge::contract::CloseKind;
use crate::edge::counters::{CloseReason, EndReason};
use crate::edge::lifecycle::last_words::Words;
use crate::edge::lifecycle::resume::{TAKEOVER_BURST, TAKEOVER_INTERVAL};
use crate::edge::lifecycle::welcome::{BUSY_WAIT, millis};
use crate::edge::sessions::Place;

/// How long a claimant may take from its Claim to the end of its first early record.
pub const EARLY_TIMEOUT: Duration = Duration::from_secs(1);

impl Edge {
    /// Handles a Claim of `id` that opened (steps 3 to 8 of SPEC 23.2(a)).
    pub(crate) fn handle_attempt(&mut self, now: Time, index: u32, id: ClientId) {
        let source = self.limited_source(index);
        #[cfg(feature = "cluster")]
        if let Some(judged) = self.judge_cold(now, index, id) {
            #[cfg(feature = "backends")]
            if let Err(Verdict {
                code: word @ Code::BACKEND_DOWN,
                ..
            }) = judged
                && self.search_on(now, index, id, word).is_none()
            {
                return;
            }
            self.conns.claiming(index, id, source, judged.is_ok());
            return self.go_on_cold(now, index, judged);
        }
        let judged = self.judge_claim(now, index, id);
        self.conns.claiming(index, id, source, judged.is_ok());
        let (opening, _) = self.conns.live_mut(index).opening();
        match judged {
            Ok(goes_on) => {
                let GoesOn {
                    position,
                    link,
                    longest_up,
                    ..
                } = goes_on;
                opening.numbered().expect_early(position, link, longest_up);
                self.conns.enter(index, State::Handshake(Phase::Early), now);
                self.conns.mark_ready(index);
            }
            Err(refusal) => {
                opening.numbered().refuse(refusal);
                self.want_entropy(now, index, true);
            }
        }
    }

    /// Judges a Claim by what it says and by its session. Nothing changes.
    fn judge_claim(&mut self, now: Time, index: u32, id: ClientId) -> Result<GoesOn, Verdict> {
        let (opening, _) = self.conns.live_mut(index).opening();
        let earlier = &self.earlier_runs;
        let position = opening
            .numbered()
            .position(self.run, |run| earlier.contains(&run))
            .map_err(|code| verdict(code, self.run))?;
        let session = self.claimed_session(now, id)?;
        let entry = self.sessions.live(session);
        let numbered = entry.numbered().expect("its identity was looked at");
        let link = numbered
            .standing
            .judge(position.counter)
            .map_err(|code| self.verdict_on(session, code))?;
        Ok(GoesOn {
            session,
            position,
            link,
            longest_up: numbered.longest_up,
        })
    }

    /// Returns the session of an id that was claimed, or how it ended (step 5).
    fn claimed_session(&self, now: Time, id: ClientId) -> Result<u32, Verdict> {
        #[cfg(feature = "backends")]
        if self.has_left(id) {
            return Err(self.in_a_moment());
        }
        let found = self.sessions.lookup(id);
        let Some(session) = found.filter(|&found| self.sessions.live(found).numbered().is_some())
        else {
            let verdict = verdict(Code::GONE, self.run);
            return Err(match self.ends.find(id) {
                Some(end) => Verdict {
                    code: end.code,
                    highest: end.highest,
                    acknowledged_up: end.acknowledged_up,
                    acknowledged_down: end.acknowledged_down,
                    ..verdict
                },
                None => verdict,
            });
        };
        let entry = self.sessions.live(session);
        if entry.place == Place::Away && self.expires_at(entry) <= now {
            return Err(self.verdict_on(session, Code::EXPIRED));
        }
        Ok(session)
    }

    /// Returns an Answer with what the edge knows of the session.
    fn verdict_on(&self, session: u32, code: Code) -> Verdict {
        let entry = self.sessions.live(session);
        let numbered = entry
            .numbered()
            .expect("only a session with numbers is resumed by an Answer");
        let wait = match code {
            Code::BUSY => millis(BUSY_WAIT),
            _ => 0,
        };
        Verdict {
            highest: numbered.standing.highest(),
            wait_ms: wait,
            jitter_ms: wait,
            acknowledged_up: numbered.progress.taken(),
            acknowledged_down: entry.outbox.acked(),
            ..verdict(code, self.run)
        }
    }

    /// Answers an attempt that was refused.
    pub(crate) fn answer_refusal(&mut self, now: Time, index: u32, random: [u8; 32]) {
        let (opening, control) = self.conns.live_mut(index).opening();
        opening.numbered().answer_refusal(random, control);
        self.end_opening(now, index, CloseReason::Refused);
    }

    /// Judges the first early record of the attempt at `index`, and resumes the session if nothing is against it (steps 9 to 15).
    pub(crate) fn judge_early(&mut self, now: Time, index: u32, random: [u8; 32]) {
        let id = self.conns.live(index).claim().id;
        let (opening, _) = self.conns.live_mut(index).opening();
        if opening.numbered().open_early().is_err() {
            return self.close_conn(now, index, CloseKind::Graceful, CloseReason::BadRecord);
        }
        #[cfg(feature = "cluster")]
        let (opening, _) = self.conns.live_mut(index).opening();
        #[cfg(feature = "cluster")]
        if opening.numbered().is_cold() {
            return self.begin_cold(now, index, id, random);
        }
        match self.judge_proven(now, index, id) {
            Ok((session, position)) => self.resume_numbered(now, index, session, position, random),
            Err(refusal) => self.refuse_proven(now, index, refusal, random),
        }
    }

    /// Refuses an attempt whose first early record has opened.
    pub(crate) fn refuse_proven(
        &mut self,
        now: Time,
        index: u32,
        refusal: Verdict,
        random: [u8; 32],
    ) {
        let (opening, _) = self.conns.live_mut(index).opening();
        opening.numbered().refuse(refusal);
        self.answer_refusal(now, index, random);
    }

    /// Judges an attempt whose first early record has opened (steps 10 to 13). Of the session nothing changes but its budget of takeovers.
    fn judge_proven(
        &mut self,
        now: Time,
        index: u32,
        id: ClientId,
    ) -> Result<(u32, Position), Verdict> {
        let GoesOn {
            session, position, ..
        } = self.judge_claim(now, index, id)?;
        let (opening, _) = self.conns.live_mut(index).opening();
        if let Err(code) = opening.numbered().check_early() {
            return Err(self.verdict_on(session, code));
        }
        self.agree(now, session);
        let has_place = self.has_place_for_return();
        let entry = self.sessions.live_mut(session);
        let is_backlogged = entry.backlog_bytes() > self.config.clients.channel_bytes;
        let may_come = !is_backlogged
            && match entry.place {
                Place::Attached(_) => {
                    let takeovers = &mut entry.claimed().takeovers;
                    takeovers.take(now, TAKEOVER_BURST, TAKEOVER_INTERVAL)
                }
                Place::Away | Place::Ended => has_place,
            };
        if !may_come {
            return Err(self.verdict_on(session, Code::BUSY));
        }
        Ok((session, position))
    }

    /// Resumes the session for the client at `index`, which has proven itself (steps 14 and 15).
    fn resume_numbered(
        &mut self,
        now: Time,
        index: u32,
        session: u32,
        position: Position,
        random: [u8; 32],
    ) {
        let place = self.sessions.live(session).place;
        if let Place::Attached(old) = place
            && let Some(refusal) = self.take_held(now, old, session)
        {
            return self.refuse_proven(now, index, refusal, random);
        }
        let entry = self.sessions.live(session);
        let away = entry
            .away_since()
            .map_or(Duration::ZERO, |at| now.since(at));
        let (until, acked) = (entry.outbox.end(), entry.outbox.acked());
        let (taken_up, numbers) = self.take_up(index, session);
        let received_up = numbers.received_up;
        let Ok(gap) = numbers.fit(&position) else {
            return self.end_unfitting(now, index, session, taken_up, received_up, random);
        };
        if let Place::Attached(old) = place {
            self.end_replaced(now, old, session, taken_up.highest);
        }
        let (sent, from) = (numbers.sent_down, position.received_down.max(acked));
        let resumed = Resumed {
            until,
            received_up,
            away_ms: u64::try_from(away.as_millis()).unwrap_or(u64::MAX),
            cause: self.replay(session, from, sent),
        };
        self.attach_again(now, index, session);
        let missed = until.saturating_sub(position.received_down);
        self.tell_resumed(index, session, away, missed);
        self.tell_gaps_at_resume(session, position.received_down, gap);
        let pads = self.config.clients.padding;
        let (opening, control) = self.conns.live_mut(index).opening();
        let numbered = self.sessions.live(session).numbered();
        let marks = numbered.map_or(&[][..], |numbered| numbered.standing.before());
        let channel = opening.numbered().take_up(
            taken_up,
            random,
            |outbound| {
                let mut outbound = outbound.resume(resumed, marks, gap);
                outbound.pad_records(pads);
                outbound
            },
            received_up,
            control,
        );
        self.establish(now, index, session, channel.into());
        #[cfg(feature = "cluster")]
        self.give_ticket(session);
        self.watch_writes(now, index);
        self.sessions.recount(session, &mut self.account);
        let id = self.sessions.live(session).id;
        tracing::debug!(conn = index, %id, "resumed");
        self.resume_reading(now, index);
    }

    /// Tells the backend which packets the client will not get: those that it has acknowledged and claims not to have, and those that were
    /// given up while it was away, unless it turns out to have received them (SPEC 24.4(c)).
    fn tell_gaps_at_resume(&mut self, session: u32, received: u64, claimed_less: u64) {
        if claimed_less > 0 {
            let gap = GivenUp {
                first: received.saturating_add(1),
                count: claimed_less,
                bytes: 0,
            };
            self.tell_gaps(session, &[gap], GAP_CLAIMED_LESS);
        }
        let lent = self.sessions.live_mut(session).lend();
        if let Some(progress) = lent.numbers {
            let gaps = progress.take_untold_gaps(received);
            self.tell_gaps(session, &gaps, GAP_NO_ROOM);
        }
    }

    /// Passes on the packets of a session's last connection, `old`, that wait in line: they count as received, and so does a goodbye behind
    /// them. Returns the refusal of the attempt if there was one.
    fn take_held(&mut self, now: Time, old: u32, session: u32) -> Option<Verdict> {
        if self.keep_held_frames(old, session) != Some(Stop::Closed(Code::GOODBYE)) {
            return None;
        }
        let id = self.sessions.live(session).id;
        self.end_session(now, session, EndReason::Goodbye);
        let refusal = self.claimed_session(now, id).err();
        Some(refusal.unwrap_or_else(|| verdict(Code::GONE, self.run)))
    }

    /// Accepts the counter of the attempt at `index`. Returns the Answer to it, and the numbers of the session as they are.
    fn take_up(&mut self, index: u32, session: u32) -> (Verdict, Numbers) {
        let entry = self.sessions.live_mut(session);
        let acked = entry.outbox.acked();
        let numbered = entry
            .numbered_mut()
            .expect("only a session with numbers is resumed by an Answer");
        let numbers = Numbers {
            received_up: numbered.progress.received(),
            sent_down: numbered.progress.sent().max(acked),
            acknowledged_down: acked,
        };
        let (opening, _) = self.conns.live_mut(index).opening();
        let counter = opening.numbered().counter();
        opening
            .numbered()
            .accept(&mut numbered.standing)
            .expect("the counter was judged in this step");
        let taken_up = Verdict {
            highest: counter,
            acknowledged_up: numbered.progress.taken(),
            acknowledged_down: acked,
            ..verdict(Code::TAKEN_UP, self.run)
        };
        (taken_up, numbers)
    }

    /// Tells the connection `old` of a session that another one takes it over, and ends it.
    fn end_replaced(&mut self, now: Time, old: u32, session: u32, counter: u64) {
        // Its ACK counts from the last one of its own connection.
        self.counters.takeovers += 1;
        let words = Words::new(Code::TAKEN_OVER, counter);
        self.say(old, session, &words);
        self.drain(now, old, CloseReason::Replaced, None);
    }

    /// Goes back to the packet down after `from`, of those up to `sent`. Returns why the edge let go of the last connection.
    fn replay(&mut self, session: u32, from: u64, sent: u64) -> Code {
        let entry = self.sessions.live_mut(session);
        let numbered = entry
            .numbered_mut()
            .expect("only a session with numbers is resumed by an Answer");
        let cause = core::mem::replace(&mut numbered.cause, Code::GOODBYE);
        numbered.progress.reconnect();
        numbered.progress.resume_from(from);
        entry
            .outbox
            .resume_within(from, sent)
            .expect("it lies between what was acknowledged and what was sent");
        cause
    }

    /// Attaches a session to the connection `index`, and counts that.
    pub(crate) fn attach_again(&mut self, now: Time, index: u32, session: u32) {
        self.end_absence(now, session);
        self.sessions.live_mut(session).place = Place::Attached(index);
        self.count_resume(now, index, session);
    }

    /// Ends a session whose client and edge have numbered different packets (step 14).
    fn end_unfitting(
        &mut self,
        now: Time,
        index: u32,
        session: u32,
        taken_up: Verdict,
        received_up: u64,
        random: [u8; 32],
    ) {
        let conn = self.conns.live_mut(index);
        let (opening, control) = conn.opening();
        let mut channel =
            opening
                .numbered()
                .take_up(taken_up, random, |outbound| outbound, received_up, control);
        let close = Words::new(Code::NUMBERS, 0).close("");
        let lent = self.sessions.live_mut(session).lend();
        let numbers = lent
            .numbers
            .expect("only a session with numbers is resumed by an Answer");
        channel.close(&close, false, lent.outbox, numbers);
        conn.say_in_opening(channel.wire());
        self.end_session(now, session, EndReason::NumbersDoNotFit);
        self.end_opening(now, index, CloseReason::SessionEnded);
    }
}

/// What an attempt needs that may go on.
struct GoesOn {
    session: u32,
    position: Position,
    link: ResumeSecret,
    longest_up: u32,
}
