//! The commands for people: `echo`, `connect`, `demo`.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use conformance::{Client, Directory, Edge, Finished, PATIENCE, Process, Signal, Terminal};
use rustix::process::{Pid, kill_process};

use super::PROGRAM;

/// An echo backend, an edge in front of it, and their directory.
struct Echo {
    echo: Edge,
    edge: Edge,
    directory: Directory,
}

impl Echo {
    fn start(config: &str) -> Echo {
        let directory = Directory::new();
        // It logs its address like an edge does.
        let echo = Edge::spawn(PROGRAM.command(&directory, &["echo", "--listen", "127.0.0.1:0"]));
        let edge = Edge::start_in(PROGRAM, &directory, echo.address(), config);
        Echo {
            echo,
            edge,
            directory,
        }
    }

    /// Starts a client of the edge.
    fn connect(&self) -> Process {
        let address = self.edge.address().to_string();
        PROGRAM.start(&self.directory, &["connect", &address])
    }

    /// Runs a client with this input, up to its end. After the end of its input it waits for only half a second. If the machine was
    /// suspended for longer and some of the echo is missing, another client retries.
    fn feed(&self, input: &[u8], comes_back: &str) -> Finished {
        let begin = Instant::now();
        loop {
            let mut client = self.connect();
            client.feed(input);
            let finished = client.end();
            let is_held_up = finished.stdout.len() < comes_back.len();
            if !is_held_up || begin.elapsed() >= PATIENCE {
                return finished;
            }
        }
    }

    /// Ends the edge and starts another one at its address, from the same directory.
    fn restart(self) -> Echo {
        let Echo {
            echo,
            edge,
            directory,
        } = self;
        let (listen, master) = (edge.address().to_string(), echo.address().to_string());
        edge.stop();
        let arguments = ["--listen", &listen, "--master", &master];
        let edge = Edge::spawn(PROGRAM.command(&directory, &arguments));
        Echo {
            echo,
            edge,
            directory,
        }
    }
}

#[test]
fn lines_go_out_as_packets_and_come_back_as_lines() {
    let echo = Echo::start("");
    let lines = "one\n\ntwo words\nlast, without an end\n";
    let finished = echo.feed(b"one\n\ntwo words\r\nlast, without an end", lines);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stdout, lines);
    assert!(finished.stderr.starts_with("Connected as "), "{finished:?}");
    echo.edge.stop();
    echo.echo.stop();
}

#[test]
fn a_long_pipe_comes_back_whole() {
    let echo = Echo::start("");
    let lines: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
    let finished = echo.feed(lines.as_bytes(), &lines);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stdout == lines, "{} bytes", finished.stdout.len());
}

#[test]
fn a_person_drops_and_comes_back() {
    let echo = Echo::start(super::HEALING);
    let mut client = echo.connect();
    let connected = client.stderr("Connected as ");
    let (_, connected) = connected.split_once("Connected as ").expect("an id");
    let (id, how) = connected.split_once(", ").expect("how");
    assert!(how.starts_with("encrypted; the edge's key is 0"), "{how}");
    for round in 0..5 {
        client.say(&format!("before {round}"));
        assert_eq!(client.next_line(), format!("before {round}"));
        client.say("/drop");
        client.say(&format!("after {round}"));
        client.stderr("Connection cut; trying again in ");
        let resumed = client.stderr("Resumed as ");
        assert!(
            resumed.starts_with(&format!("Resumed as {id}")),
            "{resumed}"
        );
        assert_eq!(client.next_line(), format!("after {round}"));
    }
    let finished = client.end();
    assert_eq!((finished.code, &*finished.stdout), (Some(0), ""));
}

const VERSION_2: &str = "listener.versions = [2]\n";

#[test]
fn a_client_finds_its_edge_again_and_an_impostor_is_refused() {
    let echo = Echo::start(VERSION_2);
    let mut client = echo.connect();
    client.stderr("Connected");
    // Without a key file the next edge at that address has another key.
    let _other = echo.restart();
    client.stderr("Dropped: the edge closed the connection");
    client
        .stderr("The session is over: 490 another edge key: the edge's public key is not the one");
    assert_eq!(client.end().code, Some(1));
}

/// It may be behind the same address as the edge that has the session, so a client of version 3 goes on asking while that may keep it.
#[test]
fn an_edge_that_does_not_have_the_session_says_so() {
    let echo = Echo::start("");
    let mut client = echo.connect();
    client.stderr("Connected");
    let _other = echo.restart();
    client.stderr("Dropped: the edge says: 206 not here; trying again in ");
    client.end();
}

