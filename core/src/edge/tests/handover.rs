//! A claim of a session at another shard goes there with its connection (SPEC 9.9(c)), and sources are counted once (9.9(g)).

use super::*;
use crate::edge::memory::account::Pressure;

const SHARDS: u8 = 2;

/// Creates two shards of one process. No id of theirs names a third one.
pub(super) fn two(change: impl Fn(&mut EdgeConfig)) -> [World; 2] {
    let mut whole = EdgeConfig::default();
    change(&mut whole);
    two_of(&whole)
}

pub(super) fn two_of(whole: &EdgeConfig) -> [World; 2] {
    let part = |shard| whole.for_shard(ShardId::new(shard), SHARDS);
    let first = World::with(part(0));
    let mut edge = Edge::sibling_of(&first.edge, part(1), [10; 32]);
    edge.handle_link_connecting(first.now);
    edge.handle_link_connected(first.now);
    let second = World {
        edge,
        edge_keys: first.edge_keys.clone(),
        now: first.now,
        rng: ChaCha20Rng::from_seed([8; 32]),
        header: b"",
    };
    [first, second].map(|mut world| {
        assert!(matches!(world.hands_up(), Some(Upward::Announced)));
        // The trunk has room.
        let released = Downward::Released;
        world.edge.handle_branch_input(world.now, &released);
        world
    })
}

/// Creates the first of two shards. The second one is not there.
pub(super) fn apart(change: impl Fn(&mut EdgeConfig)) -> World {
    let [first, _] = two(change);
    first
}

/// Opens a connection to `world` that has claimed `id`, with `behind` in the same read.
pub(super) fn claims(world: &mut World, id: ClientId, behind: &[u8]) -> ConnKey {
    let conn = world.accept();
    let mut bytes = Vec::new();
    Handshake::ProtocolVersion(2).encode(&mut bytes);
    Handshake::ClientId(id).encode(&mut bytes);
    bytes.extend_from_slice(behind);
    world.edge.handle_client_bytes(world.now, conn, &bytes);
    conn
}

pub(super) fn hand_over(
    from: &mut World,
    to: &mut World,
    conn: ConnKey,
) -> Result<ConnKey, Rejected> {
    let handover = from
        .edge
        .take_handover(from.now, conn)
        .expect("it is to be handed over");
    assert_eq!(handover.shard(), to.edge.config.shard);
    to.edge.handle_handover(to.now, handover)
}

/// Counts the connections from [`SOURCE`], by the rest of the limit of 10.
fn counted(world: &mut World) -> usize {
    let mut room = Vec::new();
    while let Ok(conn) = world.edge.handle_accepted(world.now, SOURCE) {
        room.push(conn);
    }
    for conn in &room {
        world.leave(*conn);
    }
    10 - room.len()
}

fn ten_of_a_source(config: &mut EdgeConfig) {
    offer_2(config);
    config.limits.sources.connections = 10;
    config.limits.sources.rate = 0;
    config.limits.accept_rate = 0;
}

fn half_open(worlds: &[World; 2]) -> [usize; 2] {
    worlds.each_ref().map(|world| world.edge.gauges().half_open)
}

