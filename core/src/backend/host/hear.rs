//! What comes of the frames of the edge.

use core::mem;
use core::time::Duration;

use crate::ClientId;
use crate::code::Code;
use crate::end::{End, Gap, Ledgers};
use crate::link::tagged::Tagged;
use crate::link::v3::{Feature, Known, OwnState, ToBackend, is_counted};
use crate::wire::frame::FrameTooLong;

use super::book::{Book, Entry};
use super::event::code_of;
use super::granted::{ASK_WITHIN, Answer, GRANT_WITHIN, GrantError, Granted, Opened};
use super::{
    Delivery, Desk, EVERYONE, Event, Grant, Joined, Mark, Mode, Overflow, Time, ToEdge, policy_of,
};
use crate::backend::{self as link, BackendError};

/// No packet has a greater number. An edge that counts beyond it is wrong.
pub(super) const MAX_NUMBER: u64 = i64::MAX as u64;

impl Desk {
    pub(super) fn connect(&mut self, now: Time) {
        self.wants_close = false;
        let Some(v3) = &mut self.v3 else {
            return self.fall_back();
        };
        v3.ask(None);
        let within = if v3.demands() {
            GRANT_WITHIN
        } else {
            ASK_WITHIN
        };
        self.mode = Mode::Asking {
            until: now + within,
        };
    }

    pub(super) fn close(&mut self) {
        if let Some(v3) = &mut self.v3 {
            v3.close();
        }
        self.link.handle_closed();
        self.mode = Mode::Down;
        self.wants_close = false;
    }

    /// The link has version 2.
    pub(super) fn fall_back(&mut self) {
        self.mode = Mode::V2;
        if let Some(v3) = &mut self.v3
            && v3.edge.is_some()
        {
            // An edge that has granted never falls back within its run, so this is another one.
            v3.forget();
            self.all_are_gone();
        }
        self.pending.push_back(Event::Connected {
            edge: None,
            sessions: None,
        });
    }

    fn all_are_gone(&mut self) {
        for id in self.book.missing_since(u64::MAX) {
            self.gone(id, "the edge began again");
        }
    }

