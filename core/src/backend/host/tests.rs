//! The host against an edge of which each frame is made and read here.

mod asking;
mod bounds;
mod picture;

use core::time::Duration;

use super::*;
use crate::ledger::Ledger;
use crate::link::v3::{
    Ask, Ended, Features, Joined as JoinedFrame, LinkAck, Own, OwnState, Resumed, ToBackend,
};

const BOOT: [u8; 16] = [0xb0; 16];
const RUN: [u8; 8] = [0x77; 8];
const ID: ClientId = ClientId::from_u64(0x0102_0304_0506_0708);
const OTHER: ClientId = ClientId::from_u64(9);

const fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// What was heard, in short.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Connected(Option<u32>),
    CaughtUp,
    Joined(ClientId, bool),
    Packet(ClientId, u64, Vec<u8>),
    Ended(ClientId, u16, String),
    Away(ClientId),
    Resumed(ClientId, u64),
    Other(String),
}

fn short(event: Event<'_>) -> Option<Heard> {
    Some(match event {
        Event::Connected { sessions, .. } => Heard::Connected(sessions),
        Event::CaughtUp => Heard::CaughtUp,
        Event::Joined(joined) => Heard::Joined(joined.id, joined.again),
        Event::Packet {
            id, data, number, ..
        } => Heard::Packet(id, number, data.to_vec()),
        Event::Ended { id, end } => Heard::Ended(id, end.code.to_u16(), end.text),
        Event::Away { id, .. } => Heard::Away(id),
        Event::Resumed { id, missed, .. } => Heard::Resumed(id, missed),
        Event::Link | Event::Settled(_) | Event::Stale { .. } => return None,
        other => Heard::Other(format!("{other:?}")),
    })
}

/// A host, and its edge's end of the link.
struct World {
    host: Host,
    now: Time,
    /// Frames that the edge has received, and the frames themselves.
    received: u64,
    frames: Vec<Vec<u8>>,
    reader: FrameReader,
    /// Frames that the edge has sent in this run.
    sent: u64,
    asked: Option<Ask>,
}

impl World {
    fn new() -> World {
        World::with(HostConfig::default())
    }

    fn with(config: HostConfig) -> World {
        let config = config.asking(BOOT);
        World {
            host: Host::new(config),
            now: at(1_000),
            received: 0,
            frames: Vec::new(),
            reader: FrameReader::default(),
            sent: 0,
            asked: None,
        }
    }

    /// A host whose edge has granted, and has no sessions.
    fn granted() -> World {
        World::new().now_granted()
    }

    fn now_granted(self) -> World {
        let mut world = self;
        world.host.handle_connected(world.now);
        world.read();
        let heard = world.tell_all(&[grant(RUN, 0, 0)]);
        assert_eq!(heard, [Heard::Connected(Some(0)), Heard::CaughtUp]);
        world
    }

    /// Also with a session.
    fn joined() -> World {
        let mut world = World::granted();
        assert_eq!(world.tell(joined(ID)), [Heard::Joined(ID, false)]);
        world.read();
        world.frames.clear();
        world
    }

    /// Gives bytes to the host. The application comes back from each event.
    fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Heard>, BackendError> {
        let (mut input, mut heard) = (bytes, Vec::new());
        loop {
            let next = self.host.handle_bytes(self.now, &mut input)?;
            let is_over = next.is_none();
            let next = next.and_then(short);
            let precedes = self.host.pending_precedes();
            let pending = core::iter::from_fn(|| self.host.poll_event());
            let pending: Vec<_> = pending.filter_map(short).collect();
            match precedes {
                true => heard.extend(pending.into_iter().chain(next)),
                false => heard.extend(next.into_iter().chain(pending)),
            }
            let mark = self.host.mark();
            self.host.taken_up(self.now, mark);
            if is_over {
                return Ok(heard);
            }
        }
    }

    fn tell_all(&mut self, frames: &[Vec<u8>]) -> Vec<Heard> {
        self.feed(&frames.concat()).expect("a link that lasts")
    }

    /// Gives a frame that counts.
    fn tell(&mut self, frame: ToBackend<'_>) -> Vec<Heard> {
        self.sent += 1;
        self.tell_all(&[bytes_of(frame)])
    }

