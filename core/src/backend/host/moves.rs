//! A session goes on at another edge: its entry moves to the host of that, and packets that the client lacks are sent again. (SPEC 44)

use crate::ClientId;
use crate::code::Code;
use crate::end::End;
use crate::link::tagged::{Flag, TAG_BYTES, Tagged};
use crate::link::v3::{Adopted, Disowned, Feature, ToBackend, ToEdge, flag};
use crate::wire::frame::LENGTH_BYTES;

use super::book::Entry;
use super::{Desk, EVERYONE, Event, Host, Mark, Mode, Overflow, policy_of};

/// The bytes in the queue for an edge up to which packets are sent again.
const INJECTS_BELOW: usize = 1 << 20;
/// The bytes of one session that are sent again in its turn.
const SLICE_BYTES: usize = 64 * 1024;

/// What a frame says that two hosts are concerned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend) enum Head {
    Joined,
    Own {
        counter: u64,
    },
    Adopt {
        counter: u64,
        received_down: u64,
        acknowledged_up: u64,
    },
}

/// What a host knows of a session that another edge wants to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend) enum Judged {
    /// It can go on, once the application came back from this frame.
    GoesOn(Mark),
    /// Refused, with this counter and code.
    Refused(u64, Code),
    /// Nothing is known of it.
    Unknown,
}

