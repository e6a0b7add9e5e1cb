//! Records as their sender makes them.

use proptest::prelude::*;

use super::super::progress::Ring;
use super::super::schedule::Secret;
use super::*;
use crate::queue::Retention;

/// The lengths of the bodies of the early records for these packets.
fn early_records(packets: &[usize]) -> Vec<usize> {
    let mut outbox = Outbox::new(Retention::UntilAcked);
    packets
        .iter()
        .for_each(|length| outbox.push(&vec![7; *length]));
    let mut progress = Progress::new(Ring {
        packets: 8_192,
        bytes: 1 << 20,
    });
    let mut outbound = Outbound::of_early(&Secret::of_test(), 1);
    let mut rest = outbound.fill(&mut outbox, &mut progress);
    let mut lengths = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<LENGTH_BYTES>() {
        let length = u32::from_le_bytes(*length) as usize;
        lengths.push(length);
        rest = &after[length..];
    }
    lengths
}

/// The records of these packets for a client that acknowledges `acked` of them once they are made, and the numbers sent after each.
/// `slowly`: as for a session that has packets of other classes, too.
fn records_of(packets: &[usize], ring: Ring, acked: u64, slowly: bool) -> (Vec<Vec<u8>>, Vec<u64>) {
    let mut outbox = Outbox::new(Retention::UntilAcked);
    let mut progress = Progress::new(ring);
    if slowly {
        progress.skip_volatile();
    }
    let mut outbound = Outbound::of_welcome(&Secret::of_test());
    let (mut records, mut sent) = (Vec::new(), Vec::new());
    for half in packets.chunks(packets.len().div_ceil(2).max(1)) {
        half.iter()
            .for_each(|length| outbox.push(&vec![7; *length]));
        let made = outbound.fill(&mut outbox, &mut progress).to_vec();
        outbound.written(made.len());
        records.push(made);
        sent.push(outbox.sent());
        let more = acked.min(outbox.sent() - outbox.acked());
        if more > 0 {
            progress.hear(more, &mut outbox).unwrap();
        }
    }
    (records, sent)
}

proptest! {
    #[test]
    fn the_shorter_way_of_ordinary_packets_makes_the_same_records(
        packets in prop::collection::vec(prop_oneof![0..300_usize, 0..5_000_usize, 60_000..70_000_usize], 0..60),
        ring_packets in 1..80_u32, ring_bytes in 0..400_000_u32, acked in 0..20_u64,
    ) {
        let ring = Ring { packets: ring_packets, bytes: ring_bytes };
        let by = |slowly| records_of(&packets, ring, acked, slowly);
        prop_assert_eq!(by(false), by(true));
    }
}

/// On a slow network a long one would come too late in each attempt, and its client would never be back.
#[test]
fn the_first_early_record_is_short_whatever_waits() {
    assert_eq!(early_records(&[]), [TAG_BYTES]);
    assert_eq!(early_records(&[64]), [TAG_BYTES + 65]);
    assert_eq!(early_records(&[124, 2]), [TAG_BYTES + 128]);
    assert_eq!(early_records(&[124, 3]), [TAG_BYTES + 125, TAG_BYTES + 4]);
    assert_eq!(early_records(&[126]), [TAG_BYTES, TAG_BYTES + 129]);
    assert_eq!(early_records(&[4_000]), [TAG_BYTES, TAG_BYTES + 4_003]);
}

/// SPEC 41.1(d): the other process would not know that the client is to have it.
#[cfg(all(feature = "upgrade", feature = "cluster"))]
#[test]
fn a_ticket_that_is_not_written_keeps_its_connection_here() {
    let mut outbound = Outbound::of_welcome(&Secret::of_test());
    outbound.forget_first();
    let moves = |outbound: &Outbound| outbound.save(&mut Vec::new());
    assert!(moves(&outbound));
    outbound.give_ticket(&[7; 113]);
    assert!(!moves(&outbound));
    let mut outbox = Outbox::new(Retention::UntilAcked);
    let mut progress = Progress::new(Ring {
        packets: 8_192,
        bytes: 1 << 20,
    });
    let made = outbound.fill(&mut outbox, &mut progress).len();
    assert!(made > 113, "it is made");
    outbound.written(made);
    assert!(moves(&outbound));
}

#[test]
fn what_few_connections_have_keeps_no_wire_and_goes_once_it_is_empty() {
    let mut outbox = Outbox::new(Retention::UntilAcked);
    let mut progress = Progress::new(Ring {
        packets: 8,
        bytes: 1 << 10,
    });
    let mut outbound = Outbound::of_welcome(&Secret::of_test());
    let mut write = |outbound: &mut Outbound| {
        outbound.ping([1; 8]);
        let made = outbound.fill(&mut outbox, &mut progress).len();
        assert_eq!(outbound.written(made), made);
    };
    let leaves = Some((Time::ZERO, Code::GOING_AWAY));
    outbound.rare_mut().leaves = leaves;
    for _ in 0..2 {
        write(&mut outbound);
        assert!(!outbound.wants_sending());
        let given = outbound.surrender().expect("nothing is being sent");
        assert!(given.wire.capacity() > 0 && given.rare.is_none());
        assert!(outbound.wants_sending(), "it has no wire any more");
        assert!(outbound.surrender().is_none(), "there is no more");
        assert_eq!(outbound.rare().expect("it stays").leaves, leaves);
        // Another one's wire does not take it away.
        outbound.adopt(given);
        assert!(!outbound.wants_sending());
        assert_eq!(outbound.rare().expect("it stays").leaves, leaves);
    }
    write(&mut outbound);
    drop(outbound.surrender());
    // What else there is of it stays without that.
    outbound.rare_mut().ponged = Some([2; 8]);
    outbound.stay();
    let rare = outbound.rare().expect("a PONG has come");
    assert_eq!((rare.leaves, rare.ponged), (None, Some([2; 8])));
    outbound.rare_mut().ponged = None;
    outbound.stay();
    assert!(outbound.rare().is_none() && outbound.sending.is_none());
}
