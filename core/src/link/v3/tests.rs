use core::fmt::Debug;
use core::net::SocketAddr;

use super::*;
use crate::code::Code;
use crate::id::ClientId;
use crate::ledger::Ledger;
use crate::wire::frame::LENGTH_BYTES;

const ID: ClientId = ClientId::from_u64(0x0807_0605_0403_0201);
const OTHER: ClientId = ClientId::from_u64(9);

fn all() -> Features {
    let features: Features = Feature::ALL.into_iter().collect();
    features.with(Feature::Adopt)
}

fn peer(carriage: Carriage, address: Option<&str>) -> Peer {
    let address = address.map(|text| text.parse::<SocketAddr>().expect("an address"));
    Peer { carriage, address }
}

fn ledger(from: u64) -> Ledger {
    Ledger::from_fields(core::array::from_fn(|at| from + at as u64))
}

fn to_backend() -> Vec<ToBackend<'static>> {
    let joined = |peer, version, token| ToBackend::Joined {
        id: ID,
        joined: Joined {
            version,
            peer,
            exporter: [version; 32],
            token,
        },
    };
    let own = |state, joined_follows, note| ToBackend::Own {
        id: ID,
        own: Own {
            counter: 4,
            next_up: 3,
            numbered_down: 9,
            settled_down: 7,
            state,
            joined_follows,
            note,
        },
    };
    let ipv6 = Some("[2001:db8::1]:443");
    vec![
        ToBackend::Data {
            id: ID,
            packet: b"",
        },
        ToBackend::Data {
            id: ID,
            packet: b"packet",
        },
        ToBackend::LinkAck(LinkAck {
            acknowledged: 5,
            sent: u64::MAX,
        }),
        joined(peer(Carriage::Tcp, Some("192.0.2.1:5000")), 3, b"token"),
        joined(peer(Carriage::Tls, ipv6), 2, b""),
        joined(peer(Carriage::Unix, None), 3, b""),
        ToBackend::Away {
            id: ID,
            cause: Code::PARKED,
            left_ms: 60_000,
        },
        ToBackend::Away {
            id: ID,
            cause: Code::GOODBYE,
            left_ms: 0,
        },
        ToBackend::Resumed {
            id: ID,
            resumed: Resumed {
                counter: 7,
                away_ms: 1_500,
                replay: 3,
                peer: peer(Carriage::WebSocketTls, ipv6),
            },
        },
        ToBackend::Ended {
            id: ID,
            ended: Ended {
                code: Code::EXPIRED,
                up: ledger(1),
                down: ledger(100),
                text: "na\u{ef}ve",
            },
        },
        ToBackend::Gap {
            id: ID,
            direction: Direction::Down,
            first: 4,
            count: 3,
            bytes: 900,
            reason: 1,
        },
        ToBackend::Settled(Settlements::from(&[(ID, 3), (OTHER, 8)][..])),
        ToBackend::Settled(Settlements::from(&[][..])),
        ToBackend::Refused {
            id: 0,
            flag: 0xff,
            refusal: Refusal::Unknown,
        },
        ToBackend::Token {
            id: ID,
            token: b"new",
        },
        own(OwnState::Attached, false, ""),
        own(OwnState::Away, true, "player 7"),
        own(OwnState::Ended, false, "x"),
        ToBackend::Adopt {
            id: ID,
            adopt: Adopt {
                counter: 6,
                received_down: 9,
                acknowledged_up: 3,
                peer: peer(Carriage::Tls, ipv6),
            },
        },
    ]
}

