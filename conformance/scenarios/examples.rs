//! The examples of the libraries, with an edge and people.

use conformance::{Client, Edge, PATIENCE, examples};

/// The backend receives packets in the order of sending only among clients of one shard.
const ORDERED: &str = "general.shards = 1\n";

/// The link to the backend has version 2, or version 3.
const BOTH: [bool; 2] = [false, true];

fn edge(backend: std::net::SocketAddr, asks: bool) -> Edge {
    let config = config(asks);
    Edge::start(super::PROGRAM, backend, &config)
}

fn config(asks: bool) -> String {
    let protocol = if asks { "3" } else { "2" };
    let healing = super::HEALING;
    format!("{ORDERED}{healing}master.protocol = \"{protocol}\"\nlistener.versions = [2, 3]\n")
}

#[test]
fn three_people_chat_in_rooms() {
    for asks in BOTH {
        people_chat(asks);
    }
}

fn people_chat(asks: bool) {
    let edge = edge(examples::chat(asks), asks);
    let mut ada = Client::join(edge.address());
    ada.send(b"Ada");
    ada.send(b"tea Anybody?");
    ada.expect(b"! join ROOM, leave ROOM, or ROOM words in a room that you have joined");
    ada.send(b"join tea");
    // She is alone, so her words are for those who come later.
    ada.send(b"tea Anybody?");
    let mut bob = Client::join(edge.address());
    bob.send(b"Bob");
    bob.send(b"join tea");
    ada.expect(b"tea * Bob is here");
    bob.expect(b"tea Ada: Anybody?");
    let mut eve = Client::join(edge.address());
    eve.send(b"Eve");
    eve.send(b"join mate");
    eve.send(b"join tea");
    ada.expect(b"tea * Eve is here");
    bob.expect(b"tea * Eve is here");
    eve.expect(b"tea Ada: Anybody?");

    // Bob's network fails, the others keep talking, and he misses nothing.
    let bob = bob.leave();
    ada.send(b"tea Where is he?");
    eve.expect(b"tea Ada: Where is he?");
    let mut bob = bob.resume(edge.address());
    bob.expect(b"tea Ada: Where is he?");
    bob.send(b"tea In a tunnel");
    ada.expect(b"tea Bob: In a tunnel");
    eve.expect(b"tea Bob: In a tunnel");

    eve.send(b"leave tea");
    ada.expect(b"tea * Eve has left");
    bob.expect(b"tea * Eve has left");
    bob.send(b"tea Only two");
    ada.expect(b"tea Bob: Only two");
    eve.send(b"mate I hear nothing");
    // The history of a room ends with its last member, and has at most 20 lines.
    for line in 0..30 {
        bob.send(format!("tea {line}").as_bytes());
        ada.expect(format!("tea Bob: {line}").as_bytes());
    }
    eve.send(b"join tea");
    for line in 10..30 {
        eve.expect(format!("tea Bob: {line}").as_bytes());
    }
}

/// Reads until a state has these places, in any order.
fn sees(player: &mut Client, state: &[u8]) {
    for _ in 0..1_000 {
        let seen = player.recv();
        let mut places: Vec<_> = seen.chunks(8).collect();
        places.sort_unstable();
        if places.concat() == state {
            return;
        }
    }
    panic!("{} never came", String::from_utf8_lossy(state));
}

#[test]
fn players_see_where_their_team_is() {
    for asks in BOTH {
        teams_play(asks);
    }
}

fn teams_play(asks: bool) {
    let edge = edge(examples::game(asks), asks);
    let [mut ada, mut bob, mut eve] = [b"ada.....", b"bob.....", b"eve....."].map(|place| {
        let mut player = Client::join(edge.address());
        player.send(place);
        // The game has a place for it from now on, in the team that is smaller.
        while !player.recv().chunks(8).any(|seen| seen == place) {}
        player
    });
    sees(&mut ada, b"ada.....eve.....");
    sees(&mut bob, b"bob.....");
    sees(&mut eve, b"ada.....eve.....");
    // The connection breaks. The player stays in the game, and sees it at once when it is back.
    let eve = eve.leave();
    ada.send(b"ada.2...");
    sees(&mut ada, b"ada.2...eve.....");
    let mut eve = eve.resume(edge.address());
    sees(&mut eve, b"ada.2...eve.....");
    // Who sends nonsense is out, for its team as well.
    eve.send(b"nonsense!");
    sees(&mut ada, b"ada.2...");
}

#[test]
fn players_on_smol_see_where_all_are() {
    for asks in BOTH {
        all_play(asks);
    }
}

fn all_play(asks: bool) {
    let edge = edge(examples::smol_game(asks), asks);
    let mut ada = Client::join(edge.address());
    ada.send(b"ada.....");
    sees(&mut ada, b"ada.....");
    let mut bob = Client::join(edge.address());
    bob.send(b"bob.....");
    sees(&mut bob, b"ada.....bob.....");
    sees(&mut ada, b"ada.....bob.....");
    bob.send(b"");
    sees(&mut ada, b"ada.....");
}

#[test]
fn devices_do_each_command_once_whatever_breaks() {
    for asks in BOTH {
        devices_work(asks);
    }
}

fn devices_work(asks: bool) {
    let fleet = examples::Fleet::start(asks);
    let edge = edge(fleet.address(), asks);
    fleet.order("pump", "open");
    let done = examples::Fleet::device(edge.address(), "pump");
    let next = || done.recv_timeout(PATIENCE).expect("it is done");
    assert_eq!(next(), "open");

    // A valve does what it is told, and breaks before it can say so. In the same session nothing comes again.
    let mut valve = Client::join(edge.address());
    valve.send(b"hello valve");
    fleet.order("valve", "shut");
    let row = valve.recv();
    assert_eq!(row, b"2 shut");
    let mut valve = valve.leave().resume(edge.address());
    valve.send(b"done 2");
    fleet.order("valve", "open");
    valve.expect(b"3 open");
    // Its session is lost with its memory, and so is what it would have said. The row comes again.
    drop(valve);
    let mut valve = Client::join(edge.address());
    valve.send(b"hello valve");
    valve.expect(b"3 open");
    valve.send(b"done 3");

    for command in ["shut", "open", "stop"] {
        fleet.order("pump", command);
        assert_eq!(next(), command);
    }
    assert!(
        done.recv_timeout(PATIENCE).is_err(),
        "it has stopped, and did nothing twice"
    );
    while fleet.open() > 0 {
        std::thread::yield_now();
    }
}
