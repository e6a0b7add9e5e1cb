//! Version 3 of the link, over branches (SPEC 36.2(i), 37).
//!
//! To each shard the trunk speaks like a backend of version 3 on a link of its own: the shard keeps what it hands up until it is
//! acknowledged, and counts the frames of its branch. The trunk has the counts of the link, and knows which shard each frame is of. What it
//! had of a lost link it drops, since the shards have it.
//!
//! - ASK goes to every shard. Each makes its OWN and grants, and GRANT goes to the backend once all have. What is asked of a shard is in its
//!   own counts.
//! - OWN of all shards go before all else, like the announcements of version 2.
//! - LINK_ACK of the backend goes to each shard as an acknowledgement of its own frames, behind the backend's frames that came before.
//! - A frame for a group goes to each shard; a list of members is split.

use crate::edge::DeadlineReason;
#[cfg(feature = "backends")]
use crate::edge::TrunkShare;
use crate::edge::contract::Deadline;
use crate::edge::trunk::counts::{Counts, Granting};
use crate::edge::trunk::{Branch, BranchState, Trunk};
use crate::edge::uplink::drawn;
use crate::edge::uplink::hold::Wrong;
use crate::edge::uplink::link::proof::Heard;
use crate::id::{ClientId, ShardId};
use crate::link::tagged::TAG_BYTES;
use crate::link::v3::{Ask, Feature, FrameError, Grant, Ids, LinkAck, ToEdge, flag, is_counted};
use crate::time::Time;
use crate::wire::frame::LENGTH_BYTES;

impl Trunk {
    /// Handles a frame of a link that may have version 3.
    pub(super) fn handle_frame(&mut self, body: &[u8]) {
        if self.link.wants_close {
            return;
        }
        if self.hold.is_granted() {
            return self.handle_order(body);
        }
        let rng = &mut self.rng;
        match self.link.proving.hear(body, || drawn(rng)) {
            Heard::Ask(ask) => self.handle_ask(ask),
            Heard::Other => {
                self.handle_not_asked();
                if !self.link.wants_close {
                    self.route(body);
                }
            }
            Heard::Waits => {}
            Heard::Refused => {
                self.link.refuse_secret(self.hold.refuse(self.now));
            }
        }
    }

    /// Handles the first frame of a backend that does not ask.
    fn handle_not_asked(&mut self) {
        if let Err(wrong) = self.hold.is_not_asked() {
            self.handle_wrong(wrong);
        }
    }

    fn handle_ask(&mut self, ask: Result<Ask, FrameError>) {
        let ask = match ask {
            Ok(ask) => ask,
            Err(error) => {
                tracing::warn!(%error, "the backend asks for version 3 of the link, and the ASK is malformed");
                self.counters.malformed_down += 1;
                return self.handle_not_asked();
            }
        };
        self.link.trust();
        // Once a link has version 2, its shards have begun to hand up in the form of that.
        if let Err(wrong) = self.hold.grant(u64::MAX) {
            return self.handle_wrong(wrong);
        }
        let features = self.link.proving.offered().grant(ask.features);
        let now = self.now;
        #[cfg(feature = "backends")]
        if self.share.as_ref().is_some_and(TrunkShare::begins_anew)
            && let Some(counts) = &mut self.counts
        {
            counts.forget();
        }
        let goes_on = match &mut self.counts {
            Some(counts) => counts.resume(now, &ask, features),
            None => {
                self.return_packets();
                false
            }
        };
        if !goes_on {
            let counts = Counts::new(now, &ask, features, self.branches.len());
            self.counts = Some(Box::new(counts));
        }
        tracing::info!(%features, goes_on, "the backend asked for version 3 of the link");
        // Its shards may still have what was granted before.
        self.tell_takes_moved(false);
        self.ask_shards(&ask, goes_on);
        self.hear_asked();
    }

    /// Returns packets that waited here for a link of version 2 to their shards.
    fn return_packets(&mut self) {
        for batch in self.queue.take_all() {
            for (body, _) in batch.bodies() {
                let shard = self.shard_of(body);
                if let Some(branch) = self.branch_mut(shard)
                    && branch.state != BranchState::Gone
                {
                    branch.returned.get_or_insert_default().push(body);
                }
            }
        }
    }

