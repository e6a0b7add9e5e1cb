//! SPEC 16.3 and 16.4, rule by rule.

use voltlane_doors::websocket::{
    CloseCode, Decoder, Event, MAX_CONTROLS_TOGETHER, MAX_EMPTY_FRAMES, Role, Violation,
    encode_close, encode_message, encode_ping,
};

const MASK: Option<[u8; 4]> = Some([1, 2, 3, 4]);

/// Returns the first violation in `bytes`, after which nothing is seen.
fn violation(bytes: &[u8]) -> Violation {
    violation_within(0, bytes)
}

fn violation_within(max: u64, bytes: &[u8]) -> Violation {
    let mut decoder = Decoder::new(Role::Server, max);
    let mut bytes = bytes.to_vec();
    let mut input = &mut bytes[..];
    let violation = loop {
        match decoder.decode(&mut input) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("no violation"),
            Err(violation) => break violation,
        }
    };
    let mut more = Vec::new();
    encode_message(&[b"more"], MASK, &mut more);
    assert_eq!(decoder.decode(&mut &mut more[..]), Ok(None), "it is over");
    violation
}

#[test]
fn each_violation_has_its_close_code() {
    use CloseCode::{InvalidData, Protocol, TooBig, Unsupported};
    let rows: &[(&[u8], Violation, CloseCode)] = &[
        (&[0x82, 0x01, 9], Violation::Unmasked, Protocol),
        (&[0xc2], Violation::ReservedBit, Protocol),
        (&[0xa2], Violation::ReservedBit, Protocol),
        (&[0x92], Violation::ReservedBit, Protocol),
        (&[0x83], Violation::UnknownOpcode(3), Protocol),
        (&[0x8f], Violation::UnknownOpcode(15), Protocol),
        (&[0x81], Violation::Text, Unsupported),
        (&[0x01], Violation::Text, Unsupported),
        (&[0x80], Violation::NothingToContinue, Protocol),
        (
            &[0x02, 0x80, 0, 0, 0, 0, 0x82],
            Violation::Interleaved,
            Protocol,
        ),
        (&[0x09], Violation::FragmentedControl, Protocol),
        (&[0x89, 0xfe], Violation::LongControl, Protocol),
        (&[0x88, 0xff], Violation::LongControl, Protocol),
        (
            &[0x82, 0xfe, 0, 125, 0, 0, 0, 0],
            Violation::LongLength,
            Protocol,
        ),
        (
            &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
            Violation::LongLength,
            Protocol,
        ),
        (
            &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            Violation::HugeLength,
            Protocol,
        ),
        (
            &[
                0x82, 0xff, 0xff, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0,
            ],
            Violation::HugeLength,
            Protocol,
        ),
        (
            &[0x88, 0x81, 0, 0, 0, 0, 3],
            Violation::MalformedClose,
            Protocol,
        ),
        (
            // 1005 means that there was no code.
            &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xed],
            Violation::MalformedClose,
            Protocol,
        ),
        (
            &[0x88, 0x83, 0, 0, 0, 0, 0x03, 0xe8, 0xff],
            Violation::ReasonNotUtf8,
            InvalidData,
        ),
    ];
    for (bytes, expected, code) in rows {
        let seen = violation(bytes);
        assert_eq!((seen, seen.code()), (*expected, *code), "{bytes:02x?}");
        assert!(!seen.to_string().is_empty());
    }
    let big = violation_within(4, &[0x82, 0x85, 0, 0, 0, 0]);
    assert_eq!((big, big.code()), (Violation::TooBig(5), TooBig));
}

/// The bound is one of messages, in whatever frames they come.
#[test]
fn a_message_in_fragments_is_bounded_as_a_whole() {
    let begun = [0x02, 0x83, 0, 0, 0, 0, b'a', b'b', b'c'];
    let last = |length: u8| {
        let mut bytes = vec![0x80, 0x80 | length, 0, 0, 0, 0];
        bytes.resize(6 + usize::from(length), 0);
        bytes
    };
    let mut decoder = Decoder::new(Role::Server, 4);
    for _ in 0..3 {
        // At the bound, and again: each message counts for itself.
        let mut bytes = [&begun[..], &last(1)].concat();
        let (mut input, mut seen) = (&mut bytes[..], 0);
        while let Some(event) = decoder.decode(&mut input).expect("in bounds") {
            if let Event::Data(data) = event {
                seen += data.len();
            }
        }
        assert_eq!(seen, 4);
    }
    let beyond = [&begun[..], &last(2)].concat();
    assert_eq!(violation_within(4, &beyond), Violation::TooBig(5));
    let mut huge = [&begun[..], &[0x80, 0xff]].concat();
    huge.extend([0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]);
    let seen = violation_within(4, &huge);
    assert!(matches!(seen, Violation::TooBig(_)), "no overflow: {seen}");
}

