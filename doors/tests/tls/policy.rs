//! Who is served, with which certificate.

use rustls::{AlertDescription, CertificateError, Error};
use std::time::SystemTime;
use voltlane_doors::tls::{
    ALPN_HTTP, ALPN_VOLTLANE, ClientAuth, ClientSettings, ClientTls, MinVersion, Roots,
    ServerSettings, ServerTls, Sni, TlsFault,
};

use super::{End, certificate, client, client_settings, file, run, server, server_settings};

/// Shakes hands and moves a byte both ways.
fn meet(client: &ClientTls, server: &ServerTls) -> Result<usize, TlsFault> {
    let (mut client, mut server) = (End::client(client), End::server(server));
    let mut down = 0;
    while !client.out.is_empty() || !server.out.is_empty() {
        server
            .take(&std::mem::take(&mut client.out))
            .inspect_err(|_| {
                let _ = client.take(&server.out);
            })?;
        down += server.out.len();
        let alert = client.take(&std::mem::take(&mut server.out));
        if let Err(fault) = alert {
            let _ = server.take(&client.out);
            return Err(fault);
        }
    }
    client.write(b"u");
    server.write(b"d");
    run(&mut client, &mut server, usize::MAX)?;
    assert_eq!(
        (&client.plain[..], &server.plain[..]),
        (&b"d"[..], &b"u"[..])
    );
    Ok(down)
}

fn serves(name: &str, server: &ServerTls) -> bool {
    meet(&client(&client_settings(name)), server).is_ok()
}

#[test]
fn certificates_are_chosen_by_name() {
    let mut settings = server_settings(&["edge", "wild", "rsa"]);
    let first = server(&settings);
    for name in [
        "edge.example.com",
        "EDGE.example.com",
        "localhost",
        "127.0.0.1",
        "a.wild.example",
        "rsa.example",
    ] {
        assert!(serves(name, &first), "{name}");
    }
    // Here the first is shown, and the client refuses it.
    for name in ["wild.example", "a.b.wild.example", "other.example"] {
        let refused = meet(&client(&client_settings(name)), &first);
        let refused = refused.expect_err(name);
        let shown = TlsFault::Peer(Error::InvalidCertificate(CertificateError::NotValidForName));
        assert!(
            refused == shown || refused.to_string().contains("not valid for name"),
            "{refused}"
        );
    }
    settings.sni = Sni::Strict;
    let strict = server(&settings);
    assert!(serves("a.wild.example", &strict) && serves("127.0.0.1", &strict));
    let other = client(&client_settings("other.example"));
    assert_eq!(meet(&other, &strict), Err(TlsFault::UnknownName));
    // It is told why, in the clear.
    let (mut other, mut refuses) = (End::client(&other), End::server(&strict));
    refuses.take(&other.out).expect_err("strict");
    assert_eq!(refuses.out, [21, 3, 3, 0, 2, 2, 112]);
    let told = other.take(&refuses.out).expect_err("an alert");
    let alert = Error::AlertReceived(AlertDescription::UnrecognisedName);
    assert_eq!(told, TlsFault::Peer(alert));
    // Names that were given replace those in the certificate.
    settings.certificates[0].names = vec!["other.example".into()];
    let given = server(&settings);
    let refused = meet(&client(&client_settings("edge.example.com")), &given);
    assert_eq!(refused, Err(TlsFault::UnknownName));
}

/// The authorities that browsers trust are trusted, and that of the tests is none of them.
#[cfg(feature = "webpki-roots")]
#[test]
fn public_authorities_do_not_vouch_for_the_tests() {
    let public = client(&ClientSettings::new("edge.example.com", Roots::Public));
    let refused = meet(&public, &server(&server_settings(&["edge"])));
    let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
    assert_eq!(refused, Err(TlsFault::Peer(unknown)));
}

#[test]
fn a_client_with_another_protocol_is_refused_and_one_with_none_is_served() {
    let mut settings = server_settings(&["edge"]);
    settings.alpn = vec![ALPN_VOLTLANE.to_vec()];
    let server = server(&settings);
    let offers = |offered: &[&[u8]]| {
        let mut settings = client_settings("localhost");
        settings.alpn = offered.iter().map(|name| name.to_vec()).collect();
        meet(&client(&settings), &server)
    };
    offers(&[]).expect("none");
    offers(&[ALPN_VOLTLANE]).expect("ours");
    offers(&[b"h2", ALPN_VOLTLANE]).expect("ours among others");
    let refused = offers(&[b"h2", ALPN_HTTP]).expect_err("others only");
    assert_eq!(refused, TlsFault::Peer(Error::NoApplicationProtocol));
    // It is told why, within the keys of the handshake.
    let mut settings = client_settings("localhost");
    settings.alpn = vec![b"h2".to_vec()];
    let (mut client, mut refuses) = (End::client(&client(&settings)), End::server(&server));
    refuses.take(&client.out).expect_err("others only");
    let told = client.take(&refuses.out).expect_err("an alert");
    let alert = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(told, TlsFault::Peer(alert));
}

