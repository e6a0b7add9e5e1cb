//! A service manager that is told how the process is. (sd_notify(3))

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use conformance::{Backend, Client, Directory, Edge, Frames, Process, Signal};

/// A manager never waits longer for a message.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service manager with the process that it has started.
struct Manager {
    socket: UnixDatagram,
    edge: Edge,
    directory: Directory,
    backend: Backend,
}

impl Manager {
    fn start(watchdog: Option<Duration>, config: &str) -> Manager {
        let (directory, backend) = (Directory::new(), Backend::bind());
        let path: PathBuf = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        directory.write("connserver.toml", config);
        let master = backend.address().to_string();
        let arguments = ["--listen", "127.0.0.1:0", "--master", &master];
        let mut command = super::PROGRAM.command(&directory, &arguments);
        command.env("NOTIFY_SOCKET", &path);
        if let Some(time) = watchdog {
            command.env("WATCHDOG_USEC", time.as_micros().to_string());
        }
        let edge = Edge::spawn(command);
        Manager {
            socket,
            edge,
            directory,
            backend,
        }
    }

    /// Returns the next message.
    fn hear(&self) -> String {
        let mut message = [0; 4_096];
        let length = self.socket.recv(&mut message).expect("a message");
        String::from_utf8(message[..length].to_vec()).expect("text")
    }

    /// Waits for a message that begins with this line. Only messages about the state may come before it.
    fn expect(&self, line: &str) -> String {
        loop {
            let message = self.hear();
            if message
                .lines()
                .next()
                .is_some_and(|first| first.starts_with(line))
            {
                return message;
            }
            assert!(message.starts_with("STATUS="), "{message:?}, not {line:?}");
        }
    }
}

#[test]
fn a_manager_is_told_of_the_start_a_reload_and_the_end() {
    let manager = Manager::start(None, "general.shutdown_timeout_secs = 7\n");
    // The process was not ready before it listened.
    assert_eq!(manager.hear(), "READY=1\n");
    for reload in [
        "general.log_level = \"Debug\"\n",
        "",
        "general.log_level = 7\n",
    ] {
        manager.directory.write("connserver.toml", reload);
        manager.edge.signal(Signal::HUP);
        let began = manager.expect("RELOADING=1");
        assert!(began.contains("\nMONOTONIC_USEC="), "{began:?}");
        manager.expect("READY=1");
    }
    manager.edge.signal(Signal::TERM);
    let ends = manager.expect("STOPPING=1");
    assert!(ends.contains("\nEXTEND_TIMEOUT_USEC="), "{ends:?}");
    manager.edge.expect_end(Some(0));
}

#[test]
fn a_watchdog_hears_of_a_process_whose_loops_respond() {
    for shards in [1, 2] {
        let watchdog = Some(Duration::from_secs(1));
        let config = format!("general.shards = {shards}\nmetrics.address = \"127.0.0.1:0\"\n");
        let manager = Manager::start(watchdog, &config);
        manager.expect("READY=1");
        let _link = manager.backend.accept();
        let connected = loop {
            let state = manager.hear();
            assert!(state.ends_with("\nWATCHDOG=1\n"), "{state:?}");
            if state.starts_with("STATUS=connected to the backend") {
                break state;
            }
        };
        assert!(
            connected.contains("; 0 connections, 0 sessions"),
            "{connected:?}"
        );
        // Metrics are asked for by another thread at the same time.
        assert_eq!(manager.edge.metrics().sum("voltlane_connections"), 0);
        manager.edge.stop();
    }
}

/// Sockets of a service manager, which stay while the edge restarts.
struct Sockets {
    main: [TcpListener; 2],
    web: TcpListener,
    directory: Directory,
    backend: Backend,
}

impl Sockets {
    fn open() -> Sockets {
        let socket = || TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        Sockets {
            main: [socket(), socket()],
            web: socket(),
            directory: Directory::new(),
            backend: Backend::bind(),
        }
    }

    fn command(&self, config: &str) -> Command {
        self.directory.write("connserver.toml", config);
        let [first, second] = &self.main;
        let sockets = [
            ("main", first.as_fd()),
            ("web", self.web.as_fd()),
            ("main", second.as_fd()),
        ];
        let master = self.backend.address().to_string();
        let arguments = ["--master", &master];
        super::PROGRAM.command_with_sockets(&sockets, &self.directory, &arguments)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let all = self.main.iter().chain([&self.web]);
        all.map(|socket| socket.local_addr().expect("it is bound"))
            .collect()
    }
}

