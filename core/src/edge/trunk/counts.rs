//! What a trunk counts on a link of version 3 (SPEC 37.1). The frames are with its shards, each of which counts its own.

use std::collections::VecDeque;

use crate::edge::uplink::hold::Wrong;
use crate::edge::uplink::receipts::Receipts;
use crate::id::ShardId;
use crate::link::v3::{Ask, Feature, Features, Grant, LinkAck};
use crate::time::Time;

/// Whose frames these are, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    runs: VecDeque<(ShardId, u64)>,
    frames: u64,
}

impl Origins {
    pub(super) const fn frames(&self) -> u64 {
        self.frames
    }

    pub(super) fn push(&mut self, shard: ShardId, frames: usize) {
        self.push_run(shard, frames as u64);
    }

    fn push_run(&mut self, shard: ShardId, frames: u64) {
        self.frames += frames;
        match self.runs.back_mut() {
            _ if frames == 0 => {}
            Some((last, run)) if *last == shard => *run += frames,
            _ => self.runs.push_back((shard, frames)),
        }
    }

    /// Takes the oldest `frames`, and passes them to `each`, shard by shard.
    fn take(&mut self, frames: u64, mut each: impl FnMut(ShardId, u64)) {
        let mut left = frames.min(self.frames);
        self.frames -= left;
        while left > 0
            && let Some((shard, run)) = self.runs.front_mut()
        {
            let taken = left.min(*run);
            each(*shard, taken);
            left -= taken;
            *run -= taken;
            if *run == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// Forgets all but the oldest `frames`.
    fn truncate(&mut self, frames: u64) {
        let mut kept = Origins::default();
        self.take(frames, |shard, run| kept.push_run(shard, run));
        *self = kept;
    }
}

/// The counts of one branch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OfShard {
    /// The shard's frames that the backend has acknowledged.
    pub(super) acknowledged: u64,
    /// The backend's frames that the shard was handed.
    pub(super) handed: u64,
}

/// What the shards have granted so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Granting {
    /// Whether the shards go on where the last link ended.
    pub(super) goes_on: bool,
    /// The run of ASK.
    asked_run: Option<[u8; 8]>,
    /// What the first of them grants, with the sessions of all.
    pub(super) grant: Option<Grant>,
}

#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) boot: [u8; 16],
    /// The run of this edge, once a shard has told it.
    run: Option<[u8; 8]>,
    /// Whether counts of this boot are these, as in an edge alone (SPEC 37.4(d)).
    is_confirmed: bool,
    pub(super) features: Features,
    /// An ASK that some shard has not taken up yet.
    pub(super) granting: Option<Granting>,
    /// The frames of the backend.
    pub(super) receipts: Receipts,
    pub(super) of_shards: Box<[OfShard]>,
    /// The frames that wait here: announcements, and others.
    pub(super) announced: Origins,
    pub(super) queued: Origins,
    /// The frames that were written whole on this link, or that the backend had before, and are not acknowledged.
    sent: Origins,
    acknowledged: u64,
    /// The highest count that was written on any link.
    highest: u64,
    /// What is to be acknowledged behind the frame of this count.
    ack: Option<(u64, u64)>,
    /// The acknowledgement in ASK, and the frames of the backend that go before it.
    asked: Option<(u64, u64)>,
    /// GRANT or LINK_ACK, and how much of it is written.
    control: Vec<u8>,
    control_written: usize,
}

impl Counts {
    /// Begins to count for a boot that knows nothing.
    pub(super) fn new(now: Time, ask: &Ask, features: Features, shards: usize) -> Self {
        Counts {
            boot: ask.boot,
            run: None,
            is_confirmed: false,
            features,
            granting: Some(Granting {
                asked_run: ask.run,
                ..Granting::default()
            }),
            receipts: Receipts::new(now),
            of_shards: vec![OfShard::default(); shards].into(),
            announced: Origins::default(),
            queued: Origins::default(),
            sent: Origins::default(),
            acknowledged: 0,
            highest: 0,
            ack: None,
            asked: None,
            control: Vec::new(),
            control_written: 0,
        }
    }

    /// Goes on where the last link ended. Returns false if the backend does not know these counts.
    pub(super) fn resume(&mut self, now: Time, ask: &Ask, features: Features) -> bool {
        let is_known = self.is_confirmed
            && self.boot == ask.boot
            && self.features == features
            && ask.run.is_some()
            && ask.run == self.run;
        let received = self.acknowledged..=self.highest;
        if !is_known || ask.acknowledged > ask.received || !received.contains(&ask.received) {
            return false;
        }
        self.sent.truncate(ask.received - self.acknowledged);
        self.asked = Some((ask.acknowledged, ask.sent));
        self.receipts.resume(now);
        self.granting = Some(Granting {
            goes_on: true,
            asked_run: ask.run,
            grant: None,
        });
        true
    }

    /// Returns the frames of this shard that the backend has.
    pub(super) fn received_of(&self, shard: ShardId) -> u64 {
        let of_it = self.sent.runs.iter().filter(|(other, _)| *other == shard);
        let sent: u64 = of_it.map(|(_, frames)| frames).sum();
        self.acknowledged_of(shard) + sent
    }

    fn acknowledged_of(&self, shard: ShardId) -> u64 {
        let of_shard = self.of_shards.get(usize::from(shard.as_u8()));
        of_shard.map_or(0, |of_shard| of_shard.acknowledged)
    }

    /// Adds what a shard grants. Returns whether it goes on if it was to.
    pub(super) fn add(&mut self, grant: &Grant) -> bool {
        self.run = Some(grant.run);
        let Some(granting) = &mut self.granting else {
            return true;
        };
        if granting.goes_on && grant.received == u64::MAX {
            return false;
        }
        match &mut granting.grant {
            Some(all) => all.sessions = all.sessions.saturating_add(grant.sessions),
            none => *none = Some(*grant),
        }
        true
    }

