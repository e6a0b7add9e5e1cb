//! The memory that the machine holds, and its reaction to pressure.

use super::*;
use crate::edge::memory::account::Pressure;

const MAX: usize = 1 << 20;

fn bounded() -> World {
    World::new(|config| {
        config.limits.max_memory_bytes = MAX;
        config.clients.missed_packets_buffer_size = 10_000;
        config.limits.enforce_sources = Enforce::Off;
    })
}

/// Fills the queues of members that do not read until exactly `percent` of the bound is held.
fn fill(world: &mut World, members: &[Member], percent: usize) {
    let share = MAX / 100 * percent / members.len();
    for member in members {
        world.backend_says(member.id, Flag::Data, &vec![0; share - 4]);
    }
}

#[test]
fn nothing_is_held_when_nothing_waits() {
    let mut world = bounded();
    let one = world.join();
    world
        .edge
        .handle_client_bytes(world.now, one.conn, &[9, 0, 0, 0, 1]);
    assert_eq!(world.edge.gauges().held_bytes, 5);
    world.edge.handle_client_bytes(world.now, one.conn, &[2; 8]);
    world.backend_says(one.id, Flag::Data, b"12345678");
    assert_eq!(world.edge.gauges().held_bytes, 13 + 9 + 12);
    world.backend_hears();
    world.hear(one.conn);
    assert_eq!(world.edge.gauges().held_bytes, 0);
}

#[test]
fn from_80_percent_the_bounds_of_clients_shrink_to_a_quarter() {
    let mut world = bounded();
    let members: Vec<Member> = (0..8).map(|_| world.join()).collect();
    let victim = world.join();
    fill(&mut world, &members, 79);
    world.backend_says(victim.id, Flag::Data, b"1");
    world.backend_says(victim.id, Flag::Data, &[0; 100]);
    assert_eq!(world.edge.read_budget(victim.conn), 64 * 1024);
    let gone = world.join();
    world.backend_says(gone.id, Flag::Data, &vec![0; MAX / 100]);
    assert_eq!(world.edge.pressure(), Pressure::Tight);
    assert_eq!(world.edge.read_budget(victim.conn), 16 * 1024);
    assert!(world.backend_hears().is_empty());
    // A quarter of 1 MiB would have room for it, but more than that is queued for this client.
    world.backend_says(members[0].id, Flag::Data, &vec![0; 160 * 1024]);
    assert_eq!(
        world.backend_hears(),
        [failure(members[0].id, "send queue full")]
    );
}

#[test]
fn from_90_percent_no_session_begins_but_clients_come_back() {
    let mut world = bounded();
    let members: Vec<Member> = (0..8).map(|_| world.join()).collect();
    let mut one = world.join();
    fill(&mut world, &members, 91);
    let conn = world.accept();
    let key = KeyPair::generate(&mut world.rng).public();
    world.say(conn, Handshake::ProtocolVersion(2));
    world.say(conn, Handshake::PubKey(key.as_bytes()));
    assert!(world.is_closed(conn));
    assert_eq!(world.come_back(&mut one), [ping()]);
}

#[test]
fn from_95_percent_the_largest_fail_first() {
    let mut world = bounded();
    let members: Vec<Member> = (0..8).map(|_| world.join()).collect();
    let large = world.join();
    world.backend_says(large.id, Flag::Data, &vec![0; 300 * 1024]);
    fill(&mut world, &members, 65);
    assert!(world.backend_hears().is_empty());
    world.backend_says(members[0].id, Flag::Data, b"one more");
    world.backend_says(members[1].id, Flag::Data, &vec![0; 8 * 1024]);
    assert_eq!(world.backend_hears(), [failure(large.id, "memory limit")]);
    assert_eq!(world.edge.client_close(large.conn), Some(CloseKind::Abort));
    assert_eq!(world.edge.pressure(), Pressure::None);
}

#[test]
fn unfinished_frames_count_as_well() {
    let mut world = World::new(|config| {
        config.limits.max_memory_bytes = 100 * 1024;
        config.limits.enforce_sources = Enforce::Off;
    });
    let members: Vec<Member> = (0..10).map(|_| world.join()).collect();
    for member in &members {
        let mut bytes = (1u32 << 20).to_le_bytes().to_vec();
        bytes.resize(world.edge.read_budget(member.conn).min(20 * 1024), 0);
        world
            .edge
            .handle_client_bytes(world.now, member.conn, &bytes);
        assert!(world.edge.gauges().held_bytes < 100 * 1024);
    }
    assert!(members.iter().any(|member| world.is_closed(member.conn)));
    world.edge.audit();
}

