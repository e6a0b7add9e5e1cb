//! Version 3 of the backend link: its frames, for both ends. (SPEC sections 33 to 38)
//!
//! A backend asks for it in the first frame of a link, and the edge grants it in its own first frame. Until then the link is one of
//! version 2, and [`tagged`](super::tagged) is its language.
//!
//! # Reading
//!
//! Ends that have a secret exchange [`Challenge`] and [`Proof`] between ASK and GRANT.
//!
//! Both ends read frames with [`FrameReader`](crate::wire::frame::FrameReader), as in version 2. What decodes borrows from the body.
//!
//! | end | first body | every later body of a link that was granted |
//! | --- | --- | --- |
//! | edge | [`Ask::of`] | [`ToEdge::decode`] |
//! | backend | [`Grant::of`] | [`ToBackend::decode`] |
//!
//! [`Ask::of`] and [`Grant::of`] return `None` for a body of version 2.
//!
//! Each end counts every body for which [`is_counted`] holds, whether or not it decodes (SPEC 37.1): a frame that is refused counts as well.
//!
//! # Writing
//!
//! `encode` of [`Ask`], [`Grant`], [`ToEdge`] and [`ToBackend`] appends a whole frame with its length. It checks nothing: texts, tokens,
//! notes and lists are to be within the bounds below.

mod error;
mod features;
mod fields;
mod lists;
mod opening;
mod proof;
mod to_backend;
mod to_edge;

#[cfg(test)]
mod tests;

pub use error::{Cause, FrameError, Refusal};
pub use features::{Feature, Features};
#[cfg(feature = "backend")]
pub(crate) use lists::ID_BYTES;
#[cfg(feature = "edge")]
pub(crate) use lists::SETTLEMENT_BYTES;
pub use lists::{Ids, Settlements};
#[cfg(feature = "backend")]
pub(crate) use opening::ASK_BYTES;
#[cfg(feature = "backend")]
pub(crate) use opening::COUNTS_UNSURE;
#[cfg(any(feature = "cluster", feature = "backend"))]
pub use opening::Known;
pub use opening::{Ask, Grant, LinkAck};
#[cfg(feature = "backend")]
pub(crate) use proof::refusal_of;
#[cfg(feature = "edge")]
pub(crate) use proof::refuse_ask;
pub use proof::{
    Challenge, LinkSecret, MAX_SECRET_BYTES, MIN_SECRET_BYTES, PROOF_BYTES, Proof, SecretLength,
};
#[cfg(feature = "edge")]
pub(crate) use to_backend::JOINED_BYTES;
pub use to_backend::{
    Adopt, Carriage, Direction, Ended, Joined, Own, OwnState, Peer, Resumed, ToBackend,
};
pub use to_edge::{Adopted, Delivery, Disowned, GoAway, GroupSend, Kick, Overflow, Policy, ToEdge};
#[cfg(feature = "backend")]
pub(crate) use to_edge::{KICK_BYTES, POLICY_BYTES};

use super::tagged::TAG_BYTES;

/// The number of this version in ASK and GRANT.
pub const VERSION: u8 = 3;

/// The most ids in one GROUP_ADD or GROUP_REMOVE.
pub const MAX_IDS: usize = 131_072;
/// The most ids that one GROUP_SEND leaves out.
pub const MAX_LEFT_OUT: usize = 16;
/// The longest token in bytes.
pub const MAX_TOKEN_BYTES: usize = 4_096;
/// The longest text in bytes.
pub const MAX_TEXT_BYTES: usize = 256;
/// The longest note in bytes.
pub const MAX_NOTE_BYTES: usize = 64;
/// The greatest key of a LATEST.
pub const MAX_LATEST_KEY: u8 = 63;
/// The most groups of a session that an edge grants unless it is told otherwise.
pub const GROUPS_OF_A_SESSION: u16 = 64;
/// The most groups of a link.
pub const MAX_GROUPS: usize = 65_536;

/// The flags of version 3. (SPEC 33.4)
pub mod flag {
    /// A packet, in both directions.
    pub const DATA: u8 = 0x00;
    /// The backend's wish for version 3.
    pub const ASK: u8 = 0x10;
    /// The edge's answer.
    pub const GRANT: u8 = 0x11;
    /// An acknowledgement of frames, in both directions.
    pub const LINK_ACK: u8 = 0x12;
    /// A client has come.
    pub const JOINED: u8 = 0x13;
    /// A client's connection is gone.
    pub const AWAY: u8 = 0x14;
    /// A client is back.
    pub const RESUMED: u8 = 0x15;
    /// A session has ended.
    pub const ENDED: u8 = 0x16;
    /// Packets will not come.
    pub const GAP: u8 = 0x17;
    /// What clients have settled.
    pub const SETTLED: u8 = 0x18;
    /// A session is to go on at this edge.
    pub const ADOPT: u8 = 0x19;
    /// The answer to a frame that was refused.
    pub const REFUSED: u8 = 0x1a;
    /// A new token of a client.
    pub const TOKEN: u8 = 0x1b;
    /// A session that lives, for a new boot.
    pub const OWN: u8 = 0x1c;
    /// The edge's proof of the secret, and what the backend is to prove it with.
    pub const CHALLENGE: u8 = 0x1d;
    /// A packet that is not kept.
    pub const VOLATILE: u8 = 0x20;
    /// A packet that takes the place of older ones of its key.
    pub const LATEST: u8 = 0x21;
    /// A packet to the members of a group.
    pub const GROUP_SEND: u8 = 0x22;
    /// Sessions become members.
    pub const GROUP_ADD: u8 = 0x23;
    /// Sessions are members no longer.
    pub const GROUP_REMOVE: u8 = 0x24;
    /// A group ends.
    pub const GROUP_END: u8 = 0x25;
    /// A session is to end.
    pub const KICK: u8 = 0x26;
    /// Bounds and a note of a session.
    pub const POLICY: u8 = 0x27;
    /// A client, or every one, is to leave.
    pub const GOAWAY: u8 = 0x28;
    /// A client is not to be read.
    pub const PAUSE: u8 = 0x29;
    /// It is to be read again.
    pub const GO_ON: u8 = 0x2a;
    /// A session goes on at this edge.
    pub const ADOPTED: u8 = 0x2b;
    /// A session does not go on at this edge, or no longer.
    pub const DISOWNED: u8 = 0x2c;
    /// The backend's proof of the secret.
    pub const PROOF: u8 = 0x2d;
}

/// The name of a group, which the backend chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "the wire format has no others")]
pub struct GroupId(pub u64);

image!(GroupId { 0 });

/// Returns whether the frame with this body counts (SPEC 33.4, 37.1).
#[must_use]
pub fn is_counted(body: &[u8]) -> bool {
    let flag = body.get(TAG_BYTES.saturating_sub(1));
    let is_about_link = matches!(
        flag,
        Some(&(flag::ASK | flag::GRANT | flag::CHALLENGE | flag::PROOF | flag::LINK_ACK))
    );
    !is_about_link
}
