//! The metrics of an edge over HTTP.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use conformance::metrics::get;
use conformance::{Client, Directory, Edge, Frames, PATIENCE, Process, Signal};

use super::{METRICS, rig};

#[test]
fn numbers_move_with_what_happens_and_an_idle_edge_answers() {
    let mut rig = rig(METRICS);
    let address = rig.edge.metrics_address();
    let _ = rig.edge.expect_log("the backend is there");
    assert_eq!(get(address, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(address, "/readyz"), (200, "ok\n".to_owned()));
    let before = rig.edge.metrics();
    assert_eq!(before.value("voltlane_accepts_total"), 0);
    assert_eq!(before.value("voltlane_link_up"), 1);

    let mut client = Client::join(rig.address());
    rig.round_trip(&mut client, b"12345");
    let mut stranger = Frames::connect(rig.address());
    stranger.write(b"GET / HTTP/1.1\r\n\r\n");
    stranger.expect_closed();
    let after = rig.edge.metrics();
    for (series, expected) in [
        ("voltlane_accepts_total", 2),
        ("voltlane_closes_total{reason=\"frame_too_long\"}", 1),
        ("voltlane_sessions_started_total", 1),
        ("voltlane_sessions{state=\"attached\"}", 1),
        ("voltlane_sessions{state=\"away\"}", 0),
        ("voltlane_packets_total{direction=\"up\"}", 1),
        ("voltlane_packets_total{direction=\"down\"}", 1),
        ("voltlane_link_bytes_total{direction=\"in\"}", 13 + 5),
        ("voltlane_link_bytes_total{direction=\"out\"}", 13 + 5),
    ] {
        assert_eq!(after.value(series), expected, "{series}");
    }
    client.leave();
    rig.stop();
}

/// Half requests and silent connections delay neither the answer to a health check nor the shutdown.
#[test]
fn slow_scrapers_hold_up_neither_a_health_check_nor_the_end() {
    let rig = rig(METRICS);
    let address = rig.edge.metrics_address();
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(address).expect("it listens");
        if number % 2 == 0 {
            // It may have made room for another already.
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost:");
        }
        slow.push(stream);
    }
    let began = Instant::now();
    assert_eq!(get(address, "/healthz"), (200, "ok\n".to_owned()));
    // Each of them may stay for two seconds: one after the other they would take minutes.
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    rig.stop();
    drop(slow);
}

#[test]
fn an_edge_without_a_backend_is_well_and_not_ready() {
    let rig = rig(METRICS);
    let address = rig.edge.metrics_address();
    drop((rig.link, rig.backend));
    let _ = rig.edge.expect_log("the backend is gone");
    assert_eq!(get(address, "/healthz").0, 200);
    assert_eq!(
        get(address, "/readyz"),
        (503, "there is no backend\n".to_owned())
    );
}

/// SPEC 7.5(d), 7.6(i).
#[test]
fn an_edge_at_the_wrong_program_reports_it_and_is_not_ready_until_a_backend_speaks() {
    let mut rig = rig(METRICS);
    let address = rig.edge.metrics_address();
    let mut client = rig.join();
    rig.link = {
        // The link before was good. What another program sends on the next one is judged separately.
        drop(rig.link);
        rig.backend.accept()
    };
    rig.link
        .frames
        .write(b"HTTP/1.1 400 Bad Request\r\nServer: somebody\r\n\r\n");
    let line = rig.edge.expect_log("no backend is at master.address");
    assert!(
        line.contains("it speaks HTTP") && !line.contains("Bad Request"),
        "{line}"
    );
    let doubted = (
        503,
        "the program at master.address is no backend\n".to_owned(),
    );
    assert_eq!(get(address, "/readyz"), doubted);
    rig.link = rig.backend.accept();
    assert_eq!(get(address, "/readyz"), doubted);
    rig.round_trip(&mut client, b"a backend after all");
    assert_eq!(get(address, "/readyz"), (200, "ok\n".to_owned()));
    rig.stop();
}

