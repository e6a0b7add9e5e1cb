//! Random frames: any cut gives the same events, and two other implementations see the same.

use proptest::prelude::*;
use voltlane_doors::websocket::{Role, encode_message, encode_ping};

use super::oracles::{self, Seen};

/// A frame that may break any rule, and is valid most of the time.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        12 => Just(0x82),
        3 => Just(0x02),
        3 => Just(0x80),
        3 => Just(0x00),
        4 => prop_oneof![Just(0x88), Just(0x89), Just(0x8a)],
        1 => any::<u8>(),
    ];
    let length = prop_oneof![
        8 => 0..=126_usize,
        2 => 125..=300_usize,
        1 => 65_530..=65_540_usize,
    ];
    // Which form the length has: the shortest, or one that is too long.
    let form = prop_oneof![20 => Just(0), 1 => Just(2), 1 => Just(8)];
    let is_masked = prop::bool::weighted(0.97);
    (
        first,
        length,
        form,
        is_masked,
        any::<[u8; 4]>(),
        any::<u8>(),
    )
        .prop_map(|(first, length, form, is_masked, mask, fill)| {
            let mut frame = vec![first];
            let bit = if is_masked { 0x80 } else { 0 };
            match (length, form) {
                (0..=125, 0) => frame.push(bit | length as u8),
                (0..=0xffff, 0 | 2) => {
                    frame.push(bit | 126);
                    frame.extend_from_slice(&(length as u16).to_be_bytes());
                }
                _ => {
                    frame.push(bit | 127);
                    frame.extend_from_slice(&(length as u64).to_be_bytes());
                }
            }
            if is_masked {
                frame.extend_from_slice(&mask);
            }
            // A CLOSE has a valid code by luck only, unless the first bytes make one.
            let code = [0x03, 0xe8];
            let payload = (0..length).map(|at| match (first & 0x0f, code.get(at)) {
                (8, Some(code)) if fill.is_multiple_of(4) => code ^ mask[at],
                _ => fill.wrapping_add(at as u8),
            });
            frame.extend(payload);
            frame
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_cut_gives_the_events_that_other_implementations_see(
        frames in prop::collection::vec(frame(), 1..12),
        cuts in prop::collection::vec(1..40_usize, 1..20),
        max in prop_oneof![3 => Just(0), 1 => 1..400_u64],
        as_server in prop::bool::weighted(0.9),
        lost in 0..8_usize,
    ) {
        let mut bytes = frames.concat();
        bytes.truncate(bytes.len().saturating_sub(lost));
        let role = if as_server { Role::Server } else { Role::Client };
        let mut cuts = cuts.iter().cycle();
        oracles::compare(role, max, &bytes, || *cuts.next().expect("endless"));
    }

    #[test]
    fn bytes_without_a_meaning_are_seen_alike(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        oracles::compare(Role::Server, 0, &bytes, || 1);
    }

    #[test]
    fn what_is_encoded_is_decoded(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..3),
        mask in any::<Option<[u8; 4]>>(),
    ) {
        let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        let mut bytes = Vec::new();
        encode_ping(b"are you there", mask, &mut bytes);
        encode_message(&parts, mask, &mut bytes);
        let role = if mask.is_some() { Role::Server } else { Role::Client };
        let mut expected = vec![Seen::Ping(b"are you there".to_vec())];
        if parts.iter().any(|part| !part.is_empty()) {
            expected.push(Seen::Data(parts.concat()));
        }
        prop_assert_eq!(&oracles::by_ours(role, 0, &bytes, || 7), &expected);
        prop_assert_eq!(&oracles::by_tungstenite(role, 0, &bytes).0, &expected);
    }
}

#[test]
fn every_single_cut_of_a_long_sequence_gives_the_same() {
    let mask = Some([0xa1, 0xb2, 0xc3, 0xd4]);
    let mut bytes = Vec::new();
    encode_message(&[b"first", b"second"], mask, &mut bytes);
    encode_ping(&[b'p'; 125], mask, &mut bytes);
    encode_message(&[&[7; 300]], mask, &mut bytes);
    let whole = oracles::by_ours(Role::Server, 0, &bytes, || usize::MAX);
    assert_eq!(whole.len(), 3);
    for cut in 1..bytes.len() {
        let mut pieces = [cut, usize::MAX].into_iter();
        let seen = oracles::by_ours(Role::Server, 0, &bytes, || {
            pieces.next().unwrap_or(usize::MAX)
        });
        assert_eq!(seen, whole, "cut at {cut}");
    }
}
