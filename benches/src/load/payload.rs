//! What the load tool's packets hold: their number in the order of their client, and the time at which they were due, so that
//! whoever gets one can tell whether it is the right one and how long it took.

use std::time::{Duration, Instant};

/// The least size of a packet.
pub const HEADER_BYTES: usize = 16;

/// Nanoseconds since the load tool started: the time base of all its threads.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// The head of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// 0 for the first packet of a client, then one more for each.
    pub number: u64,
    /// When it was to be sent, by [`Clock`].
    pub due: Duration,
}

impl Head {
    /// Appends a frame of `size` bytes (at least [`HEADER_BYTES`]) with this head, filled up with zeros.
    pub fn put_frame(self, out: &mut Vec<u8>, size: usize) {
        out.extend_from_slice(&(size as u32).to_le_bytes());
        self.put(out, size);
    }

    /// Appends `size` bytes with this head.
    pub fn put(self, out: &mut Vec<u8>, size: usize) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&(self.due.as_nanos() as u64).to_le_bytes());
        out.resize(out.len() + size - HEADER_BYTES, 0);
    }

    /// Reads the head of a packet; `None` where the packet is too short to have one.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let (number, rest) = packet.split_first_chunk::<8>()?;
        let (due, _) = rest.split_first_chunk::<8>()?;
        let due = Duration::from_nanos(u64::from_le_bytes(*due));
        Some(Self {
            number: u64::from_le_bytes(*number),
            due,
        })
    }
}