fn to_edge() -> Vec<ToEdge<'static>> {
    const IDS: &[ClientId] = &[ID, OTHER];
    let (group, none) = (GroupId(u64::MAX), Ids::from(&[][..]));
    let packet = |delivery| ToEdge::Packet {
        id: ID,
        delivery,
        packet: b"down",
    };
    let send = |delivery, left_out| ToEdge::GroupSend {
        group,
        send: GroupSend {
            delivery,
            left_out,
            packet: b"all",
        },
    };
    let go_away = |id| ToEdge::GoAway {
        id,
        go_away: GoAway {
            code: Code::GOING_AWAY,
            earliest_ms: 1,
            latest_ms: 2,
            drain_ms: 3,
        },
    };
    let kick = |code, text| ToEdge::Kick {
        id: ID,
        kick: Kick {
            code,
            wait_ms: 10,
            text,
        },
    };
    vec![
        packet(Delivery::Ordinary),
        packet(Delivery::Latest(0)),
        packet(Delivery::Latest(63)),
        packet(Delivery::Volatile),
        ToEdge::LinkAck(LinkAck {
            acknowledged: 0,
            sent: 0,
        }),
        send(Delivery::Ordinary, none),
        send(Delivery::Latest(63), Ids::from(IDS)),
        send(Delivery::Volatile, Ids::from(IDS)),
        ToEdge::GroupAdd {
            group,
            ids: Ids::from(IDS),
        },
        ToEdge::GroupAdd { group, ids: none },
        ToEdge::GroupRemove {
            group,
            ids: Ids::from(IDS),
        },
        ToEdge::GroupEnd { group },
        kick(Code::KICKED, ""),
        kick(Code::TOKEN, "no such user"),
        kick(Code::from_u16(699).expect("a code"), "bye"),
        ToEdge::Policy {
            id: ID,
            policy: Policy {
                window_s: 30,
                ring_bytes: 65_536,
                overflow: Overflow::Gap,
                note: "player 7",
            },
        },
        go_away(Some(ID)),
        go_away(None),
        ToEdge::Pause { id: ID },
        ToEdge::GoOn { id: ID },
        ToEdge::Adopted {
            id: ID,
            adopted: Adopted {
                counter: 6,
                next_up: 4,
                numbered_down: 9,
                until: 12,
            },
        },
        ToEdge::Disowned {
            id: ID,
            disowned: Disowned {
                asked: 0,
                known: 6,
                code: Code::TAKEN_OVER,
            },
        },
    ]
}

/// Checks each frame: it decodes to itself, and none of its beginnings decodes to anything else than a frame of its own.
fn check<'a, T: Debug + PartialEq>(
    frames: &[T],
    encode: impl Fn(&T, &mut Vec<u8>),
    decode: impl for<'b> Fn(&'b [u8], Features) -> Result<String, FrameError>,
) {
    for frame in frames {
        let mut out = b"before".to_vec();
        encode(frame, &mut out);
        let whole = &out[b"before".len()..];
        let (length, body) = whole.split_at(LENGTH_BYTES);
        assert_eq!(length, (body.len() as u32).to_le_bytes());
        assert_eq!(decode(body, all()), Ok(format!("{frame:?}")));
        let has_open_end = [
            flag::DATA,
            flag::JOINED,
            flag::ENDED,
            flag::SETTLED,
            flag::TOKEN,
            flag::OWN,
            flag::VOLATILE,
            flag::LATEST,
            flag::GROUP_SEND,
            flag::GROUP_ADD,
            flag::GROUP_REMOVE,
            flag::KICK,
            flag::POLICY,
        ]
        .contains(&body[8]);
        if !has_open_end {
            for end in 0..body.len() {
                let cause = decode(&body[..end], all()).map_err(|error| error.cause);
                assert_eq!(cause, Err(Cause::Truncated), "{frame:?} cut at {end}");
            }
            let longer = [body, &[0]].concat();
            let cause = decode(&longer, all()).map_err(|error| error.cause);
            assert_eq!(cause, Err(Cause::TrailingBytes { length: 1 }), "{frame:?}");
        }
    }
}

#[test]
fn every_frame_decodes_to_itself_and_not_when_it_is_cut() {
    check(&to_backend(), ToBackend::encode, |body, granted| {
        ToBackend::decode(body, granted).map(|frame| format!("{frame:?}"))
    });
    check(&to_edge(), ToEdge::encode, |body, granted| {
        ToEdge::decode(body, granted).map(|frame| format!("{frame:?}"))
    });
}