    /// Takes up to `most` bytes of the output.
    fn write(&mut self, most: usize) {
        let output = self.host.output();
        let taken = output[..most.min(output.len())].to_vec();
        self.host.handle_written(taken.len());
        let mut input = &taken[..];
        while let Some(body) = self.reader.next_frame(&mut input, u32::MAX).expect("short") {
            if let Some(ask) = Ask::of(body) {
                self.asked = Some(ask.expect("well-formed"));
            } else {
                self.received += u64::from(crate::link::v3::is_counted(body));
                self.frames.push(body.to_vec());
            }
        }
    }

    /// Takes all of the output.
    fn read(&mut self) {
        while !self.host.output().is_empty() {
            self.write(usize::MAX);
        }
    }

    /// Loses the link, and opens another one. Returns what is heard.
    fn reopen(&mut self, grant: Vec<u8>) -> Vec<Heard> {
        self.host.handle_closed();
        self.reader.clear();
        self.host.handle_connected(self.now);
        self.read();
        self.tell_all(&[grant])
    }

    /// Returns what the edge has received since the last call, decoded, without acknowledgements.
    fn take(&mut self) -> Vec<String> {
        self.read();
        let bodies = core::mem::take(&mut self.frames);
        let frames = bodies.iter().map(|body| {
            let frame = ToEdge::decode(body, Features::from_bits(u32::MAX));
            frame.expect("well-formed")
        });
        let frames = frames.filter(|frame| !matches!(frame, ToEdge::LinkAck(_)));
        frames.map(|frame| format!("{frame:?}")).collect()
    }
}

fn bytes_of(frame: ToBackend<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    bytes
}

fn all() -> Features {
    Feature::ALL.into_iter().collect()
}

fn grant_of(run: [u8; 8], received: u64, sessions: u32) -> Grant {
    Grant {
        features: all(),
        boot: BOOT,
        home: 0,
        term: 0,
        run,
        continues: None,
        received,
        groups_of_a_session: 64,
        sessions,
    }
}

fn grant(run: [u8; 8], received: u64, sessions: u32) -> Vec<u8> {
    encoded(&grant_of(run, received, sessions))
}

fn encoded(grant: &Grant) -> Vec<u8> {
    let mut bytes = Vec::new();
    grant.encode(&mut bytes);
    bytes
}

fn joined(id: ClientId) -> ToBackend<'static> {
    let joined = JoinedFrame {
        version: 3,
        peer: Peer {
            carriage: Carriage::Tcp,
            address: None,
        },
        exporter: [1; 32],
        token: b"token",
    };
    ToBackend::Joined { id, joined }
}

fn own(id: ClientId) -> ToBackend<'static> {
    let own = Own {
        counter: 2,
        next_up: 4,
        numbered_down: 7,
        settled_down: 5,
        state: OwnState::Attached,
        joined_follows: false,
        note: "user 17",
    };
    ToBackend::Own { id, own }
}

fn data(id: ClientId, packet: &[u8]) -> ToBackend<'_> {
    ToBackend::Data { id, packet }
}

/// Returns the bytes of an example of SPEC.txt.
fn example(name: &str) -> Vec<u8> {
    let spec = include_str!("../../../../SPEC.txt");
    let mark = format!("[hex {name}]");
    let (_, text) = spec.split_once(&mark).expect("an example");
    let lines = text
        .lines()
        .skip(1)
        .take_while(|line| !line.trim().is_empty());
    let bytes = lines.flat_map(str::split_whitespace);
    bytes
        .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal digits"))
        .collect()
}

#[test]
fn frames_are_kept_until_they_are_acknowledged_and_sent_again_behind_what_has_come() {
    for cut in 0..60 {
        let mut world = World::joined();
        for packet in [&b"one"[..], b"two", b"three"] {
            world.host.send(ID, packet).expect("room");
        }
        world.write(cut);
        let heard = world.reopen(grant(RUN, world.received, 1));
        assert_eq!(heard, [Heard::Connected(Some(1))], "no picture");
        let ask = world.asked.expect("asked again");
        assert_eq!((ask.run, ask.received), (Some(RUN), 1));
        world.host.send(ID, b"four").expect("room");
        let got = world.take();
        assert_eq!(got.len(), 4, "{cut}");
        for (got, packet) in got.iter().zip(["[111, 110, 101]", "[116, 119, 111]"]) {
            assert!(got.contains(packet), "{got}");
        }
        assert_eq!(world.received, 5, "with the group of everybody");
        // Acknowledged, they are gone.
        let ack = LinkAck {
            acknowledged: 5,
            sent: 1,
        };
        world.tell_all(&[bytes_of(ToBackend::LinkAck(ack))]);
        assert_eq!(world.host.queued_packets(), 0);
        world.reopen(grant(RUN, 5, 1));
        assert!(world.take().is_empty());
    }
}

