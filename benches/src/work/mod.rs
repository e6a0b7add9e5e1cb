//! The work of the core and of WebSocket's layer in repeatable steps, without sockets. The same steps are timed by criterion
//! (`cargo bench -p benches --features criterion`), checked for allocations (`tests/allocations.rs`) and counted in instructions (`benches instructions`).

mod doors;
mod edge;
pub mod link;
pub mod moves;
mod v3;
mod wire;

use std::fmt;

/// Payload sizes over the whole range: a game's input, a chat line, a small document, a map chunk.
pub const SIZES: [usize; 4] = [16, 64, 1024, 16 * 1024];

/// The maximum size for a quick setup: more sessions take a while.
const MAX_QUICK_SIZE: usize = 20_000;

/// One kind of work. Each call of [`step`](Self::step) does the same again.
pub struct Work {
    /// Packets, or units of what the name says, per step.
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

    /// Runs one step.
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

/// A kind of work that is not yet set up.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The name of the criterion group.
    pub name: &'static str,
    /// Payload bytes per packet, or the size of what the name says.
    pub size: usize,
    /// The allocations that a step may make in steady state.
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

    /// Sets up the work.
    pub fn prepare(&self) -> Work {
        (self.prepare)(self.size)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.size)
    }
}

/// Returns the kinds that are set up quickly, for measurements that count and do not time.
pub fn quick_kinds() -> Vec<Kind> {
    let mut kinds = kinds();
    kinds.retain(|kind| kind.size <= MAX_QUICK_SIZE);
    kinds
}

/// Returns all kinds.
pub fn kinds() -> Vec<Kind> {
    let mut kinds = wire::kinds();
    kinds.extend(edge::kinds());
    kinds.extend(v3::kinds());
    kinds.extend(link::kinds());
    kinds.extend(doors::kinds());
    kinds
}
