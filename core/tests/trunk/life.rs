//! Time, changes of configuration, and the end.

use core::time::Duration;

use super::*;

#[test]
fn the_link_is_tried_again_after_a_pause_and_an_attempt_is_given_up_in_time() {
    let mut rig = Rig::new();
    assert!(rig.trunk.link_wants_connect(Time::ZERO));
    assert!(!rig.trunk.branch_accepts(A), "nobody is there");
    rig.trunk.handle_link_connecting(rig.now);
    assert!(!rig.trunk.link_wants_connect(rig.now));
    let due = rig.trunk.poll_timeout().expect("an attempt is under way");
    assert_eq!(
        (due.at, due.reason),
        (
            rig.now + Duration::from_secs(5),
            DeadlineReason::LinkConnect
        )
    );
    rig.trunk.handle_timeout(due.at);
    assert!(rig.trunk.link_wants_close());
    rig.trunk.handle_link_closed(due.at, Closed::Asked);
    let retry = rig.trunk.poll_timeout().expect("a pause");
    assert_eq!(retry.reason, DeadlineReason::LinkRetry);
    assert!(retry.at <= due.at + Duration::from_millis(100));
    assert!(rig.trunk.link_wants_connect(retry.at));
    assert_eq!(rig.trunk.counters().link_down, 1);
    rig.now = retry.at;
    rig.backend_comes();
    assert_eq!(rig.trunk.poll_timeout(), None);
    assert_eq!(rig.trunk.counters().link_up, 1);
}

#[test]
fn another_configuration_holds_at_once() {
    let mut rig = Rig::open();
    let mut config = MasterConfig::default();
    config.max_frame_bytes = 3;
    rig.trunk.handle_config(rig.now, &config);
    rig.backend_says(&packet(B, b"abc"));
    assert!(!rig.trunk.link_wants_close());
    rig.backend_says(&packet(B, b"abcd"));
    assert!(rig.trunk.link_wants_close());
}

#[test]
fn a_shutdown_ends_when_all_shards_are_gone_and_what_they_said_is_handed_over() {
    let mut rig = Rig::open();
    assert!(!rig.trunk.is_finished());
    let until = rig.now + Duration::from_secs(3);
    rig.trunk.handle_shutdown(rig.now, Duration::from_secs(3));
    assert_eq!(
        rig.trunk.poll_timeout().map(|due| (due.at, due.reason)),
        Some((until, DeadlineReason::Shutdown))
    );
    rig.says(A, &packet(A, b"last words"));
    rig.trunk.handle_branch_gone(rig.now, A);
    assert!(!rig.trunk.is_finished());
    rig.trunk.handle_branch_gone(rig.now, B);
    assert!(!rig.trunk.is_finished(), "not handed over");
    assert_eq!(rig.backend_hears(), ["last words"]);
    assert!(rig.trunk.is_finished());
}

#[test]
fn a_shutdown_ends_at_its_time_whatever_there_is() {
    let mut rig = Rig::open();
    rig.says(A, &packet(A, b"nobody reads"));
    rig.trunk.handle_shutdown(rig.now, Duration::from_secs(3));
    // A second call changes nothing.
    rig.trunk.handle_shutdown(rig.now, Duration::from_secs(30));
    rig.trunk
        .handle_timeout(rig.now + Duration::from_millis(2_999));
    assert!(!rig.trunk.is_finished());
    rig.trunk.handle_timeout(rig.now + Duration::from_secs(3));
    assert!(rig.trunk.is_finished());
}

