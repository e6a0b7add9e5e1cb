//! Groups: who is a member of what (SPEC 36.2).

use crate::id::ClientId;
use crate::link::v3::{GROUPS_OF_A_SESSION, GroupId, MAX_GROUPS};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::counters::EndReason;

impl Edge {
    /// Makes a session a member. One that would be in too many groups ends. Returns false if there are too many groups.
    pub(crate) fn add_to_group(&mut self, now: Time, group: GroupId, id: ClientId) -> bool {
        let Some(session) = self.sessions.lookup(id) else {
            return true;
        };
        if !self.groups.contains_key(&group) && self.groups.len() >= MAX_GROUPS {
            return false;
        }
        if !self.groups.entry(group).or_default().insert(id) {
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
        self.remove_member(group, id);
        if let Some(session) = self.sessions.lookup(id) {
            let entry = self.sessions.live_mut(session);
            entry.linked().groups.retain(|other| *other != group);
        }
    }

    fn remove_member(&mut self, group: GroupId, id: ClientId) {
        if let Some(members) = self.groups.get_mut(&group) {
            members.remove(&id);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    /// Ends a group.
    pub(crate) fn end_group(&mut self, group: GroupId) {
        for id in self.groups.remove(&group).unwrap_or_default() {
            if let Some(session) = self.sessions.lookup(id) {
                let entry = self.sessions.live_mut(session);
                entry.linked().groups.retain(|other| *other != group);
            }
        }
    }

    /// Ends all groups: they were of another boot.
    pub(crate) fn end_groups(&mut self) {
        while let Some(group) = self.groups.first_key_value().map(|(group, _)| *group) {
            self.end_group(group);
        }
    }

    /// Takes a session that ends out of its groups.
    pub(crate) fn leave_groups(&mut self, session: u32) {
        let entry = self.sessions.live_mut(session);
        let id = entry.id;
        for group in entry.take_groups() {
            self.remove_member(group, id);
        }
    }

    /// Returns the members of a group, in order.
    pub(crate) fn members_of(&self, group: GroupId) -> Vec<ClientId> {
        let members = self.groups.get(&group).into_iter().flatten();
        members.copied().collect()
    }
}