#[test]
fn an_edge_that_was_restarted_with_its_key_is_recognised() {
    for (versions, says) in [(VERSION_2, "or the edge was restarted"), ("", "301 gone")] {
        let echo = Echo::start(&format!("general.key_file = \"edge.key\"\n{versions}"));
        let mut client = echo.connect();
        client.stderr("Connected");
        // One that has heard nothing would join again (SPEC 22(h)).
        client.say("hello");
        assert_eq!(client.next_line(), "hello");
        // It is the same edge, but it knows no sessions of its former run.
        let _again = echo.restart();
        let over = client.stderr("The session is over: 301 gone");
        assert!(over.ends_with(says), "{over}");
        assert!(!client.log().contains("violation"), "{}", client.log());
        assert_eq!(client.end().code, Some(1));
    }
}

#[test]
fn a_client_without_an_edge_reports_what_it_could_not_send() {
    let directory = Directory::new();
    let mut client = PROGRAM.start(&directory, &["connect", "127.0.0.1:1"]);
    client.feed(b"into the void\n");
    client.stderr("Could not connect: Connection refused (os error 111); trying again in ");
    client.stderr("Ended with 1 packet not sent");
    let finished = client.end();
    assert_eq!((finished.code, &*finished.stdout), (Some(1), ""));
}

#[test]
fn a_client_that_never_finds_its_edge_gives_up() {
    let tries = [
        ("127.0.0.1:1", "Connection refused"),
        ("no-such-host.invalid:1", "failed to lookup address"),
    ];
    // Their input stays open, so only the program itself can end. Both try at the same time.
    let clients = tries.map(|(address, _)| PROGRAM.start(&Directory::new(), &["connect", address]));
    for (client, (address, cause)) in clients.into_iter().zip(tries) {
        let gave_up = client.wait_for_log("Gave up after ");
        assert!(gave_up.contains(address), "{gave_up}");
        assert!(client.log().contains(cause), "{}", client.log());
        assert_eq!(client.end().code, Some(1));
    }
}

/// As `connect` in a script does, to see whether there is an edge.
#[test]
fn a_client_whose_input_ends_before_it_finds_its_edge_fails() {
    let client = PROGRAM.start(&Directory::new(), &["connect", "127.0.0.1:1"]);
    let finished = client.end();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let says = ": no edge answers at 127.0.0.1:1";
    assert!(finished.stderr.contains(says), "{finished:?}");
}

#[test]
fn a_person_asks_for_help_and_leaves() {
    let echo = Echo::start("");
    let mut client = echo.connect();
    client.say("/help");
    client.stderr("/drop");
    client.say("/quit");
    client.wait_for_end();
    let finished = client.end();
    assert_eq!((finished.code, &*finished.stdout), (Some(0), ""));
}

#[test]
fn a_line_that_begins_with_a_slash_is_a_command_or_not_sent() {
    let echo = Echo::start("");
    let mut client = echo.connect();
    for unknown in ["/helpless", "/drop now", "/", "/ two"] {
        client.say(unknown);
        let says = format!(
            "Not sent: {unknown} is not a command. The commands are /drop, /quit and /help;"
        );
        client.stderr(&says);
    }
    for packet in ["/helpless", "/drop", "/quit", "/", "//"] {
        client.say(&format!("/{packet}"));
        assert_eq!(client.next_line(), packet);
    }
    let finished = client.end();
    assert_eq!((finished.code, &*finished.stdout), (Some(1), ""));
    let log = &finished.stderr;
    assert!(!log.contains("Connection cut"), "{log}");
}

#[test]
fn a_client_that_was_kicked_is_told_so_as_far_as_its_version_knows() {
    let kicked = |config: &str| {
        let mut rig = super::rig(config);
        let address = rig.address().to_string();
        let mut client = PROGRAM.start(&Directory::new(), &["connect", &address]);
        client.stderr("Connected as ");
        client.say("hello");
        let id = rig.link.recv().id;
        rig.link.kick(id);
        let over = client.stderr("The session is over: ");
        assert!(!client.log().contains("violation"), "{}", client.log());
        client.wait_for_end();
        assert_eq!(client.end().code, Some(1));
        rig.stop();
        over
    };
    assert!(kicked("").ends_with("401 kicked"));
    // An edge of version 2 does not say why a session ended, so the message names every reason.
    let over = kicked(VERSION_2);
    assert!(over.contains("the backend has kicked its client"), "{over}");
}

