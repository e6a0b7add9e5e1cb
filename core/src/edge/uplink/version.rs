//! The version of the link: the one place where it is told apart (SPEC 33.4, 34).
//!
//! A link is of version 2 until a backend asks, and of version 3 once it is granted. So that the first frames of a link count, it is held
//! for a moment before anything is written (`hold.rs`). Frames for the backend are queued in the form of version 3 until it is decided, and
//! rewritten once if it is version 2.

use crate::edge::config::LinkProtocol;
use crate::edge::uplink::batch::{BATCH_BYTES, Batch};
use crate::edge::uplink::counts::LinkCounts;
use crate::edge::uplink::hold::{Hold, Version2, Wrong};
use crate::edge::uplink::rewrite::to_version_2;
use crate::link::tagged::TAG_BYTES;
use crate::link::v3::{Ask, Feature, Features, LinkAck, is_counted};
use crate::queue::{FrameQueue, Sent};
use crate::time::Time;
use crate::wire::saved::{Saved, put_numbers};

/// How a link was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Granting {
    /// It goes on where the last one ended (SPEC 37.3).
    GoesOn,
    /// The backend knows nothing of this run.
    Anew,
}

/// What both ends count, and the frames that are kept (SPEC 37), from the first grant on.
#[derive(Clone, Debug)]
struct Counted {
    link: LinkCounts,
    /// The longest body that the backend takes, in bytes.
    longest_body: u32,
    /// The frames of the queue.
    sent: Sent,
    /// The count of the last OWN of this boot.
    owned: u64,
}

image!(Counted {
    link,
    longest_body,
    sent,
    owned
});

/// What another process of this run knew of its link.
#[derive(Clone, Debug)]
pub(crate) enum SavedVersion {
    /// No link was decided: what waits has the form of version 3.
    New,
    /// The links had version 2: what waits has its form.
    Version2,
    /// They had version 3.
    Counted(SavedCounts),
}

/// What both ends had counted.
#[derive(Clone, Debug)]
pub(crate) struct SavedCounts {
    boot: [u8; 16],
    is_confirmed: bool,
    features: u32,
    longest_body: u32,
    acknowledged: u64,
    highest: u64,
    owned: u64,
    received: u64,
}

impl SavedVersion {
    const NEW: u8 = 0;
    const VERSION_2: u8 = 1;
    const COUNTED: u8 = 2;

    /// Reads what [`LinkVersion::save`] wrote.
    pub(crate) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        Some(match saved.u8()? {
            Self::NEW => SavedVersion::New,
            Self::VERSION_2 => SavedVersion::Version2,
            Self::COUNTED => SavedVersion::Counted(SavedCounts {
                boot: saved.array()?,
                is_confirmed: saved.flag()?,
                features: saved.u32()?,
                longest_body: saved.u32()?,
                acknowledged: saved.u64()?,
                highest: saved.u64()?,
                owned: saved.u64()?,
                received: saved.u64()?,
            }),
            _ => return None,
        })
    }

    /// Returns whether it is known what the backend has: a session goes to another one without loss then (SPEC 45.6(g)).
    #[cfg(feature = "backends")]
    pub(crate) fn is_exact(&self) -> bool {
        match self {
            // It has nothing at all.
            SavedVersion::New => true,
            SavedVersion::Version2 => false,
            SavedVersion::Counted(counted) => {
                let features = Features::from_bits(counted.features);
                features.has(Feature::EndToEnd) && features.has(Feature::Notices)
            }
        }
    }

    /// Returns whether the counts of this shard, which has so many frames and is to take `late` of the backend's, go on behind those of its trunk:
    /// for the same boot with the same features, where the backend has acknowledged some of the shard's frames, some were written to it, and the
    /// shard was handed some.
    pub(crate) fn agrees(
        &self,
        (boot, features): (&[u8; 16], u32),
        (acknowledged, written, handed): (u64, u64, u64),
        frames: u64,
        late: u64,
    ) -> bool {
        let SavedVersion::Counted(counted) = self else {
            return false;
        };
        (&counted.boot, counted.features) == (boot, features)
            && counted.fits(frames)
            && counted.acknowledged <= acknowledged
            && written <= counted.highest
            && counted.received.checked_add(late) == Some(handed)
    }
}