#[test]
fn an_acknowledgement_goes_behind_what_was_queued_and_only_when_the_application_is_back() {
    let mut world = World::joined();
    let frame = bytes_of(data(ID, b"up"));
    let mut input = &frame[..];
    let event = world.host.handle_bytes(world.now, &mut input);
    assert!(matches!(event, Ok(Some(Event::Packet { .. }))));
    let mark = world.host.mark();
    world.now = world.now + Duration::from_secs(1);
    world.host.handle_timeout(world.now);
    world.read();
    world.frames.clear();
    world.host.handle_timeout(world.now);
    assert!(world.host.output().is_empty(), "the application has it");
    // It answers, and comes back.
    world.host.send(ID, b"an answer").expect("room");
    world.host.taken_up(world.now, mark);
    let due = world.host.poll_timeout().expect("an acknowledgement");
    assert_eq!(due, world.now + Duration::from_millis(10));
    world.host.handle_timeout(due);
    world.host.send(ID, b"later").expect("room");
    world.read();
    let frames: Vec<_> = world.frames.iter().map(|body| body[8]).collect();
    assert_eq!(frames, [0x00, 0x12, 0x00]);
    let ack = LinkAck {
        acknowledged: 2,
        sent: world.received - 1,
    };
    let body = &world.frames[1];
    let decoded = ToEdge::decode(body, all()).expect("well-formed");
    assert_eq!(decoded, ToEdge::LinkAck(ack));
    // Many frames are acknowledged at once.
    world.frames.clear();
    for _ in 0..256 {
        world.tell(data(ID, b"up"));
    }
    world.read();
    assert!(world.frames.iter().any(|body| body[8] == 0x12));
}

#[test]
fn both_ends_must_count_alike() {
    let differs = [(0, 0), (9, 1)];
    for (acknowledged, sent) in differs {
        let mut world = World::joined();
        let ack = bytes_of(ToBackend::LinkAck(LinkAck { acknowledged, sent }));
        let error = world.feed(&ack).expect_err("it counts otherwise");
        assert!(matches!(error, BackendError::Counts(_)), "{error}");
    }
}

#[test]
fn a_session_that_ended_since_it_was_elsewhere_comes_back_and_one_that_was_kicked_does_not() {
    for (code, comes) in [(205, true), (301, true), (401, false), (302, false)] {
        let mut world = World::joined();
        let ended = Ended {
            code: Code::from_u16(code).expect("a code"),
            up: Ledger::default(),
            down: Ledger::default(),
            text: "",
        };
        world.tell(ToBackend::Ended { id: ID, ended });
        let heard = world.tell(own(ID));
        let expected: &[Heard] = match comes {
            true => &[Heard::Joined(ID, true)],
            false => &[],
        };
        let heard: Vec<_> = heard
            .into_iter()
            .filter(|one| matches!(one, Heard::Joined(..)))
            .collect();
        assert_eq!(heard, expected, "{code}");
        // 0: nobody has this id.
        let number = world.host.send(ID, b"x").expect("room");
        assert_eq!(number > 0, comes);
    }
}

#[test]
fn a_picture_is_complete_at_its_mark_and_who_is_not_in_it_has_ended() {
    let mut world = World::joined();
    let red = GroupId(7);
    world.tell(joined(OTHER));
    world.host.add(red, OTHER).expect("a group");
    world.tell(data(OTHER, b"1"));
    // The edge was replaced by a process that continues its run, and has one of the sessions.
    let mut grant = grant_of([0x78; 8], 0, 1);
    grant.continues = Some(RUN);
    let heard = world.reopen(encoded(&grant));
    assert_eq!(heard, [Heard::Connected(Some(1))]);
    world.frames.clear();
    let heard = world.tell(own(OTHER));
    let gone = Heard::Ended(ID, 301, "the edge has it no longer".into());
    assert_eq!(heard, [gone, Heard::CaughtUp]);
    // Its groups are made again, and the edge's numbers count.
    let frames = world.take();
    assert!(
        frames.iter().any(|frame| frame.contains("GroupId(7)")),
        "{frames:?}"
    );
    assert_eq!(world.host.send(OTHER, b"x"), Ok(8));
    assert_eq!(
        world.tell(data(OTHER, b"4")),
        [Heard::Packet(OTHER, 4, b"4".to_vec())]
    );

    // A run that continues none has nobody, and each of them ends before it is there.
    let heard = world.reopen(encoded(&grant_of([0x79; 8], 0, 1)));
    let gone = Heard::Ended(OTHER, 301, "the edge began again".into());
    assert_eq!(heard, [gone, Heard::Connected(Some(1))]);
    let third = ClientId::from_u64(3);
    let heard = world.tell(own(third));
    assert_eq!(heard, [Heard::Joined(third, true), Heard::CaughtUp]);
    assert_eq!(world.host.note(third), Some(("user 17", true)));
}

