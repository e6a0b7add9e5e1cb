//! Early records, of a client (SPEC 21.2).

use super::*;

impl Outbound {
    /// Returns how many bytes of items the next early record has room for, if the next packet fits into them whole.
    pub(super) fn early_room(&self, bytes: u32, outbox: &Outbox) -> Option<usize> {
        let room = self.most_early(bytes);
        let packet = outbox.next_packet()?;
        let needed = packet.len().saturating_add(header_bytes(packet.len()));
        (needed <= room).then_some(room)
    }

    /// Returns the most bytes of items that the next early record may have.
    pub(super) fn most_early(&self, bytes: u32) -> usize {
        let most = if self.sealer.records() == 0 {
            FIRST_EARLY_BYTES + TAG_BYTES
        } else {
            let left = MAX_EARLY_BYTES.saturating_sub(bytes as usize);
            left.saturating_sub(EARLY_END_BYTES)
                .min(USUAL_ITEMS_BYTES.saturating_add(TAG_BYTES))
        };
        most.saturating_sub(TAG_BYTES)
    }

    pub(super) fn seal_early(&mut self, bytes: u32, outbox: &mut Outbox, progress: &mut Progress) {
        let number = self.next;
        let start = self.begin();
        let most = self.most_early(bytes);
        let mut room = self.early_room(bytes, outbox).unwrap_or_default();
        while self.may_send(outbox, progress)
            && let Some(packet) = outbox.next_packet()
            && let needed = packet.len().saturating_add(header_bytes(packet.len()))
            && needed <= room
        {
            let stored = Outbox::stored_bytes(packet.len());
            Item::Packet(packet).encode(&mut self.sending().wire);
            self.next = self.next.saturating_add(1);
            room = room.saturating_sub(needed);
            outbox.advance(stored);
            progress.count_sent(outbox);
        }
        self.seal_padded(number, start, most);
        let sending = self.sending();
        let body = u32::try_from(sending.wire.len().saturating_sub(start)).unwrap_or(u32::MAX);
        sending.early_bytes = Some(bytes.saturating_add(body));
    }

    /// Ends the early records, since RESUMED has opened: what follows goes under `up`. The edge has received all up to `received`
    /// (SPEC 21.2(d), 23.3(d)).
    ///
    /// # Errors
    /// [`NeverSent`]. The connection is over then.
    pub fn end_early(
        &mut self,
        up: &Secret,
        received: u64,
        outbox: &mut Outbox,
        progress: &Progress,
    ) -> Result<(), NeverSent> {
        let last = self.next.saturating_sub(1).max(received);
        let sent = progress.sent().max(outbox.acked());
        // What was acknowledged needs no packet.
        let from = last.max(outbox.acked());
        outbox
            .resume_within(from, sent)
            .map_err(|_| NeverSent { received, sent })?;
        self.put_early_end(up);
        self.next = last.saturating_add(1);
        Ok(())
    }

    /// Ends the early records. What follows goes under `up`.
    pub(super) fn put_early_end(&mut self, up: &Secret) {
        let number = self.next;
        let start = self.begin();
        self.put(&Item::EarlyEnd);
        self.seal(number, start);
        self.sending().early_bytes = None;
        self.sealer = Sealer::new(up);
    }

    /// Ends the early records, and adds a record under `up` without an item: the proof that the edge asks for before it takes the session up.
    /// (SPEC 44.4(c))
    #[cfg(feature = "tickets")]
    pub fn confirm(&mut self, up: &Secret) {
        self.put_early_end(up);
        self.make_empty();
    }

    /// Goes on behind what the edge has received, since RESUMED has opened after a [proof](Self::confirm).
    ///
    /// # Errors
    /// [`NeverSent`]. The connection is over then.
    #[cfg(feature = "tickets")]
    pub fn go_on(
        &mut self,
        received: u64,
        outbox: &mut Outbox,
        progress: &Progress,
    ) -> Result<(), NeverSent> {
        let sent = progress.sent().max(outbox.acked());
        // What was acknowledged needs no packet.
        let from = received.max(outbox.acked());
        outbox
            .resume_within(from, sent)
            .map_err(|_| NeverSent { received, sent })?;
        self.next = received.saturating_add(1);
        Ok(())
    }
}