    pub(super) fn hear<'a>(
        &mut self,
        now: Time,
        taken: &[u8],
        next: Result<Option<&'a [u8]>, FrameTooLong>,
    ) -> Result<Option<Event<'a>>, BackendError> {
        match (self.mode, next) {
            (Mode::V3, Ok(Some(body))) => return self.hear_granted(now, body).map(Some),
            (Mode::Asking { .. }, Ok(Some(body))) => {
                let answer = self.v3.as_mut().map(|v3| v3.hear_answer(body));
                match answer.transpose()?.unwrap_or(Answer::Other) {
                    Answer::Proves => return Ok(Some(Event::Link)),
                    Answer::Grants(grant) if self.is_opening => {
                        self.granted = Some(grant);
                        return Ok(Some(Event::Link));
                    }
                    Answer::Other if self.is_opening => {
                        return Err(BackendError::Refused(GrantError::NoHome));
                    }
                    Answer::Grants(grant) => {
                        self.link.trust();
                        self.open(&grant)?;
                        return Ok(Some(Event::Link));
                    }
                    Answer::Other => {
                        self.fall_back();
                        self.precedes = true;
                    }
                }
            }
            // It asked too early, or the edge answers too late: the edge counts what this end does not.
            (Mode::V2, Ok(Some(body))) if self.v3.is_some() && Grant::of(body).is_some() => {
                return Err(BackendError::LateGrant);
            }
            _ => {}
        }
        let event = self.link.handle_frame(taken, next)?;
        Ok(event.map(|event| hear_v2(&mut self.book, event)))
    }

    /// Asks an edge of which it is not known which one it is.
    pub(super) fn ask_one_of(&mut self, now: Time, known: &[Known], links: u64) {
        self.is_opening = true;
        // Only version 3 of the link tells which one it is.
        self.wants_close = self.v3.is_none();
        if let Some(v3) = &mut self.v3 {
            v3.set_of_several(links);
            v3.ask(Some(known));
        }
        self.mode = Mode::Asking {
            until: now + GRANT_WITHIN,
        };
    }

    /// Takes the link over on which this edge has granted, whose ASK said so much of it.
    pub(super) fn attach(
        &mut self,
        grant: &Grant,
        asked: Option<&Known>,
    ) -> Result<(), BackendError> {
        self.close();
        if let Some(v3) = &mut self.v3 {
            v3.set_of_several(0);
            v3.take_asked(asked);
        }
        self.open(grant)
    }

    /// Handles that the edge grants version 3.
    fn open(&mut self, grant: &Grant) -> Result<(), BackendError> {
        let Some(v3) = &mut self.v3 else {
            return Ok(());
        };
        let opened = v3.open(grant).map_err(BackendError::Refused)?;
        let edge = v3.edge;
        self.mode = Mode::V3;
        if let Opened::Afresh { continues } = opened {
            if !continues {
                self.all_are_gone();
            }
            self.book.set_waiting(self.link.receivers());
        }
        self.pending.push_back(Event::Connected {
            edge,
            sessions: Some(grant.sessions),
        });
        if self.v3.as_ref().is_some_and(|v3| v3.owns == Some(0)) {
            self.complete();
        }
        Ok(())
    }

    /// The picture is complete.
    pub(super) fn complete(&mut self) {
        let Some(v3) = &mut self.v3 else { return };
        v3.owns = None;
        let picture = v3.picture;
        let (waiting, most_ids) = (self.link.take_frames(), self.most_ids());
        let Some(v3) = &mut self.v3 else { return };
        // Groups end with the counts, and so do keys.
        let everyone = core::iter::once((EVERYONE, self.book.ids()));
        for (group, mut members) in self.book.groups().chain(everyone) {
            // Who is sent packets again becomes a member behind them.
            members.retain(|id| !self.book.get(*id).is_some_and(Entry::is_injecting));
            for ids in members.chunks(most_ids) {
                let ids = ids.into();
                v3.push(ToEdge::GroupAdd { group, ids });
            }
        }
        for id in self.book.missing_since(picture) {
            self.gone(id, "the edge has it no longer");
        }
        // So do pauses.
        for id in self.book.paused() {
            self.tell_pause(id);
        }
        for body in waiting {
            if let Ok(Tagged { id, flag, data }) = Tagged::decode(&body) {
                self.send_again(id, flag, data);
            }
        }
        // An edge that began to count again has dropped those that it had not read.
        for (id, code, text) in self.book.kicks() {
            self.push_kick(id, code, &text);
        }
        self.pending.push_back(Event::CaughtUp);
        self.inject();
    }

    /// Sends what waited for the picture, and has a number already.
    fn send_again(&mut self, id: ClientId, flag: crate::link::tagged::Flag, data: &[u8]) {
        let Some(entry) = self.book.get(id) else {
            return;
        };
        if entry.is_injecting() {
            // It is kept, and goes behind those before it. So does the order to end the session.
            return;
        }
        // Kicks follow.
        if let (crate::link::tagged::Flag::Data, Some(v3)) = (flag, &mut self.v3) {
            let delivery = Delivery::Ordinary;
            v3.push(ToEdge::Packet {
                id,
                delivery,
                packet: data,
            });
        }
    }

    /// Handles a frame of a link of version 3.
    fn hear_granted<'a>(&mut self, now: Time, body: &'a [u8]) -> Result<Event<'a>, BackendError> {
        let Some(v3) = &mut self.v3 else {
            return Ok(Event::Link);
        };
        let counts = is_counted(body);
        if counts && v3.skips() {
            return Ok(Event::Link);
        }
        let drops = counts && mem::take(&mut self.drops_next);
        if counts {
            v3.count(body.len());
        }
        let frame = match ToBackend::decode(body, v3.features()) {
            Ok(frame) => frame,
            Err(error) => {
                v3.note(now, false);
                return Ok(Event::Malformed(error));
            }
        };
        if let ToBackend::LinkAck(ack) = frame {
            v3.handle_ack(ack).map_err(BackendError::Counts)?;
            self.inject();
            return Ok(Event::Link);
        }
        if drops {
            v3.note(now, false);
            return Ok(self.drop_frame(&frame));
        }
        tell_policy(&self.book, v3, &frame, self.overflow);
        let owned = match &frame {
            ToBackend::Own { id, .. } => Some(*id),
            _ => None,
        };
        let left = match &frame {
            ToBackend::Ended { id, ended } if ended.code == Code::ELSEWHERE => {
                let entry = self.book.get(*id);
                entry.map(|entry| (*id, entry.groups.clone()))
            }
            _ => None,
        };
        let at = Mark {
            lane: self.lane,
            picture: v3.picture,
            count: v3.received(),
        };
        let event = hear_v3(&mut self.book, v3, at, frame);
        if let Some((id, groups)) = left.filter(|_| v3.features().has(Feature::Groups)) {
            // It is a member there until its end is acknowledged, and what is sent from now on is not for it (SPEC 45.6(b)).
            for group in groups.into_iter().chain([EVERYONE]) {
                v3.push(ToEdge::GroupRemove {
                    group,
                    ids: (&[id][..]).into(),
                });
            }
        }
        // An edge that lacks packets of a session is sent them again.
        self.injecting
            .extend(owned.filter(|id| self.book.get(*id).is_some_and(Entry::is_injecting)));
        let is_given = !matches!(
            event,
            Event::Settled(_) | Event::Refused { .. } | Event::Stale { .. } | Event::Link
        );
        v3.note(now, is_given);
        if let Event::Joined(joined) = &event
            && self.book.shown(joined.id).is_some()
        {
            let id = joined.id;
            // Cannot fail: the bounds of groups are those of the application's.
            v3.push(ToEdge::GroupAdd {
                group: EVERYONE,
                ids: (&[id][..]).into(),
            });
        }
        match (v3.owns, owned) {
            (Some(0), _) => self.complete(),
            // It came to its edge in the middle of a link, so there is no picture to wait for.
            (None, Some(id)) => {
                self.tell_pause(id);
                self.inject();
            }
            _ => {}
        }
        Ok(event)
    }
}

