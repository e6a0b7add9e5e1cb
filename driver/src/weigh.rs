//! The size of items in a bounded queue.

/// An item of a bounded queue.
pub(crate) trait Weigh {
    /// Returns the bytes of the packets, tokens and texts in it.
    fn packet_bytes(&self) -> usize;
}
