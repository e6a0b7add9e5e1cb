//! In steady state the core moves packets without heap allocations, and a packet for many is in memory once. An allocator in front of the
//! system's counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use benches::work;
use benches::work::link::Group;
use voltlane_core::queue::SHORTEST_SHARED_BYTES;

struct Counting;

thread_local! {
    /// For this thread alone: other tests have their own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// What was freed by another thread than had it counts for either.
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(more: usize, less: usize) {
    BYTES.set(BYTES.get() + more.cast_signed() - less.cast_signed());
    if more > 0 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
    }
}

// SAFETY: every call is passed on to the system's allocator unchanged. Counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: `pointer` came from `System` with this layout, because all of them do.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as in `dealloc`, and the caller's promise about `size` is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The number of steps after which every buffer has reached its size.
const WARM_UP: u64 = 200;
const STEPS: u64 = 50;

#[test]
fn no_work_allocates_more_than_it_says() {
    let mut above = Vec::new();
    for kind in work::quick_kinds() {
        let mut work = kind.prepare();
        (0..WARM_UP).for_each(|_| work.step());
        let before = ALLOCATIONS.get();
        (0..STEPS).for_each(|_| work.step());
        let made = ALLOCATIONS.get() - before;
        if made > STEPS * kind.allocations {
            let each = made as f64 / STEPS as f64;
            above.push(format!(
                "{kind}: {each} allocations in a step, {} allowed",
                kind.allocations
            ));
        }
    }
    assert!(above.is_empty(), "{}", above.join("\n"));
}

/// The members of a group.
const MEMBERS: usize = 500;
/// What a member has for the first packet that it shares, in bytes: the most of either version.
const FIRST: usize = 400;
/// What an entry costs.
const EACH: usize = 20;

/// Returns what memory grows by with the first and with the second packet of this length to a group. `takes`: each member takes what there
/// is for it. It acknowledges nothing.
fn memory_of(version: u8, length: usize, takes: bool) -> [usize; 2] {
    let mut group = Group::new(version, MEMBERS);
    for _ in 0..4 {
        group.send(1);
        group.take();
    }
    [0; 2].map(|_| {
        let before = BYTES.get();
        group.send(length);
        if takes {
            group.take();
        }
        usize::try_from(BYTES.get() - before).unwrap_or(0)
    })
}

#[test]
fn a_packet_for_many_is_in_memory_once() {
    for version in [2, 3] {
        for length in [SHORTEST_SHARED_BYTES, 16 * 1024] {
            let [first, second] = memory_of(version, length, false);
            let once = length + 64;
            let context = format!("version {version}, {length}: {first} and {second} bytes");
            assert!(first <= once + MEMBERS * FIRST, "{context}");
            assert!(second <= once + MEMBERS * EACH, "{context}");
        }
        let copied = memory_of(version, SHORTEST_SHARED_BYTES - 1, false);
        // An outbox may have room for a part of the first one.
        let least = 2 * MEMBERS * (SHORTEST_SHARED_BYTES - 32);
        let bytes: usize = copied.iter().sum();
        assert!(bytes >= least, "version {version}: {copied:?} bytes");
    }
}

#[test]
fn what_is_kept_of_a_packet_for_many_is_in_memory_once() {
    const LENGTH: usize = 16 * 1024;
    let [first, second] = memory_of(3, LENGTH, true);
    // Records are made in buffers that the edge keeps for the next ones.
    let most = 20 * LENGTH + MEMBERS * FIRST;
    assert!(first <= most, "{first} bytes");
    assert!(second <= LENGTH + 64 + MEMBERS * EACH, "{second} bytes");
}

#[test]
fn the_count_counts() {
    let before = ALLOCATIONS.get();
    let bytes = BYTES.get();
    let held = std::hint::black_box(vec![1_u8; 100]);
    assert!(ALLOCATIONS.get() > before);
    assert_eq!(BYTES.get() - bytes, 100);
    drop(held);
    assert_eq!(BYTES.get(), bytes);
}
