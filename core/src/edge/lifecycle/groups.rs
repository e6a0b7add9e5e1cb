//! Groups: who is a member of what, and what is sent to all members (SPEC 36.2).

use crate::id::ClientId;
use crate::link::v3::{Delivery, GROUPS_OF_A_SESSION, GroupId, GroupSend, MAX_GROUPS};
use crate::queue::{Outbox, SHARED_ENTRY_BYTES, SHORTEST_SHARED_BYTES, SharedPacket};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::counters::EndReason;
use crate::edge::lifecycle::deliver::Outcome;

impl Edge {
    /// Makes a session a member. One that would be in too many groups ends. Returns false if there are too many groups.
    pub(crate) fn add_to_group(&mut self, now: Time, group: GroupId, id: ClientId) -> bool {
        let Some(session) = self.lookup_told(id) else {
            return true;
        };
        if !self.groups.contains_key(&group) && self.groups.len() >= MAX_GROUPS {
            return false;
        }
        if !self.groups.entry(group).or_default().insert(session) {
            return true;
        }
        let of_session = &mut self.sessions.live_mut(session).linked().groups;
        of_session.push(group);
        if of_session.len() > usize::from(GROUPS_OF_A_SESSION) {
            self.end_session(now, session, EndReason::NumbersDoNotFit);
        }
        true
    }

    /// Makes a session a member no longer.
    pub(crate) fn remove_from_group(&mut self, group: GroupId, id: ClientId) {
        if let Some(session) = self.sessions.lookup(id) {
            self.remove_member(group, session);
            let entry = self.sessions.live_mut(session);
            entry.linked().groups.retain(|other| *other != group);
        }
    }

    fn remove_member(&mut self, group: GroupId, session: u32) {
        if let Some(members) = self.groups.get_mut(&group) {
            members.remove(&session);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    /// Ends a group.
    pub(crate) fn end_group(&mut self, group: GroupId) {
        for session in self.groups.remove(&group).unwrap_or_default() {
            let entry = self.sessions.live_mut(session);
            entry.linked().groups.retain(|other| *other != group);
        }
    }

    /// Ends all groups: they were of another boot.
    pub(crate) fn end_groups(&mut self) {
        while let Some(group) = self.groups.first_key_value().map(|(group, _)| *group) {
            self.end_group(group);
        }
    }

    /// Takes a session that ends out of its groups, so that its index means no other one there.
    pub(crate) fn leave_groups(&mut self, session: u32) {
        for group in self.sessions.live_mut(session).take_groups() {
            self.remove_member(group, session);
        }
    }

    /// Sends a packet to each member. They come in the order of the table, so that one lies behind the other in memory.
    pub(crate) fn send_to_group(&mut self, now: Time, group: GroupId, send: &GroupSend<'_>) {
        let members = self.groups.get(&group).into_iter().flatten();
        let members: Vec<u32> = members.copied().collect();
        // What a packet of another class costs is not known before.
        let is_ordinary = send.delivery == Delivery::Ordinary;
        let is_shared =
            cfg!(feature = "shared") && is_ordinary && send.packet.len() >= SHORTEST_SHARED_BYTES;
        let shared = is_shared.then(|| SharedPacket::new(send.packet, &self.counted_twice));
        let stored = Outbox::stored_bytes(send.packet.len());
        let of_many = |many: usize| match shared {
            Some(_) => stored.saturating_add(many.saturating_mul(SHARED_ENTRY_BYTES)),
            None => many.saturating_mul(stored),
        };
        let mut calm = is_ordinary && self.is_calm_for(of_many(members.len()));
        let mut left = members.len();
        for session in members {
            left -= 1;
            // While it is not calm, what one was sent may have ended others.
            if !calm && !self.is_member(group, session) {
                continue;
            }
            if !send.left_out.is_empty() {
                let id = self.sessions.live(session).id;
                if send.left_out.iter().any(|left_out| left_out == id) {
                    continue;
                }
            }
            match send.delivery {
                Delivery::Ordinary => {
                    let outcome = match &shared {
                        Some(packet) => self.deliver_to(now, session, packet, calm),
                        None => self.deliver_to(now, session, send.packet, calm),
                    };
                    if outcome == Outcome::Other {
                        calm = self.is_calm_for(of_many(left));
                    }
                }
                Delivery::Latest(key) => self.deliver_latest(now, session, key, send.packet),
                Delivery::Volatile => self.deliver_volatile(now, session, send.packet),
            }
        }
    }

    fn is_member(&self, group: GroupId, session: u32) -> bool {
        let members = self.groups.get(&group);
        members.is_some_and(|members| members.contains(&session))
    }
}
