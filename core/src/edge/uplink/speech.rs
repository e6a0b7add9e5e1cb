//! The version of the link: the one place where it is told apart (SPEC 33.4, 34).
//!
//! A link is of version 2 until a backend asks. So that the first frames of a link count, it is held for a moment before anything is
//! written. Frames for the backend are queued in the form of version 3 until it is decided, and rewritten once if it is version 2.

use core::time::Duration;

use crate::code::Code;
use crate::edge::config::LinkProtocol;
use crate::edge::counters::UNKNOWN_CLIENT;
use crate::id::ClientId;
use crate::ledger::Ledger;
use crate::link::tagged::{Flag, Tagged};
use crate::link::v3::{Ask, Ended, Feature, Features, LinkAck, ToBackend, flag, is_counted};
use crate::queue::{FrameQueue, Sent};
use crate::time::Time;

/// How long the first link of a run is held.
pub(crate) const HOLD: Duration = Duration::from_millis(100);
/// How long a link is held on which the backend must ask, or after one on which it asked too late.
pub(crate) const LONG_HOLD: Duration = Duration::from_secs(5);

/// Frames of the backend after which they are acknowledged.
const ACK_FRAMES: u64 = 256;
/// Their bytes.
const ACK_BYTES: usize = 64 * 1024;
/// The longest time until then.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// The longest time between two acknowledgements.
const ACK_INTERVAL: Duration = Duration::from_secs(5);

/// What the link is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// There is none, or it has version 2.
    Tagged,
    /// It waits for the backend's first frame until then. `demands` it to be an ASK.
    Held { until: Time, demands: bool },
    /// It has version 3.
    Granted,
}

/// Why a link must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    /// The backend asked after something was sent.
    #[error("the backend asked for version 3 of the link too late; the next link waits for it")]
    Late,
    /// The backend did not ask.
    #[error("the backend does not ask for version 3 of the link")]
    NotAsked,
    /// An acknowledgement that cannot be.
    #[error("the backend acknowledges frame {acknowledged}, and {sent} were sent")]
    Acknowledged {
        /// What it acknowledges.
        acknowledged: u64,
        /// What was sent.
        sent: u64,
    },
    /// The two ends count differently.
    #[error("the backend has sent {theirs} frames by its own count, and {ours} came")]
    Miscounted {
        /// The backend's count.
        theirs: u64,
        /// The edge's.
        ours: u64,
    },
}

/// How a link was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Granting {
    /// It goes on where the last one ended (SPEC 37.3).
    GoesOn,
    /// The backend knows nothing of this run.
    Anew,
}

/// What both ends count (SPEC 37), from the first grant on.
#[derive(Clone, Debug)]
struct Counted {
    boot: [u8; 16],
    /// Whether counts of this boot are these: it has read GRANT, or has none of this run from before.
    is_confirmed: bool,
    features: Features,
    /// The longest body that the backend takes, in bytes.
    longest_body: u32,
    /// The frames of the queue.
    sent: Sent,
    /// Frames received from this boot.
    received: u64,
    /// The count in the last LINK_ACK, and the bytes received since.
    told: u64,
    untold_bytes: usize,
    /// When an acknowledgement is due.
    ack_at: Time,
    /// What is to be acknowledged behind the frame of this count.
    ack: Option<(u64, u64)>,
    /// The acknowledgement in ASK, and the frames of the backend that go before it.
    asked: Option<(u64, u64)>,
    /// GRANT or LINK_ACK, and how much of it is written.
    control: Vec<u8>,
    control_written: usize,
}

/// The version of the link, and how it came to it.
#[derive(Clone, Debug)]
pub(crate) struct Speech {
    protocol: LinkProtocol,
    stage: Stage,
    /// Whether the link has, or could have, version 3: one load where each packet goes by.
    may_be_new: bool,
    counted: Option<Box<Counted>>,
    /// Whether some link of this run was decided.
    is_decided: bool,
    was_late: bool,
    /// The bytes that had been written to all links when this one came.
    written_before: u64,
    /// Whether the log has it that the backend does not ask.
    has_complained: bool,
}

