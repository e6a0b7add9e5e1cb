//! Memory that the machines have freed goes back to the system.
//!
//! The bound on memory counts bytes that wait, and resident memory is to follow it. glibc raises the size from which on a block is a
//! mapping of its own, and goes back at once, to that of the largest block that was freed, up to 32 MiB. Then all queues lie in its heap,
//! and leave holes there as they grow. With 1,000 clients that do not read and two shards, 2.03 times what was counted was resident with
//! packets of 1,000 bytes, and 1.39 times with frames of up to 8 MiB. With the size kept at 128 KiB it is 1.25 and 1.00 times.
//!
//! The machines free memory to the C library, and glibc keeps it. Only the free end of its heap goes back to the system, and the size
//! from which a block is kept outside of the heap grows, up to 32 MiB, with the blocks that were freed. After a hundred half-sent frames
//! of 1 MiB an edge that held nothing any more had 108 MB resident. `malloc_trim` gives free pages back wherever they are. It takes
//! milliseconds where there are many, so it is called seldom. Other allocators give memory back by themselves.

use std::time::{Duration, Instant};

/// A block from this size on is a mapping of its own: where glibc begins. Smaller ones fit the holes of the heap well.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MAPPING_BYTES: i32 = 128 * 1024;
/// From this size on the free end of the heap goes back. Less would go and come all the time under load.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TRIM_BYTES: i32 = 2 << 20;

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

/// Keeps large blocks out of the heap; once, before anything large is allocated.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a function of the C library")]
pub(crate) fn keep_heap_small() {
    // SAFETY: it takes two numbers, may be called in any thread, and changes no memory that is allocated.
    let taken = unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_BYTES) == 1
            && libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_BYTES) == 1
    };
    if !taken {
        tracing::debug!(
            "the allocator keeps its own ways; more memory may be resident than is counted"
        );
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_heap_small() {}

/// Gives back what the start took: reading the command line and the configuration leaves 100 KiB and more.
pub(crate) fn has_started() {
    give_back();
}

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

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn large_blocks_that_are_freed_leave_no_holes() {
        const BLOCK_BYTES: usize = 4 << 20;
        const BLOCKS: usize = 32;
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("RssAnon:"));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
            1024 * kib
                .and_then(|kib| kib.parse::<usize>().ok())
                .expect("a number")
        };
        keep_heap_small();
        // glibc would have all blocks up to this size in its heap from now on.
        drop(std::hint::black_box(vec![1_u8; 16 << 20]));
        let mut blocks: Vec<_> = (0..BLOCKS).map(|_| vec![1_u8; BLOCK_BYTES]).collect();
        let all = resident();
        let mut number = 0;
        blocks.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        let freed = all.saturating_sub(resident());
        assert!(
            freed > BLOCKS / 2 * BLOCK_BYTES * 3 / 4,
            "{freed} bytes went back"
        );
    }
}
