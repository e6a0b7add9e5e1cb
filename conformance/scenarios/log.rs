//! A log that nobody reads: a pager, a terminal after Ctrl-S, a log driver that hangs.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::Command;

use conformance::metrics::Metrics;
use conformance::{Backend, Client, Directory, Frames, Process, Signal};

use super::operation::free_place;

/// The number of connections that overflow every queue between an edge and a log that nobody reads. Each has lines at Debug, of which 1,000
/// a second of each kind are written.
const MANY: usize = 100_000;

/// A program whose standard error is a full pipe.
struct Unread {
    process: Process,
    directory: Directory,
}

impl Unread {
    fn start(directory: Directory, arguments: &[&str]) -> Unread {
        let program = super::PROGRAM.command(&directory, arguments);
        let mut shell = Command::new("sh");
        // It is opened for both directions, so that there is a reader that does not read. Whole pages fill it to the last byte.
        let fill = "mkfifo log && exec 3<>log && \
                    { dd if=/dev/zero of=log oflag=nonblock bs=4096 2>/dev/null; exec \"$0\" \"$@\" 2>&3 3>&-; }";
        shell
            .args(["-c", fill])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(directory.path());
        Unread {
            process: Process::start(shell),
            directory,
        }
    }

    /// Reads what filled the pipe. The log follows.
    fn read_log(&self) -> BufReader<File> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .open(self.directory.file("log"));
        let mut log = BufReader::new(file.expect("it is there"));
        let mut byte = [0];
        loop {
            log.read_exact(&mut byte).expect("the log begins");
            if byte[0] != 0 {
                return log;
            }
        }
    }
}

fn edge(backend: &Backend, more: &str) -> (Unread, SocketAddr) {
    let (directory, place) = (Directory::new(), free_place());
    directory.write(
        "connserver.toml",
        format!("general.log_level = \"Trace\"\ngeneral.shards = 2\n{more}"),
    );
    let (listen, master) = (place.to_string(), backend.address().to_string());
    let arguments = ["--listen", &listen, "--master", &master];
    (Unread::start(directory, &arguments), place)
}

