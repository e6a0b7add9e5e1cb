//! Memory that the machines have freed goes back to the system.
//!
//! The bound on memory counts bytes that wait, and resident memory should follow it. glibc maps large blocks on their own, and unmaps them
//! when they are freed. But it raises the size from which a block counts as large to that of the largest block freed, up to 32 MiB. Then
//! all queues are in its heap and leave holes there as they grow. With 1,000 clients that do not read and two shards, resident memory was
//! 2.03 times the counted bytes with packets of 1,000 bytes, and 1.39 times with frames of up to 8 MiB. With the size fixed at 128 KiB it
//! is 1.25 and 1.00 times.
//!
//! glibc also keeps freed memory of its heap: only the free end goes back to the system. After a hundred half-sent frames of 1 MiB, an
//! edge that held nothing any more had 108 MB resident. `malloc_trim` gives free pages back wherever they are. It takes milliseconds when
//! there are many, so it is called seldom. Other allocators give memory back by themselves.

use std::time::{Duration, Instant};

/// A block of this size or more is a mapping of its own: the initial value of glibc. Smaller ones fit the holes of the heap well.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const OWN_MAPPING_BYTES: i32 = 128 * 1024;
/// The size at which the free end of the heap goes back. A smaller one would go and come all the time under load.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TRIM_BYTES: i32 = 2 << 20;

/// A program that never used as much has too little to give back.
const WORTHWHILE_BYTES: usize = 8 << 20;
/// The bytes of waiting packets below which nothing is given back for their sake.
const WORTHWHILE_WAITING_BYTES: usize = 128 << 10;
/// The part of the memory in use that must have waited, too: to look for holes takes as long as the heap is large.
const WORTHWHILE_WAITING_PART: usize = 8;
/// The pause between two times.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause before a time for the sake of packets that waited: on a busy edge they come and go.
const PAUSE_OF_WAITING: Duration = Duration::from_secs(30);

/// Gives freed memory back to the system when most of the memory in use has been freed, or nearly all of that of packets that waited: of many
/// clients that have become idle, each left a hole.
#[derive(Debug, Default)]
pub(crate) struct Trimmer {
    most_bytes: usize,
    most_waiting_bytes: usize,
    last: Option<Instant>,
}

impl Trimmer {
    /// Takes note that `bytes` are in use now, of which `waiting` are those of packets. Cheap, for every turn of a loop.
    pub(crate) fn watch(&mut self, bytes: usize, waiting: usize) {
        if self.is_due(bytes, waiting, Instant::now) {
            give_back();
        }
    }

    /// Returns whether at most a quarter of the memory in use since the last time still is, or a sixteenth of what waited, if that was a good
    /// part of it. Reads the clock only then.
    fn is_due(&mut self, bytes: usize, waiting: usize, now: impl FnOnce() -> Instant) -> bool {
        self.most_bytes = self.most_bytes.max(bytes);
        self.most_waiting_bytes = self.most_waiting_bytes.max(waiting);
        let has_left = self.most_bytes >= WORTHWHILE_BYTES && bytes <= self.most_bytes / 4;
        let worthwhile = WORTHWHILE_WAITING_BYTES.max(self.most_bytes / WORTHWHILE_WAITING_PART);
        let is_idle =
            self.most_waiting_bytes >= worthwhile && waiting <= self.most_waiting_bytes / 16;
        let pause = match (has_left, is_idle) {
            (true, _) => PAUSE,
            (false, true) => PAUSE_OF_WAITING,
            (false, false) => return false,
        };
        let now = now();
        if self.last.is_some_and(|last| now - last < pause) {
            return false;
        }
        (self.most_bytes, self.most_waiting_bytes) = (bytes, waiting);
        self.last = Some(now);
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
            "the allocator refused its settings; more memory may be resident than is counted"
        );
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_heap_small() {}

/// Gives back the memory that the start used, once the machines exist: they leave as much of it free as the command line and the
/// configuration do.
pub(crate) fn has_started() {
    give_back();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_once_for_each_crowd_that_has_left_and_not_too_often() {
        let mut trimmer = Trimmer::default();
        let start = Instant::now();
        let mut due = |mebibytes: usize, tenths: u64| {
            let now = start + Duration::from_millis(tenths * 100);
            trimmer.is_due(mebibytes << 20, 0, || now)
        };
        assert!(!due(7, 0) && !due(0, 0), "too little ever");
        assert!(!due(40, 1) && !due(11, 1), "more than a quarter is left");
        assert!(due(10, 1) && !due(9, 1));
        assert!(
            !due(2, 10),
            "a quarter of what was left is left, but too early"
        );
        assert!(due(2, 11) && !due(0, 60), "too little since");
    }

    #[test]
    fn memory_is_given_back_once_nearly_all_packets_are_gone_that_waited() {
        let mut trimmer = Trimmer::default();
        let start = Instant::now();
        let mut due = |kibibytes: usize, secs: u64| {
            let now = start + Duration::from_secs(secs);
            trimmer.is_due(1 << 20, kibibytes << 10, || now)
        };
        assert!(!due(127, 0) && !due(0, 0), "too little ever");
        assert!(!due(128, 0) && !due(9, 0), "more than a sixteenth is left");
        assert!(due(8, 0) && !due(7, 0), "once");
        assert!(!due(800, 1) && !due(0, 29), "too early");
        assert!(due(0, 30));
    }

    #[test]
    fn packets_that_are_a_small_part_of_what_is_held_give_nothing_back() {
        let mut trimmer = Trimmer::default();
        let now = Instant::now();
        let mut due = |kibibytes: usize| trimmer.is_due(80 << 20, kibibytes << 10, || now);
        assert!(!due((10 << 10) - 1) && !due(0), "less than an eighth");
        assert!(!due(10 << 10) && due(0), "an eighth");
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