fn body(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out.split_off(LENGTH_BYTES)
}

fn tagged(id: u64, flag: u8, data: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &[flag], data].concat()
}

fn refusal_of(id: u64, flag: u8, data: &[u8]) -> Option<Refusal> {
    let body = tagged(id, flag, data);
    let error = ToEdge::decode(&body, all()).err()?;
    assert_eq!((error.id, error.flag), (id, flag));
    Some(error.cause.refusal())
}

#[test]
fn flags_of_the_other_way_reserved_ones_and_unknown_ones_are_refused() {
    let sent = |bodies: Vec<Vec<u8>>| bodies.iter().map(|body| body[8]).collect::<Vec<_>>();
    let up = sent(
        to_backend()
            .iter()
            .map(|f| body(|out| f.encode(out)))
            .collect(),
    );
    let down = sent(
        to_edge()
            .iter()
            .map(|f| body(|out| f.encode(out)))
            .collect(),
    );
    for flag in 0..=u8::MAX {
        let body = tagged(7, flag, &[]);
        let cause = |error: Option<FrameError>| error.map(|error| error.cause);
        let at_edge = cause(ToEdge::decode(&body, all()).err());
        let at_backend = cause(ToBackend::decode(&body, all()).err());
        let other_way = |cause| match flag {
            flag::ASK | flag::GRANT | flag::CHALLENGE | flag::PROOF => {
                cause == Some(Cause::NotFirst)
            }
            _ if up.contains(&flag) || down.contains(&flag) => cause == Some(Cause::WrongWay),
            _ => cause == Some(Cause::UnknownFlag),
        };
        assert!(
            down.contains(&flag) || other_way(at_edge),
            "{flag:#04x}: {at_edge:?}"
        );
        assert!(
            up.contains(&flag) || other_way(at_backend),
            "{flag:#04x}: {at_backend:?}"
        );
    }
    // Those of version 2 are among them.
    for flag in [0x01, 0x02, 0x03] {
        assert_eq!(
            refusal_of(7, flag, &[]),
            Some(Refusal::Unknown),
            "{flag:#04x}"
        );
    }
}

#[test]
fn a_frame_of_a_feature_that_was_not_granted_is_refused() {
    for frame in to_edge() {
        let body = body(|out| frame.encode(out));
        for feature in Feature::ALL {
            let granted = all().without(feature);
            let is_of_it = Feature::of_flag(body[8]) == Some(Some(feature));
            let refused = ToEdge::decode(&body, granted).err();
            let expected = is_of_it.then_some(Refusal::Unknown);
            assert_eq!(refused.map(|error| error.cause.refusal()), expected);
        }
        let always = body[8] == flag::DATA;
        assert_eq!(ToEdge::decode(&body, Features::NONE).is_ok(), always);
    }
}

#[test]
fn bounds_hold_to_the_last_byte() {
    let text = |length| [&401_u16.to_le_bytes()[..], &[0; 4], &vec![b'a'; length]].concat();
    let note = |length| [&[0; 9][..], &vec![b'a'; length]].concat();
    let ids = |count| vec![0; 8 * count];
    let send = |count: u8| [&[0, 0, count][..], &vec![0; 8 * usize::from(count)]].concat();
    for (flag, fits, beyond) in [
        (flag::KICK, text(MAX_TEXT_BYTES), text(MAX_TEXT_BYTES + 1)),
        (flag::POLICY, note(MAX_NOTE_BYTES), note(MAX_NOTE_BYTES + 1)),
        (flag::GROUP_ADD, ids(MAX_IDS), ids(MAX_IDS + 1)),
        (flag::GROUP_REMOVE, ids(MAX_IDS), ids(MAX_IDS + 1)),
        (flag::GROUP_SEND, send(16), send(17)),
    ] {
        assert_eq!(refusal_of(7, flag, &fits), None, "{flag:#04x}");
        let refused = refusal_of(7, flag, &beyond);
        assert_eq!(refused, Some(Refusal::BeyondBound), "{flag:#04x}");
    }
    let token = |flag, before: usize| {
        [MAX_TOKEN_BYTES, MAX_TOKEN_BYTES + 1].map(|length| {
            let mut data = vec![0; before + length];
            data[0] = 3;
            ToBackend::decode(&tagged(7, flag, &data), all()).is_ok()
        })
    };
    assert_eq!(token(flag::TOKEN, 0), [true, false]);
    assert_eq!(token(flag::JOINED, 53), [true, false]);
}

