//! The worked examples of SPEC.txt (section 15) are true: each block of bytes in it is made here again and compared.
//!
//! A block is a line `[hex NAME] what it is` followed by lines of hexadecimal bytes up to an empty line.

use std::collections::BTreeMap;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use voltlane_core::ClientId;
use voltlane_core::keys::{KeyPair, PublicKey, SharedKey};
use voltlane_core::wire::frame::{FrameReader, encode_frame};
use voltlane_core::wire::handshake::Handshake;
use voltlane_core::wire::tagged::{Flag, Tagged};

const SPEC: &str = include_str!("../../SPEC.txt");
const ID: u64 = 0x0102_0304_0506_0708;
const EDGE_NONCE: [u8; 24] = [0x33; 24];
const CLIENT_NONCE: [u8; 24] = [0x44; 24];

/// The blocks of SPEC.txt by name.
fn examples() -> BTreeMap<&'static str, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut lines = SPEC.lines();
    while let Some(line) = lines.next() {
        let Some(rest) = line.trim_start().strip_prefix("[hex ") else {
            continue;
        };
        let (name, _) = rest.split_once(']').expect("the name ends with a bracket");
        let bytes = lines
            .by_ref()
            .take_while(|line| !line.is_empty())
            .flat_map(str::split_whitespace)
            .map(|pair| u8::from_str_radix(pair, 16).expect("two hexadecimal digits"))
            .collect();
        assert_eq!(found.insert(name, bytes), None, "{name} is there twice");
    }
    found
}

fn handshake(packet: &Handshake<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    packet.encode(&mut frame);
    frame
}

fn data(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(body, &mut frame);
    frame
}

fn tagged(id: u64, flag: Flag, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let id = ClientId::from_u64(id);
    Tagged { id, flag, data }.encode(&mut frame);
    frame
}

fn key_pairs() -> (KeyPair, KeyPair) {
    let pair = |byte| KeyPair::from_bytes(&[byte; 32]).expect("a scalar of the group");
    (pair(0x11), pair(0x22))
}

fn challenge() -> Vec<u8> {
    (0x00..=0x1f).collect()
}

fn seal(key: &SharedKey, nonce: &[u8; 24]) -> Vec<u8> {
    let mut sealed = Vec::new();
    key.seal_with_nonce(&challenge(), nonce, &mut sealed);
    sealed
}

/// What each block has to be, made with this crate; `bad-*` and the two secrets that it never shows are apart.
fn expected() -> BTreeMap<String, Vec<u8>> {
    let (edge, client) = key_pairs();
    let key = edge.agree(&client.public());
    let [edge_point, client_point] = [edge.public(), client.public()];
    let [edge_point, client_point] = [edge_point.as_bytes(), client_point.as_bytes()];
    let sealed = seal(&key, &EDGE_NONCE);
    let answer = seal(&key, &CLIENT_NONCE);
    let id = Handshake::ClientId(ClientId::from_u64(ID));

    let mut all: BTreeMap<String, Vec<u8>> = [
        ("edge-private", edge.to_bytes().to_vec()),
        ("edge-public", edge_point.to_vec()),
        ("client-private", client.to_bytes().to_vec()),
        ("client-public", client_point.to_vec()),
        ("new-1", handshake(&Handshake::ProtocolVersion(2))),
        ("new-2", handshake(&Handshake::PubKey(edge_point))),
        ("new-3", handshake(&Handshake::PubKey(client_point))),
        ("new-4", handshake(&id)),
        ("new-5", data(b"hello")),
        ("new-6", tagged(ID, Flag::Data, b"hello")),
        ("back-1", handshake(&Handshake::ProtocolVersion(2))),
        ("back-2", handshake(&Handshake::PubKey(edge_point))),
        ("back-3", handshake(&id)),
        ("challenge-plain", challenge()),
        ("back-4", handshake(&Handshake::Challenge(&sealed))),
        ("challenge-sealed", sealed),
        ("back-5", handshake(&Handshake::ChallengeResponse(&answer))),
        ("response-sealed", answer),
        ("back-6", handshake(&Handshake::Ping)),
        ("back-7", handshake(&Handshake::Ping)),
        ("back-8", tagged(ID, Flag::Resumed, b"")),
        ("back-9", data(b"world")),
        ("tagged-empty", tagged(7, Flag::Data, b"")),
        ("tagged-failure", tagged(7, Flag::Failure, b"expired")),
        ("tagged-kick", tagged(7, Flag::Kick, b"")),
        ("tagged-resumed", tagged(7, Flag::Resumed, b"")),
    ]
    .into_iter()
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .collect();
    let ids = [
        0,
        250,
        251,
        65_535,
        65_536,
        4_294_967_295,
        4_294_967_296,
        u64::MAX,
    ];
    all.extend(ids.map(|id| {
        let packet = Handshake::ClientId(ClientId::from_u64(id));
        (format!("id-{id}"), handshake(&packet))
    }));
    all.extend([250, 251, 70_000].map(|version| {
        let packet = Handshake::ProtocolVersion(version);
        (format!("version-{version}"), handshake(&packet))
    }));
    all
}

