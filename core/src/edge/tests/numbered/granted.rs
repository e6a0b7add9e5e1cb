//! A backend that asks for version 3 of the link (SPEC 33 to 38), with clients of both versions.

use super::*;
use crate::link::v3::{
    Ask, Carriage, Feature, Features, Grant, GroupId, GroupSend, Ids, Joined, Kick, LinkAck, Own,
    OwnState, Peer, Policy, ToBackend, ToEdge, flag, is_counted,
};
use crate::link::v3::{Delivery as Class, Overflow};
use crate::queue::{FrameQueue, Sent};
use core::net::SocketAddr;

const BOOT: [u8; 16] = [1; 16];
const GROUP: GroupId = GroupId(5);

fn all() -> Features {
    Feature::ALL.into_iter().collect()
}

fn demanding(config: &mut EdgeConfig) {
    config.master.protocol = LinkProtocol::V3;
}

fn automatic(config: &mut EdgeConfig) {
    config.master.protocol = LinkProtocol::Auto;
}

/// A backend as simple as can be: it keeps what it sends until it is acknowledged, and counts what comes.
struct Backend {
    boot: [u8; 16],
    asks: Features,
    run: Option<[u8; 8]>,
    received: u64,
    frames: FrameQueue,
    sent: Sent,
    reader: FrameReader,
    grant: Option<Grant>,
    /// Bodies that came, without LINK_ACK.
    heard: Vec<Vec<u8>>,
    acks: Vec<LinkAck>,
}

impl Backend {
    fn new(boot: [u8; 16]) -> Self {
        Backend {
            boot,
            asks: all(),
            run: None,
            received: 0,
            frames: FrameQueue::new(),
            sent: Sent::default(),
            reader: FrameReader::default(),
            grant: None,
            heard: Vec::new(),
            acks: Vec::new(),
        }
    }

    fn ask(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let ask = Ask {
            features: self.asks,
            boot: self.boot,
            run: self.run,
            received: self.received,
            acknowledged: self.received,
            sent: self.sent.highest(),
            longest_body: u32::MAX,
        };
        ask.encode(&mut out);
        out
    }

    /// Reads bytes of the edge.
    fn read(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while let Some(body) = self.reader.next_frame(&mut input, NO_BOUND).unwrap() {
            if let Some(grant) = Grant::of(body) {
                let grant = grant.unwrap();
                assert_eq!(grant.boot, self.boot);
                let is_anew = self.run != Some(grant.run) || grant.received == u64::MAX;
                if is_anew {
                    (self.run, self.received) = (Some(grant.run), 0);
                    (self.sent, self.frames) = (Sent::default(), FrameQueue::new());
                } else {
                    self.sent.resume(grant.received, &mut self.frames).unwrap();
                }
                self.grant = Some(grant);
                continue;
            }
            let body = body.to_vec();
            match ToBackend::decode(&body, all()) {
                Ok(ToBackend::LinkAck(ack)) => {
                    assert_eq!(ack.sent, self.received, "its place");
                    self.sent
                        .acknowledge(ack.acknowledged, &mut self.frames)
                        .unwrap();
                    self.acks.push(ack);
                }
                decoded => {
                    decoded.unwrap();
                    assert!(is_counted(&body));
                    self.received += 1;
                    self.heard.push(body);
                }
            }
        }
    }

    fn queue(&mut self, order: &ToEdge<'_>) {
        let mut out = Vec::new();
        order.encode(&mut out);
        self.frames.push_frame(&out, &[]);
    }

    fn lose_link(&mut self) {
        self.reader = FrameReader::default();
        self.sent.lose_stream(&mut self.frames);
        self.grant = None;
    }
}

impl World {
    /// Lets a backend ask on the link that is there, and takes what follows.
    fn granted(&mut self, backend: &mut Backend) -> Grant {
        let ask = backend.ask();
        self.edge.handle_link_bytes(self.now, &ask);
        self.exchange(backend);
        backend.grant.expect("it is granted")
    }

    /// Writes everything both ways.
    fn exchange(&mut self, backend: &mut Backend) {
        loop {
            self.edge.audit();
            let bytes = self.edge.link_takes(self.now, usize::MAX);
            backend.read(&bytes);
            let down = backend.frames.output().to_vec();
            if backend.grant.is_none() || down.is_empty() {
                if bytes.is_empty() {
                    return;
                }
                continue;
            }
            self.edge.handle_link_bytes(self.now, &down);
            backend.sent.advance(down.len(), &mut backend.frames);
        }
    }

    /// Sends an order of the backend, and takes what follows.
    fn order(&mut self, backend: &mut Backend, order: &ToEdge<'_>) {
        backend.queue(order);
        self.exchange(backend);
    }

    fn lose_link(&mut self, backend: &mut Backend) {
        self.edge.handle_link_closed(self.now, Closed::Eof);
        backend.lose_link();
        // Pauses grow while links are short.
        while !self.edge.link_wants_connect(self.now) {
            self.wait(Duration::from_secs(1));
        }
        self.backend_comes();
    }
}

