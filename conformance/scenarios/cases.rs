//! The cases of `sim/cases` through real sockets: those that need no virtual time, no foreign addresses and no look inside.

use conformance::cases::{all, play};

#[test]
fn cases_as_data_hold_through_sockets() {
    let runs = play(crate::PROGRAM, &all());
    println!("{runs} runs");
    assert!(runs >= 250, "{runs}");
}
