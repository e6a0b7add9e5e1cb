//! The contents of the load tool's packets: their number in their client's order, and the time at which they were due. With these the
//! receiver can tell whether it is the expected packet and how long it took.

use std::time::{Duration, Instant};

/// The minimum size of a packet.
pub const HEADER_BYTES: usize = 16;

/// Nanoseconds since the load tool started, the time base of all its threads.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts the clock.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the time since the start.
    pub fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// The header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// 0 for the first packet of a client, then increasing by one.
    pub number: u64,
    /// When the packet was to be sent, by [`Clock`].
    pub due: Duration,
}

impl Head {
    /// Appends a frame of `size` bytes (at least [`HEADER_BYTES`]) with this header, padded with zeros.
    pub fn put_frame(self, out: &mut Vec<u8>, size: usize) {
        out.extend_from_slice(&(size as u32).to_le_bytes());
        self.put(out, size);
    }

    /// Appends `size` bytes with this header.
    pub fn put(self, out: &mut Vec<u8>, size: usize) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&(self.due.as_nanos() as u64).to_le_bytes());
        out.resize(out.len() + size - HEADER_BYTES, 0);
    }

    /// Reads the header of a packet, or returns `None` if the packet is too short.
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
