//! The channel of version 2: each frame is a packet, unchanged.

use crate::wire::frame::{FrameReader, FrameTooLong};

/// Frames in the clear, without state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain;

impl Plain {
    /// Returns the next packet of `reader` and `input`, and advances `input` past it.
    #[inline]
    pub(crate) fn next_packet<'a, 'input: 'a>(
        self,
        reader: &'a mut FrameReader,
        input: &mut &'input [u8],
        max_bytes: u32,
    ) -> Result<Option<&'a [u8]>, FrameTooLong> {
        reader.next_frame(input, max_bytes)
    }
}
