//! From the backend to the shards.

use super::*;

#[test]
fn each_frame_goes_to_the_shard_in_its_id_whatever_the_cuts() {
    let for_b = [packet(B, b"one"), packet(B, b"")].concat();
    let for_a = [packet(A, b"two"), frame(&[9; 8])].concat();
    // The top byte of an id is the last of its eight.
    let named_by_eight_bytes = frame(&[0, 0, 0, 0, 0, 0, 0, 1]);
    let stream = [&for_b[..], &for_a, &named_by_eight_bytes].concat();
    for cut in 0..=stream.len() {
        let mut rig = Rig::open();
        rig.backend_says(&stream[..cut]);
        rig.backend_says(&stream[cut..]);
        assert_eq!(rig.hears(A), for_a, "cut at {cut}");
        assert_eq!(
            rig.hears(B),
            [&for_b[..], &named_by_eight_bytes].concat(),
            "cut at {cut}"
        );
    }
}

#[test]
fn packets_without_a_shard_go_to_the_first() {
    let mut rig = Rig::open();
    let mut expected = Vec::new();
    for length in 1..8 {
        expected.extend(frame(&vec![1; length]));
    }
    for shard in [2, 3, 0x77, 255] {
        expected.extend(packet(ShardId::new(shard), b"anybody?"));
    }
    rig.backend_says(&expected);
    assert_eq!(rig.hears(A), expected);
    assert_eq!(rig.hears(B), b"");
}

#[test]
fn a_length_above_the_bound_loses_the_link_at_its_fourth_byte_and_what_came_before_it_counts() {
    let mut config = MasterConfig::default();
    config.max_frame_bytes = 100;
    let mut rig = Rig::of(1, &config);
    rig.backend_comes();
    rig.dial(A);
    let at_the_bound = packet(A, &[b'.'; 100]);
    rig.backend_says(&[&at_the_bound[..], &110_u32.to_le_bytes()[..3]].concat());
    assert!(!rig.trunk.link_wants_close());
    rig.backend_says(&[0]);
    assert!(rig.trunk.link_wants_close());
    assert_eq!(rig.trunk.counters().link_violations, 1);
    assert_eq!(rig.trunk.link_read_budget(), 0);
    rig.backend_says(&packet(A, b"nothing after it means anything"));
    assert_eq!(rig.hears(A), at_the_bound);
    rig.trunk.handle_link_closed(rig.now, Closed::Asked);
    rig.ends(A);
    rig.backend_comes();
    rig.dial(A);
    rig.backend_says(&packet(A, b"framing is found again"));
    assert_eq!(rig.hears(A), packet(A, b"framing is found again"));
}

#[test]
fn a_shard_that_stops_reading_holds_the_backend_at_one_mebibyte() {
    let mut rig = Rig::open();
    rig.backend_says(&packet_of(B, BRANCH_BYTES - 1));
    assert_eq!(rig.trunk.link_read_budget(), READ_BYTES);
    rig.backend_says(&packet(A, b""));
    assert_eq!(
        rig.trunk.link_read_budget(),
        READ_BYTES,
        "each has its own bound"
    );
    rig.hears(B);
    rig.backend_says(&packet_of(B, BRANCH_BYTES));
    assert_eq!(rig.trunk.link_read_budget(), 0);
    rig.hears(B);
    assert_eq!(rig.trunk.link_read_budget(), READ_BYTES);
}

#[test]
fn an_unfinished_frame_of_a_lost_link_is_nobodys() {
    let mut rig = Rig::open();
    let cut = packet(B, b"cut");
    rig.backend_says(&cut[..cut.len() - 1]);
    rig.backend_goes();
    for shard in [A, B] {
        rig.ends(shard);
    }
    rig.backend_comes();
    for shard in [A, B] {
        rig.dial(shard);
    }
    rig.backend_says(&packet(B, b"new"));
    assert_eq!(rig.hears(B), packet(B, b"new"));
}

#[test]
fn packets_for_a_shard_reach_it_even_after_the_loss_of_the_link() {
    let mut rig = Rig::open();
    rig.backend_says(&packet(B, b"before"));
    rig.backend_goes();
    assert!(rig.trunk.branch_wants_close(A), "it has all that came");
    assert!(!rig.trunk.branch_wants_close(B));
    assert_eq!(rig.hears(B), packet(B, b"before"));
    assert!(rig.trunk.branch_wants_close(B));
}

#[test]
fn the_next_link_is_read_when_every_shard_is_done_with_the_one_before() {
    let mut rig = Rig::open();
    rig.backend_goes();
    rig.ends(A);
    rig.backend_comes();
    rig.dial(A);
    // The other shard knows of the loss and has yet to end: its stream takes nothing any more, and packets that arrived now would be lost.
    assert!(rig.trunk.branch_wants_close(B));
    assert!(!rig.trunk.branch_accepts(B));
    assert_eq!(rig.trunk.link_read_budget(), 0);
    rig.ends(B);
    assert_eq!(
        rig.trunk.link_read_budget(),
        READ_BYTES,
        "that it has no stream yet is in nobody's way"
    );
    rig.backend_says(&packet(B, b"early"));
    assert_eq!(rig.hears(B), b"");
    rig.dial(B);
    assert_eq!(rig.hears(B), packet(B, b"early"));
}

#[test]
fn packets_for_a_shard_without_a_stream_outlive_the_link_as_well() {
    let mut rig = Rig::new();
    rig.backend_comes();
    rig.backend_says(&packet(B, b"first"));
    rig.backend_goes();
    rig.backend_comes();
    rig.backend_says(&packet(B, b"second"));
    rig.dial(B);
    assert_eq!(texts(&rig.hears(B)), ["first", "second"]);
}

#[test]
fn what_waits_for_a_shard_is_handed_down_in_batches_in_order() {
    let mut rig = Rig::open();
    let packets: Vec<Vec<u8>> = (0..300).map(|n| packet(B, &[n as u8; 1_000])).collect();
    rig.backend_says(&packets.concat());
    let mut heard = Vec::new();
    while let Some(output) = rig.takes(B) {
        let batch = output.into_batch().expect("it was released before");
        let bytes = batch.bytes().len();
        assert!(
            bytes < BATCH_BYTES + packets[0].len(),
            "{bytes} bytes in a batch"
        );
        assert_eq!(bytes, batch.frames() * packets[0].len());
        heard.extend_from_slice(batch.bytes());
    }
    assert_eq!(heard, packets.concat());
    assert_eq!(rig.trunk.gauges().held_bytes, 0);
}