/// Returns what the backend heard since the last call.
fn heard(backend: &mut Backend) -> Vec<String> {
    let bodies = core::mem::take(&mut backend.heard);
    let show = |body: &Vec<u8>| match ToBackend::decode(body, all()).unwrap() {
        ToBackend::Data { packet, .. } => String::from_utf8_lossy(packet).into_owned(),
        ToBackend::Joined { .. } => "JOINED".to_owned(),
        ToBackend::Away { cause, .. } => format!("AWAY {}", cause.to_u16()),
        ToBackend::Resumed { resumed, .. } => {
            format!("RESUMED {} {}", resumed.counter, resumed.replay)
        }
        ToBackend::Ended { ended, .. } => {
            assert!(ended.up.is_balanced() && ended.down.is_balanced());
            format!("ENDED {} {}", ended.code.to_u16(), ended.text)
        }
        ToBackend::Own { own, .. } => format!(
            "OWN {:?} {} {} {}",
            own.state, own.next_up, own.numbered_down, own.settled_down
        ),
        ToBackend::Settled(settled) => {
            let numbers: Vec<_> = settled.iter().map(|(_, number)| number).collect();
            format!("SETTLED {numbers:?}")
        }
        ToBackend::Refused { flag, refusal, .. } => format!("REFUSED {flag:#04x} {refusal:?}"),
        other => panic!("{other:?}"),
    };
    bodies.iter().map(show).collect()
}

fn packet(id: ClientId, packet: &'static [u8]) -> ToEdge<'static> {
    ToEdge::Packet {
        id,
        delivery: Class::Ordinary,
        packet,
    }
}

// ---- ask and grant

/// SPEC 34.1(a): a backend that does not ask gets what version 2 has, byte for byte.
#[test]
fn until_a_backend_asks_the_link_is_that_of_version_2_to_the_byte() {
    let run = |protocol| {
        let mut world = world(|config| {
            config.master.protocol = protocol;
            config.clients.max_stale_clients = 1;
        });
        // Some of it happens while the link is held.
        let (mut one, two) = (world.join(), world.join3());
        world.send(one.conn, b"early");
        world.leave(one.conn);
        world.come_back(&mut one);
        world.leave(two.conn);
        world.wait(Duration::from_millis(200));
        let mut bytes = world.edge.link_takes(world.now, usize::MAX);
        let (three, four) = (world.join(), world.join3());
        world.send(three.conn, b"later");
        world.leave(four.conn);
        world.backend_says(one.id, Flag::Kick, b"");
        world.backend_says(two.id(), Flag::Data, b"to one that ended");
        bytes.extend(world.edge.link_takes(world.now, usize::MAX));
        world.edge.audit();
        bytes
    };
    let plain = run(LinkProtocol::V2);
    assert!(!plain.is_empty());
    assert_eq!(run(LinkProtocol::Auto), plain);
}

#[test]
fn the_first_link_is_held_for_a_moment_or_until_the_backend_says_something() {
    let mut world = world(automatic);
    let one = world.join();
    world.send(one.conn, b"waits");
    world.wait(Duration::from_millis(99));
    assert_eq!(world.backend_hears(), []);
    assert!(!world.edge.gauges().link_is_up);
    world.wait(Duration::from_millis(1));
    assert_eq!(world.backend_hears(), [data(one.id, "waits")]);
    // The next link is not held.
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(Duration::from_secs(5));
    world.backend_comes();
    world.send(one.conn, b"at once");
    assert_eq!(world.backend_hears(), [data(one.id, "at once")]);
}

#[test]
fn a_backend_that_does_not_ask_ends_the_hold_by_its_first_packet() {
    let mut world = world(automatic);
    let one = world.join();
    world.send(one.conn, b"waits");
    world.backend_says(one.id, Flag::Data, b"hello");
    assert_eq!(world.backend_hears(), [data(one.id, "waits")]);
    assert_eq!(world.hear(one.conn), [b"hello"]);
}

#[test]
fn a_backend_that_asks_is_granted_first_and_told_of_everybody() {
    let mut world = world(automatic);
    let mut backend = Backend::new(BOOT);
    let (one, mut two) = (world.join(), world.join3());
    world.send(one.conn, b"waits");
    // The ASK comes in two reads.
    let ask = backend.ask();
    world.edge.handle_link_bytes(world.now, &ask[..20]);
    assert_eq!(world.edge.link_takes(world.now, usize::MAX), b"");
    world.edge.handle_link_bytes(world.now, &ask[20..]);
    world.exchange(&mut backend);
    let grant = backend.grant.expect("it is granted");
    assert_eq!(
        (grant.sessions, grant.received, grant.run),
        (2, 0, world.edge.run())
    );
    assert!(!grant.features.has(Feature::GoAway));
    let mut came = heard(&mut backend);
    assert_eq!(came.split_off(2), ["JOINED", "JOINED", "waits"]);
    assert_eq!(came, ["OWN Attached 1 0 0", "OWN Attached 1 0 0"]);
    world.send3(&mut two, b"up");
    world.leave(one.conn);
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["up", "AWAY 0"]);
}

#[test]
fn joined_says_where_a_client_comes_from_and_by_what_it_is_known() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, two) = (world.join(), world.join3());
    world.exchange(&mut backend);
    let decoded: Vec<_> = backend
        .heard
        .iter()
        .map(|body| ToBackend::decode(body, all()).unwrap())
        .collect();
    let peer = Peer {
        carriage: Carriage::Tcp,
        address: Some(SocketAddr::new(SOURCE, 0)),
    };
    let of_v2 = Joined {
        version: 2,
        peer,
        exporter: [0; 32],
        token: b"",
    };
    assert_eq!(
        decoded[0],
        ToBackend::Joined {
            id: one.id,
            joined: of_v2
        }
    );
    let ToBackend::Joined { id, joined } = decoded[1] else {
        panic!("{decoded:?}")
    };
    assert_eq!(
        (id, joined.version, joined.token),
        (two.id(), 3, &b"token"[..])
    );
    assert_eq!(joined.peer, peer);
    assert_ne!(joined.exporter, [0; 32]);
}

