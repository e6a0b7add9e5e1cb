//! What one session is asked, and how its size changes.

use super::*;

impl Session {
    /// Returns the key of its claims, if there was one.
    pub(crate) fn key(&self) -> Option<&SharedKey> {
        self.claimed.as_deref()?.key.as_ref()
    }

    /// Returns what it has because its packets are numbered, if they are.
    #[inline]
    pub(crate) fn numbered(&self) -> Option<&Numbered> {
        match &self.identity {
            Identity::Chain(numbered) => Some(numbered),
            Identity::Key(_) => None,
        }
    }

    /// Like [`numbered`](Self::numbered).
    #[inline]
    pub(crate) fn numbered_mut(&mut self) -> Option<&mut Numbered> {
        match &mut self.identity {
            Identity::Chain(numbered) => Some(numbered),
            Identity::Key(_) => None,
        }
    }

    /// Returns its numbers, if its packets are numbered.
    #[inline]
    pub(crate) fn numbers(&self) -> Option<&Progress> {
        self.numbered().map(|numbered| &numbered.progress)
    }

    /// Lends what the channel of its connection works on.
    #[inline]
    pub(crate) fn lend(&mut self) -> Lent<'_> {
        Lent {
            outbox: &mut self.outbox,
            numbers: self.identity.numbers_mut(),
        }
    }

    /// Returns the longest packet that its client may send, in bytes: what the client was told when it joined, or, since a client of version 2
    /// was told nothing, `configured`.
    #[inline]
    pub(crate) fn longest_up(&self, configured: u32) -> u32 {
        self.numbered()
            .map_or(configured, |numbered| numbered.longest_up)
    }

    /// Returns what it has from its first claim on.
    ///
    /// # Panics
    /// When it was never claimed.
    pub(crate) fn claimed(&mut self) -> &mut Claimed {
        let claimed = self.claimed.as_deref_mut();
        claimed.expect("a session is claimed before it is resumed")
    }

    /// Like [`lend`](Self::lend), with its entry in the line, allocated on first use.
    pub(crate) fn lend_with_line_entry(&mut self) -> (&mut LineEntry, Lent<'_>) {
        let entry = self.line_entry.get_or_insert_default();
        let lent = Lent {
            outbox: &mut self.outbox,
            numbers: self.identity.numbers_mut(),
        };
        (entry, lent)
    }

    /// Returns its entry in the line, allocated on first use.
    pub(crate) fn line_entry(&mut self) -> &mut LineEntry {
        self.line_entry.get_or_insert_default()
    }

    /// Frees its entry in the line if it is not needed.
    pub(crate) fn trim_line_entry(&mut self) {
        let waiting = self.waiting;
        self.line_entry
            .take_if(|entry| entry.backlog.is_empty() && !waiting);
    }

    /// Returns what a backend of version 3 knows of it, allocated on first use.
    pub(crate) fn linked(&mut self) -> &mut Linked {
        self.linked.get_or_insert_default()
    }

    /// Returns whether it ever carried a packet, up or down. Sessions that did not are the first to make room.
    #[inline]
    pub(crate) fn has_exchanged(&self) -> bool {
        self.was_sent || self.up > 0
    }

    /// Counts packets of its client that are passed on, perhaps to a backend of version 3.
    #[inline(always)]
    pub(crate) fn count_passed(&mut self, packets: u64, may_be_version_3: bool) {
        self.count_sent(packets);
        if may_be_version_3 {
            self.count_up(packets);
        }
    }

    /// Counts packets that its client has sent.
    #[inline(always)]
    pub(super) fn count_sent(&mut self, packets: u64) {
        // Packets of one read, or of one turn.
        #[expect(clippy::cast_possible_truncation, reason = "a read is at most 64 KiB")]
        let packets = packets as u32;
        self.up = self.up.saturating_add(packets);
    }

    /// Returns the packets that its client has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.up.into()
    }

    /// Records that a packet waits for its client.
    #[inline(always)]
    pub(crate) fn mark_delivery(&mut self) {
        self.was_sent = true;
    }

    /// Returns how long it has been there, within a tick of 17 ms. It is right for the first two years.
    pub(crate) fn age(&self, now: Time) -> Duration {
        let ticks = tick(now).wrapping_sub(self.began);
        Duration::from_nanos(u64::from(ticks) << TICK_BITS)
    }

    /// Counts packets of its client for a backend of version 3.
    #[cold]
    #[inline(never)]
    pub(super) fn count_up(&mut self, packets: u64) {
        if packets > 0 {
            let linked = self.linked();
            linked.up += packets;
            linked.unacknowledged += packets;
        }
    }

    /// Handles that the backend has acknowledged packets of its client.
    pub(crate) fn acknowledge_up(&mut self, packets: u64) {
        let linked = self.linked();
        linked.unacknowledged = linked.unacknowledged.saturating_sub(packets);
    }

    /// Returns the packets of its client that the backend has not acknowledged.
    pub(crate) fn unacknowledged_up(&self) -> u64 {
        let linked = self.linked.as_deref();
        linked.map_or(0, |linked| linked.unacknowledged)
    }

    /// Returns the packets that its client has sent, as they are counted for a backend of version 3.
    pub(crate) fn packets_up(&self) -> u64 {
        self.linked.as_deref().map_or(0, |linked| linked.up)
    }

    /// Counts a packet in its outbox that has no number for the backend.
    pub(crate) fn count_unnumbered(&mut self) {
        self.linked().unnumbered += 1;
    }

    pub(super) fn unnumbered(&self) -> u64 {
        self.linked.as_deref().map_or(0, |linked| linked.unnumbered)
    }

    /// Returns the number of its last packet down, as the backend counts.
    pub(crate) fn numbered_down(&self) -> u64 {
        self.outbox.end().saturating_sub(self.unnumbered())
    }

    /// Returns the number down up to which everything is settled, as the backend counts. While VOLATILE packets wait for a client of version 2,
    /// it may be less.
    pub(crate) fn settled_down(&self) -> u64 {
        self.outbox.acked().saturating_sub(self.unnumbered())
    }

    /// Returns the number down up to which the backend was told that everything is settled.
    pub(crate) fn told_settled(&self) -> u64 {
        self.linked
            .as_deref()
            .map_or(0, |linked| linked.told_settled)
    }

    /// Takes it out of those that have settled something since the backend was told. Returns its place among them.
    pub(crate) fn take_settling(&mut self) -> Option<u32> {
        self.linked.as_deref_mut()?.settling.take()
    }

    /// Returns the count of the frame that tells the present boot of the backend of it, as [`Linked::told_at`] has it.
    #[inline(always)]
    pub(crate) fn told_at(&self) -> u64 {
        self.linked.as_deref().map_or(0, |linked| linked.told_at)
    }

    /// Returns whether a backend of version 3 knows something of it.
    pub(crate) fn is_linked(&self) -> bool {
        self.linked.is_some()
    }

    /// Returns whether its client is not read, since the backend wants that.
    #[inline(always)]
    pub(crate) fn is_paused(&self) -> bool {
        self.linked.as_deref().is_some_and(|linked| linked.paused)
    }

    /// Returns what the backend wants to remember of it.
    pub(crate) fn note(&self) -> &str {
        self.linked.as_deref().map_or("", |linked| &linked.note)
    }

    /// Returns the groups of which it is a member.
    pub(crate) fn groups(&self) -> &[GroupId] {
        self.linked.as_deref().map_or(&[], |linked| &linked.groups)
    }

    /// Returns what a backend of version 3 knows of it, if it knows something.
    #[cfg(feature = "cluster")]
    pub(crate) fn known(&self) -> Option<&Linked> {
        self.linked.as_deref()
    }

    /// Returns the frames that have found no room on the link.
    pub(crate) fn line_frames(&self) -> Option<&FrameQueue> {
        self.line_entry.as_deref().map(|entry| &entry.backlog)
    }

    /// Takes the groups of which it is a member.
    pub(crate) fn take_groups(&mut self) -> Vec<GroupId> {
        let linked = self.linked.as_deref_mut();
        linked
            .map(|linked| mem::take(&mut linked.groups))
            .unwrap_or_default()
    }

    /// Counts a resume by a challenge. Returns how long it was away, and the packets that wait for it.
    pub(crate) fn come_back(&mut self) -> (Duration, u64) {
        let waiting = self.outbox.packets() as u64;
        let claimed = self.claimed();
        claimed.resumes += 1;
        (claimed.away, waiting)
    }

    /// Returns how often it was resumed by a challenge.
    pub(crate) fn resumes(&self) -> u64 {
        self.claimed.as_deref().map_or(0, |claimed| claimed.resumes)
    }

    /// Returns the bytes of frames that have found no room on the link.
    #[inline]
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.line_entry
            .as_deref()
            .map_or(0, |entry| entry.backlog.held_bytes())
    }

    /// Returns the bytes that wait in this session, in either direction.
    pub(crate) fn held_bytes(&self) -> usize {
        let of_numbers = self.numbered().map_or(0, |numbered| {
            numbered.standing.held_bytes() + numbered.progress.held_bytes()
        });
        self.outbox.counted_bytes() + self.backlog_bytes() + of_numbers
    }

    /// Adds bytes of its outbox to what it holds.
    #[inline]
    pub(crate) fn grow(&mut self, bytes: usize) -> Resized {
        let before = self.holding.bytes();
        let after = before + bytes;
        self.holding.replace(after);
        Resized { before, after }
    }

    /// Subtracts bytes of its outbox from what it holds.
    #[inline]
    pub(crate) fn shrink(&mut self, bytes: usize) -> Resized {
        let before = self.holding.bytes();
        let after = before - bytes;
        self.holding.replace(after);
        Resized { before, after }
    }

    /// Returns when it last went away.
    pub(crate) fn gone_since(&self) -> Time {
        self.away_timer.since()
    }

    /// Returns since when it is away, if it is.
    pub(crate) fn away_since(&self) -> Option<Time> {
        self.away_timer.is_armed().then(|| self.away_timer.since())
    }
}