    /// Passes an ASK on to each shard, in the counts of its branch.
    fn ask_shards(&mut self, ask: &Ask, goes_on: bool) {
        for shard in self.all_shards() {
            let Some(counts) = &self.counts else {
                return;
            };
            let received = counts.received_of(shard);
            let of_shard = of(counts, shard);
            let ask = Ask {
                run: ask.run.filter(|_| goes_on),
                received,
                acknowledged: of_shard.0,
                sent: of_shard.1,
                ..*ask
            };
            let mut frame = Vec::new();
            ask.encode(&mut frame);
            if let Some(branch) = self.branch_mut(shard)
                && branch.state == BranchState::Closed
            {
                // What an earlier backend has sent to a shard without a branch.
                let returned = branch.returned.take();
                *branch = Branch::new(BranchState::Closed);
                branch.returned = returned;
                branch.queue.push_frame(&frame, &[]);
            }
        }
    }

    /// Handles that a shard grants.
    pub(super) fn handle_granted(&mut self, grant: &Grant) {
        let goes_on = self.counts.as_mut().is_none_or(|counts| counts.add(grant));
        if goes_on {
            self.make_grant();
        } else {
            self.handle_wrong(Wrong::Divided);
        }
    }

    /// Makes GRANT if all shards have granted. Those that have ended need not, unless a new boot asks and their sessions are saved: without
    /// their OWN it would take these for ended. The next process grants then (SPEC 39.1(f)).
    pub(super) fn make_grant(&mut self) {
        let waits = |branch: &Branch| {
            matches!(
                branch.state,
                BranchState::Closed | BranchState::Asked | BranchState::Ending
            )
        };
        let all = match self.keeps_late {
            true => self.branches.len(),
            false => 0,
        };
        let is_told = |granting: &Granting| granting.goes_on || granting.shards >= all;
        if let Some(counts) = &mut self.counts
            && counts.granting.as_ref().is_some_and(is_told)
            && !self.branches.iter().any(waits)
        {
            counts.make_grant();
            self.tell_takes_moved(true);
        }
    }

    /// Tells the shards of other backends whether this one takes their sessions: it is told where each goes on, and acknowledges (SPEC 45.6(g)).
    #[cfg(feature = "backends")]
    fn tell_takes_moved(&self, is_granted: bool) {
        if let (Some(share), Some(counts)) = (&self.share, &self.counts) {
            let features = counts.link.features;
            let takes = features.has(Feature::EndToEnd) && features.has(Feature::Notices);
            share.tell_takes_moved(is_granted && takes);
        }
    }

    #[cfg(not(feature = "backends"))]
    #[expect(clippy::unused_self, reason = "as if there could be another one")]
    fn tell_takes_moved(&self, _: bool) {}

    fn handle_wrong(&mut self, wrong: Wrong) {
        let hold = &mut self.hold;
        if self.link.drop_for(wrong, || hold.complains()) {
            self.counters.link_violations += 1;
            if let Some(counts) = &mut self.counts {
                counts.forget();
            }
        }
    }

    // ---- what the backend sends