#[test]
fn a_session_whose_joined_never_came_ends_untold() {
    let mut world = World::granted();
    let (restored, silent) = (ClientId::from_u64(3), ClientId::from_u64(4));
    world.host.restore(restored, 2);
    for id in [silent, restored] {
        let ToBackend::Own { id, own } = own(id) else {
            unreachable!()
        };
        let joined_follows = true;
        let own = Own {
            joined_follows,
            ..own
        };
        world.tell(ToBackend::Own { id, own });
    }
    // Neither JOINED has come when another run begins. Only the session that the application has saved is known to it.
    let heard = world.reopen(encoded(&grant_of([0x79; 8], 0, 0)));
    let gone = Heard::Ended(restored, 301, "the edge began again".into());
    assert_eq!(heard, [gone, Heard::Connected(Some(0)), Heard::CaughtUp]);
}

#[test]
fn who_is_no_edge_of_this_backend_is_refused() {
    let mut others = grant_of(RUN, 0, 0);
    others.boot = [1; 16];
    let mut little = grant_of(RUN, 0, 0);
    little.features = all().without(Feature::LinkAcks);
    for (grant, says) in [
        (others, "another backend"),
        (little, "link acks are needed"),
    ] {
        let mut world = World::new();
        world.host.handle_connected(world.now);
        let error = world.feed(&encoded(&grant)).expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
    }
    let mut world = World::new();
    let mut first = grant_of(RUN, 0, 0);
    first.term = 5;
    world.host.handle_connected(world.now);
    world.feed(&encoded(&first)).expect("granted");
    let mut second = grant_of([0x78; 8], 0, 0);
    second.term = 5;
    world.host.handle_closed();
    world.host.handle_connected(world.now);
    let error = world.feed(&encoded(&second)).expect_err("a second edge");
    assert!(error.to_string().contains("a second edge"), "{error}");
    second.term = 6;
    world.host.handle_closed();
    world.host.handle_connected(world.now);
    world
        .feed(&encoded(&second))
        .expect("the same edge after a restart");
}

#[test]
fn a_packet_for_many_is_one_frame_and_has_a_number_for_each() {
    let mut world = World::joined();
    world.tell(joined(OTHER));
    world.take();
    let red = GroupId(7);
    world.host.add(red, ID).expect("a group");
    world.host.add(red, OTHER).expect("a group");
    world
        .host
        .send_to_many(Some(red), &[OTHER], None, b"hi")
        .expect("room");
    let frames = world.take();
    assert_eq!(frames.len(), 3);
    assert!(frames[2].contains("GroupSend") && frames[2].contains("Ordinary"));
    world
        .host
        .send_to_many(None, &[], Some(1), b"state")
        .expect("room");
    world
        .host
        .send_volatile_to_many(None, &[], b"now")
        .expect("room");
    let frames = world.take();
    assert!(frames[0].contains("Latest(0)") && frames[1].contains("Volatile"));
    // The volatile one has no number.
    assert_eq!(world.host.send(ID, b"x"), Ok(3));
    assert_eq!(world.host.send(OTHER, b"x"), Ok(2));
    world.host.remove(red, ID);
    world.host.remove(red, OTHER);
    let frames = world.take();
    assert!(
        frames
            .last()
            .is_some_and(|frame| frame.contains("GroupEnd"))
    );
}