#[test]
fn fields_without_a_meaning_are_refused() {
    let kick = |code: u16| [&code.to_le_bytes()[..], &[0; 4]].concat();
    for code in 0..=u16::MAX {
        let fits = matches!(code, 401 | 405 | 500..=699);
        let refused = refusal_of(7, flag::KICK, &kick(code));
        assert_eq!(refused.is_none(), fits, "{code}");
    }
    let go_away = |code: u16| [&code.to_le_bytes()[..], &[0; 12]].concat();
    for (code, fits) in [(99, false), (100, true), (199, true), (200, false)] {
        let refused = refusal_of(0, flag::GOAWAY, &go_away(code));
        assert_eq!(refused.is_none(), fits, "{code}");
    }
    let malformed = Some(Refusal::Malformed);
    for (flag, data) in [
        (flag::LATEST, &[][..]),
        (flag::LATEST, &[64]),
        (flag::GROUP_SEND, &[3, 0, 0]),
        (flag::GROUP_SEND, &[0, 1, 0]),
        (flag::GROUP_SEND, &[2, 1, 0]),
        (flag::GROUP_SEND, &[1, 64, 0]),
        (flag::GROUP_SEND, &[0, 0, 1, 1, 2, 3, 4, 5, 6, 7]),
        (flag::GROUP_ADD, &[1, 2, 3, 4, 5, 6, 7]),
        (flag::KICK, &[0x91, 1, 0, 0, 0, 0, 0xff]),
        (flag::POLICY, &[0, 0, 0, 0, 0, 0, 0, 0, 2]),
        (flag::POLICY, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]),
        // About the link, with the id of a session.
        (flag::LINK_ACK, &[0; 16]),
    ] {
        assert_eq!(refusal_of(7, flag, data), malformed, "{flag:#04x} {data:?}");
    }
    assert_eq!(refusal_of(0, flag::LINK_ACK, &[0; 16]), None);
}

#[test]
fn a_body_without_a_flag_is_cut_short() {
    for length in 0..9 {
        let body = [0x20; 9];
        let error = FrameError {
            id: 0,
            flag: 0,
            cause: Cause::Truncated,
        };
        assert_eq!(ToEdge::decode(&body[..length], all()), Err(error));
        assert_eq!(ToBackend::decode(&body[..length], all()), Err(error));
        assert!(Ask::of(&body[..length]).is_none());
        assert!(is_counted(&body[..length]));
    }
}

#[test]
fn notices_with_fields_without_a_meaning_are_none() {
    let decodes = |flag, data: &[u8]| ToBackend::decode(&tagged(0, flag, data), all()).is_ok();
    let joined = |version, carriage, family, last_of_address, port| {
        let mut data = [0; 53];
        (data[0], data[1], data[2]) = (version, carriage, family);
        (data[18], data[19]) = (last_of_address, port);
        decodes(flag::JOINED, &data)
    };
    assert!(joined(2, 4, 0, 0, 0) && joined(3, 0, 4, 0, 9) && joined(3, 3, 6, 1, 9));
    assert!(!joined(1, 0, 0, 0, 0) && !joined(4, 0, 0, 0, 0), "version");
    assert!(!joined(2, 5, 0, 0, 0), "carriage");
    assert!(!joined(2, 0, 5, 0, 0), "family");
    assert!(
        !joined(2, 0, 0, 1, 0) && !joined(2, 0, 0, 0, 1),
        "no address"
    );
    assert!(!joined(2, 0, 4, 1, 9), "an IPv4 address of 16 bytes");
    let own = |state| decodes(flag::OWN, &[&[0; 32][..], &[state]].concat());
    assert!(own(0x02) && own(0x82) && !own(0x03) && !own(0x40));
    assert!(!decodes(flag::GAP, &[&[2][..], &[0; 25]].concat()));
    assert!(!decodes(flag::REFUSED, &[0x26, 0]) && !decodes(flag::REFUSED, &[0x26, 8]));
    assert!(!decodes(flag::SETTLED, &[0; 15]));
    assert!(!decodes(flag::AWAY, &[2, 0, 0, 0, 0, 0]), "no code");
}

