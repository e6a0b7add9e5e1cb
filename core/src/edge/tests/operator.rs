//! What an operator sees and does (SPEC 9.5(f), 9.8(e), 10.6(l)).

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use ipnet::IpNet;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Record};
use tracing::{Event, Metadata, Subscriber};

use super::handover::two;
use super::*;
use crate::code::Code;
use crate::link::v3::{Kick, MAX_TEXT_BYTES};

const KICK: Kick<'static> = Kick {
    code: Code::KICKED,
    wait_ms: 0,
    text: "by hand",
};

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Returns the ids of all pages of this size.
fn walk(world: &World, size: usize) -> Vec<ClientId> {
    let (mut ids, mut from) = (Vec::new(), Some(0));
    while let Some(place) = from {
        let page = world.edge.page(place, size);
        assert!(page.sessions.len() <= size);
        ids.extend(page.sessions.iter().map(|session| session.id));
        from = page.next;
    }
    ids
}

#[test]
fn each_session_is_on_one_page_whatever_their_size_and_where_others_have_left() {
    let mut world = World::new(|config| config.limits.enforce_sources = Enforce::Off);
    let members: Vec<Member> = (0..7).map(|_| world.join()).collect();
    for gone in [0, 3] {
        world.leave(members[gone].conn);
        let id = members[gone].id;
        world.edge.handle_kick(world.now, id, &KICK).unwrap();
    }
    let mut left: Vec<_> = [1, 2, 4, 5, 6].map(|at| members[at].id).into();
    left.sort();
    for size in [1, 2, 5, 6, MAX_PAGE, usize::MAX] {
        let mut ids = walk(&world, size);
        ids.sort();
        assert_eq!(ids, left, "{size}");
    }
    assert_eq!(world.edge.page(0, 5).next, None);
    let beyond = world.edge.page(u32::MAX, 5);
    assert_eq!((beyond.sessions.len(), beyond.next), (0, None));
}

#[test]
fn a_page_has_a_bound() {
    let mut world = World::new(|config| {
        config.limits.enforce_sources = Enforce::Off;
        config.limits.enforce_accepts = Enforce::Off;
    });
    for _ in 0..=MAX_PAGE {
        world.join();
    }
    let first = world.edge.page(0, usize::MAX);
    assert_eq!(first.sessions.len(), MAX_PAGE);
    let next = first.next.expect("one more");
    assert_eq!(world.edge.page(next, usize::MAX).sessions.len(), 1);
}

#[test]
fn a_session_is_shown_with_its_numbers() {
    let mut world = World::new(|_| {});
    let mut one = world.join();
    let shown = |world: &World, id| world.edge.inspect(id).expect("it lives");
    let fresh = shown(&world, one.id);
    assert_eq!((fresh.id, fresh.version), (one.id, 2));
    assert_eq!(fresh.conn, Some(one.conn.index()));
    assert_eq!((fresh.source, fresh.listener), (Some(SOURCE), Some(0)));
    assert!(!fresh.has_exchanged && fresh.away.is_none());
    world.hear(one.conn);
    world.leave(one.conn);
    world.backend_says(one.id, Flag::Data, b"1234");
    world.wait(Duration::from_secs(3));
    let away = shown(&world, one.id);
    assert_eq!(away.away, Some(Duration::from_secs(3)));
    assert_eq!((away.conn, away.listener), (None, None));
    assert_eq!((away.queue_packets, away.queue_bytes), (1, 8));
    assert_eq!(away.source, Some(SOURCE));
    assert_eq!(world.edge.page(0, 9).sessions, [away]);
    world.come_back(&mut one);
    assert_eq!(shown(&world, one.id).resumes, 1);
    let other = ClientId::from_u64(one.id.as_u64() ^ 1);
    assert_eq!(world.edge.inspect(other), None);
}

#[test]
fn a_kick_ends_a_session_as_one_by_the_backend_does() {
    let mut world = World::new(|_| {});
    let one = world.join();
    world.backend_says(one.id, Flag::Data, b"before");
    world.edge.handle_kick(world.now, one.id, &KICK).unwrap();
    assert_eq!(world.backend_hears(), [failure(one.id, "kicked")]);
    assert_eq!(world.edge.counters().ended[EndReason::Kicked as usize], 1);
    let heard = world.hear(one.conn);
    assert!(heard.iter().any(|body| body.ends_with(b"before")));
    assert_eq!(world.edge.client_close(one.conn), Some(CloseKind::Graceful));
    let again = world.edge.handle_kick(world.now, one.id, &KICK);
    assert_eq!(again, Err(KickError::NoSession));
    assert_eq!(world.edge.inspect(one.id), None);
}