#[test]
fn everybody_means_those_who_were_admitted() {
    let mut world = World::with(HostConfig::default().admitting());
    world.host.handle_connected(world.now);
    world.read();
    world.tell_all(&[grant(RUN, 0, 0)]);
    world.tell(joined(ID));
    world.tell(joined(OTHER));
    let frames = world.take();
    assert!(
        !frames.iter().any(|frame| frame.contains("Group")),
        "{frames:?}"
    );
    assert!(world.host.sessions().is_empty());
    assert!(world.host.note(ID).is_none() && world.host.ledgers(ID).is_none());
    world
        .host
        .send_to_many(None, &[], None, b"hi")
        .expect("room");
    assert!(world.take().is_empty(), "to nobody");
    world.host.admit(ID);
    world.host.admit(ID);
    world
        .host
        .send_to_many(None, &[], None, b"hi")
        .expect("room");
    let frames = world.take();
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert!(frames[0].contains("GroupAdd") && frames[1].contains("GroupSend"));
    assert_eq!(world.host.sessions(), [ID]);
    assert!(world.host.note(ID).is_some() && world.host.note(OTHER).is_none());
    // The hidden one has no number of it.
    assert_eq!(world.host.send(ID, b"x"), Ok(2));
    assert_eq!(world.host.send(OTHER, b"x"), Ok(1));
}

#[test]
fn keys_are_apart_for_each_receiver_and_beyond_the_last_nothing_is_superseded() {
    let mut world = World::joined();
    for key in 0..64_u64 {
        world.host.send_latest(ID, 1_000 + key, b"x").expect("room");
    }
    world.host.send_latest(ID, 1_000, b"x").expect("room");
    world.host.send_latest(ID, 5, b"x").expect("room");
    let frames = world.take();
    assert!(frames[63].contains("Latest(63)") && frames[64].contains("Latest(0)"));
    assert!(frames[65].contains("Ordinary"));
}

#[test]
fn a_client_has_room_until_too_much_is_unsettled() {
    let mut world = World::joined();
    for _ in 0..UNSETTLED_PACKETS {
        assert!(world.host.has_room_of(ID));
        world.host.send(ID, b"").expect("room");
    }
    assert!(!world.host.has_room_of(ID));
    assert_eq!(world.host.settled(ID), 0);
    world.tell(ToBackend::Settled((&[(ID, 1), (OTHER, 1)][..]).into()));
    assert!(world.host.has_room_of(ID));
    assert_eq!(world.host.settled(ID), 1);
    // More than there is cannot be settled.
    world.tell(ToBackend::Settled((&[(ID, u64::MAX)][..]).into()));
    assert_eq!(world.host.settled(ID), UNSETTLED_PACKETS);
}

