//! What the opening of version 3 refuses, at its bounds and beyond: both halves against each other, without an edge.

use voltlane_core::ClientId;
use voltlane_core::keys::{KeyPair, PublicKey};
use voltlane_core::v3::MAX_NUMBER;
use voltlane_core::v3::client::{Attempting, ClientError, Joining, Outcome, Resumable, Welcomed};
use voltlane_core::v3::code::Code;
use voltlane_core::v3::inbound::{Inbound, InboundError};
use voltlane_core::v3::items::{Item, MAX_RESUMED_MARKS, Resumed};
use voltlane_core::v3::order::OrderError;
use voltlane_core::v3::packets::{Busy, Packet, PacketError, Position, Settings, Verdict};
use voltlane_core::v3::record::{
    MAX_FIRST_EARLY_RECORD_BYTES, MAX_JOIN_RECORD_BYTES, RecordError, Sealer,
};
use voltlane_core::v3::schedule::{Join, Master, Secret};
use voltlane_core::v3::server::{Claimed, EdgeKey, Numbers, Refused, Standing, verdict};

const RUN: [u8; 8] = [9; 8];
const LONGEST: u32 = 65_536;

fn key(byte: u8) -> EdgeKey {
    EdgeKey::new(pair(byte))
}

fn pair(byte: u8) -> KeyPair {
    KeyPair::from_bytes(&[byte; 32]).expect("a scalar")
}

fn settings(master: &Master, mask: [u8; 8], features: u32) -> Settings {
    let id = ClientId::from_u64(7);
    Settings {
        id,
        claim_key: master.claim_key(id),
        handle: master.mask(id, mask),
        run: RUN,
        features,
        longest_packet_up: LONGEST,
        ring_packets: 8_192,
        ring_bytes: 1 << 20,
        window_secs: 300,
        ack_delay_ms: 250,
        keep_alive_secs: 20,
    }
}

fn hello(pin: Option<PublicKey>, random: u8) -> (Joining, Vec<u8>) {
    let mut out = Vec::new();
    let joining = Joining::begin([random; 32], pin.as_slice(), LONGEST, &mut out);
    (joining, out.split_off(4))
}

/// The edge's answer to a Hello.
fn welcome(edge: &EdgeKey, hello: &[u8], features: u32) -> (Join, Vec<u8>) {
    let Ok(Packet::Hello(hello)) = Packet::decode(hello) else {
        panic!("no Hello")
    };
    let mut out = Vec::new();
    let settings = |master: &Master, mask| settings(master, mask, features);
    let join = edge.welcome(&hello, [5; 32], settings, &mut out);
    (join.expect("a point"), out.split_off(4))
}

/// A session on both sides.
fn joined() -> (Welcomed, Standing) {
    let (joining, hello) = hello(None, 3);
    let (join, body) = welcome(&key(1), &hello, 0);
    let welcomed = joining.welcome(&body).expect("an honest edge");
    (welcomed, Standing::new(join.resume))
}

fn claimed(attempting: &Attempting) -> Claimed {
    let Ok(Packet::Claim(claim)) = Packet::decode(attempting.claim()) else {
        panic!("no Claim")
    };
    Claimed::open(&claim, &[key(1)]).expect("it is for this edge")
}

fn answer(attempting: Attempting, session: &mut Resumable, code: Code, highest: u64) -> Outcome {
    let verdict = Verdict {
        highest,
        ..verdict(code, RUN)
    };
    let body = claimed(&attempting).answer(verdict, [8; 32], &mut Vec::new());
    attempting.answer(session, &body).expect("it opens")
}

/// The owner resumes with the counter that it uses next, and hears of nobody else.
fn resume(session: &mut Resumable, standing: &mut Standing, nonce: u8) -> u64 {
    assert!(!hears(session, standing, nonce), "they are its own");
    standing.highest()
}

#[test]
fn a_hello_asks_for_nothing_and_sets_one_bit_that_is_never_granted() {
    let mut seen = 0;
    for random in 0..64 {
        let (_, body) = hello(None, random);
        let Ok(Packet::Hello(hello)) = Packet::decode(&body) else {
            panic!("no Hello")
        };
        assert_eq!(hello.features.count_ones(), 1);
        assert_eq!(hello.longest_packet_down(), Some(LONGEST));
        seen |= hello.features;
    }
    assert_eq!(seen, 0xff00_0000);
}

