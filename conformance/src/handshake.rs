//! The steps of a handshake, one by one.

use k256::elliptic_curve::sec1::ToSec1Point;
use voltlane_core::ClientId;
use voltlane_core::keys::{KeyPair, PublicKey};
use voltlane_core::protocol::Version;
use voltlane_core::v2::packets::Handshake;

use crate::{Frames, random};

/// Returns a frame with this body.
#[must_use]
pub fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a test sends less than 4 GiB");
    [&length.to_le_bytes(), body].concat()
}

/// Returns the frame of a handshake packet.
#[must_use]
pub fn encoded(packet: Handshake<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(&mut bytes);
    bytes
}

/// Sends the version, and receives the edge's key.
#[track_caller]
pub fn hello(frames: &mut Frames) -> PublicKey {
    frames.write(&encoded(Handshake::ProtocolVersion(Version::V2.number())));
    let body = frames.body();
    match Handshake::decode(&body) {
        Ok(Handshake::PubKey(point)) => PublicKey::from_sec1(point).expect("a point"),
        other => panic!("the edge's key was expected, not {other:?}"),
    }
}

/// Receives the id of a new session.
#[track_caller]
pub fn expect_id(frames: &mut Frames) -> ClientId {
    let body = frames.body();
    match Handshake::decode(&body) {
        Ok(Handshake::ClientId(id)) => id,
        other => panic!("an id was expected, not {other:?}"),
    }
}

/// Creates a fresh key pair.
#[must_use]
pub fn new_keys() -> KeyPair {
    KeyPair::from_bytes(&random()).expect("out of range once in 2^128 draws")
}

/// Returns the public key in the uncompressed form of SEC 1.
#[must_use]
pub fn uncompressed(keys: &KeyPair) -> [u8; 65] {
    let key = k256::SecretKey::from_slice(keys.to_bytes().as_slice()).expect("it is one");
    let point = key.public_key().to_sec1_point(false);
    point.as_bytes().try_into().expect("65 bytes")
}
