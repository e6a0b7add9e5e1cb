//! `openssl s_client`. (SPEC 16.1)

use conformance::Directory;
use conformance::handshake::encoded;
use conformance::others::find;
use conformance::shim::{Carriage, Shim as _, certificate_file};
use voltlane_core::v2::packets::Handshake;

use super::{rigs, start};

/// Arguments, whether the edge or the client refuses, and what `s_client` says then.
type Row<'a> = (&'a [&'a str], bool, &'a str);

/// Shakes hands with each row's arguments.
fn check(config: &str, rows: &[Row<'_>]) {
    let authority = certificate_file("authority.pem").display().to_string();
    let version = encoded(Handshake::ProtocolVersion(77));
    for rig in rigs(config) {
        let address = rig.address().to_string();
        for (arguments, is_served, says) in rows {
            let Some(command) = find("openssl") else {
                return;
            };
            let mut all = vec!["s_client", "-connect", &address, "-brief", "-ign_eof"];
            all.extend(["-CAfile", &authority, "-verify_return_error"]);
            all.extend(*arguments);
            let mut client = start(command, &all);
            // With TLS 1.3 a client is ready before the edge has seen its certificate.
            client.stderr(says);
            if *is_served {
                // The edge reads the protocol within only once it has seen all of the handshake. It ends this one in order.
                client.feed(&version);
                let finished = client.end();
                assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
            } else {
                let finished = client.end();
                assert_ne!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
            }
        }
        rig.stop();
    }
}

#[test]
fn a_client_is_served_with_what_both_have_and_told_what_is_missing() {
    let rows: &[Row<'_>] = &[
        (&["-tls1_3"], true, "Protocol version: TLSv1.3"),
        (&[], true, "Verification: OK"),
        (
            &["-verify_hostname", "edge.example.com"],
            true,
            "Verified peername: edge.example.com",
        ),
        (&["-alpn", "voltlane/2"], true, "CONNECTION ESTABLISHED"),
        (&["-alpn", "h2,voltlane/2"], true, "CONNECTION ESTABLISHED"),
        (&["-groups", "P-256"], true, "ECDH, prime256v1"),
        (&["-groups", "X448:X25519"], true, "X25519, 253 bits"),
        (
            &["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
            true,
            "Ciphersuite: TLS_CHACHA20_POLY1305_SHA256",
        ),
        (
            &["-ciphersuites", "TLS_AES_128_GCM_SHA256"],
            true,
            "Ciphersuite: TLS_AES_128_GCM_SHA256",
        ),
        // no_application_protocol
        (&["-alpn", "h2"], false, "SSL alert number 120"),
        // protocol_version
        (&["-tls1_2"], false, "SSL alert number 70"),
        // handshake_failure
        (&["-groups", "X448"], false, "SSL alert number 40"),
        (
            &["-verify_hostname", "other.example"],
            false,
            "hostname mismatch",
        ),
    ];
    check(&Carriage::Tls.config(), rows);
}

#[test]
fn a_name_without_a_certificate_is_refused_if_names_are_strict() {
    let config = format!("{}listener.sni = \"strict\"\n", Carriage::Tls.config());
    let rows: &[Row<'_>] = &[
        (
            &["-servername", "edge.example.com"],
            true,
            "Verification: OK",
        ),
        (&["-noservername"], true, "Verification: OK"),
        // unrecognized_name
        (
            &["-servername", "other.example"],
            false,
            "SSL alert number 112",
        ),
    ];
    check(&config, rows);
}

#[test]
fn tls_1_2_is_for_those_who_allow_it() {
    let config = format!("{}listener.min_version = \"1.2\"\n", Carriage::Tls.config());
    let rows: &[Row<'_>] = &[
        (&["-tls1_2"], true, "Protocol version: TLSv1.2"),
        (&["-tls1_3"], true, "Protocol version: TLSv1.3"),
        (
            &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            false,
            "SSL alert number 40",
        ),
    ];
    check(&config, rows);
}

#[test]
fn clients_show_certificates_of_the_authority() {
    let file = |name: &str| certificate_file(name).display().to_string();
    let config = format!(
        "{}listener.client_auth = \"required\"\nlistener.client_ca_file = {:?}\nlistener.client_crl_file = {:?}\n",
        Carriage::Tls.config(),
        file("authority.pem"),
        file("revoked.crl")
    );
    let files = ["client", "revoked", "expired"]
        .map(|name| [file(&format!("{name}.pem")), file(&format!("{name}.key"))]);
    let of = |[certificate, key]: &'_ [String; 2]| {
        [
            "-cert".to_owned(),
            certificate.clone(),
            "-key".to_owned(),
            key.clone(),
        ]
    };
    let arguments = files.each_ref().map(of);
    let [client, revoked, expired] = arguments
        .each_ref()
        .map(|all| all.each_ref().map(String::as_str));
    let rows: &[Row<'_>] = &[
        (&client, true, "CONNECTION ESTABLISHED"),
        // certificate_required, certificate_revoked, certificate_expired
        (&[], false, "SSL alert number 116"),
        (&revoked, false, "SSL alert number 44"),
        (&expired, false, "SSL alert number 45"),
    ];
    check(&config, rows);
}

#[test]
fn a_ticket_makes_the_next_handshakes_shorter() {
    // It says what came after the handshake when the edge has had enough of its silence.
    let config = format!(
        "{}limits.handshake_timeout_secs = 3\n",
        Carriage::Tls.config()
    );
    for rig in rigs(&config) {
        let (address, directory) = (rig.address().to_string(), Directory::new());
        let ticket = directory.file("ticket").display().to_string();
        let connect = |more: [&str; 2]| {
            let command = find("openssl")?;
            let arguments = ["s_client", "-connect", &address];
            Some(start(command, &[&arguments[..], &more].concat()))
        };
        let Some(mut first) = connect(["-sess_out", &ticket]) else {
            return;
        };
        first.stdout("New, TLSv1.3");
        first.wait_for_end();
        first.stdout("Post-Handshake New Session Ticket arrived");
        first.stdout("Max Early Data: 0");
        let mut second = connect(["-sess_in", &ticket]).expect("it is there");
        second.stdout("Reused, TLSv1.3");
        second.stdout("Early data was not sent");
        rig.stop();
    }
}