#[test]
fn a_client_takes_only_its_pinned_edge() {
    for (pin, edge, is_taken) in [(None, 1, true), (Some(1), 1, true), (Some(2), 1, false)] {
        let pin = pin.map(|byte| pair(byte).public());
        let (joining, hello) = hello(pin, 3);
        let (_, body) = welcome(&key(edge), &hello, 0);
        match joining.welcome(&body) {
            Ok(welcomed) => assert!(is_taken && welcomed.edge_key == pair(edge).public()),
            Err(error) => assert!(!is_taken && error == ClientError::OtherEdge),
        }
    }
}

#[test]
fn a_welcome_that_is_none_fails_the_attempt() {
    let refused = |body: &dyn Fn(&[u8]) -> Vec<u8>| {
        let (joining, hello) = hello(None, 3);
        joining.welcome(&body(&hello)).expect_err("it is refused")
    };
    let granted = refused(&|hello| welcome(&key(1), hello, 4).1);
    assert_eq!(granted, ClientError::Features { features: 4 });
    let busy = Busy {
        code: Code::BUSY,
        wait_ms: 5,
    };
    assert_eq!(
        refused(&|_| Packet::Busy(busy).body()),
        ClientError::Busy(busy)
    );
    assert_eq!(
        refused(&|hello| hello.to_vec()),
        ClientError::Unexpected("Hello")
    );
    let other = refused(&|_| welcome(&key(1), &hello(None, 4).1, 0).1);
    assert!(
        matches!(other, ClientError::Welcome(_)),
        "for another Hello: {other}"
    );
    // 5^3 + 7 has no root in the field.
    for at in [1, 34] {
        let off_the_curve = refused(&|hello| {
            let (_, mut body) = welcome(&key(1), hello, 0);
            body[at + 1..at + 33].fill(0);
            body[at + 32] = 5;
            body
        });
        assert!(
            matches!(off_the_curve, ClientError::Key(_)),
            "{off_the_curve}"
        );
    }
    assert!(matches!(
        refused(&|_| vec![1]),
        ClientError::Packet(PacketError::UnknownKind { kind: 1 })
    ));
}

#[test]
fn a_point_off_the_curve_makes_no_key() {
    let (_, mut body) = hello(None, 3);
    body[10..42].fill(0);
    body[41] = 5;
    let Ok(Packet::Hello(hello)) = Packet::decode(&body) else {
        panic!("its form is right")
    };
    let unused = |_: &Master, _| panic!("nothing is sealed");
    let mut out = Vec::new();
    let refused = key(1).welcome(&hello, [5; 32], unused, &mut out);
    assert!(matches!(refused, Err(PacketError::Key(_))) && out.is_empty());
}

#[test]
fn a_claim_is_for_an_edge_that_has_its_key() {
    let (mut welcomed, _) = joined();
    let attempting = welcomed.session.attempt([1; 24], 1, 0);
    let Ok(Packet::Claim(claim)) = Packet::decode(attempting.claim()) else {
        panic!("no Claim")
    };
    let elsewhere = Busy {
        code: Code::NOT_HERE,
        wait_ms: 0,
    };
    let open = |keys: &[EdgeKey]| Claimed::open(&claim, keys).map(|claimed| claimed.id());
    for keys in [vec![], vec![key(2)]] {
        assert_eq!(open(&keys), Err(Refused::Elsewhere(elsewhere)));
    }
    assert_eq!(open(&[key(2), key(1)]), Ok(welcomed.session.id()));
    let mut changed = claim;
    changed.tag[0] ^= 1;
    assert!(matches!(
        Claimed::open(&changed, &[key(1)]),
        Err(Refused::Foreign)
    ));
}

#[test]
fn a_claim_of_another_run_is_gone_or_not_here() {
    let (mut welcomed, _) = joined();
    let claimed = claimed(&welcomed.session.attempt([1; 24], 4, 5));
    let position = Position {
        counter: 1,
        run: RUN,
        first_up: 4,
        received_down: 5,
    };
    assert_eq!(claimed.position(RUN, |_| panic!("not asked")), Ok(position));
    assert_eq!(claimed.position([0; 8], |run| run == RUN), Err(Code::GONE));
    assert_eq!(claimed.position([0; 8], |_| false), Err(Code::NOT_HERE));
}

