//! The part of wire format version 2 that the yardstick and the load tool speak.
//!
//! It is written independently of `voltlane_core::wire` on purpose: a tool that shared the code under test would share its mistakes.

/// Bytes of the length in front of every body.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of the client id and the flag in front of the data of a tagged body.
pub const TAG_BYTES: usize = 9;
/// Flag of application data on the backend link.
pub const FLAG_DATA: u8 = 0;
/// Flag of "the session has ended" on the backend link.
pub const FLAG_FAILURE: u8 = 1;
/// Flag of "the session was resumed" on the backend link.
pub const FLAG_RESUMED: u8 = 3;

/// The client's first frame: `ProtocolVersion(2)`.
pub const VERSION_FRAME: [u8; 6] = [2, 0, 0, 0, 1, 2];
/// `Ping`, which completes a reconnect.
pub const PING_FRAME: [u8; 5] = [1, 0, 0, 0, 0];

const PUB_KEY: u8 = 2;
const CLIENT_ID: u8 = 3;
const CHALLENGE: u8 = 4;
const CHALLENGE_RESPONSE: u8 = 5;

/// The length of a compressed SEC1 point.
pub const KEY_BYTES: usize = 33;

/// The generator of secp256k1: a valid public key for clients that never agree on a secret with it.
pub const ANY_KEY: [u8; KEY_BYTES] = [
    0x02, 0x79, 0xBE, 0x66, 0x7E, 0xF9, 0xDC, 0xBB, 0xAC, 0x55, 0xA0, 0x62, 0x95, 0xCE, 0x87, 0x0B,
    0x07, 0x02, 0x9B, 0xFC, 0xDB, 0x2D, 0xCE, 0x28, 0xD9, 0x59, 0xF2, 0x81, 0x5B, 0x16, 0xF8, 0x17,
    0x98,
];

/// Appends a frame with this body.
pub fn put_frame(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
}

/// Appends a tagged frame.
pub fn put_tagged(out: &mut Vec<u8>, id: u64, flag: u8, data: &[u8]) {
    let mut head = [0; LENGTH_BYTES + TAG_BYTES];
    head[..4].copy_from_slice(&((TAG_BYTES + data.len()) as u32).to_le_bytes());
    head[4..12].copy_from_slice(&id.to_le_bytes());
    head[12] = flag;
    out.extend_from_slice(&head);
    out.extend_from_slice(data);
}

/// Appends `PubKey`.
pub fn put_pub_key(out: &mut Vec<u8>, key: &[u8; KEY_BYTES]) {
    out.extend_from_slice(&[2 + KEY_BYTES as u8, 0, 0, 0, PUB_KEY, KEY_BYTES as u8]);
    out.extend_from_slice(key);
}

/// Appends `ClientId`.
pub fn put_client_id(out: &mut Vec<u8>, id: u64) {
    let (marker, width): (u8, usize) = match id {
        0..=250 => (id as u8, 0),
        251..=0xffff => (251, 2),
        0x1_0000..=0xffff_ffff => (252, 4),
        _ => (253, 8),
    };
    out.extend_from_slice(&[2 + width as u8, 0, 0, 0, CLIENT_ID, marker]);
    out.extend_from_slice(&id.to_le_bytes()[..width]);
}

/// Appends `ChallengeResponse`. `sealed` is shorter than 251 bytes.
pub fn put_challenge_response(out: &mut Vec<u8>, sealed: &[u8]) {
    debug_assert!(sealed.len() < 251);
    let length = sealed.len() as u8;
    out.extend_from_slice(&[2 + length, 0, 0, 0, CHALLENGE_RESPONSE, length]);
    out.extend_from_slice(sealed);
}

/// A handshake packet sent by an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeSays<'a> {
    /// Completes a reconnect.
    Ping,
    /// The edge's public key.
    PubKey(&'a [u8]),
    /// The id of a new session.
    ClientId(u64),
    /// The sealed challenge of a reconnect.
    Challenge(&'a [u8]),
}

impl<'a> EdgeSays<'a> {
    /// Decodes a handshake body, or returns `None` for anything that an edge does not send.
    pub fn decode(body: &'a [u8]) -> Option<Self> {
        match body {
            [0] => Some(Self::Ping),
            [PUB_KEY, length, key @ ..] if usize::from(*length) == key.len() => {
                Some(Self::PubKey(key))
            }
            [CHALLENGE, length, sealed @ ..] if usize::from(*length) == sealed.len() => {
                Some(Self::Challenge(sealed))
            }
            [CLIENT_ID, id] if *id < 251 => Some(Self::ClientId(u64::from(*id))),
            [CLIENT_ID, marker @ 251..=253, id @ ..] if id.len() == 1 << (*marker - 250) => {
                let mut wide = [0; 8];
                wide[..id.len()].copy_from_slice(id);
                Some(Self::ClientId(u64::from_le_bytes(wide)))
            }
            _ => None,
        }
    }
}

/// Splits the first whole frame off `bytes`, into its body and the rest.
pub fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Splits a tagged body into id, flag and data.
pub fn split_tag(body: &[u8]) -> Option<(u64, u8, &[u8])> {
    let (id, rest) = body.split_first_chunk::<8>()?;
    let (flag, data) = rest.split_first()?;
    Some((u64::from_le_bytes(*id), *flag, data))
}

/// Keeps an unfinished frame between two reads. When empty it owns no memory.
#[derive(Debug, Default)]
pub struct Partial(Vec<u8>);

impl Partial {
    /// Calls `each` with the body of every whole frame in the kept bytes followed by `bytes`, then keeps the rest.
    pub fn frames(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        if self.0.is_empty() {
            let rest = walk(bytes, &mut each);
            if !rest.is_empty() {
                self.0.extend_from_slice(rest);
            }
            return;
        }
        self.0.extend_from_slice(bytes);
        let rest = walk(&self.0, &mut each).len();
        if rest == 0 {
            self.0 = Vec::new();
        } else {
            let done = self.0.len() - rest;
            self.0.drain(..done);
        }
    }

    /// Discards the kept bytes.
    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }
}

fn walk<'a>(mut bytes: &'a [u8], each: &mut impl FnMut(&[u8])) -> &'a [u8] {
    while let Some((body, rest)) = split_frame(bytes) {
        each(body);
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_written_at_every_width() {
        for id in [
            0,
            250,
            251,
            0xffff,
            0x1_0000,
            0xffff_ffff,
            0x1_0000_0000,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            put_client_id(&mut out, id);
            let (body, rest) = split_frame(&out).unwrap();
            assert_eq!(
                (EdgeSays::decode(body), rest),
                (Some(EdgeSays::ClientId(id)), &[][..])
            );
        }
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let mut out = Vec::new();
        put_pub_key(&mut out, &ANY_KEY);
        assert_eq!(
            EdgeSays::decode(split_frame(&out).unwrap().0),
            Some(EdgeSays::PubKey(&ANY_KEY))
        );
    }

    #[test]
    fn frames_come_out_whole_however_they_are_cut() {
        let mut stream = Vec::new();
        for body in [&b"one"[..], b"", b"three"] {
            put_frame(&mut stream, body);
        }
        for piece in 1..stream.len() {
            let mut partial = Partial::default();
            let mut bodies = Vec::new();
            for bytes in stream.chunks(piece) {
                partial.frames(bytes, |body| bodies.push(body.to_vec()));
            }
            assert_eq!(bodies, [&b"one"[..], b"", b"three"]);
            assert_eq!(partial.0.capacity(), 0);
        }
    }
}