#[test]
fn a_late_ask_closes_the_link_and_the_next_one_waits_for_it() {
    let mut world = world(automatic);
    let mut backend = Backend::new(BOOT);
    let one = world.join();
    world.send(one.conn, b"sent");
    world.wait(Duration::from_millis(100));
    assert_eq!(world.backend_hears(), [data(one.id, "sent")]);
    world.edge.handle_link_bytes(world.now, &backend.ask());
    assert!(world.edge.link_wants_close());
    world.edge.handle_link_closed(world.now, Closed::Asked);
    world.leave(one.conn);
    world.wait(Duration::from_secs(5));
    world.backend_comes();
    world.wait(Duration::from_millis(4_999));
    assert_eq!(
        world.edge.link_takes(world.now, usize::MAX),
        b"",
        "it is held"
    );
    world.granted(&mut backend);
    assert_eq!(heard(&mut backend), ["OWN Away 2 0 0"]);
}

#[test]
fn what_waits_of_version_2_is_told_in_the_form_of_version_3() {
    let mut world = world(automatic);
    world.wait(Duration::from_millis(100));
    let one = world.join();
    world.send(one.conn, b"last");
    world.backend_says(one.id, Flag::Kick, b"");
    world.backend_says(ClientId::from_u64(9), Flag::Data, b"to nobody");
    // Nothing of it was written when the link was lost.
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(Duration::from_secs(6));
    world.backend_comes();
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let expected = ["OWN Ended 1 0 0", "last", "ENDED 301 kicked"];
    assert_eq!(heard(&mut backend), expected);
}

#[test]
fn an_ask_behind_nothing_is_in_time_however_late_it_comes() {
    let mut world = world(automatic);
    world.wait(Duration::from_secs(60));
    world.granted(&mut Backend::new(BOOT));
}

#[test]
fn with_version_3_demanded_nothing_flows_to_or_from_a_backend_that_does_not_ask() {
    let mut world = world(demanding);
    let one = world.join();
    world.send(one.conn, b"kept");
    world.wait(Duration::from_millis(4_999));
    assert_eq!(world.backend_hears(), []);
    assert!(!world.edge.link_wants_close());
    world.wait(Duration::from_millis(1));
    assert!(world.edge.link_wants_close());
    world.edge.handle_link_closed(world.now, Closed::Asked);
    let gauges = world.edge.gauges();
    assert!(gauges.link_is_doubted && gauges.link_is_unasked);
    world.wait(Duration::from_secs(5));
    world.backend_comes();
    world.backend_says(one.id, Flag::Data, b"not from one that does not ask");
    world.backend_says(one.id, Flag::Kick, b"");
    assert!(world.edge.link_wants_close());
    assert!(world.hear(one.conn).is_empty() && !world.is_closed(one.conn));
    world.edge.handle_link_closed(world.now, Closed::Asked);
    world.wait(Duration::from_secs(5));
    world.backend_comes();
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let gauges = world.edge.gauges();
    assert!(!gauges.link_is_doubted && !gauges.link_is_unasked);
    assert_eq!(
        heard(&mut backend),
        ["OWN Attached 1 0 0", "JOINED", "kept"]
    );
}

#[test]
fn an_edge_that_has_granted_does_not_go_back() {
    let mut world = world(automatic);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    world.lose_link(&mut backend);
    world.wait(Duration::from_millis(4_999));
    world.backend_says(one.id, Flag::Data, b"of version 2");
    assert!(world.edge.link_wants_close());
    assert!(world.hear(one.conn).is_empty());
}

#[test]
fn announcements_begin_when_a_link_turns_out_to_have_version_2() {
    let mut world = world(|config| {
        automatic(config);
        config.master.announce_all = true;
    });
    let one = world.join();
    world.send(one.conn, b"waits");
    assert_eq!(world.backend_hears(), []);
    world.wait(Duration::from_millis(100));
    let resumed = (one.id, Flag::Resumed, String::new());
    assert_eq!(world.backend_hears(), [resumed, data(one.id, "waits")]);
}

// ---- nothing is lost on the link

/// Runs a script in which the link is cut where `cut` says, and returns what each end heard.
fn cut_at(cut: Option<(usize, usize)>) -> (Vec<String>, Vec<Vec<u8>>) {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, two) = (world.join(), world.join());
    let mut down = Vec::new();
    for round in 0..6_u8 {
        world.send(one.conn, &[b'a' + round]);
        world.send(two.conn, &[b'A' + round]);
        let text: &'static [u8] = &[b"0", b"1", b"2", b"3", b"4", b"5"][usize::from(round)][..];
        backend.queue(&packet(one.id, text));
        if let Some((at, bytes)) = cut
            && at == usize::from(round)
        {
            // Of both directions so many bytes arrive, one read and one write later than they were taken.
            let up = world.edge.link_takes(world.now, bytes);
            backend.read(&up[..up.len() / 2]);
            let out = backend.frames.output();
            let taken = out[..bytes.min(out.len())].to_vec();
            backend.sent.advance(taken.len(), &mut backend.frames);
            let arrives = &taken[..taken.len().div_ceil(2)];
            world.edge.handle_link_bytes(world.now, arrives);
            world.edge.handle_link_closed(world.now, Closed::Error);
            backend.lose_link();
            world.wait(Duration::from_secs(6));
            world.backend_comes();
            world.granted(&mut backend);
        } else if round % 2 == 1 {
            world.exchange(&mut backend);
        }
        down.extend(world.hear(one.conn));
    }
    world.wait(Duration::from_millis(20));
    world.exchange(&mut backend);
    down.extend(world.hear(one.conn));
    // All is acknowledged, so nothing is kept.
    let sent = backend.sent.sent();
    let ack = ToEdge::LinkAck(LinkAck {
        acknowledged: backend.received,
        sent,
    });
    let mut bytes = Vec::new();
    ack.encode(&mut bytes);
    world.edge.handle_link_bytes(world.now, &bytes);
    assert_eq!(world.edge.gauges().link_packets, 0);
    assert!(
        backend.frames.is_empty(),
        "the edge acknowledged everything"
    );
    let came = heard(&mut backend).into_iter();
    (
        came.filter(|came| !came.starts_with("SETTLED")).collect(),
        down,
    )
}

