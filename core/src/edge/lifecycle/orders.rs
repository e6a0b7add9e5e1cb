//! What a backend of version 3 sends (SPEC 36).

use crate::id::ClientId;
use crate::link::v3::{
    Delivery, Feature, Kick, Overflow, Policy, Refusal, ToEdge, flag, is_counted,
};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::conns::wait::{Slot, Wait};
use crate::edge::counters::EndReason;
use crate::edge::lifecycle::deliver::Outcome;
use crate::edge::sessions::Place;
use crate::edge::uplink::link::proof::Heard;

impl Edge {
    /// Handles a frame of a link that has not version 2, or may not have it. Returns `None` if it is one of version 2.
    #[cold]
    #[inline(never)]
    pub(crate) fn handle_frame(&mut self, now: Time, body: &[u8], calm: bool) -> Option<Outcome> {
        if self.uplink.wants_close() {
            return Some(Outcome::Other);
        }
        if !self.link_queue.version.is_granted() {
            return match self.uplink.hear_ask(body, &mut self.rng) {
                Heard::Ask(ask) => {
                    self.handle_ask(now, ask);
                    Some(Outcome::Other)
                }
                Heard::Other => {
                    self.handle_not_asked();
                    self.uplink.wants_close().then_some(Outcome::Other)
                }
                Heard::Waits => Some(Outcome::Other),
                Heard::Refused => {
                    let drops = self.link_queue.version.refuse(now);
                    self.uplink.link_mut().refuse_secret(drops);
                    Some(Outcome::Other)
                }
            };
        }
        let queue = &mut self.link_queue;
        queue.version.count(now, body, &queue.frames);
        let outcome = self.handle_order(now, body, calm);
        self.hear_asked(now);
        Some(outcome)
    }

    /// Handles a frame that the trunk of another process has counted, and that this shard's machine there did not have (SPEC 39.4(d)).
    pub(crate) fn take_late_order(&mut self, now: Time, body: &[u8]) {
        // What is acknowledged stands in the next ASK.
        if is_counted(body) {
            let queue = &mut self.link_queue;
            queue.version.count(now, body, &queue.frames);
            self.handle_order(now, body, false);
        }
    }

    fn handle_order(&mut self, now: Time, body: &[u8], calm: bool) -> Outcome {
        let mut features = self.link_queue.version.features().unwrap_or_default();
        if self.uplink.link().is_none() {
            // By it the trunk tells what the backend has taken, whatever the backend does.
            features = features.with(Feature::LinkAcks);
        }
        let order = match ToEdge::decode(body, features) {
            Ok(order) => order,
            Err(error) => {
                tracing::debug!(%error, "a frame of the backend is refused");
                self.tell_refused(now, error.id, error.flag, error.cause.refusal());
                return Outcome::Other;
            }
        };
        match order {
            ToEdge::Packet {
                id,
                delivery,
                packet,
            } => return self.deliver_as(now, id, delivery, packet, calm),
            ToEdge::LinkAck(ack) => self.hear_ack(now, ack),
            ToEdge::Kick { id, kick } => self.kick(now, id, &kick),
            ToEdge::Pause { id } => self.pause(id),
            ToEdge::GoOn { id } => self.go_on(now, id),
            ToEdge::Policy { id, policy } => {
                // Bounds of a session are for later (SPEC 33.1).
                let is_bound = policy.window_s != 0 || policy.ring_bytes != 0;
                match is_bound {
                    true => self.tell_refused(now, id.as_u64(), flag::POLICY, Refusal::Unknown),
                    false => self.set_policy(id, &policy),
                }
            }
            ToEdge::GroupAdd { group, ids } => {
                for id in ids.iter() {
                    if !self.add_to_group(now, group, id) {
                        self.tell_refused(now, group.0, flag::GROUP_ADD, Refusal::BeyondBound);
                        break;
                    }
                }
            }
            ToEdge::GroupRemove { group, ids } => {
                ids.iter().for_each(|id| self.remove_from_group(group, id));
            }
            ToEdge::GroupEnd { group } => self.end_group(group),
            ToEdge::GroupSend { group, send } => self.send_to_group(now, group, &send),
            #[cfg(feature = "cluster")]
            ToEdge::Adopted { id, adopted } => self.hear_adopted(now, id, &adopted),
            #[cfg(feature = "cluster")]
            ToEdge::Disowned { id, disowned } => self.hear_disowned(now, id, disowned),
            // They are not granted.
            #[cfg(not(feature = "cluster"))]
            ToEdge::Adopted { .. } | ToEdge::Disowned { .. } => {}
            ToEdge::GoAway { id: None, go_away } => self.ask_all_for_backend(now, go_away),
            ToEdge::GoAway {
                id: Some(id),
                go_away,
            } => self.ask_for_backend(now, id, go_away),
        }
        Outcome::Other
    }