#[test]
fn a_kick_says_only_what_one_by_the_backend_may() {
    let mut world = World::new(|_| {});
    let one = world.join();
    let code = Code::RESTART;
    let foreign = world
        .edge
        .handle_kick(world.now, one.id, &Kick { code, ..KICK });
    assert_eq!(foreign, Err(KickError::Code(Code::RESTART)));
    let longest = "x".repeat(MAX_TEXT_BYTES);
    let longer = format!("{longest}x");
    let mut say = |text| {
        world
            .edge
            .handle_kick(world.now, one.id, &Kick { text, ..KICK })
    };
    assert_eq!(say(&longer), Err(KickError::TextTooLong));
    assert_eq!(say(&longest), Ok(()));
}

#[test]
fn a_banned_network_is_refused_and_who_was_there_stays() {
    let mut world = World::new(|config| config.limits.exempt = vec![net("192.0.2.0/24")]);
    let one = world.join();
    let ban = |world: &mut World, network, secs: Option<u64>| {
        let within = secs.map(Duration::from_secs);
        let done = world.edge.handle_ban(world.now, net(network), within, "x");
        done.unwrap();
    };
    ban(&mut world, "192.0.2.0/24", Some(10));
    let arrive = |world: &mut World, from| world.edge.handle_accepted(world.now, ip(from)).err();
    assert_eq!(arrive(&mut world, "192.0.2.9"), Some(Rejected::Banned));
    assert_eq!(
        arrive(&mut world, "::ffff:192.0.2.9"),
        Some(Rejected::Banned)
    );
    assert_eq!(arrive(&mut world, "192.0.3.9"), None);
    assert_eq!(world.edge.counters().rejected[Rejected::Banned as usize], 2);
    assert!(!world.is_closed(one.conn));
    world.send(one.conn, b"goes on");
    assert_eq!(world.backend_hears(), [data(one.id, "goes on")]);
    assert_eq!(world.edge.gauges().bans, 1);
    world.wait(Duration::from_secs(10));
    assert_eq!(arrive(&mut world, "192.0.2.9"), None);
    assert_eq!(world.edge.bans(None), BanPage::default());
    assert_eq!(world.edge.gauges().bans, 0);
    ban(&mut world, "192.0.2.9/32", None);
    assert_eq!(arrive(&mut world, "192.0.2.9"), Some(Rejected::Banned));
    let bans = world.edge.bans(None).bans;
    assert_eq!(bans, [(net("192.0.2.9/32"), None, "x".into())]);
    assert!(!world.edge.handle_unban(world.now, net("192.0.2.0/24")));
    assert!(world.edge.handle_unban(world.now, net("192.0.2.9/32")));
    assert_eq!(arrive(&mut world, "192.0.2.9"), None);
}

#[test]
fn bans_are_paged_in_their_order() {
    let mut world = World::new(|_| {});
    let network = |number: u32| {
        let address = core::net::Ipv4Addr::from_bits(number << 8);
        IpNet::new(address.into(), 24).unwrap()
    };
    let all: Vec<IpNet> = (0..=MAX_PAGE as u32).map(network).collect();
    for network in &all {
        let done = world.edge.handle_ban(world.now, *network, None, "");
        done.unwrap();
    }
    let first = world.edge.bans(None);
    assert_eq!((first.bans.len(), first.has_more), (MAX_PAGE, true));
    let last = first.bans.last().map(|(network, ..)| *network);
    let rest = world.edge.bans(last);
    assert!(!rest.has_more);
    let pages = first.bans.iter().chain(&rest.bans);
    assert!(pages.map(|(network, ..)| network).eq(&all));
}

#[test]
fn the_source_in_a_proxy_header_is_what_is_banned() {
    let mut world = World::new(|config| {
        behind_proxy(config);
        config.limits.enforce_sources = Enforce::Off;
    });
    let proxy = match SOURCE {
        IpAddr::V4(proxy) => IpNet::new(proxy.into(), 32).unwrap(),
        IpAddr::V6(_) => unreachable!(),
    };
    let mut ban = |network| world.edge.handle_ban(world.now, network, None, "").unwrap();
    ban(net("198.51.100.0/24"));
    ban(proxy);
    let mut connect = |source: &str| {
        let conn = world.edge.handle_accepted(world.now, SOURCE).unwrap();
        let header = format!("PROXY TCP4 {source} 192.0.2.1 1 2\r\n");
        let bytes = header.as_bytes();
        world.edge.handle_client_bytes(world.now, conn, bytes);
        world.is_closed(conn)
    };
    assert!(connect("198.51.100.7"));
    assert!(!connect("198.51.101.7"));
}

