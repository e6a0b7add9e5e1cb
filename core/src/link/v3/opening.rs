//! Ask and grant, by which a link becomes one of version 3, and its acknowledgements. (SPEC 34, 37.2)

use super::error::{Cause, FrameError};
#[cfg(any(feature = "cluster", feature = "backend"))]
use super::features::Feature;
use super::features::Features;
use super::fields::{Fields, frame, split};
use super::{VERSION, flag};

/// Bytes of an ASK without a nonce, and without id and flag.
pub(crate) const ASK_BYTES: usize = 57;

/// A backend's wish for version 3: the first frame that it sends on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Ask {
    /// The features asked for.
    pub features: Features,
    /// The life of the backend's memory: random, and new when it starts without its state.
    pub boot: [u8; 16],
    /// The run of the edge that it knows. Without one the counts mean nothing, and are 0.
    pub run: Option<[u8; 8]>,
    /// The count of the last frame received from that run.
    pub received: u64,
    /// The count of the last frame that the application came back from.
    pub acknowledged: u64,
    /// The count of the last frame of the backend that goes before this acknowledgement: of the last one that it has sent on any link.
    pub sent: u64,
    /// The longest frame body that the backend takes, in bytes.
    pub longest_body: u32,
}

image!(Ask {
    features,
    boot,
    run,
    received,
    acknowledged,
    sent,
    longest_body
});

/// Bytes of an edge in the list of an ASK.
#[cfg(any(feature = "cluster", feature = "backend"))]
pub(crate) const KNOWN_BYTES: usize = 38;

/// An edge that the backend knows, in the list of an ASK to one of several. (SPEC 40.3)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg(any(feature = "cluster", feature = "backend"))]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Known {
    /// The range of ids that it issues.
    pub home: u16,
    /// Grows with each process that serves this home.
    pub term: u32,
    /// Its run. Zeros: the backend has given it up, and no run of this term goes on.
    pub run: [u8; 8],
    /// What [`Ask`] says of the run that it names.
    pub received: u64,
    /// See `received`.
    pub acknowledged: u64,
    /// See `received`.
    pub sent: u64,
}

/// What [`Known::received`] is while the backend does not know how the edge counts: more than any edge has sent, so it begins again.
/// (SPEC 40.3(e))
#[cfg(feature = "backend")]
pub(crate) const COUNTS_UNSURE: u64 = u64::MAX;

#[cfg(any(feature = "cluster", feature = "backend"))]
impl Known {
    /// Returns whether these are counts of a run.
    #[cfg(feature = "backend")]
    pub(crate) fn has_counts_of(&self, run: [u8; 8]) -> bool {
        self.run == run && self.received != COUNTS_UNSURE
    }

    fn read(fields: &mut Fields<'_>) -> Result<Known, Cause> {
        Ok(Known {
            home: fields.u16()?,
            term: fields.u32()?,
            run: fields.array()?,
            received: fields.u64()?,
            acknowledged: fields.u64()?,
            sent: fields.u64()?,
        })
    }
}

#[cfg(any(feature = "cluster", feature = "backend"))]
impl Ask {
    /// Returns the edges that the backend knows, from the body of an ASK. (SPEC 40.3)
    #[must_use]
    pub fn known_of(body: &[u8]) -> Vec<Known> {
        let Some(Ok(ask)) = Ask::of(body) else {
            return Vec::new();
        };
        let Ok((_, _, mut fields)) = split(body) else {
            return Vec::new();
        };
        if !ask.features.has(Feature::Homes) || fields.slice(ASK_BYTES).is_err() {
            return Vec::new();
        }
        let count = fields.u8().unwrap_or(0);
        let known = (0..count).map_while(|_| Known::read(&mut fields).ok());
        known.collect()
    }

    /// Appends the list to what [`encode`](Self::encode) writes.
    #[cfg(feature = "backend")]
    pub(crate) fn write_known(known: &[Known], out: &mut Vec<u8>) {
        out.push(u8::try_from(known.len()).unwrap_or(u8::MAX));
        for edge in known.iter().take(usize::from(u8::MAX)) {
            out.extend_from_slice(&edge.home.to_le_bytes());
            out.extend_from_slice(&edge.term.to_le_bytes());
            out.extend_from_slice(&edge.run);
            for count in [edge.received, edge.acknowledged, edge.sent] {
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
    }
}

impl Ask {
    /// Reads the first body of a link. `None`: it is no ASK, so the link is one of version 2.
    ///
    /// # Errors
    /// [`FrameError`] if it is malformed.
    pub fn of(body: &[u8]) -> Option<Result<Ask, FrameError>> {
        let (id, flag, fields) = split(body).ok()?;
        (flag == flag::ASK).then(|| {
            let ask = link_wide(id).and_then(|()| Ask::read(fields));
            ask.map_err(|cause| FrameError { id, flag, cause })
        })
    }

    fn read(mut fields: Fields<'_>) -> Result<Ask, Cause> {
        version(&mut fields)?;
        let features = Features::from_bits(fields.u32()?);
        let boot = fields.array()?;
        let run: [u8; 8] = fields.array()?;
        let has_run = run != [0; 8];
        let counts = [fields.u64()?, fields.u64()?, fields.u64()?];
        let [received, acknowledged, sent] = if has_run { counts } else { [0; 3] };
        let longest_body = fields.u32()?;
        #[cfg(any(feature = "cluster", feature = "backend"))]
        if features.has(Feature::Homes) && !fields.is_empty() {
            let count = usize::from(fields.u8()?);
            fields.slice(count.saturating_mul(KNOWN_BYTES))?;
        }
        // A longer one is of a later backend.
        Ok(Ask {
            features,
            boot,
            run: has_run.then_some(run),
            received,
            acknowledged,
            sent,
            longest_body,
        })
    }

    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, 0, flag::ASK, |out| self.write(out));
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(&self.features.bits().to_le_bytes());
        out.extend_from_slice(&self.boot);
        out.extend_from_slice(&self.run.unwrap_or_default());
        for count in [self.received, self.acknowledged, self.sent] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        out.extend_from_slice(&self.longest_body.to_le_bytes());
    }
}

