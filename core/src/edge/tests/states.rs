//! Every state × every event, as a table for comparison with SPEC 8.2 and 8.3.
//!
//! `states.txt` records the machine's behaviour. When a change alters it, the test writes the new table to a file outside the source tree
//! and names that file. CONTRIBUTING.md says how to accept it.

use super::handover::apart;
use super::pace::storm;
use super::*;
use crate::edge::sessions::Place;
use crate::link::tagged::Flag;

/// A world with one connection in the state named, which concerns the session of `member`.
struct Scene {
    world: World,
    member: Member,
    conn: ConnKey,
    /// The right response to the connection's challenge, if it got one.
    answer: Vec<u8>,
}

const CONNECTION_STATES: [&str; 11] = [
    "PROXY",
    "VERSION",
    "KEY-OR-ID",
    "JOIN",
    "ELSEWHERE",
    "DELAY",
    "RESPONSE",
    "WAIT",
    "PING",
    "ESTABLISHED",
    "DRAINING",
];

fn scene(state: &str) -> Scene {
    let change = |config: &mut EdgeConfig| {
        config.clients.missed_packets_buffer_size = 4;
        if state == "PROXY" {
            behind_proxy(config);
        }
    };
    let mut world = match state {
        "JOIN" => storm(change),
        "ELSEWHERE" => apart(change),
        _ => World::new(change),
    };
    if state == "PROXY" {
        world.header = b"PROXY UNKNOWN\r\n";
    }
    let mut member = world.join();
    let mut answer = Vec::new();
    let conn = match state {
        "ESTABLISHED" => member.conn,
        "DRAINING" => {
            world.backend_says(member.id, Flag::Data, b"queued");
            world.backend_says(member.id, Flag::Kick, b"");
            member.conn
        }
        "PROXY" => world.edge.handle_accepted(world.now, SOURCE).unwrap(),
        "VERSION" => world.accept(),
        "KEY-OR-ID" | "JOIN" | "ELSEWHERE" | "DELAY" => {
            if state == "JOIN" {
                // No other session may begin in this window.
                for _ in 1..10 {
                    world.join();
                }
            }
            let conn = world.accept();
            world.say(conn, Handshake::ProtocolVersion(2));
            match state {
                "JOIN" => {
                    let key = KeyPair::generate(&mut world.rng);
                    world.say(conn, Handshake::PubKey(key.public().as_bytes()));
                }
                "ELSEWHERE" => {
                    let of_another_shard = ClientId::from_u64(1 << 56);
                    world.say(conn, Handshake::ClientId(of_another_shard));
                }
                "DELAY" => world.say(conn, Handshake::ClientId(member.id)),
                _ => {}
            }
            conn
        }
        _ => {
            if state == "WAIT" {
                for _ in 0..10 {
                    world.come_back(&mut member);
                }
            }
            let (conn, sealed) = world.claim(member.id);
            answer = world.answer(&member.keys, &sealed);
            if state != "RESPONSE" {
                world.say(conn, Handshake::ChallengeResponse(&answer));
            }
            conn
        }
    };
    if !matches!(state, "DRAINING") {
        world.hear(conn);
    }
    world.backend_hears();
    Scene {
        world,
        member,
        conn,
        answer,
    }
}

