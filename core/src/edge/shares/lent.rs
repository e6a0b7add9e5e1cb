//! Bytes on their way between shards, which are with none of them (SPEC 45.8).

use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use super::{Common, Shares};

/// Bytes that wait and that no shard has: they take room of the memory of all until this is dropped.
#[derive(Debug)]
pub(crate) struct Lent {
    common: Arc<Common>,
    bytes: usize,
}

impl Shares {
    /// Counts bytes that are with no shard.
    pub(in crate::edge) fn lends(&self, bytes: usize) -> Lent {
        let [.., lent] = &self.common.lent;
        lent.fetch_add(bytes, Relaxed);
        Lent {
            common: Arc::clone(&self.common),
            bytes,
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let [.., lent] = &self.common.lent;
        lent.fetch_sub(self.bytes, Relaxed);
    }
}
