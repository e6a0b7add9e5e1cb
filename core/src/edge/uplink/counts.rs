//! What both ends of a link of version 3 count, whoever has the frames: the edge that keeps them, or the trunk whose shards do (SPEC 37).

use crate::edge::uplink::hold::Wrong;
use crate::edge::uplink::receipts::Receipts;
use crate::link::v3::{Ask, Feature, Features, LinkAck};
use crate::time::Time;

/// What a link was granted with, what came over it, and what is acknowledged in each direction.
#[derive(Clone, Debug)]
pub(crate) struct LinkCounts {
    boot: [u8; 16],
    /// Whether counts of this boot are these: it has read GRANT, or has none of this run from before (SPEC 37.4(d)).
    is_confirmed: bool,
    pub(crate) features: Features,
    /// The frames that come.
    pub(crate) receipts: Receipts,
    /// What is to be acknowledged behind the frame of this count.
    ack: Option<(u64, u64)>,
    /// The acknowledgement in ASK, and the frames of the backend that go before it.
    asked: Option<(u64, u64)>,
    /// GRANT or LINK_ACK, and how much of it is written.
    control: Vec<u8>,
    control_written: usize,
}

image!(LinkCounts {
    boot,
    is_confirmed,
    features,
    receipts,
    ack,
    asked,
    control,
    control_written
});

impl LinkCounts {
    /// Begins to count for a boot that knows nothing.
    pub(crate) fn new(now: Time, boot: [u8; 16], features: Features, is_confirmed: bool) -> Self {
        LinkCounts {
            boot,
            is_confirmed,
            features,
            receipts: Receipts::new(now),
            ack: None,
            asked: None,
            control: Vec::new(),
            control_written: 0,
        }
    }

    /// Goes on as another process of this run did, which had received so many frames.
    pub(crate) fn after(self, now: Time, received: u64) -> Self {
        LinkCounts {
            receipts: Receipts::after(now, received),
            ..self
        }
    }

    /// Appends what names these counts, for another process of this run: the boot, whether it knows them, and the features. (SPEC 39.2)
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.boot);
        out.push(self.is_confirmed.into());
        out.extend_from_slice(&self.features.bits().to_le_bytes());
    }

    /// Returns whether a backend that asks an edge of `run` goes on with these counts (SPEC 37.3), if what it has received was sent.
    pub(crate) fn are_those_of(&self, ask: &Ask, run: [u8; 8], features: Features) -> bool {
        self.is_confirmed
            && self.boot == ask.boot
            && self.features == features
            && ask.run == Some(run)
            && ask.acknowledged <= ask.received
    }

    /// Goes on where the last link ended.
    pub(crate) fn resume(&mut self, now: Time, ask: &Ask) {
        self.asked = Some((ask.acknowledged, ask.sent));
        self.receipts.resume(now);
    }

    /// Handles that the link is gone.
    pub(crate) fn lose_link(&mut self) {
        (self.ack, self.asked) = (None, None);
        self.control.clear();
        self.control_written = 0;
    }

    /// Handles that the backend has read GRANT, or need not, so that its counts of this boot are these.
    pub(crate) fn confirm(&mut self, is_confirmed: bool) {
        self.is_confirmed = is_confirmed;
    }

    /// Forgets that the backend knows these counts: the two ends do not agree on them.
    pub(crate) fn forget(&mut self) {
        self.is_confirmed = false;
        self.asked = None;
    }

    // ---- GRANT and LINK_ACK

    /// Makes what goes before all else.
    pub(crate) fn make_control(&mut self, make: impl FnOnce(&mut Vec<u8>)) {
        make(&mut self.control);
    }

    /// Acknowledges all that was received, behind the frame of the count `end`. An acknowledgement that waits already goes first.
    pub(crate) fn acknowledge(&mut self, now: Time, end: u64) {
        let are_granted = self.features.has(Feature::LinkAcks);
        if !are_granted || self.ack.is_some() {
            self.receipts.put_off(now, are_granted);
        } else {
            self.ack = Some((self.receipts.tell(now), end));
        }
    }

    /// Returns whether an acknowledgement is next, once no frame is half-written, where `sent` frames are written.
    pub(crate) fn is_ack_next(&self, sent: u64) -> bool {
        self.ack.is_some_and(|(_, behind)| sent >= behind)
    }

    /// Makes the acknowledgement that is next, if one is. No frame is half-written.
    pub(crate) fn make_ack(&mut self, sent: u64) {
        if self.control.is_empty()
            && self.is_ack_next(sent)
            && let Some((acknowledged, _)) = self.ack.take()
        {
            LinkAck { acknowledged, sent }.encode(&mut self.control);
        }
    }

    /// Returns what goes before all else.
    pub(crate) fn control(&self) -> &[u8] {
        self.control.get(self.control_written..).unwrap_or_default()
    }

    /// Handles that `bytes` bytes of the output were written. Returns how many of them are behind the [control](Self::control).
    pub(crate) fn control_written(&mut self, bytes: usize) -> usize {
        let of_control = bytes.min(self.control().len());
        self.control_written += of_control;
        if self.control_written == self.control.len() {
            self.control.clear();
            self.control_written = 0;
        }
        bytes - of_control
    }

    // ---- what the backend acknowledges

    /// Returns whether the backend has sent as many frames as came, by its own count.
    ///
    /// # Errors
    /// When the two ends count differently.
    pub(crate) fn check(&self, ack: LinkAck) -> Result<(), Wrong> {
        let ours = self.receipts.received();
        match ack.sent == ours {
            true => Ok(()),
            false => Err(Wrong::Miscounted {
                theirs: ack.sent,
                ours,
            }),
        }
    }

    /// Takes the acknowledgement in ASK, once the frames have come that go before it.
    pub(crate) fn take_asked(&mut self) -> Option<LinkAck> {
        let (acknowledged, sent) = self.asked?;
        (sent <= self.receipts.received()).then(|| {
            self.asked = None;
            LinkAck { acknowledged, sent }
        })
    }
}
