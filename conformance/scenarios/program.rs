//! The program around the edge: its files, its arguments, its signals. (PRODUCT: configuration)

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;

use conformance::{
    Backend, Client, Directory, Edge, Frames, Incoming, Process, Signal, bytes_of, closed_port,
};

use super::rig;

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[test]
fn the_first_start_writes_a_configuration_that_the_next_one_reads() {
    let directory = Directory::new();
    let edge = Edge::spawn(super::PROGRAM.command(&directory, &LISTEN));
    edge.stop();
    let written = directory.read("connserver.toml").expect("written");
    for key in [
        "log_level",
        "channel_capacity",
        "stale_timeout_secs",
        "stale_reap_interval_secs",
        "max_stale_clients",
        "missed_packets_buffer_size",
    ] {
        assert!(written.contains(key), "{key}:\n{written}");
    }
    assert!(written.matches('#').count() > 20, "a comment on every key");
    let check = super::PROGRAM.run(&directory, &["check"]);
    assert_eq!(check.code, Some(0), "{check:?}");
    Edge::spawn(super::PROGRAM.command(&directory, &LISTEN)).stop();
    assert_eq!(directory.read("connserver.toml").expect("kept"), written);
}

#[test]
fn check_writes_nothing_and_shows_values_with_their_origin() {
    let directory = Directory::new();
    directory.write("connserver.toml", "clients.channel_capacity = 100\n");
    directory.write(".env", "VOLTLANE_CLIENTS_STALE_TIMEOUT_SECS=7\n");
    let mut command = super::PROGRAM.command(&directory, &["check", "--master", "10.0.0.1:9"]);
    command.env("VOLTLANE_MASTER_CHANNEL_CAPACITY", "55");
    let check = Process::start(command).end();
    assert_eq!(check.code, Some(0), "{check:?}");
    let line = |part: &str| {
        let mut lines = check.stdout.lines();
        let line = lines.find(|line| line.contains(part)).expect(part);
        line.to_owned()
    };
    for (key, value, origin) in [
        ("clients.channel_capacity", "100", "connserver.toml"),
        ("clients.stale_timeout_secs", "7", ".env"),
        (
            "master.channel_capacity",
            "55",
            "VOLTLANE_MASTER_CHANNEL_CAPACITY",
        ),
        ("master.address", "10.0.0.1:9", "--master"),
        // A default gives way to a smaller queue.
        (
            "clients.missed_packets_buffer_size",
            "50",
            "default 256, less because of other keys",
        ),
    ] {
        let line = line(key);
        assert!(line.contains(value) && line.contains(origin), "{line}");
    }
    assert!(!directory.file("edge.key").exists());
}

#[test]
fn arguments_go_before_the_environment_before_dot_env_before_the_file() {
    let directory = Directory::new();
    let rows = ["10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3", "10.0.0.4:4"];
    directory.write(
        "connserver.toml",
        format!("master.address = \"{}\"\n", rows[0]),
    );
    let effective = |arguments: &[&str], variable: Option<&str>| {
        let mut command = super::PROGRAM.command(&directory, arguments);
        command.envs(variable.map(|value| ("VOLTLANE_MASTER_ADDRESS", value)));
        let check = Process::start(command).end();
        assert_eq!(check.code, Some(0), "{check:?}");
        let mut lines = check.stdout.lines();
        let line = lines.find(|line| line.contains("master.address"));
        line.expect("every key").to_owned()
    };
    assert!(effective(&["check"], None).contains(rows[0]));
    directory.write(".env", format!("VOLTLANE_MASTER_ADDRESS={}\n", rows[1]));
    assert!(effective(&["check"], None).contains(rows[1]));
    assert!(effective(&["check"], Some(rows[2])).contains(rows[2]));
    let line = effective(&["check", "--master", rows[3]], Some(rows[2]));
    assert!(line.contains(rows[3]), "{line}");
}

