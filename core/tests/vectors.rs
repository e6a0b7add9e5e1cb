//! Every sample of the published format, both ways. (The steps within the key agreement, `ecdh_x` and
//! `hkdf_sha256_key`, are not public: the tests of `keys` compare them.)

use serde::Deserialize;
use voltlane_core::ClientId;
use voltlane_core::client::{
    Client, ClientConfig, SavedClient, SavedClientError, Saving, Versions,
};
use voltlane_core::keys::{KeyPair, PublicKey};
use voltlane_core::link::tagged::{Flag, Tagged};
use voltlane_core::v2::packets::Handshake;
use voltlane_core::wire::frame::{FrameReader, encode_frame};

#[derive(Deserialize)]
struct Vectors {
    keys: Keys,
    challenge: Challenge,
    handshake: Vec<Sample>,
    tagged: Vec<Sample>,
}

#[derive(Deserialize)]
struct Keys {
    server_private: String,
    server_public: String,
    client_private: String,
    client_public: String,
}

#[derive(Deserialize)]
struct Challenge {
    plain: String,
    sealed_nonce_33: String,
    answer_nonce_44: String,
}

#[derive(Deserialize)]
struct Sample {
    packet: String,
    frame: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("vectors/v2.json")).expect("v2.json is as described above")
}

fn bytes(hex: &str) -> Vec<u8> {
    assert_eq!(hex.len() % 2, 0, "{hex}");
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
        .collect()
}

fn key_pair(hex: &str) -> KeyPair {
    KeyPair::from_bytes(&bytes(hex).try_into().expect("32 bytes")).expect("a private key")
}

/// The body of the one frame in `frame`.
fn body(frame: &[u8]) -> Vec<u8> {
    let mut reader = FrameReader::default();
    let mut input = frame;
    let body = reader
        .next_frame(&mut input, 1024)
        .expect("short")
        .expect("whole")
        .to_vec();
    assert!(input.is_empty(), "bytes after the frame");
    body
}

#[test]
fn handshake_packets_decode_and_encode_as_published() {
    let vectors = vectors();
    let named = |name: &str| {
        bytes(match name {
            "server_public" => &vectors.keys.server_public,
            "client_public" => &vectors.keys.client_public,
            "sealed_nonce_33" => &vectors.challenge.sealed_nonce_33,
            "answer_nonce_44" => &vectors.challenge.answer_nonce_44,
            name => panic!("what is {name}?"),
        })
    };
    assert_eq!(vectors.handshake.len(), 17);
    for Sample { packet, frame } in &vectors.handshake {
        let (name, argument) = packet.split_once('(').unwrap_or((packet, ")"));
        let argument = argument.strip_suffix(')').expect("closed");
        let referred = if argument.contains('_') {
            named(argument)
        } else {
            Vec::new()
        };
        let number = || argument.parse::<u64>().expect("a number");
        let expected = match name {
            "Ping" => Handshake::Ping,
            "ProtocolVersion" => Handshake::ProtocolVersion(number().try_into().expect("a u32")),
            "PubKey" => Handshake::PubKey(&referred),
            "ClientId" => Handshake::ClientId(ClientId::from_u64(number())),
            "Challenge" => Handshake::Challenge(&referred),
            "ChallengeResponse" => Handshake::ChallengeResponse(&referred),
            name => panic!("what is {name}?"),
        };
        let frame = bytes(frame);
        let body = body(&frame);
        assert_eq!(Handshake::decode(&body), Ok(expected), "{packet}");
        assert_eq!(expected.name(), name);
        let mut encoded = Vec::new();
        expected.encode(&mut encoded);
        assert_eq!(encoded, frame, "{packet}");
    }
}

#[test]
fn tagged_packets_decode_and_encode_as_published() {
    let client = |id, flag, data| Tagged {
        id: ClientId::from_u64(id),
        flag,
        data,
    };
    let expected = [
        client(0x0102_0304_0506_0708, Flag::Data, b"hello".as_slice()),
        client(7, Flag::Data, b""),
        client(7, Flag::Failure, b"Client disconnected"),
        client(7, Flag::Kick, b""),
        client(7, Flag::Resumed, b""),
    ];
    let samples = vectors().tagged;
    assert_eq!(samples.len(), expected.len());
    for (Sample { packet, frame }, expected) in samples.iter().zip(expected) {
        let frame = bytes(frame);
        let body = body(&frame);
        assert_eq!(Tagged::decode(&body), Ok(expected), "{packet}");
        let mut encoded = Vec::new();
        expected.encode(&mut encoded);
        assert_eq!(encoded, frame, "{packet}");
        assert_eq!(expected.encoded_len(), frame.len(), "{packet}");
        let mut framed = Vec::new();
        encode_frame(&body, &mut framed);
        assert_eq!(framed, frame, "{packet}");
    }
}

