//! From the shards to the backend.

use super::*;

#[test]
fn frames_leave_whole_and_in_the_order_of_each_shard_whatever_the_cuts() {
    let stream = [packet(A, b"one"), packet(A, b""), packet(A, b"two")].concat();
    for cut in 0..=stream.len() {
        let mut rig = Rig::open();
        rig.says(A, &stream[..cut]);
        rig.says(B, &packet(B, b"between"));
        rig.says(A, &stream[cut..]);
        let heard = rig.backend_hears();
        let of_a: Vec<_> = heard.iter().filter(|text| *text != "between").collect();
        assert_eq!(of_a, ["one", "", "two"], "cut at {cut}");
        assert_eq!(heard.len(), 4);
    }
}

#[test]
fn shards_are_read_until_256_kib_wait_for_the_backend() {
    let mut rig = Rig::open();
    for shard in [A, B] {
        assert_eq!(rig.trunk.branch_read_budget(shard), READ_BYTES);
    }
    rig.says(A, &packet_of(A, LINK_BYTES - 1));
    assert_eq!(rig.trunk.branch_read_budget(B), READ_BYTES);
    rig.says(B, &packet_of(B, 13));
    for shard in [A, B] {
        assert_eq!(rig.trunk.branch_read_budget(shard), 0);
    }
    rig.trunk.handle_branch_idle(rig.now, B);
    rig.trunk.handle_link_written(rig.now, LINK_BYTES - 2);
    assert_eq!(
        rig.trunk.branch_read_budget(A),
        0,
        "what is not written whole still stands there whole"
    );
    rig.trunk.handle_link_written(rig.now, 1);
    assert!(rig.trunk.branch_read_budget(A) > 0);
    let exactly = LINK_BYTES - 13;
    rig.says(A, &packet_of(A, exactly));
    assert_eq!(rig.trunk.gauges().link_bytes, LINK_BYTES);
    assert_eq!(rig.trunk.branch_read_budget(A), 0);
}

#[test]
fn a_cut_packet_is_sent_again_whole_first_and_once() {
    let stream = [packet(A, b"gone"), packet(A, b"cut"), packet(A, b"rest")].concat();
    let (first, second) = (17, 17 + 16);
    for taken in 0..=stream.len() {
        let mut rig = Rig::open();
        rig.says(A, &stream);
        rig.trunk.handle_link_written(rig.now, taken);
        for _ in 0..2 {
            rig.backend_goes();
            for shard in [A, B] {
                rig.ends(shard);
            }
            rig.backend_comes();
            for shard in [A, B] {
                rig.dial(shard);
                rig.says(shard, &MARK);
            }
        }
        let lost = usize::from(taken >= first)
            + usize::from(taken >= second)
            + usize::from(taken == stream.len());
        assert_eq!(
            rig.backend_hears(),
            ["gone", "cut", "rest"][lost..],
            "{taken} bytes taken"
        );
        assert_eq!(rig.output(), b"");
    }
}

#[test]
fn announcements_of_all_shards_go_before_anything_that_waited_at_any() {
    let mut rig = Rig::of(3, &MasterConfig::default());
    rig.backend_comes();
    rig.dial(A);
    rig.says(
        A,
        &[
            packet(A, b"a is there"),
            MARK.to_vec(),
            packet(A, b"a waited"),
        ]
        .concat(),
    );
    assert_eq!(rig.backend_hears(), ["a is there"]);
    rig.dial(B);
    rig.dial(C);
    rig.says(B, &packet(B, b"b is there"));
    rig.says(C, &[&MARK[..], &packet(C, b"c waited")].concat());
    assert_eq!(rig.backend_hears(), ["b is there"], "b is not through");
    let mark = [&packet(B, b"b is there, too")[..], &MARK[..2]].concat();
    rig.says(B, &mark);
    assert_eq!(rig.backend_hears(), ["b is there, too"]);
    rig.says(B, &packet(B, b"x")[..0]);
    assert_eq!(rig.output(), b"");
    rig.says(B, &[&MARK[2..], &packet(B, b"b waited")].concat());
    assert_eq!(rig.backend_hears(), ["a waited", "c waited", "b waited"]);
}

#[test]
fn waiting_packets_do_not_block_announcements() {
    let mut rig = Rig::new();
    rig.backend_comes();
    rig.dial(A);
    rig.dial(B);
    rig.says(A, &[&MARK[..], &packet_of(A, LINK_BYTES)].concat());
    assert_eq!(rig.trunk.branch_read_budget(A), 0);
    assert_eq!(rig.trunk.branch_read_budget(B), READ_BYTES);
    rig.says(B, &packet_of(B, LINK_BYTES - 1));
    assert_eq!(rig.trunk.branch_read_budget(B), READ_BYTES);
    rig.says(B, &packet_of(B, 13));
    assert_eq!(
        rig.trunk.branch_read_budget(B),
        0,
        "announcements have the bound, too"
    );
}

#[test]
fn packets_sent_before_a_shard_knew_of_the_loss_are_kept_and_its_unfinished_frame_comes_again() {
    let mut rig = Rig::open();
    rig.says(A, &packet(A, b"one"));
    rig.backend_goes();
    assert_eq!(rig.output(), b"", "nobody is there");
    let begun = packet(A, b"begun");
    rig.says(A, &[packet(A, b"two"), begun[..9].to_vec()].concat());
    rig.ends(A);
    rig.ends(B);
    rig.says(A, b"not due, and so harmless");
    rig.backend_comes();
    rig.dial(A);
    rig.dial(B);
    rig.says(A, &[&MARK[..], &begun].concat());
    rig.says(B, &MARK);
    assert_eq!(rig.backend_hears(), ["one", "two", "begun"]);
}

