//! Bounds of what a host sends.

use super::*;
use crate::backend::BackendConfig;

/// SPEC 33.4(f).
#[test]
fn no_frame_is_longer_than_the_edge_takes() {
    const MOST: u32 = 200;
    let link = BackendConfig::default().with_max_send_bytes(MOST);
    let mut world = World::with(link.into()).now_granted();
    let ids: Vec<_> = (1..=60).map(ClientId::from_u64).collect();
    for &id in &ids {
        world.tell(joined(id));
    }
    let red = GroupId(7);
    for &id in &ids {
        world.host.add(red, id).expect("a group");
    }
    let data = [0; MOST as usize + 1];
    let max = MOST as usize;
    let too_long = |most: usize| {
        let (length, max) = (most + 1, most);
        Err(SendError::TooLong { length, max })
    };
    let fits = |most: usize| (&data[..most], &data[..most + 1]);
    let one = ids[0];

    let (longest, longer) = fits(max);
    assert!(world.host.send(one, longest).is_ok());
    assert_eq!(world.host.send(one, longer).map(drop), too_long(max));
    assert_eq!(world.host.send_volatile(one, longest), Ok(()));
    assert_eq!(world.host.send_volatile(one, longer), too_long(max));
    let (longest, longer) = fits(max - 1);
    assert!(world.host.send_latest(one, 1, longest).is_ok());
    let sent = world.host.send_latest(one, 1, longer);
    assert_eq!(sent.map(drop), too_long(max - 1));
    for left_out in [0, 1, MAX_LEFT_OUT] {
        let without = &ids[..left_out];
        let (longest, longer) = fits(max - 3 - 8 * left_out);
        for key in [None, Some(1)] {
            let sent = world.host.send_to_many(Some(red), without, key, longest);
            assert_eq!(sent, Ok(()));
            let sent = world.host.send_to_many(Some(red), without, key, longer);
            assert_eq!(sent, too_long(longest.len()));
        }
        let sent = world.host.send_volatile_to_many(None, without, longer);
        assert_eq!(sent, too_long(longest.len()));
    }
    let (count, max) = (MAX_LEFT_OUT + 1, MAX_LEFT_OUT);
    let sent = world.host.send_to_many(None, &ids[..count], None, b"");
    assert_eq!(sent, Err(SendError::TooManyLeftOut { count, max }));
    let text = "ä".repeat(MAX_TEXT_BYTES / 2);
    world.host.kick(one, 600, &text).expect("a kick");
    world.host.set_note(ids[1], &text);

    world.read();
    // Each group is made again for the next run.
    let mut grant = grant_of([0x78; 8], 0, 60);
    grant.continues = Some(RUN);
    world.reopen(encoded(&grant));
    for &id in &ids {
        world.tell(own(id));
    }
    world.read();
    assert!(world.frames.len() > 60);
    for body in &world.frames {
        assert!(body.len() <= MOST as usize + 9, "{} bytes", body.len());
        ToEdge::decode(body, all()).expect("well-formed");
    }
    let added = world.frames.iter().filter(|body| body[8] == 0x23);
    assert!(added.clone().any(|body| body.len() == MOST as usize + 9));
}

#[test]
fn an_edge_that_takes_no_ask_is_not_asked() {
    for (most, asks) in [(56, false), (57, true)] {
        let link = BackendConfig::default().with_max_send_bytes(most);
        let mut world = World::with(link.into());
        world.host.handle_connected(world.now);
        world.read();
        assert_eq!(world.asked.is_some(), asks);
    }
}