#[test]
fn key_pairs_and_their_agreement_are_as_published() {
    let Vectors {
        keys, challenge, ..
    } = vectors();
    let (server, client) = (
        key_pair(&keys.server_private),
        key_pair(&keys.client_private),
    );
    assert_eq!(
        server.public().as_bytes().as_slice(),
        bytes(&keys.server_public)
    );
    assert_eq!(
        client.public().as_bytes().as_slice(),
        bytes(&keys.client_public)
    );
    assert_eq!(server.to_bytes().as_slice(), bytes(&keys.server_private));
    assert_eq!(
        PublicKey::from_sec1(&bytes(&keys.client_public)),
        Ok(client.public())
    );

    let plain = bytes(&challenge.plain);
    for shared in [
        server.agree(&client.public()),
        client.agree(&server.public()),
    ] {
        for (sealed, nonce) in [
            (&challenge.sealed_nonce_33, 0x33),
            (&challenge.answer_nonce_44, 0x44),
        ] {
            let sealed = bytes(sealed);
            assert_eq!(shared.open(&sealed).as_deref(), Ok(&plain));
            let mut ours = Vec::new();
            shared.seal_with_nonce(&plain, &[nonce; 24], &mut ours);
            assert_eq!(ours, sealed);
        }
    }
}

#[derive(Deserialize)]
struct SavedVectors {
    whole: Vec<Whole>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Whole {
    name: String,
    bytes: String,
    version: Option<u32>,
    id: Option<String>,
    state: String,
    numbered: String,
    acknowledged: String,
    taken: String,
}

#[derive(Deserialize)]
struct Refused {
    name: String,
    because: String,
    bytes: String,
}

#[test]
fn what_clients_save_is_read_and_written_as_published() {
    let vectors: SavedVectors = serde_json::from_str(include_str!("vectors/saved.json"))
        .expect("saved.json is as described above");
    assert_eq!((vectors.whole.len(), vectors.refused.len()), (6, 49));
    for whole in &vectors.whole {
        let name = &whole.name;
        let content = bytes(&whole.bytes);
        let saved = SavedClient::from_bytes(&content).expect(name);
        assert_eq!(saved.state(), bytes(&whole.state), "{name}");
        let id = saved.id().map(|id| format!("{:016x}", id.as_u64()));
        assert_eq!(id, whole.id, "{name}");
        for saving in [Saving::Taken, Saving::Saved] {
            let saved = SavedClient::from_bytes(&content).expect(name);
            let config = ClientConfig::default().with_versions(Versions::V3OrV2);
            let mut client = Client::restore_saved(config.with_saving(saving), [1; 32], saved);
            if let Some(version) = whole.version {
                assert_eq!(client.version().number(), version, "{name}");
            }
            let ledgers = client.ledgers();
            let numbers = [
                ledgers.up.numbered,
                ledgers.up.acknowledged,
                ledgers.down.numbered,
            ];
            let expected = [&whole.numbered, &whole.acknowledged, &whole.taken];
            assert_eq!(
                numbers.map(|number| number.to_string()).each_ref(),
                expected,
                "{name}"
            );
            assert!(ledgers.up.is_balanced() && ledgers.down.is_balanced());
            assert_eq!(*client.to_save(), content, "{name}");
        }
    }
    for Refused {
        name,
        because,
        bytes: content,
    } in &vectors.refused
    {
        let error = SavedClient::from_bytes(&bytes(content)).expect_err(name);
        let is = match error {
            SavedClientError::Foreign => "foreign",
            SavedClientError::Older => "older",
            SavedClientError::Newer { .. } => "newer",
            SavedClientError::Torn => "torn",
            SavedClientError::Impossible => "impossible",
            error => panic!("what is {error:?}?"),
        };
        assert_eq!(is, because, "{name}");
    }
}
