//! Whole packets of a client go to the link.

use crate::edge::uplink::link::reserve_tagged;
use crate::edge::uplink::queue::LinkQueue;
use crate::id::ClientId;
use crate::link::tagged::HEADER_BYTES;
use crate::protocol::Progress;
use crate::protocol::{Channel, Stop};
use crate::queue::Outbox;
use crate::wire::frame::FrameReader;

/// How far a session was served.
pub(crate) enum Served {
    /// Nothing of it waits any more.
    All,
    /// Its turn is over.
    Turn,
    /// The link is full.
    Full,
    /// Its client is not read any further.
    Over(Stop),
}

/// Puts the whole packets of `reader` and `input` on the link, within the turn's `allowance` in bytes if there is one. The channel opens each
/// one in its place in the link's queue. It begins no packet that has no room. Returns how far it came, and the number of packets.
#[inline]
#[expect(
    clippy::too_many_arguments,
    reason = "parts of a connection, of its session and of the edge"
)]
pub(crate) fn pass_on(
    channel: &mut Channel,
    reader: &mut FrameReader,
    input: &mut &[u8],
    link: &mut LinkQueue,
    id: ClientId,
    max_body: u32,
    outbox: &mut Outbox,
    mut numbers: Option<&mut Progress>,
    mut allowance: Option<&mut usize>,
) -> (Served, u64) {
    let mut packets = 0;
    loop {
        // While even the longest packet has room, the length of a packet need not be checked before it is taken.
        if allowance.is_some() || !link.has_room(max_body as usize) {
            match channel.peek(reader, input, max_body, outbox, numbers.as_deref_mut()) {
                Ok(Some(length)) if !link.has_room(length) => return (Served::Full, packets),
                Ok(Some(length)) => {
                    if let Some(left) = &mut allowance {
                        match left.checked_sub(length + HEADER_BYTES) {
                            Some(less) => **left = less,
                            None => return (Served::Turn, packets),
                        }
                    }
                }
                Ok(None) => {}
                Err(stop) => return (Served::Over(stop), packets),
            }
        }
        let queue = &mut link.frames;
        let opened = channel.open(
            reader,
            input,
            max_body,
            outbox,
            numbers.as_deref_mut(),
            |length| reserve_tagged(queue, id, length),
        );
        match opened {
            Ok(true) => packets += 1,
            Ok(false) => return (Served::All, packets),
            Err(stop) => return (Served::Over(stop), packets),
        }
    }
}
