//! The backend machine against a scripted edge. (SPEC 7)

use proptest::prelude::*;
use voltlane_core::backend::{Backend, BackendConfig, BackendError, Event, Fault, SendError};
use voltlane_core::link::Protocol;
use voltlane_core::link::tagged::{Flag, Tagged, TaggedError};
use voltlane_core::wire::frame::{FrameReader, FrameTooLong, encode_frame};
use voltlane_core::{ClientId, ConfigError};

const A: ClientId = ClientId::from_u64(0x0102_0304_0506_0708);
const B: ClientId = ClientId::from_u64(u64::MAX);

/// An [`Event`] that owns its content.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Packet(ClientId, Vec<u8>),
    Resumed(ClientId),
    Failed(ClientId, String),
    Fault(Fault),
}

fn backend() -> Backend {
    Backend::new(BackendConfig::default())
}

fn tagged(id: ClientId, flag: Flag, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    Tagged { id, flag, data }.encode(&mut frame);
    frame
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(body, &mut frame);
    frame
}

fn feed(backend: &mut Backend, bytes: &[u8]) -> Result<Vec<Seen>, BackendError> {
    let mut input = bytes;
    let mut seen = Vec::new();
    while let Some(event) = backend.handle_bytes(&mut input)? {
        seen.push(match event {
            Event::Packet { id, data } => Seen::Packet(id, data.to_vec()),
            Event::Resumed { id } => Seen::Resumed(id),
            Event::Failed { id, reason } => Seen::Failed(id, reason.into_owned()),
            Event::Fault(fault) => Seen::Fault(fault),
        });
    }
    assert!(input.is_empty(), "None means that nothing is left");
    Ok(seen)
}

/// Everything that an edge may send, once.
fn script() -> (Vec<u8>, Vec<Seen>) {
    let bytes = [
        tagged(A, Flag::Data, b"first"),
        tagged(B, Flag::Data, b""),
        tagged(A, Flag::Resumed, b""),
        tagged(A, Flag::Data, &[7; 300]),
        tagged(B, Flag::Failure, b"expired"),
    ]
    .concat();
    let seen = vec![
        Seen::Packet(A, b"first".to_vec()),
        Seen::Packet(B, Vec::new()),
        Seen::Resumed(A),
        Seen::Packet(A, vec![7; 300]),
        Seen::Failed(B, "expired".to_owned()),
    ];
    (bytes, seen)
}

