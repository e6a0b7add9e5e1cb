//! The worked examples of version 3 in SPEC.txt (section 30) are true.
//!
//! Keys are computed with the RustCrypto crates along section 20, as an independent implementer would. Flights are computed with this crate.

use std::collections::BTreeMap;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher24;
use voltlane_core::ClientId;
use voltlane_core::keys::{KeyPair, PublicKey};
use voltlane_core::v3::Side;
use voltlane_core::v3::code::Code;
use voltlane_core::v3::items::{Close, GoAway, Item, Items, Ledger, Resumed};
use voltlane_core::v3::order::Order;
use voltlane_core::v3::packets::{
    Answer, Busy, ClaimHead, Extensions, Hello, KeyHint, Packet, Position, Settings, Verdict,
    Welcome,
};
use voltlane_core::v3::record::{Opener, Sealer};
use voltlane_core::v3::schedule::{Attempt, Join, Master};

use crate::spec_examples::{examples, ledger, print_blocks};

const ID: ClientId = ClientId::from_u64(0x0102_0304_0506_0708);
const RUN: [u8; 8] = [0x77; 8];
const CLAIM_NONCE: [u8; 24] = [0x55; 24];
const ANSWER_NONCE: [u8; 24] = [0x66; 24];
const REFUSAL_NONCE: [u8; 24] = [0x67; 24];

fn pair(byte: u8) -> KeyPair {
    KeyPair::from_bytes(&[byte; 32]).expect("a scalar of the group")
}

/// The edge's key, the client's ephemeral key and the edge's ephemeral key.
fn pairs() -> (KeyPair, KeyPair, KeyPair) {
    (pair(0x11), pair(0x33), pair(0x44))
}

fn frame(packet: &Packet<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    packet.encode(&mut out);
    out
}

