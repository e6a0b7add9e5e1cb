//! `run`: how it begins and ends.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Directory, Process};

#[test]
fn it_says_where_it_listens_and_ends_in_order() {
    for interrupts in [true, false] {
        let directory = Directory::new();
        let (edge, address) = Process::edge(&directory, "127.0.0.1:1");
        let mut edge = edge;
        TcpStream::connect(&address).expect("it listens before it says so");
        if interrupts {
            edge.interrupt()
        } else {
            edge.terminate()
        }
        edge.stderr("INFO ended");
        assert_eq!(edge.end(), (Some(0), String::new()));
        TcpStream::connect(&address).expect_err("nobody listens any more");
    }
}

#[test]
fn a_first_start_writes_the_configuration_and_the_next_reads_it() {
    let directory = Directory::new();
    drop(Process::edge(&directory, "127.0.0.1:1"));
    let file = directory.path().join("connserver.toml");
    let text = std::fs::read_to_string(&file).expect("written at the first start");
    std::fs::write(
        &file,
        text.replace("log_level = \"Info\"", "log_level = \"Debug\""),
    )
    .expect("changed");
    let (mut edge, address) = Process::edge(&directory, "127.0.0.1:1");
    TcpStream::connect(address).expect("it listens");
    edge.stderr("DEBUG");
}

#[test]
fn what_is_queued_is_handed_over_and_a_second_signal_does_not_wait_for_it() {
    let directory = Directory::new();
    directory.configure("[general]\nshutdown_timeout_secs = 3600\n");
    // A backend that accepts and reads nothing.
    let backend = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let (mut edge, address) = Process::edge(
        &directory,
        &backend.local_addr().expect("bound").to_string(),
    );
    let link = backend.accept().expect("the edge");
    let mut client = Process::start(&directory, &format!("connect {address}"));
    client.stderr("Connected");
    let line = "x".repeat(60_000);
    for _ in 0..200 {
        client.say(&line);
    }
    // Some of it is in the edge by then, and more than the sockets hold is not with the backend.
    edge.terminate();
    edge.stderr("shutting down");
    let asked = Instant::now();
    edge.terminate();
    assert_eq!(edge.end().0, Some(128 + 15));
    assert!(asked.elapsed() < Duration::from_secs(600));
    drop(link);
}

#[test]
fn a_start_that_cannot_be_is_an_error() {
    let directory = Directory::new();
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let holds = holder.local_addr().expect("bound");
    for command in ["run --listen", "echo --listen"] {
        let mut process = Process::start(&directory, &format!("{command} {holds}"));
        process.stderr(&format!(
            "ERROR cannot listen on {holds}: Address already in use"
        ));
        assert_eq!(process.end(), (Some(1), String::new()));
    }
    directory.configure("[master]\nrequired_at_start = true\n");
    let mut process = Process::start(&directory, "run --listen 127.0.0.1:0 --master 127.0.0.1:1");
    process.stderr("ERROR the backend 127.0.0.1:1 cannot be reached: Connection refused");
    assert_eq!(process.end(), (Some(1), String::new()));
}

#[test]
fn a_backend_that_must_be_there_is_used_from_the_first_connection_on() {
    let directory = Directory::new();
    directory.configure("[master]\nrequired_at_start = true\n");
    let (mut echo, backend) = Process::echo(&directory);
    let (edge, address) = Process::edge(&directory, &backend);
    echo.stderr("an edge is there");
    let mut client = Process::start(&directory, &format!("connect {address}"));
    client.say("hello");
    assert_eq!(client.next_line(), "hello");
    edge.terminate();
    assert_eq!(edge.end().0, Some(0));
    echo.terminate();
    echo.stderr("the edge is gone");
    assert_eq!(echo.end().0, Some(0));
}
