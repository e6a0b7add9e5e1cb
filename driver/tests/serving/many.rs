//! Packets for groups, and for everybody.

use voltlane_driver::backend::{Everyone, GroupError, MAX_GROUPS_OF_SESSION};

use super::*;

/// Lets `count` clients join. Returns them in the order in which they speak, each with what it hears.
async fn crowd(backend: &mut Backend, count: usize) -> Vec<ClientId> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let (id, _) = speaks(backend).await;
        ids.push(id);
    }
    ids
}

/// Waits until everything that was sent has arrived.
async fn settle(backend: &Backend, id: ClientId, clock: &crate::support::Clock) {
    let last = backend.send(id, "end").await.expect("sent");
    backend.acknowledged(last).await.expect("taken");
    clock.sleep(Duration::from_millis(5)).await;
}

#[test]
fn a_group_gets_a_packet_each_and_others_nothing() {
    let mut setup = Setup::new(CUT);
    let mut backend = setup.backend();
    let heard: Vec<_> = (1..=4)
        .map(|seed| setup.speaker(seed, &[b"here"]))
        .collect();
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        let ids = crowd(&mut backend, 4).await;
        let (red, blue) = (backend.group("red"), backend.group("blue"));
        assert_eq!(red, backend.group("red"));
        assert_ne!(red, blue);
        for &id in &ids[..2] {
            backend.add(red, id).await.expect("a member");
        }
        backend.add(red, ids[1]).await.expect("a member already");
        backend.add(blue, ids[2]).await.expect("a member");
        let nobody = ClientId::from_u64(77);
        backend.add(blue, nobody).await.expect("passed over");
        assert_eq!(backend.members(blue), [ids[2]]);
        backend.send(red, "to red").await.expect("sent");
        backend.send(blue, "to blue").await.expect("sent");
        backend.send(Everyone, "to all").await.expect("sent");
        let but = Everyone.without(ids[0]).without(ids[3]);
        backend.send(but, "to two").await.expect("sent");
        backend
            .send_latest(red.without(ids[0]), 1, "to one")
            .await
            .expect("sent");
        backend.remove(red, ids[1]).await.expect("removed");
        backend.send_volatile(red, "to the last").expect("sent");
        backend
            .send(backend.group("nobody"), "to none")
            .await
            .expect("sent");
        for &id in &ids {
            settle(&backend, id, &clock).await;
        }
        let all: Vec<&[&[u8]]> = vec![
            &[b"to red", b"to all", b"to the last", b"end"],
            &[b"to red", b"to all", b"to two", b"to one", b"end"],
            &[b"to blue", b"to all", b"to two", b"end"],
            &[b"to all", b"end"],
        ];
        let mut all: Vec<Vec<_>> = all.iter().map(|one| one.to_vec()).collect();
        let mut heard: Vec<_> = heard.iter().map(|one| one.borrow().clone()).collect();
        all.sort();
        heard.sort();
        assert_eq!(heard, all);
        backend.kick(ids[0], 401, "").await.expect("a kick");
        while !matches!(next(&mut backend).await, Event::Ended { .. }) {}
        assert!(backend.members(red).is_empty(), "who ends leaves");
    });
}

#[test]
fn what_a_group_packet_may_leave_out_is_bounded_and_so_are_groups() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend();
    setup.speaker(1, &[b"here"]);
    setup.world.run(async {
        let id = crowd(&mut backend, 1).await[0];
        let mut but = Everyone.without(ClientId::from_u64(0));
        for number in 1..16 {
            but = but.without(ClientId::from_u64(number));
        }
        backend.send(but.clone(), "x").await.expect("at the bound");
        let (count, max) = (17, 16);
        let beyond = backend.send(but.without(id), "x").await;
        assert_eq!(beyond, Err(SendError::TooManyLeftOut { count, max }));
        for number in 0..MAX_GROUPS_OF_SESSION {
            let group = backend.group(number.to_string());
            backend.add(group, id).await.expect("a group");
        }
        let beyond = backend.add(backend.group("one more"), id).await;
        assert_eq!(beyond, Err(SendError::Group(GroupError::TooManyOfSession)));
    });
}

#[test]
fn a_packet_for_many_goes_to_all_or_waits() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend_with(small_queue(1_000));
    let heard: Vec<_> = (1..=5)
        .map(|seed| setup.speaker(seed, &[b"here"]))
        .collect();
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        let ids = crowd(&mut backend, 5).await;
        backend
            .send(Everyone, [1; 100])
            .await
            .expect("there is room");
        // With the first ones there is no room, and each is more than the whole queue.
        for number in 2..20 {
            backend.send(Everyone, [number; 300]).await.expect("sent");
        }
        settle(&backend, ids[0], &clock).await;
        let mut ends = 0;
        for heard in heard {
            let heard = heard.borrow();
            let numbers: Vec<_> = heard.iter().map(|data| data[0]).collect();
            ends += usize::from(numbers.contains(&b'e'));
            assert_eq!(numbers[..19], (1..20).collect::<Vec<u8>>());
        }
        assert_eq!(ends, 1);
    });
}
