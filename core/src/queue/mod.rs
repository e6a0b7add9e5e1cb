//! Queues of what is to be written: frames for a link, and the packets of a session for its peer.

mod amount;
mod frames;
mod outbox;
mod sent;
mod shared;

pub use amount::Amount;
pub use frames::{FrameQueue, Reservation, Walk};
#[cfg(feature = "edge")]
pub(crate) use outbox::KEPT_RING_CAPACITY_BYTES;
pub use outbox::{Bounds, Outbox, Retention, UnknownNumber};
pub use sent::{Sent, UnknownCount};
pub use shared::{CountedTwice, SHARED_ENTRY_BYTES, SHORTEST_SHARED_BYTES, SharedPacket};