#[test]
fn a_line_that_is_too_long_is_reported_and_the_rest_goes_on() {
    let echo = Echo::start("");
    let mut client = echo.connect();
    client.say(&"x".repeat((1 << 20) + 1));
    client.stderr("Not sent: packet of 1048577 bytes, 1048576 allowed");
    let longest = "y".repeat(1 << 20);
    client.say(&longest);
    assert!(client.next_line() == longest);
    assert_eq!(client.end().code, Some(1), "a packet was not sent");
}

#[test]
fn an_echo_backend_outlives_its_edge() {
    let echo = Echo::start("");
    echo.echo.expect_log("an edge is there");
    let echo = echo.restart();
    echo.echo.expect_log("the edge is gone");
    let mut client = echo.connect();
    client.say("hello");
    assert_eq!(client.next_line(), "hello");
    drop(client);
    echo.echo.stop();
}

#[test]
fn the_demo_runs_and_takes_visitors() {
    let directory = Directory::new();
    let mut demo = PROGRAM.start(&directory, &["demo"]);
    let invitation = demo.stdout(" connect ");
    let (_, address) = invitation.split_once(" connect ").expect("a command");
    // As printed, in another directory.
    let elsewhere = Directory::new();
    let mut shell = std::process::Command::new("sh");
    shell
        .current_dir(elsewhere.path())
        .args(["-c", invitation.trim()]);
    let mut visitor = Process::start(shell);
    visitor.say("hello");
    assert_eq!(visitor.next_line(), "hello");
    let second = demo.stdout("echo hello | ");
    assert!(second.ends_with(&format!(" connect {address}")), "{second}");
    // A pipe gets plain lines.
    let is_enough = |line: &str| {
        assert!(!line.contains('\u{1b}'), "{line}");
        number_before(line, " packets, ") > 50 && number_before(line, " back") > 0
    };
    let begin = Instant::now();
    while !is_enough(&demo.stdout(" s | ")) {
        assert!(begin.elapsed() < PATIENCE, "nothing happens in it");
    }
    demo.signal(Signal::INT);
    let summary = demo.stdout(" s, 5 clients had ");
    assert!(number_before(&summary, " packets echoed") > 50, "{summary}");
    assert!(number_before(&summary, "; clients back") > 0, "{summary}");
    assert!(summary.contains("echoed, encrypted."), "{summary}");
    assert!(
        summary.contains("packets lost: 0, sent twice: 0."),
        "{summary}"
    );
    assert!(summary.contains("Median time of a resume: "), "{summary}");
    assert!(!summary.contains("Faults"), "{summary}");
    assert_eq!(demo.end().code, Some(0));
}

/// Returns the number in front of these words.
fn number_before(text: &str, words: &str) -> u64 {
    let before = text.split(words).next().expect("text");
    let number = before.split_whitespace().next_back().expect("a number");
    number.replace(',', "").parse().expect("a number")
}

/// A browser plays with it in the tests of `sdk/js`.
#[test]
fn the_demo_serves_a_page() {
    let directory = Directory::new();
    let mut demo = PROGRAM.start(&directory, &["demo", "--web"]);
    let line = demo.stdout("Open http://");
    let site = line.split('/').nth(2).expect("a link").to_owned();
    let get = |path: &str| {
        let mut socket = TcpStream::connect(&site).expect("it listens");
        write!(socket, "GET {path} HTTP/1.1\r\nHost: {site}\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("it answers");
        answer
    };
    assert!(get("/").contains("A drawing that all share"));
    assert!(get("/voltlane.js").contains("export{"));
    assert!(get("/edge").contains("\r\n\r\nws://127.0.0.1:"));
    assert!(get("/other").starts_with("HTTP/1.1 404 "));
    demo.signal(Signal::INT);
    assert_eq!(demo.end().code, Some(0));
}

/// The demo kills one edge, and the test the same one once it is back.
#[test]
fn the_demo_kills_edges_and_their_clients_go_on_at_others() {
    let directory = Directory::new();
    let arguments = [
        "demo",
        "--edges",
        "3",
        "--kill-every",
        "4",
        "--secs",
        "3600",
    ];
    let mut demo = PROGRAM.start(&directory, &arguments);
    let first = demo.stdout(" is killed, with ");
    assert!(number_before(&first, " clients") >= 4, "{first}");
    let again = demo.stdout(" is started again");
    let process = number_before(&again, " is started again");
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), Signal::KILL).expect("it is ours");
    demo.stdout(" was killed by somebody else");
    demo.stdout(" is started again");
    demo.signal(Signal::INT);
    let summary = demo.stdout("12 clients had ");
    assert!(summary.contains("echoed, encrypted."), "{summary}");
    let killed = summary.rsplit_once("Edges killed: ").expect("a count").1;
    let killed: u64 = killed.trim_end_matches('.').parse().expect("a number");
    assert!(killed >= 2, "{summary}");
    let summary = demo.stdout("Connections dropped: ");
    let dropped = number_before(&summary, "; clients back");
    assert!(dropped >= 4, "{summary}");
    assert_eq!(number_before(&summary, ", at another edge"), dropped);
    assert!(
        number_before(&summary, "; packets lost: ") >= 4,
        "{summary}"
    );
    assert!(
        summary.ends_with("packets lost: 0, sent twice: 0."),
        "{summary}"
    );
    let times = demo.stdout("Time of a move, ");
    let (median, longest) = (
        number_before(&times, " ms in the median"),
        number_before(&times, " ms at the longest"),
    );
    assert!(0 < median && median <= longest, "{times}");
    assert_eq!(demo.end().code, Some(0));
}