impl SavedCounts {
    /// Returns whether so many frames are behind what is acknowledged.
    fn fits(&self, frames: u64) -> bool {
        let end = self.acknowledged.checked_add(frames);
        self.acknowledged <= self.highest && end.is_some_and(|end| self.highest <= end)
    }
}

/// The version of the link, or of a shard's branch, and what is counted.
#[derive(Clone, Debug)]
pub(crate) struct LinkVersion {
    hold: Hold,
    /// Whether the link has, or could have, version 3: one load where each packet goes by.
    may_be_version_3: bool,
    /// Whether it goes over a branch, whose trunk acknowledges what comes from the backend.
    is_of_shard: bool,
    counted: Option<Box<Counted>>,
}

image!(LinkVersion {
    hold,
    may_be_version_3,
    is_of_shard,
    counted
});

impl LinkVersion {
    pub(crate) fn new(protocol: LinkProtocol, is_of_shard: bool) -> Self {
        let hold = Hold::new(protocol);
        LinkVersion {
            may_be_version_3: hold.may_be_version_3(),
            hold,
            is_of_shard,
            counted: None,
        }
    }

    /// Returns whether the link has version 2, so that what is written is gone.
    #[inline]
    pub(crate) fn is_version_2(&self) -> bool {
        self.hold.is_version_2()
    }

    /// Returns whether version 3 is over the link now.
    pub(crate) fn is_granted(&self) -> bool {
        self.hold.is_granted()
    }

    /// Returns the features of notices that are made now; `None`: they are those of version 2.
    #[inline(always)]
    pub(crate) fn features(&self) -> Option<Features> {
        if self.may_be_version_3 {
            self.features_if_version_3()
        } else {
            None
        }
    }

    #[cold]
    #[inline(never)]
    fn features_if_version_3(&self) -> Option<Features> {
        match &self.counted {
            Some(counted) => Some(counted.link.features),
            None if self.hold.is_decided() => None,
            None => Some(Features::from_bits(u32::MAX)),
        }
    }

    /// Returns whether a packet of a client is acknowledged to it when the backend has it.
    pub(crate) fn is_end_to_end(&self) -> bool {
        let counted = self.counted.as_deref();
        counted.is_some_and(|counted| counted.link.features.has(Feature::EndToEnd))
    }

    /// Returns whether frames are kept until they are acknowledged.
    fn keeps(&self) -> bool {
        self.counted.is_some()
    }

    // ---- a link comes and goes

    /// Handles that a link is up, when `written` bytes were written to all links before.
    pub(crate) fn connected(&mut self, now: Time, written: u64) {
        match self.is_of_shard {
            true => self.hold.await_trunk(),
            false => self.hold.connected(now, written, self.keeps()),
        }
    }

    /// Handles that the link is gone.
    pub(crate) fn closed(&mut self, frames: &mut FrameQueue) {
        self.hold.closed();
        match &mut self.counted {
            Some(counted) => {
                counted.sent.lose_stream(frames);
                counted.link.lose_link();
            }
            None => frames.rewind(),
        }
    }

