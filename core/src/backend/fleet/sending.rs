//! What the application sends and asks: each call goes to the host of the edge that has the session, or to all.

use core::time::Duration;

use crate::ClientId;
use crate::backend::SendError;
use crate::backend::host::{GroupError, GroupId, Host, KickError};
use crate::code::Code;
use crate::end::Ledgers;

use super::Fleet;

impl Fleet {
    fn hosts(&self) -> impl Iterator<Item = &Host> {
        let lanes = self.lanes.iter().map(|lane| &lane.host);
        lanes.chain(self.attic.as_deref())
    }

    fn hosts_mut(&mut self) -> impl Iterator<Item = &mut Host> {
        let lanes = self.lanes.iter_mut().map(|lane| &mut lane.host);
        lanes.chain(self.attic.as_deref_mut())
    }

    /// Like [`Host::send`]. For an id of no edge nothing is queued, and the number is 0.
    ///
    /// # Errors
    /// [`SendError`]. Nothing is queued then.
    #[inline]
    pub fn send(&mut self, id: ClientId, data: &[u8]) -> Result<u64, SendError> {
        self.host_to(id).map_or(Ok(0), |host| host.send(id, data))
    }

    /// Like [`Host::send_latest`].
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn send_latest(&mut self, id: ClientId, key: u64, data: &[u8]) -> Result<u64, SendError> {
        let host = self.host_to(id);
        host.map_or(Ok(0), |host| host.send_latest(id, key, data))
    }

    /// Like [`Host::send_volatile`].
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn send_volatile(&mut self, id: ClientId, data: &[u8]) -> Result<(), SendError> {
        let host = self.host_to(id);
        host.map_or(Ok(()), |host| host.send_volatile(id, data))
    }

    /// Like [`Host::send_to_many`]: all of them get it, whatever their edges or, if there is no room at one, none.
    ///
    /// # Errors
    /// [`SendError`]. Nothing is queued then.
    pub fn send_to_many(
        &mut self,
        to: Option<GroupId>,
        without: &[ClientId],
        key: Option<u64>,
        data: &[u8],
    ) -> Result<(), SendError> {
        self.has_room_for_many(to, without, data)?;
        self.hosts_mut()
            .try_for_each(|host| host.send_to_many(to, without, key, data))
    }

