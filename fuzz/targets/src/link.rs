//! Fuzzes the frames of version 3 of the backend link.

use voltlane_core::link::v3::{Ask, Feature, Features, Grant, ToBackend, ToEdge, is_counted};

/// The longest ASK and GRANT that this version knows, in bytes. Longer ones are of a later version, and read by their beginning.
const OPENING_BYTES: usize = 9 + 57;

/// Four bytes are the features that were granted. The rest is a body.
///
/// A body that decodes is the only encoding of its frame, and of a feature that was granted. One that does not has a reason for REFUSED.
pub fn link_frame(input: &[u8]) {
    let Some((features, body)) = input.split_first_chunk() else {
        return;
    };
    let granted = Features::from_bits(u32::from_le_bytes(*features));
    let mut again = Vec::new();
    match ToEdge::decode(body, granted) {
        Ok(frame) => frame.encode(&mut again),
        Err(error) => assert!((1..=3).contains(&error.cause.refusal().to_u8())),
    }
    assert!(
        again.is_empty() || again.split_off(4) == body,
        "to the edge"
    );
    again.clear();
    match ToBackend::decode(body, granted) {
        Ok(frame) => frame.encode(&mut again),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    assert!(
        again.is_empty() || again.split_off(4) == body,
        "to the backend"
    );
    again.clear();
    if let Some(Ok(ask)) = Ask::of(body) {
        // A later version and longer ones are read by their beginning, and counts without a run mean nothing.
        ask.encode(&mut again);
        let is_plain = body.len() == OPENING_BYTES && body[9] == 3 && ask.run.is_some();
        assert!(!is_plain || again.split_off(4) == body, "ASK");
        assert!(!is_counted(body) && ToEdge::decode(body, granted).is_err());
    }
    again.clear();
    if let Some(Ok(grant)) = Grant::of(body) {
        grant.encode(&mut again);
        let is_plain = body.len() == OPENING_BYTES && body[9] == 3;
        assert!(!is_plain || again.split_off(4) == body, "GRANT");
        assert!(!is_counted(body) && ToBackend::decode(body, granted).is_err());
    }
    let all: Features = Feature::ALL.into_iter().collect();
    let given = all.grant(granted);
    assert_eq!(
        given.bits() & !granted.bits(),
        0,
        "granted, and not asked for"
    );
}
