//! Tests of the outbox.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::queue::CountedTwice;

fn with(retention: Retention, packets: &[&[u8]]) -> Outbox {
    let mut outbox = Outbox::new(retention);
    for packet in packets {
        outbox.push(packet);
    }
    outbox
}

fn shared(packet: &[u8]) -> SharedPacket {
    SharedPacket::new(packet, &CountedTwice::default())
}

/// Returns all that is to be sent, as version 2 writes it.
fn all_unsent(outbox: &Outbox) -> Vec<u8> {
    let (mut outbox, mut all) = (outbox.clone(), Vec::new());
    while outbox.has_unsent() {
        let some = match outbox.retention() {
            Retention::UntilWritten => outbox.unsent().to_vec(),
            Retention::UntilAcked => {
                let packet = outbox.next_packet().unwrap();
                [&(packet.len() as u32).to_le_bytes(), packet].concat()
            }
        };
        outbox.advance(some.len());
        all.extend(some);
    }
    all
}

fn marks(outbox: &Outbox) -> (u64, u64, u64) {
    (outbox.acked(), outbox.sent(), outbox.end())
}

/// Sends the next packet, as a version that writes another form does.
fn send_next(outbox: &mut Outbox) -> Option<Vec<u8>> {
    let packet = outbox.next_packet()?.to_vec();
    outbox.advance(Outbox::stored_bytes(packet.len()));
    Some(packet)
}

#[test]
fn a_new_outbox_owns_nothing_and_is_small() {
    for retention in [Retention::UntilWritten, Retention::UntilAcked] {
        let outbox = Outbox::new(retention);
        assert_eq!(marks(&outbox), (0, 0, 0));
        assert_eq!(outbox.retention(), retention);
        assert_eq!((outbox.held_bytes(), outbox.capacity_bytes()), (0, 0));
        assert!(outbox.is_empty() && !outbox.has_unsent() && outbox.next_packet().is_none());
    }
    assert!(size_of::<Outbox>() <= 32);
}

#[test]
fn until_written_a_packet_is_gone_with_its_last_byte() {
    let mut outbox = with(Retention::UntilWritten, &[b"one", b"two"]);
    assert_eq!(outbox.unsent(), b"\x03\0\0\0one\x03\0\0\0two");
    outbox.advance(7 + 6);
    assert_eq!((marks(&outbox), outbox.held_bytes()), ((1, 1, 2), 7));
    assert_eq!((outbox.unsent(), outbox.next_packet()), (&b"o"[..], None));
    outbox.lose_transport();
    assert_eq!(outbox.next_packet(), Some(&b"two"[..]), "whole again");
    assert_eq!(outbox.resume_from(1), Ok(()));
    outbox.advance(7);
    assert_eq!((marks(&outbox), outbox.is_empty()), ((2, 2, 2), true));
}

#[test]
fn until_acked_a_packet_stays_when_it_is_sent() {
    let mut outbox = with(Retention::UntilAcked, &[b"one", b"two", b"three"]);
    assert_eq!(send_next(&mut outbox), Some(b"one".to_vec()));
    assert_eq!(send_next(&mut outbox), Some(b"two".to_vec()));
    assert_eq!(
        (marks(&outbox), outbox.held_bytes()),
        ((0, 2, 3), 7 + 7 + 9)
    );
    assert_eq!(outbox.acknowledge(1), Ok(()));
    assert_eq!((marks(&outbox), outbox.held_bytes()), ((1, 2, 3), 7 + 9));
    outbox.lose_transport();
    assert_eq!(marks(&outbox), (1, 2, 3), "the peer may have both");
    assert_eq!(outbox.resume_from(1), Ok(()));
    assert_eq!(outbox.unsent(), b"\x03\0\0\0two\x05\0\0\0three");
    assert_eq!(marks(&outbox), (1, 1, 3));
}

#[test]
fn a_resume_moves_no_packet_out() {
    let mut outbox = with(Retention::UntilAcked, &[b"one", b"two"]);
    while send_next(&mut outbox).is_some() {}
    assert_eq!(outbox.resume_from(2), Ok(()));
    assert_eq!((marks(&outbox), outbox.packets()), ((0, 2, 2), 2));
    assert_eq!(outbox.next_packet(), None);
}

