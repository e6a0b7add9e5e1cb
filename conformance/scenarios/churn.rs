//! Clients that drop and resume at random for a short while. `cargo run -p conformance --release -- churn` runs for longer.

use conformance::churn::{Lost, run, short};

#[test]
fn nobody_sees_anothers_packets_order_holds_and_nothing_comes_twice() {
    let report = run(super::PROGRAM, short(0x5eed));
    println!("{report}");
    assert_eq!(report.violations, []);
    assert!(report.drops.iter().all(|&drops| drops > 20), "{report}");
    let Lost { up, down } = report.lost;
    assert!(up < report.up / 2 && down < report.down / 2, "{report}");
}
