//! What a trunk counts on a link of version 3 (SPEC 37.1). The frames are with its shards, each of which counts its own.

use std::collections::VecDeque;

use crate::edge::uplink::counts::LinkCounts;
use crate::edge::uplink::hold::Wrong;
use crate::id::ShardId;
use crate::link::v3::{Ask, Feature, Features, Grant, LinkAck};
use crate::time::Time;
use crate::wire::saved::{Saved, put_count, put_numbers};

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

    /// Returns how many of them are of this shard.
    fn of(&self, shard: ShardId) -> u64 {
        let of_it = self.runs.iter().filter(|(other, _)| *other == shard);
        of_it.map(|(_, frames)| frames).sum()
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

/// What the trunk of another process of this run had counted (SPEC 39.1(a)).
#[derive(Clone, Debug)]
pub(in crate::edge) struct SavedTrunk {
    pub(in crate::edge) boot: [u8; 16],
    is_confirmed: bool,
    pub(in crate::edge) features: u32,
    received: u64,
    acknowledged: u64,
    highest: u64,
    of_shards: Vec<OfShard>,
    sent: Origins,
}

impl SavedTrunk {
    /// Reads what [`Counts::save`] wrote.
    pub(in crate::edge) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        let (boot, is_confirmed, features) = (saved.array()?, saved.flag()?, saved.u32()?);
        let (received, acknowledged, highest) = (saved.u64()?, saved.u64()?, saved.u64()?);
        let of_shards = saved.list(16, |saved| {
            Some(OfShard {
                acknowledged: saved.u64()?,
                handed: saved.u64()?,
            })
        })?;
        let mut sent = Origins::default();
        for _ in 0..saved.count(9)? {
            let (shard, frames) = (saved.u8()?, saved.u64()?);
            let is_possible = usize::from(shard) < of_shards.len() && frames <= highest;
            sent.frames.checked_add(frames).filter(|_| is_possible)?;
            sent.push_run(ShardId::new(shard), frames);
        }
        let written = acknowledged.checked_add(sent.frames)?;
        (written <= highest).then_some(SavedTrunk {
            boot,
            is_confirmed,
            features,
            received,
            acknowledged,
            highest,
            of_shards,
            sent,
        })
    }

    /// Returns the shards of that process.
    pub(in crate::edge) fn shards(&self) -> usize {
        self.of_shards.len()
    }

    /// Returns the frames of this shard that the backend has acknowledged, those that were written to it, and its own that the shard was
    /// handed.
    pub(in crate::edge) fn of(&self, shard: ShardId) -> Option<(u64, u64, u64)> {
        let of_shard = self.of_shards.get(usize::from(shard.as_u8()))?;
        let written = of_shard.acknowledged.checked_add(self.sent.of(shard))?;
        Some((of_shard.acknowledged, written, of_shard.handed))
    }
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
    /// The shards that have granted.
    pub(super) shards: usize,
}

/// The counts of the link, and whose the frames are that they count.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    pub(super) link: LinkCounts,
    /// The run of this edge, once a shard has told it.
    run: Option<[u8; 8]>,
    /// An ASK that some shard has not taken up yet.
    pub(super) granting: Option<Granting>,
    pub(super) of_shards: Box<[OfShard]>,
    /// The frames that wait here: announcements, and others.
    pub(super) announced: Origins,
    pub(super) queued: Origins,
    /// The frames that were written whole on this link, or that the backend had before, and are not acknowledged.
    sent: Origins,
    acknowledged: u64,
    /// The highest count that was written on any link.
    highest: u64,
}

impl Counts {
    /// Begins to count for a boot that knows nothing.
    pub(super) fn new(now: Time, ask: &Ask, features: Features, shards: usize) -> Self {
        Counts {
            link: LinkCounts::new(now, ask.boot, features, false),
            run: None,
            granting: Some(Granting {
                asked_run: ask.run,
                ..Granting::default()
            }),
            of_shards: vec![OfShard::default(); shards].into(),
            announced: Origins::default(),
            queued: Origins::default(),
            sent: Origins::default(),
            acknowledged: 0,
            highest: 0,
        }
    }

