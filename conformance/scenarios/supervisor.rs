//! A service manager that is told how the process is. (sd_notify(3))

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use conformance::{Backend, Directory, Edge, Signal};

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
