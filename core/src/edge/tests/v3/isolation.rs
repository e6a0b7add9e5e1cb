//! What a client may not do ends its attempt or its connection, with its code, and costs nobody else anything (SPEC 28).

use super::*;
use crate::v3::packets::{ClaimHead, Extensions, KeyHint, Position};
use crate::v3::schedule::Attempt;

/// What the client is told.
#[derive(Debug, PartialEq)]
enum Outcome3 {
    /// Nothing, and the connection is closed.
    Silence,
    Close(Code),
    Answer(Code),
}

type Misdeed = fn(&mut World, &mut ClientV3) -> Outcome3;

fn claim(world: &mut World, one: &ClientV3, position: Position) -> Vec<u8> {
    let head = ClaimHead {
        key_hint: KeyHint::of(&world.edge_keys.public()),
        handle: one.settings.handle,
        nonce: world.random(),
        extensions: Extensions::NONE,
    };
    let claim = one.settings.claim_key.seal_claim(head, &position);
    Packet::Claim(claim).body()
}

fn position(one: &ClientV3) -> Position {
    Position {
        counter: 1,
        run: one.settings.run,
        first_up: 1,
        received_down: 0,
    }
}

/// Sends a Claim, and returns what it is answered.
fn answer(world: &mut World, one: &ClientV3, claim: &[u8]) -> Outcome3 {
    let conn = world.begin3(claim, b"");
    let heard = bodies(&world.hear_bytes(conn));
    let Some(Ok(Packet::Answer(answer))) = heard.first().map(|body| Packet::decode(body)) else {
        panic!("{heard:?}");
    };
    let attempt = Attempt::new(claim);
    let verdict = attempt.open_answer(&one.settings.claim_key, &answer);
    Outcome3::Answer(verdict.unwrap().code)
}

/// Returns what the client of an established connection is told, which is over.
fn told(world: &mut World, one: &mut ClientV3) -> Outcome3 {
    let came = world.hear3(one);
    match came.last() {
        Some(Came::Closed(code, ..)) => Outcome3::Close(*code),
        None => {
            assert!(world.is_closed(one.conn));
            Outcome3::Silence
        }
        other => panic!("{other:?}"),
    }
}

const MISDEEDS: [(&str, Misdeed, Outcome3, bool); 12] = [
    (
        "acknowledges more than was sent",
        |world, one| {
            world.send_items(one, &[Item::Ack(1)]);
            told(world, one)
        },
        Outcome3::Close(Code::PROTOCOL),
        true,
    ),
    (
        "claims more than was numbered",
        |world, one| {
            one.progress.receive(1, 0);
            let came = world.come_back3(one).unwrap();
            Outcome3::Close(closed(&came).0)
        },
        Outcome3::Close(Code::NUMBERS),
        false,
    ),
    (
        "leaves numbers out",
        |world, one| {
            let first_up = 2;
            let random = world.random();
            let attempt = one.session.attempt(random, first_up, 0);
            let conn = world.begin3(attempt.claim(), b"");
            one.conn = conn;
            one.channel = Channel::claimed(&attempt.early(), first_up);
            one.channel.outbound().put_all(&[]);
            let bytes = one.channel.wire().to_vec();
            one.channel.written(bytes.len());
            world.write(conn, &bytes);
            let came = world.answered(one, attempt).unwrap();
            Outcome3::Close(closed(&came).0)
        },
        Outcome3::Close(Code::NUMBERS),
        false,
    ),
    (
        "has a counter too far ahead",
        |world, one| {
            let counter = 65;
            let claim = claim(
                world,
                one,
                Position {
                    counter,
                    ..position(one)
                },
            );
            answer(world, one, &claim)
        },
        Outcome3::Answer(Code::AHEAD),
        true,
    ),
    (
        "sends a first flight a second time",
        |world, one| {
            let (attempt, conn) = world.claim3(one);
            let claim = attempt.claim().to_vec();
            world.send_early(one, &attempt, conn);
            world.answered(one, attempt).unwrap();
            answer(world, one, &claim)
        },
        Outcome3::Answer(Code::STALE),
        true,
    ),
    (
        "has the counter 0",
        |world, one| {
            let counter = 0;
            let claim = claim(
                world,
                one,
                Position {
                    counter,
                    ..position(one)
                },
            );
            answer(world, one, &claim)
        },
        Outcome3::Answer(Code::PROTOCOL),
        true,
    ),
    (
        "has numbers that cannot be",
        |world, one| {
            let first_up = u64::MAX;
            let claim = claim(
                world,
                one,
                Position {
                    first_up,
                    ..position(one)
                },
            );
            answer(world, one, &claim)
        },
        Outcome3::Answer(Code::PROTOCOL),
        true,
    ),
    (
        "sends a record a second time",
        |world, one| {
            one.channel.outbound().put_all(&[Item::AckNow]);
            let bytes = one.channel.wire().to_vec();
            one.channel.written(bytes.len());
            world.write(one.conn, &bytes);
            world.write(one.conn, &bytes);
            told(world, one)
        },
        Outcome3::Silence,
        true,
    ),
    (
        "leaves a record out",
        |world, one| {
            one.channel.outbound().put_all(&[Item::AckNow]);
            let lost = one.channel.wire().len();
            one.channel.written(lost);
            world.send_items(one, &[Item::AckNow]);
            told(world, one)
        },
        Outcome3::Silence,
        true,
    ),
    (
        "ends early records that it did not begin",
        |world, one| {
            world.send_items(one, &[Item::EarlyEnd]);
            told(world, one)
        },
        Outcome3::Close(Code::PROTOCOL),
        true,
    ),
    (
        "sends what only an edge sends",
        |world, one| {
            world.send_items(one, &[Item::Superseded { count: 1 }]);
            told(world, one)
        },
        Outcome3::Close(Code::PROTOCOL),
        true,
    ),
    (
        "closes with a code that is none of its own",
        |world, one| {
            world.send_items(one, &[Item::Close(goodbye(Code::KICKED))]);
            told(world, one)
        },
        Outcome3::Close(Code::PROTOCOL),
        true,
    ),
];

#[test]
fn what_one_client_does_wrong_costs_nobody_else_anything() {
    for (what, misdeed, outcome, is_kept) in MISDEEDS {
        let mut world = world(|_| {});
        let mut other = world.join3();
        world.send3(&mut other, b"before");
        let mut one = world.join3();
        world.backend_hears();
        let told = misdeed(&mut world, &mut one);
        assert_eq!(told, outcome, "{what}");
        world.edge.audit();
        let left = 1 + usize::from(is_kept);
        assert_eq!(world.edge.gauges().sessions, left, "{what}");
        world.send3(&mut other, b"after");
        world.down(&other, b"down");
        let heard = world.backend_hears();
        assert!(heard.contains(&data(other.id(), "after")), "{what}");
        let came = world.hear3(&mut other);
        assert_eq!(packets(&came), [(1, &b"down"[..])], "{what}");
        assert!(world.come_back3(&mut other).is_ok(), "{what}");
        let closed = world.edge.counters().closed;
        assert_eq!(closed[CloseReason::Rejected as usize], 0, "{what}");
    }
}