impl Host {
    /// Returns the id and the head of the next frame, if it is whole, and one of these.
    pub(in crate::backend) fn peek(&self, input: &[u8]) -> Option<(ClientId, Head)> {
        let v3 = self.desk.v3.as_deref()?;
        if self.desk.mode != Mode::V3 || v3.repeats() || !v3.features().has(Feature::Adopt) {
            return None;
        }
        let max = self.desk.max_receive_bytes;
        let mut tag = [0; TAG_BYTES];
        self.reader.peek_body(input, max, &mut tag);
        if !matches!(tag.last(), Some(&(flag::JOINED | flag::OWN | flag::ADOPT))) {
            return None;
        }
        let mut body = [0; TAG_BYTES + 24];
        let length = self.reader.peek_body(input, max, &mut body);
        let (id, rest) = body.get(..length)?.split_first_chunk()?;
        let (flag, fields) = rest.split_first()?;
        let field = |at: usize| {
            let bytes = fields.get(at.saturating_mul(8)..)?.first_chunk()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let head = match *flag {
            flag::JOINED => Head::Joined,
            flag::OWN => Head::Own { counter: field(0)? },
            flag::ADOPT => Head::Adopt {
                counter: field(0)?,
                received_down: field(1)?,
                acknowledged_up: field(2)?,
            },
            _ => return None,
        };
        Some((ClientId::from_u64(u64::from_le_bytes(*id)), head))
    }

    /// Returns whether its edge has granted moves.
    pub(in crate::backend) fn grants_moves(&self) -> bool {
        let v3 = self.desk.v3.as_deref();
        v3.is_some_and(|v3| v3.edge.is_some() && v3.features().has(Feature::Adopt))
    }

    /// Returns whether its picture is complete.
    pub(in crate::backend) fn has_picture(&self) -> bool {
        self.desk.v3.as_deref().is_some_and(|v3| v3.is_ready())
    }

    /// Makes it the host of sessions whose edge is gone.
    pub(in crate::backend) fn detach(&mut self) {
        self.desk.is_detached = true;
    }

    /// Returns the counter by which its edge has a session, if the application was told of it.
    pub(in crate::backend) fn counter_of(&self, id: ClientId) -> Option<u64> {
        let entry = self.desk.book.get(id).filter(|entry| entry.is_told);
        entry.map(|entry| entry.counter)
    }

    /// Judges whether a session goes on elsewhere (SPEC 44.5(b)). `is_same`: elsewhere is here.
    pub(in crate::backend) fn judge(&self, id: ClientId, adopt: Head, is_same: bool) -> Judged {
        let Head::Adopt {
            counter,
            received_down,
            acknowledged_up,
        } = adopt
        else {
            return Judged::Unknown;
        };
        let Some(entry) = self.desk.book.get(id).filter(|entry| entry.is_told) else {
            let ended = self.desk.book.ended(id);
            return ended.map_or(Judged::Unknown, |code| Judged::Refused(0, code));
        };
        let known = entry.counter;
        if counter < known || (counter == known && !is_same) {
            return Judged::Refused(known, Code::TAKEN_OVER);
        }
        if received_down > entry.down || acknowledged_up > entry.up {
            return Judged::Refused(known, Code::NUMBERS);
        }
        if received_down.saturating_add(1) < entry.first_kept() {
            return Judged::Refused(known, Code::RING_FULL);
        }
        Judged::GoesOn(entry.given)
    }

    /// Returns whether the application came back from a frame of this edge.
    pub(in crate::backend) fn came_back_from(&self, mark: Mark) -> bool {
        mark <= self.desk.came_back
    }

    /// Takes a session out.
    pub(in crate::backend) fn take_out(&mut self, id: ClientId) -> Option<Moved> {
        self.desk.book.take(id).map(Moved)
    }

    /// Takes a session in whose client wants to go on at this edge, answers, and begins to send again what the client lacks.
    pub(in crate::backend) fn adopt(&mut self, id: ClientId, moved: Moved, adopt: Head) {
        let Head::Adopt {
            counter,
            received_down,
            ..
        } = adopt
        else {
            return;
        };
        let mut entry = moved.0;
        entry.counter = counter;
        entry.next_up = entry.up.saturating_add(1);
        entry.waiting = 0;
        (entry.is_away, entry.is_moved) = (false, false);
        entry.comes_to(self.desk.lane);
        entry.injected = Some(received_down);
        let adopted = Adopted {
            counter,
            next_up: entry.next_up,
            numbered_down: received_down,
            until: entry.down,
        };
        let note = entry.note.clone();
        self.desk.take_in(id, entry);
        let overflow = self.desk.overflow;
        if let Some(v3) = &mut self.desk.v3 {
            v3.push(ToEdge::Adopted { id, adopted });
            if !note.is_empty() || overflow == Overflow::Gap {
                v3.push(policy_of(id, overflow, &note));
            }
        }
        self.desk.tell_pause(id);
        self.desk.injecting.push_back(id);
        self.desk.inject();
    }

    /// Takes a session in that its edge is about to tell of.
    pub(in crate::backend) fn take_moved(&mut self, id: ClientId, moved: Moved) {
        let mut entry = moved.0;
        (entry.is_moved, entry.injected) = (!entry.was_at(self.desk.lane), None);
        entry.waiting = 0;
        self.desk.take_in(id, entry);
    }

    /// Takes a session in whose edge is gone.
    pub(in crate::backend) fn take_orphan(&mut self, id: ClientId, moved: Moved) {
        let mut entry = moved.0;
        (entry.is_away, entry.injected) = (true, None);
        self.desk.take_in(id, entry);
    }

    /// Returns the sessions of which the application was told.
    pub(in crate::backend) fn told(&self) -> Vec<ClientId> {
        self.desk.book.told()
    }

    /// Tells its edge that it does not have a session, or no longer.
    pub(in crate::backend) fn disown(&mut self, id: ClientId, disowned: Disowned) {
        if self.grants_moves()
            && let Some(v3) = &mut self.desk.v3
        {
            v3.push(ToEdge::Disowned { id, disowned });
        }
    }

    /// Drops the next frame, which was judged and refused.
    pub(in crate::backend) fn drop_next(&mut self) {
        self.desk.drops_next = true;
    }

    /// Ends a session whose client was told that it cannot go on.
    pub(in crate::backend) fn end_refused(&mut self, id: ClientId, code: Code) {
        let why = "its client came back, and cannot go on";
        self.desk.end_here(id, code, why);
    }

    /// Ends a session that nobody can end any more.
    pub(in crate::backend) fn expire(&mut self, id: ClientId) {
        let why = "its edge is gone, and it came to no other";
        self.desk.end_here(id, Code::EXPIRED, why);
    }
}

/// A session in transit from one host to another.
#[derive(Debug)]
pub(in crate::backend) struct Moved(Entry);

impl Desk {
    /// Ends a session that has no edge.
    pub(super) fn end_here(&mut self, id: ClientId, code: Code, text: &str) {
        if let Some(entry) = self.book.end(id, code).filter(|entry| entry.is_told) {
            let end = End::new(code, text, entry.ledgers());
            self.pending.push_back(Event::Ended { id, end });
        }
    }

