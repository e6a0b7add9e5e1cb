//! Unix sockets for clients and for the backend. (SPEC 16.7)

use std::io::Read as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::thread;

use conformance::libraries::{BOTH, client, run_on, steady_packet};
use conformance::{
    Backend, Client, Directory, Edge, Frames, PATIENCE, Rig, Runtime, Signal, Smol, Tokio, bytes_of,
};
use voltlane_driver::SocketOptions;
use voltlane_driver::backend::{Backend as LibraryBackend, Event as Upwards, Means, Options};
use voltlane_driver::unix::{UnixListening, UnixPlace};

/// Returns a listener at a place, behind one at a free port, which the tests find in the log.
fn listener(name: &str, place: &str, more: &str) -> String {
    format!("[[listener]]\nname = \"{name}\"\naddress = \"{place}\"\n{more}")
}

fn start(directory: &Directory, master: &str, listeners: &str) -> Edge {
    configure(directory, master, listeners);
    Edge::spawn(super::PROGRAM.command(directory, &[]))
}

fn configure(directory: &Directory, master: &str, listeners: &str) {
    let first = listener("main", "127.0.0.1:0", "");
    directory.write(
        "connserver.toml",
        format!(
            "general.shards = 2\nmaster.address = \"{master}\"\nlimits.source_connections = 1\n\
             limits.handshake_timeout_secs = {}\n{first}{listeners}",
            PATIENCE.as_secs()
        ),
    );
}

/// Echoes at a Unix socket, to the end of the process.
fn echo<R: Runtime>(place: &str) {
    let place = UnixPlace::parse(place)
        .expect("a place")
        .expect("a Unix socket");
    let options = SocketOptions::of_link();
    let UnixListening { listener, file, .. } = place.listen(&options, 0o600).expect("a free path");
    thread::spawn(move || {
        R::block_on(async move {
            let _file = file;
            let listener = R::listener(listener, options).expect("a listener");
            let means = Means::on::<R>(listener);
            let backend = LibraryBackend::begin(Options::default(), means);
            let mut backend = backend.expect("options that can be");
            while let Some(event) = backend.recv().await {
                if let Upwards::Packet { id, data, .. } = event {
                    backend.send(id, data).await.expect("it is queued");
                }
            }
        })
    });
}

/// Returns an abstract name that nobody else has.
fn abstract_name(kind: &str) -> String {
    let number = u64::from_ne_bytes(conformance::random());
    format!("voltlane-{kind}-{number:016x}")
}

fn mode(file: &Path) -> u32 {
    let found = std::fs::metadata(file).expect("it is there");
    found.permissions().mode() & 0o777
}

/// Connects to a listener for other users.
fn expect_refused(name: &str) {
    let address = SocketAddr::from_abstract_name(name).expect("a name");
    let mut refused = UnixStream::connect_addr(&address).expect("it listens");
    refused.set_read_timeout(Some(PATIENCE)).expect("a bound");
    assert_eq!(refused.read(&mut [0]).expect("an end"), 0);
}

/// The socket is a new one, so it has the new users and the new mode.
#[test]
fn a_listener_that_moves_to_a_unix_socket_admits_only_whom_it_should() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let master = backend.address().to_string();
    let strangers = abstract_name("moved");
    let file = directory.file("moved.sock");
    let before = [
        listener("name", "127.0.0.1:0", ""),
        listener("file", "127.0.0.1:0", ""),
    ];
    let mut edge = start(&directory, &master, &before.concat());
    let _link = backend.accept();
    let uids = format!(
        "peer_uids = [\"{}\"]\n",
        rustix::process::getuid().as_raw() + 1
    );
    let after = [
        listener("name", &format!("unix:@{strangers}"), &uids),
        listener(
            "file",
            &format!("unix:{}", file.display()),
            "socket_mode = \"0600\"\n",
        ),
    ];
    configure(&directory, &master, &after.concat());
    edge.signal(Signal::HUP);
    let line = edge.next_log("was read again and is in effect");
    for key in ["listener[name].peer_uids", "listener[file].socket_mode"] {
        assert!(line.contains(key), "{line}");
    }
    expect_refused(&strangers);
    assert_eq!(mode(&file), 0o600);
    drop(Client::join_over(Frames::connect_unix(&file)));
    edge.stop();
}

