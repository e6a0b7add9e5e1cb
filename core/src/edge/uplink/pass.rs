//! Whole packets of a client go to the link.

use crate::edge::sessions::Session;
use crate::edge::uplink::queue::{LinkQueue, reserve_tagged};
use crate::id::ClientId;
use crate::link::tagged::HEADER_BYTES;
use crate::protocol::{Open, Opener, Records, Stop};
use crate::wire::frame::FrameReader;

/// Whose packets are passed on.
#[derive(Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) id: ClientId,
    /// The longest packet that it may send, in bytes.
    pub(crate) max_body: u32,
}

impl Sender {
    /// The client of this session, where packets of version 2 may have `max_frame_bytes`.
    #[inline(always)]
    pub(crate) fn of(entry: &Session, link: &LinkQueue, max_frame_bytes: u32) -> Self {
        Sender {
            id: entry.id,
            max_body: link.longest(entry.longest_up(max_frame_bytes)),
        }
    }
}

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

/// Puts the whole packets of `reader` and `input` on the link, within the turn's `allowance` in bytes if there is one. The opener opens each
/// one in its place in the link's queue. It begins no packet that has no room. Returns how far it came, and the number of packets.
#[inline(always)]
pub(crate) fn pass_on(
    opener: Opener<'_>,
    reader: &mut FrameReader,
    input: &mut &[u8],
    link: &mut LinkQueue,
    sender: Sender,
    allowance: Option<&mut usize>,
) -> (Served, u64) {
    match opener {
        Opener::Frames(plain) => pass_each(plain, reader, input, link, sender, allowance),
        Opener::Records(mut records) => {
            pass_records(&mut records, reader, input, link, sender, allowance)
        }
    }
}

/// A separate function, so that the one above is inlined without it.
#[inline(never)]
fn pass_records(
    records: &mut Records<'_>,
    reader: &mut FrameReader,
    input: &mut &[u8],
    link: &mut LinkQueue,
    sender: Sender,
    allowance: Option<&mut usize>,
) -> (Served, u64) {
    pass_each(records, reader, input, link, sender, allowance)
}

#[inline(always)]
fn pass_each(
    opener: &mut impl Open,
    reader: &mut FrameReader,
    input: &mut &[u8],
    link: &mut LinkQueue,
    sender: Sender,
    mut allowance: Option<&mut usize>,
) -> (Served, u64) {
    let Sender { id, max_body } = sender;
    let mut packets = 0;
    loop {
        // While even the longest packet has room, the length of a packet need not be checked before it is taken.
        if allowance.is_some() || !link.has_room(max_body as usize) {
            match opener.peek(reader, input, max_body) {
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
        let opened = opener.open(reader, input, max_body, |length| {
            reserve_tagged(queue, id, length)
        });
        match opened {
            Ok(true) => packets += 1,
            Ok(false) => return (Served::All, packets),
            Err(stop) => return (Served::Over(stop), packets),
        }
    }
}
