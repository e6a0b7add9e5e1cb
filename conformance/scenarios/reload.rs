//! SIGHUP: the configuration is read again. (SPEC 10.8; BAD-INPUT G1, G7)

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use conformance::{Backend, Client, Directory, Edge, Incoming, Link, Signal, bytes_of};
use voltlane_core::link::tagged::Flag;

const TAKEN: &str = "the configuration was read again and is in effect";
const SAME: &str = "nothing in effect changes";
const WRONG: &str = "the one in effect stays";
const CONFIG: &str = "connserver.toml";
/// Fewer than the log lets pass of one kind at once.
const RELOADS: u32 = 12;

/// An edge whose configuration can be rewritten.
struct Reloaded {
    directory: Directory,
    edge: Edge,
    link: Link,
}

impl Reloaded {
    fn start(config: &str) -> Reloaded {
        Reloaded::start_with(config, &[])
    }

    /// Like `start`, with additional environment variables.
    fn start_with(config: &str, environment: &[(&str, &str)]) -> Reloaded {
        let (directory, backend) = (Directory::new(), Backend::bind());
        directory.write(CONFIG, config);
        let master = backend.address().to_string();
        let arguments = ["--listen", "127.0.0.1:0", "--master", &master];
        let mut command = super::PROGRAM.command(&directory, &arguments);
        command.envs(environment.iter().copied());
        let edge = Edge::spawn(command);
        let link = backend.accept();
        Reloaded {
            directory,
            edge,
            link,
        }
    }

    /// Writes the configuration, reloads it, and waits for this line in the log.
    #[track_caller]
    fn reload(&mut self, config: impl AsRef<[u8]>, says: &str) -> String {
        self.directory.write(CONFIG, config);
        self.edge.signal(Signal::HUP);
        self.edge.next_log(says)
    }

    fn join(&self) -> Client {
        Client::join(self.edge.address())
    }

    /// Checks that a packet of this length is accepted, or ends the connection.
    #[track_caller]
    fn expect_taken(&mut self, client: &mut Client, length: usize) {
        client.send(&bytes_of(1, length));
        self.link.expect_data(client.id(), &bytes_of(1, length));
    }
}

#[test]
fn another_configuration_is_told_once_whatever_the_number_of_shards() {
    let base = "general.log_level = \"Debug\"\ngeneral.shards = 2\n";
    let mut running = Reloaded::start(base);
    running.reload(format!("{base}clients.max_frame_bytes = 1_000\n"), TAKEN);
    // By every shard, before it was logged.
    let log = running.edge.log();
    assert_eq!(log.matches("in effect").count(), 1, "{log}");
}

#[test]
fn live_keys_change_and_those_that_need_a_restart_are_named() {
    let mut running = Reloaded::start("clients.max_frame_bytes = 1_000\n");
    let mut stays = running.join();
    running.expect_taken(&mut stays, 1_000);
    let config = "clients.max_frame_bytes = 2_000\ngeneral.log_level = \"Debug\"\n\
                  general.key_file = \"edge.key\"\nlistener.backlog = 7\n";
    let line = running.reload(config, "need a restart");
    assert!(
        line.contains("general.key_file, listener.backlog"),
        "{line}"
    );
    let line = running.edge.next_log(TAKEN);
    assert!(
        line.contains("general.log_level, clients.max_frame_bytes"),
        "{line}"
    );
    assert!(!running.directory.file("edge.key").exists());
    running.expect_taken(&mut stays, 2_000);
    running.join();
    running.edge.next_log("DEBUG");
    // It repeats this until it is restarted, but does not log again what is in effect.
    running.reload(config, "need a restart");
    running.edge.next_log(SAME);
    // Back to the defaults.
    running.reload("[clients]\n", TAKEN);
    running.expect_taken(&mut stays, 1 << 20);
    stays.send(&vec![0; (1 << 20) + 1]);
    stays.frames.expect_closed();
    running.edge.stop();
}

