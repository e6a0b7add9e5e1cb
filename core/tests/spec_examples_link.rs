//! The worked examples of the backend link of version 3 in SPEC.txt (section 38) are true.

use voltlane_core::ClientId;
use voltlane_core::code::Code;
use voltlane_core::link::v3::{
    Ask, Carriage, Challenge, Delivery, Direction, Ended, Feature, Features, GoAway, Grant,
    GroupId, GroupSend, Ids, Joined, Kick, LinkAck, LinkSecret, Overflow, Own, OwnState, Peer,
    Policy, Proof, Refusal, Resumed, Settlements, ToBackend, ToEdge, flag,
};

use crate::spec_examples::{examples, ledger, print_blocks};

const ID: ClientId = ClientId::from_u64(0x0102_0304_0506_0708);
const GROUP: GroupId = GroupId(7);
const BOOT: [u8; 16] = [0xb0; 16];
const RUN: [u8; 8] = [0x77; 8];

fn features() -> Features {
    Feature::ALL.into_iter().collect()
}

fn peer() -> Peer {
    Peer {
        carriage: Carriage::Tls,
        address: Some("192.0.2.1:5000".parse().expect("an address")),
    }
}

fn to_backend() -> Vec<(&'static str, &'static str, ToBackend<'static>)> {
    let up = ledger(3, 2);
    let down = ledger(9, 9);
    vec![
        (
            "data-up",
            "a packet \"hi\"",
            ToBackend::Data {
                id: ID,
                packet: b"hi",
            },
        ),
        (
            "joined",
            "JOINED: TLS, 192.0.2.1 port 5000, \"token\"",
            ToBackend::Joined {
                id: ID,
                joined: Joined {
                    version: 3,
                    peer: peer(),
                    exporter: [0xee; 32],
                    token: b"token",
                },
            },
        ),
        (
            "away",
            "AWAY: parked, for 60 s at most",
            ToBackend::Away {
                id: ID,
                cause: Code::PARKED,
                left_ms: 60_000,
            },
        ),
        (
            "resumed",
            "RESUMED: counter 4, away 1.5 s, replay of 3",
            ToBackend::Resumed {
                id: ID,
                resumed: Resumed {
                    counter: 4,
                    away_ms: 1_500,
                    replay: 3,
                    peer: peer(),
                },
            },
        ),
        (
            "ended",
            "ENDED 302, one packet up in doubt",
            ToBackend::Ended {
                id: ID,
                ended: Ended {
                    code: Code::EXPIRED,
                    up,
                    down,
                    text: "expired",
                },
            },
        ),
        (
            "gap",
            "GAP of 2 packets down from number 4 on",
            ToBackend::Gap {
                id: ID,
                direction: Direction::Down,
                first: 4,
                count: 2,
                bytes: 70_000,
                reason: 1,
            },
        ),
        (
            "settled",
            "SETTLED up to 9",
            ToBackend::Settled(Settlements::from(&[(ID, 9)][..])),
        ),
        (
            "refused",
            "REFUSED: a kick with a code that is none",
            ToBackend::Refused {
                id: ID.as_u64(),
                flag: 0x26,
                refusal: Refusal::Malformed,
            },
        ),
        (
            "token",
            "TOKEN \"new\"",
            ToBackend::Token {
                id: ID,
                token: b"new",
            },
        ),
        (
            "own",
            "OWN: away, JOINED follows, note \"u7\"",
            ToBackend::Own {
                id: ID,
                own: Own {
                    counter: 4,
                    next_up: 3,
                    numbered_down: 9,
                    settled_down: 7,
                    state: OwnState::Away,
                    joined_follows: true,
                    note: "u7",
                },
            },
        ),
    ]
}

fn to_edge() -> Vec<(&'static str, &'static str, ToEdge<'static>)> {
    let packet = |delivery| ToEdge::Packet {
        id: ID,
        delivery,
        packet: b"hi",
    };
    vec![
        ("volatile", "VOLATILE \"hi\"", packet(Delivery::Volatile)),
        (
            "latest",
            "LATEST of key 5, \"hi\"",
            packet(Delivery::Latest(5)),
        ),
        (
            "group-send",
            "GROUP_SEND to group 7 but one member, \"hi\"",
            ToEdge::GroupSend {
                group: GROUP,
                send: GroupSend {
                    delivery: Delivery::Ordinary,
                    left_out: Ids::from(&[ID][..]),
                    packet: b"hi",
                },
            },
        ),
        (
            "group-add",
            "GROUP_ADD",
            ToEdge::GroupAdd {
                group: GROUP,
                ids: Ids::from(&[ID][..]),
            },
        ),
        (
            "group-remove",
            "GROUP_REMOVE",
            ToEdge::GroupRemove {
                group: GROUP,
                ids: Ids::from(&[ID][..]),
            },
        ),
        ("group-end", "GROUP_END", ToEdge::GroupEnd { group: GROUP }),
        (
            "kick",
            "KICK 500 \"bye\"",
            ToEdge::Kick {
                id: ID,
                kick: Kick {
                    code: Code::from_u16(500).expect("a code"),
                    wait_ms: 0,
                    text: "bye",
                },
            },
        ),
        (
            "policy",
            "POLICY: 30 s, 64 KiB, gaps, note \"u7\"",
            ToEdge::Policy {
                id: ID,
                policy: Policy {
                    window_s: 30,
                    ring_bytes: 65_536,
                    overflow: Overflow::Gap,
                    note: "u7",
                },
            },
        ),
        (
            "goaway",
            "GOAWAY 101 for all, in 30 s, closed after 40 s",
            ToEdge::GoAway {
                id: None,
                go_away: GoAway {
                    code: Code::GOING_AWAY,
                    earliest_ms: 0,
                    latest_ms: 30_000,
                    drain_ms: 40_000,
                },
            },
        ),
        ("pause", "PAUSE", ToEdge::Pause { id: ID }),
        ("go-on", "GO_ON", ToEdge::GoOn { id: ID }),
    ]
}

