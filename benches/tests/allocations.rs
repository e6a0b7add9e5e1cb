//! In steady state the core moves packets without heap allocations. An allocator in front of the system's counts them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use benches::work;

struct Counting;

thread_local! {
    /// For this thread alone: other tests have their own.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.set(ALLOCATIONS.get() + 1);
}

// SAFETY: every call is passed on to the system's allocator unchanged. Counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this layout, because all of them do.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
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

#[test]
fn the_count_counts() {
    let before = ALLOCATIONS.get();
    std::hint::black_box(vec![1_u8; 100]);
    assert!(ALLOCATIONS.get() > before);
}
