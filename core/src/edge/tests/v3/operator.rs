//! What an operator does to sessions of version 3 (SPEC 9.5(f), 9.8(e)).

use super::*;
use crate::link::v3::Kick;

#[test]
fn a_kick_by_hand_tells_its_code_and_its_text() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    world.down(&one, b"before");
    let kick = Kick {
        code: Code::from_u16(600).unwrap(),
        wait_ms: 7,
        text: "by hand",
    };
    let info = world.edge.inspect(one.id()).unwrap();
    assert_eq!((info.version, info.down.numbered), (3, 1));
    world.edge.handle_kick(world.now, one.id(), &kick).unwrap();
    let came = world.hear3(&mut one);
    assert_eq!(came[0], Came::Packet(1, b"before".to_vec()));
    assert_eq!(closed(&came).0, kick.code);
    assert_eq!(one.text, b"by hand");
    assert_eq!(world.backend_hears(), [failure(one.id(), "kicked")]);
}

#[test]
fn a_drain_asks_to_leave_and_refuses_newcomers_until_it_is_undone() {
    let mut world = world(|_| {});
    let mut one = world.join3();
    let within = Duration::from_secs(5);
    world.edge.handle_drain(world.now, Some(within));
    let came = world.hear3(&mut one);
    assert!(
        matches!(&came[..], [Came::GoAway(told)] if told.code == Code::GOING_AWAY && told.drain_ms == 5_000)
    );
    let (conn, _, heard) = world.hello();
    assert!(
        matches!(Packet::decode(&heard[0]), Ok(Packet::Busy(_))),
        "{heard:?}"
    );
    world.leave(conn);
    world.come_back3(&mut one).unwrap();
    // Asked again, it stays once that is undone.
    world.edge.handle_drain(world.now, Some(within));
    world.hear3(&mut one);
    world.edge.handle_drain(world.now, None);
    world.wait(2 * within);
    assert!(!world.is_closed(one.conn));
    world.join3();
}
