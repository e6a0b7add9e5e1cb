//! The link to the backend within TLS, with certificates of both ends. (SPEC 16.6)

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;

use conformance::shim::{certificate_file, tls};
use conformance::{Client, Directory, Edge, PATIENCE, Runtime, Smol, Tokio, bytes_of, own_host};
use voltlane_doors::tls::{CertificateFiles, ClientAuth, ServerSettings, ServerTls};
use voltlane_doors::{Door, DoorListener, OpenedListener};
use voltlane_driver::SocketOptions;
use voltlane_driver::backend::{Backend, Event, Means, Options};

/// Starts a backend that echoes, and wants a certificate of the edge. Returns its address, and whom it let in.
fn backend<R: Runtime>() -> (SocketAddr, mpsc::Receiver<SocketAddr>) {
    let mut settings = ServerSettings::default();
    settings.certificates = vec![CertificateFiles::new(
        certificate_file("edge.pem"),
        certificate_file("edge.key"),
    )];
    settings.client_auth = ClientAuth::Required;
    settings.client_ca = Some(certificate_file("authority.pem"));
    settings.client_crl = Some(certificate_file("revoked.crl"));
    let now = std::time::SystemTime::now();
    let (tls, _) = ServerTls::load(&settings, now).expect("the tests' certificates");
    let (bound, address) = mpsc::channel();
    let (lets_in, edges) = mpsc::channel();
    thread::spawn(move || {
        R::block_on(async move {
            let at = format!("{}:0", own_host());
            let listening = R::bind(at, SocketOptions::default()).await;
            let (listener, address) = listening.expect("a free place");
            bound.send(address).expect("somebody waits");
            let door = Door::default().with_tls(tls);
            let listener = OpenedListener::new(DoorListener::new(listener, door));
            let means = Means::on::<R>(listener);
            let mut backend = Backend::begin(Options::default(), means).expect("options");
            while let Some(event) = backend.recv().await {
                match event {
                    Event::Packet { id, data, .. } => {
                        backend.send(id, data).await.expect("short");
                    }
                    Event::EdgeConnected { address, .. } => {
                        let _ = lets_in.send(address);
                    }
                    _ => {}
                }
            }
        })
    });
    (address.recv_timeout(PATIENCE).expect("it listens"), edges)
}

fn config(more: &str) -> String {
    format!("master.tls = true\nmaster.tls_server_name = \"edge.example.com\"\n{more}")
}

fn authority() -> String {
    format!(
        "master.tls_ca_file = {:?}\n",
        certificate_file("authority.pem")
    )
}

fn certificate(name: &str) -> String {
    format!(
        "master.tls_certificate_file = {:?}\nmaster.tls_key_file = {:?}\n",
        certificate_file(&format!("{name}.pem")),
        certificate_file(&format!("{name}.key"))
    )
}

fn the_link_works_within_tls<R: Runtime>() {
    let (address, edges) = backend::<R>();
    let config = config(&[authority(), certificate("client")].concat());
    let edge = Edge::start(super::PROGRAM, address, &config);
    edges.recv_timeout(PATIENCE).expect("the edge is let in");
    let mut client = Client::join(edge.address());
    for (seed, length) in (0..).zip([0, 1, 16_380, 16_384, 300_000, 1 << 20]) {
        let data = bytes_of(seed, length);
        client.send(&data);
        client.expect(&data);
    }
    // A stranger without a certificate, and one that says nothing, displace nobody.
    let silent = TcpStream::connect(address).expect("it listens");
    let stranger = TcpStream::connect(address).expect("it listens");
    stranger.set_read_timeout(Some(PATIENCE)).expect("a bound");
    if let Ok(mut stranger) = tls(stranger, "edge.example.com") {
        stranger.read(&mut [0]).expect_err("an alert");
    }
    client.send(b"still here");
    client.expect(b"still here");
    assert!(edges.try_recv().is_err(), "nobody else is let in");
    drop(silent);
}

#[test]
fn the_link_works_within_tls_to_a_backend_on_tokio() {
    the_link_works_within_tls::<Tokio>();
}

#[test]
fn the_link_works_within_tls_to_a_backend_on_smol() {
    the_link_works_within_tls::<Smol>();
}

/// A pinned key needs no authority, and no name.
#[test]
fn a_backend_can_be_known_by_its_key() {
    let (address, edges) = backend::<Smol>();
    let pins = |digit: &str| {
        let right = conformance::shim::spki_sha256("edge.pem");
        format!(
            "master.tls_spki_sha256 = [\"{}\", \"{right}\"]\n",
            digit.repeat(64)
        )
    };
    let config = format!("master.tls = true\n{}{}", pins("a"), certificate("client"));
    let edge = Edge::start(super::PROGRAM, address, &config);
    edges.recv_timeout(PATIENCE).expect("the edge is let in");
    let mut client = Client::join(edge.address());
    client.send(b"through");
    client.expect(b"through");
    drop(edge);
    let wrong = format!(
        "master.tls = true\nmaster.tls_spki_sha256 = [\"{}\"]\n{}",
        "a".repeat(64),
        certificate("client")
    );
    let edge = Edge::start(super::PROGRAM, address, &wrong);
    edge.expect_log("the backend cannot be reached");
    assert!(edges.try_recv().is_err());
}

/// Neither end speaks with one that it does not know, and the edge's log says why.
#[test]
fn an_edge_or_a_backend_that_is_not_known_is_refused() {
    let (address, edges) = backend::<Tokio>();
    let stranger = format!(
        "master.tls_ca_file = {:?}\n",
        certificate_file("stranger.pem")
    );
    let other_name = format!(
        "master.tls = true\nmaster.tls_server_name = \"other.example.com\"\n{}",
        authority()
    );
    let rows: &[(String, &str)] = &[
        (config(&stranger), "UnknownIssuer"),
        (other_name, "not valid for name"),
        (config(&authority()), "CertificateRequired"),
        (
            config(&[authority(), certificate("expired")].concat()),
            "alert",
        ),
        (
            config(&[authority(), certificate("revoked")].concat()),
            "alert",
        ),
    ];
    for (config, says) in rows {
        let edge = Edge::start(super::PROGRAM, address, config);
        let line = edge.expect_log(says);
        assert!(line.contains("backend"), "{line}");
        assert!(edges.try_recv().is_err(), "{config}");
    }
}

#[test]
fn wrong_files_of_the_link_are_found_at_the_start() {
    for (config, says) in [
        ("master.tls = true\n", "no backend would be trusted"),
        ("master.tls_ca_file = \"a.pem\"\n", "it would be of no use"),
        (
            "master.tls = true\nmaster.tls_ca_file = \"none.pem\"\n",
            "none.pem cannot be read",
        ),
        (
            "master.tls = true\nmaster.tls_spki_sha256 = [\"12\"]\n",
            "is not 64 hexadecimal digits",
        ),
    ] {
        let directory = Directory::new();
        directory.write("connserver.toml", config);
        let finished = super::PROGRAM.run(&directory, &["--listen", "127.0.0.1:0"]);
        assert_ne!(finished.code, Some(0));
        assert!(finished.stderr.contains(says), "{}", finished.stderr);
    }
}
