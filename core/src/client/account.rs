//! What a client tells of itself.

use super::*;

impl Client {
    /// Returns how the session ended, once it has or was refused.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Returns the time that a PING took, if one was answered. An edge is asked when it was silent for a while. (Version 3)
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.session.rtt()
    }

    /// Returns what became of the session's packets so far, as far as this client knows.
    #[must_use]
    pub fn ledgers(&self) -> Ledgers {
        match &self.end {
            Some(end) => *end.ledgers,
            None => self.ledgers_now(),
        }
    }

    /// Returns the accounts with what a client holds until it is saved, which was never sent.
    pub(super) fn ledgers_now(&self) -> Ledgers {
        let mut ledgers = self.session.ledgers(&self.outbox);
        let held = self
            .keeper
            .as_ref()
            .map_or(0, |keeper| keeper.held().packets() as u64);
        ledgers.up.numbered = ledgers.up.numbered.saturating_add(held);
        ledgers.up.open_unsent = ledgers.up.open_unsent.saturating_add(held);
        ledgers
    }

    /// Returns the public key of the edge, once one has proven it. Whoever pins it is safe against other edges from then on. (Version 3)
    #[must_use]
    pub fn edge_key(&self) -> Option<&PublicKey> {
        self.trust.learned.as_ref()
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            packets: self.config.queue_packets,
            bytes: self.config.queue_bytes,
        }
    }

    /// Returns the maximum length of a packet in bytes: `max_send_bytes`, what the edge takes if it has said so, or the room in an empty
    /// queue.
    #[must_use]
    pub fn max_packet_bytes(&self) -> usize {
        let room = self
            .config
            .queue_bytes
            .saturating_sub(Outbox::stored_bytes(0));
        let max = self.config.max_send_bytes;
        let max = max.min(self.session.longest_packet_up().unwrap_or(max));
        usize::try_from(max).map_or(room, |max| max.min(room))
    }

    /// Returns whether the queue has room for a packet of `length` bytes now, and may ever have.
    #[must_use]
    pub fn has_room(&self, length: usize) -> bool {
        length <= self.max_packet_bytes() && self.takes(Outbox::stored_bytes(length), self.bounds())
    }

    /// Returns whether a packet waits that the transport has not taken.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        self.outbox.has_unsent()
    }

    /// Returns the version of the session, or the one that the next session is to have.
    #[must_use]
    pub fn version(&self) -> Version {
        self.session.version()
    }

    /// Returns the number of packets held: to be written, half-written, or not acknowledged.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        let held = self
            .keeper
            .as_ref()
            .map_or(0, |keeper| keeper.held().packets());
        self.outbox.packets().saturating_add(held)
    }

    /// Returns the number of bytes of these packets, including lengths.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        let held = self
            .keeper
            .as_ref()
            .map_or(0, |keeper| keeper.held().held_bytes());
        self.outbox.held_bytes().saturating_add(held)
    }

    /// Returns what [`restore`](Self::restore) needs, as long as there is a session of version 2 that may be resumed.
    #[must_use]
    pub fn saved_session(&self) -> Option<SavedSession> {
        let (id, keys, edge_key) = self.session.saved()?;
        Some(SavedSession::new(id, keys.clone(), *edge_key))
    }

    /// Returns the id of the session, connected or not. `None` before there is a session, and once the edge turned out not to know it.
    #[must_use]
    pub fn id(&self) -> Option<ClientId> {
        self.session.id()
    }

    /// Returns the state of the client.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }
}