#[test]
fn a_client_refuses_masked_frames() {
    let mut bytes = Vec::new();
    encode_message(&[b"x"], MASK, &mut bytes);
    let mut decoder = Decoder::new(Role::Client, 0);
    let seen = decoder.decode(&mut &mut bytes[..]);
    assert_eq!(seen, Err(Violation::Masked));
}

#[test]
fn lengths_up_to_2_63_are_taken_and_nothing_is_held_for_them() {
    let mut decoder = Decoder::new(Role::Server, 0);
    let mut bytes = vec![0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255];
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(b"begins");
    let mut input = &mut bytes[..];
    let seen = decoder.decode(&mut input);
    assert_eq!(seen, Ok(Some(Event::Data(&mut b"begins".to_vec()[..]))));
    assert!(!decoder.is_between_frames());
}

#[test]
fn a_frame_at_the_bound_is_taken() {
    let mut bytes = Vec::new();
    encode_message(&[b"four"], MASK, &mut bytes);
    let mut decoder = Decoder::new(Role::Server, 4);
    assert!(matches!(
        decoder.decode(&mut &mut bytes[..]),
        Ok(Some(Event::Data(_)))
    ));
}

#[test]
fn empty_frames_are_bounded_and_a_byte_of_payload_pays_for_them() {
    let empties = |count: u16| {
        let mut bytes = Vec::new();
        for _ in 0..count {
            encode_message(&[], MASK, &mut bytes);
        }
        bytes
    };
    let mut most = empties(MAX_EMPTY_FRAMES);
    let mut decoder = Decoder::new(Role::Server, 0);
    assert_eq!(decoder.decode(&mut &mut most[..]), Ok(None));
    decoder.rest();
    let mut byte = Vec::new();
    encode_message(&[b"!"], MASK, &mut byte);
    assert!(matches!(
        decoder.decode(&mut &mut byte[..]),
        Ok(Some(Event::Data(_)))
    ));
    let mut most = empties(MAX_EMPTY_FRAMES);
    assert_eq!(decoder.decode(&mut &mut most[..]), Ok(None));
    // A rest does not help.
    decoder.rest();
    let mut one = empties(1);
    let seen = decoder.decode(&mut &mut one[..]);
    assert_eq!(seen, Err(Violation::EmptyFrames));
    assert_eq!(Violation::EmptyFrames.code(), CloseCode::Policy);
}

#[test]
fn control_frames_are_bounded_until_there_is_a_rest() {
    let mut ping = Vec::new();
    encode_ping(b"", MASK, &mut ping);
    let mut decoder = Decoder::new(Role::Server, 0);
    for round in 0..2 {
        for _ in 0..MAX_CONTROLS_TOGETHER {
            let mut ping = ping.clone();
            let seen = decoder.decode(&mut &mut ping[..]);
            assert_eq!(seen, Ok(Some(Event::Ping)), "{round}");
        }
        if round == 0 {
            decoder.rest();
        }
    }
    let seen = decoder.decode(&mut &mut ping[..]);
    assert_eq!(seen, Err(Violation::ControlFrames));
    assert_eq!(Violation::ControlFrames.code(), CloseCode::Policy);
}

#[test]
fn a_close_ends_the_frames() {
    let mut bytes = Vec::new();
    encode_close(CloseCode::Normal, MASK, &mut bytes);
    encode_message(&[b"after"], MASK, &mut bytes);
    let mut decoder = Decoder::new(Role::Server, 0);
    let mut input = &mut bytes[..];
    let seen = decoder.decode(&mut input);
    let code = match seen {
        Ok(Some(Event::Close(close))) => close.code,
        other => panic!("no close: {other:?}"),
    };
    assert_eq!(code, Some(1000));
    assert!(input.is_empty());
}

#[test]
fn the_codes_that_a_close_may_have_are_those_that_tungstenite_allows_and_1014() {
    for code in 0..=u16::MAX {
        let [high, low] = code.to_be_bytes();
        let mut bytes = [0x88, 0x82, 0, 0, 0, 0, high, low];
        let mut decoder = Decoder::new(Role::Server, 0);
        let is_taken = decoder.decode(&mut &mut bytes[..]).is_ok();
        let theirs = tungstenite::protocol::frame::coding::CloseCode::from(code);
        // The registry has 1014 (bad gateway), which is younger than its table.
        assert_eq!(is_taken, theirs.is_allowed() || code == 1014, "{code}");
    }
}

#[test]
fn a_decoder_is_small() {
    let bytes = size_of::<Decoder>();
    assert!(bytes <= 64, "{bytes} bytes");
}
