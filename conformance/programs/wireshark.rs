//! The dissector in `ops/wireshark`, by `tshark`, on captures of our own programs.

use std::path::Path;

use conformance::capture::Capture;
use conformance::examples;
use conformance::others::find;
use conformance::{Client, Directory, Edge, Process};

use super::start;

const CLIENT_PORT: u16 = 42_000;
const LINK_PORT: u16 = 42_001;
const SPEC: &str = include_str!("../../SPEC.txt");

/// What `tshark` says of a capture: a line a packet of ours, or the whole tree of each with `-V`.
fn shown(capture: &Capture, key_log: &Path, arguments: &[&str]) -> Option<String> {
    let directory = Directory::new();
    let file = directory.file("capture.pcap");
    capture.write(&file);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/wireshark/voltlane.lua");
    let script = format!("lua_script:{}", script.display());
    let file = file.display().to_string();
    let key_log = format!("voltlane.key_log:{}", key_log.display());
    let always = ["-X", &script, "-r", &file, "-o", &key_log];
    let filter = ["-Y", "voltlane or voltlane_link"];
    let mut command = find("tshark")?;
    // It reads and writes its preferences there.
    command.env("HOME", directory.path());
    let finished = start(command, &[&always[..], &filter, arguments].concat()).end();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let said = format!("{}{}", finished.stdout, finished.stderr);
    assert!(!said.contains("Lua Error"), "{said}");
    Some(finished.stdout)
}

#[track_caller]
fn expect(shown: &str, parts: &[&str]) {
    let mut rest = shown;
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else {
            panic!("\"{part}\" is not there, or not in its place, in\n{shown}");
        };
        rest = after;
    }
}

#[test]
fn a_session_of_each_version_and_the_link_are_shown() {
    for program in crate::PROGRAMS {
        let capture = Capture::default();
        let directory = Directory::new();
        let keys = directory.file("keys");
        let backend = capture.before(examples::chat(true), LINK_PORT);
        let config = "general.shards = 1\nmaster.protocol = \"3\"\n";
        let edge = Edge::start(program, backend, config);
        let door = capture.before(edge.address(), CLIENT_PORT);

        let mut john = Client::join(door);
        john.send(b"john");
        john.send(b"join room");
        // The answer shows that he is in.
        john.send(b"?");
        john.expect(b"! join ROOM, leave ROOM, or ROOM words in a room that you have joined");

        let address = door.to_string();
        let mut command = program.command(&directory, &["connect", &address]);
        command.env("VOLTLANE_KEY_LOG", &keys);
        let mut mary = Process::start(command);
        mary.stderr("Connected");
        mary.say("mary");
        mary.say("join room");
        john.expect(b"room * mary is here");
        mary.say("/drop");
        mary.stderr("Resumed as");
        mary.say("room after");
        john.expect(b"room mary: after");
        let mut john = john.leave().resume(door);
        john.send(b"room hello");
        mary.stdout("john: hello");
        mary.say("/quit");
        assert_eq!(mary.end().code, Some(0));
        john.expect(b"room * mary is gone: 304 said goodbye");
        edge.stop();

        let Some(lines) = shown(&capture, &keys, &[]) else {
            return;
        };
        let opened = cfg!(debug_assertions);
        let record = |items: &'static str| if opened { items } else { "record of" };
        expect(
            &lines,
            &[
                "down PubKey",
                "down ClientId",
                "up packet of 4 bytes",
                "up ProtocolVersion, up Hello",
                "down Welcome",
                record("packet of 4 bytes"),
                "up Claim",
                "down Answer",
                record("RESUMED: until"),
                "down Challenge",
                "up ChallengeResponse",
                record("CLOSE: code 0 (goodbye)"),
            ],
        );
        expect(&lines, &["ASK", "GRANT", "JOINED of"]);
        for part in [
            "GROUP_ADD of",
            "GROUP_SEND of",
            "AWAY of",
            "RESUMED of",
            "ENDED of",
        ] {
            expect(&lines, &[part]);
        }
        let trees = shown(&capture, &keys, &["-V"]).expect("it ran before");
        assert!(!trees.contains("Malformed"), "{trees}");
        assert_eq!(trees.contains("No key for this record"), !opened, "{trees}");
    }
}