#[test]
fn errors_are_logged_with_their_place_and_the_last_valid_configuration_stays() {
    let good = "clients.max_frame_bytes = 1_000\nclients.channel_capacity = 500\n";
    let mut running = Reloaded::start(good);
    let mut client = running.join();
    let wrong: [(&[u8], &str); 6] = [
        (b"clients.max_frame_bytes = -1\n", "connserver.toml:1"),
        (
            b"clients.max_frame_bytes = 2_000\n[clients\n",
            "connserver.toml:2",
        ),
        (b"# caf\xe9\n", CONFIG),
        (b"clients.max_frame_bites = 2_000\n", "max_frame_bites"),
        (
            b"clients.missed_packets_buffer_size = 20\nclients.channel_capacity = 10\n",
            "clients.missed_packets_buffer_size (20) is above",
        ),
        // A part of a number is a number.
        (b"clients.max_frame_bytes = 1", "is it being written?"),
    ];
    for (config, says) in wrong {
        running.reload(config, WRONG);
        running.edge.next_log(says);
        running.expect_taken(&mut client, 1_000);
    }
    // Half-written, cut at any point within a line.
    for cut in [1, 10, 26, 28, 35, 60] {
        running.reload(&good.as_bytes()[..cut], WRONG);
    }
    fs::remove_file(running.directory.file(CONFIG)).expect("it is there");
    running.edge.signal(Signal::HUP);
    running.edge.next_log("there is no such file");
    fs::create_dir(running.directory.file(CONFIG)).expect("nothing there");
    running.edge.signal(Signal::HUP);
    running.edge.next_log("this is a directory");
    fs::remove_dir(running.directory.file(CONFIG)).expect("it is there");
    running.reload(good, SAME);
    running.expect_taken(&mut client, 1_000);
    client.send(&bytes_of(2, 1_001));
    client.frames.expect_closed();
    running.edge.stop();
}

/// An editor or a shell has truncated the file, and is about to write it.
#[test]
fn an_emptied_file_is_not_the_wish_for_the_defaults() {
    let mut running = Reloaded::start("clients.max_frame_bytes = 1_000\n");
    let mut client = running.join();
    for emptied in ["", "\n", "# A comment that lines follow.\n"] {
        running.reload(emptied, WRONG);
        running.edge.next_log("neither a section nor a key");
        running.expect_taken(&mut client, 1_000);
    }
    client.send(&bytes_of(1, 1_001));
    client.frames.expect_closed();
    running.edge.stop();
}

#[test]
fn an_emptied_or_half_written_dotenv_is_not_the_wish_for_the_defaults() {
    let mut running = Reloaded::start("");
    let mut client = running.join();
    let mut reload = |dotenv: Option<&str>, says: &str| {
        let file = running.directory.file(".env");
        match dotenv {
            Some(text) => fs::write(file, text).expect("a file of our own"),
            None => fs::remove_file(file).expect("it is there"),
        }
        running.edge.signal(Signal::HUP);
        running.edge.next_log(says);
    };
    reload(Some("VOLTLANE_CLIENTS_MAX_FRAME_BYTES=1000\n"), TAKEN);
    for emptied in [Some(""), Some(" \n\n"), None] {
        reload(emptied, ".env: it is missing or empty");
    }
    // A part of a number is a number.
    let cut = "A=1\nVOLTLANE_CLIENTS_MAX_FRAME_BYTES=100";
    reload(Some(cut), ".env:2: does not end with a line break");
    // Whether other programs' lines have an end does not matter.
    reload(Some("VOLTLANE_CLIENTS_MAX_FRAME_BYTES=1000\nA=1"), SAME);
    running.expect_taken(&mut client, 1_000);
    client.send(&bytes_of(1, 1_001));
    client.frames.expect_closed();
    let file = running.directory.file(".env");
    fs::write(file, "# nothing\n").expect("a file of our own");
    running.edge.signal(Signal::HUP);
    running.edge.next_log(TAKEN);
    running.edge.stop();
}

/// In a container everything may be in the environment, and nothing can be written.
#[test]
fn without_a_file_at_the_start_none_is_needed_later() {
    let backend = Backend::bind();
    let master = backend.address().to_string();
    for config in [&[][..], &["--config", "/dev/null"]] {
        let directory = Directory::new();
        let arguments = [&["--listen", "127.0.0.1:0", "--master", &master], config].concat();
        let mut command = super::PROGRAM.command(&directory, &arguments);
        // Not even root can create a file there.
        command.current_dir("/proc");
        command.env("VOLTLANE_CLIENTS_MAX_FRAME_BYTES", "50");
        let mut edge = Edge::spawn(command);
        let mut link = backend.accept();
        for _ in 0..2 {
            edge.signal(Signal::HUP);
            edge.next_log(SAME);
        }
        let mut client = Client::join(edge.address());
        client.send(&[7; 50]);
        link.expect_data(client.id(), &[7; 50]);
        client.send(&[7; 51]);
        client.frames.expect_closed();
        edge.stop();
    }
}

/// The file that the first start writes contains only sections, and is complete.
#[test]
fn the_file_of_the_first_start_gives_the_defaults_back() {
    let backend = Backend::bind();
    let master = backend.address().to_string();
    let directory = Directory::new();
    let arguments = ["--listen", "127.0.0.1:0", "--master", &master];
    let mut edge = Edge::spawn(super::PROGRAM.command(&directory, &arguments));
    let _link = backend.accept();
    let written = directory.read(CONFIG).expect("written");
    let smaller = written.replace("#max_frame_bytes = 1048576", "max_frame_bytes = 50");
    for config in [&smaller, &written] {
        directory.write(CONFIG, config);
        edge.signal(Signal::HUP);
        edge.next_log(TAKEN);
    }
    edge.stop();
}

