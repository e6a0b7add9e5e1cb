//! Edges that agree on a home by an engine. (SPEC 43)

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use conformance::metrics::get;
use conformance::others::{free_address, installed, wait_for_listener};
use conformance::several::{Library, Serving, close, serve_several};
use conformance::{ClientV3, Directory, Edge, Frames, PATIENCE, Process, Program, Signal};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use voltlane_driver::backend::{BackendHandle, Event};

/// The engines, by the schemes of their addresses.
#[derive(Clone, Copy)]
enum Kind {
    Nats,
    Redis,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::Nats, Kind::Redis];

    fn scheme(self) -> &'static str {
        match self {
            Kind::Nats => "nats",
            Kind::Redis => "redis",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Kind::Nats => "nats-server",
            Kind::Redis => "redis-server",
        }
    }
}

/// A server of an engine.
struct Server {
    kind: Kind,
    address: SocketAddr,
    process: Process,
    _store: Directory,
}

impl Server {
    /// `None`: it is not installed, which was said.
    fn start(kind: Kind) -> Option<Server> {
        let mut command = installed(kind.program())?;
        let store = Directory::new();
        let address = free_address();
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        match kind {
            Kind::Nats => command.args(["-js", "-a", &host, "-p", &port, "-sd"]),
            Kind::Redis => command.args(["--bind", &host, "--port", &port, "--save", "", "--dir"]),
        };
        command.arg(store.path());
        let mut process = Process::start(command);
        wait_for_listener(&mut process, address);
        Some(Server {
            kind,
            address,
            process,
            _store: store,
        })
    }

    /// The configuration of an edge with the home 3 of a cluster.
    fn config(&self, cluster: &str) -> String {
        format!(
            "metrics.address = \"127.0.0.1:0\"\nmaster.protocol = \"3\"\ncluster.home = 3\n\
             cluster.engine = \"{}://{}\"\ncluster.name = \"{cluster}\"\ncluster.lease_secs = 3\n",
            self.kind.scheme(),
            self.address
        )
    }
}

/// A backend of one of the libraries, on a thread.
struct Application {
    address: SocketAddr,
    handle: BackendHandle,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
}

impl Application {
    fn serve(library: Library) -> Application {
        let Serving {
            address,
            handle,
            events,
            thread,
        } = serve_several(library, 2);
        Application {
            address,
            handle,
            events,
            thread: Some(thread),
        }
    }

    /// Waits for an event of this kind, and passes over others.
    #[track_caller]
    fn wait<T>(&self, kind: impl Fn(Event) -> Option<T>) -> T {
        loop {
            let event = self.events.recv_timeout(PATIENCE).expect("an event");
            if let Some(found) = kind(event) {
                return found;
            }
        }
    }

    /// Waits for an edge, and returns its term.
    #[track_caller]
    fn edge(&self) -> u32 {
        self.wait(|event| match event {
            Event::EdgeConnected {
                edge: Some(edge), ..
            } => Some(edge.term),
            _ => None,
        })
    }

    /// A client sends, and has an answer.
    #[track_caller]
    fn speak(&self, client: &mut ClientV3, says: &[u8]) {
        client.send(says);
        let id = client.id();
        self.wait(|event| match event {
            Event::Packet { id: from, data, .. } if from == id && data == says => Some(()),
            _ => None,
        });
        self.handle.try_send(id, b"heard").expect("room");
        client.expect(b"heard");
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        close(&self.handle);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "it ends");
        }
    }
}

/// An edge that waits for its home.
struct Waiting {
    process: Process,
    _directory: Directory,
}

impl Waiting {
    fn start(program: Program, application: &Application, config: &str) -> Waiting {
        let directory = Directory::new();
        directory.write("connserver.toml", config);
        let master = application.address.to_string();
        let arguments = ["--listen", "127.0.0.1:0", "--master", &master];
        let process = Process::start(program.command(&directory, &arguments));
        process.wait_for_log("another process has the home");
        assert!(!process.log().contains("listening address="));
        Waiting {
            process,
            _directory: directory,
        }
    }

    /// Waits until it serves.
    #[track_caller]
    fn serves(&mut self) -> SocketAddr {
        let line = self.process.stderr("listening address=");
        let mut words = line.split_whitespace();
        let address = words.find_map(|word| word.strip_prefix("address="));
        address
            .and_then(|text| text.parse().ok())
            .expect("an address")
    }
}

/// What `cluster status --json` says of the home 3.
fn status(program: Program, config: &str) -> Value {
    let directory = Directory::new();
    directory.write("connserver.toml", config);
    let arguments = ["cluster", "status", "--json"];
    let mut command: Command = program.command(&directory, &arguments);
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(all["homes"].as_array().map(Vec::len), Some(1), "{all}");
    assert_eq!(all["homes"][0]["home"], 3);
    all["homes"][0].clone()
}

fn label(process: &Process) -> String {
    format!("/{}", process.pid().as_raw_nonzero())
}