/// An edge and a backend are killed by turns. Clients of the second edge are found at the backend to which their sessions went.
#[test]
fn the_demo_kills_edges_and_backends_and_nothing_is_lost_or_comes_twice() {
    let directory = Directory::new();
    let arguments = [
        "demo",
        "--edges",
        "3",
        "--backends",
        "2",
        "--kill-every",
        "4",
        "--secs",
        "3600",
    ];
    let mut demo = PROGRAM.start(&directory, &arguments);
    demo.stdout("2 backends that echo, and 12 clients that talk.");
    let edge = demo.stdout(" is killed, with ");
    assert!(edge.trim_start().starts_with("edge "), "{edge}");
    let backend = demo.stdout(" is killed, with ");
    assert!(backend.trim_start().starts_with("backend "), "{backend}");
    let sessions = number_before(&backend, " sessions");
    assert!(sessions >= 4, "{backend}");
    let edge = demo.stdout(" is killed, with ");
    assert!(edge.trim_start().starts_with("edge "), "{edge}");
    demo.stdout(" is started again");
    demo.signal(Signal::INT);
    let summary = demo.stdout("12 clients had ");
    assert!(
        summary.contains("Edges killed: 2. Backends killed: 1;"),
        "{summary}"
    );
    let moved = summary.trim_end_matches('.').rsplit(' ').next();
    let moved: u64 = moved.expect("a word").parse().expect("a number");
    assert!(moved >= sessions, "{summary}");
    let summary = demo.stdout("Connections dropped: ");
    assert!(
        summary.ends_with("packets lost: 0, sent twice: 0."),
        "{summary}"
    );
    assert_eq!(demo.end().code, Some(0));
}

/// An edge of a demo that was killed does not outlive it.
#[test]
fn the_edges_end_with_their_demo() {
    let directory = Directory::new();
    let arguments = ["demo", "--edges", "2", "--kill-every", "3600"];
    let mut command = PROGRAM.command(&directory, &arguments);
    // Its directory is not taken away.
    command.env("TMPDIR", directory.path());
    let mut demo = Process::start(command);
    let edge = demo.stdout("    edge 2, process ");
    let address = edge.split_once(", at ").expect("an address").1;
    let address: SocketAddr = address.parse().expect("an address");
    let mut client = TcpStream::connect(address).expect("it listens");
    demo.signal(Signal::KILL);
    client
        .set_read_timeout(Some(PATIENCE))
        .expect("it is positive");
    // What an edge says first, if it has, and then its end.
    let mut said = Vec::new();
    let ended = client.read_to_end(&mut said);
    let is_end = ended.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true);
    assert!(is_end, "it ends");
    let begin = Instant::now();
    while TcpStream::connect(address).is_ok() {
        assert!(begin.elapsed() < PATIENCE, "the edge is still there");
    }
}

#[test]
fn the_demo_ends_by_itself_when_its_time_is_over() {
    let directory = Directory::new();
    let begin = Instant::now();
    let mut demo = PROGRAM.start(&directory, &["demo", "--secs", "2"]);
    let summary = demo.stdout(" s, 5 clients had ");
    assert!(begin.elapsed() >= Duration::from_secs(2), "{summary}");
    assert!(!summary.contains("Faults"), "{summary}");
    assert_eq!(demo.end().code, Some(0));
}