#[test]
fn a_kick_has_its_code_and_an_end_its_ledger() {
    let mut world = World::joined();
    world.host.kick(ID, 600, "no manners").expect("a kick");
    let frames = world.take();
    assert!(frames[0].contains("no manners"), "{frames:?}");
    let down = Ledger {
        numbered: 3,
        acknowledged: 3,
        ..Ledger::default()
    };
    let ended = Ended {
        code: Code::from_u16(600).expect("a code"),
        up: Ledger::default(),
        down,
        text: "",
    };
    let frame = bytes_of(ToBackend::Ended { id: ID, ended });
    let mut input = &frame[..];
    match world.host.handle_bytes(world.now, &mut input) {
        Ok(Some(Event::Ended { id, end })) => {
            assert_eq!((id, &*end.text), (ID, "no manners"));
            assert_eq!(end.ledgers.down, down);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.host.send(ID, b"too late"), Ok(0));
    world.host.kick(ID, 600, "").expect("it is over");
    assert!(world.take().is_empty());
}

#[test]
fn an_end_says_what_was_settled_behind_the_last_settled() {
    let ended = |down: Ledger| ToBackend::Ended {
        id: ID,
        ended: Ended {
            code: Code::KICKED,
            up: Ledger::default(),
            down,
            text: "",
        },
    };
    let all = Ledger {
        numbered: 3,
        acknowledged: 2,
        gapped: 1,
        ..Ledger::default()
    };
    let some = Ledger {
        acknowledged: 1,
        open_sent: 1,
        ..all
    };
    let none = Ledger {
        acknowledged: 3,
        ..all
    };
    let too_many = Ledger {
        numbered: 9,
        acknowledged: 8,
        ..all
    };
    for (down, settled) in [(all, 3), (some, 2), (none, 2), (too_many, 3)] {
        let mut world = World::joined();
        for _ in 0..3 {
            world.host.send(ID, b"x").expect("room");
        }
        let told = [(ID, 2)];
        world.tell(ToBackend::Settled((&told[..]).into()));
        assert_eq!(world.host.settled(ID), 2);
        world.tell(ended(down));
        assert_eq!(world.host.settled(ID), settled, "{down:?}");
        assert_eq!(world.host.settled(OTHER), 0);
    }
}

#[test]
fn nothing_goes_to_an_id_that_nobody_has() {
    let mut world = World::granted();
    world.read();
    world.frames.clear();
    assert_eq!(world.host.send(OTHER, b"x"), Ok(0));
    let heard = world.host.poll_event().and_then(short);
    assert_eq!(
        heard,
        Some(Heard::Ended(OTHER, 301, "nobody has this id".into()))
    );
    assert_eq!(world.host.send(OTHER, b"x"), Ok(0));
    assert_eq!(world.host.poll_event(), None, "it was told");
    // A frame about somebody of whom nothing was told changes nothing.
    for frame in [data(ID, b"x"), data(OTHER, b"x")] {
        assert_eq!(world.tell(frame), []);
    }
    let resumed = Resumed {
        counter: 1,
        away_ms: 1,
        replay: 0,
        peer: Peer {
            carriage: Carriage::Tcp,
            address: None,
        },
    };
    assert_eq!(world.tell(ToBackend::Resumed { id: ID, resumed }), []);
    assert!(world.take().is_empty());
}

/// Whatever a peer sends in the place of a frame, the host stays whole.
#[test]
fn bad_frames_count_and_do_nothing_else() {
    let mut world = World::joined();
    for flag in 0..=u8::MAX {
        for length in [0, 1, 5, 32, 200] {
            let mut body = ID.as_u64().to_le_bytes().to_vec();
            body.push(flag);
            body.resize(9 + length, 0xff);
            let mut frame = u32::try_from(body.len())
                .expect("short")
                .to_le_bytes()
                .to_vec();
            frame.extend(body);
            let before = world.host.mark().count;
            match world.feed(&frame) {
                Ok(_) => {
                    let counts = !matches!(flag, 0x10..=0x12 | 0x1d | 0x2d);
                    assert_eq!(world.host.mark().count, before + u64::from(counts));
                }
                Err(error) => panic!("{flag:#x}: {error}"),
            }
        }
    }
}

#[test]
fn a_note_that_the_edge_has_not_read_is_told_again_and_outlives_its_older_one() {
    for overflow in [Overflow::End, Overflow::Gap] {
        let mut world = World::with(HostConfig::default().with_overflow(overflow)).now_granted();
        world.tell(joined(ID));
        world.tell(joined(OTHER));
        world.host.set_note(ID, "player 1");
        // The edge begins its counts again, within its run, and has an older note.
        world.reopen(encoded(&grant_of(RUN, u64::MAX, 2)));
        world.take();
        let policy = |id, note| format!("{:?}", policy_of(id, overflow, note));
        world.tell(own(ID));
        assert_eq!(world.take()[0], policy(ID, "player 1"));
        assert_eq!(world.host.note(ID), Some(("player 1", true)));
        // What this process has not said is what the edge says.
        world.tell(own(OTHER));
        let frames = world.take();
        let told = frames
            .iter()
            .filter(|frame| frame.contains("Policy"))
            .count();
        assert_eq!(told, usize::from(overflow == Overflow::Gap), "{frames:?}");
        assert_eq!(world.host.note(OTHER), Some(("user 17", true)));
    }
}

#[test]
fn a_client_that_goes_on_with_gaps_is_told_to_the_edge_whenever_it_begins() {
    let config = HostConfig::default().with_overflow(Overflow::Gap);
    let mut world = World::with(config).now_granted();
    world.take();
    world.tell(joined(ID));
    let policy = |id: ClientId, note: &str| format!("{:?}", policy_of(id, Overflow::Gap, note));
    let frames = world.take();
    assert_eq!(frames[0], policy(ID, ""), "before all other frames for it");
    world.host.set_note(ID, "player 1");
    assert_eq!(world.take(), [policy(ID, "player 1")], "a note says both");
    let mut plain = joined(OTHER);
    if let ToBackend::Joined { joined, .. } = &mut plain {
        joined.version = 2;
    }
    world.tell(plain);
    let frames = world.take();
    assert!(
        !frames.iter().any(|frame| frame.contains("Policy")),
        "{frames:?}"
    );
    // An edge that has it from before is told again.
    world.reopen(encoded(&grant_of([0x79; 8], 0, 1)));
    let third = ClientId::from_u64(3);
    world.take();
    world.tell(own(third));
    assert_eq!(world.take()[0], policy(third, "user 17"));
}
