//! The client library, told no more than an address and whom to trust, at an edge within TLS. (SPEC 16.1(c))

use conformance::libraries::{EchoBackend, run_on};
use conformance::shim::{Carriage, Shim as _, certificate_file, spki_sha256};
use conformance::{Directory, Edge, Runtime, Smol, Tokio};
use voltlane_doors::client::{Builder, CertificateFiles, Roots, TlsOptions};
use voltlane_driver::client::Event;

/// Sends a packet to the edge at this address, and waits for its echo, or for the end of the first attempt.
fn echo<R: Runtime>(address: &str, tls: TlsOptions) -> Result<Vec<u8>, String> {
    let builder = Builder::on::<R>(address).tls(tls);
    run_on::<R, _>(async move {
        let mut client = builder.begin().map_err(|error| error.to_string())?;
        client.send(b"through").await.expect("there is room");
        while let Some(event) = client.recv().await {
            match event {
                Event::Packet { data, .. } => return Ok(data),
                Event::Dropped { cause, .. } => return Err(cause.to_string()),
                _ => {}
            }
        }
        panic!("the session has ended");
    })
}

fn pin(certificate: &str) -> Roots {
    let digits = spki_sha256(certificate);
    let mut pin = [0; 32];
    for (byte, at) in pin.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits");
    }
    Roots::Pinned(vec![pin])
}

fn authority() -> Roots {
    Roots::File(certificate_file("authority.pem"))
}

fn trusts_whom_it_is_told_to<R: Runtime>() {
    for carriage in [Carriage::Tls, Carriage::WebSocketTls] {
        let backend = EchoBackend::start::<R>();
        let edge = Edge::start(super::PROGRAM, backend.address(), &carriage.config());
        let scheme = match carriage {
            Carriage::WebSocketTls => "wss",
            _ => "tls",
        };
        let address = format!("{scheme}://{}", edge.address());
        let named = |roots| {
            TlsOptions::default()
                .roots(roots)
                .server_name("edge.example.com")
        };
        let served = [
            named(authority()),
            // The name counts only with an authority.
            TlsOptions::default().roots(pin("edge.pem")),
        ];
        for tls in served {
            let heard = echo::<R>(&address, tls);
            assert_eq!(heard.as_deref(), Ok(&b"through"[..]), "{carriage:?}");
        }
        let refused = [
            (named(pin("wild.pem")), "another key"),
            (
                TlsOptions::default()
                    .roots(authority())
                    .server_name("other.example"),
                "another name",
            ),
            (
                named(Roots::File(certificate_file("stranger.pem"))),
                "another authority",
            ),
            // The default: the tests' authority is none that browsers trust.
            (
                TlsOptions::default().server_name("edge.example.com"),
                "no public authority",
            ),
        ];
        for (tls, why) in refused {
            let error = echo::<R>(&address, tls).expect_err(why);
            // The default is nobody in a build without public authorities.
            let says = ["certificate", "no authorities of its own"];
            let is_told = says.iter().any(|says| error.contains(says));
            assert!(is_told, "{why}: {error}");
        }
        drop(edge);
    }
}

#[test]
fn a_client_on_tokio_trusts_whom_it_is_told_to() {
    trusts_whom_it_is_told_to::<Tokio>();
}

#[test]
fn a_client_on_smol_trusts_whom_it_is_told_to() {
    trusts_whom_it_is_told_to::<Smol>();
}

/// An edge that demands a certificate serves the client that shows one, and tells an operator whose it is.
#[test]
fn a_client_shows_its_certificate() {
    let backend = EchoBackend::start::<Tokio>();
    let directory = Directory::new();
    let socket = directory.path().join("admin.sock");
    let config = format!(
        "{}listener.client_auth = \"required\"\nlistener.client_ca_file = {:?}\nadmin.address = \"unix:{}\"\n",
        Carriage::Tls.config(),
        certificate_file("authority.pem"),
        socket.display(),
    );
    let edge = Edge::start_in(super::PROGRAM, &directory, backend.address(), &config);
    let address = format!("tls://{}", edge.address());
    let named = TlsOptions::default()
        .roots(authority())
        .server_name("edge.example.com");
    let own = CertificateFiles::new(
        certificate_file("client.pem"),
        certificate_file("client.key"),
    );
    let shows = named.clone().certificate(own);
    let shown = run_on::<Tokio, _>(async move {
        let builder = Builder::on::<Tokio>(&address).tls(shows);
        let mut client = builder.begin().expect("it can be");
        client.send(b"through").await.expect("there is room");
        loop {
            match client.recv().await.expect("it goes on") {
                Event::Packet { data, .. } => break assert_eq!(data, b"through"),
                Event::Dropped { cause, .. } => panic!("{cause}"),
                _ => {}
            }
        }
        let id = client.id().to_string();
        let command = super::PROGRAM
            .command(&directory, &["ctl", "session", &id])
            .output();
        String::from_utf8(command.expect("it runs").stdout).expect("text")
    });
    let name = shown.lines().find(|line| line.starts_with("tls_name"));
    assert!(
        name.is_some_and(|name| name.ends_with(" CN=client")),
        "{shown}"
    );
    let address = format!("tls://{}", edge.address());
    let error = echo::<Tokio>(&address, named).expect_err("it shows none");
    assert!(!error.is_empty());
}