#[test]
fn a_link_cut_anywhere_loses_and_doubles_nothing_in_either_direction() {
    let whole = cut_at(None);
    assert_eq!(whole.0.len(), 14);
    assert_eq!(whole.1, [b"0", b"1", b"2", b"3", b"4", b"5"]);
    for round in 0..6 {
        for bytes in 0..120 {
            assert_eq!(
                cut_at(Some((round, bytes))),
                whole,
                "{bytes} bytes in round {round}"
            );
        }
    }
}

#[test]
fn frames_are_acknowledged_by_number_by_bytes_and_by_time() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    world.exchange(&mut backend);
    assert!(backend.acks.is_empty());
    world.order(&mut backend, &packet(one.id, b"x"));
    world.wait(Duration::from_millis(9));
    world.exchange(&mut backend);
    assert!(backend.acks.is_empty());
    world.wait(Duration::from_millis(1));
    world.exchange(&mut backend);
    assert_eq!(backend.acks.pop().map(|ack| ack.acknowledged), Some(1));
    for _ in 0..255 {
        world.order(&mut backend, &packet(one.id, b"x"));
    }
    assert!(backend.acks.is_empty());
    world.order(&mut backend, &packet(one.id, b"x"));
    assert_eq!(backend.acks.pop().map(|ack| ack.acknowledged), Some(257));
    world.order(&mut backend, &packet(one.id, &[0; 65_535 - 9]));
    assert!(backend.acks.is_empty());
    world.order(&mut backend, &packet(one.id, b""));
    assert_eq!(backend.acks.pop().map(|ack| ack.acknowledged), Some(259));
    // Without anything to acknowledge, a sign of life.
    world.wait(Duration::from_millis(5_000));
    world.exchange(&mut backend);
    assert_eq!(backend.acks.len(), 1);
}

#[test]
fn ends_that_count_differently_part_and_begin_anew() {
    for (acknowledged, sent) in [(0, 1), (2, 0)] {
        let mut world = world(demanding);
        let mut backend = Backend::new(BOOT);
        world.granted(&mut backend);
        let one = world.join();
        world.send(one.conn, b"up");
        let bytes = world.edge.link_takes(world.now, 80);
        assert_eq!(bytes.len(), 80, "JOINED is sent, and the packet is not");
        let mut ack = Vec::new();
        LinkAck { acknowledged, sent }.encode(&mut ack);
        world.edge.handle_link_bytes(world.now, &ack);
        assert!(world.edge.link_wants_close());
        assert_eq!(world.edge.counters().link_violations, 1);
        world.lose_link(&mut backend);
        world.granted(&mut backend);
        assert_eq!(heard(&mut backend), ["OWN Attached 1 0 0", "JOINED", "up"]);
    }
}

/// SPEC 37.5.
#[test]
fn a_packet_is_acknowledged_to_its_client_when_the_backend_has_it_and_not_before() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let mut one = world.join3();
    world.send3(&mut one, b"1");
    world.send3(&mut one, b"2");
    world.exchange(&mut backend);
    let hears = |world: &mut World, one: &mut Numbered| {
        // One packet alone is acknowledged after 2 s.
        world.wait(Duration::from_millis(2_100));
        world.hear3(one);
        one.outbox.acked()
    };
    assert_eq!(hears(&mut world, &mut one), 0);
    let acknowledge = |world: &mut World, acknowledged| {
        let mut ack = Vec::new();
        let counts = LinkAck {
            acknowledged,
            sent: 0,
        };
        counts.encode(&mut ack);
        world.edge.handle_link_bytes(world.now, &ack);
        world.edge.audit();
    };
    // JOINED and the first packet.
    acknowledge(&mut world, 2);
    assert_eq!(hears(&mut world, &mut one), 1);
    // Neither another connection nor another boot acknowledges the second one.
    world.leave(one.conn);
    world.come_back3(&mut one).unwrap();
    assert_eq!(hears(&mut world, &mut one), 1);
    world.lose_link(&mut backend);
    let mut backend = Backend::new([2; 16]);
    world.granted(&mut backend);
    assert_eq!(heard(&mut backend), ["OWN Attached 2 0 0", "2"]);
    assert_eq!(hears(&mut world, &mut one), 1);
    acknowledge(&mut world, 2);
    assert_eq!(hears(&mut world, &mut one), 2);
}

/// A backend that does not ask for it does not delay the acknowledgements of clients.
#[test]
fn without_end_to_end_a_packet_is_acknowledged_by_the_edge() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    backend.asks = all().without(Feature::EndToEnd);
    world.granted(&mut backend);
    let mut one = world.join3();
    world.send3(&mut one, b"1");
    world.wait(Duration::from_millis(2_100));
    world.hear3(&mut one);
    assert_eq!(one.outbox.acked(), 1);
}

// ---- a new boot