#[test]
fn every_packet_of_an_edge_becomes_an_event_whatever_the_cuts() {
    let (bytes, expected) = script();
    assert_eq!(feed(&mut backend(), &bytes), Ok(expected.clone()));
    for cut in 0..=bytes.len() {
        let mut backend = backend();
        let (first, second) = bytes.split_at(cut);
        let mut seen = feed(&mut backend, first).expect("well formed");
        seen.extend(feed(&mut backend, second).expect("well formed"));
        assert_eq!(seen, expected, "cut at {cut}");
    }
    let mut backend = backend();
    let seen: Vec<Seen> = bytes
        .iter()
        .flat_map(|byte| feed(&mut backend, &[*byte]).expect("well formed"))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_packet_is_lent_from_the_bytes_that_were_read() {
    let bytes = tagged(A, Flag::Data, b"lent");
    let mut input = bytes.as_slice();
    let mut backend = backend();
    let Ok(Some(Event::Packet { data, .. })) = backend.handle_bytes(&mut input) else {
        panic!("no packet")
    };
    assert!(std::ptr::eq(data, &bytes[13..]), "no copy on the way");
}

#[test]
fn packets_and_kicks_leave_in_order_as_the_wire_has_them() {
    let mut backend = backend();
    backend.send(A, b"one").expect("there is room");
    backend.send(B, b"").expect("an empty packet is a packet");
    backend.kick(A).expect("there is room");
    let expected = [
        tagged(A, Flag::Data, b"one"),
        tagged(B, Flag::Data, b""),
        tagged(A, Flag::Kick, b""),
    ]
    .concat();
    assert_eq!(backend.output(), expected);
    assert_eq!(
        (backend.queued_packets(), backend.queued_bytes()),
        (3, 16 + 13 + 13)
    );
    backend.handle_written(expected.len());
    assert_eq!((backend.queued_packets(), backend.queued_bytes()), (0, 0));
    assert_eq!(backend.output(), [0; 0]);
}

#[test]
fn the_longest_packet_is_what_a_frames_length_can_say() {
    let config = BackendConfig::default().with_max_send_bytes(u32::MAX);
    let most = Backend::new(config.with_queue_bytes(usize::MAX).expect("a queue"));
    assert_eq!(most.max_packet_bytes(), u32::MAX as usize - 9);
}

#[test]
fn a_frame_that_no_edge_sends_is_reported_and_costs_nothing_else() {
    let unexpected = |flag, data_bytes| Fault::Unexpected {
        id: A,
        flag,
        data_bytes,
    };
    let cases = [
        (
            frame(&[]),
            Fault::Malformed(TaggedError::TooShort { length: 0 }),
        ),
        (
            frame(&[1; 8]),
            Fault::Malformed(TaggedError::TooShort { length: 8 }),
        ),
        (
            frame(&[&A.as_u64().to_le_bytes()[..], &[4], b"data"].concat()),
            Fault::Malformed(TaggedError::UnknownFlag { id: A, flag: 4 }),
        ),
        (tagged(A, Flag::Kick, b""), unexpected(Flag::Kick, 0)),
        (tagged(A, Flag::Kick, b"x"), unexpected(Flag::Kick, 1)),
        (
            tagged(A, Flag::Resumed, b"xy"),
            unexpected(Flag::Resumed, 2),
        ),
    ];
    for (bytes, fault) in cases {
        let mut backend = backend();
        let input = [
            tagged(A, Flag::Data, b"before"),
            bytes,
            tagged(A, Flag::Data, b"after"),
        ]
        .concat();
        let expected = [
            Seen::Packet(A, b"before".to_vec()),
            Seen::Fault(fault),
            Seen::Packet(A, b"after".to_vec()),
        ];
        assert_eq!(feed(&mut backend, &input), Ok(expected.to_vec()));
    }
}

#[test]
fn a_reason_is_read_whatever_its_bytes() {
    let reason =
        |bytes: &[u8]| feed(&mut backend(), &tagged(A, Flag::Failure, bytes)).expect("well formed");
    assert_eq!(reason(b""), [Seen::Failed(A, String::new())]);
    assert_eq!(
        reason("geschlossen – ende".as_bytes()),
        [Seen::Failed(A, "geschlossen – ende".to_owned())]
    );
    assert_eq!(
        reason(b"\xffodd"),
        [Seen::Failed(A, "\u{fffd}odd".to_owned())]
    );
}

#[test]
fn a_frame_of_the_bound_is_taken_and_one_beyond_loses_the_link_by_its_length_alone() {
    let config = BackendConfig::default().with_max_receive_bytes(109);
    let mut backend = Backend::new(config.expect("a bound"));
    assert_eq!(
        feed(&mut backend, &tagged(A, Flag::Data, &[1; 100])),
        Ok(vec![Seen::Packet(A, vec![1; 100])])
    );

    let lost = Err(BackendError::FrameTooLong(FrameTooLong {
        length: 110,
        max: 109,
    }));
    assert_eq!(feed(&mut backend, &110_u32.to_le_bytes()), lost);
    assert_eq!(
        feed(&mut backend, &tagged(A, Flag::Data, b"x")),
        lost,
        "it stays lost"
    );
    assert_eq!(feed(&mut backend, &[]), lost);

    backend.handle_closed();
    assert_eq!(
        feed(&mut backend, &tagged(A, Flag::Data, b"x")),
        Ok(vec![Seen::Packet(A, b"x".to_vec())])
    );
}

#[test]
fn the_default_bounds_are_those_of_the_specification() {
    let mut backend = backend();
    let longest = 8_388_617_u32;
    assert_eq!(feed(&mut backend, &longest.to_le_bytes()), Ok(Vec::new()));
    backend.handle_closed();
    assert!(feed(&mut backend, &(longest + 1).to_le_bytes()).is_err());

    let max = 8 << 20;
    assert_eq!(
        backend.send(A, &vec![0; max + 1]),
        Err(SendError::TooLong {
            length: max + 1,
            max
        })
    );
    assert_eq!(backend.send(A, &vec![0; max]), Ok(()));
}

#[test]
fn bytes_are_bounded_exactly() {
    let config = BackendConfig::default().with_queue_bytes(100);
    let mut backend = Backend::new(config.expect("a queue"));
    assert_eq!(backend.max_packet_bytes(), 87);
    assert_eq!(
        backend.send(A, &[0; 88]),
        Err(SendError::TooLong {
            length: 88,
            max: 87
        })
    );
    assert_eq!(backend.send(A, &[0; 61]), Ok(()));
    assert_eq!(
        backend.send(B, &[0; 14]),
        Err(SendError::QueueFull),
        "one beyond"
    );
    assert_eq!(backend.send(B, &[0; 13]), Ok(()));
    assert_eq!(backend.queued_bytes(), 100);
    assert_eq!(backend.kick(A), Err(SendError::QueueFull));

    // A half-written packet counts in full.
    backend.handle_written(73);
    assert_eq!(backend.kick(A), Err(SendError::QueueFull));
    backend.handle_written(1);
    assert_eq!(backend.kick(A), Ok(()));
    assert_eq!((backend.queued_packets(), backend.queued_bytes()), (2, 39));
}

#[test]
fn wherever_the_link_breaks_the_cut_packet_comes_again_whole_and_the_written_ones_do_not() {
    let frames = [
        tagged(A, Flag::Data, b"first"),
        tagged(B, Flag::Data, b""),
        tagged(A, Flag::Kick, b""),
        tagged(B, Flag::Data, b"last"),
    ];
    let all = frames.concat();
    for cut in 0..=all.len() {
        let mut backend = backend();
        backend.send(A, b"first").expect("there is room");
        backend.send(B, b"").expect("there is room");
        backend.kick(A).expect("there is room");
        backend.send(B, b"last").expect("there is room");
        backend.handle_written(cut);
        backend.handle_closed();
        let mut end = 0;
        let unfinished: Vec<u8> = frames
            .iter()
            .filter(|frame| {
                end += frame.len();
                end > cut
            })
            .flatten()
            .copied()
            .collect();
        assert_eq!(backend.output(), unfinished, "cut at {cut}");
    }
}

#[test]
fn a_frame_cut_by_the_end_of_a_link_is_not_finished_by_the_next() {
    let mut backend = backend();
    assert_eq!(
        feed(&mut backend, &tagged(A, Flag::Data, b"never whole")[..15]),
        Ok(Vec::new())
    );
    backend.handle_closed();
    let (bytes, expected) = script();
    assert_eq!(feed(&mut backend, &bytes), Ok(expected));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_all_cuts_of_them_are_one(
        bytes in proptest::collection::vec(prop_oneof![3 => 0..20_u8, 1 => any::<u8>()], 0..400),
        piece in 1..40_usize,
    ) {
        let config = BackendConfig::default().with_max_receive_bytes(30).expect("a bound");
        // The events up to the first error, and the error.
        let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut backend = Backend::new(config.clone());
            let mut events = 0;
            for mut input in pieces {
                loop {
                    match backend.handle_bytes(&mut input) {
                        Ok(Some(_)) => events += 1,
                        Ok(None) => break,
                        Err(error) => return (events, Err(error)),
                    }
                }
            }
            (events, Ok(()))
        };
        let whole = read(&mut std::iter::once(bytes.as_slice()));
        prop_assert_eq!(read(&mut bytes.chunks(piece)), whole);
        prop_assert!(whole.0 <= bytes.len() / 4);
    }

    #[test]
    fn sent_packets_are_what_an_edge_reads(
        packets in proptest::collection::vec((any::<u64>(), proptest::collection::vec(any::<u8>(), 0..100)), 0..30),
        piece in 1..200_usize,
    ) {
        let mut backend = backend();
        for (id, data) in &packets {
            backend.send(ClientId::from_u64(*id), data).expect("there is room");
        }
        let mut edge = FrameReader::default();
        let mut read = Vec::new();
        while !backend.output().is_empty() {
            let n = piece.min(backend.output().len());
            let written = backend.output()[..n].to_vec();
            backend.handle_written(n);
            let mut input = written.as_slice();
            while let Some(body) = edge.next_frame(&mut input, 200).expect("within bounds") {
                let packet = Tagged::decode(body).expect("well formed");
                prop_assert_eq!(packet.flag, Flag::Data);
                read.push((packet.id.as_u64(), packet.data.to_vec()));
            }
        }
        prop_assert_eq!(read, packets);
    }
}