#[test]
fn a_number_that_the_peer_cannot_name_changes_nothing() {
    let mut outbox = with(Retention::UntilAcked, &[b"one", b"two", b"three"]);
    send_next(&mut outbox);
    send_next(&mut outbox);
    outbox.acknowledge(1).unwrap();
    for number in [0, 3, 4, u64::MAX] {
        let unknown = Err(UnknownNumber {
            number,
            acked: 1,
            sent: 2,
        });
        assert_eq!(outbox.acknowledge(number), unknown);
        assert_eq!(outbox.resume_from(number), unknown);
        assert_eq!((marks(&outbox), outbox.packets()), ((1, 2, 3), 2));
    }
    let text = outbox.acknowledge(3).unwrap_err().to_string();
    assert_eq!(text, "packet 3 named, only 1 to 2 can be");
}

#[test]
#[should_panic(expected = "taken whole")]
fn until_acked_a_packet_is_not_sent_in_part() {
    with(Retention::UntilAcked, &[b"one", b"two"]).advance(9);
}

#[test]
fn a_packet_fits_within_both_bounds_or_alone() {
    let bounds = Bounds {
        packets: 2,
        bytes: 14,
    };
    for retention in [Retention::UntilWritten, Retention::UntilAcked] {
        let mut outbox = Outbox::new(retention);
        assert!(outbox.takes(1_000, bounds), "one alone may be of any size");
        outbox.push(b"one");
        assert!(outbox.takes(7, bounds) && !outbox.takes(8, bounds));
        outbox.push(b"two");
        assert!(!outbox.takes(0, bounds) && outbox.is_within(bounds));
        outbox.push(b"");
        assert!(!outbox.is_within(bounds));
        assert!(with(retention, &[&[0; 1_000]]).is_within(bounds));
        assert!(!with(retention, &[&[0; 7], b""]).is_within(bounds));
    }
    let none = Bounds {
        packets: 0,
        bytes: 14,
    };
    assert!(!Outbox::new(Retention::UntilAcked).takes(4, none));
}

#[test]
fn a_packet_that_is_given_up_leaves_its_place() {
    let lengths = [3, 700, 0, 41, 5, 200, 9];
    for first in 0..lengths.len() {
        for count in 0..=lengths.len() - first {
            for sent in 0..=lengths.len() {
                for acked in 0..=sent.min(first) {
                    let mut bodies: Vec<Vec<u8>> = Vec::new();
                    let mut outbox = Outbox::new(Retention::UntilAcked);
                    for (number, length) in lengths.into_iter().enumerate() {
                        bodies.push(vec![number as u8; length]);
                        match number % 3 == 1 {
                            true => outbox.push_shared(&shared(&bodies[number])),
                            false => outbox.push(&bodies[number]),
                        }
                    }
                    for _ in 0..sent {
                        send_next(&mut outbox);
                    }
                    outbox.acknowledge(acked as u64).unwrap();
                    let walk = outbox.walk_after(first as u64);
                    let place = walk.place();
                    assert_eq!(walk.collect::<Vec<_>>(), lengths[first..]);
                    outbox.empty(place, first as u64 + 1, count);
                    bodies[first..first + count].iter_mut().for_each(Vec::clear);
                    assert_eq!(marks(&outbox), (acked as u64, sent as u64, 7));
                    let stored = |some: &[Vec<u8>]| -> usize {
                        some.iter()
                            .map(|body| Outbox::stored_bytes(body.len()))
                            .sum()
                    };
                    assert_eq!(outbox.held_bytes(), stored(&bodies[acked..]));
                    assert_eq!(outbox.kept_bytes(), stored(&bodies[acked..sent]));
                    outbox.push(b"behind");
                    bodies.push(b"behind".to_vec());
                    outbox.resume_from(acked as u64).unwrap();
                    for body in &bodies[acked..] {
                        assert_eq!(send_next(&mut outbox).as_ref(), Some(body));
                    }
                    assert_eq!(send_next(&mut outbox), None);
                }
            }
        }
    }
}