#[test]
fn a_new_boot_has_the_whole_picture_and_what_no_boot_acknowledged() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, mut two, three) = (world.join(), world.join3(), world.join());
    world.send(one.conn, b"acknowledged");
    world.exchange(&mut backend);
    let mut ack = Vec::new();
    let counts = LinkAck {
        acknowledged: backend.received,
        sent: 0,
    };
    counts.encode(&mut ack);
    world.edge.handle_link_bytes(world.now, &ack);
    let policy = Policy {
        window_s: 0,
        ring_bytes: 0,
        overflow: Overflow::End,
        note: "player 2",
    };
    let id = two.id();
    world.order(&mut backend, &ToEdge::Policy { id, policy });
    world.order(&mut backend, &packet(two.id(), b"down"));
    world.send(one.conn, b"taken by the transport, and not acknowledged");
    world.send3(&mut two, b"up");
    world.exchange(&mut backend);
    world.leave(three.conn);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.backend_says(three.id, Flag::Data, b"not heard");
    let four = world.join();
    world.wait(Duration::from_secs(6));
    world.backend_comes();
    let mut backend = Backend::new([2; 16]);
    assert_eq!(world.granted(&mut backend).sessions, 4);
    let own = |id, next_up, numbered_down, state, joined_follows, note| ToBackend::Own {
        id,
        own: Own {
            counter: 0,
            next_up,
            numbered_down,
            settled_down: 0,
            state,
            joined_follows,
            note,
        },
    };
    let mut owned: Vec<_> = backend
        .heard
        .iter()
        .map(|body| ToBackend::decode(body, all()).unwrap())
        .collect();
    let rest = owned.split_off(4);
    assert!(owned.contains(&own(one.id, 2, 0, OwnState::Attached, false, "")));
    assert!(owned.contains(&own(two.id(), 1, 1, OwnState::Attached, false, "player 2")));
    assert!(owned.contains(&own(three.id, 1, 0, OwnState::Away, false, "")));
    assert!(owned.contains(&own(four.id, 1, 0, OwnState::Attached, true, "")));
    // AWAY is not sent again: OWN says it.
    assert_eq!(rest.len(), 3, "{rest:?}");
    let heard = heard(&mut backend).split_off(4);
    let texts = [
        "taken by the transport, and not acknowledged",
        "up",
        "JOINED",
    ];
    assert_eq!(heard, texts);
}

#[test]
fn a_session_that_ended_unheard_is_told_with_its_last_packets() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    world.exchange(&mut backend);
    world.send(one.conn, b"last");
    let kick = Kick {
        code: Code::KICKED,
        wait_ms: 0,
        text: "",
    };
    backend.queue(&ToEdge::Kick { id: one.id, kick });
    let down = backend.frames.output().to_vec();
    world.edge.handle_link_bytes(world.now, &down);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(Duration::from_secs(6));
    world.backend_comes();
    let mut backend = Backend::new([2; 16]);
    assert_eq!(world.granted(&mut backend).sessions, 0);
    assert_eq!(
        heard(&mut backend),
        ["OWN Ended 1 0 0", "JOINED", "last", "ENDED 401 "]
    );
}

#[test]
fn groups_and_pauses_end_with_a_boot() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    let ids = [one.id];
    let add = ToEdge::GroupAdd {
        group: GROUP,
        ids: Ids::from(&ids[..]),
    };
    world.order(&mut backend, &add);
    world.order(&mut backend, &ToEdge::Pause { id: one.id });
    assert_eq!(world.edge.read_budget(one.conn), 0);
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.wait(Duration::from_secs(6));
    world.backend_comes();
    let mut backend = Backend::new([2; 16]);
    world.granted(&mut backend);
    assert!(world.edge.read_budget(one.conn) > 0);
    world.order(&mut backend, &to_group(b"nobody", &[]));
    assert!(world.hear(one.conn).is_empty());
}

// ---- notices

#[test]
fn a_client_is_away_and_returns_and_ends_in_this_order() {
    let mut world = world(|config| {
        demanding(config);
        config.clients.stale_timeout = Duration::from_secs(60);
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (mut one, mut two) = (world.join(), world.join3());
    world.exchange(&mut backend);
    heard(&mut backend);
    world.leave(one.conn);
    world.leave(two.conn);
    world.order(&mut backend, &packet(one.id, b"missed"));
    world.order(&mut backend, &packet(two.id(), b"missed"));
    world.wait(Duration::from_millis(1_500));
    assert_eq!(world.come_back(&mut one).len(), 2);
    world.come_back3(&mut two).unwrap();
    world.send(one.conn, b"behind it");
    world.exchange(&mut backend);
    let expected = [
        "AWAY 0",
        "AWAY 0",
        "RESUMED 1 1",
        "RESUMED 1 1",
        "behind it",
    ];
    assert_eq!(heard(&mut backend), expected);
    world.leave(one.conn);
    world.exchange(&mut backend);
    world.wait(Duration::from_secs(90));
    world.exchange(&mut backend);
    let came = heard(&mut backend);
    let ended: Vec<_> = came
        .iter()
        .filter(|came| !came.starts_with("SETTLED"))
        .collect();
    assert_eq!(ended[0], "AWAY 0");
    assert!(came.contains(&"ENDED 302 expired".to_owned()), "{came:?}");
}

#[test]
fn a_kick_has_a_code_and_a_text_that_the_client_sees() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let mut one = world.join3();
    let code = Code::from_u16(555).unwrap();
    let kick = Kick {
        code,
        wait_ms: 7,
        text: "season over",
    };
    world.order(&mut backend, &ToEdge::Kick { id: one.id(), kick });
    let came = world.hear3(&mut one);
    assert_eq!(closed(&came), (code, 0));
    assert_eq!(one.channel.close_details().wait_ms, 7);
    assert_eq!(one.text, b"season over");
    assert_eq!(heard(&mut backend)[1..], ["ENDED 555 season over"]);
    // One that is away hears it when it comes.
    let mut two = world.join3();
    world.leave(two.conn);
    let id = two.id();
    world.order(&mut backend, &ToEdge::Kick { id, kick });
    assert_eq!(refusal(world.come_back3(&mut two)), code);
    // Neither a packet nor another kick has an answer.
    heard(&mut backend);
    world.order(&mut backend, &ToEdge::Kick { id, kick });
    world.order(&mut backend, &packet(id, b"late"));
    assert_eq!(heard(&mut backend), [""; 0]);
}

#[test]
fn what_clients_take_is_settled_in_batches() {
    let mut world = world(|config| {
        demanding(config);
        config.clients.ring_packets = 8;
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, mut two) = (world.join(), world.join3());
    world.exchange(&mut backend);
    heard(&mut backend);
    world.order(&mut backend, &packet(one.id, b"1"));
    world.order(&mut backend, &packet(two.id(), b"1"));
    world.hear(one.conn);
    world.hear3(&mut two);
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), [""; 0], "not at once");
    world.acknowledge(&mut two);
    world.wait(Duration::from_millis(20));
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["SETTLED [1, 1]"]);
    // A quarter of a ring is told at once.
    world.order(&mut backend, &packet(one.id, b"2"));
    world.order(&mut backend, &packet(one.id, b"3"));
    world.hear(one.conn);
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["SETTLED [3]"]);
}