    /// Goes on as the trunk of another process of this run did.
    pub(super) fn after(now: Time, run: [u8; 8], saved: &SavedTrunk) -> Self {
        let features = Features::from_bits(saved.features);
        let link = LinkCounts::new(now, saved.boot, features, saved.is_confirmed);
        Counts {
            link: link.after(now, saved.received),
            run: Some(run),
            granting: None,
            of_shards: saved.of_shards.clone().into(),
            announced: Origins::default(),
            queued: Origins::default(),
            sent: saved.sent.clone(),
            acknowledged: saved.acknowledged,
            highest: saved.highest,
        }
    }

    /// Appends the counts, for another process of this run. No link is there. (SPEC 39.2)
    pub(super) fn save(&self, out: &mut Vec<u8>) {
        self.link.save(out);
        let received = self.link.receipts.received();
        put_numbers(out, &[received, self.acknowledged, self.highest]);
        put_count(out, self.of_shards.len());
        for of_shard in &self.of_shards {
            put_numbers(out, &[of_shard.acknowledged, of_shard.handed]);
        }
        put_count(out, self.sent.runs.len());
        for (shard, frames) in &self.sent.runs {
            out.push(shard.as_u8());
            put_numbers(out, &[*frames]);
        }
    }

    /// Goes on where the last link ended. Returns false if the backend does not know these counts.
    pub(super) fn resume(&mut self, now: Time, ask: &Ask, features: Features) -> bool {
        let run = self.run;
        let is_known = run.is_some_and(|run| self.link.are_those_of(ask, run, features));
        let received = self.acknowledged..=self.highest;
        if !is_known || !received.contains(&ask.received) {
            return false;
        }
        self.sent.truncate(ask.received - self.acknowledged);
        self.link.resume(now, ask);
        self.granting = Some(Granting {
            goes_on: true,
            asked_run: ask.run,
            ..Granting::default()
        });
        true
    }

    /// Returns the frames of this shard that the backend has.
    pub(super) fn received_of(&self, shard: ShardId) -> u64 {
        self.acknowledged_of(shard) + self.sent.of(shard)
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
        granting.shards += 1;
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
            self.link.confirm(!knows_run);
        }
        grant.received = match granting.goes_on {
            true => self.link.receipts.received(),
            // A backend that thinks that it goes on is told (SPEC 34.3(c)).
            false if knows_run => u64::MAX,
            false => 0,
        };
        self.link.make_control(|out| grant.encode(out));
    }

    /// Handles that the link is gone.
    pub(super) fn lose_link(&mut self) {
        (self.announced, self.queued) = (Origins::default(), Origins::default());
        self.granting = None;
        self.link.lose_link();
    }

    /// Forgets the counts: the two ends do not agree on them.
    pub(super) fn forget(&mut self) {
        self.link.forget();
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
        // A backend sends nothing before GRANT.
        self.link.confirm(true);
        if self.link.receipts.count(now, bytes) {
            self.acknowledge(now);
        }
    }

    /// Acknowledges all that was received, behind all that waits here.
    pub(super) fn acknowledge(&mut self, now: Time) {
        if self.granting.is_some() {
            let are_granted = self.link.features.has(Feature::LinkAcks);
            self.link.receipts.put_off(now, are_granted);
        } else {
            let end = self.written() + self.announced.frames() + self.queued.frames();
            self.link.acknowledge(now, end);
        }
    }

    /// Returns whether an acknowledgement is next, once no frame is half-written.
    pub(super) fn is_ack_next(&self) -> bool {
        self.link.is_ack_next(self.written())
    }

    /// Makes the acknowledgement that is next. No frame is half-written.
    pub(super) fn make_ack(&mut self) {
        self.link.make_ack(self.written());
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
        self.link.check(ack)?;
        if self.granting.is_none() {
            self.link.confirm(true);
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
}