/// Every frame of the link that SPEC.txt shows, with all of its fields.
#[test]
fn each_frame_of_the_link_is_shown() {
    let examples: Vec<(&str, Vec<u8>)> = SPEC
        .split("   [hex link-")
        .skip(1)
        .map(|block| {
            let (name, rest) = block.split_once(']').expect("a name");
            let lines = rest.lines().skip(1).take_while(|line| !line.is_empty());
            let pairs = lines.flat_map(str::split_whitespace);
            let bytes = pairs.map(|pair| u8::from_str_radix(pair, 16).expect("two digits"));
            (name, bytes.collect())
        })
        .collect();
    assert!(examples.len() > 20, "SPEC 38.3 has one of each");
    let capture = Capture::default();
    let said = examples.iter().map(|(_, bytes)| (true, bytes.as_slice()));
    capture.add(LINK_PORT, said);
    let Some(trees) = shown(&capture, Path::new("/nowhere"), &["-V"]) else {
        return;
    };
    assert!(!trees.contains("Malformed"), "{trees}");
    for (name, _) in &examples {
        let flag = match name.strip_prefix("data") {
            Some(_) => "DATA".to_owned(),
            None if *name == "ack" => "LINK_ACK".to_owned(),
            None if name.starts_with("ask") => "ASK".to_owned(),
            None => name.replace('-', "_").to_uppercase(),
        };
        expect(&trees, &[&format!("Kind: {flag}\n")]);
    }
    expect(
        &trees,
        &[
            "Kind: JOINED",
            "Version: 3",
            "Carriage: TLS (1)",
            "Address: 192.0.2.1",
            "Port: 5000",
        ],
    );
    expect(
        &trees,
        &[
            "Kind: ENDED",
            "Code: 302 (expired)",
            "Ledger up",
            "numbered: 3",
            "Ledger down",
            "Text: expired",
        ],
    );
    expect(&trees, &["Kind: GROUP_SEND", "Packet: 6869"]);
}

/// A capture that begins in the middle, is cut, or has nonsense in it, is shown as far as it can be.
#[test]
fn what_is_not_well_formed_is_named() {
    let capture = Capture::default();
    let rows: &[(u16, &[u8])] = &[
        // A packet of the opening that is none, and one that is cut.
        (CLIENT_PORT, b"\x01\0\0\0\x09"),
        (CLIENT_PORT, b"\x02\0\0\0\x01\x03\x05\0\0\0\x10\0\0\0\0"),
        (CLIENT_PORT, b"\x02\0\0\0\x01\x02\x01\0\0\0\x03"),
        // A length that no receiver takes.
        (CLIENT_PORT, b"\xff\xff\xff\xff\0\0"),
        (LINK_PORT, b"\xff\xff\xff\xff\0\0"),
        // No tagged packet; a list that ends within an id; an ENDED without its ledger.
        (LINK_PORT, b"\x01\0\0\0\0"),
        (LINK_PORT, b"\x0b\0\0\0\x07\0\0\0\0\0\0\0\x23\x01\x02"),
        (LINK_PORT, b"\x0b\0\0\0\x07\0\0\0\0\0\0\0\x16\x01\x02"),
    ];
    for (port, bytes) in rows {
        capture.add(*port, [(true, *bytes)]);
    }
    let Some(trees) = shown(&capture, Path::new("/nowhere"), &["-V"]) else {
        return;
    };
    for part in [
        "This packet is not expected here",
        "Hello is too short",
        "The integer is cut",
        "A tagged packet has at least 9 bytes",
        "The list ends within an id",
        "ENDED is too short",
    ] {
        expect(&trees, &[part]);
    }
}