impl Speech {
    pub(crate) fn new(protocol: LinkProtocol) -> Self {
        Speech {
            protocol,
            stage: Stage::Tagged,
            may_be_new: protocol != LinkProtocol::V2,
            counted: None,
            is_decided: protocol == LinkProtocol::V2,
            was_late: false,
            written_before: 0,
            has_complained: false,
        }
    }

    /// Returns whether the link has version 2, so that what is written is gone.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.stage, Stage::Tagged)
    }

    /// Returns whether version 3 is over the link now.
    pub(crate) fn is_granted(&self) -> bool {
        self.stage == Stage::Granted
    }

    /// Returns the features of notices that are made now; `None`: they are those of version 2.
    #[inline(always)]
    pub(crate) fn features(&self) -> Option<Features> {
        if self.may_be_new {
            self.features_if_new()
        } else {
            None
        }
    }

    #[cold]
    #[inline(never)]
    fn features_if_new(&self) -> Option<Features> {
        match &self.counted {
            Some(counted) => Some(counted.features),
            None if self.is_decided => None,
            None => Some(Features::from_bits(u32::MAX)),
        }
    }

    /// Returns whether a packet of a client is acknowledged to it when the backend has it.
    pub(crate) fn is_end_to_end(&self) -> bool {
        let counted = self.counted.as_deref();
        counted.is_some_and(|counted| counted.features.has(Feature::EndToEnd))
    }

    /// Returns whether frames are kept until they are acknowledged.
    fn keeps(&self) -> bool {
        self.counted.is_some()
    }

    // ---- a link comes and goes

    /// Handles that a link is up, when `written` bytes were written to all links before.
    pub(crate) fn connected(&mut self, now: Time, written: u64) {
        self.written_before = written;
        let held = |lasts, demands| Stage::Held {
            until: now + lasts,
            demands,
        };
        self.stage = match self.protocol {
            LinkProtocol::V2 => Stage::Tagged,
            LinkProtocol::V3 => held(LONG_HOLD, true),
            LinkProtocol::Auto if self.keeps() => held(LONG_HOLD, true),
            LinkProtocol::Auto if self.was_late => held(LONG_HOLD, false),
            LinkProtocol::Auto if !self.is_decided => held(HOLD, false),
            LinkProtocol::Auto => Stage::Tagged,
        };
    }

    /// Handles that the link is gone.
    pub(crate) fn closed(&mut self, frames: &mut FrameQueue) {
        self.stage = Stage::Tagged;
        match &mut self.counted {
            Some(counted) => {
                counted.sent.lose_stream(frames);
                counted.control.clear();
                (counted.control_written, counted.ack, counted.asked) = (0, None, None);
            }
            None => frames.rewind(),
        }
    }

    /// Returns when something is due.
    pub(crate) fn deadline(&self) -> Option<Time> {
        match (self.stage, &self.counted) {
            (Stage::Tagged, _) => None,
            (Stage::Held { until, .. }, _) => Some(until),
            (Stage::Granted, counted) => counted.as_ref().map(|counted| counted.ack_at),
        }
    }

    /// Handles that a hold is over.
    ///
    /// # Errors
    /// When the backend had to ask.
    pub(crate) fn end_hold(&mut self, now: Time, frames: &mut FrameQueue) -> Result<bool, Wrong> {
        match self.stage {
            Stage::Held { until, demands } if until <= now => match demands {
                true => {
                    // Until the adapter has closed it.
                    self.stage = Stage::Held {
                        until: now + LONG_HOLD,
                        demands,
                    };
                    Err(Wrong::NotAsked)
                }
                false => {
                    self.decide_for_tagged(frames);
                    Ok(true)
                }
            },
            _ => Ok(false),
        }
    }

    fn decide_for_tagged(&mut self, frames: &mut FrameQueue) {
        self.stage = Stage::Tagged;
        if !self.is_decided {
            self.is_decided = true;
            to_tagged(frames);
        }
    }

    /// Returns whether the backend does not ask where it has to, as the log has it.
    pub(crate) fn is_unasked(&self) -> bool {
        self.has_complained
    }

    /// Returns whether this is the first time that a backend did not ask where it has to.
    pub(crate) fn complains(&mut self) -> bool {
        !core::mem::replace(&mut self.has_complained, true)
    }

    // ---- ask and grant

    /// Returns whether a frame of the backend may be one of version 3.
    #[inline]
    pub(crate) fn may_be_new(&self) -> bool {
        self.may_be_new
    }

    /// Returns whether the link waits for the backend's first frame.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Held { .. })
    }

    /// Handles the first frame of a backend that does not ask.
    ///
    /// # Errors
    /// When it had to ask.
    pub(crate) fn is_not_asked(&mut self, frames: &mut FrameQueue) -> Result<bool, Wrong> {
        match self.stage {
            Stage::Held { demands: true, .. } => Err(Wrong::NotAsked),
            Stage::Held { .. } => {
                self.decide_for_tagged(frames);
                Ok(true)
            }
            Stage::Tagged | Stage::Granted => Ok(false),
        }
    }

    /// Handles an ASK to the edge of this run, which has written so many bytes to all links (SPEC 34.2). GRANT is to be [made](Self::make_control) next.
    ///
    /// # Errors
    /// When it is too late.
    pub(crate) fn grant(
        &mut self,
        now: Time,
        ask: &Ask,
        (run, written): ([u8; 8], u64),
        offered: Features,
        frames: &mut FrameQueue,
    ) -> Result<Granting, Wrong> {
        if self.stage == Stage::Tagged && written > self.written_before {
            self.was_late = true;
            return Err(Wrong::Late);
        }
        self.was_late = false;
        self.is_decided = true;
        self.has_complained = false;
        self.stage = Stage::Granted;
        let features = offered.grant(ask.features);
        let known = self.counted.as_deref_mut();
        let known = known.filter(|counted| {
            counted.boot == ask.boot
                && counted.is_confirmed
                && ask.run == Some(run)
                && counted.features == features
        });
        if let Some(counted) = known
            && ask.acknowledged <= ask.received
            && counted.sent.resume(ask.received, frames).is_ok()
        {
            counted.asked = Some((ask.acknowledged, ask.sent));
            counted.longest_body = ask.longest_body;
            // What was acknowledged on the last link may not have arrived.
            (counted.told, counted.ack_at) = (0, now + ACK_DELAY);
            return Ok(Granting::GoesOn);
        }
        frames.rewind();
        self.counted = Some(Box::new(Counted {
            boot: ask.boot,
            // One that knows the run and loses the link before it reads GRANT asks again with the counts that it had (SPEC 37.4(d)).
            is_confirmed: ask.run != Some(run),
            features,
            longest_body: ask.longest_body,
            sent: Sent::default(),
            received: 0,
            told: 0,
            untold_bytes: 0,
            ack_at: now + ACK_INTERVAL,
            ack: None,
            asked: None,
            control: Vec::new(),
            control_written: 0,
        }));
        Ok(Granting::Anew)
    }

    /// Returns the frames received from this boot.
    pub(crate) fn received(&self) -> u64 {
        self.counted.as_ref().map_or(0, |counted| counted.received)
    }

    /// Returns the longest body that the backend takes, in bytes (SPEC 34.2(d)).
    pub(crate) fn longest_body(&self) -> u32 {
        let counted = self.counted.as_deref();
        counted.map_or(u32::MAX, |counted| counted.longest_body)
    }

    /// Makes GRANT, which goes before everything that waits.
    pub(crate) fn make_control(&mut self, make: impl FnOnce(&mut Vec<u8>)) {
        if let Some(counted) = &mut self.counted {
            make(&mut counted.control);
        }
    }

    // ---- what is counted

    /// Counts a frame of the backend.
    pub(crate) fn count(&mut self, now: Time, body: &[u8], frames: &FrameQueue) {
        let Some(counted) = self.counted.as_deref_mut().filter(|_| is_counted(body)) else {
            return;
        };
        if counted.received == counted.told {
            counted.ack_at = counted.ack_at.min(now + ACK_DELAY);
        }
        // A backend sends nothing before GRANT.
        counted.is_confirmed = true;
        counted.received += 1;
        counted.untold_bytes += body.len();
        let is_due =
            counted.received - counted.told >= ACK_FRAMES || counted.untold_bytes >= ACK_BYTES;
        if is_due {
            counted.acknowledge(now, frames);
        }
    }

    /// Makes the acknowledgement that is due.
    pub(crate) fn handle_timeout(&mut self, now: Time, frames: &FrameQueue) {
        if let (Stage::Granted, Some(counted)) = (self.stage, self.counted.as_deref_mut())
            && counted.ack_at <= now
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
        match counted.asked {
            Some((acknowledged, sent)) if sent <= counted.received => {
                counted.asked = None;
                let ack = LinkAck { acknowledged, sent };
                counted.hear(ack, frames, each)
            }
            _ => Ok(0),
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
            counted.boot = [0; 16];
        }
    }

    // ---- what is written

    /// Returns the bytes to be written now.
    #[cold]
    #[inline(never)]
    pub(crate) fn output<'a>(&'a self, frames: &'a FrameQueue) -> [&'a [u8]; 2] {
        let counted = match (self.stage, &self.counted) {
            (Stage::Tagged, _) => return [frames.output(), &[]],
            (Stage::Held { .. }, _) | (Stage::Granted, None) => return [&[], &[]],
            (Stage::Granted, Some(counted)) => counted,
        };
        let control = counted.control.get(counted.control_written..);
        let control = control.unwrap_or_default();
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
        let control = counted.control.len() - counted.control_written;
        let of_control = bytes.min(control);
        counted.control_written += of_control;
        if counted.control_written == counted.control.len() {
            counted.control.clear();
            counted.control_written = 0;
        }
        counted.sent.advance(bytes - of_control, frames);
        if !counted.features.has(Feature::LinkAcks) {
            let sent = counted.sent.sent();
            // What was sent is gone, as in version 2.
            let _none_is_beyond = counted.sent.acknowledge(sent, frames);
        }
        counted.make_ack();
    }
}

