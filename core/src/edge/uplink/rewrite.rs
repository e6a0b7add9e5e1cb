//! Frames that wait for the backend, in the forms that a backend takes: of version 2, or of version 3 for a boot that knows nothing (SPEC
//! 34.1, 37.4).

use std::collections::BTreeSet;

use crate::code::Code;
use crate::edge::counters::{EndReason, UNKNOWN_CLIENT};
use crate::id::ClientId;
use crate::ledger::Ledger;
use crate::link::tagged::{Flag, TAG_BYTES, Tagged};
use crate::link::v3::{Ended, Feature, Features, ToBackend, flag};
use crate::queue::FrameQueue;

/// Rewrites frames in the form of version 2.
pub(crate) fn to_version_2(frames: &mut FrameQueue) {
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

/// Rewrites frames for a boot that knows nothing: packets, JOINED, TOKEN and ENDED stay (SPEC 37.4).
pub(crate) fn to_new_boot(frames: &mut FrameQueue, features: Features) {
    let has_notices = features.has(Feature::Notices);
    rewrite(frames, |body, out| match flag_of(body) {
        flag::DATA => out.push_body(body),
        flag::JOINED | flag::ENDED if has_notices => out.push_body(body),
        flag::TOKEN if has_notices => out.push_body(body),
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

/// Drops packets that are longer than the backend takes, and all that follow of their sessions, which are added to `beyond`. A JOINED that is
/// too long with its token goes without.
pub(crate) fn drop_beyond(
    frames: &mut FrameQueue,
    longest: usize,
    beyond: &mut BTreeSet<ClientId>,
) {
    let all = Features::from_bits(u32::MAX);
    rewrite(frames, |body, out| match ToBackend::decode(body, all) {
        Ok(ToBackend::Data { id, .. }) if body.len() > longest || beyond.contains(&id) => {
            beyond.insert(id);
        }
        Ok(ToBackend::Joined { id, mut joined }) if body.len() > longest => {
            joined.token = &[];
            let mut frame = Vec::new();
            ToBackend::Joined { id, joined }.encode(&mut frame);
            out.push_frame(&frame, &[]);
        }
        // GRANT has told that it may not fit (SPEC 34.2(d)).
        Ok(ToBackend::Token { .. }) if body.len() > longest => {}
        _ => out.push_body(body),
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
    let mut reasons = EndReason::ALL.into_iter();
    let reason = reasons.find(|reason| reason.text() == text);
    let ended = Ended {
        code: reason.map_or(Code::GONE, EndReason::code),
        up: Ledger::default(),
        down: Ledger::default(),
        text,
    };
    Some(ToBackend::Ended { id, ended })
}

/// Returns the flag of a frame for the backend.
pub(crate) fn flag_of(body: &[u8]) -> u8 {
    body.get(TAG_BYTES - 1).copied().unwrap_or_default()
}

/// Returns the id and the flag of a frame for the backend.
#[cfg(any(feature = "backends", feature = "cluster"))]
pub(crate) fn head_of(body: &[u8]) -> Option<(ClientId, u8)> {
    let Some((id, [flag, ..])) = body.split_first_chunk() else {
        return None;
    };
    Some((ClientId::from_u64(u64::from_le_bytes(*id)), *flag))
}

/// Returns whether a frame of a session that goes to another backend goes along: what no backend has acknowledged, but no notices that OWN
/// says, too (SPEC 45.6(d)).
#[cfg(feature = "backends")]
pub(crate) fn is_repeated(body: &[u8]) -> bool {
    matches!(flag_of(body), flag::DATA | flag::JOINED | flag::TOKEN)
}

/// Passes each frame to `each`, with the queue that takes the place of this one.
pub(crate) fn rewrite(frames: &mut FrameQueue, mut each: impl FnMut(&[u8], &mut FrameQueue)) {
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
            let settled = down
                .acknowledged
                .saturating_add(down.superseded)
                .saturating_add(down.gapped);
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
