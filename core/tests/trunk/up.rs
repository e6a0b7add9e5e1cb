//! From the shards to the backend.

use super::*;

#[test]
fn packets_leave_in_the_order_of_each_shard_whatever_the_batches() {
    let packets = [packet(A, b"one"), packet(A, b""), packet(A, b"two")];
    for cut in 0..=packets.len() {
        let mut rig = Rig::open();
        rig.says(A, &packets[..cut].concat());
        rig.says(B, &packet(B, b"between"));
        rig.says(A, &packets[cut..].concat());
        let heard = rig.backend_hears();
        let of_a: Vec<_> = heard.iter().filter(|text| *text != "between").collect();
        assert_eq!(of_a, ["one", "", "two"], "cut at {cut}");
        assert_eq!(heard.len(), 4);
    }
}

#[test]
fn a_large_batch_changes_hands_and_its_buffer_comes_back() {
    let mut rig = Rig::open();
    let mut batch = Batch::new();
    batch.push(&packet_of(A, 20_000)[4..]);
    batch.push(&packet_of(A, 10_000)[4..]);
    let at = batch.bytes().as_ptr();
    rig.trunk
        .handle_branch_input(rig.now, A, Upward::Packets(batch));
    assert_eq!(rig.trunk.link_output()[0].as_ptr(), at, "it is not copied");
    assert!(rig.trunk.take_spare().is_none());
    rig.trunk.handle_link_written(rig.now, 29_999);
    assert_eq!(rig.trunk.gauges().link_packets, 1);
    assert!(rig.trunk.take_spare().is_none(), "a packet is begun");
    rig.trunk.handle_link_written(rig.now, 1);
    let spare = rig.trunk.take_spare().expect("all is written");
    assert_eq!((spare.bytes().as_ptr(), spare.frames()), (at, 0));
}

#[test]
fn small_batches_are_joined_and_large_ones_too_when_there_are_many() {
    for (bytes, at_once) in [(4 * 1024, 16), (4 * 1024 + 1, 1)] {
        let mut rig = Rig::open();
        for _ in 0..40 {
            rig.says(A, &packet_of(A, bytes));
        }
        assert_eq!(rig.trunk.gauges().link_packets, 40);
        let first = rig.trunk.link_output()[0];
        assert_eq!(first.len(), at_once * bytes, "{bytes}");
        let mut writes = 0;
        while rig.trunk.gauges().link_bytes > 0 {
            let output = rig.output().len();
            rig.trunk.handle_link_written(rig.now, output);
            writes += 1;
        }
        assert!(writes <= 6, "{writes} writes");
    }
}

#[test]
fn shards_are_read_until_256_kib_wait_for_the_backend() {
    let mut rig = Rig::open();
    for shard in [A, B] {
        assert!(rig.trunk.branch_takes(shard));
    }
    rig.says(A, &packet_of(A, LINK_BYTES - 1));
    assert!(rig.trunk.branch_takes(B));
    rig.says(B, &packet_of(B, 13));
    for shard in [A, B] {
        assert!(!rig.trunk.branch_takes(shard));
    }
    for shard in [A, B] {
        rig.trunk.handle_branch_idle(rig.now, shard);
    }
    rig.trunk.handle_link_written(rig.now, LINK_BYTES - 2);
    assert!(
        !rig.trunk.branch_takes(A),
        "a packet that is not written whole counts in full"
    );
    rig.trunk.handle_link_written(rig.now, 1);
    assert!(rig.trunk.branch_takes(A));
    let exactly = LINK_BYTES - 13;
    rig.says(A, &packet_of(A, exactly));
    assert_eq!(rig.trunk.gauges().link_bytes, LINK_BYTES);
    assert!(!rig.trunk.branch_takes(A));
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
    rig.says(B, &packet(B, b"b is there, too"));
    assert_eq!(rig.backend_hears(), ["b is there, too"]);
    assert_eq!(rig.output(), b"");
    rig.says(B, &[&MARK[..], &packet(B, b"b waited")].concat());
    assert_eq!(rig.backend_hears(), ["a waited", "c waited", "b waited"]);
}

#[test]
fn waiting_packets_do_not_block_announcements() {
    let mut rig = Rig::new();
    rig.backend_comes();
    rig.dial(A);
    rig.dial(B);
    rig.says(A, &[&MARK[..], &packet_of(A, LINK_BYTES)].concat());
    assert!(!rig.trunk.branch_takes(A));
    assert!(rig.trunk.branch_takes(B));
    rig.says(B, &packet_of(B, LINK_BYTES - 1));
    assert!(rig.trunk.branch_takes(B));
    rig.says(B, &packet_of(B, 13));
    assert!(
        !rig.trunk.branch_takes(B),
        "announcements have the bound, too"
    );
}