    /// Makes GRANT, now that all shards have granted.
    pub(super) fn make_grant(&mut self) {
        let Some(granting) = self.granting.take() else {
            return;
        };
        let Some(mut grant) = granting.grant else {
            return;
        };
        let knows_run = granting.asked_run == self.run;
        if !granting.goes_on {
            // One that knows the run and loses the link before it reads GRANT asks again with the counts that it had (SPEC 37.4(d)).
            self.is_confirmed = !knows_run;
        }
        grant.received = match granting.goes_on {
            true => self.receipts.received(),
            // A backend that thinks that it goes on is told (SPEC 34.3(c)).
            false if knows_run => u64::MAX,
            false => 0,
        };
        grant.encode(&mut self.control);
    }

    /// Handles that the link is gone.
    pub(super) fn lose_link(&mut self) {
        (self.announced, self.queued) = (Origins::default(), Origins::default());
        (self.ack, self.asked, self.granting) = (None, None, None);
        self.control.clear();
        self.control_written = 0;
    }

    /// Forgets the counts: the two ends do not agree on them.
    pub(super) fn forget(&mut self) {
        self.is_confirmed = false;
    }

    /// Returns the count of the last frame that was written whole on this link, or that the backend had before.
    fn written(&self) -> u64 {
        self.acknowledged + self.sent.frames
    }

    /// Handles that the oldest frames of those that wait here were written whole.
    pub(super) fn write(&mut self, announced: u64, queued: u64) {
        let sent = &mut self.sent;
        self.announced
            .take(announced, |shard, run| sent.push_run(shard, run));
        self.queued
            .take(queued, |shard, run| sent.push_run(shard, run));
        self.highest = self.highest.max(self.written());
    }

    // ---- GRANT and LINK_ACK

    /// Counts a frame of the backend.
    pub(super) fn count(&mut self, now: Time, bytes: usize) {
        if self.granting.is_none() {
            self.is_confirmed = true;
        }
        if self.receipts.count(now, bytes) {
            self.acknowledge(now);
        }
    }

    /// Acknowledges all that was received, behind all that waits here. One that waits already goes first.
    pub(super) fn acknowledge(&mut self, now: Time) {
        let are_granted = self.features.has(Feature::LinkAcks);
        if !are_granted || self.ack.is_some() || self.granting.is_some() {
            self.receipts.put_off(now, are_granted);
        } else {
            let end = self.written() + self.announced.frames() + self.queued.frames();
            self.ack = Some((self.receipts.tell(now), end));
        }
    }

    /// Returns whether an acknowledgement is next, once no frame is half-written.
    pub(super) fn is_ack_next(&self) -> bool {
        self.ack.is_some_and(|(_, behind)| self.written() >= behind)
    }

    /// Makes the acknowledgement that is next. No frame is half-written.
    pub(super) fn make_ack(&mut self) {
        if self.control.is_empty() && self.is_ack_next() {
            let sent = self.written();
            if let Some((acknowledged, _)) = self.ack.take() {
                LinkAck { acknowledged, sent }.encode(&mut self.control);
            }
        }
    }

    /// Returns what goes before all else.
    pub(super) fn control(&self) -> &[u8] {
        self.control.get(self.control_written..).unwrap_or_default()
    }

    /// Handles that `bytes` bytes of the output were written. Returns how many of them are behind the [control](Self::control).
    pub(super) fn control_written(&mut self, bytes: usize) -> usize {
        let of_control = bytes.min(self.control().len());
        self.control_written += of_control;
        if self.control_written == self.control.len() {
            self.control.clear();
            self.control_written = 0;
        }
        bytes - of_control
    }

    /// Handles an acknowledgement of the backend. Passes what it acknowledges to `each`, shard by shard.
    ///
    /// # Errors
    /// When the two ends count differently.
    pub(super) fn hear(
        &mut self,
        ack: LinkAck,
        each: impl FnMut(ShardId, u64),
    ) -> Result<(), Wrong> {
        let ours = self.receipts.received();
        if ack.sent != ours {
            return Err(Wrong::Miscounted {
                theirs: ack.sent,
                ours,
            });
        }
        if self.granting.is_none() {
            self.is_confirmed = true;
        }
        let sent = self.written();
        if ack.acknowledged > sent {
            return Err(Wrong::Acknowledged {
                acknowledged: ack.acknowledged,
                sent,
            });
        }
        self.drop_until(ack.acknowledged, each);
        Ok(())
    }

    /// Takes what was written for acknowledged: without acknowledgements of the link it is gone, as in version 2.
    pub(super) fn drop_written(&mut self, each: impl FnMut(ShardId, u64)) {
        self.drop_until(self.written(), each);
    }

    fn drop_until(&mut self, acknowledged: u64, mut each: impl FnMut(ShardId, u64)) {
        let gone = acknowledged.saturating_sub(self.acknowledged);
        self.acknowledged += gone;
        let of_shards = &mut self.of_shards;
        self.sent.take(gone, |shard, frames| {
            if let Some(of_shard) = of_shards.get_mut(usize::from(shard.as_u8())) {
                of_shard.acknowledged += frames;
                each(shard, of_shard.acknowledged);
            }
        });
    }

    /// Takes the acknowledgement in ASK, once the frames have come that go before it.
    pub(super) fn take_asked(&mut self) -> Option<LinkAck> {
        let (acknowledged, sent) = self.asked?;
        (sent <= self.receipts.received()).then(|| {
            self.asked = None;
            LinkAck { acknowledged, sent }
        })
    }
}