#[test]
fn a_client_is_taken_back_at_the_shard_of_its_session() {
    let mut worlds = two(|config| config.clients.missed_packets_buffer_size = 8);
    let [here, there] = &mut worlds;
    let member = there.join();
    assert_eq!(member.id.shard(), ShardId::new(1));
    there.leave(member.conn);
    there.backend_says(member.id, Flag::Data, b"missed");

    let conn = claims(here, member.id, b"");
    assert_eq!(here.edge.client_handover(conn), Some(ShardId::new(1)));
    assert_eq!(here.edge.poll_client(), Some(conn));
    assert_eq!(here.edge.read_budget(conn), 0);
    assert_eq!(half_open(&worlds), [1, 0]);
    let [here, there] = &mut worlds;
    let moved = hand_over(here, there, conn).expect("there is room");
    assert_eq!(half_open(&worlds), [0, 1]);
    let [here, there] = &mut worlds;
    assert_eq!(here.edge.gauges().connections, 0);
    here.edge.audit();

    // The reply to its version was not written yet. The challenge comes after it, a millisecond later.
    let heard = there.hear(moved);
    assert_eq!(
        Handshake::decode(&heard[0]),
        Ok(Handshake::PubKey(there.edge_keys.public().as_bytes()))
    );
    assert_eq!((heard.len(), there.edge.read_budget(moved)), (1, 0));
    there.wait(RESUME_REPLY_DELAY);
    let heard = there.hear(moved);
    let Ok(Handshake::Challenge(sealed)) = Handshake::decode(&heard[0]) else {
        panic!("no challenge in {heard:?}")
    };
    let answer = there.answer(&member.keys, sealed);
    there.say(moved, Handshake::ChallengeResponse(&answer));
    there.say(moved, Handshake::Ping);
    there.send(moved, b"back");
    assert_eq!(there.hear(moved), [ping(), b"missed".to_vec()]);
    assert_eq!(
        there.backend_hears(),
        [
            (member.id, Flag::Resumed, String::new()),
            data(member.id, "back")
        ]
    );
    assert_eq!(half_open(&worlds), [0, 0]);
    let [here, there] = &mut worlds;
    assert_eq!(here.backend_hears(), []);
    let sums = |world: &World| {
        let counters = world.edge.counters();
        (counters.handed_over, counters.accepted, counters.resumed)
    };
    assert_eq!((sums(here), sums(there)), ((1, 1, 0), (0, 1, 1)));
}

#[test]
fn bytes_behind_the_claim_go_with_it() {
    let [mut here, mut there] = two(|_| {});
    let member = there.join();
    // A response that cannot be right, in one read with the claim, and cut at every byte with the rest coming later.
    let mut behind = Vec::new();
    Handshake::ChallengeResponse(&[1; 72]).encode(&mut behind);
    for cut in 0..=behind.len() {
        let conn = claims(&mut here, member.id, &behind[..cut]);
        let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
        there.wait(RESUME_REPLY_DELAY);
        assert_eq!(there.is_closed(moved), cut == behind.len(), "{cut}");
        there
            .edge
            .handle_client_bytes(there.now, moved, &behind[cut..]);
        assert!(there.is_closed(moved), "{cut}");
        there.leave(moved);
        there.wait(Duration::from_secs(60));
        here.wait(Duration::from_secs(60));
    }
}

#[test]
fn bytes_taken_before_count_there_as_well() {
    let [mut here, mut there] = two(|config| config.limits.handshake_max_bytes = 100);
    let member = there.join();
    let conn = claims(&mut here, member.id, b"");
    let taken = here.edge.counters().client_bytes_in;
    let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
    there.wait(RESUME_REPLY_DELAY);
    assert_eq!(there.edge.read_budget(moved) as u64, 100 - taken);
}

#[test]
fn a_reply_that_is_half_written_goes_on_where_it_was() {
    let [mut here, mut there] = two(|_| {});
    let member = there.join();
    let conn = here.accept();
    here.say(conn, Handshake::ProtocolVersion(2));
    let reply = here.edge.client_output(conn).concat();
    here.edge.handle_client_written(here.now, conn, 5);
    here.say(conn, Handshake::ClientId(member.id));
    assert_eq!(here.edge.client_output(conn), [b"", b""]);
    let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
    assert_eq!(there.edge.client_output(moved).concat(), reply[5..]);
}

#[test]
fn an_id_of_no_shard_is_answered_like_any_unknown_one() {
    let [mut here, mut there] = two(|_| {});
    let gone = there.join();
    there.backend_says(gone.id, Flag::Kick, b"");
    let unknown_here = ClientId::from_u64(5);
    for id in [unknown_here, ClientId::from_u64(u64::from(SHARDS) << 56)] {
        let conn = claims(&mut here, id, b"");
        assert_eq!(here.edge.client_handover(conn), None, "{id}");
        assert!(here.edge.take_handover(here.now, conn).is_none());
        here.wait(RESUME_REPLY_DELAY);
        let heard = here.hear(conn);
        assert!(matches!(
            Handshake::decode(&heard[1]),
            Ok(Handshake::Challenge(_))
        ));
        here.say(conn, Handshake::ChallengeResponse(&[1; 72]));
        assert_eq!(here.edge.client_close(conn), Some(CloseKind::Graceful));
    }
    // A session that ended at the other shard is unknown there.
    let conn = claims(&mut here, gone.id, b"");
    let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
    there.wait(RESUME_REPLY_DELAY);
    assert_eq!(there.hear(moved).len(), 2);
    there.say(moved, Handshake::ChallengeResponse(&[1; 72]));
    assert_eq!(there.edge.client_close(moved), Some(CloseKind::Graceful));
}

