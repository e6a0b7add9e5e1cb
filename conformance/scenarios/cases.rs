//! The cases of `sim/cases` through real sockets, except those that need virtual time, foreign addresses or a look inside.

use conformance::cases::{all, play};

#[test]
fn cases_as_data_hold_through_sockets() {
    let runs = play(super::PROGRAM, &all());
    println!("{runs} runs");
    assert!(runs >= 250, "{runs}");
}
