//! Towards the backend: the line for room, the queue, and the link or the branch that carries it.

pub(crate) mod announce;
pub(crate) mod batch;
pub(crate) mod branch;
pub(crate) mod counts;
pub(crate) mod hold;
pub(crate) mod line;
pub(crate) mod link;
#[cfg(feature = "upgrade")]
pub(crate) mod moved;
pub(crate) mod pass;
pub(crate) mod queue;
pub(crate) mod receipts;
pub(crate) mod rewrite;
pub(crate) mod version;

use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use crate::Closed;
use crate::edge::config::EdgeConfig;
use crate::edge::contract::Deadline;
use crate::edge::counters::Counters;
use crate::edge::uplink::batch::{Batch, Upward};
use crate::edge::uplink::branch::Branch;
use crate::edge::uplink::link::Link;
use crate::edge::uplink::link::proof::Heard;
use crate::edge::uplink::queue::LinkQueue;
use crate::link::v3::PROOF_BYTES;
use crate::time::Time;

/// What carries the queue for the backend: an edge's own link, or a shard's branch. Both have one face.
#[derive(Clone, Debug)]
pub(crate) enum Uplink {
    Link(Link),
    Branch(Branch),
}

image!(enum Uplink { 0 Link { 0: a }, 1 Branch { 0: a } });

impl Uplink {
    pub(crate) fn new(config: &EdgeConfig) -> Self {
        match config.shards {
            0 => Uplink::Link(Link::new(&config.master)),
            _ => Uplink::Branch(Branch::default()),
        }
    }

    /// Returns the link to the backend. A shard has none.
    #[inline]
    pub(crate) fn link(&self) -> Option<&Link> {
        match self {
            Uplink::Link(link) => Some(link),
            Uplink::Branch(_) => None,
        }
    }

    /// Handles a frame that comes before GRANT. The trunk of a branch has heard the proof.
    pub(crate) fn hear_ask(&mut self, body: &[u8], rng: &mut ChaCha20Rng) -> Heard {
        match self {
            Uplink::Link(link) => link.proving.hear(body, || drawn(rng)),
            Uplink::Branch(_) => Heard::unproven(body),
        }
    }

    /// Returns the link over which bytes came.
    #[inline]
    pub(crate) fn link_mut(&mut self) -> &mut Link {
        match self {
            Uplink::Link(link) => link,
            Uplink::Branch(_) => {
                unreachable!("no bytes go over a branch, and its trunk counts as it does")
            }
        }
    }

    /// Changes pauses and bounds of a link.
    pub(crate) fn set_bounds(&mut self, config: &EdgeConfig) {
        if let Uplink::Link(link) = self {
            link.set_bounds(&config.master);
        }
    }

    /// Returns whether frames go both ways: it is up, and must not be dropped.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Uplink::Link(link) => link.is_open(),
            Uplink::Branch(branch) => branch.is_up(),
        }
    }

    pub(crate) fn wants_connect(&self, now: Time) -> bool {
        match self {
            Uplink::Link(link) => link.wants_connect(now),
            Uplink::Branch(branch) => branch.wants_connect(),
        }
    }

    pub(crate) fn connecting(&mut self, now: Time) {
        match self {
            Uplink::Link(link) => link.connecting(now),
            Uplink::Branch(branch) => branch.connecting(),
        }
    }

    /// Handles that it is open. Returns false if it already was.
    pub(crate) fn connected(&mut self, now: Time, counters: &mut Counters) -> bool {
        match self {
            Uplink::Link(link) => {
                let is_new = link.connected(now);
                counters.link_up += u64::from(is_new);
                is_new
            }
            Uplink::Branch(branch) => branch.connected(),
        }
    }

    /// Handles that it is gone, or could not be opened. What was begun of `queue` will be sent in full.
    pub(crate) fn closed(
        &mut self,
        now: Time,
        cause: Closed,
        rng: &mut ChaCha20Rng,
        queue: &mut LinkQueue,
        counters: &mut Counters,
    ) {
        let is_new = match self {
            Uplink::Link(link) => {
                let is_new = link.closed(now, cause, rng).is_some();
                counters.link_down += u64::from(is_new);
                is_new
            }
            Uplink::Branch(branch) => branch.closed(),
        };
        if is_new {
            queue.rewind();
        }
    }

    pub(crate) fn wants_close(&self) -> bool {
        self.link().is_some_and(|link| link.wants_close)
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.link().and_then(Link::deadline)
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if let Uplink::Link(link) = self {
            link.handle_timeout(now);
        }
    }

    /// Returns the bytes of an unfinished frame.
    #[inline]
    pub(crate) fn held_bytes(&self) -> usize {
        self.link().map_or(0, |link| link.reader.buffered_bytes())
    }

    /// Returns the bytes of `queue` to be written now.
    #[inline]
    pub(crate) fn output<'a>(&'a self, queue: &'a LinkQueue) -> [&'a [u8]; 2] {
        match self {
            Uplink::Link(link) if link.is_open() => match link.proving.output() {
                [] => queue.output(),
                proof => [proof, &[]],
            },
            Uplink::Link(_) | Uplink::Branch(_) => [&[], &[]],
        }
    }

    /// Handles that `bytes` bytes of `queue` are written. Returns false if there is no link.
    pub(crate) fn written(
        &mut self,
        bytes: usize,
        queue: &mut LinkQueue,
        counters: &mut Counters,
    ) -> bool {
        match self {
            Uplink::Link(link) if link.is_up() => {
                counters.link_bytes_out += bytes as u64;
                queue.written(link.proving.written(bytes));
                true
            }
            Uplink::Link(_) | Uplink::Branch(_) => false,
        }
    }

    /// Makes a batch of the packets in `queue` if they fill one, and batches are what is handed up.
    pub(crate) fn seal_full(&self, queue: &mut LinkQueue) {
        if let Uplink::Branch(_) = self {
            queue.seal_full();
        }
    }

    /// Returns whether there is something in `queue` to be handed up in batches.
    #[inline]
    pub(crate) fn has_batch(&self, queue: &LinkQueue) -> bool {
        match self {
            Uplink::Link(_) => false,
            Uplink::Branch(branch) => branch.has_output(queue),
        }
    }

    /// Takes what is to be handed up next.
    pub(crate) fn take_batch(
        &mut self,
        queue: &mut LinkQueue,
        spare: &mut Batch,
    ) -> Option<Upward> {
        match self {
            Uplink::Link(_) => None,
            Uplink::Branch(branch) => branch.take_output(queue, spare),
        }
    }

    /// Returns the branch, if that is what it is, and it is open.
    pub(crate) fn open_branch(&mut self) -> Option<&mut Branch> {
        match self {
            Uplink::Branch(branch) if branch.is_up() => Some(branch),
            Uplink::Branch(_) | Uplink::Link(_) => None,
        }
    }
}

/// Returns a nonce.
pub(crate) fn drawn(rng: &mut ChaCha20Rng) -> [u8; PROOF_BYTES] {
    let mut nonce = [0; PROOF_BYTES];
    rng.fill_bytes(&mut nonce);
    nonce
}