#[test]
fn a_connection_is_handed_over_once_at_most() {
    let [mut here, mut there] = two(|_| {});
    let (member, other) = (there.join(), here.join());
    let conn = claims(&mut here, member.id, b"");
    let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
    assert!(
        here.edge.take_handover(here.now, conn).is_none(),
        "it is not here any more"
    );
    assert_eq!(there.edge.client_handover(moved), None);
    there.wait(RESUME_REPLY_DELAY);
    // A second claim is out of turn.
    there.say(moved, Handshake::ClientId(other.id));
    assert_eq!(there.edge.client_handover(moved), None);
    assert!(there.is_closed(moved));
    let counters = [&here, &there].map(|world| world.edge.counters().handed_over);
    assert_eq!(counters, [1, 0]);
}

#[test]
fn the_handshake_deadline_restarts_once() {
    let [mut here, mut there] = two(|_| {});
    let member = there.join();
    let conn = claims(&mut here, member.id, b"");
    for world in [&mut here, &mut there] {
        world.wait(Duration::from_millis(4_999));
    }
    assert!(!here.is_closed(conn), "its own deadline still runs here");
    let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
    there.wait(Duration::from_millis(4_999));
    assert!(!there.is_closed(moved));
    there.wait(Duration::from_millis(1));
    assert_eq!(there.edge.client_close(moved), Some(CloseKind::Abort));
    // A hand-over that nobody takes ends at its deadline.
    let conn = claims(&mut here, member.id, b"");
    here.wait(Duration::from_secs(5));
    assert!(here.is_closed(conn) && here.edge.client_handover(conn).is_none());
    assert!(here.edge.take_handover(here.now, conn).is_none());
    assert_eq!(half_open(&[here, there]), [0, 0]);
}

#[test]
fn its_source_stays_counted_wherever_it_is_and_is_released_once() {
    let [mut here, mut there] = two(ten_of_a_source);
    let member = there.join();
    assert_eq!((counted(&mut here), counted(&mut there)), (1, 1));
    let conn = claims(&mut here, member.id, b"");
    let on_its_way = here
        .edge
        .take_handover(here.now, conn)
        .expect("it is to go");
    here.leave(conn);
    assert_eq!(counted(&mut here), 2);
    let moved = there
        .edge
        .handle_handover(there.now, on_its_way)
        .expect("there is room");
    assert_eq!((counted(&mut here), counted(&mut there)), (2, 2));
    there.leave(moved);
    there.leave(member.conn);
    assert_eq!((counted(&mut here), counted(&mut there)), (0, 0));
}

#[test]
fn a_shard_that_cannot_take_it_releases_its_source() {
    let full = |config: &mut EdgeConfig| {
        ten_of_a_source(config);
        // One for each.
        config.limits.max_connections = 2;
        config.limits.sources.connections = 2;
    };
    let [mut here, mut there] = two(full);
    let member = there.join();
    let conn = claims(&mut here, member.id, b"");
    assert_eq!(
        hand_over(&mut here, &mut there, conn),
        Err(Rejected::TooManyConnections)
    );
    there.edge.audit();
    here.accept();
    assert_eq!(
        here.edge.handle_accepted(here.now, SOURCE),
        Err(Rejected::SourceTooMany),
        "the member and one more are there"
    );

    let [mut here, mut there] = two(ten_of_a_source);
    let member = there.join();
    for shutdown in [false, true] {
        let conn = claims(&mut here, member.id, b"");
        let handover = here
            .edge
            .take_handover(here.now, conn)
            .expect("it is to go");
        if shutdown {
            there
                .edge
                .handle_shutdown(there.now, Duration::from_secs(1));
            assert_eq!(
                there.edge.handle_handover(there.now, handover),
                Err(Rejected::Shutdown)
            );
        } else {
            here.edge.discard_handover(here.now, handover);
        }
        assert_eq!(counted(&mut here), 1, "the member's");
    }
}