#[test]
fn in_report_mode_pressure_is_counted_only() {
    let mut world = World::new(|config| {
        config.limits.max_memory_bytes = 1000;
        config.limits.enforce_memory = Enforce::Report;
    });
    let one = world.join();
    world.backend_says(one.id, Flag::Data, &[0; 2000]);
    assert!(world.edge.counters().memory_over > 0);
    assert_eq!(world.edge.pressure(), Pressure::None);
    let two = world.join();
    assert_eq!(world.edge.read_budget(two.conn), 64 * 1024);
    assert_eq!(world.hear(one.conn).len(), 1);
}

#[test]
fn an_unfinished_frame_of_the_backend_makes_the_largest_fail() {
    let mut world = bounded();
    let one = world.join();
    world.backend_says(one.id, Flag::Data, &vec![0; 700 * 1024]);
    let mut begun = (1u32 << 20).to_le_bytes().to_vec();
    begun.resize(300 * 1024, 0);
    world.edge.handle_link_bytes(world.now, &begun);
    assert_eq!(world.backend_hears(), [failure(one.id, "memory limit")]);
    assert_eq!(world.edge.counters().memory_over, 1);
}

#[test]
fn as_many_fail_as_must_and_a_connection_only_where_it_holds_more() {
    let mut world = World::new(|config| {
        config.limits.max_memory_bytes = 100 * 1024;
        config.limits.enforce_sources = Enforce::Off;
        config.clients.channel_bytes = 1 << 20;
    });
    let hold = |world: &mut World, member: &Member, bytes: usize| {
        let mut begun = (1u32 << 20).to_le_bytes().to_vec();
        begun.resize(bytes, 0);
        world
            .edge
            .handle_client_bytes(world.now, member.conn, &begun);
    };
    let [unread, larger, equal, small] = [(); 4].map(|()| world.join());
    world.backend_says(unread.id, Flag::Data, &[0; 10 * 1024]);
    hold(&mut world, &larger, 40 * 1024);
    hold(&mut world, &equal, 12 * 1024);
    hold(&mut world, &small, 100);
    // Of 100 KiB the backend's next frame takes so much that more than one must end: the largest, then among equals the session.
    let mut begun = (1u32 << 20).to_le_bytes().to_vec();
    begun.resize(78 * 1024, 0);
    world.edge.handle_link_bytes(world.now, &begun);
    let closed = [&unread, &larger, &equal, &small].map(|one| world.is_closed(one.conn));
    assert_eq!(closed, [true, true, false, false]);
    assert_eq!(world.backend_hears(), [failure(unread.id, "memory limit")]);
    assert_eq!(world.edge.counters().memory_over, 2);
}

#[test]
fn a_source_has_a_bound_on_sessions_away_and_its_longest_gone_makes_room() {
    let mut world = World::new(|config| config.limits.sources.stale_sessions = 2);
    let mut members: Vec<Member> = (0..4).map(|_| world.join()).collect();
    for member in &members[..3] {
        world.leave(member.conn);
    }
    assert_eq!(
        world.backend_hears(),
        [failure(members[0].id, "too many stale clients")]
    );
    assert_eq!(world.come_back(&mut members[2]), [ping()]);
    world.leave(members[3].conn);
    assert_eq!(
        world.backend_hears(),
        [(members[2].id, Flag::Resumed, String::new())]
    );
    assert_eq!(world.edge.gauges().away, 2);
}

#[test]
fn sessions_that_never_exchanged_a_packet_make_room_first() {
    let mut world = World::new(|config| config.clients.max_stale_clients = 2);
    let members: Vec<Member> = (0..3).map(|_| world.join()).collect();
    world.send(members[0].conn, b"hello");
    world.backend_hears();
    for member in &members {
        world.leave(member.conn);
    }
    assert_eq!(
        world.backend_hears(),
        [failure(members[1].id, "too many stale clients")]
    );
}

