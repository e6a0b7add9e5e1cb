//! Labels in payloads.

use sim::payload::{Direction, Label, PayloadError, decode, encode};

#[test]
fn every_altered_byte_and_length_is_seen() {
    let label = Label {
        direction: Direction::Up,
        owner: 3,
        conn: 9,
        seq: 70_000,
    };
    let data = encode(label, 80);
    assert_eq!(decode(&data), Ok(label));
    for place in 0..data.len() {
        let mut bad = data.clone();
        bad[place] ^= 0x10;
        assert_ne!(decode(&bad), Ok(label), "byte {place}");
    }
    assert_eq!(
        decode(&data[..79]),
        Err(PayloadError::Length {
            stated: 80,
            actual: 79
        })
    );
    assert_eq!(decode(&data[..5]), Err(PayloadError::Short));
    assert_eq!(encode(label, 0), b"");
}