#[test]
fn a_shutdown_closes_what_was_to_be_handed_over() {
    let [mut here, mut there] = two(|_| {});
    let member = there.join();
    let conn = claims(&mut here, member.id, b"");
    here.edge.handle_shutdown(here.now, Duration::from_secs(1));
    assert_eq!(here.edge.client_close(conn), Some(CloseKind::Graceful));
    assert_eq!(here.edge.client_handover(conn), None);
    assert!(here.edge.take_handover(here.now, conn).is_none());
}

#[test]
fn for_a_half_open_place_there_a_stranger_makes_room_or_an_older_claimant() {
    // One place per shard, and two that are lent: strangers may have three of them.
    let few = |config: &mut EdgeConfig| config.limits.max_half_open = 4;
    let mut worlds = two(few);
    let [here, there] = &mut worlds;
    let member = there.join();
    let strangers = [(); 3].map(|()| there.accept());
    for stranger in strangers {
        let conn = claims(here, member.id, b"");
        assert!(!there.is_closed(stranger));
        hand_over(here, there, conn).expect("a stranger makes room");
        assert_eq!(there.edge.client_close(stranger), Some(CloseKind::Abort));
        assert_eq!(there.edge.gauges().half_open, 3);
    }
    let conn = claims(here, member.id, b"");
    hand_over(here, there, conn).expect("an older claimant makes room");
    assert_eq!(half_open(&worlds), [0, 3]);
}

#[test]
fn a_connection_that_waits_to_be_handed_over_is_no_stranger() {
    // Three places, including the lent ones.
    let [mut here, mut there] = two(|config| config.limits.max_half_open = 4);
    let member = there.join();
    let conn = claims(&mut here, member.id, b"");
    let strangers: Vec<_> = (0..2).map(|_| here.accept()).collect();
    assert!(strangers.iter().all(|&conn| !here.is_closed(conn)));
    here.accept();
    assert!(here.is_closed(strangers[0]));
    assert_eq!(
        here.edge.client_handover(conn),
        Some(ShardId::new(1)),
        "it came first, and has said what it wants"
    );
}

#[test]
fn its_bytes_are_in_the_account_of_its_current_shard() {
    let [mut here, mut there] = two(|_| {});
    let member = there.join();
    there.hear(member.conn);
    assert_eq!(there.edge.gauges().held_bytes, 0);
    let conn = claims(&mut here, member.id, &[9; 50]);
    let held = here.edge.gauges().held_bytes;
    assert!(held > 50);
    let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
    assert_eq!(here.edge.gauges().held_bytes, 0);
    assert_eq!(there.edge.gauges().held_bytes, held);
    here.edge.audit();
    there.edge.audit();
    there.leave(moved);
    assert_eq!(there.edge.gauges().held_bytes, 0);
}

#[test]
fn a_refused_proof_there_is_held_against_the_source_everywhere() {
    let [mut here, mut there] = two(|_| {});
    let member = there.join();
    for _ in 0..4 {
        let conn = claims(&mut here, member.id, b"");
        let moved = hand_over(&mut here, &mut there, conn).expect("there is room");
        there.wait(RESUME_REPLY_DELAY);
        here.wait(RESUME_REPLY_DELAY);
        there.say(moved, Handshake::ChallengeResponse(&[1; 72]));
        assert!(there.is_closed(moved));
    }
    for world in [&mut here, &mut there] {
        let conn = world.accept();
        world.say(conn, Handshake::ProtocolVersion(2));
        let key = KeyPair::generate(&mut world.rng).public();
        world.say(conn, Handshake::PubKey(key.as_bytes()));
    }
    let refused = |world: &World| world.edge.counters().rejected[Rejected::SourcePenalty as usize];
    assert_eq!(
        [&here, &there].map(refused),
        [0, 1],
        "one in a second may begin, at all shards together"
    );
}