#[test]
fn a_packet_that_waits_in_line_when_its_client_goes_counts_as_exchanged() {
    let mut world = World::new(|config| {
        config.clients.max_stale_clients = 1;
        config.master.channel_capacity = 1;
    });
    let (one, two, other) = (world.join(), world.join(), world.join());
    world.send(other.conn, b"fills the queue");
    world.send(one.conn, b"waits");
    world.leave(one.conn);
    world.leave(two.conn);
    assert!(
        world
            .backend_hears()
            .contains(&failure(two.id, "too many stale clients"))
    );
}

#[test]
fn an_idle_client_is_small() {
    let conn = size_of::<crate::edge::conns::conn::Conn>();
    let session = size_of::<crate::edge::sessions::Session>();
    assert!(conn <= 152 && session <= 136, "{conn} and {session} bytes");
    // One of version 3 has these two beside them, whose packets are numbered and sealed.
    let channel = size_of::<crate::v3::channel::Channel>();
    let numbered = size_of::<crate::edge::sessions::Numbered>();
    assert!(
        channel <= 168 && numbered <= 152,
        "{channel} and {numbered} bytes"
    );
}

#[test]
fn the_last_words_of_one_that_ended_keep_nobody_else_from_failing() {
    let mut world = World::new(|config| {
        config.limits.max_memory_bytes = MAX;
        config.clients.missed_packets_buffer_size = 10_000;
        config.limits.enforce_sources = Enforce::Off;
        config.master.channel_capacity = 1;
    });
    let talker = world.join();
    let members: Vec<Member> = (0..40).map(|_| world.join()).collect();
    // One packet fills the link, whose backend does not read. The next one waits with its client, which is then kicked.
    world.send(talker.conn, b"fills the link");
    world.send(talker.conn, &vec![0; 64 * 1024]);
    world.backend_says(talker.id, Flag::Kick, b"");
    assert!(world.edge.gauges().held_bytes > 64 * 1024);
    for member in &members {
        world.backend_says(member.id, Flag::Data, &vec![0; 30 * 1024]);
    }
    assert!(
        world.edge.gauges().held_bytes < MAX,
        "{} of {MAX} are held",
        world.edge.gauges().held_bytes
    );
}

/// Whether many packets come in one read of the link or in one read each, the same sessions end for the same reasons.
#[test]
fn one_read_of_the_link_does_what_a_read_for_each_packet_does() {
    for percent in (40..=96).step_by(4) {
        let run = |at_once: bool| {
            let mut world = World::new(|config| {
                config.limits.max_memory_bytes = MAX;
                config.limits.enforce_sources = Enforce::Off;
                config.master.channel_capacity = 1;
            });
            let talkers: Vec<Member> = (0..4).map(|_| world.join()).collect();
            let members: Vec<Member> = (0..8).map(|_| world.join()).collect();
            // The link takes one packet. Of the others' empty ones, 4 bytes each, 13 are held once they have ended.
            world.send(talkers[0].conn, b"fills the link");
            for talker in &talkers[1..] {
                let frames = [0; 64 * 1024];
                world
                    .edge
                    .handle_client_bytes(world.now, talker.conn, &frames);
            }
            fill(&mut world, &members, percent - 20);
            let mut packets = Vec::new();
            let mut say = |id, flag, data: &[u8]| {
                let mut bytes = Vec::new();
                Tagged { id, flag, data }.encode(&mut bytes);
                packets.push(bytes);
            };
            for (member, talker) in members.iter().zip(&talkers) {
                say(member.id, Flag::Data, &[0; 4 * 1024]);
                say(talker.id, Flag::Kick, b"");
                say(talker.id, Flag::Data, b"too late");
            }
            if at_once {
                packets = vec![packets.concat()];
            }
            for bytes in packets {
                world.edge.handle_link_bytes(world.now, &bytes);
            }
            let gauges = world.edge.gauges();
            world.edge.audit();
            (gauges, world.edge.counters().ended, world.backend_hears())
        };
        assert_eq!(run(true), run(false), "from {percent} %");
    }
}

