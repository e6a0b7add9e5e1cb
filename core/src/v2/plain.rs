//! The channel of version 2: each frame is a packet, unchanged. (SPEC 4.4)

use crate::queue::Outbox;
#[cfg(feature = "edge")]
use crate::queue::Reservation;
use crate::wire::frame::{FrameReader, FrameTooLong};

/// Frames in the clear, without state.
#[derive(Clone, Debug)]
pub(crate) struct Plain;

image!(Plain {});

impl Plain {
    /// Returns the length of the next packet, or `None` if none is whole yet.
    #[cfg(feature = "edge")]
    #[inline]
    pub(crate) fn peek(
        &self,
        reader: &FrameReader,
        input: &[u8],
        max_bytes: u32,
    ) -> Result<Option<usize>, FrameTooLong> {
        reader.peek_frame(input, max_bytes)
    }

    /// Copies the next packet to its place. Returns false if none is whole yet.
    #[cfg(feature = "edge")]
    #[inline(always)]
    pub(crate) fn open<'queue>(
        &self,
        reader: &mut FrameReader,
        input: &mut &[u8],
        max_bytes: u32,
        reserve: impl FnOnce(usize) -> Reservation<'queue>,
    ) -> Result<bool, FrameTooLong> {
        let Some(packet) = reader.next_frame(input, max_bytes)? else {
            return Ok(false);
        };
        let mut reservation = reserve(packet.len());
        reservation.append(packet);
        reservation.commit();
        Ok(true)
    }

    /// Returns whether anything is to be sent.
    #[cfg(feature = "edge")]
    #[inline]
    pub(crate) fn has_output(&self, outbox: &Outbox) -> bool {
        outbox.has_unsent()
    }

    /// Lends the packets as they are stored, which is how they are written.
    #[inline]
    pub(crate) fn fill<'a>(&self, outbox: &'a Outbox) -> &'a [u8] {
        outbox.unsent()
    }

    /// Handles that the transport took the first `bytes` bytes. Returns how many of them there were.
    #[inline]
    pub(crate) fn written(&self, outbox: &mut Outbox, bytes: usize) -> usize {
        outbox.advance_at_most(bytes)
    }

    /// Returns the next packet of `reader` and `input`, and advances `input` past it.
    #[cfg(feature = "client")]
    #[inline]
    pub(crate) fn next_packet<'a, 'input: 'a>(
        &self,
        reader: &'a mut FrameReader,
        input: &mut &'input [u8],
        max_bytes: u32,
    ) -> Result<Option<&'a [u8]>, FrameTooLong> {
        reader.next_frame(input, max_bytes)
    }
}