#[test]
fn a_counter_is_above_the_highest_by_64_at_most() {
    let (mut welcomed, mut standing) = joined();
    for round in 0..3 {
        let highest = standing.highest();
        for counter in [0, highest, highest.saturating_sub(1)] {
            assert_eq!(standing.judge(counter).err(), Some(Code::STALE));
        }
        for counter in [highest + 65, MAX_NUMBER, u64::MAX] {
            assert_eq!(standing.judge(counter).err(), Some(Code::AHEAD));
        }
        for counter in [highest + 1, highest + 64] {
            assert!(standing.judge(counter).is_ok());
        }
        assert_eq!(
            resume(&mut welcomed.session, &mut standing, round),
            highest + 1
        );
    }
}

#[test]
fn of_two_attempts_that_were_judged_the_later_one_is_compared_again() {
    let (mut welcomed, mut standing) = joined();
    let attempts = [1, 2].map(|nonce| claimed(&welcomed.session.attempt([nonce; 24], 1, 0)));
    let links = [1, 2].map(|counter| standing.judge(counter).expect("it may go on"));
    assert_eq!(standing.accept(&attempts[1], &links[1]), Ok(()));
    assert_eq!(standing.accept(&attempts[0], &links[0]), Err(Code::STALE));
    assert_eq!(
        standing.accept(&attempts[1], &links[1]),
        Err(Code::STALE),
        "a second time"
    );
    assert_eq!(standing.highest(), 2);
}

#[test]
fn numbers_fit_or_the_session_is_over() {
    let numbers = Numbers {
        received_up: 10,
        sent_down: 20,
        acknowledged_down: 15,
    };
    let fit = |first_up, received_down| {
        numbers.fit(&Position {
            counter: 1,
            run: RUN,
            first_up,
            received_down,
        })
    };
    for (first_up, received_down) in [(1, 15), (11, 20), (5, 17)] {
        assert_eq!(fit(first_up, received_down), Ok(0));
    }
    assert_eq!((fit(11, 14), fit(11, 0)), (Ok(1), Ok(15)), "told as a gap");
    for (first_up, received_down) in [(12, 15), (MAX_NUMBER, 15), (11, 21), (11, MAX_NUMBER)] {
        assert_eq!(fit(first_up, received_down), Err(Code::NUMBERS));
    }
}

#[test]
fn a_client_stays_64_above_what_the_edge_has_told() {
    let (mut welcomed, mut standing) = joined();
    let session = &mut welcomed.session;
    let counters: Vec<_> = (0..134)
        .map(|nonce| session.attempt([nonce; 24], 1, 0).counter())
        .collect();
    let expected: Vec<_> = (1..=64).chain([64; 70]).collect();
    assert_eq!(counters, expected);
    // The edge has seen none of them. It still takes the next one, and the client has forgotten too many marks to judge.
    assert_eq!(resume(session, &mut standing, 134), 64);
    assert_eq!(session.attempt([135; 24], 1, 0).counter(), 65);
}

#[test]
fn after_a_stale_counter_the_client_goes_on_above_the_highest() {
    let (mut welcomed, _) = joined();
    let session = &mut welcomed.session;
    let attempts: Vec<_> = (0..5)
        .map(|nonce| session.attempt([nonce; 24], 1, 0))
        .collect();
    let mut attempts = attempts.into_iter();
    let mut refuse = |session: &mut Resumable, highest| {
        answer(
            attempts.next().expect("five"),
            session,
            Code::STALE,
            highest,
        )
    };
    assert!(matches!(refuse(session, 3), Outcome::AtOnce));
    assert!(
        matches!(refuse(session, 5), Outcome::Later),
        "the second in a row"
    );
    assert_eq!(session.attempt([9; 24], 1, 0).counter(), 6);
    // Nobody but a holder of its secrets can have used a counter that it never used.
    assert!(matches!(refuse(session, 7), Outcome::Conflict));
    assert_eq!(session.attempt([10; 24], 1, 0).counter(), 8);
    assert!(
        matches!(refuse(session, 1 << 20), Outcome::Conflict),
        "the farthest"
    );
    // It has no counter beyond that, and uses the last one again.
    for nonce in [11, 12] {
        let attempt = session.attempt([nonce; 24], 1, 0);
        assert_eq!(attempt.counter(), (1 << 20) + 1);
    }
    assert!(matches!(refuse(session, (1 << 20) + 1), Outcome::Over));
}