/// A hundred thousand clients come, leave and expire: the tables are nearly as small as before (threat 14).
#[test]
fn memory_for_a_crowd_goes_with_it() {
    let mut world = World::new(|config| {
        let limits = &mut config.limits;
        limits.enforce_accepts = Enforce::Off;
        (limits.max_connections, limits.max_sessions) = (1 << 20, 1 << 20);
        config.clients.max_stale_clients = 1 << 20;
    });
    let stays = world.join();
    let key = KeyPair::generate(&mut world.rng).public();
    let crowd: Vec<ConnKey> = (0..100_000_u32)
        .map(|n| {
            let source = IpAddr::V4((0x0a00_0000 | n).into());
            let conn = world.edge.handle_accepted(world.now, source).unwrap();
            world.say(conn, Handshake::ProtocolVersion(2));
            world.say(conn, Handshake::PubKey(key.as_bytes()));
            conn
        })
        .collect();
    while world.edge.poll_client().is_some() {}
    let full = world.edge.table_capacities();
    assert!(full[..3].iter().all(|places| *places > 100_000), "{full:?}");
    for conn in crowd {
        world.leave(conn);
        while world.edge.poll_client().is_some() {}
    }
    world.wait(Duration::from_secs(3600));
    // The notices for the backend are more than the link holds at once.
    while world.edge.gauges().link_packets > 0 {
        let bytes = world.edge.link_output().concat().len();
        world.edge.handle_link_written(world.now, bytes);
    }
    assert_eq!(world.edge.gauges().sessions, 1);
    // Sources are forgotten a few at a time, when later ones arrive.
    for _ in 0..100_000 {
        if let Ok(conn) = world.edge.handle_accepted(world.now, SOURCE) {
            world.leave(conn);
        }
    }
    let left = world.edge.table_capacities();
    assert!(left.iter().all(|places| *places <= 8 * 1024), "{left:?}");
    world.send(stays.conn, b"still here");
    assert_eq!(world.backend_hears(), [data(stays.id, "still here")]);
}

/// Creates a world with a bound of 100 KiB, of which the backend's unfinished frame takes `bytes`.
fn pressed(bytes: usize, fill: impl FnOnce(&mut World)) -> World {
    let mut world = World::new(|config| {
        config.limits.max_memory_bytes = 100 * 1024;
        config.limits.enforce_sources = Enforce::Off;
    });
    fill(&mut world);
    let mut begun = (1u32 << 20).to_le_bytes().to_vec();
    begun.resize(bytes, 0);
    world.edge.handle_link_bytes(world.now, &begun);
    world.edge.audit();
    world
}

#[test]
fn a_connection_that_holds_more_than_any_session_fails_alone() {
    let mut world = pressed(50 * 1024, |world| {
        let (unread, larger) = (world.join(), world.join());
        world.backend_says(unread.id, Flag::Data, &[0; 10 * 1024]);
        let mut begun = (1u32 << 20).to_le_bytes().to_vec();
        begun.resize(40 * 1024, 0);
        world
            .edge
            .handle_client_bytes(world.now, larger.conn, &begun);
    });
    let gauges = world.edge.gauges();
    assert_eq!((gauges.sessions, gauges.away), (2, 1));
    assert_eq!(world.backend_hears(), []);
    assert_eq!(world.edge.counters().memory_over, 1);
}

#[test]
fn as_many_sessions_fail_at_once_as_must() {
    let mut world = pressed(60 * 1024, |world| {
        for _ in 0..3 {
            let one = world.join();
            world.backend_says(one.id, Flag::Data, &[0; 20 * 1024]);
        }
    });
    assert_eq!(world.edge.counters().memory_over, 2);
    assert_eq!(world.edge.gauges().sessions, 1);
    assert_eq!(world.backend_hears().len(), 2);
}

#[test]
fn a_client_that_took_most_of_its_queue_is_not_the_largest_any_more() {
    let mut world = pressed(50 * 1024, |world| {
        let (reads, unread) = (world.join(), world.join());
        for _ in 0..4 {
            world.backend_says(reads.id, Flag::Data, &[0; 16 * 1024]);
        }
        world.edge.handle_client_written(world.now, reads.conn, 53);
        let taken = 3 * (16 * 1024 + 4);
        world
            .edge
            .handle_client_written(world.now, reads.conn, taken);
        world.backend_says(unread.id, Flag::Data, &[0; 20 * 1024]);
        world.backend_says(unread.id, Flag::Data, &[0; 13 * 1024]);
    });
    let heard = world.backend_hears();
    assert_eq!(heard.len(), 1);
    let ended = heard[0].0;
    assert_eq!(world.edge.gauges().sessions, 1);
    assert!(world.edge.sessions.lookup(ended).is_none());
    let left = world.edge.sessions.live(0);
    assert_eq!(left.outbox.packets(), 1);
}