impl Counted {
    /// Acknowledges all that was received, behind all that waits. One that waits already goes first.
    fn acknowledge(&mut self, now: Time, frames: &FrameQueue) {
        if !self.features.has(Feature::LinkAcks) {
            self.ack_at = now + ACK_INTERVAL;
        } else if self.ack.is_some() {
            self.ack_at = now + ACK_DELAY;
        } else {
            self.ack = Some((self.received, self.sent.end(frames)));
            (self.told, self.untold_bytes) = (self.received, 0);
            self.ack_at = now + ACK_INTERVAL;
            self.make_ack();
        }
    }

    /// Returns whether an acknowledgement is next.
    fn is_ack_next(&self) -> bool {
        self.ack
            .is_some_and(|(_, behind)| self.sent.sent() >= behind)
    }

    fn make_ack(&mut self) {
        if self.control.is_empty() && self.is_ack_next() && !self.sent.is_mid_frame() {
            let sent = self.sent.sent();
            if let Some((acknowledged, _)) = self.ack.take() {
                LinkAck { acknowledged, sent }.encode(&mut self.control);
            }
        }
    }

    fn hear(
        &mut self,
        ack: LinkAck,
        frames: &mut FrameQueue,
        each: impl FnMut(&[u8]),
    ) -> Result<usize, Wrong> {
        if ack.sent != self.received {
            return Err(Wrong::Miscounted {
                theirs: ack.sent,
                ours: self.received,
            });
        }
        self.is_confirmed = true;
        let known = self.sent.acknowledged()..=self.sent.sent();
        if self.features.has(Feature::EndToEnd) && known.contains(&ack.acknowledged) {
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

/// Rewrites frames in the form of version 2.
pub(crate) fn to_tagged(frames: &mut FrameQueue) {
    let all = Features::from_bits(u32::MAX);
    rewrite(frames, |body, out| {
        let (id, flag, data) = match ToBackend::decode(body, all) {
            Ok(ToBackend::Data { .. }) => return out.push_body(body),
            Ok(ToBackend::Resumed { id, .. }) => (id, Flag::Resumed, &[][..]),
            Ok(ToBackend::Ended { id, ended }) => (id, Flag::Failure, ended.text.as_bytes()),
            _ => return,
        };
        out.push_frame(&Tagged { id, flag, data }.header(), data);
    });
}

/// Rewrites frames for a boot that knows nothing: packets, JOINED and ENDED stay (SPEC 37.4).
pub(crate) fn to_new_boot(frames: &mut FrameQueue, features: Features) {
    let has_notices = features.has(Feature::Notices);
    rewrite(frames, |body, out| match flag_of(body) {
        flag::DATA => out.push_body(body),
        flag::JOINED | flag::ENDED if has_notices => out.push_body(body),
        FAILURE if has_notices => {
            if let Some(ended) = ended_of(body) {
                let mut frame = Vec::new();
                ended.encode(&mut frame);
                out.push_frame(&frame, &[]);
            }
        }
        _ => {}
    });
}

/// The flag of a notice of version 2 that waits since before the first grant.
const FAILURE: u8 = Flag::Failure as u8;

/// Returns ENDED for a notice of version 2.
fn ended_of(body: &[u8]) -> Option<ToBackend<'_>> {
    let Ok(Tagged { id, data, .. }) = Tagged::decode(body) else {
        return None;
    };
    // That is the answer to a packet for nobody, and no session ended.
    if data == UNKNOWN_CLIENT.as_bytes() {
        return None;
    }
    let text = core::str::from_utf8(data).unwrap_or_default();
    let ended = Ended {
        code: Code::GONE,
        up: Ledger::default(),
        down: Ledger::default(),
        text,
    };
    Some(ToBackend::Ended { id, ended })
}

fn flag_of(body: &[u8]) -> u8 {
    body.get(8).copied().unwrap_or_default()
}

fn rewrite(frames: &mut FrameQueue, mut each: impl FnMut(&[u8], &mut FrameQueue)) {
    frames.rewind();
    if frames.is_empty() {
        return;
    }
    let mut rewritten = FrameQueue::new();
    for body in frames.bodies() {
        each(body, &mut rewritten);
    }
    *frames = rewritten;
}

/// What waits of a session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Waiting {
    /// Packets.
    pub(crate) packets: u64,
    /// Whether its JOINED does.
    pub(crate) joined: bool,
    /// Whether its ENDED does, with the packets up and down that were numbered and what was settled.
    pub(crate) ended: Option<(u64, u64, u64)>,
}

/// Returns what these frames are of: a session, and a change of what waits of it.
pub(crate) fn waiting_of(body: &[u8]) -> Option<(ClientId, Waiting)> {
    let all = Features::from_bits(u32::MAX);
    let mut waiting = Waiting::default();
    let id = match ToBackend::decode(body, all) {
        Ok(ToBackend::Data { id, .. }) => {
            waiting.packets = 1;
            id
        }
        Ok(ToBackend::Joined { id, .. }) => {
            waiting.joined = true;
            id
        }
        Ok(ToBackend::Ended { id, ended }) => {
            let (up, down) = (ended.up, ended.down);
            let settled = down.acknowledged.saturating_add(down.superseded);
            waiting.ended = Some((up.numbered, down.numbered, settled));
            id
        }
        _ if flag_of(body) == FAILURE => {
            waiting.ended = Some((0, 0, 0));
            match ended_of(body)? {
                ToBackend::Ended { id, .. } => id,
                _ => return None,
            }
        }
        _ => return None,
    };
    Some((id, waiting))
}
