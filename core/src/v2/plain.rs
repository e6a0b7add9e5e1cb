//! An open channel of version 2: each frame is a packet, as it is.

use crate::wire::frame::{FrameReader, FrameTooLong};

/// Frames in clear. There is nothing to remember from one to the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain;

impl Plain {
    /// The next packet of `reader` and `input`, advancing `input` past it.
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
