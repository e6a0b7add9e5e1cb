//! After many clients have come and gone nothing of them is left: no entry, no byte, no memory.
//!
//! `VL_CYCLES=1000000 cargo test -p sim --release --test leaks -- --nocapture` is the long one.

use sim::churn;

/// Cycles when `VL_CYCLES` does not say otherwise.
const CYCLES: u64 = 10_000;
/// The maximum growth of the process after a third of the cycles.
const MOST_GROWTH_BYTES: u64 = 1 << 20;

#[test]
fn nothing_is_left_of_those_who_came_and_went() {
    let cycles = std::env::var("VL_CYCLES").map_or(CYCLES, |text| text.parse().expect("a number"));
    let mut third = None;
    let left = churn::run(cycles, |done| {
        if done >= cycles / 3 {
            third.get_or_insert_with(resident_bytes);
        }
    });
    let growth = resident_bytes().saturating_sub(third.unwrap_or_default());
    let counters = &left.counters;
    let (joined, resumed, most) = (left.joined, left.resumed, left.most);
    println!(
        "{cycles} cycles: {joined} sessions, {resumed} resumes, {} takeovers; at most {most:?} sessions and connections at \
        once; {growth} bytes of growth",
        counters.takeovers
    );
    assert!(joined > cycles / 2 && resumed > cycles / 4 && counters.takeovers > cycles / 10);
    assert_eq!((counters.joined, counters.resumed), (joined, resumed));
    assert_eq!(
        counters.ended.iter().sum::<u64>(),
        joined,
        "each ended once"
    );
    assert_eq!(counters.rejected.iter().sum::<u64>(), 0);
    let gauges = &left.gauges;
    let entries = [
        gauges.connections,
        gauges.half_open,
        gauges.sessions,
        gauges.away,
        gauges.waiting,
        gauges.link_packets,
        gauges.link_bytes,
        gauges.held_bytes,
    ];
    assert_eq!(entries, [0; 8], "{gauges:?}");
    assert!(growth <= MOST_GROWTH_BYTES, "{growth} bytes of growth");
}

/// Returns this process's memory in use, on Linux; elsewhere 0. File pages are excluded: the system takes and returns them when memory is
/// short.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut fields = text.split_whitespace().skip(1);
    let mut pages = || fields.next()?.parse::<u64>().ok();
    let anonymous = pages().zip(pages()).map(|(all, files)| all - files);
    anonymous.unwrap_or(0) * 4096
}
