//! The worked examples of SPEC.txt (section 15) are true: each block of bytes is computed here and compared.
//!
//! A block is a line `[hex NAME] what it is` followed by lines of hexadecimal bytes up to an empty line.

use std::collections::BTreeMap;

use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use k256::elliptic_curve::sec1::ToSec1Point;
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher24;
use voltlane_core::backend::{self, Backend, BackendConfig};
use voltlane_core::client::{Client, ClientConfig, Event, SavedSession};
use voltlane_core::keys::{KeyPair, NonceMint, PublicKey, SharedKey};
use voltlane_core::ledger::Ledger;
use voltlane_core::link::tagged::{Flag, Tagged};
use voltlane_core::v2::packets::Handshake;
use voltlane_core::wire::frame::{FrameReader, encode_frame};
use voltlane_core::{ClientId, Time};

const SPEC: &str = include_str!("../../SPEC.txt");
const ID: u64 = 0x0102_0304_0506_0708;
const EDGE_NONCE: [u8; 24] = [0x33; 24];
const CLIENT_NONCE: [u8; 24] = [0x44; 24];

/// Returns the blocks of SPEC.txt by name.
pub(crate) fn examples() -> BTreeMap<&'static str, Vec<u8>> {
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

/// Prints blocks for SPEC.txt, each with its name and what it is.
pub(crate) fn print_blocks(blocks: impl IntoIterator<Item = (String, &'static str, Vec<u8>)>) {
    for (name, what, bytes) in blocks {
        println!("   [hex {name}] {what}");
        for line in bytes.chunks(16) {
            let line: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("      {}", line.join(" "));
        }
        println!();
    }
}

/// Returns the account of packets of which some are acknowledged, and the others in doubt.
pub(crate) fn ledger(numbered: u64, acknowledged: u64) -> Ledger {
    Ledger {
        numbered,
        acknowledged,
        open_sent: numbered - acknowledged,
        ..Ledger::default()
    }
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

/// The nonce whose first 16 bytes are [`nonce_random`], under this key (SPEC 5.2(b)).
fn nonce(key: [u8; 16]) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..16].copy_from_slice(&nonce_random());
    let mark = SipHasher24::new_with_key(&key).hash(&nonce_random());
    nonce[16..].copy_from_slice(&mark.to_le_bytes());
    nonce
}

fn nonce_random() -> Vec<u8> {
    (0x60..=0x6f).collect()
}

fn nonce_key() -> [u8; 16] {
    core::array::from_fn(|at| 0x50 + at as u8)
}

/// SPEC 4.6(a).
fn client_nonce_key() -> [u8; 16] {
    let digest = Sha256::new()
        .chain_update(b"voltlane client nonces")
        .chain_update([0x22; 32])
        .finalize();
    *digest.first_chunk().expect("SHA-256 gives 32 bytes")
}

/// Returns the three packets that wait for a lost link.
fn waiting() -> [Vec<u8>; 3] {
    [b"one".as_slice(), b"two", b"three"].map(|data| tagged(7, Flag::Data, data))
}

/// Bytes of them that the lost transport took.
const TAKEN: usize = 22;