    fn handle_order(&mut self, body: &[u8]) {
        let now = self.now;
        let Some(counts) = &mut self.counts else {
            return;
        };
        if counts.granting.is_some() {
            // It would be counted before GRANT (SPEC 34.1(g)).
            return self.handle_wrong(Wrong::Early);
        }
        let features = counts.link.features;
        if is_counted(body) {
            counts.count(now, body.len());
            self.make_ack();
        }
        let flag = body.get(TAG_BYTES - 1).copied();
        match flag {
            Some(flag::LINK_ACK) => match ToEdge::decode(body, features) {
                Ok(ToEdge::LinkAck(ack)) => self.hear_ack(ack),
                _ => self.counters.malformed_down += 1,
            },
            Some(flag::GROUP_SEND | flag::GROUP_ADD | flag::GROUP_REMOVE | flag::GROUP_END) => {
                match ToEdge::decode(body, features) {
                    Ok(ToEdge::GroupAdd { group, ids }) => {
                        self.split(ids, |group_ids| ToEdge::GroupAdd {
                            group,
                            ids: group_ids,
                        });
                    }
                    Ok(ToEdge::GroupRemove { group, ids }) => {
                        self.split(ids, |group_ids| ToEdge::GroupRemove {
                            group,
                            ids: group_ids,
                        });
                    }
                    Ok(_) => {
                        for shard in self.all_shards() {
                            self.hand_over(shard, body);
                        }
                    }
                    // It is refused once.
                    Err(_) => self.hand_over(ShardId::default(), body),
                }
            }
            Some(flag::GOAWAY) => match ToEdge::decode(body, features) {
                Ok(ToEdge::GoAway { id: None, .. }) => {
                    for shard in self.all_shards() {
                        self.hand_over(shard, body);
                    }
                }
                _ => self.hand_over(self.shard_of(body), body),
            },
            _ => self.hand_over(self.shard_of(body), body),
        }
        self.hear_asked();
    }