fn items(items: &[Item<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    items.iter().for_each(|item| item.encode(&mut out));
    out
}

fn seal(sealer: &mut Sealer, number: u64, items: &[u8]) -> Vec<u8> {
    let mut out = [&[0; 4], items].concat();
    sealer.seal(number, &mut out, 0).expect("it is short");
    out
}

fn x(own: u8, peer: u8) -> Vec<u8> {
    let own = k256::SecretKey::from_slice(&[own; 32]).expect("a scalar");
    let peer = k256::PublicKey::from_sec1_bytes(pair(peer).public().as_bytes()).expect("a point");
    let secret = k256::ecdh::diffie_hellman(own.to_nonzero_scalar(), peer.as_affine());
    secret.raw_secret_bytes().to_vec()
}

fn extract(salt: &[u8], secret: &[u8]) -> Vec<u8> {
    Hkdf::<Sha256>::extract(Some(salt), secret).0.to_vec()
}

fn expand(secret: &[u8], info: &[&[u8]], length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    Hkdf::<Sha256>::from_prk(secret)
        .expect("32 bytes")
        .expand(&info.concat(), &mut out)
        .expect("a length that HKDF gives");
    out
}

fn hash(parts: &[&[u8]]) -> Vec<u8> {
    Sha256::digest(parts.concat()).to_vec()
}

fn hello() -> Vec<u8> {
    let (edge, ephemeral, _) = pairs();
    let point = ephemeral.public();
    let mut extensions = Vec::new();
    Extensions::push_longest_packet_down(65_536, &mut extensions);
    Packet::Hello(Hello {
        features: 0x8000_0000,
        key_hint: KeyHint::of(&edge.public()),
        point: point.as_bytes(),
        extensions: Extensions::new(&extensions).expect("one extension"),
    })
    .body()
}

fn settings(master: &Master) -> Settings {
    Settings {
        id: ID,
        claim_key: master.claim_key(ID),
        handle: master.mask(ID, [0xa1; 8]),
        run: RUN,
        features: 0,
        longest_packet_up: 1_048_576,
        ring_packets: 8_192,
        ring_bytes: 1_048_576,
        window_secs: 300,
        ack_delay_ms: 250,
        keep_alive_secs: 20,
    }
}

const POSITION: Position = Position {
    counter: 1,
    run: RUN,
    first_up: 2,
    received_down: 1,
};

fn verdict(master: &Master, code: Code, random: u8) -> Verdict {
    Verdict {
        code,
        highest: 1,
        wait_ms: 0,
        jitter_ms: 0,
        run: RUN,
        handle: master.mask(ID, [random; 8]),
        acknowledged_up: 1,
        acknowledged_down: 1,
    }
}

/// Items of every type, by name.
fn item_examples() -> Vec<(&'static str, &'static str, Item<'static>)> {
    let up = ledger(3, 2);
    let down = ledger(2, 2);
    vec![
        ("packet", "a packet \"hi\"", Item::Packet(b"hi")),
        ("empty", "a packet of no bytes", Item::Packet(b"")),
        ("pad", "PAD of 4 bytes in all", Item::Pad { length: 3 }),
        ("token", "TOKEN \"token\"", Item::Token(b"token")),
        ("early-end", "EARLY_END", Item::EarlyEnd),
        ("ack", "ACK of 300 more", Item::Ack(300)),
        ("ack-now", "ACK_NOW", Item::AckNow),
        ("part", "PART \"ab\"", Item::Part(b"ab")),
        (
            "gap",
            "GAP of 2 packets of 70,000 bytes, reason 1",
            Item::Gap {
                count: 2,
                bytes: 70_000,
                reason: 1,
            },
        ),
        (
            "superseded",
            "SUPERSEDED, 5 packets",
            Item::Superseded { count: 5 },
        ),
        (
            "latest",
            "LATEST of key 7, \"hi\"",
            Item::Latest {
                key: 7,
                data: b"hi",
            },
        ),
        ("volatile", "VOLATILE \"hi\"", Item::Volatile(b"hi")),
        ("skipped", "SKIPPED, 4 packets", Item::Skipped { count: 4 }),
        (
            "resumed",
            "RESUMED, parked before, of the first resume",
            Item::Resumed(
                Resumed {
                    until: 9,
                    received_up: 4,
                    away_ms: 1_500,
                    cause: Code::PARKED,
                },
                &[[0; 8]],
            ),
        ),
        (
            "resumed-twice",
            "RESUMED, two marks",
            Item::Resumed(
                Resumed {
                    until: 0,
                    received_up: 0,
                    away_ms: 0,
                    cause: Code::GOODBYE,
                },
                &[[1; 8], [2; 8]],
            ),
        ),
        ("ping", "PING", Item::Ping([1, 2, 3, 4, 5, 6, 7, 8])),
        ("pong", "PONG", Item::Pong([1, 2, 3, 4, 5, 6, 7, 8])),
        (
            "goaway",
            "GOAWAY 104, within 30 s, closed after 40 s",
            Item::GoAway(GoAway {
                code: Code::RESTART,
                earliest_ms: 0,
                latest_ms: 30_000,
                drain_ms: 40_000,
            }),
        ),
        (
            "close",
            "CLOSE 401 \"bye\", one packet up in doubt",
            Item::Close(Close {
                code: Code::KICKED,
                wait_ms: 0,
                jitter_ms: 0,
                detail: 0,
                up,
                down,
                text: "bye",
            }),
        ),
        (
            "ignored",
            "an item of type 40, ignored",
            Item::Ignored {
                kind: 40,
                bytes: b"???",
            },
        ),
    ]
}

/// Every block of section 30 but the refused ones: its name, what it is, and its bytes.
fn expected() -> Vec<(String, &'static str, Vec<u8>)> {
    let (edge, ephemeral, edge_ephemeral) = pairs();
    let mut all: Vec<(String, &'static str, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, what: &'static str, bytes: &[u8]| {
        all.push((format!("v3-{name}"), what, bytes.to_vec()));
    };

    // 30.1
    let secret = extract(b"voltlane 3 master", &[0x11; 32]);
    let handle_key = expand(&secret, &[b"handle"], 16);
    let claim_key = expand(&secret, &[b"claim", &ID.as_u64().to_le_bytes()], 32);
    let key: [u8; 16] = handle_key.as_slice().try_into().expect("16 bytes");
    let pad = SipHasher24::new_with_key(&key).hash(&[0xa1; 8]);
    let handle = [[0xa1; 8], (ID.as_u64() ^ pad).to_le_bytes()].concat();
    let hint = &hash(&[edge.public().as_bytes()])[..4];
    add("key-hint", "the hint of the edge's key (19.1(b))", hint);
    add("master", "master (20.2(a))", &secret);
    add("handle-key", "the key of handles", &handle_key);
    add("claim-key", "ck of the id 0x0102030405060708", &claim_key);
    add("handle", "its handle with 8 random bytes a1", &handle);

    // 30.2
    let hello = hello();
    let (point, key) = (edge_ephemeral.public(), edge.public());
    let (ee, es) = (x(0x33, 0x44), x(0x33, 0x11));
    let th = hash(&[b"voltlane 3 join", &hello, point.as_bytes(), key.as_bytes()]);
    let salt = b"voltlane 3 k256 xchacha20poly1305 sha256";
    let prk = extract(salt, &[ee.as_slice(), &es].concat());
    let named = |label: &[u8]| expand(&prk, &[label, &th], 32);
    let (up, down, rs) = (named(b"up"), named(b"down"), named(b"rs1"));
    let master = Master::new(&edge);
    let join = Join::of_edge(&hello, &ephemeral.public(), &edge_ephemeral, &edge);
    let sealed = join.seal_welcome(&settings(&master));
    let welcome = frame(&Packet::Welcome(Welcome {
        point: point.as_bytes(),
        edge_key: key.as_bytes(),
        sealed: &sealed,
    }));
    let packet = Packet::decode(&hello).expect("a Hello");
    add(
        "version",
        "client to edge: ProtocolVersion(3)",
        &[2, 0, 0, 0, 1, 3],
    );
    add("hello", "client to edge: Hello", &frame(&packet));
    add("x-ee", "x(e_c E_e)", &ee);
    add("x-es", "x(e_c S)", &es);
    add("th", "th (20.3(a))", &th);
    add("prk", "prk (20.3(b))", &prk);
    add("hs", "key(\"hs\")", &named(b"hs"));
    add("join-up", "key(\"up\")", &up);
    add("join-down", "key(\"down\")", &down);
    add("rs1", "key(\"rs1\"), the resume secret of counter 1", &rs);
    add("exporter", "key(\"exporter\")", &named(b"exporter"));
    add(
        "settings",
        "what Welcome seals",
        &plain_settings(&claim_key, &handle),
    );
    add("welcome", "edge to client: Welcome", &welcome);

    // 30.3
    let material = expand(&up, &[b"record"], 48);
    let (mut sealer, mut down_sealer) = (Sealer::new(&join.up), Sealer::new(&join.down));
    let first = items(&[Item::Token(b"token"), Item::Packet(b"hello")]);
    let second = items(&[Item::Ack(1)]);
    let reply = items(&[Item::Ack(1), Item::Packet(b"world")]);
    add("record-key", "key of the records up", &material[..32]);
    add("record-prefix", "prefix of their nonces", &material[32..]);
    add("join-items", "TOKEN \"token\", packet \"hello\"", &first);
    let record = seal(&mut sealer, 1, &first);
    add(
        "join-record",
        "client to edge: the Join record, number 1",
        &record,
    );
    add("reply-items", "ACK 1, packet \"world\"", &reply);
    let record = seal(&mut down_sealer, 1, &reply);
    add("reply-record", "edge to client: number 1", &record);
    add("ack-items", "ACK 1", &second);
    let record = seal(&mut sealer, 2, &second);
    add("ack-record", "client to edge: number 2, record 1", &record);

    // 30.4
    let head = ClaimHead {
        key_hint: KeyHint::of(&edge.public()),
        handle: master.mask(ID, [0xa1; 8]),
        nonce: CLAIM_NONCE,
        extensions: Extensions::NONE,
    };
    let claim = Packet::Claim(master.claim_key(ID).seal_claim(head, &POSITION));
    let attempt = Attempt::new(&claim.body());
    let tc = hash(&[b"voltlane 3 resume", &claim.body()]);
    let seal_key = expand(&claim_key, &[b"seal"], 32);
    add("position", "what Claim seals", &plain_position());
    add("seal-key", "the key of Claim", &seal_key);
    add("claim", "client to edge: Claim", &frame(&claim));
    add("tc", "tc (20.4(a))", &tc);
    add("mark", "the mark of this attempt", &attempt.mark());
    add("ek", "ek", &expand(&rs, &[b"early", &tc], 32));
    let mut early = Sealer::new(&attempt.early(&join.resume));
    let again = items(&[Item::Packet(b"again")]);
    let record = seal(&mut early, 2, &again);
    add(
        "early-record",
        "client to edge: packet \"again\", number 2",
        &record,
    );

    let verdict_up = verdict(&master, Code::TAKEN_UP, 0xa2);
    let sealed = attempt.seal_answer(&master.claim_key(ID), ANSWER_NONCE, &verdict_up);
    let answer = Packet::Answer(Answer {
        nonce: ANSWER_NONCE,
        sealed: &sealed,
    });
    let tr = hash(&[&tc, &answer.body()]);
    let plain = plain_verdict(&master, 0, 0xa2);
    add("verdict", "what Answer seals", &plain);
    add("ka", "ka", &expand(&claim_key, &[b"answer", &tc], 32));
    add("answer", "edge to client: Answer", &frame(&answer));
    add("tr", "tr", &tr);
    add("up", "up", &expand(&rs, &[b"up", &tr], 32));
    add("down", "down", &expand(&rs, &[b"down", &tr], 32));
    add("rs2", "rs_2", &expand(&rs, &[b"next"], 32));
    let (up, down) = attempt.established(&join.resume, &answer.body());
    let (mut sealer, mut down_sealer) = (Sealer::new(&up), Sealer::new(&down));
    let resumed = items(&[
        Item::Resumed(
            Resumed {
                until: 2,
                received_up: 2,
                away_ms: 1_500,
                cause: Code::GOODBYE,
            },
            &[[0; 8]],
        ),
        Item::Packet(b"missed"),
    ]);
    add(
        "resumed-items",
        "RESUMED, and packet 2, \"missed\"",
        &resumed,
    );
    let record = seal(&mut down_sealer, 2, &resumed);
    add("resumed-record", "edge to client: number 2", &record);
    let record = seal(&mut early, 3, &items(&[Item::EarlyEnd]));
    add(
        "early-end-record",
        "client to edge: EARLY_END, number 3",
        &record,
    );
    let more = items(&[Item::Ack(2), Item::Packet(b"more")]);
    let record = seal(&mut sealer, 3, &more);
    add(
        "up-record",
        "client to edge: ACK 2, packet \"more\", number 3",
        &record,
    );

    let down = ledger(2, 2);
    let in_doubt = ledger(3, 1);
    let arrived = ledger(3, 3);
    let goodbye = items(&[close(in_doubt, down)]);
    let last = items(&[Item::Ack(3), close(arrived, down)]);
    let what = "CLOSE 0: 3 packets up, 1 acknowledged; 2 down";
    add("goodbye-items", what, &goodbye);
    let record = seal(&mut sealer, 4, &goodbye);
    add("goodbye-record", "client to edge: number 4", &record);
    add("last-items", "ACK 3, CLOSE 0: all acknowledged", &last);
    let record = seal(&mut down_sealer, 3, &last);
    add("last-record", "edge to client: number 3", &record);

    // 30.5
    let stale = verdict(&master, Code::STALE, 0xa3);
    let sealed = attempt.seal_answer(&master.claim_key(ID), REFUSAL_NONCE, &stale);
    let answer = Packet::Answer(Answer {
        nonce: REFUSAL_NONCE,
        sealed: &sealed,
    });
    add("stale", "edge to client: Answer 310", &frame(&answer));
    let busy = |code, wait_ms| frame(&Packet::Busy(Busy { code, wait_ms }));
    add(
        "busy",
        "edge to client: Busy 204, 1 s",
        &busy(Code::BUSY, 1_000),
    );
    add(
        "not-here",
        "edge to client: Busy 206",
        &busy(Code::NOT_HERE, 0),
    );

    // 30.6
    for (name, what, item) in item_examples() {
        add(&format!("item-{name}"), what, &items(&[item]));
    }
    all
}

fn close(up: Ledger, down: Ledger) -> Item<'static> {
    Item::Close(Close {
        code: Code::GOODBYE,
        wait_ms: 0,
        jitter_ms: 0,
        detail: 0,
        up,
        down,
        text: "",
    })
}

/// The layout of 19.2, by hand.
fn plain_settings(claim_key: &[u8], handle: &[u8]) -> Vec<u8> {
    let numbers = [0, 1_048_576, 8_192, 1_048_576, 300_u32];
    let mut plain = [&ID.as_u64().to_le_bytes(), claim_key, handle, &RUN, &[0; 8]].concat();
    plain.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    plain.extend([250_u16, 20].iter().flat_map(|number| number.to_le_bytes()));
    plain
}

/// The layout of 19.3, by hand.
fn plain_position() -> Vec<u8> {
    let number = |number: u64| number.to_le_bytes();
    [number(1), number(0), RUN, number(2), number(1), number(0)].concat()
}

/// The layout of 19.4, by hand.
fn plain_verdict(master: &Master, code: u16, random: u8) -> Vec<u8> {
    let mut plain = [code.to_le_bytes(), [0; 2]].concat();
    plain.extend(1_u64.to_le_bytes());
    plain.extend([0; 8]);
    plain.extend(RUN);
    plain.extend(master.mask(ID, [random; 8]).to_bytes());
    plain.extend([1_u64, 1].iter().flat_map(|number| number.to_le_bytes()));
    plain.resize(128, 0);
    plain
}

#[test]
fn every_example_is_what_this_crate_writes() {
    let mut found: BTreeMap<_, _> = examples()
        .into_iter()
        .filter(|(name, _)| name.starts_with("v3-") && !name.starts_with("v3-bad-"))
        .collect();
    for (name, _, bytes) in expected() {
        assert_eq!(found.remove(name.as_str()), Some(bytes), "[hex {name}]");
    }
    assert!(found.is_empty(), "not computed here: {:?}", found.keys());
}

/// `cargo test -p voltlane-core --test all examples_v3 -- --ignored --nocapture` prints the blocks of section 30.
#[test]
#[ignore = "a tool: prints the blocks for SPEC.txt"]
fn blocks_are_printed() {
    print_blocks(expected());
}

fn example(name: &str) -> Vec<u8> {
    examples()[format!("v3-{name}").as_str()].clone()
}

/// A client reads what the edge sends in 30.2 to 30.4.
#[test]
fn the_client_opens_the_edges_flights() {
    let (edge, ephemeral, edge_ephemeral) = pairs();
    let hello = example("hello");
    let join = Join::of_client(
        &hello[4..],
        &ephemeral,
        &edge_ephemeral.public(),
        &edge.public(),
    );
    let body = example("welcome");
    let Ok(Packet::Welcome(welcome)) = Packet::decode(&body[4..]) else {
        panic!("no Welcome")
    };
    assert_eq!(
        PublicKey::from_sec1(welcome.point),
        Ok(edge_ephemeral.public())
    );
    assert_eq!(PublicKey::from_sec1(welcome.edge_key), Ok(edge.public()));
    let settings = join.open_welcome(&welcome).expect("it opens");
    assert_eq!((settings.id, settings.run), (ID, RUN));
    assert_eq!(join.exporter().as_slice(), example("exporter"));
    let open = |opener: &mut Opener, number, name: &str| {
        let mut body = example(name).split_off(4);
        opener.open(number, &mut body).expect("it opens").to_vec()
    };
    let mut down = Opener::new(&join.down);
    assert_eq!(open(&mut down, 1, "reply-record"), example("reply-items"));

    let attempt = Attempt::new(&example("claim")[4..]);
    for (name, code) in [("answer", Code::TAKEN_UP), ("stale", Code::STALE)] {
        let body = example(name);
        let Ok(Packet::Answer(answer)) = Packet::decode(&body[4..]) else {
            panic!("no Answer")
        };
        let verdict = attempt
            .open_answer(&settings.claim_key, &answer)
            .expect("it opens");
        assert_eq!((verdict.code, verdict.highest), (code, 1));
    }
    let (_, down) = attempt.established(&join.resume, &example("answer")[4..]);
    let plain = open(&mut Opener::new(&down), 2, "resumed-record");
    assert_eq!(plain, example("resumed-items"));
    let mut order = Order::of_resumed(65_536);
    for item in Items::new(&plain, Side::Edge) {
        let item = item.expect("well formed");
        assert_eq!(order.check(&item), Ok(()));
    }
}

/// An edge reads what the client sends in 30.2 to 30.4.
#[test]
fn the_edge_opens_the_clients_flights() {
    let (edge, ephemeral, edge_ephemeral) = pairs();
    let hello = example("hello");
    let join = Join::of_edge(&hello[4..], &ephemeral.public(), &edge_ephemeral, &edge);
    let open = |opener: &mut Opener, number, name: &str| {
        let mut body = example(name).split_off(4);
        let plain = opener.open(number, &mut body);
        plain
            .unwrap_or_else(|error| panic!("[hex v3-{name}] {error}"))
            .to_vec()
    };
    let mut up = Opener::new(&join.up);
    assert_eq!(open(&mut up, 1, "join-record"), example("join-items"));
    assert_eq!(open(&mut up, 2, "ack-record"), example("ack-items"));

    let (master, body) = (Master::new(&edge), example("claim"));
    let Ok(Packet::Claim(claim)) = Packet::decode(&body[4..]) else {
        panic!("no Claim")
    };
    assert_eq!(claim.head.key_hint, master.hint());
    let id = master.unmask(claim.head.handle);
    assert_eq!(id, ID);
    assert_eq!(master.claim_key(id).open_claim(&claim), Ok(POSITION));
    let attempt = Attempt::new(&body[4..]);
    let mut early = Opener::new(&attempt.early(&join.resume));
    assert_eq!(
        open(&mut early, 2, "early-record"),
        items(&[Item::Packet(b"again")])
    );
    assert_eq!(
        open(&mut early, 3, "early-end-record"),
        items(&[Item::EarlyEnd])
    );
    let (up, _) = attempt.established(&join.resume, &example("answer")[4..]);
    let plain = open(&mut Opener::new(&up), 3, "up-record");
    assert_eq!(plain, items(&[Item::Ack(2), Item::Packet(b"more")]));
}

#[test]
fn every_bad_example_is_refused() {
    let examples = examples();
    let of_kind = |kind: &str| {
        let of_kind = examples.iter().filter(|(name, _)| name.starts_with(kind));
        of_kind.collect::<Vec<_>>()
    };
    let packets = of_kind("v3-bad-packet-");
    assert_eq!(packets.len(), 6);
    for (name, bytes) in packets {
        let length = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
        assert_eq!(bytes.len(), 4 + length as usize, "[hex {name}]");
        assert!(Packet::decode(&bytes[4..]).is_err(), "[hex {name}]");
    }
    for (kind, sender, count) in [
        ("v3-bad-up-", Side::Client, 4),
        ("v3-bad-down-", Side::Edge, 9),
    ] {
        let records = of_kind(kind);
        assert_eq!(records.len(), count, "{kind}");
        for (name, bytes) in records {
            let mut items = Items::new(bytes, sender);
            assert!(items.any(|item| item.is_err()), "[hex {name}]");
        }
    }
}
