//! What is wrong with files, and what is said about it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use voltlane_doors::tls::{
    CertificateFiles, ClientAuth, ClientSettings, ClientTls, Roots, ServerSettings, TlsError,
    Warning,
};

use super::{certificate, client_settings, file, server_settings};

fn temporary(name: &str, content: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("voltlane-doors-{}-{name}", std::process::id()));
    fs::write(&path, content).expect("a temporary file");
    path
}

fn error(settings: &ServerSettings) -> String {
    let error = settings.load(SystemTime::now()).expect_err("it is wrong");
    error.to_string()
}

fn with(certificate: PathBuf, key: PathBuf) -> String {
    let mut settings = ServerSettings::default();
    settings.certificates = vec![CertificateFiles::new(certificate, key)];
    error(&settings)
}

#[test]
fn each_fault_names_its_file_and_the_remedy() {
    let (pem, key) = (file("edge.pem"), file("edge.key"));
    let empty = temporary("empty", b"");
    let broken = temporary(
        "broken",
        b"-----BEGIN CERTIFICATE-----\nMIIB!\n-----END CERTIFICATE-----\n",
    );
    let nonsense = temporary(
        "nonsense",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let large = temporary("large", &vec![b'\n'; (1 << 20) + 1]);
    let rows = [
        (
            with(file("none.pem"), key.clone()),
            "none.pem cannot be read: No such file",
        ),
        (
            with(pem.clone(), file("none.key")),
            "none.key cannot be read: No such file",
        ),
        (
            with(empty.clone(), key.clone()),
            "must have a section \"-----BEGIN CERTIFICATE-----\"",
        ),
        (
            with(pem.clone(), empty.clone()),
            "must have a section \"-----BEGIN PRIVATE KEY-----\"",
        ),
        (
            with(key.clone(), key.clone()),
            "edge.key has no CERTIFICATE",
        ),
        (
            with(pem.clone(), pem.clone()),
            "edge.pem has no PRIVATE KEY",
        ),
        (with(broken.clone(), key.clone()), "broken is not PEM"),
        (
            with(nonsense.clone(), key.clone()),
            "nonsense cannot be used",
        ),
        (
            with(std::env::temp_dir(), key.clone()),
            "is no regular file: it must be a file in PEM",
        ),
        (
            with(pem.clone(), PathBuf::from("/dev/zero")),
            "/dev/zero is no regular file",
        ),
        (with(large.clone(), key.clone()), "more than 1048576 bytes"),
        (
            with(pem.clone(), file("encrypted.key")),
            "is encrypted: decrypt it with \"openssl pkey",
        ),
        (
            with(pem.clone(), file("wild.key")),
            "wild.key is not that of the first certificate in ",
        ),
        (
            error(&ServerSettings::default()),
            "a certificate and its key",
        ),
    ];
    for (seen, expected) in rows {
        assert!(
            seen.contains(expected),
            "{seen:?} does not say {expected:?}"
        );
    }
    let mut settings = server_settings(&["edge"]);
    settings.client_auth = ClientAuth::Required;
    assert!(error(&settings).contains("no file names who issues them"));
    settings.client_ca = Some(empty.clone());
    assert!(error(&settings).contains("has no CERTIFICATE"));
    settings.client_ca = Some(file("authority.pem"));
    settings.client_crl = Some(pem);
    assert!(error(&settings).contains("edge.pem has no X509 CRL"));
    settings.client_crl = Some(file("revoked.crl"));
    settings
        .load(SystemTime::now())
        .expect("it is the authority's");
    settings.client_ca = Some(file("stranger.pem"));
    assert!(error(&settings).contains("revoked.crl is by none of the authorities"));
    let client = ClientTls::load(&ClientSettings::new(
        "not a name",
        Roots::Pinned(Vec::new()),
    ));
    assert!(matches!(client, Err(TlsError::Name(_))));
    let mut settings = client_settings("localhost");
    settings.certificate = Some(certificate("none"));
    assert!(matches!(
        ClientTls::load(&settings),
        Err(TlsError::Unreadable { .. })
    ));
    for path in [empty, broken, nonsense, large] {
        let _ = fs::remove_file(path);
    }
}

#[test]
fn a_certificate_and_its_key_may_be_in_one_file() {
    let both = [fs::read(file("edge.pem")), fs::read(file("edge.key"))];
    let both = both.map(|content| content.expect("it is there")).concat();
    let path = temporary("both", &both);
    let mut settings = ServerSettings::default();
    settings.certificates = vec![CertificateFiles::new(&path, &path)];
    let loaded = settings.load(SystemTime::now()).expect("it loads");
    assert_eq!(
        loaded.certificates[0].names,
        ["localhost", "edge.example.com"]
    );
    let _ = fs::remove_file(path);
}

#[test]
fn times_and_kinds_that_should_not_stay_are_warnings() {
    let warnings = |name: &str, now: SystemTime| {
        let loaded = server_settings(&[name]).load(now).expect("it works");
        let certificate = &loaded.certificates[0];
        assert!(certificate.not_before < certificate.not_after);
        // A program that runs for long asks again.
        let of_time = certificate.warning(now);
        let at_load = loaded.warnings.iter().find(|warning| {
            matches!(
                warning,
                Warning::Expired(..) | Warning::NotYetValid(..) | Warning::ExpiresSoon(..)
            )
        });
        assert_eq!(of_time.as_ref(), at_load);
        loaded.warnings
    };
    let day = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
    // 2026-01-01
    let now = day(20_454);
    assert_eq!(warnings("edge", now), []);
    // Until 2021-01-01, five leap-free years and one leap day ago.
    let (expired, pem) = (warnings("expired", now), file("expired.pem"));
    assert_eq!(expired, [Warning::Expired(pem.clone(), 1_826)]);
    assert_eq!(
        warnings("expired", day(18_618)),
        [Warning::ExpiresSoon(pem, 10)]
    );
    assert_eq!(warnings("expired", day(18_614)), []);
    let early = warnings("early", now);
    assert!(
        matches!(&early[..], [Warning::NotYetValid(_, 27_028)]),
        "{early:?}"
    );
    assert_eq!(warnings("rsa", now), [Warning::Rsa(file("rsa.key"))]);
    let unnamed = ServerSettings::load(&server_settings(&["wild"]), now).expect("it loads");
    assert_eq!(unnamed.certificates[0].names, ["*.wild.example"]);
    for warning in expired.iter().chain(&early) {
        assert!(
            warning.to_string().contains(".pem: the certificate "),
            "{warning}"
        );
    }
}

/// Each name belongs to one certificate, and a client refuses a name that the certificate does not have.
#[test]
fn names_that_do_nothing_are_warnings() {
    // 2026-01-01
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(20_454 * 86_400);
    let mut settings = server_settings(&["edge", "wild", "edge"]);
    let warnings = |settings: &ServerSettings| settings.load(now).expect("it works").warnings;
    assert_eq!(
        warnings(&settings),
        [Warning::NeverChosen(file("edge.pem"))]
    );
    // With a name that is free it is chosen.
    settings.certificates[2].names = vec!["LOCALHOST".into(), "other.example".into()];
    let foreign = Warning::ForeignName(file("edge.pem"), "other.example".into());
    assert_eq!(warnings(&settings), [foreign]);
    let given = |name: &str| {
        let mut settings = server_settings(&["wild"]);
        settings.certificates[0].names = vec![name.to_owned()];
        warnings(&settings)
    };
    for covered in ["*.wild.example", "a.wild.example", "A.Wild.Example"] {
        assert_eq!(given(covered), [], "{covered}");
    }
    for other in ["wild.example", "a.b.wild.example", "*.a.wild.example", "*"] {
        let foreign = Warning::ForeignName(file("wild.pem"), other.to_owned());
        assert_eq!(given(other), [foreign]);
    }
}

/// A list that is out of date still counts, and whoever has to renew it is told.
#[test]
fn a_list_that_is_out_of_date_is_a_warning() {
    let mut settings = server_settings(&["edge"]);
    settings.client_auth = ClientAuth::Required;
    settings.client_ca = Some(file("authority.pem"));
    let load = |settings: &ServerSettings, now| settings.load(now).expect("it works");
    assert_eq!(load(&settings, SystemTime::now()).lists, None);
    settings.client_crl = Some(file("revoked.crl"));
    let loaded = load(&settings, SystemTime::now());
    assert_eq!(loaded.warnings, []);
    let lists = loaded.lists.expect("there is one");
    assert_eq!(lists.path, file("revoked.crl"));
    let due = SystemTime::UNIX_EPOCH + Duration::from_secs(lists.next_update.as_secs());
    assert!(due > SystemTime::now());
    assert_eq!(lists.warning(due - Duration::from_secs(1)), None);
    let late = due + Duration::from_secs(3 * 86_400);
    let outdated = Warning::ListOutdated(file("revoked.crl"), 3);
    assert_eq!(lists.warning(late).as_ref(), Some(&outdated));
    assert!(load(&settings, late).warnings.contains(&outdated));
}