/// Returns what comes of a frame of version 2.
fn hear_v2<'a>(book: &mut Book, event: link::Event<'a>) -> Event<'a> {
    match event {
        link::Event::Packet { id, data } => match book.hear(id) {
            Some(entry) => {
                entry.up += 1;
                Event::Packet {
                    id,
                    data,
                    number: entry.up,
                    is_first: !mem::replace(&mut entry.is_told, true),
                }
            }
            None => Event::Stale { id },
        },
        link::Event::Resumed { id } => match book.hear(id) {
            Some(entry) if entry.is_told => Event::Resumed {
                id,
                away: Duration::ZERO,
                missed: 0,
                peer: None,
                edge: None,
            },
            Some(entry) => {
                entry.is_told = true;
                Event::Joined(Joined::bare(id, true))
            }
            None => Event::Stale { id },
        },
        link::Event::Failed { id, reason } => {
            let code = code_of(&reason);
            let Some(mut entry) = book.end(id, code) else {
                return Event::Stale { id };
            };
            let end = match entry.kick.take() {
                Some(kick) if code == Code::KICKED => End::new(kick.0, kick.1, entry.ledgers()),
                _ => End::new(code, reason, entry.ledgers()),
            };
            Event::Ended { id, end }
        }
        link::Event::Fault(fault) => Event::Fault(fault),
    }
}

/// Tells the edge the policy of the session which the frame begins, if it may have another one. That it goes on where there is no room is
/// told at its JOINED; a client of version 2 cannot be told of gaps. Behind OWN also a note that the edge does not have: an edge that begins
/// its counts again has dropped a POLICY that it had not read.
fn tell_policy(book: &Book, v3: &mut Granted, frame: &ToBackend<'_>, overflow: Overflow) {
    let gaps = overflow == Overflow::Gap;
    let (id, held) = match frame {
        ToBackend::Joined { id, joined } if gaps && joined.version > 2 => (*id, ""),
        ToBackend::Own { id, own } => (*id, own.note),
        _ => return,
    };
    if !v3.features().has(Feature::Notices) {
        return;
    }
    let noted = book.get(id).filter(|entry| entry.is_noted);
    let note = noted.map_or(held, |entry| entry.note.as_str());
    if gaps || note != held {
        v3.push(policy_of(id, overflow, note));
    }
}