#[test]
fn a_paused_client_is_not_read_until_it_goes_on_and_is_not_taken_for_gone() {
    let mut world = world(|config| {
        demanding(config);
        config.clients.idle_timeout = Duration::from_secs(30);
        config.clients.keep_alive = Duration::from_secs(20);
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, mut two) = (world.join(), world.join3());
    for id in [one.id, two.id()] {
        world.order(&mut backend, &ToEdge::Pause { id });
    }
    heard(&mut backend);
    for _ in 0..20 {
        world.wait(Duration::from_secs(10));
        world.hear3(&mut two);
    }
    for conn in [one.conn, two.conn] {
        assert!(!world.is_closed(conn));
        assert_eq!(world.edge.read_budget(conn), 0);
    }
    for id in [one.id, two.id()] {
        world.order(&mut backend, &ToEdge::GoOn { id });
    }
    world.send(one.conn, b"at last");
    world.send3(&mut two, b"and");
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["at last", "and"]);
}

// ---- groups and classes

fn to_group(packet: &'static [u8], left_out: &'static [ClientId]) -> ToEdge<'static> {
    ToEdge::GroupSend {
        group: GROUP,
        send: GroupSend {
            delivery: Class::Ordinary,
            left_out: Ids::from(left_out),
            packet,
        },
    }
}

#[test]
fn members_get_what_is_sent_between_their_coming_and_their_going() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, mut two) = (world.join(), world.join3());
    let ids = [one.id, two.id(), ClientId::from_u64(9)];
    world.order(&mut backend, &to_group(b"too early", &[]));
    for _ in 0..2 {
        let ids = Ids::from(&ids[..]);
        world.order(&mut backend, &ToEdge::GroupAdd { group: GROUP, ids });
    }
    world.order(&mut backend, &to_group(b"both", &[]));
    world.order(&mut backend, &packet(one.id, b"one"));
    let group = GROUP;
    let ids = Ids::from(&ids[..1]);
    world.order(&mut backend, &ToEdge::GroupRemove { group, ids });
    world.order(&mut backend, &to_group(b"two", &[]));
    world.order(&mut backend, &ToEdge::GroupEnd { group });
    world.order(&mut backend, &to_group(b"nobody", &[]));
    assert_eq!(world.hear(one.conn), [&b"both"[..], b"one"]);
    let came = world.hear3(&mut two);
    assert_eq!(packets(&came), [(1, &b"both"[..]), (2, b"two")]);
    assert!(world.edge.groups.is_empty());
}

#[test]
fn those_that_are_left_out_and_those_that_ended_get_nothing() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, two) = (world.join(), world.join());
    let ids = [one.id, two.id];
    let group = GROUP;
    let add = Ids::from(&ids[..]);
    world.order(&mut backend, &ToEdge::GroupAdd { group, ids: add });
    let left_out = Ids::from(&ids[..1]);
    let send = GroupSend {
        delivery: Class::Ordinary,
        left_out,
        packet: b"two",
    };
    world.order(&mut backend, &ToEdge::GroupSend { group, send });
    assert!(world.hear(one.conn).is_empty());
    assert_eq!(world.hear(two.conn), [b"two"]);
    let kick = Kick {
        code: Code::KICKED,
        wait_ms: 0,
        text: "",
    };
    for id in ids {
        world.order(&mut backend, &ToEdge::Kick { id, kick });
    }
    assert!(
        world.edge.groups.is_empty(),
        "a group without members is forgotten"
    );
}

#[test]
fn a_session_of_too_many_groups_ends_and_says_so() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    let most = u64::from(world.granted(&mut backend).groups_of_a_session);
    let one = world.join();
    let ids = [one.id];
    for group in 1..=most + 1 {
        assert!(world.edge.sessions.lookup(one.id).is_some(), "{group}");
        let group = GroupId(group);
        let ids = Ids::from(&ids[..]);
        world.order(&mut backend, &ToEdge::GroupAdd { group, ids });
    }
    assert_eq!(heard(&mut backend)[1..], ["ENDED 305 numbers do not fit"]);
    assert!(world.edge.groups.is_empty());
}