#[test]
fn after_a_counter_that_is_ahead_the_client_goes_back_as_far_as_it_can() {
    let (mut welcomed, mut standing) = joined();
    let session = &mut welcomed.session;
    for round in 0..70 {
        resume(session, &mut standing, round);
    }
    let refuse = |session: &mut Resumable, nonce, highest| {
        let attempt = session.attempt([nonce; 24], 1, 0);
        answer(attempt, session, Code::AHEAD, highest)
    };
    assert!(matches!(refuse(session, 100, 7), Outcome::AtOnce));
    assert_eq!(session.clone().attempt([101; 24], 1, 0).counter(), 71);
    assert!(matches!(refuse(session, 102, 6), Outcome::Over));
}

#[test]
fn other_codes_are_handled_by_their_class_and_a_new_handle_counts() {
    let (mut welcomed, _) = joined();
    let session = &mut welcomed.session;
    let mut handles = Vec::new();
    for (nonce, code) in [Code::GONE, Code::BUSY, Code::KICKED]
        .into_iter()
        .enumerate()
    {
        let attempting = session.attempt([nonce as u8; 24], 1, 0);
        let Ok(Packet::Claim(claim)) = Packet::decode(attempting.claim()) else {
            panic!("no Claim")
        };
        handles.push(claim.head.handle);
        let verdict = verdict(code, RUN);
        let random = [nonce as u8; 32];
        let body = claimed(&attempting).answer(verdict, random, &mut Vec::new());
        let outcome = attempting.answer(session, &body).expect("it opens");
        assert!(matches!(outcome, Outcome::ByClass(verdict) if verdict.code == code));
    }
    handles.dedup();
    assert_eq!(handles.len(), 3);
    let cold = session.attempt([9; 24], 1, 0);
    let body = claimed(&cold).answer(verdict(Code::COLD, RUN), [9; 32], &mut Vec::new());
    let refused = cold.answer(session, &body).map(|_| ());
    assert_eq!(refused, Err(ClientError::Unexpected("Answer 1")));
}

