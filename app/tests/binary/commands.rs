//! `connect`, `echo`, `demo`: what a person does.

use super::{Directory, Process};

/// Keeps what a client misses.
const HEALING: &str = "[clients]\nmissed_packets_buffer_size = 1000\n";

#[test]
fn lines_go_round_in_a_pipe() {
    let directory = Directory::new();
    let (_echo, backend) = Process::echo(&directory);
    let (_edge, address) = Process::edge(&directory, &backend);
    let mut client = Process::start(&directory, &format!("connect {address}"));
    for number in 0..10_000 {
        client.say(&number.to_string());
    }
    client.say("");
    client.say("the last one");
    client.end_of_input();
    for number in 0..10_000 {
        assert_eq!(client.next_line(), number.to_string());
    }
    assert_eq!(client.end(), (Some(0), "\nthe last one\n".to_owned()));
}

#[test]
fn a_person_drops_and_comes_back() {
    let directory = Directory::new();
    directory.configure(HEALING);
    let (_echo, backend) = Process::echo(&directory);
    let (_edge, address) = Process::edge(&directory, &backend);
    let mut client = Process::start(&directory, &format!("connect {address}"));
    let connected = client.stderr("Connected as ");
    let id = connected.rsplit(' ').next().expect("an id").to_owned();
    for round in 0..5 {
        client.say(&format!("before {round}"));
        assert_eq!(client.next_line(), format!("before {round}"));
        client.say("/drop");
        client.say(&format!("after {round}"));
        client.stderr("Dropped: dropped by this client; trying again in ");
        assert_eq!(client.stderr("Resumed as "), format!("Resumed as {id}"));
        assert_eq!(client.next_line(), format!("after {round}"));
    }
    assert_eq!(client.end(), (Some(0), String::new()));
}

#[test]
fn a_client_finds_its_edge_again_and_an_impostor_is_refused() {
    let directory = Directory::new();
    let (_echo, backend) = Process::echo(&directory);
    let (edge, address) = Process::edge(&directory, &backend);
    let mut client = Process::start(&directory, &format!("connect {address}"));
    client.stderr("Connected");
    edge.terminate();
    assert_eq!(edge.end().0, Some(0));
    client.stderr("Dropped: the edge closed the connection");
    client.stderr("Dropped: could not connect");
    // Without a key file the next edge at that address has another key.
    let _other = Process::start(
        &directory,
        &format!("run --listen {address} --master {backend}"),
    );
    client.stderr("Refused: the edge's public key is not the one");
    assert_eq!(client.end(), (Some(1), String::new()));
}

#[test]
fn an_edge_that_was_restarted_with_its_key_is_recognised() {
    let directory = Directory::new();
    directory.configure("[general]\nkey_file = \"edge.key\"\n");
    let (_echo, backend) = Process::echo(&directory);
    let (edge, address) = Process::edge(&directory, &backend);
    let mut client = Process::start(&directory, &format!("connect {address}"));
    client.stderr("Connected");
    edge.terminate();
    assert_eq!(edge.end().0, Some(0));
    let _again = Process::start(
        &directory,
        &format!("run --listen {address} --master {backend}"),
    );
    // It is the edge, and it knows no sessions of its former life.
    client.stderr("Refused: the edge does not know the session");
    assert_eq!(client.end(), (Some(1), String::new()));
}

#[test]
fn a_client_without_an_edge_says_what_it_could_not_send() {
    let directory = Directory::new();
    let mut client = Process::start(&directory, "connect 127.0.0.1:1");
    client.say("into the void");
    client.end_of_input();
    client.stderr("Dropped: could not connect; trying again in ");
    client.stderr("Ended with 1 packets not sent");
    assert_eq!(client.end(), (Some(1), String::new()));
}

#[test]
fn what_is_too_long_is_said_and_the_rest_goes_on() {
    let directory = Directory::new();
    let (_echo, backend) = Process::echo(&directory);
    let (_edge, address) = Process::edge(&directory, &backend);
    let mut client = Process::start(&directory, &format!("connect {address}"));
    client.say(&"x".repeat((1 << 20) + 1));
    client.stderr("Not sent: packet of 1048577 bytes, 1048576 allowed");
    let longest = "y".repeat(1 << 20);
    client.say(&longest);
    assert_eq!(client.next_line(), longest);
    assert_eq!(client.end(), (Some(0), String::new()));
}

#[test]
fn the_demo_runs_takes_visitors_and_ends_by_itself() {
    let directory = Directory::new();
    let mut demo = Process::start(&directory, "demo --secs 3");
    let invitation = demo.stdout("    ");
    let (_, address) = invitation.split_once(" connect ").expect("a command");
    let mut visitor = Process::start(&directory, &format!("connect {address}"));
    visitor.say("hello");
    assert_eq!(visitor.next_line(), "hello");
    assert!(
        demo.stdout("echo hello | ")
            .ends_with(&format!(" connect {address}"))
    );
    demo.stdout("1 s | ");
    let summary = demo.stdout("In 3.0 s 5 clients had ");
    assert!(!summary.contains(" 0 connections dropped"), "{summary}");
    assert!(!summary.contains("wrong"), "{summary}");
    assert_eq!(demo.end(), (Some(0), String::new()));
}

#[test]
fn the_demo_ends_with_a_summary_when_it_is_interrupted() {
    let directory = Directory::new();
    let mut demo = Process::start(&directory, "demo");
    demo.stdout("1 s | ");
    demo.interrupt();
    demo.stdout("5 clients had ");
    assert_eq!(demo.end(), (Some(0), String::new()));
    assert_eq!(
        std::fs::read_dir(directory.path())
            .expect("a directory")
            .count(),
        0,
        "it leaves nothing behind"
    );
}