/// Returns the expected blocks, computed with this crate. `bad-*`, `refused-*` and the secrets that it never shows are handled separately.
fn expected() -> BTreeMap<String, Vec<u8>> {
    let (edge, client) = key_pairs();
    let key = edge.agree(&client.public());
    let [edge_point, client_point] = [edge.public(), client.public()];
    let [edge_point, client_point] = [edge_point.as_bytes(), client_point.as_bytes()];
    let sealed = seal(&key, &EDGE_NONCE);
    let answer = seal(&key, &CLIENT_NONCE);
    let minted = seal(&key, &nonce(nonce_key()));
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
        ("nonce-key", nonce_key().to_vec()),
        ("nonce-random", nonce_random()),
        ("nonce-mark", nonce(nonce_key())[16..].to_vec()),
        ("nonce-edge", nonce(nonce_key()).to_vec()),
        ("client-nonce-key", client_nonce_key().to_vec()),
        ("nonce-client", nonce(client_nonce_key()).to_vec()),
        (
            "reflected-challenge",
            handshake(&Handshake::Challenge(&minted)),
        ),
        (
            "reflected-response",
            handshake(&Handshake::ChallengeResponse(&minted)),
        ),
        ("point-long", handshake(&Handshake::PubKey(&long_point()))),
        ("loss-1", waiting().concat()[..TAKEN].to_vec()),
        ("loss-2", waiting()[1..].concat()),
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

/// The client's point, uncompressed.
fn long_point() -> Vec<u8> {
    let secret = k256::SecretKey::from_slice(&[0x22; 32]).expect("a scalar");
    let point = secret.public_key().to_sec1_point(false);
    point.as_bytes().to_vec()
}

/// Returns the body of the one frame that `bytes` must be.
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
        let secrets = ["shared-secret", "hkdf-prk", "session-key"];
        // Those of version 3 are in files of their own.
        let foreign = ["bad-", "refused-", "decoy-", "v3-", "link-"];
        if secrets.contains(&name) || foreign.iter().any(|kind| name.starts_with(kind)) {
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
        let packets = [
            "new-",
            "back-",
            "id-",
            "version-",
            "reflected-",
            "refused-",
            "point-",
        ];
        let is_handshake = packets.iter().any(|kind| name.starts_with(kind));
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

/// Uses the RustCrypto crates directly, along sections 6.2 to 6.4, as an independent implementer would.
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
    let (extracted, hkdf) =
        Hkdf::<Sha256>::extract(Some(b"VOLTLANE.NET"), example("shared-secret"));
    assert_eq!(extracted.as_slice(), example("hkdf-prk"));
    hkdf.expand(b"VOLTLANE.NET", &mut key)
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

#[test]
fn every_refused_point_is_refused_and_the_long_form_is_the_same_key() {
    let examples = examples();
    let point = |name: &str| {
        let body = body_of(&examples[name]);
        let Ok(Handshake::PubKey(point)) = Handshake::decode(&body) else {
            panic!("[hex {name}] is no PubKey")
        };
        PublicKey::from_sec1(point)
    };
    assert_eq!(point("point-long"), point("new-3"));
    assert!(point("point-long").is_ok());
    let refused: Vec<_> = examples
        .keys()
        .filter(|name| name.starts_with("refused-"))
        .collect();
    assert_eq!(refused.len(), 7);
    for name in refused {
        assert!(point(name).is_err(), "[hex {name}]");
    }
}

/// An edge sees that the response opens and matches. Only its nonce gives it away.
#[test]
fn a_reflected_response_opens_and_has_the_edges_nonce() {
    let (edge, client) = key_pairs();
    let body = body_of(&examples()["reflected-response"]);
    let Ok(Handshake::ChallengeResponse(sealed)) = Handshake::decode(&body) else {
        panic!("no response")
    };
    let plain = edge.agree(&client.public()).open(sealed).expect("opens");
    assert_eq!(*plain, challenge());
    let nonce = SharedKey::nonce_of(sealed).expect("long enough");
    assert!(NonceMint::new(nonce_key()).is_own(nonce));
    assert!(!NonceMint::new(client_nonce_key()).is_own(nonce));
}

/// Returns the client of the examples after its connection was lost and opened again, up to its claim.
fn returning_client() -> Client {
    let (edge, client) = key_pairs();
    let mut saved = vec![1];
    saved.extend(ID.to_le_bytes());
    saved.extend(client.to_bytes().as_slice());
    saved.extend(edge.public().as_bytes());
    let saved = SavedSession::from_bytes(&saved).expect("a saved session");
    let mut client = Client::restore(ClientConfig::default(), [7; 32], &saved);
    client.handle_connected(Time::ZERO, [3; 32]);
    assert_eq!(feed(&mut client, "back-2"), None);
    assert_eq!(
        written(&mut client),
        [&examples()["back-1"][..], &examples()["back-3"]].concat()
    );
    client
}

fn feed(client: &mut Client, name: &str) -> Option<Event<'static>> {
    let bytes = &examples()[name];
    let mut input = bytes.as_slice();
    match client.handle_bytes(Time::ZERO, &mut input) {
        None => None,
        Some(Event::Resumed { id, missed, away }) => Some(Event::Resumed { id, missed, away }),
        Some(other) => panic!("[hex {name}] {other:?}"),
    }
}

fn written(client: &mut Client) -> Vec<u8> {
    let bytes = client.output().to_vec();
    client.handle_written(Time::ZERO, bytes.len());
    bytes
}

#[test]
fn the_client_machine_resumes_along_the_examples() {
    let mut client = returning_client();
    assert_eq!(feed(&mut client, "back-4"), None);
    let sent = written(&mut client);
    let (response, ping) = sent.split_at(examples()["back-5"].len());
    assert_eq!(ping, examples()["back-6"]);
    let body = body_of(response);
    let Ok(Handshake::ChallengeResponse(sealed)) = Handshake::decode(&body) else {
        panic!("no response")
    };
    let nonce = SharedKey::nonce_of(sealed).expect("long enough");
    assert!(
        NonceMint::new(client_nonce_key()).is_own(nonce),
        "the client's nonces are as 4.6(a) says"
    );
    let id = ClientId::from_u64(ID);
    let resumed = feed(&mut client, "back-7");
    assert!(matches!(resumed, Some(Event::Resumed { id: same, .. }) if same == id));
}

#[test]
fn the_client_machine_answers_neither_the_decoy_nor_its_own_nonce() {
    let mut client = returning_client();
    assert_eq!(feed(&mut client, "decoy-challenge"), None);
    assert!(client.output().is_empty() && client.wants_close());

    let (edge, keys) = key_pairs();
    let own = seal(&keys.agree(&edge.public()), &nonce(client_nonce_key()));
    let mut client = returning_client();
    let frame = handshake(&Handshake::Challenge(&own));
    let mut input = frame.as_slice();
    assert_eq!(client.handle_bytes(Time::ZERO, &mut input), None);
    assert!(client.output().is_empty() && client.wants_close());
}

#[test]
fn the_decoy_is_sealed_under_its_key() {
    let examples = examples();
    let key = examples["decoy-key"].as_slice();
    let cipher = XChaCha20Poly1305::new_from_slice(key).expect("32 bytes");
    let nonce = nonce(nonce_key());
    let mut sealed = challenge();
    let tag = cipher
        .encrypt_inout_detached(&XNonce::from(nonce), &[], sealed.as_mut_slice().into())
        .expect("short enough");
    sealed.extend_from_slice(&tag);
    sealed.extend_from_slice(&nonce);
    let frame = handshake(&Handshake::Challenge(&sealed));
    assert_eq!(frame, examples["decoy-challenge"]);
}

/// Both ends of the link: a backend that sends, and one that reads (an edge's output has the same form).
#[test]
fn a_link_that_is_lost_in_the_middle_of_a_packet_goes_on_as_in_the_example() {
    let [first, second] = [&examples()["loss-1"], &examples()["loss-2"]].map(Vec::clone);
    let mut sender = Backend::new(BackendConfig::default());
    for data in [b"one".as_slice(), b"two", b"three"] {
        sender
            .send(ClientId::from_u64(7), data)
            .expect("there is room");
    }
    assert_eq!(sender.output()[..TAKEN], first);
    sender.handle_written(TAKEN);
    sender.handle_closed();
    assert_eq!(sender.output(), second);

    let mut reader = Backend::new(BackendConfig::default());
    let mut read = Vec::new();
    for bytes in [&first, &second] {
        let mut input = bytes.as_slice();
        while let Some(event) = reader.handle_bytes(&mut input).expect("framing holds") {
            let backend::Event::Packet { data, .. } = event else {
                panic!("{event:?}")
            };
            read.push(data.to_vec());
        }
        reader.handle_closed();
    }
    assert_eq!(read, [b"one".as_slice(), b"two", b"three"]);
}