#[test]
fn limits_on_a_source_hold_for_both_shards_together() {
    let mut worlds = two(|config| {
        ten_of_a_source(config);
        config.limits.sources.stale_sessions = 3;
    });
    let mut members = Vec::new();
    for n in 0..10 {
        members.push((n % 2, worlds[n % 2].join()));
    }
    for world in &mut worlds {
        assert_eq!(
            world.edge.handle_accepted(world.now, SOURCE),
            Err(Rejected::SourceTooMany)
        );
    }
    // Sessions that are away count together, too: a fourth one of the same shard makes room.
    for (at, member) in &members[..4] {
        worlds[*at].leave(member.conn);
    }
    let stale = worlds.each_ref().map(|world| world.edge.gauges().away);
    assert_eq!(stale, [2, 1]);
    assert_eq!(
        worlds[1].backend_hears(),
        [failure(members[1].1.id, "too many stale clients")]
    );
    assert_eq!(
        worlds.map(|world| world.edge.gauges().sources),
        [2, 0],
        "one table, shown once: an address and its /24"
    );
}

#[test]
fn a_shard_stays_one_when_its_configuration_changes() {
    let [mut here, there] = two(|_| {});
    here.edge.handle_config(
        here.now,
        EdgeConfig::default().for_shard(ShardId::new(0), SHARDS),
    );
    here.edge.handle_config(here.now, EdgeConfig::default());
    here.edge.handle_config(
        here.now,
        EdgeConfig::default().for_shard(ShardId::new(1), 1),
    );
    let elsewhere = ClientId::from_u64(1 << 56);
    let conn = claims(&mut here, elsewhere, b"");
    assert_eq!(
        here.edge.client_handover(conn),
        Some(there.edge.config.shard)
    );
}

#[test]
fn each_shard_has_its_part_of_the_answers_to_packets_for_nobody() {
    let [mut here, _] = two(|_| {});
    for n in 0..1001 {
        here.backend_says(ClientId::from_u64(n), Flag::Kick, b"");
    }
    assert_eq!(here.backend_hears().len(), 500);
    here.wait(Duration::from_millis(10));
    for n in 0..100 {
        here.backend_says(ClientId::from_u64(n), Flag::Kick, b"");
    }
    assert_eq!(here.backend_hears().len(), 5);
}

#[test]
fn without_a_bound_on_half_open_ones_nobody_makes_room() {
    let mut worlds = two(|config| config.limits.max_half_open = 0);
    let [here, there] = &mut worlds;
    let member = there.join();
    let conn = claims(here, member.id, b"");
    hand_over(here, there, conn).expect("there is no bound");
    let stranger = there.accept();
    let conn = claims(here, member.id, b"");
    hand_over(here, there, conn).expect("there is no bound");
    assert!(!there.is_closed(stranger));
    assert_eq!(half_open(&worlds), [0, 3]);
}

#[test]
fn packets_at_a_shard_are_sent_at_the_trunks_signal_and_not_before() {
    let [mut world, _] = two(|_| {});
    let one = world.join();
    world.edge.handle_link_closed(world.now, Closed::Eof);
    world.send(one.conn, b"waits");
    world.backend_comes();
    assert!(matches!(world.hands_up(), Some(Upward::Announced)));
    assert!(world.hands_up().is_none());
    world
        .edge
        .handle_branch_input(world.now, &Downward::Released);
    assert_eq!(world.backend_hears(), [data(one.id, "waits")]);
    assert_eq!(world.edge.counters().malformed_down, 0);
}

/// Returns how many connections each shard accepts, first until the first shard is full, then until the second is.
fn fill(worlds: &mut [World; 2]) -> [Vec<ConnKey>; 2] {
    worlds.each_mut().map(|world| {
        let accept = |_| world.edge.handle_accepted(world.now, SOURCE).ok();
        (0..100).map_while(accept).collect()
    })
}