#[test]
fn the_environment_goes_before_the_file_as_at_the_start() {
    let variable = ("VOLTLANE_CLIENTS_MAX_FRAME_BYTES", "50");
    let mut running = Reloaded::start_with("clients.channel_capacity = 500\n", &[variable]);
    let mut client = running.join();
    running.reload("clients.max_frame_bytes = 1_000\n", TAKEN);
    running.expect_taken(&mut client, 50);
    client.send(&[0; 51]);
    client.frames.expect_closed();
    running.edge.stop();
}

/// Signals arrive faster than files are read. The last file is in effect in the end, and logged.
#[test]
fn several_at_once_end_with_the_last() {
    let mut running = Reloaded::start("");
    for bound in 1..=RELOADS {
        let config = format!("clients.max_frame_bytes = {bound}\n");
        let beside = running.directory.file("new");
        fs::write(&beside, config).expect("a file of our own");
        fs::rename(&beside, running.directory.file(CONFIG)).expect("the same directory");
        running.edge.signal(Signal::HUP);
        running.edge.signal(Signal::HUP);
    }
    // This configuration is read after all earlier ones.
    let last = "clients.max_frame_bytes = 30\nclients.channel_capacity = 9\n";
    running.reload(last, "clients.channel_capacity");
    let mut client = running.join();
    running.expect_taken(&mut client, 30);
    client.send(&[0; 31]);
    client.frames.expect_closed();
    running.edge.stop();
}

/// Bounds grow and shrink while clients send as fast as they can: nobody is dropped, and nothing is lost or out of order.
#[test]
fn a_flood_does_not_notice() {
    /// The number of packets of one client in flight.
    const AHEAD: u64 = 100;
    let wide = "clients.channel_capacity = 8192\nmaster.channel_capacity = 1000\n\
                clients.pace_packets_per_sec = 0\nclients.idle_timeout_secs = 0\n";
    let narrow = "clients.channel_capacity = 8000\nmaster.channel_capacity = 1\n\
                  clients.pace_packets_per_sec = 1_000_000\nclients.idle_timeout_secs = 3600\n";
    let mut running = Reloaded::start(wide);
    let address = running.edge.address();
    let (rounds, echo) = (AtomicU32::new(0), running.link);
    let flood = |rounds: &AtomicU32| {
        let mut client = Client::join(address);
        let mut sent = 0;
        while rounds.load(Ordering::Relaxed) < RELOADS || sent < AHEAD {
            client.send(&bytes_of(sent, 40));
            sent += 1;
            if sent > AHEAD {
                client.expect(&bytes_of(sent - AHEAD - 1, 40));
            }
        }
        for n in sent - AHEAD..sent {
            client.expect(&bytes_of(n, 40));
        }
        sent
    };
    thread::scope(|scope| {
        let echo = scope.spawn(|| echo.echo());
        let clients: Vec<_> = (0..3).map(|_| scope.spawn(|| flood(&rounds))).collect();
        for round in 0..RELOADS {
            let config = [narrow, wide][round as usize % 2];
            running.directory.write(CONFIG, config);
            running.edge.signal(Signal::HUP);
            running.edge.next_log(TAKEN);
            rounds.store(round + 1, Ordering::Relaxed);
        }
        let sent = clients.into_iter().map(|client| client.join());
        let sent: u64 = sent.map(|sent| sent.expect("all came back in order")).sum();
        running.edge.stop();
        assert_eq!(echo.join().expect("an echo"), sent);
    });
}

#[test]
fn another_backend_is_for_the_next_link() {
    let (directory, first, second) = (Directory::new(), Backend::bind(), Backend::bind());
    let config = |backend: &Backend| format!("master.address = \"{}\"\n", backend.address());
    directory.write(CONFIG, config(&first));
    let mut edge = Edge::spawn(super::PROGRAM.command(&directory, &["--listen", "127.0.0.1:0"]));
    let mut link = first.accept();
    let mut client = Client::join(edge.address());
    client.send(b"one");
    link.expect_data(client.id(), b"one");
    directory.write(CONFIG, config(&second));
    edge.signal(Signal::HUP);
    edge.next_log(TAKEN);
    // The current link continues.
    client.send(b"two");
    link.expect_data(client.id(), b"two");
    link.frames.finish();
    let mut link = second.accept();
    client.send(b"three");
    link.expect(client.id(), Flag::Data, b"three");
    client.frames.finish();
    assert_eq!(client.frames.incoming(), Incoming::Fin { unfinished: 0 });
    edge.stop();
}