fn seal(sealer: &mut Sealer, number: u64, items: &[Item<'_>]) -> Vec<u8> {
    let mut out = vec![0; 4];
    items.iter().for_each(|item| item.encode(&mut out));
    sealer.seal(number, &mut out, 0).expect("it is short");
    out.split_off(4)
}

fn read(inbound: &mut Inbound, body: &[u8]) -> Result<u64, InboundError> {
    let mut items = 0;
    inbound.read(&mut body.to_vec(), |_, _| items += 1)?;
    Ok(items)
}

/// The secrets of early records and of those after them.
fn secrets() -> (Secret, Secret) {
    let (mut welcomed, standing) = joined();
    let claimed = claimed(&welcomed.session.attempt([1; 24], 1, 0));
    let link = standing.judge(1).expect("it may go on");
    let (up, _) = claimed.established(&link, b"answer");
    (claimed.early(&link), up)
}

/// A record whose body has `length` bytes: a packet of all that fits.
fn of_length(sealer: &mut Sealer, number: u64, length: u32) -> Vec<u8> {
    // The header is twice the length of the packet.
    let header = if length < 32_000 { 3 } else { 5 };
    let packet = vec![1; length as usize - 16 - header];
    let body = seal(sealer, number, &[Item::Packet(&packet)]);
    assert_eq!(body.len(), length as usize);
    body
}

#[test]
fn the_first_early_record_and_all_of_them_are_bounded() {
    let (early, _) = secrets();
    let begin = || (Sealer::new(&early), Inbound::of_early(&early, 1, LONGEST));
    let max = MAX_FIRST_EARLY_RECORD_BYTES;
    let (mut sealer, mut inbound) = begin();
    let longer = of_length(&mut sealer, 1, max + 1);
    let too_long = InboundError::TooLong {
        length: 4_097,
        max: 4_096,
    };
    assert_eq!(read(&mut inbound, &longer), Err(too_long));

    let (mut sealer, mut inbound) = begin();
    assert_eq!(read(&mut inbound, &of_length(&mut sealer, 1, max)), Ok(1));
    assert_eq!(
        read(&mut inbound, &of_length(&mut sealer, 2, 61_440)),
        Ok(1)
    );
    let empty = seal(&mut sealer, 3, &[]);
    let too_long = InboundError::TooLong { length: 16, max: 0 };
    assert_eq!(read(&mut inbound, &empty), Err(too_long));
}

#[test]
fn a_join_record_is_bounded_and_later_ones_less() {
    let (welcomed, _) = joined();
    let up = &welcomed.join.up;
    for (length, is_right) in [
        (MAX_JOIN_RECORD_BYTES, true),
        (MAX_JOIN_RECORD_BYTES + 1, false),
    ] {
        let (mut sealer, mut inbound) = (Sealer::new(up), Inbound::of_join(up, LONGEST));
        let packet = vec![1; length as usize - 16 - 3 - 2];
        let body = seal(&mut sealer, 1, &[Item::Token(b""), Item::Packet(&packet)]);
        assert_eq!(body.len(), length as usize);
        assert_eq!(read(&mut inbound, &body).is_ok(), is_right);
        if is_right {
            let later = of_length(&mut sealer, 2, 20_000);
            assert_eq!(read(&mut inbound, &later), Ok(1));
        }
    }
}

#[test]
fn a_join_record_without_a_token_is_refused() {
    let (welcomed, _) = joined();
    let up = &welcomed.join.up;
    let out_of_place = |item| Err(InboundError::Order(OrderError::OutOfPlace { item }));
    for (items, refused) in [
        (&[][..], out_of_place("record")),
        (&[Item::Pad { length: 9 }], out_of_place("record")),
        (&[Item::Ack(1)], out_of_place("ACK")),
        (&[Item::Token(b"")], Ok(1)),
    ] {
        let (mut sealer, mut inbound) = (Sealer::new(up), Inbound::of_join(up, LONGEST));
        let body = seal(&mut sealer, 1, items);
        assert_eq!(read(&mut inbound, &body), refused);
        if refused.is_ok() {
            // Later records may be empty.
            let later = seal(&mut sealer, 1, &[]);
            assert_eq!(read(&mut inbound, &later), Ok(0));
        }
    }
}

#[test]
fn records_after_early_end_count_from_the_greater_number() {
    let (early, up) = secrets();
    for (packets, received, next) in [(2, 0, 5), (2, 4, 5), (2, 9, 10), (0, 2, 3), (0, 7, 8)] {
        let mut inbound = Inbound::of_early(&early, 3, LONGEST);
        let mut sealer = Sealer::new(&early);
        let items = vec![Item::Packet(b"x"); packets];
        assert_eq!(
            read(&mut inbound, &seal(&mut sealer, 3, &items)),
            Ok(packets as u64)
        );
        inbound.resume(&up, received);
        let end = seal(&mut sealer, 3 + packets as u64, &[Item::EarlyEnd]);
        assert_eq!(read(&mut inbound, &end), Ok(1));
        assert_eq!(inbound.next_number(), next);
        let record = seal(&mut Sealer::new(&up), next, &[Item::Packet(b"y")]);
        assert_eq!(read(&mut inbound, &record), Ok(1));
        let later = seal(&mut sealer, next + 1, &[Item::Packet(b"z")]);
        let does_not_open = InboundError::Record(RecordError::DoesNotOpen);
        assert_eq!(
            read(&mut inbound, &later),
            Err(does_not_open),
            "the early key is over"
        );
    }
}

#[test]
fn early_records_do_not_end_before_the_session_was_taken_up() {
    let (early, _) = secrets();
    let mut inbound = Inbound::of_early(&early, 1, LONGEST);
    let end = seal(&mut Sealer::new(&early), 1, &[Item::EarlyEnd]);
    let out_of_place = OrderError::OutOfPlace { item: "EARLY_END" };
    assert_eq!(
        read(&mut inbound, &end),
        Err(InboundError::Order(out_of_place))
    );
}

#[test]
fn numbers_do_not_go_beyond_the_highest() {
    let (_, down) = secrets();
    let begin = || Inbound::of_answer(&down, MAX_NUMBER - 3, LONGEST);
    let resumed = Resumed {
        until: MAX_NUMBER,
        received_up: 0,
        away_ms: 0,
        cause: Code::GOODBYE,
    };
    let resumed = Item::Resumed(resumed, &[[0; 8]]);
    let gap = |count| Item::Gap {
        count,
        bytes: 0,
        reason: 1,
    };
    let number = MAX_NUMBER - 2;
    let last = seal(
        &mut Sealer::new(&down),
        number,
        &[resumed, gap(2), Item::Packet(b"")],
    );
    assert_eq!(read(&mut begin(), &last), Ok(3));
    let beyond = seal(
        &mut Sealer::new(&down),
        number,
        &[resumed, gap(3), Item::Packet(b"")],
    );
    assert_eq!(read(&mut begin(), &beyond), Err(InboundError::Numbers));
    let far = seal(&mut Sealer::new(&down), number, &[resumed, gap(MAX_NUMBER)]);
    assert_eq!(read(&mut begin(), &far), Err(InboundError::Numbers));
}

#[test]
fn nothing_follows_a_close() {
    let (_, up) = secrets();
    let mut sealer = Sealer::new(&up);
    let mut inbound = Inbound::of_welcome(&up, LONGEST);
    let close = [31, 0, 0, 0, 0]
        .into_iter()
        .chain([0; 15])
        .collect::<Vec<u8>>();
    let mut record = [&[0; 4], close.as_slice()].concat();
    sealer.seal(1, &mut record, 0).expect("it is short");
    assert_eq!(read(&mut inbound, &record[4..]), Ok(1));
    assert!(inbound.is_closed());
    let more = seal(&mut sealer, 1, &[]);
    let out_of_place = OrderError::OutOfPlace { item: "record" };
    assert_eq!(
        read(&mut inbound, &more),
        Err(InboundError::Order(out_of_place))
    );
}

/// Accepts an attempt.
fn accept(standing: &mut Standing, attempting: &Attempting) {
    let link = standing.judge(attempting.counter()).expect("it may go on");
    standing
        .accept(&claimed(attempting), &link)
        .expect("nobody came in between");
}

/// Begins an attempt of the owner, which the edge accepts, and reads its RESUMED. Returns whether it hears of somebody else.
fn hears(session: &mut Resumable, standing: &mut Standing, nonce: u8) -> bool {
    let attempting = session.attempt([nonce; 24], 1, 0);
    accept(standing, &attempting);
    let counter = attempting.counter();
    let Outcome::TakenUp(returning) = answer(attempting, session, Code::TAKEN_UP, counter) else {
        panic!("not taken up")
    };
    returning.resumed(session, standing.before())
}

#[test]
fn a_resumed_that_is_lost_does_not_hide_a_thief() {
    for lost in [1, 2, 61, 62] {
        let (welcomed, mut standing) = joined();
        let mut session = welcomed.session;
        let mut thief = session.clone();
        // It uses the counter of an attempt of the owner that never arrived.
        let _ = session.attempt([1; 24], 1, 0);
        accept(&mut standing, &thief.attempt([2; 24], 1, 0));
        for attempt in 0..lost {
            let attempting = session.attempt([3 + attempt; 24], 1, 0);
            accept(&mut standing, &attempting);
        }
        assert!(hears(&mut session, &mut standing, 100), "{lost} lost");
        // It is told once more, since the edge does not know that the owner has opened RESUMED, and has heard of it.
        assert!(!hears(&mut session, &mut standing, 101), "{lost} lost");
    }
}

#[test]
fn an_edge_tells_64_attempts_and_forgets_those_that_the_client_knows() {
    let (welcomed, mut standing) = joined();
    let mut session = welcomed.session;
    for attempt in 0..70_usize {
        assert!(!hears(&mut session, &mut standing, attempt as u8));
        let told = (attempt + 1).min(MAX_RESUMED_MARKS);
        assert_eq!(standing.before().len(), told);
    }
    assert!(standing.held_bytes() >= 8 * MAX_RESUMED_MARKS);
    standing.confirm();
    assert_eq!((standing.before().len(), standing.held_bytes()), (0, 0));
    assert!(!hears(&mut session, &mut standing, 100));
    assert_eq!(standing.before().len(), 1);
}