#[test]
fn tls_1_2_is_served_only_where_it_is_allowed() {
    let mut settings = server_settings(&["wild"]);
    let old = {
        let config = rustls::ClientConfig::builder_with_provider(voltlane_doors::tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .expect("a version");
        let mut roots = rustls::RootCertStore::empty();
        use rustls::pki_types::pem::PemObject as _;
        let authority = rustls::pki_types::CertificateDer::from_pem_file(file("authority.pem"));
        roots
            .add(authority.expect("it is there"))
            .expect("an authority");
        std::sync::Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    };
    let hello = || {
        let name = "a.wild.example".try_into().expect("a name");
        let mut client = rustls::ClientConnection::new(old.clone(), name).expect("a client");
        let mut hello = Vec::new();
        client.write_tls(&mut hello).expect("a hello");
        hello
    };
    let mut refuses = End::server(&server(&settings));
    let refused = refuses.take(&hello()).expect_err("1.3 only");
    assert!(matches!(
        refused,
        TlsFault::Peer(Error::PeerIncompatible(_))
    ));
    settings.min_version = MinVersion::Tls12;
    let mut takes = End::server(&server(&settings));
    takes.take(&hello()).expect("it is allowed");
    assert_eq!(takes.out.first(), Some(&22), "a handshake goes on");
}

#[test]
fn clients_show_certificates_where_that_is_asked_for() {
    let auth = |auth: ClientAuth, crl: bool| {
        let mut settings = server_settings(&["edge"]);
        settings.client_auth = auth;
        settings.client_ca = Some(file("authority.pem"));
        settings.client_crl = crl.then(|| file("revoked.crl"));
        settings.tickets = true;
        server(&settings)
    };
    let shows = |name: Option<&str>, server: &ServerTls| {
        let mut settings = client_settings("localhost");
        settings.certificate = name.map(certificate);
        let client = client(&settings);
        // A second time, since a ticket must not get round the list.
        meet(&client, server).and(meet(&client, server))
    };
    let refused = |name: Option<&str>, server: &ServerTls| match shows(name, server) {
        Err(TlsFault::Peer(error)) => error,
        other => panic!("{name:?}: {other:?}"),
    };
    let required = auth(ClientAuth::Required, true);
    shows(Some("client"), &required).expect("it is valid");
    assert_eq!(refused(None, &required), Error::NoCertificatesPresented);
    let revoked = Error::InvalidCertificate(CertificateError::Revoked);
    assert_eq!(refused(Some("revoked"), &required), revoked);
    let expired = refused(Some("expired"), &required).to_string();
    assert!(expired.contains("expired"), "{expired}");
    shows(Some("revoked"), &auth(ClientAuth::Required, false)).expect("no list is given");
    let optional = auth(ClientAuth::Optional, true);
    shows(None, &optional).expect("it is optional");
    assert_eq!(refused(Some("revoked"), &optional), revoked);
    let mut settings = server_settings(&["edge"]);
    settings.client_auth = ClientAuth::Required;
    settings.client_ca = Some(file("stranger.pem"));
    let unknown = refused(Some("client"), &server(&settings)).to_string();
    assert!(unknown.contains("UnknownIssuer"), "{unknown}");
}

#[test]
fn a_reload_is_all_or_nothing_and_tickets_outlive_it() {
    let mut settings = server_settings(&["edge"]);
    settings.tickets = true;
    let server = server(&settings);
    let edge = client(&client_settings("edge.example.com"));
    let full = meet(&edge, &server).expect("a handshake");
    let resumed = meet(&edge, &server).expect("a handshake");
    assert!(resumed < full, "{resumed} of {full} bytes");
    // What is wrong leaves the old one in effect.
    let wrong = server_settings(&["wild", "none"]);
    server
        .reload(&wrong, SystemTime::now())
        .expect_err("there is none");
    assert!(serves("edge.example.com", &server) && !serves("a.wild.example", &server));
    let mut wild = server_settings(&["wild", "edge"]);
    wild.tickets = true;
    let loaded = server.reload(&wild, SystemTime::now()).expect("it loads");
    assert_eq!(loaded.certificates.len(), 2);
    assert!(serves("a.wild.example", &server));
    let resumed = meet(&edge, &server).expect("a handshake");
    assert!(resumed < full, "{resumed} of {full} bytes");
    // Without tickets every handshake is a full one.
    let without = ServerTls::load(&server_settings(&["edge"]), SystemTime::now())
        .expect("it loads")
        .0;
    let edge = client(&client_settings("edge.example.com"));
    let bytes = [(); 2].map(|()| meet(&edge, &without).expect("a handshake"));
    assert_eq!(bytes[0], bytes[1]);
}

#[test]
fn a_pin_trusts_one_key_and_no_other() {
    use rustls::pki_types::pem::PemObject as _;
    use sha2::{Digest as _, Sha256};
    let der =
        rustls::pki_types::CertificateDer::from_pem_file(file("expired.pem")).expect("it is there");
    let parsed = rustls::server::ParsedCertificate::try_from(&der).expect("a certificate");
    let pin: [u8; 32] = Sha256::digest(parsed.subject_public_key_info()).into();
    let pinned =
        |pins: Vec<[u8; 32]>| client(&ClientSettings::new("any.name", Roots::Pinned(pins)));
    let server = server(&server_settings(&["expired"]));
    meet(&pinned(vec![[0; 32], pin]), &server).expect("it is that key");
    for pins in [vec![], vec![[0; 32]]] {
        let refused = meet(&pinned(pins), &server).expect_err("another");
        let application = CertificateError::ApplicationVerificationFailure;
        assert_eq!(
            refused,
            TlsFault::Peer(Error::InvalidCertificate(application))
        );
    }
}

#[test]
fn a_client_refuses_an_expired_certificate_and_a_strange_authority() {
    let refuses = |certificate: &str, authority: &str| {
        let client = client(&ClientSettings::new(
            "edge.example.com",
            Roots::File(file(authority)),
        ));
        let server = server(&server_settings(&[certificate]));
        let refused = meet(&client, &server).expect_err("it is refused");
        refused.to_string()
    };
    assert!(refuses("expired", "authority.pem").contains("expired"));
    assert!(refuses("early", "authority.pem").contains("not valid yet"));
    assert!(refuses("edge", "stranger.pem").contains("UnknownIssuer"));
    let _ = AlertDescription::UnknownCA;
    let _: ServerSettings = server_settings(&[]);
}