/// All errors at once, each with its place and the remedy, and nothing starts.
#[test]
fn a_wrong_configuration_is_told_whole_and_nothing_starts() {
    let directory = Directory::new();
    directory.write(
        "connserver.toml",
        "[clients]\nchanel_capacity = 5\nstale_timeout_secs = -1\n[master]\naddress = \"nowhere\"\n",
    );
    for arguments in [&["check"][..], &["run"], &[]] {
        let finished = super::PROGRAM.run(&directory, arguments);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        for part in [
            "connserver.toml:2",
            "chanel_capacity",
            "channel_capacity",
            "connserver.toml:3",
            "stale_timeout_secs",
            "-1",
            "connserver.toml:5",
            "nowhere",
        ] {
            assert!(finished.stderr.contains(part), "{part}: {finished:?}");
        }
        assert!(!finished.stderr.contains("listening"), "{finished:?}");
    }
}

#[test]
fn a_configuration_that_is_no_file_is_refused_by_name() {
    let directory = Directory::new();
    fs::create_dir(directory.file("directory")).expect("new");
    symlink("nowhere", directory.file("dangling")).expect("new");
    directory.write("latin1", b"# caf\xe9\n");
    directory.write("toml", "[clients\n");
    // A missing file is written; here it cannot be.
    for name in ["missing/file", "directory", "dangling", "latin1", "toml"] {
        let listen = ["--listen", "127.0.0.1:0", "--config", name];
        let finished = super::PROGRAM.run(&directory, &listen);
        assert_eq!(finished.code, Some(2), "{name}: {finished:?}");
        assert!(finished.stderr.contains(name), "{name}: {finished:?}");
    }
}

#[test]
fn wrong_arguments_end_with_2_and_say_which() {
    let directory = Directory::new();
    for (arguments, says) in [
        (&["serve"][..], "serve"),
        (&["--lisen", "a:1"], "--lisen"),
        (&["--config"], "--config"),
        (&["connect"], "ADDR"),
        (&["connect", "nowhere"], "nowhere"),
        (&["demo", "--secs", "0"], "--secs"),
        (&["echo", "--listen", "x"], "--listen"),
        (&["--listen", "here"], "--listen"),
        (&["--master", "there"], "--master"),
    ] {
        let finished = super::PROGRAM.run(&directory, arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?}: {finished:?}");
        assert!(
            finished.stderr.contains(says),
            "{arguments:?}: {finished:?}"
        );
        assert_eq!(finished.stdout, "", "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"]] {
        let finished = super::PROGRAM.run(&directory, arguments);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert!(
            finished.stdout.contains(super::PROGRAM.name()),
            "{finished:?}"
        );
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    for command in ["run", "echo"] {
        let finished = super::PROGRAM.run(&Directory::new(), &[command, "--listen", &address]);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let says = format!("cannot listen on {address}: Address already in use");
        assert!(finished.stderr.contains(&says), "{finished:?}");
    }
}

#[test]
fn sigint_and_sigterm_end_it_in_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut rig = rig("");
        let mut client = rig.join();
        let mut unfinished = Frames::connect(rig.address());
        rig.edge.signal(signal);
        client.frames.expect_closed();
        unfinished.expect_closed();
        assert_eq!(rig.link.try_recv(), None, "no notices about that");
        rig.edge.expect_log(" ended");
        let told = rig.edge.log().matches("shutting down").count();
        assert_eq!(told, 1, "whatever the number of shards");
        rig.edge.expect_end(Some(0));
    }
}

#[test]
fn queued_packets_are_handed_over_at_the_end() {
    const PACKETS: u64 = 40;
    let mut rig = rig("general.shutdown_timeout_secs = 60\nclients.channel_bytes = 67_108_864\n");
    let mut slow = Client::join_over(Frames::connect_narrow(rig.address(), 4_096));
    slow.send(b"here");
    rig.link.expect_data(slow.id(), b"here");
    for n in 0..PACKETS {
        rig.link.send(slow.id(), &bytes_of(n, 500_000));
    }
    // The edge has everything once it has answered what came later.
    rig.fence();
    rig.edge.signal(Signal::TERM);
    rig.edge.expect_log("shutting down");
    for n in 0..PACKETS {
        slow.expect(&bytes_of(n, 500_000));
    }
    slow.frames.expect_fin();
    rig.edge.expect_end(Some(0));
}