    /// Returns when something is due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let acks = self.counted.as_ref();
        let acks = acks.filter(|_| self.hold.is_granted() && !self.is_of_shard);
        self.hold
            .deadline()
            .or(acks.map(|counted| counted.link.receipts.deadline()))
    }

    /// Handles that a hold may be over. Returns how the link came to have version 2, if it did.
    ///
    /// # Errors
    /// When the backend had to ask.
    pub(crate) fn end_hold(
        &mut self,
        now: Time,
        frames: &mut FrameQueue,
    ) -> Result<Option<Version2>, Wrong> {
        self.hold.end(now).map(|how| rewritten(how, frames))
    }

    /// Returns whether the backend does not ask where it has to, as the log has it.
    pub(crate) fn is_unasked(&self) -> bool {
        self.hold.is_unasked()
    }

    /// Returns whether this is the first time that a backend did not ask where it has to.
    pub(crate) fn complains(&mut self) -> bool {
        self.hold.complains()
    }

    /// Returns whether a link of this run had version 3.
    pub(crate) fn is_counted(&self) -> bool {
        self.counted.is_some()
    }

    // ---- what outlives the process

    /// Appends what this run knows of its link, of which there is none now. (SPEC 39.2)
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        let Some(counted) = &self.counted else {
            let form = match self.features() {
                None => SavedVersion::VERSION_2,
                Some(_) => SavedVersion::NEW,
            };
            return out.push(form);
        };
        out.push(SavedVersion::COUNTED);
        counted.link.save(out);
        out.extend_from_slice(&counted.longest_body.to_le_bytes());
        let sent = &counted.sent;
        let received = counted.link.receipts.received();
        put_numbers(
            out,
            &[sent.acknowledged(), sent.highest(), counted.owned, received],
        );
    }

    /// Goes on as another process of this run did, whose frames wait in `frames`. `with_counts`: and with its counts, since all of its frames
    /// are here, and in order.
    pub(crate) fn restore(
        &mut self,
        now: Time,
        saved: &SavedVersion,
        with_counts: bool,
        frames: &mut FrameQueue,
    ) {
        match saved {
            SavedVersion::Version2 => self.hold.decide(),
            _ if !self.may_be_version_3 => to_version_2(frames),
            SavedVersion::Counted(counted)
                if with_counts && counted.fits(frames.packets() as u64) =>
            {
                self.hold.decide();
                let features = Features::from_bits(counted.features);
                let link = LinkCounts::new(now, counted.boot, features, counted.is_confirmed);
                self.counted = Some(Box::new(Counted {
                    link: link.after(now, counted.received),
                    longest_body: counted.longest_body,
                    sent: Sent::after(counted.acknowledged, counted.highest),
                    owned: counted.owned,
                }));
            }
            SavedVersion::New | SavedVersion::Counted(_) => {}
        }
    }

    /// Returns whether the link of another process can go on, in version 2.
    #[cfg(feature = "upgrade")]
    pub(crate) fn goes_on_in_version_2(&self) -> bool {
        self.counted.is_none() && self.hold.goes_on_in_version_2()
    }

    // ---- ask and grant

    /// Returns whether a frame of the backend may be one of version 3.
    #[inline]
    pub(crate) fn may_be_version_3(&self) -> bool {
        self.may_be_version_3
    }

    /// Handles that the backend does not share the secret. Returns whether the link is to be dropped at once.
    pub(crate) fn refuse(&mut self, now: Time) -> bool {
        self.hold.refuse(now)
    }

    /// Returns whether the link waits for the backend's first frame.
    pub(crate) fn is_held(&self) -> bool {
        self.hold.is_held()
    }

    /// Handles the first frame of a backend that does not ask, like [`end_hold`](Self::end_hold).
    ///
    /// # Errors
    /// When it had to ask.
    pub(crate) fn is_not_asked(
        &mut self,
        frames: &mut FrameQueue,
    ) -> Result<Option<Version2>, Wrong> {
        self.hold.is_not_asked().map(|how| rewritten(how, frames))
    }

    /// Handles an ASK to the edge of this run, which has written so many bytes to all links and offers these features (SPEC 34.2). GRANT is to be
    /// [made](Self::make_control) next.
    ///
    /// # Errors
    /// When it is too late.
    pub(crate) fn grant(
        &mut self,
        now: Time,
        ask: &Ask,
        (run, written, offered): ([u8; 8], u64, Features),
        frames: &mut FrameQueue,
    ) -> Result<Granting, Wrong> {
        self.hold.grant(written)?;
        let features = offered.grant(ask.features);
        let known = self.counted.as_deref_mut();
        let known = known.filter(|counted| counted.link.are_those_of(ask, run, features));
        if let Some(counted) = known
            && counted.sent.resume(ask.received, frames).is_ok()
        {
            counted.longest_body = ask.longest_body;
            counted.link.resume(now, ask);
            return Ok(Granting::GoesOn);
        }
        frames.rewind();
        // One that knows the run and loses the link before it reads GRANT asks again with the counts that it had (SPEC 37.4(d)).
        let is_confirmed = ask.run != Some(run);
        self.counted = Some(Box::new(Counted {
            link: LinkCounts::new(now, ask.boot, features, is_confirmed),
            longest_body: ask.longest_body,
            sent: Sent::default(),
            owned: 0,
        }));
        Ok(Granting::Anew)
    }

    /// Returns the frames received from this boot.
    pub(crate) fn received(&self) -> u64 {
        self.counted
            .as_ref()
            .map_or(0, |counted| counted.link.receipts.received())
    }

    /// Returns the count of the last frame that waits.
    pub(crate) fn end(&self, frames: &FrameQueue) -> u64 {
        let counted = self.counted.as_deref();
        counted.map_or(0, |counted| counted.sent.end(frames))
    }

    /// Returns whether this boot of the backend can have taken the frame of this count: it was written whole, or, by a shard, handed up.
    #[inline]
    pub(crate) fn can_have_taken(&self, count: u64) -> bool {
        let counted = self.counted.as_deref();
        count <= counted.map_or(0, |counted| counted.sent.highest())
    }

    /// Returns the longest body that the backend takes, in bytes (SPEC 34.2(d)).
    pub(crate) fn longest_body(&self) -> u32 {
        let counted = self.counted.as_deref();
        counted.map_or(u32::MAX, |counted| counted.longest_body)
    }

    /// Returns the longest packet of a client that the backend takes, in bytes.
    #[cold]
    #[inline(never)]
    pub(crate) fn longest_packet(&self) -> u32 {
        let tag_bytes = u32::try_from(TAG_BYTES).unwrap_or(0);
        self.longest_body().saturating_sub(tag_bytes)
    }

    /// Makes GRANT, which goes before everything that waits.
    pub(crate) fn make_control(&mut self, make: impl FnOnce(&mut Vec<u8>)) {
        if let Some(counted) = &mut self.counted {
            counted.link.make_control(make);
        }
    }

    // ---- what is counted

    /// Counts a frame of the backend.
    pub(crate) fn count(&mut self, now: Time, body: &[u8], frames: &FrameQueue) {
        let Some(counted) = self.counted.as_deref_mut().filter(|_| is_counted(body)) else {
            return;
        };
        // A backend sends nothing before GRANT.
        counted.link.confirm(true);
        if counted.link.receipts.count(now, body.len()) && !self.is_of_shard {
            counted.acknowledge(now, frames);
        }
    }

    /// Makes the acknowledgement that is due.
    pub(crate) fn handle_timeout(&mut self, now: Time, frames: &FrameQueue) {
        if self.hold.is_granted()
            && !self.is_of_shard
            && let Some(counted) = self.counted.as_deref_mut()
            && counted.link.receipts.deadline() <= now
        {
            counted.acknowledge(now, frames);
        }
    }

    /// Handles the acknowledgement of ASK once the frames have come that go before it. Passes the bodies of the frames that are gone to
    /// `each`, and returns how many they are.
    ///
    /// # Errors
    /// When there are more of them, or what it acknowledges was not sent.
    pub(crate) fn hear_asked(
        &mut self,
        frames: &mut FrameQueue,
        each: impl FnMut(&[u8]),
    ) -> Result<usize, Wrong> {
        let Some(counted) = self.counted.as_deref_mut() else {
            return Ok(0);
        };
        match counted.link.take_asked() {
            Some(ack) => counted.hear(ack, frames, each),
            None => Ok(0),
        }
    }

    /// Handles a LINK_ACK, like [`hear_asked`](Self::hear_asked).
    ///
    /// # Errors
    /// When the two ends count differently.
    pub(crate) fn hear(
        &mut self,
        ack: LinkAck,
        frames: &mut FrameQueue,
        each: impl FnMut(&[u8]),
    ) -> Result<usize, Wrong> {
        match self.counted.as_deref_mut() {
            Some(counted) => counted.hear(ack, frames, each),
            None => Ok(0),
        }
    }

    /// Forgets the counts: the two ends do not agree on them. The next link begins anew.
    pub(crate) fn forget_counts(&mut self) {
        if let Some(counted) = &mut self.counted {
            counted.link.forget();
        }
    }

    /// Forgets what was sent and acknowledged, when there is no link: the next one begins anew, and `frames` may change.
    #[cfg(feature = "backends")]
    pub(crate) fn begin_again(&mut self, frames: &mut FrameQueue) {
        frames.rewind();
        if let Some(counted) = &mut self.counted {
            counted.link.forget();
            (counted.sent, counted.owned) = (Sent::default(), 0);
        }
    }

    // ---- what is handed up to the trunk

    /// Sets how many OWN the frames begin with, for a boot that knows nothing.
    pub(crate) fn begin_with_owns(&mut self, owns: u64) {
        if let Some(counted) = &mut self.counted {
            counted.owned = owns;
        }
    }

    /// Returns whether an OWN is still to be handed up, or sent.
    pub(crate) fn has_owns(&self) -> bool {
        let counted = self.counted.as_deref();
        counted.is_some_and(|counted| counted.sent.sent() < counted.owned)
    }

    /// Copies the next frames to `batch`, and keeps them until they are acknowledged: one batch at most, and no others behind the last OWN.
    pub(crate) fn hand_up(&mut self, frames: &mut FrameQueue, batch: &mut Batch) {
        let Some(counted) = &mut self.counted else {
            return;
        };
        let sent = counted.sent.sent();
        let most = match counted.owned.checked_sub(sent) {
            Some(owns @ 1..) => usize::try_from(owns).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let bytes = batch.copy_frames(frames.output(), most, BATCH_BYTES);
        counted.sent.advance(bytes, frames);
    }

    // ---- what is written

    /// Returns the bytes to be written now.
    #[cold]
    #[inline(never)]
    pub(crate) fn output<'a>(&'a self, frames: &'a FrameQueue) -> [&'a [u8]; 2] {
        let counted = match &self.counted {
            _ if self.hold.is_version_2() => return [frames.output(), &[]],
            Some(counted) if self.hold.is_granted() => counted,
            _ => return [&[], &[]],
        };
        let control = counted.link.control();
        if control.is_empty() && counted.is_ack_next() && counted.sent.is_mid_frame() {
            return [counted.sent.rest_of_frame(frames), &[]];
        }
        [control, frames.output()]
    }

    /// Handles that `bytes` bytes of the [output](Self::output) are written.
    #[cold]
    #[inline(never)]
    pub(crate) fn written(&mut self, bytes: usize, frames: &mut FrameQueue) {
        let Some(counted) = &mut self.counted else {
            return;
        };
        let bytes = counted.link.control_written(bytes);
        counted.sent.advance(bytes, frames);
        if !counted.link.features.has(Feature::LinkAcks) {
            let sent = counted.sent.sent();
            // What was sent is gone, as in version 2.
            let _none_is_beyond = counted.sent.acknowledge(sent, frames);
        }
        counted.make_ack();
    }
}

