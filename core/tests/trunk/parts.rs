//! The parts of a process: what of its configuration is whose.

use core::num::NonZeroU8;
use core::time::Duration;

use voltlane_core::Time;
use voltlane_core::edge::{ClientsConfig, Closed, Edge, EdgeConfig, Enforce, SourceLimits};
use voltlane_core::keys::KeyPair;
use voltlane_core::trunk::Trunk;

use super::{A, B, MARK};

#[test]
fn bounds_on_all_clients_are_parted_rounded_up_and_what_means_any_number_stays_so() {
    let mut whole = EdgeConfig::default();
    whole.master.channel_capacity = 10;
    whole.master.channel_bytes = 9;
    whole.clients.max_stale_clients = 1;
    whole.limits.max_connections = 11;
    whole.limits.max_half_open = 12;
    whole.limits.max_sessions = 7;
    whole.limits.max_memory_bytes = 100;
    whole.limits.accept_rate = 2;
    whole.limits.accept_burst = 5;
    let part = whole.for_shard(B, 3);
    let limits = &part.limits;
    assert_eq!(
        (part.master.channel_capacity, part.master.channel_bytes),
        (4, 3)
    );
    assert_eq!(part.clients.max_stale_clients, 1);
    assert_eq!(
        (
            limits.max_connections,
            limits.max_half_open,
            limits.max_sessions,
            limits.max_memory_bytes
        ),
        (4, 4, 3, 34)
    );
    assert_eq!((limits.accept_rate, limits.accept_burst), (1, 2));
    assert_eq!((part.shard, part.shards), (B, 3));

    // 0 is "any number" of half-open connections, accepts and bytes, and "none" of stale clients, connections and sessions.
    let mut zero = EdgeConfig::default();
    zero.clients.max_stale_clients = 0;
    zero.limits.max_connections = 0;
    zero.limits.max_half_open = 0;
    zero.limits.max_sessions = 0;
    zero.limits.max_memory_bytes = 0;
    zero.limits.accept_rate = 0;
    let part = zero.for_shard(B, 3);
    assert_eq!(part.clients.max_stale_clients, 0);
    assert_eq!(
        (
            part.limits.max_connections,
            part.limits.max_half_open,
            part.limits.max_sessions,
            part.limits.max_memory_bytes,
            part.limits.accept_rate
        ),
        (0, 0, 0, 0, 0)
    );
}

#[test]
fn bounds_on_one_client_or_one_source_are_not_parted() {
    let whole = EdgeConfig::default();
    let part = whole.for_shard(A, 4);
    assert_eq!(part.limits.sources, SourceLimits::default());
    let clients = ClientsConfig {
        max_stale_clients: whole.clients.max_stale_clients,
        ..part.clients.clone()
    };
    assert_eq!(clients, whole.clients);
    assert_eq!(
        (
            part.limits.handshake_max_bytes,
            part.limits.challenges_per_session,
            part.limits.handshake_timeout,
            part.limits.enforce_accepts
        ),
        (
            whole.limits.handshake_max_bytes,
            whole.limits.challenges_per_session,
            whole.limits.handshake_timeout,
            Enforce::On
        )
    );
    assert_eq!(part.master.max_frame_bytes, whole.master.max_frame_bytes);
    assert_eq!(part.master.announce_all, whole.master.announce_all);
}

#[test]
fn a_shard_dials_as_soon_as_it_may_and_never_gives_up() {
    let keys = KeyPair::from_bytes(&[1; 32]).expect("a scalar in its range");
    let shards = NonZeroU8::new(2).expect("not zero");
    let config = EdgeConfig::default();
    let (trunk, mut edges): (Trunk, Vec<Edge>) =
        Trunk::with_shards(&config, &keys, shards, [5; 32]);
    assert_eq!((trunk.shards(), edges.len()), (2, 2));
    let edge = &mut edges[1];
    let mut now = Time::from_millis(7);
    for _ in 0..3 {
        assert!(edge.link_wants_connect(now));
        edge.handle_link_connecting(now);
        now = now + Duration::from_secs(1_000_000);
        edge.handle_timeout(now);
        assert!(!edge.link_wants_close());
        edge.handle_link_connected(now);
        assert_eq!(
            edge.link_output().concat(),
            MARK,
            "it has nothing to announce, and says so"
        );
        edge.handle_link_written(now, MARK.len());
        edge.handle_link_closed(now, Closed::Eof);
    }
}