#[test]
fn acknowledged_packets_give_their_memory_back() {
    let mut outbox = Outbox::new(Retention::UntilAcked);
    for _ in 0..1_024 {
        outbox.push(&[7; 1_020]);
        send_next(&mut outbox);
    }
    outbox.acknowledge(1_022).unwrap();
    assert!(outbox.capacity_bytes() <= KEPT_CAPACITY_BYTES);
    assert!(outbox.surrender().is_none(), "two packets are held");
    outbox.acknowledge(1_024).unwrap();
    assert!(outbox.surrender().is_some());
    assert_eq!(
        (marks(&outbox), outbox.capacity_bytes()),
        ((1_024, 1_024, 1_024), 0)
    );
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<u8>),
    /// One of which there is one copy.
    Share(Vec<u8>),
    /// Sends this part of what is to be sent, in 1/255: of its bytes, or of its packets if they are taken whole.
    Send(u8),
    /// Acknowledges this part of what can be acknowledged, in 1/255.
    Acknowledge(u8),
    /// Loses the transport; the peer has received this part of what was sent and not acknowledged, in 1/255.
    Resume(u8),
    /// Names a number that is this much beyond what was sent.
    Beyond(u8),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Step::Push),
        3 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Step::Share),
        6 => any::<u8>().prop_map(Step::Send),
        4 => any::<u8>().prop_map(Step::Acknowledge),
        3 => any::<u8>().prop_map(Step::Resume),
        1 => any::<u8>().prop_map(Step::Beyond),
        1 => Just(Step::Clear),
    ]
}

fn part(of: usize, fraction: u8) -> usize {
    of * usize::from(fraction) / 255
}

/// What an outbox is, in the plainest form: all packets ever pushed, and the marks.
#[derive(Debug, Default)]
struct Model {
    /// The packets after `acked`.
    held: VecDeque<Vec<u8>>,
    acked: usize,
    sent: usize,
    /// The bytes written of the packet after `sent`.
    cut: usize,
}

impl Model {
    fn drop_to(&mut self, acked: usize) {
        self.held.drain(..acked - self.acked);
        self.acked = acked;
    }

    fn unsent(&self) -> Vec<u8> {
        let packets = self.held.iter().skip(self.sent - self.acked);
        let stored = packets.flat_map(|packet| {
            let length = (packet.len() as u32).to_le_bytes();
            [&length, packet.as_slice()].concat()
        });
        stored.skip(self.cut).collect()
    }

    fn end(&self) -> usize {
        self.acked + self.held.len()
    }
}

