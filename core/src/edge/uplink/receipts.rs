//! When the frames of a backend are acknowledged (SPEC 37.2).

use core::time::Duration;

use crate::time::Time;

/// Frames of the backend after which they are acknowledged.
const ACK_FRAMES: u64 = 256;
/// Their bytes.
const ACK_BYTES: usize = 64 * 1024;
/// The longest time until then.
const ACK_DELAY: Duration = Duration::from_millis(10);
/// The longest time between two acknowledgements.
const ACK_INTERVAL: Duration = Duration::from_secs(5);

/// The frames that came from the backend, and what it was told of them.
#[derive(Clone, Debug)]
pub(crate) struct Receipts {
    /// Frames received from this boot.
    received: u64,
    /// The count in the last LINK_ACK, and the bytes received since.
    told: u64,
    untold_bytes: usize,
    /// When an acknowledgement is due.
    at: Time,
}

image!(Receipts {
    received,
    told,
    untold_bytes,
    at
});

impl Receipts {
    pub(crate) fn new(now: Time) -> Self {
        Receipts {
            received: 0,
            told: 0,
            untold_bytes: 0,
            at: now + ACK_INTERVAL,
        }
    }

    /// Goes on where another process was.
    pub(crate) fn after(now: Time, received: u64) -> Self {
        Receipts {
            received,
            ..Receipts::new(now)
        }
    }

    /// Returns the count of the last frame.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// Returns when an acknowledgement is due.
    pub(crate) const fn deadline(&self) -> Time {
        self.at
    }

    /// Handles that the counts go on on another link: what was acknowledged on the last one may not have arrived.
    pub(crate) fn resume(&mut self, now: Time) {
        (self.told, self.at) = (0, now + ACK_DELAY);
    }

    /// Counts a frame with a body of `bytes` bytes. Returns whether an acknowledgement is due now.
    pub(crate) fn count(&mut self, now: Time, bytes: usize) -> bool {
        if self.received == self.told {
            self.at = self.at.min(now + ACK_DELAY);
        }
        self.received += 1;
        self.untold_bytes += bytes;
        self.received - self.told >= ACK_FRAMES || self.untold_bytes >= ACK_BYTES
    }

    /// Handles that all of them are acknowledged. Returns the count.
    pub(crate) fn tell(&mut self, now: Time) -> u64 {
        (self.told, self.untold_bytes) = (self.received, 0);
        self.at = now + ACK_INTERVAL;
        self.received
    }

    /// Handles that an acknowledgement is on its way already, or that there are none.
    pub(crate) fn put_off(&mut self, now: Time, are_granted: bool) {
        self.at = now
            + match are_granted {
                true => ACK_DELAY,
                false => ACK_INTERVAL,
            };
    }
}