#[test]
fn another_program_is_named_and_an_edge_may_send_anything_later() {
    let http = Err(BackendError::Foreign(Protocol::Http));
    assert_eq!(feed(&mut backend(), b"GET / HTTP/1.1\r\n\r\n"), http);
    let mut cut = backend();
    assert_eq!(feed(&mut cut, b"GET"), Ok(Vec::new()));
    assert_eq!(feed(&mut cut, b" / HTTP/1.1\r\n"), http);
    assert_eq!(
        feed(&mut cut, &tagged(A, Flag::Data, b"x")),
        http,
        "it stays so"
    );
    cut.handle_closed();
    let good = tagged(A, Flag::Data, b"x");
    let packet = || Seen::Packet(A, b"x".to_vec());
    assert_eq!(feed(&mut cut, &good), Ok(vec![packet()]));
    assert!(matches!(
        feed(&mut cut, b"GET / HTTP/1.1"),
        Err(BackendError::FrameTooLong(_))
    ));
    // A client that was directed to the wrong port.
    assert_eq!(
        feed(&mut backend(), &[2, 0, 0, 0, 1, 2]),
        Err(BackendError::Foreign(Protocol::VoltlaneClient))
    );
}

#[test]
fn thirty_two_malformed_packets_and_no_good_one_are_not_an_edges() {
    let malformed = |count: usize| [1, 0, 0, 0, 7].repeat(count);
    let mut backend = backend();
    assert_eq!(
        feed(&mut backend, &malformed(31)).map(|seen| seen.len()),
        Ok(31)
    );
    let no_edge = Err(BackendError::NoEdge { packets: 32 });
    assert_eq!(feed(&mut backend, &malformed(1)), no_edge);
    assert_eq!(feed(&mut backend, &malformed(1)), no_edge);
    backend.handle_closed();
    assert!(feed(&mut backend, &malformed(31)).is_ok());
    assert!(feed(&mut backend, &tagged(A, Flag::Resumed, b"")).is_ok());
    assert!(feed(&mut backend, &malformed(100)).is_ok());
}

#[test]
fn a_bound_under_which_nothing_could_pass_is_refused_and_the_smallest_is_not() {
    let config = BackendConfig::default;
    let too_small = |name, value, min| Err(ConfigError::TooSmall { name, value, min });
    assert_eq!(
        config().with_queue_bytes(12),
        too_small("queue_bytes", 12, 13)
    );
    assert!(config().with_queue_bytes(13).is_ok());
    let refused = config().with_max_receive_bytes(8);
    assert_eq!(refused, too_small("max_receive_bytes", 8, 9));
    assert!(config().with_max_receive_bytes(9).is_ok());
}