    /// Like [`Host::send_volatile_to_many`]. Of several edges, one that has no room leaves it out.
    ///
    /// # Errors
    /// [`SendError`]. Nothing is queued then.
    pub fn send_volatile_to_many(
        &mut self,
        to: Option<GroupId>,
        without: &[ClientId],
        data: &[u8],
    ) -> Result<(), SendError> {
        if !self.is_of_several() {
            return self
                .hosts_mut()
                .try_for_each(|host| host.send_volatile_to_many(to, without, data));
        }
        for host in self.hosts_mut() {
            match host.send_volatile_to_many(to, without, data) {
                // An edge that takes nothing leaves the others as they are.
                Ok(()) | Err(SendError::QueueFull) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Checks that each of several edges has room.
    fn has_room_for_many(
        &self,
        to: Option<GroupId>,
        without: &[ClientId],
        data: &[u8],
    ) -> Result<(), SendError> {
        let has_room = |host: &Host| host.has_room_for_many(to, without.len(), data.len());
        match !self.is_of_several() || self.hosts().all(has_room) {
            true => Ok(()),
            false => Err(SendError::QueueFull),
        }
    }

    /// Like [`Host::receivers`].
    #[must_use]
    pub fn receivers(&self, to: Option<GroupId>) -> Vec<ClientId> {
        self.sorted(|host| host.receivers(to))
    }

    /// Like [`Host::sessions`].
    #[must_use]
    pub fn sessions(&self) -> Vec<ClientId> {
        self.sorted(Host::sessions)
    }

    fn sorted(&self, ids: impl Fn(&Host) -> Vec<ClientId>) -> Vec<ClientId> {
        let mut all: Vec<ClientId> = self.hosts().flat_map(ids).collect();
        if self.is_of_several() {
            all.sort_unstable();
        }
        all
    }

    /// Like [`Host::has_room_for`], for each edge.
    #[must_use]
    pub fn has_room_for(&self, packets: usize, length: usize) -> bool {
        self.hosts().all(|host| host.has_room_for(packets, length))
    }

    /// Returns whether a packet of this length to a client can be queued now.
    #[must_use]
    pub fn has_room_to(&self, id: ClientId, length: usize) -> bool {
        let host = self.host_of(id);
        host.is_none_or(|host| host.has_room_for(1, length))
    }

    /// Returns the bytes for which some edge has room that has taken something since the last call. 0: none has.
    pub fn take_freed(&mut self) -> usize {
        let touched = core::mem::take(&mut self.touched);
        let lanes = self.lanes.iter().enumerate();
        let is_touched = |place: usize| touched >> place & 1 == 1;
        let touched = lanes.filter(|(place, _)| is_touched(*place));
        touched.map(|(_, lane)| lane.host.room()).max().unwrap_or(0)
    }

    /// Like [`Host::has_room_of`].
    #[must_use]
    pub fn has_room_of(&self, id: ClientId) -> bool {
        self.host_of(id).is_none_or(|host| host.has_room_of(id))
    }

    /// Like [`Host::admit`].
    pub fn admit(&mut self, id: ClientId) {
        if let Some(host) = self.host_to(id) {
            host.admit(id);
        }
    }

    /// Like [`Host::add`]. The bound on groups holds for each edge.
    ///
    /// # Errors
    /// [`GroupError`]. Nothing happens then.
    pub fn add(&mut self, group: GroupId, id: ClientId) -> Result<(), GroupError> {
        self.host_to(id).map_or(Ok(()), |host| host.add(group, id))
    }

    /// Like [`Host::remove`].
    pub fn remove(&mut self, group: GroupId, id: ClientId) {
        if let Some(host) = self.host_to(id) {
            host.remove(group, id);
        }
    }

    /// Like [`Host::kick`].
    ///
    /// # Errors
    /// [`KickError`]. Nothing happens then.
    pub fn kick(&mut self, id: ClientId, code: u16, text: &str) -> Result<(), KickError> {
        let host = self.host_to(id);
        host.map_or(Ok(()), |host| host.kick(id, code, text))
    }

    /// Like [`Host::pause`].
    pub fn pause(&mut self, id: ClientId, pauses: bool) {
        if let Some(host) = self.host_to(id) {
            host.pause(id, pauses);
        }
    }

    /// Like [`Host::ask_to_leave`]. `None`: the clients of all edges.
    pub fn ask_to_leave(&mut self, id: Option<ClientId>, within: Duration) {
        match id {
            Some(of) => {
                if let Some(host) = self.host_to(of) {
                    host.ask_to_leave(id, within);
                }
            }
            None => self
                .hosts_mut()
                .for_each(|host| host.ask_to_leave(None, within)),
        }
    }

    /// Like [`Host::set_note`].
    pub fn set_note(&mut self, id: ClientId, note: &str) {
        if let Some(host) = self.host_to(id) {
            host.set_note(id, note);
        }
    }

    /// Like [`Host::queued`]. Of several edges, numbers count.
    #[must_use]
    pub fn queued(&self) -> Option<u64> {
        match self.is_of_several() {
            true => None,
            false => self.hosts().next().and_then(Host::queued),
        }
    }

    /// Like [`Host::taken`].
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.hosts().map(Host::taken).sum()
    }

    /// Like [`Host::settled`].
    #[must_use]
    pub fn settled(&self, id: ClientId) -> u64 {
        self.host_of(id).map_or(0, |host| host.settled(id))
    }

    /// Like [`Host::ended`].
    #[must_use]
    pub fn ended(&self, id: ClientId) -> Option<Code> {
        self.host_of(id).and_then(|host| host.ended(id))
    }

    /// Like [`Host::ledgers`].
    #[must_use]
    pub fn ledgers(&self, id: ClientId) -> Option<Ledgers> {
        self.host_of(id).and_then(|host| host.ledgers(id))
    }

    /// Like [`Host::note`].
    #[must_use]
    pub fn note(&self, id: ClientId) -> Option<(&str, bool)> {
        self.host_of(id).and_then(|host| host.note(id))
    }

    /// Like [`Host::max_packet_bytes`].
    #[must_use]
    pub fn max_packet_bytes(&self) -> usize {
        self.max_packet_bytes
    }

    /// Like [`Host::queued_packets`], for all edges together.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        self.hosts().map(Host::queued_packets).sum()
    }

    /// Like [`Host::queued_bytes`], for the edge that has a client.
    #[must_use]
    pub fn queued_bytes_to(&self, id: ClientId) -> usize {
        self.host_of(id).map_or(0, Host::queued_bytes)
    }

    /// Like [`Host::queued_bytes`], for the edge for which least waits.
    #[must_use]
    pub fn least_queued_bytes(&self) -> usize {
        let lanes = self.lanes.iter();
        lanes
            .map(|lane| lane.host.queued_bytes())
            .min()
            .unwrap_or(0)
    }

    /// Like [`Host::queued_bytes`], for all edges together.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.hosts().map(Host::queued_bytes).sum()
    }
}