    fn take_in(&mut self, id: ClientId, mut entry: Entry) {
        // It is in the present picture.
        entry.picture = self.v3.as_deref().map_or(u64::MAX, |v3| v3.picture);
        // Its edge was told nothing: the pictures in which another one was are not of this host.
        entry.pause_told = None;
        self.book.put(id, entry);
    }

    /// Tells the edge not to read the client of a session, if it is paused and the edge was not told so in this picture.
    pub(super) fn tell_pause(&mut self, id: ClientId) {
        let Some(v3) = self.v3.as_deref() else { return };
        let picture = v3.picture;
        if self.granted(Feature::Settled).is_none() {
            return;
        }
        let entry = self.book.get_mut(id);
        let entry = entry.filter(|entry| entry.is_paused && entry.pause_told != Some(picture));
        if let Some(entry) = entry {
            entry.pause_told = Some(picture);
            if let Some(v3) = &mut self.v3 {
                v3.push(ToEdge::Pause { id });
            }
        }
    }

    /// Handles a frame that was refused.
    pub(super) fn drop_frame(&mut self, frame: &ToBackend<'_>) -> Event<'static> {
        let id = match *frame {
            ToBackend::Own { id, .. } => {
                if let Some(v3) = &mut self.v3 {
                    v3.owns = v3.owns.map(|left| left.saturating_sub(1));
                    if v3.owns == Some(0) {
                        self.complete();
                    }
                }
                id
            }
            ToBackend::Joined { id, .. } | ToBackend::Adopt { id, .. } => id,
            _ => return Event::Link,
        };
        Event::Stale { id }
    }

    pub(super) fn is_injecting(&self, id: ClientId) -> bool {
        let entry = self.book.get(id);
        self.is_detached || entry.is_some_and(Entry::is_injecting)
    }

    /// Sends again what sessions lack that go on at this edge, each a slice in its turn, and makes them members of their groups when they have
    /// all.
    pub(super) fn inject(&mut self) {
        while let Some(id) = self.injecting.front().copied() {
            let Some(v3) = self.v3.as_deref_mut() else {
                return;
            };
            if v3.held_bytes() >= INJECTS_BELOW || !v3.is_ready() {
                return;
            }
            self.injecting.pop_front();
            let Some(entry) = self.book.get_mut(id) else {
                continue;
            };
            let Some(mut number) = entry.injected else {
                continue;
            };
            let mut bytes = 0;
            while number < entry.down && bytes < SLICE_BYTES {
                // It is kept, since nothing is settled that was not sent, and nothing is given up meanwhile.
                let Some(packet) = entry.packet(number.saturating_add(1)) else {
                    number = entry.down;
                    break;
                };
                v3.push_parts(&Tagged::header_for(id, Flag::Data, packet.len()), packet);
                bytes = packet
                    .len()
                    .saturating_add(bytes)
                    .saturating_add(LENGTH_BYTES);
                number = number.saturating_add(1);
            }
            if number < entry.down {
                entry.injected = Some(number);
                self.injecting.push_back(id);
                continue;
            }
            entry.injected = None;
            let groups = entry.groups.clone();
            let is_shown = self.book.shown(id).is_some();
            for group in groups.into_iter().chain(is_shown.then_some(EVERYONE)) {
                self.push_group(ToEdge::GroupAdd {
                    group,
                    ids: (&[id][..]).into(),
                });
            }
            self.kick_again(id);
        }
    }

    /// Orders again that a session ends, behind all that it lacked: the edge that was told so first may be gone. (SPEC 44.5(d))
    fn kick_again(&mut self, id: ClientId) {
        let entry = self.book.get(id).filter(|entry| entry.is_told);
        let Some(kick) = entry.and_then(|entry| entry.kick.clone()) else {
            return;
        };
        self.push_kick(id, kick.0, &kick.1);
    }
}