const BY_NAME: &str = "[[listener]]\nname = \"main\"\naddress = \"fd:main\"\n\
                       [[listener]]\nname = \"web\"\naddress = \"fd:web\"\n";

#[test]
fn sockets_of_a_manager_are_taken_by_name_and_no_client_is_refused_during_a_restart() {
    for shards in [1, 2] {
        let config = format!("general.shards = {shards}\n{BY_NAME}");
        let sockets = Sockets::open();
        let edge = Edge::spawn(sockets.command(&config));
        let mut link = sockets.backend.accept();
        for (address, name) in sockets.addresses().iter().zip(["main", "main", "web"]) {
            let line = edge.expect_log(&format!("listening address={address}"));
            assert!(line.ends_with(&format!("listener={name}")), "{line}");
            let mut client = Client::join(*address);
            client.send(b"by name");
            link.expect_data(client.id(), b"by name");
        }
        edge.signal(Signal::TERM);
        edge.expect_end(Some(0));
        // Nobody serves, and the manager's queue takes clients.
        let early: Vec<_> = sockets
            .addresses()
            .into_iter()
            .map(|address| Frames::new(TcpStream::connect(address).expect("it waits")))
            .collect();
        let again = Edge::spawn(sockets.command(&config));
        let _link = sockets.backend.accept();
        for frames in early {
            drop(Client::join_over(frames));
        }
        again.stop();
    }
}

#[test]
fn a_reload_takes_and_leaves_sockets_of_a_manager() {
    let sockets = Sockets::open();
    let [first, second, web] = sockets.addresses()[..] else {
        panic!("three sockets")
    };
    let edge = Edge::spawn(sockets.command("listener.address = \"fd:web\"\n"));
    let _link = sockets.backend.accept();
    let client = Client::join(web);
    for (config, place) in [
        ("listener.address = \"fd:main\"\n", first),
        ("listener.address = \"fd:web\"\n", web),
        (BY_NAME, second),
    ] {
        sockets.directory.write("connserver.toml", config);
        edge.signal(Signal::HUP);
        // Until then it waits in the queue.
        drop(Client::join(place));
    }
    drop(client.leave().resume(second));
    // A name that nobody gave: the listener in effect stays.
    sockets
        .directory
        .write("connserver.toml", BY_NAME.replace("fd:web", "fd:wbe"));
    edge.signal(Signal::HUP);
    edge.expect_log("the listener in effect stays");
    drop(Client::join(web));
    edge.stop();
}

#[test]
fn sockets_that_nobody_passed_or_that_are_no_listeners_are_named() {
    let sockets = Sockets::open();
    let ends = |command: Command, says: &str| {
        let finished = Process::start(command).end();
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(says), "{finished:?}");
    };
    let unknown = "cannot listen on fd:other: the service manager has passed no socket of this name, but \"main\", \"web\"";
    ends(
        sockets.command("listener.address = \"fd:other\"\n"),
        unknown,
    );
    let (directory, web) = (&sockets.directory, "listener.address = \"fd:web\"\n");
    directory.write("connserver.toml", web);
    ends(
        super::PROGRAM.command(directory, &[]),
        "cannot listen on fd:web: no service manager has passed sockets to this process",
    );
    let unix = UnixListener::bind(directory.path().join("socket")).expect("a socket");
    let quiet = TcpStream::connect(sockets.addresses()[0]).expect("it listens");
    for (socket, says) in [
        (unix.as_fd(), "the descriptor is no TCP socket"),
        (quiet.as_fd(), "the socket does not listen"),
    ] {
        let command = super::PROGRAM.command_with_sockets(&[("web", socket)], directory, &[]);
        ends(command, says);
    }
    // The variables promise more than is there.
    let mut command = super::PROGRAM.command_with_sockets(&[], directory, &[]);
    ends(
        command,
        "LISTEN_FDS is \"0\", which is no number from 1 to 64",
    );
    command = super::PROGRAM.command(directory, &["--master", "fd:web"]);
    let finished = Process::start(command).end();
    assert_eq!(finished.code, Some(2), "{finished:?}");
    let says = "only a listener takes sockets of a service manager";
    assert!(finished.stderr.contains(says), "{finished:?}");
}