#[test]
fn a_session_that_failed_for_memory_is_gone_for_later_packets_of_the_same_read() {
    let mut world = World::new(|config| config.limits.max_memory_bytes = 100 * 1024);
    let (large, next) = (world.join(), world.join());
    world.backend_says(large.id, Flag::Data, &[0; 60 * 1024]);
    let mut bytes = Vec::new();
    for (id, data) in [(next.id, &[0; 36 * 1024][..]), (large.id, b"too late")] {
        let flag = Flag::Data;
        Tagged { id, flag, data }.encode(&mut bytes);
    }
    world.edge.handle_link_bytes(world.now, &bytes);
    assert_eq!(
        world.backend_hears(),
        [
            failure(large.id, "memory limit"),
            failure(large.id, UNKNOWN_CLIENT)
        ]
    );
}

/// Returns a world whose link is full, with a client that holds 5,000 empty packets in line and one that has not read `unread` bytes. The
/// packets take 20,000 bytes as they came, and 65,000 in their session's line.
fn two_large(unread: usize) -> (World, [Member; 2]) {
    let mut world = World::new(|config| {
        config.limits.max_memory_bytes = 100 * 1024;
        config.master.channel_capacity = 1;
        config.clients.write_timeout = Duration::from_secs(5);
    });
    let [filler, sender, reader] = [(); 3].map(|()| world.join());
    world.send(filler.conn, b"fills the link");
    world.backend_says(sender.id, Flag::Data, b"not taken");
    world.wait(Duration::from_secs(1));
    world.backend_says(reader.id, Flag::Data, &vec![0; unread]);
    let packets = vec![0; 5_000 * LENGTH_BYTES];
    let (now, conn) = (world.now, sender.conn);
    world.edge.handle_client_bytes(now, conn, &packets);
    assert_eq!(world.edge.gauges().sessions, 3);
    (world, [sender, reader])
}

fn is_held_below_the_bound(world: &World) -> bool {
    let gauges = world.edge.gauges();
    gauges.held_bytes < 100 * 1024 * 95 / 100 && gauges.held_bytes >= 65_000
}

#[test]
fn memory_that_the_end_of_a_connection_takes_is_given_back_at_once() {
    let (mut world, [sender, reader]) = two_large(60 * 1024);
    world.leave(sender.conn);
    assert!(is_held_below_the_bound(&world), "{:?}", world.edge.gauges());
    assert!(world.is_closed(reader.conn));
    assert_eq!(world.edge.counters().memory_over, 1);
}

#[test]
fn an_end_that_frees_nothing_is_followed_by_another() {
    let (mut world, [sender, reader]) = two_large(32_700);
    world.leave(sender.conn);
    assert_eq!(world.edge.counters().memory_over, 2);
    assert!(world.is_closed(reader.conn), "the second largest");
    assert!(is_held_below_the_bound(&world), "{:?}", world.edge.gauges());
}

#[test]
fn memory_that_a_deadline_takes_is_given_back_at_once() {
    let (mut world, [sender, reader]) = two_large(60 * 1024);
    world.wait(Duration::from_secs(4));
    assert!(world.is_closed(sender.conn), "its write timed out");
    assert!(is_held_below_the_bound(&world), "{:?}", world.edge.gauges());
    assert!(world.is_closed(reader.conn));
    assert_eq!(world.edge.counters().memory_over, 1);
}

#[test]
fn a_packet_that_waited_in_line_counts_as_exchanged_once_it_is_on_the_link() {
    let mut world = World::new(|config| {
        config.master.channel_capacity = 1;
        config.clients.max_stale_clients = 1;
    });
    let [first, one, other] = [(); 3].map(|()| world.join());
    world.send(first.conn, b"fills the link");
    world.send(one.conn, b"waits");
    assert_eq!(world.edge.gauges().waiting, 1);
    world.backend_hears();
    world.leave(one.conn);
    world.leave(other.conn);
    assert_eq!(
        world.backend_hears(),
        [failure(other.id, "too many stale clients")]
    );
}