#[test]
fn announcements_do_not_outlive_the_link_but_what_followed_them_does() {
    let mut rig = Rig::new();
    rig.backend_comes();
    rig.dial(A);
    rig.dial(B);
    rig.says(A, &packet(A, b"old news"));
    rig.backend_goes();
    rig.says(A, &packet(A, b"more old news"));
    assert_eq!(
        rig.trunk.branch_read_budget(A),
        READ_BYTES,
        "its mark may be under way"
    );
    rig.says(A, &[&MARK[..], &packet(A, b"a packet")].concat());
    rig.says(B, &packet(B, b"old news of b"));
    rig.ends(A);
    rig.ends(B);
    rig.backend_comes();
    rig.dial(A);
    rig.dial(B);
    rig.says(A, &[packet(A, b"news"), MARK.to_vec()].concat());
    rig.says(B, &MARK);
    assert_eq!(rig.backend_hears(), ["news", "a packet"]);
}

#[test]
fn a_shard_that_has_still_to_hear_of_the_loss_is_bounded_like_any_other() {
    let mut rig = Rig::open();
    rig.says(A, &packet_of(A, LINK_BYTES));
    rig.backend_says(&packet(B, b"not heard yet"));
    rig.backend_goes();
    assert_eq!(rig.trunk.branch_read_budget(B), 0);
    rig.hears(B);
    assert_eq!(
        rig.trunk.branch_read_budget(B),
        READ_BYTES,
        "what its stream holds must find room, or its end is never read"
    );
    rig.ends(B);
    assert_eq!(rig.trunk.branch_read_budget(B), 0);
}

#[test]
fn a_shard_that_leaves_the_link_opens_it_anew_since_its_announcements_would_come_in_the_middle() {
    let mut rig = Rig::open();
    let begun = packet(A, b"begun");
    rig.says(A, &[packet(A, b"whole"), begun[..9].to_vec()].concat());
    rig.trunk.handle_branch_closed(rig.now, A);
    assert!(rig.trunk.link_wants_close());
    assert_eq!(rig.output(), b"");
    assert!(!rig.trunk.branch_accepts(A));
    rig.trunk.handle_link_closed(rig.now, Closed::ByEdge);
    rig.ends(B);
    rig.backend_comes();
    rig.dial(A);
    rig.dial(B);
    rig.says(A, &MARK);
    rig.says(B, &MARK);
    assert_eq!(rig.backend_hears(), ["whole"]);
}

#[test]
fn a_shard_keeps_what_waits_until_there_is_room_however_often_the_link_is_lost() {
    let mut rig = Rig::open();
    rig.says(A, &packet_of(A, LINK_BYTES));
    let mut held = LINK_BYTES;
    for _ in 0..10 {
        rig.backend_goes();
        // What its stream held arrives once.
        if held == LINK_BYTES {
            rig.says(A, &packet_of(A, 1_000));
            held += 1_000;
        }
        rig.ends(A);
        rig.ends(B);
        rig.backend_comes();
        for shard in [A, B] {
            rig.dial(shard);
            rig.says(shard, &MARK);
            assert_eq!(rig.hears(shard), b"", "no room, and no word");
        }
        assert_eq!(rig.trunk.gauges().link_bytes, held);
    }
    rig.trunk.handle_link_written(rig.now, LINK_BYTES);
    assert_eq!(rig.hears(A), MARK);
    assert_eq!(rig.hears(B), MARK);
    rig.trunk.handle_link_written(rig.now, 1_000);
    assert_eq!(rig.hears(A), b"", "once for each stream");
}

#[test]
fn a_frame_without_a_body_of_the_backends_is_no_word_of_the_trunks() {
    let mut rig = Rig::open();
    rig.backend_says(&[MARK, MARK].concat());
    assert_eq!(rig.hears(A), b"");
    assert_eq!(rig.trunk.counters().malformed_down, 2);
}

#[test]
fn a_shard_that_had_its_turn_waits_for_those_who_have_something_to_bring() {
    let mut rig = Rig::of(3, &MasterConfig::default());
    rig.backend_comes();
    for shard in [A, B, C] {
        rig.dial(shard);
        rig.says(shard, &MARK);
    }
    let budget = |rig: &Rig, shard| rig.trunk.branch_read_budget(shard);
    let takes_all = |rig: &mut Rig| {
        let waiting = rig.output().len();
        rig.trunk.handle_link_written(rig.now, waiting);
    };
    // A third of 256 KiB each; the first to come had all of it.
    let turn = LINK_BYTES / 3;
    rig.trunk.handle_branch_idle(rig.now, C);
    let mut of_a = 0;
    while budget(&rig, A) > 0 {
        let bytes = budget(&rig, A);
        of_a += bytes;
        rig.says(A, &packet_of(A, bytes));
        takes_all(&mut rig);
    }
    assert!((turn..=LINK_BYTES).contains(&of_a), "{of_a}");
    assert!(budget(&rig, B) > 0);
    rig.trunk.handle_branch_idle(rig.now, B);
    assert_eq!(budget(&rig, A), READ_BYTES, "nobody else has anything");
    // A shard that comes back has a turn, and so has one that ends.
    assert_eq!(budget(&rig, C), READ_BYTES);
    rig.says(C, &packet_of(C, 100));
    rig.says(A, &packet_of(A, turn));
    takes_all(&mut rig);
    assert_eq!(budget(&rig, A), 0);
    rig.trunk.handle_branch_gone(rig.now, C);
    assert_eq!(budget(&rig, A), READ_BYTES);
}