#[test]
fn classes_reach_clients_as_far_as_their_version_has_them() {
    let mut world = world(|config| {
        demanding(config);
        config.clients.channel_capacity = 4;
    });
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let (one, mut two) = (world.join(), world.join3());
    for id in [one.id, two.id()] {
        for (delivery, packet) in [
            (Class::Latest(7), &b"old"[..]),
            (Class::Latest(7), b"new"),
            (Class::Volatile, b"skipped"),
        ] {
            let order = ToEdge::Packet {
                id,
                delivery,
                packet,
            };
            world.order(&mut backend, &order);
        }
    }
    assert_eq!(world.hear(one.conn), [b"old", b"new"]);
    let came = world.hear3(&mut two);
    let latest = Came::OfClass(Delivery::Latest(7), 2, b"new".to_vec());
    let volatile = Came::OfClass(Delivery::Volatile, 3, b"skipped".to_vec());
    assert_eq!(came, [Came::Superseded(1, 1), latest, volatile]);
}

// ---- bad input

#[test]
fn frames_that_are_refused_count_and_are_answered() {
    let mut world = world(demanding);
    let mut backend = Backend::new(BOOT);
    world.granted(&mut backend);
    let one = world.join();
    world.exchange(&mut backend);
    heard(&mut backend);
    let bad: [(&[u8], &str); 6] = [
        (&[0; 4], "REFUSED 0x00 Malformed"),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0x19], "REFUSED 0x19 Unknown"),
        (
            &[0, 0, 0, 0, 0, 0, 0, 0, flag::JOINED],
            "REFUSED 0x13 Malformed",
        ),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0x02], "REFUSED 0x02 Unknown"),
        (
            &[7, 0, 0, 0, 0, 0, 0, 0, flag::KICK, 0, 0],
            "REFUSED 0x26 Malformed",
        ),
        (
            &[0, 0, 0, 0, 0, 0, 0, 0, flag::GOAWAY],
            "REFUSED 0x28 Unknown",
        ),
    ];
    for (body, answer) in bad {
        backend.frames.push_body(body);
        world.exchange(&mut backend);
        assert_eq!(heard(&mut backend), [answer]);
    }
    // A second ASK is refused and does not count.
    world
        .edge
        .handle_link_bytes(world.now, &Backend::new(BOOT).ask());
    world.exchange(&mut backend);
    assert_eq!(heard(&mut backend), ["REFUSED 0x10 Malformed"]);
    world.order(&mut backend, &packet(one.id, b"still there"));
    assert_eq!(world.hear(one.conn), [b"still there"]);
    world.wait(Duration::from_millis(10));
    world.exchange(&mut backend);
    assert_eq!(backend.acks.last().map(|ack| ack.acknowledged), Some(7));
}

// ---- any order of all that

/// A client of either version, with what it sent and heard.
struct Party {
    kind: Kind,
    id: ClientId,
    is_away: bool,
    sent: u32,
    heard: u32,
    /// What the backend knows of it.
    from_it: u32,
    to_it: u32,
    notices: Vec<u8>,
}

enum Kind {
    Two(Member),
    Three(Box<Numbered>),
}

struct Crowd {
    world: World,
    backend: Backend,
    parties: Vec<Party>,
    kinds: usize,
    dice: ChaCha20Rng,
}