#[test]
fn shards_have_the_same_bans() {
    let [mut one, mut two] = two(|_| {});
    let network = net("192.0.2.0/24");
    let now = one.now;
    two.edge.handle_ban(now, network, None, "").unwrap();
    let refused = one.edge.handle_accepted(now, SOURCE);
    assert_eq!(refused, Err(Rejected::Banned));
    assert_eq!((one.edge.gauges().bans, two.edge.gauges().bans), (1, 0));
    assert!(one.edge.handle_unban(now, network));
    assert!(two.edge.handle_accepted(now, SOURCE).is_ok());
}

#[test]
fn a_drained_edge_begins_no_session_and_resumes_those_that_it_has() {
    let mut world = World::new(|_| {});
    let (mut one, two) = (world.join(), world.join());
    world.leave(one.conn);
    world.edge.handle_drain(world.now, Some(Duration::ZERO));
    assert!(world.edge.gauges().is_draining);
    let conn = world.accept();
    world.say(conn, Handshake::ProtocolVersion(2));
    let keys = KeyPair::generate(&mut world.rng);
    world.say(conn, Handshake::PubKey(keys.public().as_bytes()));
    assert!(world.is_closed(conn));
    let closed = &world.edge.counters().closed;
    assert_eq!(closed[CloseReason::Shutdown as usize], 1);
    world.come_back(&mut one);
    assert_eq!(world.edge.gauges().away, 0);
    assert!(!world.is_closed(two.conn));
    world.edge.handle_drain(world.now, None);
    assert!(!world.edge.gauges().is_draining);
    world.join();
}

/// Collects the lines about ended sessions, as `name=value` pairs.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<String>>>);

struct Pairs(String);

impl Visit for Pairs {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

impl Subscriber for Ends {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "voltlane::sessions"
    }

    fn new_span(&self, _: &Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut pairs = Pairs(String::new());
        event.record(&mut pairs);
        self.0.lock().unwrap().push(pairs.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Returns the lines of a session that exchanges packets, comes back once and is kicked.
fn lines_of_a_session() -> Vec<String> {
    let ends = Ends::default();
    tracing::subscriber::with_default(ends.clone(), || {
        let mut world = World::new(|_| {});
        let mut one = world.join();
        world.hear(one.conn);
        world.send(one.conn, b"secret up");
        world.backend_says(one.id, Flag::Data, b"secret down");
        world.hear(one.conn);
        world.leave(one.conn);
        world.wait(Duration::from_secs(3));
        world.come_back(&mut one);
        world.backend_says(one.id, Flag::Data, b"secret down");
        world.leave(one.conn);
        world.wait(Duration::from_millis(500));
        world.edge.handle_kick(world.now, one.id, &KICK).unwrap();
        let again = world.edge.handle_kick(world.now, one.id, &KICK);
        assert_eq!(again, Err(KickError::NoSession));
        let lines = std::mem::take(&mut *ends.0.lock().unwrap()).into_iter();
        let id = one.id.to_string();
        lines.map(|line| line.replace(&id, "ID")).collect()
    })
}

#[test]
fn each_session_that_ends_is_one_line_of_numbers() {
    // A line that another test meets for the first time while a subscriber begins stays off until the next one begins.
    let mut shown = (0..8).map(|_| lines_of_a_session());
    let lines = shown.find(|lines| !lines.is_empty()).unwrap_or_default();
    let [line] = &*lines else { panic!("{lines:?}") };
    let (before, rest) = line.split_once("dur_ms=").unwrap();
    let (millis, after) = rest.split_once(' ').unwrap();
    // Within a tick.
    let millis: u64 = millis.parse().unwrap();
    assert!((3_484..=3_518).contains(&millis), "{line}");
    let code = KICK.code.to_u16();
    assert_eq!(
        before,
        format!(
            "message=session ended event=\"session_end\" id=ID version=2 reason=\"kicked\" code={code} source={SOURCE} "
        )
    );
    assert_eq!(
        after,
        "away_ms=500 packets_up=1 packets_down=2 resumes=1 gaps=0 unsettled=1 "
    );
}