#[test]
fn a_home_goes_to_the_next_edge_and_one_that_slept_does_no_harm_with_nats() {
    a_home_goes_on(Kind::Nats);
}

#[test]
fn a_home_goes_to_the_next_edge_and_one_that_slept_does_no_harm_with_redis() {
    a_home_goes_on(Kind::Redis);
}

fn a_home_goes_on(kind: Kind) {
    let libraries = [Library::Tokio, Library::Smol];
    for (program, library) in crate::PROGRAMS.into_iter().zip(libraries) {
        let Some(server) = Server::start(kind) else {
            return;
        };
        let config = server.config(program.name());
        let application = Application::serve(library);
        let first = Edge::start(program, application.address, &config);
        let mut last = application.edge();
        let mut term_grows = || {
            let term = application.edge();
            assert!(term > last, "{term} after {last}");
            last = term;
        };

        // A second process with the same home waits. The first one is killed.
        let mut second = Waiting::start(program, &application, &config);
        let told = status(program, &config);
        assert_eq!(told["state"], "held", "{told}");
        let holder = told["holder"]["label"].as_str().expect("a holder");
        assert!(holder.ends_with(&label(&first)), "{told}");
        first.signal(Signal::KILL);
        first.expect_end(None);
        let address = second.serves();
        term_grows();
        let mut client = ClientV3::join(address);
        application.speak(&mut client, b"at the second");

        // The second one sleeps for longer than its lease, and a third one serves.
        let mut third = Waiting::start(program, &application, &config);
        second.process.suspend();
        client.send(b"too late");
        let address = third.serves();
        term_grows();
        let mut client = ClientV3::join(address);
        application.speak(&mut client, b"at the third");

        // It wakes, does no harm, says why and ends.
        second.process.signal(Signal::CONT);
        second
            .process
            .wait_for_log("another process has taken the home");
        let finished = second.process.end();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
        application.speak(&mut client, b"still at the third");

        // One that ends in order gives the home back.
        third.process.signal(Signal::TERM);
        let finished = third.process.end();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert!(finished.stderr.contains("the home is given back"));
        assert_eq!(status(program, &config)["state"], "free");
        let fourth = Edge::start(program, application.address, &config);
        term_grows();
        assert!(
            !fourth.log().contains("another process"),
            "{}",
            fourth.log()
        );

        // Without the engine nobody at home notices, but who asks.
        let mut client = ClientV3::join(fourth.address());
        application.speak(&mut client, b"at the fourth");
        server.process.suspend();
        fourth.expect_log("Clients do not notice");
        application.speak(&mut client, b"without the engine");
        fourth.expect_log("the lease of the home has run out");
        let (code, says) = get(fourth.metrics_address(), "/readyz");
        assert_eq!(code, 200, "{says}");
        assert!(
            says.starts_with("ok; the lease of the home has run out"),
            "{says}"
        );
        application.speak(&mut client, b"still without");
        server.process.signal(Signal::CONT);
        fourth.expect_log("the engine of the cluster can be used again");
        server.process.suspend();
        fourth.stop();
        server.process.signal(Signal::CONT);
    }
}

#[test]
fn an_edge_whose_engine_is_not_there_says_so_and_ends() {
    let kinds = Kind::ALL.map(Kind::scheme);
    for (program, scheme) in crate::PROGRAMS.into_iter().zip(kinds) {
        let directory = Directory::new();
        let address = free_address();
        let config = format!(
            "master.protocol = \"3\"\ncluster.home = 3\ncluster.engine = \"{scheme}://{address}\"\n\
             cluster.wait_secs = 1\n"
        );
        directory.write("connserver.toml", &config);
        let arguments = ["--listen", "127.0.0.1:0"];
        let process = Process::start(program.command(&directory, &arguments));
        process.wait_for_end();
        let finished = process.end();
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        let says =
            "the home 3 was not free within 1 s (cluster.wait_secs): the engine cannot be reached";
        assert!(finished.stderr.contains(says), "{}", finished.stderr);
        let mut command = program.command(&directory, &["cluster", "status"]);
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(1));
        let says = String::from_utf8_lossy(&output.stderr);
        assert!(says.contains("cannot be reached"), "{says}");
    }
}

#[test]
fn the_edges_of_the_demo_agree_by_an_engine_that_it_starts() {
    Kind::ALL.into_iter().for_each(the_edges_agree_by);
}