#[test]
fn the_demo_ends_with_a_summary_when_it_is_interrupted() {
    let directory = Directory::new();
    let mut demo = PROGRAM.start(&directory, &["demo"]);
    demo.stdout(" s | ");
    demo.signal(Signal::INT);
    demo.stdout("5 clients had ");
    assert_eq!(demo.end().code, Some(0));
    let mut left = fs::read_dir(directory.path()).expect("a directory");
    assert!(left.next().is_none(), "it leaves nothing behind");
}

/// A person pressed Ctrl-S, and looks again after a while. The client takes what comes, and what is typed goes out.
#[test]
fn a_client_on_a_terminal_that_shows_nothing_goes_on() {
    let mut rig = super::rig("");
    let (terminal, directory) = (Terminal::new(), Directory::new());
    let address = rig.address().to_string();
    let program = PROGRAM.command(&directory, &["connect", &address]);
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", &format!("exec \"$0\" \"$@\" >{}", terminal.path())])
        .arg(program.get_program())
        .args(program.get_args());
    let mut client = Process::start(shell);
    client.say("first");
    let first = rig.link.recv();
    assert_eq!(first.data, b"first");
    // More than any terminal holds, and more than what waits for it.
    for _ in 0..1_000 {
        rig.link.send(first.id, &[b'x'; 1_000]);
    }
    rig.link.send(first.id, b"last");
    client.say("still here");
    rig.link.expect_data(first.id, b"still here");
    let finished = client.end();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    rig.stop();
}

/// A pipe that is full holds up what comes, and loses none of it.
#[test]
fn a_client_on_a_full_pipe_sends_on_and_prints_it_all_in_the_end() {
    let mut rig = super::rig("clients.channel_bytes = 8388608\n");
    let directory = Directory::new();
    let address = rig.address().to_string();
    let program = PROGRAM.command(&directory, &["connect", &address]);
    let mut shell = std::process::Command::new("sh");
    // Its reader begins when it is told to.
    let slow = "mkfifo go && { \"$0\" \"$@\" && echo ended >&2; } | { cat go; cat; }";
    shell
        .args(["-c", slow])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(directory.path());
    let mut client = Process::start(shell);
    client.say("first");
    let first = rig.link.recv();
    const PACKETS: usize = 2_000;
    for _ in 0..PACKETS {
        rig.link.send(first.id, &[b'x'; 1_000]);
    }
    client.say("still here");
    rig.link.expect_data(first.id, b"still here");
    fs::write(directory.file("go"), "").expect("somebody waits");
    let finished = client.end();
    assert_eq!(
        finished.stdout.len(),
        PACKETS * 1_001,
        "{}",
        finished.stderr
    );
    assert!(finished.stderr.ends_with("ended\n"), "{}", finished.stderr);
    rig.stop();
}

#[test]
fn the_demo_serves_and_ends_though_nobody_reads_it() {
    let directory = Directory::new();
    let program = PROGRAM.command(&directory, &["demo"]);
    let mut shell = std::process::Command::new("sh");
    // It is opened for both directions, so that there is always a reader.
    let unread = "mkfifo out && exec 3<>out && echo there && exec \"$0\" \"$@\" >&3 3>&-";
    shell
        .args(["-c", unread])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(directory.path());
    let mut demo = Process::start(shell);
    demo.stdout("there");
    let mut options = fs::OpenOptions::new();
    let out = options.read(true).write(true).open(directory.file("out"));
    let mut lines = BufReader::new(out.expect("it is there")).lines();
    let mut invitation = lines.by_ref().map(|line| line.expect("text"));
    let address = invitation.find_map(|line| Some(line.split_once(" connect ")?.1.to_owned()));
    let address = address.expect("an invitation").parse().expect("an address");
    // Full to the last byte.
    for block in ["bs=4096", "bs=1"] {
        let mut fill = std::process::Command::new("dd");
        fill.args(["if=/dev/zero", "of=out", "oflag=nonblock", block]);
        fill.current_dir(directory.path()).stderr(Stdio::null());
        fill.status().expect("there is a dd");
    }
    // It wants to print a line in each second.
    let begin = Instant::now();
    let mut visitor = Client::join(address);
    while begin.elapsed() < Duration::from_millis(2_500) {
        visitor.send(b"hello");
        visitor.expect(b"hello");
    }
    demo.signal(Signal::INT);
    assert_eq!(demo.end().code, Some(0));
}