proptest! {
    #[test]
    fn marks_and_packets_are_those_of_a_list(
        until_acked in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..200),
    ) {
        let retention = if until_acked { Retention::UntilAcked } else { Retention::UntilWritten };
        let mut outbox = Outbox::new(retention);
        let mut model = Model::default();
        let twice = CountedTwice::default();
        for step in steps {
            match step {
                Step::Push(packet) => {
                    outbox.push(&packet);
                    model.held.push_back(packet);
                }
                Step::Share(packet) => {
                    outbox.push_shared(&SharedPacket::new(&packet, &twice));
                    model.held.push_back(packet);
                }
                Step::Send(fraction) if until_acked => {
                    for _ in 0..part(model.end() - model.sent, fraction) {
                        let packet = send_next(&mut outbox);
                        prop_assert_eq!(packet.as_ref(), model.held.get(model.sent - model.acked));
                        model.sent += 1;
                    }
                }
                Step::Send(fraction) => {
                    let n = part(outbox.unsent().len(), fraction);
                    outbox.advance(n);
                    model.cut += n;
                    while let Some(packet) = model.held.front()
                        && packet.len() + 4 <= model.cut
                    {
                        model.cut -= packet.len() + 4;
                        model.sent += 1;
                        model.drop_to(model.sent);
                    }
                }
                Step::Acknowledge(fraction) => {
                    let number = model.acked + part(model.sent - model.acked, fraction);
                    prop_assert_eq!(outbox.acknowledge(number as u64), Ok(()));
                    model.drop_to(number);
                }
                Step::Resume(fraction) => {
                    outbox.lose_transport();
                    model.cut = 0;
                    let received = model.acked + part(model.sent - model.acked, fraction);
                    prop_assert_eq!(outbox.resume_from(received as u64), Ok(()));
                    model.sent = received;
                }
                Step::Beyond(more) => {
                    let number = outbox.sent() + 1 + u64::from(more);
                    prop_assert!(outbox.acknowledge(number).is_err());
                    prop_assert!(outbox.resume_from(number).is_err());
                }
                Step::Clear => {
                    outbox.clear();
                    model = Model { acked: model.end(), sent: model.end(), ..Model::default() };
                }
            }
            let (acked, sent, end) = marks(&outbox);
            prop_assert!(acked <= sent && sent <= end);
            prop_assert_eq!((acked, sent, end), (model.acked as u64, model.sent as u64, model.end() as u64));
            prop_assert_eq!(all_unsent(&outbox), model.unsent());
            let kept: usize = model.held.iter().take(model.sent - model.acked).map(|packet| packet.len() + 4).sum();
            prop_assert!(!until_acked || outbox.kept_bytes() == kept);
            let held: usize = model.held.iter().map(|packet| packet.len() + 4).sum();
            prop_assert_eq!((outbox.packets(), outbox.held_bytes()), (model.held.len(), held));
            prop_assert_eq!(outbox.has_unsent(), !model.unsent().is_empty());
            prop_assert!(until_acked || acked == sent);
        }
        outbox.clear();
        prop_assert_eq!(twice.bytes(), 0);
    }

    #[test]
    fn a_resume_sends_exactly_what_the_peer_lacks(
        packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..50),
        sent in any::<u8>(),
        acked in any::<u8>(),
    ) {
        let mut outbox = Outbox::new(Retention::UntilAcked);
        packets.iter().for_each(|packet| outbox.push(packet));
        let sent = part(packets.len(), sent);
        let acked = part(sent, acked);
        (0..sent).for_each(|_| drop(send_next(&mut outbox)));
        outbox.acknowledge(acked as u64).unwrap();
        // As often as the transport is lost, and wherever the peer is.
        for received in (acked..=sent).rev().chain([acked]) {
            outbox.lose_transport();
            prop_assert_eq!(outbox.resume_from(received as u64), Ok(()));
            let mut again = outbox.clone();
            let resent: Vec<Vec<u8>> = std::iter::from_fn(|| send_next(&mut again)).collect();
            prop_assert_eq!(&resent[..], &packets[received..]);
        }
    }

    #[test]
    fn an_owner_that_asks_stays_within_the_bounds(
        lengths in proptest::collection::vec(0..100_usize, 0..100),
        bounds in (0..20_usize, 0..500_usize),
        until_acked in any::<bool>(),
    ) {
        let retention = if until_acked { Retention::UntilAcked } else { Retention::UntilWritten };
        let bounds = Bounds { packets: bounds.0, bytes: bounds.1 };
        let mut outbox = Outbox::new(retention);
        for length in lengths {
            if outbox.takes(Outbox::stored_bytes(length), bounds) {
                outbox.push(&vec![0; length]);
            } else if outbox.has_unsent() {
                let n = outbox.next_packet().map_or(0, <[u8]>::len);
                outbox.advance(Outbox::stored_bytes(n));
            } else {
                outbox.acknowledge(outbox.sent()).unwrap();
            }
            prop_assert!(outbox.is_within(bounds));
            prop_assert!(outbox.packets() <= bounds.packets);
        }
    }
}

#[cfg(feature = "upgrade")]
#[test]
fn what_was_taken_of_a_packet_for_many_is_known() {
    let twice = CountedTwice::default();
    let mut outbox = Outbox::new(Retention::UntilWritten);
    outbox.push_shared(&SharedPacket::new(&[7; 300], &twice));
    outbox.push(&[8; 10]);
    outbox.advance(7);
    assert_eq!(outbox.begun_bytes(), 7);
    // Another process has copies of its own, and goes on there.
    let mut next = Outbox::new(Retention::UntilWritten);
    outbox.held_packets().for_each(|packet| next.push(packet));
    assert_eq!(next.begin_at(outbox.begun_bytes()), Some(()));
    assert_eq!(next.unsent()[..297], *outbox.unsent());
    outbox.advance(297);
    assert_eq!(outbox.begun_bytes(), 0);
    outbox.advance(3);
    assert_eq!(outbox.begun_bytes(), 3);
}