#[test]
fn packets_sent_before_a_shard_knew_of_the_loss_are_kept() {
    let mut rig = Rig::open();
    rig.says(A, &packet(A, b"one"));
    rig.backend_goes();
    assert_eq!(rig.output(), b"", "nobody is there");
    rig.says(A, &packet(A, b"two"));
    rig.ends(A);
    rig.ends(B);
    rig.says(A, &packet(A, b"not due, and so harmless"));
    rig.backend_comes();
    rig.dial(A);
    rig.dial(B);
    rig.says(A, &[&MARK[..], &packet(A, b"three")].concat());
    rig.says(B, &MARK);
    assert_eq!(rig.backend_hears(), ["one", "two", "three"]);
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
    assert!(rig.trunk.branch_takes(A), "its mark may be under way");
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
    assert!(!rig.trunk.branch_takes(B));
    rig.hears(B);
    assert!(
        rig.trunk.branch_takes(B),
        "what its branch holds must find room, or its end is never seen"
    );
    rig.ends(B);
    assert!(!rig.trunk.branch_takes(B));
}

#[test]
fn a_shard_that_leaves_the_link_resets_it_since_its_announcements_would_come_in_the_middle() {
    let mut rig = Rig::open();
    rig.says(A, &packet(A, b"handed up"));
    rig.trunk.handle_branch_closed(rig.now, A);
    assert!(rig.trunk.link_wants_close());
    assert_eq!(rig.output(), b"");
    assert!(!rig.trunk.branch_accepts(A));
    rig.trunk.handle_link_closed(rig.now, Closed::Asked);
    rig.ends(B);
    rig.backend_comes();
    rig.dial(A);
    rig.dial(B);
    rig.says(A, &MARK);
    rig.says(B, &MARK);
    assert_eq!(rig.backend_hears(), ["handed up"]);
}

#[test]
fn a_shard_keeps_what_waits_until_there_is_room_however_often_the_link_is_lost() {
    let mut rig = Rig::open();
    rig.says(A, &packet_of(A, LINK_BYTES));
    let mut held = LINK_BYTES;
    for _ in 0..10 {
        rig.backend_goes();
        // What its branch held arrives once.
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
    assert_eq!(rig.hears(A), b"", "once for each branch");
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
    let takes_all = |rig: &mut Rig| {
        rig.backend_hears();
    };
    // A third of 256 KiB each; the first to come had all of it.
    let turn = LINK_BYTES / 3;
    rig.trunk.handle_branch_idle(rig.now, C);
    let mut of_a = 0;
    while rig.trunk.branch_takes(A) {
        of_a += BATCH_BYTES;
        rig.says(A, &packet_of(A, BATCH_BYTES));
        takes_all(&mut rig);
    }
    assert!((turn..=LINK_BYTES).contains(&of_a), "{of_a}");
    assert!(rig.trunk.branch_takes(B));
    rig.trunk.handle_branch_idle(rig.now, B);
    assert!(rig.trunk.branch_takes(A), "nobody else has anything");
    // A shard that comes back has a turn, and so has one that ends.
    assert!(rig.trunk.branch_takes(C));
    rig.says(C, &packet_of(C, 100));
    rig.says(A, &packet_of(A, turn));
    takes_all(&mut rig);
    assert!(!rig.trunk.branch_takes(A));
    rig.trunk.handle_branch_gone(rig.now, C);
    assert!(rig.trunk.branch_takes(A));
}

#[test]
fn a_batch_that_exceeds_a_turn_counts_for_the_turns_that_it_fills() {
    let mut rig = Rig::open();
    for shard in [A, B] {
        rig.trunk.handle_branch_idle(rig.now, shard);
    }
    let mut bring = |shard, bytes| {
        rig.says(shard, &packet_of(shard, bytes));
        rig.backend_hears();
        [A, B].map(|shard| rig.trunk.branch_takes(shard))
    };
    let turn = LINK_BYTES / 2;
    for shard in [A, B] {
        bring(shard, 13);
    }
    assert_eq!(bring(B, turn - 13), [true, false]);
    assert_eq!(bring(A, 3 * turn), [false, true]);
    assert_eq!(bring(B, turn), [false, true]);
    assert_eq!(bring(B, turn), [true, true]);
}
