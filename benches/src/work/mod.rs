//! The core's work in repeatable steps, without sockets: the same steps are timed by criterion (`cargo bench`), watched for
//! allocations (`tests/allocations.rs`) and counted in instructions (`benches instructions`).

mod edge;
mod wire;

use std::fmt;

/// Payload sizes of the whole range: a game's input, a chat line, a small document, a map chunk.
pub const SIZES: [usize; 4] = [16, 64, 1024, 16 * 1024];

/// More sessions than this take a while to set up.
const MAX_QUICK_SIZE: usize = 20_000;

/// One kind of work. [`step`](Self::step) does the same again at each call.
pub struct Work {
    /// Packets, or whatever the name says, in one step.
    pub packets: u64,
    step: Box<dyn FnMut()>,
}

impl Work {
    fn new(packets: usize, step: impl FnMut() + 'static) -> Self {
        Self {
            packets: packets as u64,
            step: Box::new(step),
        }
    }

    /// Does it once.
    pub fn step(&mut self) {
        (self.step)();
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work")
            .field("packets", &self.packets)
            .finish_non_exhaustive()
    }
}

/// A kind of work, not yet set up.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What it does: the criterion group.
    pub name: &'static str,
    /// Bytes of a packet's payload, or the size of whatever the name says.
    pub size: usize,
    /// Allocations that a step in steady state may make.
    pub allocations: u64,
    prepare: fn(usize) -> Work,
}

impl Kind {
    const fn new(name: &'static str, size: usize, prepare: fn(usize) -> Work) -> Self {
        Self::allocating(name, size, 0, prepare)
    }

    const fn allocating(
        name: &'static str,
        size: usize,
        allocations: u64,
        prepare: fn(usize) -> Work,
    ) -> Self {
        Self {
            name,
            size,
            allocations,
            prepare,
        }
    }

    /// Sets it up.
    pub fn prepare(&self) -> Work {
        (self.prepare)(self.size)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.size)
    }
}

/// The kinds that are set up quickly, for those who count and need not wait.
pub fn quick_kinds() -> Vec<Kind> {
    let mut kinds = kinds();
    kinds.retain(|kind| kind.size <= MAX_QUICK_SIZE);
    kinds
}

/// All kinds.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = wire::kinds();
    kinds.extend(edge::kinds());
    kinds
}