impl Crowd {
    fn new(seed: u8) -> Self {
        let mut world = world(|config| {
            demanding(config);
            config.clients.stale_timeout = Duration::from_secs(3_600);
            config.clients.keep_alive = Duration::ZERO;
            config.clients.write_timeout = Duration::ZERO;
            config.limits.enforce_sources = Enforce::Off;
            if seed.is_multiple_of(2) {
                // So small that frames wait in line.
                config.master.channel_capacity = 8;
            }
        });
        let mut backend = Backend::new(BOOT);
        world.granted(&mut backend);
        Crowd {
            world,
            backend,
            parties: Vec::new(),
            // A client of version 3 loses what it writes in this world while its session waits in line.
            kinds: if seed.is_multiple_of(2) { 1 } else { 2 },
            dice: ChaCha20Rng::from_seed([seed; 32]),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.dice.next_u32() as usize % end
    }

    /// Handles what the backend heard.
    fn hear_up(&mut self) {
        for body in core::mem::take(&mut self.backend.heard) {
            let (id, flag) = (u64::from_le_bytes(*body.first_chunk().unwrap()), body[8]);
            let Some(party) = self
                .parties
                .iter_mut()
                .find(|party| party.id.as_u64() == id)
            else {
                assert_eq!(flag, flag::SETTLED);
                continue;
            };
            let before = party.notices.last().copied();
            match flag {
                flag::DATA => {
                    assert_eq!(
                        body[9..],
                        party.from_it.to_le_bytes(),
                        "each once, in order"
                    );
                    party.from_it += 1;
                    assert!(before.is_some_and(|flag| flag != flag::ENDED));
                }
                flag => {
                    let expected = match before {
                        None => &[flag::JOINED][..],
                        Some(flag::JOINED | flag::RESUMED) => &[flag::AWAY, flag::ENDED],
                        Some(flag::AWAY) => &[flag::RESUMED, flag::ENDED],
                        _ => &[],
                    };
                    assert!(expected.contains(&flag), "{flag:#04x} after {before:x?}");
                    party.notices.push(flag);
                }
            }
        }
    }

    fn hear_down(&mut self, at: usize) {
        let party = &mut self.parties[at];
        let came: Vec<Vec<u8>> = match &mut party.kind {
            Kind::Two(member) => self.world.hear(member.conn),
            Kind::Three(one) => {
                let came = self.world.hear3(one);
                self.world.acknowledge(one);
                packets(&came)
                    .into_iter()
                    .map(|(_, bytes)| bytes.to_vec())
                    .collect()
            }
        };
        for packet in came {
            assert_eq!(packet, party.heard.to_le_bytes(), "each once, in order");
            party.heard += 1;
        }
    }

    fn join(&mut self) {
        let kinds = self.kinds;
        let kind = match self.below(kinds) {
            0 => Kind::Two(self.world.join()),
            _ => Kind::Three(Box::new(self.world.join3())),
        };
        let id = match &kind {
            Kind::Two(member) => member.id,
            Kind::Three(one) => one.id(),
        };
        self.parties.push(Party {
            kind,
            id,
            is_away: false,
            sent: 0,
            heard: 0,
            from_it: 0,
            to_it: 0,
            notices: Vec::new(),
        });
    }

    fn send_up(&mut self, at: usize) {
        let party = &mut self.parties[at];
        let text = party.sent.to_le_bytes();
        party.sent += 1;
        match &mut party.kind {
            Kind::Two(member) => {
                let mut bytes = Vec::new();
                encode_frame(&text, &mut bytes);
                self.world
                    .edge
                    .handle_client_bytes(self.world.now, member.conn, &bytes);
            }
            Kind::Three(one) => one.outbox.push(&text),
        }
        if let Kind::Three(one) = &mut party.kind {
            self.world.flush(one);
        }
    }

    fn send_down(&mut self, at: usize) {
        let party = &mut self.parties[at];
        let is_known = party
            .notices
            .last()
            .is_some_and(|flag| *flag != flag::ENDED);
        if is_known {
            let text = party.to_it.to_le_bytes();
            party.to_it += 1;
            let order = ToEdge::Packet {
                id: party.id,
                delivery: Class::Ordinary,
                packet: &text,
            };
            self.backend.queue(&order);
        }
    }

    fn leave_or_return(&mut self, at: usize) {
        self.hear_down(at);
        let party = &mut self.parties[at];
        party.is_away = !party.is_away;
        let came = match (&mut party.kind, party.is_away) {
            (Kind::Two(member), true) => {
                self.world.leave(member.conn);
                return;
            }
            (Kind::Three(one), true) => {
                self.world.leave(one.conn);
                return;
            }
            (Kind::Two(member), false) => self.world.come_back(member).split_off(1),
            (Kind::Three(one), false) => {
                let came = self.world.come_back3(one).expect("it may come back");
                let came = packets(&came[1..]).into_iter();
                came.map(|(_, bytes)| bytes.to_vec()).collect()
            }
        };
        for packet in came {
            assert_eq!(packet, party.heard.to_le_bytes(), "each once, in order");
            party.heard += 1;
        }
    }

    /// Lets some bytes arrive, and perhaps cuts the link among them.
    fn carry(&mut self, is_cut: bool) {
        let (most_up, most_down) = (self.below(200), self.below(200));
        let up = self.world.edge.link_takes(self.world.now, most_up);
        let down = self.backend.frames.output();
        let down = down[..most_down.min(down.len())].to_vec();
        self.backend
            .sent
            .advance(down.len(), &mut self.backend.frames);
        let (arrive_up, arrive_down) = match is_cut {
            true => (self.below(up.len() + 1), self.below(down.len() + 1)),
            false => (up.len(), down.len()),
        };
        self.backend.read(&up[..arrive_up]);
        self.world
            .edge
            .handle_link_bytes(self.world.now, &down[..arrive_down]);
        if is_cut {
            self.world.lose_link(&mut self.backend);
            self.world.granted(&mut self.backend);
        }
        self.hear_up();
    }

    /// Acknowledges what has come, in its place.
    fn acknowledge(&mut self) {
        if self.backend.sent.is_mid_frame() || !self.backend.frames.output().is_empty() {
            return;
        }
        let mut ack = Vec::new();
        let counts = LinkAck {
            acknowledged: self.backend.received,
            sent: self.backend.sent.sent(),
        };
        counts.encode(&mut ack);
        self.world.edge.handle_link_bytes(self.world.now, &ack);
    }

    fn step(&mut self) {
        if self.parties.len() < 3 {
            return self.join();
        }
        let at = self.below(self.parties.len());
        let is_over = self.parties[at].notices.last() == Some(&flag::ENDED);
        match self.below(12) {
            _ if is_over => {
                self.parties.swap_remove(at);
            }
            0..3 if !self.parties[at].is_away => self.send_up(at),
            3..5 => self.send_down(at),
            5 if !self.parties[at].is_away => self.hear_down(at),
            6 => self.leave_or_return(at),
            7 => self.acknowledge(),
            8 => {
                self.world.exchange(&mut self.backend);
                self.hear_up();
            }
            9 => self.carry(true),
            _ => self.carry(false),
        }
        self.world.edge.audit();
    }

    fn come_to_rest(&mut self) {
        for at in 0..self.parties.len() {
            if self.parties[at].is_away {
                self.leave_or_return(at);
            }
        }
        for _ in 0..20 {
            self.world.exchange(&mut self.backend);
            self.hear_up();
            self.acknowledge();
            self.world.wait(Duration::from_millis(300));
            (0..self.parties.len()).for_each(|at| self.hear_down(at));
        }
        for party in &self.parties {
            assert_eq!((party.from_it, party.heard), (party.sent, party.to_it));
            if let Kind::Three(one) = &party.kind {
                assert_eq!(one.outbox.acked(), u64::from(party.sent), "end to end");
            }
        }
        assert_eq!(self.world.edge.gauges().link_packets, 0);
        assert!(self.backend.frames.is_empty());
    }
}

/// SPEC 35.1, 37: in any order of packets, drops, acknowledgements and losses of the link.
#[test]
fn in_any_order_each_packet_comes_once_and_each_notice_in_its_place() {
    for seed in 0..60 {
        let mut crowd = Crowd::new(seed);
        for _ in 0..150 {
            crowd.step();
        }
        crowd.come_to_rest();
    }
}
