use proptest::prelude::*;

use super::super::schedule::{Attempt, Join, ResumeSecret};
use super::*;
use crate::keys::KeyPair;

fn resume() -> ResumeSecret {
    let pair = |byte| KeyPair::from_bytes(&[byte; 32]).unwrap();
    Join::of_edge(b"hello", &pair(3).public(), &pair(2), &pair(1)).resume
}

fn secret(claim: &[u8]) -> Secret {
    Attempt::new(claim).early(&resume())
}

fn ends() -> (Sealer, Opener) {
    let secret = secret(b"claim");
    (Sealer::new(&secret), Opener::new(&secret))
}

/// Returns the body of a sealed record.
fn seal(sealer: &mut Sealer, number: u64, items: &[u8]) -> Vec<u8> {
    let mut out = [b"before\0\0\0\0", items].concat();
    sealer.seal(number, &mut out, 6).unwrap();
    let (length, body) = out[6..].split_first_chunk().unwrap();
    assert_eq!(&out[..6], b"before");
    assert_eq!(u32::from_le_bytes(*length) as usize, body.len());
    assert_eq!(body.len() + 4, items.len() + RECORD_OVERHEAD);
    body.to_vec()
}

#[test]
fn records_open_in_order_and_every_altered_bit_is_seen() {
    let (mut sealer, mut opener) = ends();
    for (at, length) in [0, 1, 64, 300].into_iter().enumerate() {
        let items: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
        let number = 1 + at as u64;
        let body = seal(&mut sealer, number, &items);
        for bit in 0..body.len() * 8 {
            let mut altered = body.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let mut opener = Opener(opener.0.clone());
            assert_eq!(
                opener.open(number, &mut altered),
                Err(RecordError::DoesNotOpen)
            );
        }
        for end in 0..body.len() {
            let mut opener = Opener(opener.0.clone());
            let error = if end < TAG_BYTES {
                RecordError::Length { length: end }
            } else {
                RecordError::DoesNotOpen
            };
            assert_eq!(opener.open(number, &mut body[..end].to_vec()), Err(error));
        }
        assert_eq!(opener.open(number, &mut body.clone()).unwrap(), items);
    }
    assert_eq!((sealer.records(), opener.records()), (4, 4));
}

#[test]
fn a_record_opens_only_once_in_its_place_and_under_its_number() {
    let (mut sealer, opener) = ends();
    let fresh = || Opener(opener.0.clone());
    let first = seal(&mut sealer, 7, b"first");
    let second = seal(&mut sealer, 8, b"second");
    let error = Err(RecordError::DoesNotOpen);
    for number in [0, 6, 8, u64::MAX] {
        assert_eq!(
            fresh().open(number, &mut first.clone()),
            error,
            "another number"
        );
    }
    assert_eq!(fresh().open(8, &mut second.clone()), error, "out of order");
    let mut opener = fresh();
    assert!(opener.open(7, &mut first.clone()).is_ok());
    assert_eq!(opener.open(7, &mut first.clone()), error, "a second time");
    let mut other = Opener::new(&secret(b"another claim"));
    assert_eq!(
        other.open(7, &mut first.clone()),
        error,
        "another connection"
    );
}

#[test]
fn a_record_is_bounded_on_both_sides() {
    let (mut sealer, mut opener) = ends();
    let mut longest = seal(&mut sealer, 1, &vec![5; MAX_ITEMS_BYTES]);
    assert_eq!(longest.len(), MAX_RECORD_BYTES as usize);
    assert_eq!(longest.len(), MAX_ITEMS_BYTES + TAG_BYTES);
    assert_eq!(opener.open(1, &mut longest).unwrap().len(), MAX_ITEMS_BYTES);

    let length = MAX_RECORD_BYTES as usize + 1;
    let mut out = vec![5; 4 + MAX_ITEMS_BYTES + 1];
    let before = out.clone();
    assert_eq!(
        sealer.seal(2, &mut out, 0),
        Err(RecordError::Length { length })
    );
    assert_eq!((out, sealer.records()), (before, 1));
    assert_eq!(
        opener.open(2, &mut vec![5; length]),
        Err(RecordError::Length { length })
    );
}

#[test]
fn the_count_of_records_does_not_wrap() {
    let (mut sealer, mut opener) = ends();
    (sealer.0.records, opener.0.records) = (u64::MAX - 1, u64::MAX - 1);
    let mut last = seal(&mut sealer, 1, b"last");
    assert!(opener.open(1, &mut last).is_ok());
    let mut out = vec![0; 4];
    assert_eq!(sealer.seal(1, &mut out, 0), Err(RecordError::Exhausted));
    assert_eq!(opener.open(1, &mut [0; 16]), Err(RecordError::Exhausted));
}

#[test]
fn keys_are_not_shown() {
    let (sealer, opener) = ends();
    assert_eq!(format!("{sealer:?}"), "Sealer { records: 0, .. }");
    assert_eq!(format!("{opener:?}"), "Opener { records: 0, .. }");
}

proptest! {
    #[test]
    fn what_is_sealed_opens(records in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..200)), 0..10)) {
        let (mut sealer, mut opener) = ends();
        for (number, items) in records {
            let mut body = seal(&mut sealer, number, &items);
            prop_assert_eq!(&*opener.open(number, &mut body).unwrap(), items.as_slice());
        }
    }
}