    /// Passes a list of ids on to the shards that have them.
    fn split(&mut self, ids: Ids<'_>, frame: impl Fn(Ids<'_>) -> ToEdge<'_>) {
        let mut parts = vec![Vec::new(); self.branches.len()];
        for id in ids.iter() {
            let shard = self.shard_named(id);
            if let Some(part) = parts.get_mut(usize::from(shard.as_u8())) {
                part.push(id);
            }
        }
        for (shard, part) in self.all_shards().zip(parts) {
            if !part.is_empty() {
                let mut bytes = Vec::new();
                frame(Ids::from(&part[..])).encode(&mut bytes);
                self.hand_over(shard, bytes.get(LENGTH_BYTES..).unwrap_or_default());
            }
        }
    }

    /// Queues a frame of version 3 for a shard, and counts it.
    fn hand_over(&mut self, shard: ShardId, body: &[u8]) {
        if let Some(counts) = &mut self.counts
            && let Some(of_shard) = counts.of_shards.get_mut(usize::from(shard.as_u8()))
        {
            of_shard.handed += u64::from(is_counted(body));
        }
        self.hand_down(shard, body);
    }

    /// Applies the acknowledgement in ASK once it counts.
    fn hear_asked(&mut self) {
        let asked = self
            .counts
            .as_mut()
            .and_then(|counts| counts.link.take_asked());
        if let Some(ack) = asked {
            self.hear_ack(ack);
        }
    }

    fn hear_ack(&mut self, ack: LinkAck) {
        let Some(counts) = &mut self.counts else {
            return;
        };
        let mut told = vec![None; self.branches.len()];
        let heard = counts.hear(ack, |shard, acknowledged| {
            tell(&mut told, shard, acknowledged)
        });
        match heard {
            Ok(()) => self.tell_acknowledged(&told),
            Err(wrong) => self.handle_wrong(wrong),
        }
    }

    /// Tells the shards what the backend has acknowledged of theirs.
    fn tell_acknowledged(&mut self, told: &[Option<u64>]) {
        for (shard, acknowledged) in self.all_shards().zip(told) {
            if let (Some(acknowledged), Some(counts)) = (*acknowledged, &self.counts) {
                let (_, sent) = of(counts, shard);
                let mut frame = Vec::new();
                LinkAck { acknowledged, sent }.encode(&mut frame);
                self.hand_down(shard, frame.get(LENGTH_BYTES..).unwrap_or_default());
            }
        }
    }

    // ---- what is written

    /// Returns what is to be written to a backend, of a run that has granted.
    pub(super) fn counted_output<'a>(&'a self, counts: &'a Counts) -> [&'a [u8]; 2] {
        if !self.hold.is_granted() || counts.granting.is_some() {
            return [&[], &[]];
        }
        let (control, rest) = (counts.link.control(), self.rest_of_frame());
        if !control.is_empty() {
            return [control, self.uncounted_output()[0]];
        }
        if counts.is_ack_next() && !rest.is_empty() {
            return [rest, &[]];
        }
        self.uncounted_output()
    }

    /// Returns the rest of a frame that the link has taken a part of.
    fn rest_of_frame(&self) -> &[u8] {
        match self.announcements.rest_of_frame() {
            [] => self.queue.rest_of_frame(),
            rest => rest,
        }
    }

    /// Handles that `bytes` bytes were written. Returns how many of them were handed up by the shards.
    pub(super) fn control_written(&mut self, bytes: usize) -> usize {
        match &mut self.counts {
            Some(counts) => counts.link.control_written(bytes),
            None => bytes,
        }
    }

    /// Counts the frames that are written whole, of those that waited before.
    pub(super) fn count_written(&mut self, (announced, queued): (usize, usize)) {
        let Some(counts) = &mut self.counts else {
            return;
        };
        let announced = announced - self.announcements.packets();
        let queued = queued - self.queue.packets();
        counts.write(announced as u64, queued as u64);
        if !counts.link.features.has(Feature::LinkAcks) {
            let mut told = vec![None; self.branches.len()];
            counts.drop_written(|shard, acknowledged| tell(&mut told, shard, acknowledged));
            self.tell_acknowledged(&told);
        }
        self.make_ack();
    }

    fn make_ack(&mut self) {
        if self.rest_of_frame().is_empty()
            && let Some(counts) = &mut self.counts
        {
            counts.make_ack();
        }
    }

    // ---- time

    pub(super) fn granted_deadline(&self) -> Option<Deadline> {
        let acks = self.counts.as_ref().filter(|_| self.hold.is_granted());
        let acks = acks.map(|counts| counts.link.receipts.deadline());
        let at = self.hold.deadline().or(acks)?;
        Some(Deadline {
            at,
            reason: DeadlineReason::LinkAlarm,
        })
    }

    pub(super) fn handle_granted_timeout(&mut self, now: Time) {
        if let Err(wrong) = self.hold.end(now) {
            self.handle_wrong(wrong);
        }
        if self.hold.is_granted()
            && let Some(counts) = &mut self.counts
            && counts.link.receipts.deadline() <= now
        {
            counts.acknowledge(now);
            self.make_ack();
        }
    }

    // ---- shards

    pub(super) fn all_shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        let shards = u8::try_from(self.branches.len()).unwrap_or(u8::MAX);
        (0..shards).map(ShardId::new)
    }

    /// Returns the shard that a frame is for. The first shard answers for ids that name none (SPEC 9.9(f)).
    pub(super) fn shard_of(&self, body: &[u8]) -> ShardId {
        let id = body.first_chunk().map(|id| u64::from_le_bytes(*id));
        id.map_or(ShardId::default(), |id| {
            self.shard_named(ClientId::from_u64(id))
        })
    }

    fn shard_named(&self, id: ClientId) -> ShardId {
        // A number below the first wraps around to one beyond all branches.
        let shard = id.shard().as_u8().wrapping_sub(self.first.as_u8());
        match usize::from(shard) < self.branches.len() {
            true => ShardId::new(shard),
            false => self.shard_moved(id).unwrap_or_default(),
        }
    }

    /// Returns the shard here of a session that came from another backend.
    #[cfg(feature = "backends")]
    fn shard_moved(&self, id: ClientId) -> Option<ShardId> {
        let shard = self.share.as_ref()?.pin_of(id)?.as_u8();
        let shard = shard.wrapping_sub(self.first.as_u8());
        (usize::from(shard) < self.branches.len()).then(|| ShardId::new(shard))
    }

    #[cfg(not(feature = "backends"))]
    #[expect(clippy::unused_self, reason = "as if there could be another one")]
    fn shard_moved(&self, _: ClientId) -> Option<ShardId> {
        None
    }
}

/// Returns what the backend has acknowledged of a shard, and what the shard was handed.
fn of(counts: &Counts, shard: ShardId) -> (u64, u64) {
    let of_shard = counts.of_shards.get(usize::from(shard.as_u8()));
    of_shard.map_or((0, 0), |of_shard| (of_shard.acknowledged, of_shard.handed))
}

fn tell(told: &mut [Option<u64>], shard: ShardId, acknowledged: u64) {
    if let Some(told) = told.get_mut(usize::from(shard.as_u8())) {
        *told = Some(acknowledged);
    }
}