#[test]
fn a_shard_that_is_gone_is_in_nobodys_way() {
    let mut rig = Rig::new();
    rig.backend_comes();
    rig.dial(A);
    rig.says(A, &[&MARK[..], &packet(A, b"waits")].concat());
    assert_eq!(rig.output(), b"", "b has not announced");
    assert_eq!(rig.hears(A), MARK);
    rig.trunk.handle_branch_gone(rig.now, B);
    assert!(!rig.trunk.branch_accepts(B));
    assert_eq!(rig.backend_hears(), ["waits"]);
    rig.backend_says(&packet_of(B, 2 * BRANCH_BYTES));
    assert_eq!(rig.hears(B), b"");
    assert_eq!(rig.trunk.gauges().held_bytes, 0);
    assert_eq!(rig.trunk.link_read_budget(), READ_BYTES);
    // It stays so.
    rig.trunk.handle_branch_closed(rig.now, B);
    rig.backend_goes();
    assert!(!rig.trunk.branch_wants_close(B));
    rig.says(B, &packet(B, b"a ghost"));
    assert_eq!(rig.trunk.gauges().link_packets, 0);
}

#[test]
fn everything_that_waits_is_counted() {
    let mut rig = Rig::open();
    rig.says(A, &packet(A, b"whole"));
    rig.backend_says(&packet(B, b"for b"));
    rig.backend_says(&[9; 2]);
    let gauges = rig.trunk.gauges();
    assert_eq!(gauges.held_bytes, 18 + 18 + 2);
    assert_eq!((gauges.link_packets, gauges.link_bytes), (1, 18));
    assert!(gauges.link_is_up);
}

#[test]
fn in_a_shutdown_a_shard_that_ends_leaves_the_link_to_the_others() {
    let mut rig = Rig::open();
    rig.trunk.handle_shutdown(rig.now, Duration::from_secs(3));
    rig.says(A, &packet(A, b"last words of a"));
    rig.trunk.handle_branch_closed(rig.now, A);
    assert!(!rig.trunk.link_wants_close());
    rig.says(B, &packet(B, b"b goes on"));
    assert_eq!(rig.backend_hears(), ["last words of a", "b goes on"]);
    rig.trunk.handle_branch_gone(rig.now, A);
    assert!(!rig.trunk.is_finished());
    rig.trunk.handle_branch_closed(rig.now, B);
    assert!(rig.trunk.is_finished());
}

#[test]
fn bytes_of_the_link_are_counted_and_announcements_that_wait_too() {
    let mut rig = Rig::new();
    rig.backend_comes();
    rig.dial(A);
    let announcement = packet(A, b"i am here");
    rig.says(A, &announcement);
    assert_eq!(rig.trunk.gauges().held_bytes, announcement.len());
    let figures = |rig: &Rig| {
        let counters = rig.trunk.counters();
        (counters.link_bytes_in, counters.link_bytes_out)
    };
    for round in 1..=3 {
        rig.backend_says(&packet(A, b"1234567"));
        assert_eq!(figures(&rig), (20 * round, 0));
    }
    rig.trunk.handle_link_written(rig.now, 10);
    rig.trunk.handle_link_written(rig.now, 12);
    assert_eq!(figures(&rig), (60, 22));
    assert_eq!(rig.trunk.gauges().held_bytes, 60);
}

#[test]
fn a_shutdown_whose_time_is_up_wants_no_more_calls() {
    let mut rig = Rig::open();
    rig.trunk.handle_shutdown(rig.now, Duration::from_secs(3));
    rig.trunk.handle_timeout(rig.now + Duration::from_secs(3));
    assert_eq!(rig.trunk.poll_timeout(), None);
}

#[test]
fn the_trunk_judges_the_backend_and_the_shards_do_not() {
    let mut rig = Rig::open();
    rig.backend_says(&[1, 0, 0, 0, 7].repeat(31));
    assert!(!rig.trunk.link_wants_close());
    rig.backend_says(&[1, 0, 0, 0, 7]);
    assert!(rig.trunk.link_wants_close());
    assert_eq!(rig.trunk.counters().link_violations, 1);
    rig.backend_goes();
    rig.hears(A);
    rig.hears(B);
    for shard in [A, B] {
        rig.ends(shard);
    }
    rig.backend_comes();
    let gauges = rig.trunk.gauges();
    assert!(gauges.link_is_up && !gauges.has_backend());
    rig.backend_says(&packet(A, b"good"));
    assert!(rig.trunk.gauges().has_backend());
}
