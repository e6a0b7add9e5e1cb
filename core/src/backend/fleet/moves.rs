//! Sessions that move between edges: the order in which the backend takes frames decides who has one. (SPEC 44)

use core::time::Duration;
use std::collections::BTreeMap;

use crate::code::Code;
use crate::link::v3::Disowned;
use crate::{ClientId, Time};

use super::super::host::{Head, Host, Judged, Mark};
use super::{Fleet, Lane};

/// How long a session waits for an edge whose own one is gone for good. (SPEC 44.7)
pub const LEFT_BEHIND: Duration = Duration::from_secs(360);
/// How long after the first edge has come an unknown session may still be told of by another one.
pub const UNKNOWN_WITHIN: Duration = Duration::from_secs(10);

/// The place of the sessions whose edge is gone.
const ATTIC: usize = usize::MAX;
/// The sessions away from home above which those are looked for that have ended.
const SWEPT_ABOVE: usize = 1_024;

impl Fleet {
    /// Returns the host at a place.
    pub(super) fn host_in(&self, place: usize) -> Option<&Host> {
        match place {
            ATTIC => self.attic.as_deref(),
            place => self.lanes.get(place).map(|lane| &lane.host),
        }
    }

    /// Like [`host_in`](Self::host_in).
    pub(super) fn host_in_mut(&mut self, place: usize) -> Option<&mut Host> {
        match place {
            ATTIC => self.attic.as_deref_mut(),
            place => self.lanes.get_mut(place).map(|lane| &mut lane.host),
        }
    }

    /// Judges the next frame of the edge at `place`, if it is about who has a session, before that edge's host hears it.
    pub(super) fn arbitrate(&mut self, place: usize, now: Time, input: &[u8]) {
        let Some((id, head)) = self.host_in(place).and_then(|host| host.peek(input)) else {
            return;
        };
        match head {
            Head::Adopt { counter, .. } => self.judge_adopt(place, now, id, counter, head),
            Head::Own { counter } => self.judge_own(place, id, counter),
            Head::Joined => {
                // An id that lives under another run was drawn a second time (SPEC 44.6(e)).
                if let Some(known) = self.counter_elsewhere(place, id) {
                    self.refuse(place, id, 0, known, Code::NUMBERS);
                }
            }
        }
    }

    /// Returns the counter of a session that another edge has than the one at `place`.
    fn counter_elsewhere(&self, place: usize, id: ClientId) -> Option<u64> {
        let owner = self.place_for(id).filter(|owner| *owner != place)?;
        self.host_in(owner)?.counter_of(id)
    }

    /// Returns how a session has ended at another edge than the one at `place`, if it has.
    fn ended_elsewhere(&self, place: usize, id: ClientId) -> Option<Code> {
        let lanes = self.lanes.iter().enumerate();
        let others = lanes.filter(|(at, _)| *at != place);
        let others = others.map(|(_, lane)| &lane.host);
        let mut all = others.chain(self.attic.as_deref());
        // One that went to another backend may be back.
        all.find_map(|host| host.ended(id).filter(|code| *code != Code::ELSEWHERE))
    }

    fn judge_adopt(&mut self, place: usize, now: Time, id: ClientId, counter: u64, adopt: Head) {
        let owner = self.place_for(id);
        let judged = owner
            .and_then(|owner| self.host_in(owner))
            .map_or(Judged::Unknown, |host| {
                host.judge(id, adopt, owner == Some(place))
            });
        match judged {
            // Its edge acknowledges all that the application was given (SPEC 44.5(d)).
            Judged::GoesOn(given) if !self.came_back_from(given) => {
                self.refuse(place, id, counter, 0, Code::BUSY);
                if owner == Some(place) {
                    // It has dropped its copy (SPEC 44.6(a)).
                    self.orphan(now, place, id);
                }
            }
            Judged::GoesOn(_) => {
                let owner = owner.unwrap_or(place);
                let moved = self.host_in_mut(owner).and_then(|host| host.take_out(id));
                if owner != place {
                    self.disown(owner, id, counter);
                }
                if let (Some(moved), Some(host)) = (moved, self.host_in_mut(place)) {
                    host.adopt(id, moved, adopt);
                }
                self.set_owner(id, place);
            }
            Judged::Refused(known, code) => {
                self.refuse(place, id, counter, known, code);
                let is_final = matches!(code, Code::NUMBERS | Code::RING_FULL);
                if is_final
                    && owner == Some(place)
                    && let Some(host) = self.host_in_mut(place)
                {
                    // Its edge has dropped its copy, so nobody else can say so.
                    host.end_refused(id, code);
                }
            }
            Judged::Unknown => {
                let is_young = self.began.is_none_or(|began| now < began + UNKNOWN_WITHIN);
                let all_told = self.lanes.iter().all(|lane| lane.host.has_picture());
                let code = match is_young || !all_told {
                    // Its edge may not have told of it yet.
                    true => Code::BUSY,
                    false => Code::GONE,
                };
                self.refuse(place, id, counter, 0, code);
            }
        }
    }