    /// Returns the session of this id, if the backend can have taken what tells it of the session (SPEC 37.4(c)).
    #[inline]
    pub(crate) fn lookup_told(&self, id: ClientId) -> Option<u32> {
        let session = self.sessions.lookup(id)?;
        let told_at = self.sessions.live(session).told_at();
        self.link_queue
            .version
            .can_have_taken(told_at)
            .then_some(session)
    }

    /// Delivers a packet of any class. One for an id that has ended is dropped (SPEC 35.1(d)), and so is one for an id of which the backend
    /// was not told.
    fn deliver_as(
        &mut self,
        now: Time,
        id: ClientId,
        delivery: Delivery,
        packet: &[u8],
        calm: bool,
    ) -> Outcome {
        let Some(session) = self.lookup_told(id) else {
            self.counters.unknown_client += 1;
            return Outcome::Other;
        };
        match delivery {
            Delivery::Ordinary => return self.deliver_to(now, session, packet, calm),
            Delivery::Latest(key) => self.deliver_latest(now, session, key, packet),
            Delivery::Volatile => self.deliver_volatile(now, session, packet),
        }
        Outcome::Other
    }

    fn kick(&mut self, now: Time, id: ClientId, kick: &Kick<'_>) {
        if let Some(session) = self.lookup_told(id) {
            self.end_session_by(now, session, EndReason::Kicked, Some(kick));
        }
    }

    /// Reads no more of this client (SPEC 36.4).
    fn pause(&mut self, id: ClientId) {
        let Some(session) = self.lookup_told(id) else {
            return;
        };
        let entry = self.sessions.live_mut(session);
        entry.linked().paused = true;
        if let Place::Attached(index) = entry.place
            && self.conns.live(index).is_established()
        {
            self.conns.disarm(Slot::Read, index);
        }
    }

    fn go_on(&mut self, now: Time, id: ClientId) {
        if let Some(session) = self.lookup_told(id)
            && self.sessions.live(session).is_paused()
        {
            self.unpause(now, session);
        }
    }

    fn unpause(&mut self, now: Time, session: u32) {
        let entry = self.sessions.live_mut(session);
        entry.linked().paused = false;
        let is_waiting = entry.waiting;
        if let Place::Attached(index) = entry.place
            && self.conns.live(index).is_established()
        {
            if !is_waiting && !self.conns.live(index).waits_for(Wait::Pace) {
                self.watch_reads(now, index, true);
            }
            self.conns.mark_ready(index);
        }
    }

    /// Ends all pauses: they were of another boot.
    pub(crate) fn end_pauses(&mut self) {
        let paused = self.sessions.iter().filter(|(_, entry)| entry.is_paused());
        let paused: Vec<u32> = paused.map(|(session, _)| session).collect();
        for session in paused {
            self.unpause(self.now, session);
        }
    }

    /// Forgets the keys of LATEST packets: they were of another boot (SPEC 36.1).
    pub(crate) fn forget_keys(&mut self) {
        let numbered = self.sessions.iter();
        let numbered = numbered.filter(|(_, entry)| entry.numbered().is_some());
        let numbered: Vec<u32> = numbered.map(|(session, _)| session).collect();
        for session in numbered {
            if let Some(numbered) = self.sessions.live_mut(session).numbered_mut() {
                numbered.progress.forget_keys();
            }
        }
    }

    /// Keeps the note of a session, for the next boot, and what becomes of it when there is no room. A session of version 2 ends then in any
    /// case, since its client cannot be told of a gap (SPEC 36.6(b)).
    fn set_policy(&mut self, id: ClientId, policy: &Policy<'_>) {
        if let Some(session) = self.lookup_told(id) {
            let entry = self.sessions.live_mut(session);
            entry.linked().note = policy.note.into();
            if let Some(numbered) = entry.numbered_mut() {
                numbered.gives_up = policy.overflow == Overflow::Gap;
            }
        }
    }
}