/// Returns what comes of a frame of version 3, which came `at` this mark.
fn hear_v3<'a>(book: &mut Book, v3: &mut Granted, at: Mark, frame: ToBackend<'a>) -> Event<'a> {
    match frame {
        ToBackend::Data { id, packet } => {
            let Some(entry) = told(book, id) else {
                return Event::Stale { id };
            };
            let number = entry.next_up;
            entry.next_up += 1;
            if number <= entry.up {
                // It came before this picture.
                return Event::Stale { id };
            }
            (entry.up, entry.given) = (number, at);
            Event::Packet {
                id,
                data: packet,
                number,
                is_first: false,
            }
        }
        ToBackend::Joined { id, joined } => {
            let picture = v3.picture;
            let Some(entry) = book.hear(id) else {
                return Event::Stale { id };
            };
            entry.picture = picture;
            entry.comes_to(at.lane);
            if mem::replace(&mut entry.is_told, true) {
                return Event::Stale { id };
            }
            if entry.next_up == 0 {
                (entry.next_up, entry.down) = (1, 0);
            }
            let numbered_down = entry.down.saturating_sub(entry.waiting);
            Event::Joined(Joined {
                peer: Some(joined.peer),
                exporter: joined.exporter,
                token: joined.token,
                numbered_down,
                ..Joined::bare(id, false)
            })
        }
        ToBackend::Own { id, own } => {
            v3.owns = v3.owns.map(|left| left.saturating_sub(1));
            let picture = v3.picture;
            if own.state != OwnState::Ended {
                book.revive(id);
            }
            let Some(entry) = book.hear(id) else {
                return Event::Stale { id };
            };
            entry.picture = picture;
            // What this process numbered, and neither the edge has nor this end keeps, is lost: the edge's numbers count.
            entry.next_up = own.next_up.min(MAX_NUMBER);
            let numbered = own.numbered_down.min(MAX_NUMBER);
            entry.settled = own.settled_down.min(numbered);
            if mem::take(&mut entry.is_moved) {
                // What was sent at its other edge, which its application knows, gets the numbers behind.
                entry.waiting = entry.kept();
                entry.injected = Some(numbered);
            } else if entry.is_told && entry.lacks_kept(numbered) {
                // The edge began to count again, and what was on its way to it is kept.
                entry.waiting = entry.down - numbered;
                entry.injected = Some(numbered);
            }
            entry.counter = own.counter;
            entry.comes_to(at.lane);
            if entry.down != numbered + entry.waiting {
                // What waits gets the numbers behind, and what was kept before it has others now.
                entry.keep_last(entry.waiting);
                entry.down = numbered + entry.waiting;
            }
            entry.drop_settled();
            entry.is_away = own.state == OwnState::Away;
            if !entry.is_noted {
                own.note.clone_into(&mut entry.note);
            }
            if !entry.is_told {
                // What the application has saved comes again, and is not told again.
                entry.up = entry.up.max(own.next_up.saturating_sub(1));
            }
            if entry.is_told || own.joined_follows {
                return Event::Link;
            }
            entry.is_told = true;
            Event::Joined(Joined {
                note: own.note,
                numbered_down: numbered,
                ..Joined::bare(id, true)
            })
        }
        ToBackend::Away { id, cause, left_ms } => match told(book, id) {
            Some(entry) => {
                entry.is_away = true;
                Event::Away {
                    id,
                    cause: (cause.to_u16() != 0).then_some(cause),
                    expires_in: Duration::from_millis(left_ms.into()),
                }
            }
            None => Event::Stale { id },
        },
        ToBackend::Resumed { id, resumed } => match told(book, id) {
            Some(entry) => {
                entry.is_away = false;
                entry.counter = entry.counter.max(resumed.counter);
                Event::Resumed {
                    id,
                    away: Duration::from_millis(resumed.away_ms),
                    missed: resumed.replay,
                    peer: Some(resumed.peer),
                    edge: v3.edge,
                }
            }
            None => Event::Stale { id },
        },
        ToBackend::Ended { id, ended } => {
            // What was settled since the last SETTLED.
            if let Some(entry) = book.get_mut(id) {
                entry.settled = entry.settled.max(ended.down.settled().min(entry.down));
            }
            let Some(entry) = book.end(id, ended.code) else {
                return Event::Stale { id };
            };
            let (up, down) = (ended.up, ended.down);
            // The edge has no words of its own for a kick.
            let text = match (&entry.kick, ended.text) {
                (Some(kick), "") if kick.0 == ended.code => kick.1.clone(),
                (_, text) => text.to_owned(),
            };
            let end = End::new(ended.code, text, Ledgers { up, down });
            Event::Ended { id, end }
        }
        ToBackend::Gap {
            id,
            direction,
            first,
            count,
            bytes,
            reason,
        } => match told(book, id) {
            Some(entry) => {
                if direction == super::Direction::Up {
                    entry.next_up = entry.next_up.max(first.saturating_add(count));
                }
                Event::Gap {
                    id,
                    direction,
                    gap: Gap::new(first, count, bytes, reason),
                }
            }
            None => Event::Stale { id },
        },
        ToBackend::Settled(settled) => {
            for (id, number) in settled.iter() {
                if let Some(entry) = book.get_mut(id) {
                    entry.settled = entry.settled.max(number.min(entry.down));
                    entry.drop_settled();
                }
            }
            Event::Settled(settled)
        }
        ToBackend::Refused { id, flag, refusal } => Event::Refused { id, flag, refusal },
        ToBackend::Token { id, token } => match told(book, id) {
            Some(_) => Event::Token { id, token },
            None => Event::Stale { id },
        },
        ToBackend::LinkAck(_) => Event::Link,
        // It was judged before: the session is here now (SPEC 44.5).
        ToBackend::Adopt { id, adopt } => match told(book, id) {
            Some(entry) => Event::Resumed {
                id,
                away: Duration::ZERO,
                missed: entry.down.saturating_sub(adopt.received_down),
                peer: Some(adopt.peer),
                edge: v3.edge,
            },
            None => Event::Stale { id },
        },
    }
}

/// Returns a session of which the application was told.
fn told(book: &mut Book, id: ClientId) -> Option<&mut Entry> {
    book.get_mut(id).filter(|entry| entry.is_told)
}
