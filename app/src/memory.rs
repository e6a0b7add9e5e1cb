//! Memory that a crowd or an attack has left goes back to the system.
//!
//! What the machines free goes to the C library, and glibc keeps it: of its heap only the free end goes back, and from which size
//! on a block is no part of the heap grows with the blocks that were freed, to 32 MiB. A hundred frames of 1 MiB that were sent
//! half left 108 MB resident of an edge that held nothing any more. `malloc_trim` gives free pages back wherever they are. It
//! takes milliseconds where there are many, so it is asked seldom. Other allocators give memory back by themselves.

use std::time::{Duration, Instant};

/// A program that never used as much has nothing worth giving back.
const WORTHWHILE_BYTES: usize = 8 << 20;
/// Between two times.
const PAUSE: Duration = Duration::from_secs(1);

/// Finds the moments at which most of what was in use is not any more.
#[derive(Debug, Default)]
pub(crate) struct Ebb {
    most_bytes: usize,
    last: Option<Instant>,
}

impl Ebb {
    /// So much is in use now. Cheap, for every turn of a loop.
    pub(crate) fn watch(&mut self, bytes: usize) {
        if self.has_come(bytes, Instant::now) {
            give_back();
        }
    }

    /// Whether less than a quarter of what was in use since the last time still is. The clock is looked at only then.
    fn has_come(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> bool {
        self.most_bytes = self.most_bytes.max(bytes);
        if self.most_bytes < WORTHWHILE_BYTES || bytes > self.most_bytes / 4 {
            return false;
        }
        let now = now();
        if self.last.is_some_and(|last| now - last < PAUSE) {
            return false;
        }
        (self.most_bytes, self.last) = (bytes, Some(now));
        true
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a function of the C library")]
fn give_back() {
    // SAFETY: it takes a number, may be called in any thread, and changes no memory that is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_once_for_each_crowd_that_has_left_and_not_too_often() {
        let mut ebb = Ebb::default();
        let start = Instant::now();
        let mut come = |mebibytes: usize, tenths: u64| {
            let now = start + Duration::from_millis(tenths * 100);
            ebb.has_come(mebibytes << 20, || now)
        };
        assert!(!come(7, 0) && !come(0, 0), "too little ever");
        assert!(!come(40, 1) && !come(11, 1), "more than a quarter is left");
        assert!(come(10, 1) && !come(9, 1));
        assert!(
            !come(2, 10),
            "a quarter of what was left is left, but too early"
        );
        assert!(come(2, 11) && !come(0, 60), "too little since");
    }
}