type Event = (&'static str, fn(&mut Scene));

fn frame(scene: &mut Scene, body: &[u8]) {
    scene.world.send(scene.conn, body);
}

const CONNECTION_EVENTS: [Event; 22] = [
    ("PROXY header", |s| {
        s.world
            .edge
            .handle_client_bytes(s.world.now, s.conn, b"PROXY UNKNOWN\r\n")
    }),
    ("ProtocolVersion(2)", |s| {
        s.world.say(s.conn, Handshake::ProtocolVersion(2))
    }),
    ("ProtocolVersion(4)", |s| {
        s.world.say(s.conn, Handshake::ProtocolVersion(4))
    }),
    ("PubKey, valid", |s| {
        let key = s.member.keys.public();
        s.world.say(s.conn, Handshake::PubKey(key.as_bytes()));
    }),
    ("PubKey, invalid", |s| {
        s.world.say(s.conn, Handshake::PubKey(&[5; 33]))
    }),
    ("ClientId", |s| {
        s.world.say(s.conn, Handshake::ClientId(s.member.id))
    }),
    ("Challenge", |s| {
        s.world.say(s.conn, Handshake::Challenge(&[1; 72]))
    }),
    ("Response, good", |s| {
        let answer = s.answer.clone();
        s.world.say(s.conn, Handshake::ChallengeResponse(&answer));
    }),
    ("Response, other", |s| {
        s.world.say(s.conn, Handshake::ChallengeResponse(&[1; 72]))
    }),
    ("Ping", |s| s.world.say(s.conn, Handshake::Ping)),
    ("any other frame", |s| frame(s, b"data")),
    ("empty frame", |s| frame(s, b"")),
    ("length above limit", |s| {
        s.world
            .edge
            .handle_client_bytes(s.world.now, s.conn, &[0xff; 4])
    }),
    ("handed over", |s| {
        if let Some(handover) = s.world.edge.take_handover(s.world.now, s.conn) {
            s.world.edge.discard_handover(s.world.now, handover);
        }
    }),
    ("1 ms passes", |s| s.world.wait(Duration::from_millis(1))),
    ("1 s passes", |s| s.world.wait(Duration::from_secs(1))),
    ("5 s pass", |s| s.world.wait(Duration::from_secs(5))),
    ("end of stream", |s| {
        s.world
            .edge
            .handle_client_closed(s.world.now, s.conn, Closed::Eof)
    }),
    ("transport failed", |s| {
        s.world
            .edge
            .handle_client_closed(s.world.now, s.conn, Closed::Error)
    }),
    ("packet down", |s| {
        s.world.backend_says(s.member.id, Flag::Data, b"down")
    }),
    ("kick", |s| {
        s.world.backend_says(s.member.id, Flag::Kick, b"")
    }),
    ("resumed elsewhere", |s| {
        s.world.wait(Duration::from_secs(2));
        if session_name(s) == "ENDED" {
            return;
        }
        let conn = s.conn;
        s.world.come_back(&mut s.member);
        s.world.wait(Duration::ZERO);
        s.conn = conn;
    }),
];

const SESSION_EVENTS: [Event; 9] = [
    ("connection ends", |s| s.world.leave(s.conn)),
    ("resume", |s| {
        s.world.come_back(&mut s.member);
    }),
    ("packet up", |s| frame(s, b"up")),
    ("packet down", |s| {
        s.world.backend_says(s.member.id, Flag::Data, b"down")
    }),
    ("packet down, no room", |s| {
        for _ in 0..=8192 {
            s.world.backend_says(s.member.id, Flag::Data, b"");
        }
    }),
    ("kick", |s| {
        s.world.backend_says(s.member.id, Flag::Kick, b"")
    }),
    ("failed attempt", |s| {
        let (conn, sealed) = s.world.claim(s.member.id);
        s.world.say(conn, Handshake::ChallengeResponse(&sealed));
    }),
    ("stale timeout", |s| s.world.wait(Duration::from_secs(315))),
    ("link lost", |s| {
        s.world.edge.handle_link_closed(s.world.now, Closed::Error)
    }),
];

fn connection_name(scene: &Scene) -> String {
    let Some(conn) = scene.world.edge.conns.find(scene.conn) else {
        return "gone".to_owned();
    };
    match conn.state() {
        State::Closed(kind) => format!("CLOSED {kind:?}"),
        state => state.stage().name().to_owned(),
    }
}

fn session_name(scene: &Scene) -> &'static str {
    let sessions = &scene.world.edge.sessions;
    match sessions
        .lookup(scene.member.id)
        .map(|index| sessions.live(index).place)
    {
        Some(Place::Attached(_)) => "ATTACHED",
        Some(Place::Away) => "AWAY",
        Some(Place::Ended) | None => "ENDED",
    }
}

fn said(scene: &mut Scene) -> String {
    let id = scene.member.id;
    let mut notices: Vec<String> = Vec::new();
    for (from, flag, text) in scene.world.backend_hears() {
        let whose = if from == id { "" } else { "another " };
        let line = if flag == Flag::Data {
            // The content of a frame does not matter once it is data.
            format!("{whose}Data, {} bytes", text.chars().count())
        } else {
            format!("{whose}{flag:?}({text:?})")
        };
        if notices.len() < 4 && notices.last() != Some(&line) {
            notices.push(line);
        }
    }
    notices.join(", ")
}

fn table() -> String {
    let mut table =
        String::from("CONNECTION: state + event => state, its session, what the backend hears\n");
    for state in CONNECTION_STATES {
        for (name, event) in CONNECTION_EVENTS {
            let mut scene = scene(state);
            event(&mut scene);
            let row = format!(
                "{state:<12} {name:<20} => {:<15} {:<9} {}",
                connection_name(&scene),
                session_name(&scene),
                said(&mut scene)
            );
            table.push_str(row.trim_end());
            table.push('\n');
        }
        table.push('\n');
    }
    table.push_str("SESSION: state + event => state, what the backend hears\n");
    for state in ["ATTACHED", "AWAY", "ENDED"] {
        for (name, event) in SESSION_EVENTS {
            let mut scene = scene("ESTABLISHED");
            match state {
                "AWAY" => scene.world.leave(scene.conn),
                "ENDED" => scene.world.backend_says(scene.member.id, Flag::Kick, b""),
                _ => {}
            }
            scene.world.backend_hears();
            if state == "ENDED" && name == "resume" {
                // There is no right response any more. A wrong one is the row "failed attempt".
                continue;
            }
            event(&mut scene);
            let row = format!(
                "{state:<12} {name:<20} => {:<9} {}",
                session_name(&scene),
                said(&mut scene)
            );
            table.push_str(row.trim_end());
            table.push('\n');
        }
        table.push('\n');
    }
    table
}

#[test]
fn the_state_table_is_as_reviewed() {
    let (table, reviewed) = (table(), include_str!("states.txt"));
    if table == reviewed {
        return;
    }
    let differs = |(now, then): &(&str, &str)| now != then;
    let (now, then) = table
        .lines()
        .zip(reviewed.lines())
        .find(differs)
        .unwrap_or(("other lines at the end", ""));
    panic!("first difference:\n  now  {now}\n  then {then}\nthe new table:\n{table}");
}