    fn came_back_from(&self, mark: Mark) -> bool {
        let lane = self.lanes.get(usize::from(mark.lane));
        lane.is_none_or(|lane| lane.host.came_back_from(mark))
    }

    /// Judges an OWN: the greater counter wins (SPEC 44.6(f)).
    fn judge_own(&mut self, place: usize, id: ClientId, counter: u64) {
        let Some(known) = self.counter_elsewhere(place, id) else {
            return match self.ended_elsewhere(place, id) {
                Some(code) => self.refuse(place, id, 0, counter.saturating_add(1), code),
                None => self.set_owner(id, place),
            };
        };
        if counter <= known {
            return self.refuse(place, id, 0, known, Code::TAKEN_OVER);
        }
        let owner = self.place_for(id).unwrap_or(place);
        let moved = self.host_in_mut(owner).and_then(|host| host.take_out(id));
        self.disown(owner, id, counter);
        if let (Some(moved), Some(host)) = (moved, self.host_in_mut(place)) {
            host.take_moved(id, moved);
        }
        self.set_owner(id, place);
    }

    /// Tells the edge at `place` that another one has the session, at once: before anything else is sent to its copy.
    fn disown(&mut self, place: usize, id: ClientId, known: u64) {
        let disowned = Disowned {
            asked: 0,
            known,
            code: Code::TAKEN_OVER,
        };
        if let Some(host) = self.host_in_mut(place) {
            host.disown(id, disowned);
        }
    }

    /// Answers the next frame of the edge at `place` with DISOWNED, and drops it.
    fn refuse(&mut self, place: usize, id: ClientId, asked: u64, known: u64, code: Code) {
        if let Some(host) = self.host_in_mut(place) {
            host.disown(id, Disowned { asked, known, code });
            host.drop_next();
        }
    }

    fn set_owner(&mut self, id: ClientId, place: usize) {
        let is_home = self
            .lanes
            .get(place)
            .is_some_and(|lane| lane.home == id.home());
        if is_home {
            self.moved.remove(&id);
            return;
        }
        self.moved.insert(id, place);
        if self.moved.len() > self.swept_at.max(SWEPT_ABOVE) {
            let all: BTreeMap<ClientId, usize> = core::mem::take(&mut self.moved);
            let lives = |(id, place): &(ClientId, usize)| {
                let host = self.host_in(*place);
                host.is_some_and(|host| host.counter_of(*id).is_some())
            };
            self.moved = all.into_iter().filter(lives).collect();
            self.swept_at = self.moved.len().saturating_mul(2);
        }
    }

    /// Keeps the sessions of an edge that is gone for good, since they may come to another one: another process has its home.
    pub(super) fn leave_behind(&mut self, now: Time, place: usize) {
        let Some(host) = self.host_in(place).filter(|host| host.grants_moves()) else {
            return;
        };
        for id in host.told() {
            self.orphan(now, place, id);
        }
    }

    /// Keeps a session that the edge at `place` has no longer, since it may come to another one, or come back.
    fn orphan(&mut self, now: Time, place: usize, id: ClientId) {
        let moved = self.host_in_mut(place).and_then(|host| host.take_out(id));
        if let (Some(moved), Some(attic)) = (moved, self.attic.as_deref_mut()) {
            attic.take_orphan(id, moved);
            self.left.push_back((now + LEFT_BEHIND, id));
            self.moved.insert(id, ATTIC);
        }
    }

    /// Ends the sessions that have waited for an edge long enough.
    pub(super) fn end_left(&mut self, now: Time) {
        while let Some((_, id)) = self.left.pop_front_if(|(at, _)| *at <= now) {
            if self.moved.get(&id) == Some(&ATTIC)
                && let Some(attic) = self.attic.as_deref_mut()
            {
                attic.expire(id);
            }
        }
    }

    /// Returns the home of the edge that has a session. `None`: none has it.
    #[must_use]
    pub fn home_of(&self, id: ClientId) -> Option<u16> {
        let place = self.place_for(id)?;
        let has_it = self.host_in(place)?.counter_of(id).is_some();
        let lane = self.lanes.get(place).filter(|_| has_it);
        lane.and_then(Lane::edge).map(|edge| edge.home)
    }
}