#[test]
fn a_health_check_of_a_container_says_what_the_edge_says() {
    let rig = rig(METRICS);
    let _ = rig.edge.expect_log("the backend is there");
    let directory = Directory::new();
    let config = format!("metrics.address = \"{}\"\n", rig.edge.metrics_address());
    directory.write("connserver.toml", &config);
    let health = |arguments: &[&str]| {
        let ended = super::PROGRAM.run(&directory, &[&["health"], arguments].concat());
        (ended.code, ended.stdout + &ended.stderr)
    };
    let well = (Some(0), "ok\n".to_owned());
    assert_eq!(health(&[]), well);
    drop((rig.link, rig.backend));
    let _ = rig.edge.expect_log("the backend is gone");
    let name = super::PROGRAM.name();
    assert_eq!(
        health(&[]),
        (Some(1), format!("{name}: there is no backend\n"))
    );
    assert_eq!(health(&["--alive"]), well);
    rig.edge.stop();
    let (code, says) = health(&["--alive"]);
    assert_eq!(code, Some(1));
    assert!(says.contains(": no answer from 127.0.0.1:"), "{says}");
    directory.write("connserver.toml", "metrics.address = \"\"\n");
    let (code, says) = health(&[]);
    assert_eq!(code, Some(1));
    assert!(says.contains("metrics.address is empty"), "{says}");
    directory.write("connserver.toml", "metrics = 1\n");
    assert_eq!(health(&[]).0, Some(2));
}

/// Without a word about it there are metrics, as long as nobody else has their port. One that was asked for is demanded. Whoever asks for the
/// health of an edge is told if another one has the usual address.
#[test]
fn the_usual_address_of_the_metrics_gives_way_and_another_does_not() {
    const USUAL: &str = "127.0.0.1:42002";
    const GAVE_WAY: &str = "their usual address cannot be had";
    let backend = conformance::Backend::bind();
    let auto = "metrics.address = \"auto\"\n";
    let directory = Directory::new();
    directory.write("connserver.toml", auto);
    let listen = format!("unix:{}", directory.file("edge.sock").display());
    let master = backend.address().to_string();
    let arguments = ["--listen", &listen, "--master", &master];
    let first = Process::start(super::PROGRAM.command(&directory, &arguments));
    let has_it = format!(" metrics address={USUAL}");
    let line = first.first_line(|line| line.contains(&has_it) || line.contains(GAVE_WAY));
    let line = line.unwrap_or_else(|| panic!("{}", first.log()));
    if line.contains(GAVE_WAY) {
        // Another program of this machine has it, and may give it back at any time.
        assert!(line.contains("WARN") && line.contains(USUAL), "{line}");
    } else {
        let second = Edge::start(super::PROGRAM, backend.address(), auto);
        let line = second.expect_log(GAVE_WAY);
        assert!(line.contains("WARN") && line.contains(USUAL), "{line}");
        let health = |arguments: &[&str]| {
            let arguments = [&["health", "--alive"], arguments].concat();
            let ended = super::PROGRAM.run(&directory, &arguments);
            (ended.code, ended.stdout + &ended.stderr)
        };
        let own = health(&["--listen", &listen]);
        assert_eq!(own, (Some(0), "ok\n".to_owned()));
        let (code, says) = health(&["--listen", "127.0.0.1:1"]);
        assert_eq!(code, Some(1), "{says}");
        let edge = "the edge with listener.address = \"unix:";
        assert!(says.contains(edge), "{says}");
        second.stop();
    }
    drop(first);
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = other.local_addr().expect("bound");
    let config = format!("metrics.address = \"{taken}\"\n");
    directory.write("connserver.toml", config);
    let command = super::PROGRAM.command(&directory, &["--listen", "127.0.0.1:0"]);
    let finished = Process::start(command).end();
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    let says = format!("cannot serve metrics on {taken}");
    assert!(finished.stderr.contains(&says), "{}", finished.stderr);
}

/// Whoever changes the configuration by a tool learns from the metrics that the edge does not take it.
#[test]
fn a_configuration_that_is_refused_shows_until_a_good_one_is_read() {
    let backend = conformance::Backend::bind();
    let directory = Directory::new();
    let edge = Edge::start_in(super::PROGRAM, &directory, backend.address(), METRICS);
    let good = directory.read("connserver.toml").expect("it was written");
    let shows = |refused: u64| {
        let until = Instant::now() + PATIENCE;
        while edge.metrics().value("voltlane_config_refused") != refused {
            assert!(Instant::now() < until, "it is not {refused}");
        }
        edge.metrics()
            .value("voltlane_config_read_timestamp_seconds")
    };
    let first = shows(0);
    assert!(first > 1_700_000_000, "{first}");
    directory.write("connserver.toml", "nonsense\n");
    edge.signal(Signal::HUP);
    assert!(shows(1) >= first);
    directory.write("connserver.toml", good);
    edge.signal(Signal::HUP);
    shows(0);
    edge.stop();
}