#[test]
fn packets_for_the_backend_are_handed_over_at_the_end() {
    const PACKETS: u64 = 20;
    let backend = Backend::bind();
    backend.narrow(4_096);
    let config = "general.shutdown_timeout_secs = 60\n";
    let edge = Edge::start(super::PROGRAM, backend.address(), config);
    let mut link = backend.accept();
    let mut client = Client::join(edge.address());
    let id = client.id();
    for n in 0..PACKETS {
        client.send(&bytes_of(n, 500_000));
    }
    // It was all taken once the edge has seen the end behind it.
    client.frames.finish();
    client.frames.expect_fin();
    edge.signal(Signal::TERM);
    edge.expect_log("shutting down");
    for n in 0..PACKETS {
        link.expect_data(id, &bytes_of(n, 500_000));
    }
    assert_eq!(link.try_recv(), None);
    edge.expect_end(Some(0));
}

/// A client that does not read can delay the end only up to its bound, and a second signal not even that long.
#[test]
fn a_second_signal_ends_it_at_once() {
    let mut rig = rig("general.shutdown_timeout_secs = 3600\nclients.channel_bytes = 67_108_864\n");
    let slow = Client::join_over(Frames::connect_narrow(rig.address(), 4_096));
    for n in 0..40 {
        rig.link.send(slow.id(), &bytes_of(n, 500_000));
    }
    rig.fence();
    rig.edge.signal(Signal::TERM);
    rig.edge.expect_log("another signal ends it at once");
    rig.edge.signal(Signal::TERM);
    rig.edge.expect_end(Some(3));
}

/// `timeout` signals the process and then its group. Two of one kind may become one before they arrive, so they are different here.
#[test]
fn two_signals_at_once_end_it_in_order() {
    let rig = rig("");
    rig.edge.signal(Signal::INT);
    rig.edge.signal(Signal::TERM);
    rig.edge.expect_end(Some(0));
}

#[test]
fn the_end_has_a_bound() {
    let mut rig = rig("general.shutdown_timeout_secs = 1\nclients.channel_bytes = 67_108_864\n");
    let slow = Client::join_over(Frames::connect_narrow(rig.address(), 4_096));
    for n in 0..40 {
        rig.link.send(slow.id(), &bytes_of(n, 500_000));
    }
    rig.fence();
    rig.stop();
    drop(slow);
}

/// Even while the edge waits for its backend, or for a handshake.
#[test]
fn it_ends_in_order_in_the_middle_of_anything() {
    let mut rig = rig("");
    let session = rig.join().leave();
    let claimed = session.claim(rig.address());
    let connected = Frames::connect(rig.address());
    drop((rig.link, rig.backend));
    rig.edge.expect_log("backend");
    rig.edge.signal(Signal::TERM);
    for mut frames in [claimed.frames, connected] {
        assert!(!matches!(frames.incoming(), Incoming::Body(_)));
    }
    rig.edge.expect_end(Some(0));
}

/// The reader of the log has closed it, and the service goes on.
#[test]
fn a_closed_log_stops_nothing() {
    let backend = Backend::bind();
    let directory = Directory::new();
    directory.write("connserver.toml", "general.log_level = \"Debug\"\n");
    let master = backend.address().to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--master", &master];
    let edge = Edge::spawn(super::PROGRAM.command(&directory, &arguments));
    edge.close_log();
    let mut link = backend.accept();
    for _ in 0..20 {
        let mut client = Client::join(edge.address());
        client.send(b"here");
        link.expect_data(client.id(), b"here");
        client.leave();
    }
    edge.stop();
}

/// A start that lacks descriptors, at whatever point, is an error that says so. (BAD-INPUT G8)
#[test]
fn with_too_few_descriptors_a_start_fails_in_words() {
    let (_bound, master) = closed_port();
    let arguments = ["--listen", "127.0.0.1:0", "--master", &master.to_string()];
    let mut fails = 0;
    for descriptors in 8..40 {
        let directory = Directory::new();
        let command = super::PROGRAM.command_with_descriptors(descriptors, &directory, &arguments);
        let mut process = Process::start(command);
        let first = loop {
            let line = process.stderr("");
            if line.contains("listening") || line.contains("ERROR") {
                break line;
            }
        };
        if first.contains("listening") {
            process.signal(Signal::TERM);
        }
        let finished = process.end();
        match finished.code {
            Some(0) => {}
            Some(1) if finished.stderr.contains("Too many open files") => fails += 1,
            _ => panic!("{descriptors} descriptors: {finished:?}"),
        }
        assert!(!finished.stderr.contains("panicked"), "{finished:?}");
    }
    assert!((1..32).contains(&fails), "{fails} of 32");
}
