//! The machines of a process, and how its configuration is divided.

use core::num::NonZeroU8;
use core::time::Duration;

use voltlane_core::Time;
use voltlane_core::edge::HasLink;
use voltlane_core::edge::trunk::{Batch, Trunk, Upward};
use voltlane_core::edge::{Closed, Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;

use super::{A, B};

#[test]
fn the_queue_to_the_backend_is_parted_rounded_up() {
    let mut whole = EdgeConfig::default();
    whole.master.channel_capacity = 10;
    whole.master.channel_bytes = 9;
    let part = whole.for_shard(B, 3);
    assert_eq!(
        (part.master.channel_capacity, part.master.channel_bytes),
        (4, 3)
    );
    assert_eq!((part.shard, part.shards), (B, 3));
}

#[test]
fn other_bounds_are_not_parted() {
    let whole = EdgeConfig::default();
    let part = whole.for_shard(A, 4);
    assert_eq!((part.limits, part.clients), (whole.limits, whole.clients));
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
        let output = edge.take_branch_output(now, &mut Batch::new());
        assert!(
            matches!(output, Some(Upward::Announced)),
            "it has nothing to announce, and says so"
        );
        edge.handle_link_closed(now, Closed::Eof);
    }
}