#[test]
fn a_log_that_nobody_reads_stops_neither_clients_nor_the_link_nor_the_end() {
    let backend = Backend::bind();
    let (edge, place) = edge(&backend, "");
    for _ in 0..3 {
        let mut link = backend.accept();
        let mut clients: Vec<_> = (0..10).map(|_| Client::join(place)).collect();
        for client in &mut clients {
            client.send(b"here");
            link.expect_data(client.id(), b"here");
            link.send(client.id(), b"there");
            client.expect(b"there");
        }
        for client in clients {
            let back = client.leave().resume(place);
            link.expect_resumed(back.id());
        }
    }
    edge.process.signal(Signal::TERM);
    drop(backend);
    let finished = edge.process.end();
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn lines_that_found_no_room_are_counted_and_told_when_the_log_flows_again() {
    let backend = Backend::bind();
    let figures = free_place();
    let (edge, place) = edge(&backend, &format!("metrics.address = \"{figures}\"\n"));
    let _link = backend.accept();
    // The listener is there before the link, the metrics before both.
    let lost = || Metrics::of(figures).value("voltlane_log_lines_lost_total");
    assert_eq!(lost(), 0);
    let mut connections = 0;
    while lost() == 0 {
        assert!(connections < MANY, "{connections} lines find room");
        for _ in 0..500 {
            Frames::connect(place).write(b"GET / HTTP/1.1\r\n\r\n");
        }
        connections += 500;
    }
    let told = |line: &String| line.contains(" of the log lost: nobody took them in time");
    let mut lines = edge.read_log().lines().map_while(Result::ok);
    let line = lines.find(told).expect("it is told");
    let count = line.split_whitespace().nth(2).map(str::parse::<u64>);
    assert!(
        count.is_some_and(|count| count.is_ok_and(|count| count >= 1)),
        "{line}"
    );
    edge.process.signal(Signal::TERM);
    drop(backend);
    let finished = edge.process.end();
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn an_echo_backend_goes_on_as_well_and_a_refusal_is_an_end() {
    let place = free_place();
    let echo = Unread::start(Directory::new(), &["echo", "--listen", &place.to_string()]);
    let rig = conformance::Edge::start(super::PROGRAM, place, "");
    let mut client = Client::join(rig.address());
    client.send(b"hello");
    client.expect(b"hello");
    echo.process.signal(Signal::TERM);
    assert_eq!(echo.process.end().code, Some(0));
    rig.stop();
    let wrong = Unread::start(Directory::new(), &["--listen", "nonsense"]);
    assert_eq!(wrong.process.end().code, Some(2));
}

#[test]
fn refusals_by_a_limit_are_logged_with_its_key_once_in_a_while() {
    let rig = conformance::Rig::start(
        super::PROGRAM,
        "limits.exempt = []\nlimits.source_connections = 3\nlistener.versions = [2]\n",
    );
    let refused: Vec<_> = (0..40).map(|_| Frames::connect(rig.address())).collect();
    let line = rig.edge.expect_log("a limit was reached");
    assert!(line.contains("WARN"), "{line}");
    assert!(
        line.contains("limit=limits.source_connections count="),
        "{line}"
    );
    assert!(line.contains("listener.proxy_protocol"), "{line}");
    drop(refused);
    let log = rig.edge.log();
    rig.stop();
    // One per ten seconds: a machine that was suspended for that long may see another.
    assert!(
        log.matches("limits.source_connections count").count() <= 2,
        "{log}"
    );
}

/// Each of these limits of a client drops it. The operator reads the key.
#[test]
fn what_drops_a_client_is_logged_by_its_key() {
    let config = "limits.exempt = []\nclients.max_frame_bytes = 100\nclients.frame_timeout_secs = 1\n\
                  clients.idle_timeout_secs = 2\nclients.pace_packets_per_sec = 1\n\
                  clients.pace_packets_burst = 1\nclients.pace_patience_secs = 1\n";
    let conformance::Rig {
        edge,
        backend,
        mut link,
    } = conformance::Rig::start(super::PROGRAM, config);
    // What the client sends too fast is taken, so that nothing slows it down.
    let taker = std::thread::spawn(move || while link.try_recv().is_some() {});
    let join = || Client::join(edge.address());
    let (mut long, mut slow, _idle, mut fast) = (join(), join(), join(), join());
    long.send(&[7; 101]);
    slow.frames.write(&[2, 0, 0, 0, 1]);
    while fast.frames.try_write(&[1, 0, 0, 0, 7].repeat(100)).is_ok() {}
    for key in [
        "clients.max_frame_bytes",
        "clients.frame_timeout_secs",
        "clients.idle_timeout_secs",
        "clients.pace_packets_per_sec, clients.pace_bytes_per_sec",
    ] {
        let line = edge.expect_log(&format!("a limit was reached limit={key} count="));
        assert!(line.contains("WARN"), "{line}");
    }
    edge.signal(Signal::TERM);
    drop(backend);
    edge.expect_end(Some(0));
    taker.join().expect("the link ends");
}

#[test]
fn the_limits_of_the_process_are_logged_at_the_start() {
    let (_bound, master) = conformance::closed_port();
    let arguments = ["--listen", "127.0.0.1:0", "--master", &master.to_string()];
    let directory = Directory::new();
    directory.write(
        "connserver.toml",
        "general.shards = 1\nlimits.max_memory_bytes = 123_456_789\nmetrics.address = \"\"\n",
    );
    let command = super::PROGRAM.command_with_descriptors(100, &directory, &arguments);
    let edge = conformance::Edge::spawn(command);
    edge.expect_log(
        "limits of the process descriptors=100 max_connections=46 max_memory_bytes=123456789 shards=1",
    );
    edge.stop();
}