fn ask() -> Ask {
    Ask {
        features: features(),
        boot: BOOT,
        run: Some(RUN),
        received: 900,
        acknowledged: 880,
        sent: 300,
        longest_body: 8_388_617,
    }
}

fn grant() -> Grant {
    Grant {
        features: features(),
        boot: BOOT,
        home: 0,
        term: 0,
        run: RUN,
        continues: None,
        received: 290,
        groups_of_a_session: 64,
        sessions: 1,
    }
}

fn link_ack() -> LinkAck {
    LinkAck {
        acknowledged: 880,
        sent: 300,
    }
}

/// The frames by which both ends prove a secret of 32 bytes 5e.
fn proofs() -> (Vec<u8>, Challenge, Proof) {
    let secret = LinkSecret::new(&[0x5e; 32]).expect("long enough");
    let nonce = [0xed; 32];
    let asked = frame(|out| ask().encode_with_nonce(&[0xba; 32], out));
    let proof = |flag| secret.proof(flag, &nonce, &asked[4..]);
    let challenge = Challenge {
        nonce,
        proof: proof(flag::CHALLENGE),
    };
    let proof = Proof(Some(proof(flag::PROOF)));
    (asked, challenge, proof)
}

fn frame(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn expected() -> Vec<(String, &'static str, Vec<u8>)> {
    let named = |name: &str, what, bytes| (format!("link-{name}"), what, bytes);
    let mut all = vec![
        named(
            "ask",
            "ASK of a backend that was cut off",
            frame(|out| ask().encode(out)),
        ),
        named("grant", "GRANT", frame(|out| grant().encode(out))),
        named("ack", "LINK_ACK", frame(|out| link_ack().encode(out))),
    ];
    let (asked, challenge, proof) = proofs();
    all.extend([
        named("ask-secret", "the same ASK, with a nonce", asked),
        named(
            "challenge",
            "CHALLENGE, for that ASK",
            frame(|out| challenge.encode(out)),
        ),
        named(
            "proof",
            "PROOF, for that CHALLENGE",
            frame(|out| proof.encode(out)),
        ),
    ]);
    for (name, what, notice) in to_backend() {
        all.push(named(name, what, frame(|out| notice.encode(out))));
    }
    for (name, what, order) in to_edge() {
        all.push(named(name, what, frame(|out| order.encode(out))));
    }
    all
}

#[test]
fn every_example_is_what_this_crate_writes() {
    let expected = expected();
    let found: Vec<_> = examples()
        .into_keys()
        .filter(|name| name.starts_with("link-") && !name.starts_with("link-bad-"))
        .collect();
    let examples = examples();
    for (name, _, bytes) in &expected {
        assert_eq!(examples.get(name.as_str()), Some(bytes), "{name}");
    }
    assert_eq!(found.len(), expected.len());
}

/// Prints the blocks for SPEC.txt, when a layout changes.
#[test]
#[ignore = "a tool: prints the blocks for SPEC.txt"]
fn blocks_are_printed() {
    print_blocks(expected());
}

#[test]
fn every_example_is_read_as_it_says() {
    let examples = examples();
    let body = |name: &str| &examples[format!("link-{name}").as_str()][4..];
    assert_eq!(Ask::of(body("ask")), Some(Ok(ask())));
    assert_eq!(Grant::of(body("grant")), Some(Ok(grant())));
    assert_eq!(Ask::of(body("ask-secret")), Some(Ok(ask())));
    assert_eq!(Ask::nonce_of(body("ask-secret")), Some([0xba; 32]));
    assert_eq!(Ask::nonce_of(body("ask")), None);
    let (_, challenge, proof) = proofs();
    assert_eq!(Challenge::of(body("challenge")), Some(Ok(challenge)));
    assert_eq!(Proof::of(body("proof")), Some(Ok(proof)));
    let acks = (
        ToBackend::decode(body("ack"), features()),
        ToEdge::decode(body("ack"), features()),
    );
    let ack = link_ack();
    assert_eq!(
        acks,
        (Ok(ToBackend::LinkAck(ack)), Ok(ToEdge::LinkAck(ack)))
    );
    for (name, _, notice) in to_backend() {
        let read = ToBackend::decode(body(name), features());
        assert_eq!(read, Ok(notice), "{name}");
    }
    for (name, _, order) in to_edge() {
        let read = ToEdge::decode(body(name), features());
        assert_eq!(read, Ok(order), "{name}");
    }
}