/// The edge's answer: the first frame that it sends on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct Grant {
    /// The features granted.
    pub features: Features,
    /// The boot that asked.
    pub boot: [u8; 16],
    /// The range of ids that the edge issues.
    pub home: u16,
    /// Grows with each process that serves this home.
    pub term: u32,
    /// The life of the edge.
    pub run: [u8; 8],
    /// The run that this one continues.
    pub continues: Option<[u8; 8]>,
    /// The count of the last frame received from this boot. `u64::MAX`: both counts begin again, though the backend knows this run.
    pub received: u64,
    /// The most groups that a session can be in.
    pub groups_of_a_session: u16,
    /// The sessions that live and, for a new boot, those that have ended and of which an OWN comes: for a new boot this many OWN follow.
    pub sessions: u32,
}

image!(Grant {
    features,
    boot,
    home,
    term,
    run,
    continues,
    received,
    groups_of_a_session,
    sessions,
});

impl Grant {
    /// Reads the first body of a link. `None`: it is no GRANT, so the link is one of version 2.
    ///
    /// # Errors
    /// [`FrameError`] if it is malformed.
    pub fn of(body: &[u8]) -> Option<Result<Grant, FrameError>> {
        let (id, flag, fields) = split(body).ok()?;
        (flag == flag::GRANT).then(|| {
            let grant = link_wide(id).and_then(|()| Grant::read(fields));
            grant.map_err(|cause| FrameError { id, flag, cause })
        })
    }

    fn read(mut fields: Fields<'_>) -> Result<Grant, Cause> {
        version(&mut fields)?;
        let (features, boot) = (Features::from_bits(fields.u32()?), fields.array()?);
        let (home, term) = (fields.u16()?, fields.u32()?);
        let (run, continues): ([u8; 8], [u8; 8]) = (fields.array()?, fields.array()?);
        // A longer one is of a later edge.
        Ok(Grant {
            features,
            boot,
            home,
            term,
            run,
            continues: (continues != [0; 8]).then_some(continues),
            received: fields.u64()?,
            groups_of_a_session: fields.u16()?,
            sessions: fields.u32()?,
        })
    }

    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, 0, flag::GRANT, |out| {
            out.push(VERSION);
            out.extend_from_slice(&self.features.bits().to_le_bytes());
            out.extend_from_slice(&self.boot);
            out.extend_from_slice(&self.home.to_le_bytes());
            out.extend_from_slice(&self.term.to_le_bytes());
            out.extend_from_slice(&self.run);
            out.extend_from_slice(&self.continues.unwrap_or_default());
            out.extend_from_slice(&self.received.to_le_bytes());
            out.extend_from_slice(&self.groups_of_a_session.to_le_bytes());
            out.extend_from_slice(&self.sessions.to_le_bytes());
        });
    }
}

/// An acknowledgement of frames, in both directions. (SPEC 37.2)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct LinkAck {
    /// The count of the last frame that is dealt with.
    pub acknowledged: u64,
    /// The count of the last frame that its sender sent before.
    pub sent: u64,
}

impl LinkAck {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<LinkAck, Cause> {
        Ok(LinkAck {
            acknowledged: fields.u64()?,
            sent: fields.u64()?,
        })
    }

    /// Appends the frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, 0, flag::LINK_ACK, |out| {
            out.extend_from_slice(&self.acknowledged.to_le_bytes());
            out.extend_from_slice(&self.sent.to_le_bytes());
        });
    }
}

/// Checks the id of a frame that is about the link.
pub(super) fn link_wide(id: u64) -> Result<(), Cause> {
    match id {
        0 => Ok(()),
        _ => Err(Cause::NotLinkWide),
    }
}

/// Reads the version, which is at least this one.
fn version(fields: &mut Fields<'_>) -> Result<(), Cause> {
    match fields.u8()? {
        VERSION.. => Ok(()),
        older => Err(Cause::Value {
            field: "version from 3 on",
            value: older.into(),
        }),
    }
}