#[test]
fn filling_one_shard_takes_the_lent_part_and_not_the_others_own() {
    let few = |config: &mut EdgeConfig| {
        config.limits.max_connections = 20;
        config.limits.max_half_open = 0;
        config.limits.accept_rate = 0;
        config.limits.enforce_sources = Enforce::Off;
    };
    let mut worlds = two(few);
    // One place of each is reserved for handshakes.
    let conns = worlds.each_mut().map(join_all);
    assert_eq!(conns.each_ref().map(Vec::len), [14, 4]);
    // What one shard returns the other one can have.
    for conn in &conns[0][..8] {
        worlds[0].leave(*conn);
    }
    assert_eq!(worlds.each_mut().map(|world| join_all(world).len()), [8, 0]);
    for conn in &conns[0][8..] {
        worlds[0].leave(*conn);
    }
    let [_, there] = &mut worlds;
    assert_eq!(join_all(there).len(), 6, "of fourteen, eight are there");
}

/// Joins as many sessions as may begin.
fn join_all(world: &mut World) -> Vec<ConnKey> {
    let join = |_| {
        let conn = world.accept();
        world.say(conn, Handshake::ProtocolVersion(2));
        let key = KeyPair::generate(&mut world.rng).public();
        world.say(conn, Handshake::PubKey(key.as_bytes()));
        let is_in = !world.is_closed(conn);
        if !is_in {
            world.leave(conn);
        }
        is_in.then_some(conn)
    };
    (0..100).map_while(join).collect()
}

#[test]
fn the_pace_of_accepts_is_one_for_both_shards() {
    let mut worlds = two(|config| {
        (config.limits.accept_rate, config.limits.accept_burst) = (10, 20);
        config.limits.enforce_sources = Enforce::Off;
    });
    assert_eq!(fill(&mut worlds).map(|conns| conns.len()), [20, 0]);
    let [here, there] = &mut worlds;
    here.wait(Duration::from_secs(1));
    there.wait(Duration::from_secs(1));
    worlds.reverse();
    assert_eq!(fill(&mut worlds).map(|conns| conns.len()), [10, 0]);
}

#[test]
fn sessions_and_those_of_them_that_are_away_are_bounded_for_both_shards() {
    let mut worlds = two(|config| {
        config.limits.max_sessions = 8;
        config.clients.max_stale_clients = 4;
        config.limits.enforce_sources = Enforce::Off;
    });
    let [here, there] = &mut worlds;
    let members: Vec<_> = (0..6).map(|_| here.join()).collect();
    let refused = here.accept();
    here.say(refused, Handshake::ProtocolVersion(2));
    let keys = KeyPair::generate(&mut here.rng);
    here.say(refused, Handshake::PubKey(keys.public().as_bytes()));
    assert!(here.is_closed(refused), "six, and two are the other's");
    let others: Vec<_> = (0..2).map(|_| there.join()).collect();
    for member in &members {
        here.leave(member.conn);
    }
    let of_both = |worlds: &[World; 2]| {
        let of = |world: &World| world.edge.gauges().away;
        worlds.each_ref().map(of)
    };
    assert_eq!(of_both(&worlds), [3, 0]);
    let [_, there] = &mut worlds;
    for other in &others {
        there.leave(other.conn);
    }
    assert_eq!(of_both(&worlds), [3, 1], "its own part");
}

#[test]
fn memory_of_the_other_shard_counts_beyond_what_is_a_shards_own() {
    let mut worlds = two(|config| {
        config.limits.max_memory_bytes = 400_000;
        config.limits.enforce_sources = Enforce::Off;
    });
    let [here, there] = &mut worlds;
    let (greedy, modest) = (here.join(), there.join());
    // Half of what is lent is in use here.
    here.backend_says(greedy.id, Flag::Data, &vec![7; 200_000]);
    assert_eq!(here.edge.pressure(), Pressure::None);
    assert_eq!(there.edge.pressure(), Pressure::None);
    // 200 kB are left for the other; 95 % of it is too much.
    there.backend_says(modest.id, Flag::Data, &vec![7; 150_000]);
    assert_eq!(there.edge.pressure(), Pressure::None);
    there.backend_says(modest.id, Flag::Data, &vec![7; 10_000]);
    assert_eq!(there.edge.pressure(), Pressure::Tight);
    here.hear(greedy.conn);
    assert_eq!(there.edge.pressure(), Pressure::None, "it was given back");
}