/// The body of the one frame that `bytes` must be.
fn body_of(bytes: &[u8]) -> Vec<u8> {
    let mut reader = FrameReader::default();
    let mut input = bytes;
    let body = reader
        .next_frame(&mut input, 1 << 20)
        .expect("short enough");
    let body = body.expect("a whole frame").to_vec();
    assert!(input.is_empty(), "bytes after the frame");
    body
}

#[test]
fn every_example_is_what_this_crate_writes() {
    let mut expected = expected();
    for (name, bytes) in examples() {
        if name.starts_with("bad-") || ["shared-secret", "session-key"].contains(&name) {
            continue;
        }
        let ours = expected.remove(name);
        assert_eq!(ours, Some(bytes), "[hex {name}]");
    }
    assert!(
        expected.is_empty(),
        "not in SPEC.txt: {:?}",
        expected.keys()
    );
}

#[test]
fn every_handshake_example_is_read_back() {
    for (name, bytes) in examples() {
        let is_data = ["new-5", "new-6", "back-8", "back-9"].contains(&name);
        let is_handshake = ["new-", "back-", "id-", "version-"]
            .iter()
            .any(|kind| name.starts_with(kind));
        if !is_handshake || is_data {
            continue;
        }
        let body = body_of(&bytes);
        let packet =
            Handshake::decode(&body).unwrap_or_else(|error| panic!("[hex {name}] {error}"));
        assert_eq!(handshake(&packet), bytes, "[hex {name}]");
    }
}

#[test]
fn every_bad_example_is_a_frame_whose_body_is_refused() {
    let bad: Vec<_> = examples()
        .into_iter()
        .filter(|(name, _)| name.starts_with("bad-"))
        .collect();
    assert_eq!(bad.len(), 8);
    for (name, bytes) in bad {
        let body = body_of(&bytes);
        assert!(Handshake::decode(&body).is_err(), "[hex {name}] was read");
    }
}

/// The crates of RustCrypto by themselves, along sections 6.2 to 6.4: what a stranger would do.
#[test]
fn the_key_examples_follow_from_one_another() {
    let examples = examples();
    let example = |name| examples[name].as_slice();

    let private = k256::SecretKey::from_slice(example("client-private")).expect("a scalar");
    let public = k256::PublicKey::from_sec1_bytes(example("edge-public")).expect("a point");
    let secret = k256::ecdh::diffie_hellman(private.to_nonzero_scalar(), public.as_affine());
    assert_eq!(
        secret.raw_secret_bytes().as_slice(),
        example("shared-secret")
    );

    let mut key = [0; 32];
    Hkdf::<Sha256>::new(Some(b"VOLTLANE.NET"), example("shared-secret"))
        .expand(b"VOLTLANE.NET", &mut key)
        .expect("a length that HKDF gives");
    assert_eq!(key, example("session-key"));

    let cipher = XChaCha20Poly1305::new(&key.into());
    for (name, nonce) in [
        ("challenge-sealed", EDGE_NONCE),
        ("response-sealed", CLIENT_NONCE),
    ] {
        let mut sealed = example("challenge-plain").to_vec();
        let tag = cipher
            .encrypt_inout_detached(&XNonce::from(nonce), &[], sealed.as_mut_slice().into())
            .expect("short enough");
        sealed.extend_from_slice(&tag);
        sealed.extend_from_slice(&nonce);
        assert_eq!(sealed, example(name), "[hex {name}]");
    }
}

#[test]
fn both_sides_open_the_sealed_examples() {
    let (edge, client) = key_pairs();
    let examples = examples();
    for (pair, peer) in [(&edge, "client-public"), (&client, "edge-public")] {
        let key = pair.agree(&PublicKey::from_sec1(&examples[peer]).expect("a point"));
        for sealed in ["challenge-sealed", "response-sealed"] {
            let plain = key.open(&examples[sealed]).expect("opens");
            assert_eq!(*plain, challenge(), "[hex {sealed}]");
        }
    }
}
