//! Checks that the core takes time and randomness only as arguments. Calls of `clock_gettime` or `getrandom` on the thread of a run are
//! counted while whole runs are made, and there must be none.
//!
//! The test binary defines the two functions itself. The linker uses them in place of the C library's, so everything in the process,
//! including the standard library, calls these. Outside of a run they behave as usual. This is the only file of the simulator with
//! `unsafe`.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::ffi::{c_int, c_uint, c_void};
use std::hash::BuildHasher;
use std::hint::black_box;
use std::time::{Instant, SystemTime};

use sim::plan::generate;
use sim::{block, engine};

/// Seeds run under watch when neither `VL_FULL` nor `VL_SEEDS` says otherwise, and those of the full block.
const FEW: u64 = 40;
const FULL: u64 = 300;

/// Counts of calls of the system's clock and randomness.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Calls {
    clock: u32,
    random: u32,
}

thread_local! {
    /// The calls of this thread while it is watched; `None` if it is not.
    static WATCHED: Cell<Option<Calls>> = const { Cell::new(None) };
}

/// Runs `work` under watch.
fn watch(work: impl FnOnce()) -> Calls {
    WATCHED.set(Some(Calls::default()));
    work();
    WATCHED.take().unwrap_or_default()
}

fn note(add: impl FnOnce(&mut Calls)) {
    if let Some(mut calls) = WATCHED.get() {
        add(&mut calls);
        WATCHED.set(Some(calls));
    }
}

/// Replaces the C library's function of this name.
///
/// # Safety
/// As for the C library's: `time` must be valid for a write.
// SAFETY: the name and the signature are those of the function that this one stands in for.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    note(|calls| calls.clock += 1);
    // SAFETY: the system call gets the arguments of the function, which the caller vouches for.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int }
}

/// Replaces the C library's function of this name.
///
/// # Safety
/// As for the C library's: `buffer` must be valid for writes of `length` bytes.
// SAFETY: the name and the signature are those of the function that this one stands in for.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    note(|calls| calls.random += 1);
    // SAFETY: the system call gets the arguments of the function, which the caller vouches for.
    unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) as isize }
}

#[test]
fn a_run_asks_neither_the_clock_nor_the_system_for_randomness() {
    for seed in 0..block::seeds(FEW, FULL) {
        let plan = generate(seed);
        let calls = watch(|| {
            black_box(engine::run(&plan));
        });
        assert_eq!(
            calls,
            Calls::default(),
            "seed {seed}; a debugger stops at the function"
        );
    }
}

#[test]
fn the_tripwire_trips() {
    let clock = Calls {
        clock: 1,
        random: 0,
    };
    assert_eq!(
        watch(|| {
            black_box(Instant::now());
        }),
        clock
    );
    assert_eq!(
        watch(|| {
            black_box(SystemTime::now());
        }),
        clock
    );
    // A thread draws the keys of its hash maps once. This one is new, so it has drawn none.
    let random = std::thread::spawn(|| {
        watch(|| {
            black_box(RandomState::new().hash_one(7));
        })
    });
    let random = random.join().expect("no panic").random;
    assert!(random > 0);
    let mut seed = [0; 32];
    let random = watch(|| getrandom::fill(&mut seed).expect("the system has randomness"));
    assert!(random.random > 0);
    assert_ne!(seed, [0; 32]);
    assert_eq!(watch(|| {}), Calls::default());
}