fn the_edges_agree_by(kind: Kind) {
    let Some(server) = installed(kind.program()) else {
        return;
    };
    let own = Path::new(server.get_program()).parent();
    let own = own.expect("it is in a directory").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(own).chain(std::env::split_paths(&path));
    let path = std::env::join_paths(path).expect("names of directories");
    for program in crate::PROGRAMS {
        let directory = Directory::new();
        let arguments = [
            "demo",
            "--edges",
            "2",
            "--kill-every",
            "2",
            "--engine",
            kind.scheme(),
        ];
        let mut command = program.command(&directory, &arguments);
        command.env("PATH", &path);
        let mut demo = Process::start(command);
        demo.stdout(&format!("who is who by {}://", kind.scheme()));
        demo.stdout(" is killed, with ");
        demo.stdout(" is started again");
        demo.signal(Signal::INT);
        demo.stdout("Edges killed: ");
        let summary = demo.stdout("Connections dropped: ");
        assert!(
            summary.ends_with("packets lost: 0, sent twice: 0."),
            "{summary}"
        );
        assert_eq!(demo.end().code, Some(0));

        let mut command = program.command(&directory, &arguments);
        command.env("PATH", directory.path());
        let finished = Process::start(command).end();
        assert_eq!(finished.code, Some(1));
        let says = format!("there is no {} in the PATH", kind.program());
        assert!(finished.stderr.contains(&says), "{}", finished.stderr);
    }
}

/// An edge of a cluster, with an admin interface.
struct Member {
    program: Program,
    edge: Edge,
    directory: Directory,
}

impl Member {
    fn start(program: Program, application: &Application, config: &str, home: u16) -> Member {
        let directory = Directory::new();
        let socket = directory.path().join("admin.sock");
        let config = config.replace("home = 3", &format!("home = {home}"));
        let config = format!("{config}admin.address = \"unix:{}\"\n", socket.display());
        let edge = Edge::start_in(program, &directory, application.address, &config);
        Member {
            program,
            edge,
            directory,
        }
    }

    /// Runs the program with these words, and returns what it prints.
    #[track_caller]
    fn run(&self, words: &str) -> String {
        let words: Vec<&str> = words.split_whitespace().collect();
        let output = self.program.command(&self.directory, &words).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Connects from an address that is not that of the other clients.
    fn connect(&self) -> Frames {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let source = SocketAddr::from(([127, 0, 0, 2], 0));
        socket.bind(&source.into()).expect("an address of ours");
        let address = self.edge.address().into();
        socket.connect(&address).expect("it listens");
        Frames::new(socket.into())
    }
}

const BANNED: &str = "a ban by the engine of the cluster";

#[test]
fn a_ban_at_one_edge_is_in_effect_at_the_others_until_one_lifts_it() {
    let libraries = [Library::Tokio, Library::Smol];
    for (kind, (program, library)) in Kind::ALL
        .into_iter()
        .zip(crate::PROGRAMS.into_iter().zip(libraries))
    {
        let Some(server) = Server::start(kind) else {
            continue;
        };
        let shared = server.config("bans");
        let config = format!("{shared}limits.exempt = []\n");
        let application = Application::serve(library);
        let first = Member::start(program, &application, &config, 3);
        application.edge();
        let second = Member::start(program, &application, &config, 4);
        application.edge();

        let told = first.run("ctl ban 127.0.0.2 --secs 600 --note floods");
        assert!(told.contains("shared") && told.contains("true"), "{told}");
        let line = second.edge.expect_log(BANNED);
        assert!(line.contains("the edge with the home 3"), "{line}");
        second.connect().expect_closed();
        let mut client = ClientV3::join(second.edge.address());
        application.speak(&mut client, b"from elsewhere");
        let bans = second.run("ctl bans");
        let row = bans.lines().find(|line| line.starts_with("127.0.0.2/32"));
        let row: Vec<_> = row.expect("a row").split_whitespace().collect();
        assert_eq!(row[2..], ["3", "floods"], "{bans}");
        assert_eq!(second.edge.metrics().value("voltlane_shared_bans"), 1);
        let status = second.run("cluster status");
        assert!(status.contains("bans that are shared: 1\n"), "{status}");
        // One that shuts out the machine itself is not told.
        let told = first.run("ctl ban 127.0.0.1 --force --secs 1");
        assert!(told.contains("shared") && told.contains("false"), "{told}");

        // An edge that starts later has it, if the network is not exempt there.
        second.edge.stop();
        let third = Member::start(program, &application, &config, 4);
        application.edge();
        third.edge.expect_log(BANNED);
        third.connect().expect_closed();
        third.edge.stop();
        let fourth = Member::start(program, &application, &shared, 4);
        application.edge();
        fourth.edge.expect_log("the network is in limits.exempt");
        assert!(!fourth.run("ctl bans").contains("127.0.0.2"));

        // It can be lifted at any edge, even while the engine sleeps.
        server.process.suspend();
        fourth.run("ctl unban 127.0.0.2");
        first.connect().expect_closed();
        server.process.signal(Signal::CONT);
        first
            .edge
            .expect_log("a ban is lifted by the engine of the cluster");
        assert!(!first.run("ctl bans").contains("127.0.0.2"));
        let banned = "voltlane_rejects_total{reason=\"banned\"}";
        let refused = first.edge.metrics().value(banned);
        let accepted = first.edge.metrics().value("voltlane_accepts_total");
        let _open = first.connect();
        while first.edge.metrics().value("voltlane_accepts_total") == accepted {}
        assert_eq!(first.edge.metrics().value(banned), refused);
        first.edge.stop();
        fourth.edge.stop();
    }
}