fn clients_and_a_backend_meet_over_unix_sockets<R: Runtime>() {
    let directory = Directory::new();
    let path = |name: &str| directory.file(name).display().to_string();
    let uid = rustix::process::getuid().as_raw();
    let (own, strangers) = (abstract_name("own"), abstract_name("strangers"));
    let backend = format!("unix:{}", path("backend.sock"));
    echo::<R>(&backend);
    let edge = start(
        &directory,
        &backend,
        &format!(
            "{}{}{}",
            listener(
                "file",
                &format!("unix:{}", path("edge.sock")),
                "socket_mode = \"0600\"\n"
            ),
            listener(
                "own",
                &format!("unix:@{own}"),
                &format!("peer_uids = [\"{uid}\"]\n")
            ),
            listener(
                "strangers",
                &format!("unix:@{strangers}"),
                &format!("peer_uids = [\"{}\"]\n", uid + 1)
            ),
        ),
    );
    let file = directory.file("edge.sock");
    assert_eq!(mode(&file), 0o600);
    for place in [format!("unix:{}", file.display()), format!("unix:@{own}")] {
        // As many as the limit on one source, and more: they are of this host.
        for versions in BOTH.into_iter().cycle().take(4) {
            let place = place.clone();
            run_on::<R, _>(async move {
                let mut client = client::<R>(place, versions);
                for (seed, length) in (0..).zip([0, 1, 70_000, 1 << 20]) {
                    let data = bytes_of(seed, length);
                    client.send(&data).await.expect("it is queued");
                    assert!(steady_packet(&mut client).await == data, "{length}");
                }
            });
        }
    }
    expect_refused(&strangers);
    edge.stop();
    assert!(!file.exists(), "it was the edge's own");
}

#[test]
fn clients_and_a_backend_meet_over_unix_sockets_on_tokio() {
    clients_and_a_backend_meet_over_unix_sockets::<Tokio>();
}

#[test]
fn clients_and_a_backend_meet_over_unix_sockets_on_smol() {
    clients_and_a_backend_meet_over_unix_sockets::<Smol>();
}

#[test]
fn a_socket_that_is_in_use_is_an_error_and_a_dead_one_is_replaced() {
    let (first, second) = (Directory::new(), Directory::new());
    let backend = Backend::bind();
    let place = format!("unix:{}", first.file("edge.sock").display());
    let own = listener("file", &place, "");
    let master = backend.address().to_string();
    let edge = start(&first, &master, &own);
    let _link = backend.accept();
    let live = Client::join_over(Frames::connect_unix(&first.file("edge.sock")));
    second.write(
        "connserver.toml",
        format!("master.address = \"{master}\"\n{own}"),
    );
    let finished = super::PROGRAM.run(&second, &[]);
    assert_eq!(finished.code, Some(1));
    let says = format!("cannot listen on {place}: another process listens there");
    assert!(finished.stderr.contains(&says), "{}", finished.stderr);
    drop(live);
    // Killed, so that its file stays.
    edge.signal(Signal::KILL);
    edge.expect_end(None);
    assert!(first.file("edge.sock").exists());
    let edge = start(&second, &master, &own);
    let _link = backend.accept();
    drop(Client::join_over(Frames::connect_unix(
        &first.file("edge.sock"),
    )));
    edge.stop();
    // Never of somebody else.
    second.write("precious", "data");
    let place = format!("unix:{}", second.file("precious").display());
    second.write("connserver.toml", listener("file", &place, ""));
    let finished = super::PROGRAM.run(&second, &[]);
    assert_eq!(finished.code, Some(1));
    assert!(
        finished.stderr.contains("that is no socket"),
        "{}",
        finished.stderr
    );
    assert_eq!(second.read("precious").expect("it stays"), "data");
}

/// What a proxy on this host says of a connection reaches the limits.
#[test]
fn limits_hold_for_whom_a_header_over_a_unix_socket_names() {
    let (directory, backend) = (Directory::new(), Backend::bind());
    let path = directory.file("edge.sock");
    let place = format!("unix:{}", path.display());
    let proxied = "proxy_protocol = \"required\"\ntrusted_proxies = [\"127.0.0.0/8\"]\n";
    let edge = start(
        &directory,
        &backend.address().to_string(),
        &listener("file", &place, proxied),
    );
    let link = backend.accept();
    let from = |source: u8| {
        let mut frames = Frames::connect_unix(&path);
        frames.write(format!("PROXY TCP4 198.51.100.{source} 203.0.113.1 1 1\r\n").as_bytes());
        frames
    };
    let mut first = Client::join_over(from(1));
    from(1).expect_closed();
    let other = Client::join_over(from(2));
    let mut rig = Rig {
        edge,
        backend,
        link,
    };
    rig.round_trip(&mut first, b"the first of its source");
    drop(other);
    rig.stop();
}