#[test]
fn asks_and_grants_survive_the_wire_and_longer_ones_are_read_by_their_beginning() {
    let ask = Ask {
        features: all(),
        boot: [1; 16],
        run: Some([2; 8]),
        received: 3,
        acknowledged: 2,
        sent: 4,
        longest_body: 8_388_617,
    };
    let grant = Grant {
        features: all(),
        boot: [1; 16],
        home: 5,
        term: 6,
        run: [7; 8],
        continues: Some([8; 8]),
        received: 9,
        groups_of_a_session: 64,
        sessions: 10,
    };
    let asked = body(|out| ask.encode(out));
    let granted = body(|out| grant.encode(out));
    assert_eq!((asked.len(), granted.len()), (9 + 57, 9 + 57));
    for end in 0..asked.len() {
        let is_flagged = end >= 9;
        assert_eq!(Ask::of(&asked[..end]).is_some(), is_flagged);
        assert!(Ask::of(&asked[..end]).is_none_or(|ask| ask.is_err()));
        assert!(Grant::of(&granted[..end]).is_none_or(|grant| grant.is_err()));
    }
    let (mut longer_ask, mut longer_grant) = (asked.clone(), granted.clone());
    (longer_ask[9], longer_grant[9]) = (4, 255);
    longer_ask.extend_from_slice(b"of a later version");
    longer_grant.extend_from_slice(b"of a later version");
    for (asked, granted) in [(&asked, &granted), (&longer_ask, &longer_grant)] {
        assert_eq!(Ask::of(asked), Some(Ok(ask)));
        assert_eq!(Grant::of(granted), Some(Ok(grant)));
        assert_eq!((Ask::of(granted), Grant::of(asked)), (None, None));
        assert!(!is_counted(asked) && !is_counted(granted));
    }
    let (mut older, mut of_session) = (asked.clone(), asked);
    older[9] = 2;
    of_session[0] = 1;
    for malformed in [older, of_session] {
        assert!(Ask::of(&malformed).is_some_and(|ask| ask.is_err()));
    }
    // Without a run the counts mean nothing.
    let first = Ask { run: None, ..ask };
    let read = Ask::of(&body(|out| first.encode(out))).map(|ask| ask.map(|ask| ask.received));
    assert_eq!(read, Some(Ok(0)));
    // A packet of version 2 is neither.
    assert_eq!(Ask::of(&tagged(0, 0, b"x")), None);
}

#[test]
fn what_is_granted_was_asked_for_and_has_what_it_needs() {
    let end_to_end = Features::NONE | Feature::EndToEnd;
    assert_eq!(all().grant(Features::NONE), Features::NONE);
    assert_eq!(all().grant(end_to_end), Features::NONE);
    let needed = end_to_end | Feature::Settled | Feature::LinkAcks;
    assert_eq!(all().grant(needed), needed);
    let without = needed.without(Feature::LinkAcks);
    assert_eq!(all().grant(without), Features::NONE | Feature::Settled);
    let adopt = needed | Feature::Adopt;
    assert_eq!(all().grant(adopt), needed, "no notices");
    assert_eq!(
        all().grant(adopt | Feature::Notices),
        adopt | Feature::Notices
    );
    // Bits that nobody knows yet are not granted.
    assert_eq!(all().grant(Features::from_bits(u32::MAX)), all());
    assert_eq!(all().bits(), 0b1_1111_1111);
    assert_eq!(
        (Features::NONE | Feature::Kick | Feature::Notices).to_string(),
        "notices, kick"
    );
}