impl Counted {
    /// Acknowledges all that was received, behind all that waits.
    fn acknowledge(&mut self, now: Time, frames: &FrameQueue) {
        self.link.acknowledge(now, self.sent.end(frames));
        self.make_ack();
    }

    /// Returns whether an acknowledgement is next.
    fn is_ack_next(&self) -> bool {
        self.link.is_ack_next(self.sent.sent())
    }

    fn make_ack(&mut self) {
        if !self.sent.is_mid_frame() {
            self.link.make_ack(self.sent.sent());
        }
    }

    fn hear(
        &mut self,
        ack: LinkAck,
        frames: &mut FrameQueue,
        each: impl FnMut(&[u8]),
    ) -> Result<usize, Wrong> {
        self.link.check(ack)?;
        self.link.confirm(true);
        let known = self.sent.acknowledged()..=self.sent.sent();
        if self.link.features.has(Feature::EndToEnd) && known.contains(&ack.acknowledged) {
            let gone = ack.acknowledged - known.start();
            let gone = usize::try_from(gone).unwrap_or(usize::MAX);
            frames.bodies().take(gone).for_each(each);
        }
        let heard = self.sent.acknowledge(ack.acknowledged, frames);
        heard.map_err(|error| Wrong::Acknowledged {
            acknowledged: error.count,
            sent: error.sent,
        })
    }
}

/// Rewrites frames for the first link of version 2.
fn rewritten(how: Option<Version2>, frames: &mut FrameQueue) -> Option<Version2> {
    if how == Some(Version2::First) {
        to_version_2(frames);
    }
    how
}
