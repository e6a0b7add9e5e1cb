//! SPEC 16.2: which requests are granted, refused, and how.

use std::net::IpAddr;

use proptest::prelude::*;
use voltlane_doors::websocket::http::{
    Forwarded, HeadFault, HeadReader, MAX_HEADERS, NotUpgraded, Origin, Origins, Outcome, Refusal,
    Rules, Traced, Upgrade, check_answer, request,
};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// The example of SPEC 16.2.
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: edge.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: voltlane.v2\r\n\r\n";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn rules() -> Rules {
    Rules::default()
}

/// Reads and judges a request that arrives in pieces. Returns the outcome, the answer and what was not consumed.
fn serve(
    rules: &Rules,
    bytes: &[u8],
    piece: usize,
) -> (Result<Option<Outcome>, Refusal>, String, usize) {
    let mut reader = HeadReader::default();
    let mut out = Vec::new();
    for (at, chunk) in bytes.chunks(piece).enumerate() {
        let mut input = chunk;
        let outcome = match reader.read(&mut input, rules.max_head_bytes) {
            Ok(None) => continue,
            Ok(Some(head)) => rules.answer(&head, PEER, &mut out),
            Err(fault) => Err(fault.into()),
        };
        if let Err(refusal) = outcome {
            assert!(out.is_empty());
            refusal.write(&mut out);
        }
        let taken = at * piece + chunk.len() - input.len();
        let answer = String::from_utf8(out).expect("our own text");
        return (outcome.map(Some), answer, bytes.len() - taken);
    }
    (Ok(None), String::new(), 0)
}

fn refusal(rules: &Rules, request: &str) -> Refusal {
    let (outcome, answer, _) = serve(rules, request.as_bytes(), usize::MAX);
    let refusal = outcome.expect_err(request);
    let status = refusal.status();
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    let (head, text) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(
        head.ends_with(&format!("Content-Length: {}", text.len())),
        "{answer}"
    );
    refusal
}

fn granted(rules: &Rules, request: &str) -> (Upgrade, String) {
    match serve(rules, request.as_bytes(), usize::MAX) {
        (Ok(Some(Outcome::Upgrade(upgrade))), answer, 0) => (upgrade, answer),
        other => panic!("{request}: {other:?}"),
    }
}

#[test]
fn the_example_is_answered_as_in_the_document() {
    let (upgrade, answer) = granted(&rules(), REQUEST);
    assert_eq!(upgrade.source, Traced::Peer);
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: voltlane.v2\r\n\r\n"
    );
}

#[test]
fn what_is_not_needed_may_differ() {
    for (from, to) in [
        ("Sec-WebSocket-Protocol: voltlane.v2\r\n", ""),
        ("voltlane.v2", "chat, voltlane.v2"),
        ("Connection: Upgrade", "connection: keep-alive, upgrade"),
        (
            "Connection: Upgrade",
            "Connection: keep-alive\r\nConnection: UPGRADE",
        ),
        ("Upgrade: websocket", "Upgrade: WebSocket, other"),
        ("GET / ", "GET /?page=1 "),
        (
            "13\r\n",
            "13\r\nSec-WebSocket-Extensions: permessage-deflate\r\nCookie: a=b\r\n",
        ),
        ("edge.example.com", "[::1]:42000"),
    ] {
        assert!(REQUEST.contains(from), "{from}");
        let (_, answer) = granted(&rules(), &REQUEST.replace(from, to));
        assert!(!answer.contains("Extensions"), "none is negotiated");
        assert_eq!(answer.contains("voltlane.v2"), !to.is_empty());
    }
}

#[test]
fn each_request_that_is_refused_has_its_answer() {
    let with = |from: &str, to: &str| {
        assert!(REQUEST.contains(from), "{from}");
        REQUEST.replacen(from, to, 1)
    };
    let twice = |header: &str| {
        let line = REQUEST
            .lines()
            .find(|line| line.starts_with(header))
            .expect(header);
        with(line, &format!("{line}\r\n{line}"))
    };
    let rows = [
        // smuggling
        (
            with("\r\nConnection", "\r\nContent-Length: 0\r\nConnection"),
            Refusal::Body,
            400,
        ),
        (
            with(
                "\r\nConnection",
                "\r\nContent-Length: 5\r\nContent-Length: 0\r\nConnection",
            ),
            Refusal::Body,
            400,
        ),
        (
            with(
                "\r\nConnection",
                "\r\nTransfer-Encoding: chunked\r\nConnection",
            ),
            Refusal::Body,
            400,
        ),
        (
            with("\r\nConnection", "\nConnection"),
            Refusal::Malformed,
            400,
        ),
        (
            with("Upgrade: websocket", "Upgrade: websocket\r\n folded"),
            Refusal::Malformed,
            400,
        ),
        (
            with("Upgrade: websocket", "Upgrade : websocket"),
            Refusal::Malformed,
            400,
        ),
        (
            with("Upgrade: websocket", "Upgrade: web\0socket"),
            Refusal::Malformed,
            400,
        ),
        (
            with("Upgrade: websocket", "Upgrade: websocket\rX: y"),
            Refusal::Malformed,
            400,
        ),
        (
            with("GET / HTTP/1.1", "GET  / HTTP/1.1"),
            Refusal::Malformed,
            400,
        ),
        (
            with("GET / HTTP/1.1", "GET / HTTP/1.0"),
            Refusal::Malformed,
            400,
        ),
        (
            with("GET / HTTP/1.1", "GET / HTTP/1.2"),
            Refusal::Malformed,
            400,
        ),
        (with("GET / HTTP/1.1", "GET /"), Refusal::Malformed, 400),
        (twice("Host"), Refusal::Host, 400),
        (with("Host: edge.example.com\r\n", ""), Refusal::Host, 400),
        (with("edge.example.com", ""), Refusal::Host, 400),
        (with("edge.example.com", "a, b"), Refusal::Host, 400),
        (with("edge.example.com", "user@edge"), Refusal::Host, 400),
        (twice("Sec-WebSocket-Key"), Refusal::Repeated, 400),
        (twice("Sec-WebSocket-Version"), Refusal::Repeated, 400),
        (
            with("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"),
            Refusal::Key,
            400,
        ),
        (
            with("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
            Refusal::Key,
            400,
        ),
        (
            with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
            Refusal::Key,
            400,
        ),
        (with("voltlane.v2", "chat"), Refusal::Subprotocol, 400),
        (
            with("voltlane.v2", "VOLTLANE.V2"),
            Refusal::Subprotocol,
            400,
        ),
        (
            with("Host", "Origin: https://evil.example\r\nHost"),
            Refusal::Origin,
            403,
        ),
        (with("Host", "Origin: null\r\nHost"), Refusal::Origin, 403),
        (with("GET / ", "GET /other "), Refusal::Path, 404),
        (with("GET / ", "GET // "), Refusal::Path, 404),
        (
            with("GET / ", "GET http://edge.example.com/ "),
            Refusal::Path,
            404,
        ),
        (with("GET / ", "POST / "), Refusal::Method, 405),
        (with("GET / ", "CONNECT edge:443 "), Refusal::Method, 405),
        (with("GET / ", "HEAD /healthz "), Refusal::Method, 405),
        (
            with("Upgrade: websocket\r\n", ""),
            Refusal::NotWebSocket,
            426,
        ),
        (
            with("Upgrade: websocket", "Upgrade: h2c"),
            Refusal::NotWebSocket,
            426,
        ),
        (
            with("Connection: Upgrade", "Connection: close"),
            Refusal::NotWebSocket,
            426,
        ),
        (
            with("Version: 13", "Version: 8"),
            Refusal::NotWebSocket,
            426,
        ),
        (
            with("Sec-WebSocket-Version: 13\r\n", ""),
            Refusal::NotWebSocket,
            426,
        ),
        (
            with("Host", &format!("X: {}\r\nHost", "x".repeat(4_096))),
            Refusal::TooLong,
            431,
        ),
        (
            with("Host", &format!("{}Host", "X: y\r\n".repeat(MAX_HEADERS))),
            Refusal::TooLong,
            431,
        ),
    ];
    for (request, expected, status) in rows {
        let seen = refusal(&rules(), &request);
        assert_eq!((seen, seen.status()), (expected, status), "{request}");
    }
    let required = Rules::default();
    let mut required = required;
    required.origin_required = true;
    assert_eq!(refusal(&required, REQUEST), Refusal::Origin);
}

#[test]
fn what_is_not_http_1_is_closed_unanswered() {
    for bytes in [
        &b"\x16\x03\x01\x00\xc8"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let (outcome, answer, _) = serve(&rules(), bytes, 1);
        assert_eq!(
            (outcome, answer.as_str()),
            (Err(Refusal::OtherProtocol), "")
        );
    }
    let mut reader = HeadReader::default();
    assert_eq!(reader.read(&mut &b"\x16"[..], 99), Err(HeadFault::Tls));
    // The frames of a client of the plain link.
    let (outcome, ..) = serve(&rules(), &[0, 0, 0, 5, 0], 1);
    assert_eq!(outcome, Err(Refusal::Malformed));
}

#[test]
fn a_head_may_be_as_long_as_the_bound() {
    let mut rules = rules();
    rules.max_head_bytes = REQUEST.len();
    granted(&rules, REQUEST);
    rules.max_head_bytes -= 1;
    assert_eq!(refusal(&rules, REQUEST), Refusal::TooLong);
}

#[test]
fn the_health_path_tells_that_the_process_serves() {
    let rules = rules();
    // Load balancers may speak an older version, without a Host.
    for request in [
        "GET /healthz HTTP/1.0\r\n\r\n",
        "GET /healthz?x HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let (outcome, answer, _) = serve(&rules, request.as_bytes(), 5);
        assert_eq!(outcome, Ok(Some(Outcome::Health)));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let mut without = Rules::default();
    without.health_path = None;
    let seen = refusal(&without, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(seen, Refusal::Path);
}

#[test]
fn bytes_behind_the_head_are_left() {
    let two = format!("{REQUEST}{REQUEST}");
    let (outcome, _, left) = serve(&rules(), two.as_bytes(), usize::MAX);
    assert!(matches!(outcome, Ok(Some(Outcome::Upgrade(_)))));
    assert_eq!(left, REQUEST.len());
}

#[test]
fn origins_are_compared_as_origins() {
    let listed = |texts: &[&str]| {
        Origins::Listed(
            texts
                .iter()
                .map(|text| text.parse().expect("an origin"))
                .collect(),
        )
    };
    let one = listed(&["https://Play.example.com", "https://*.example.org:8443"]);
    let rows: &[(&Origins, &str, &str, bool)] = &[
        (
            &Origins::SameHost,
            "https://edge.example.com",
            "edge.example.com",
            true,
        ),
        (
            &Origins::SameHost,
            "https://EDGE.example.com:443",
            "edge.example.com",
            true,
        ),
        (
            &Origins::SameHost,
            "http://edge.example.com:8080",
            "edge.example.com:8080",
            true,
        ),
        (
            &Origins::SameHost,
            "http://edge.example.com",
            "edge.example.com:8080",
            false,
        ),
        (
            &Origins::SameHost,
            "https://edge.example.com.evil",
            "edge.example.com",
            false,
        ),
        (&Origins::SameHost, "null", "null", false),
        (&one, "https://play.example.com", "other", true),
        (&one, "http://play.example.com", "other", false),
        (&one, "https://play.example.com:444", "other", false),
        (&one, "https://a.example.org:8443", "other", true),
        (&one, "https://a.b.example.org:8443", "other", false),
        (&one, "https://.example.org:8443", "other", false),
        (&one, "https://example.org:8443", "other", false),
        (&one, "https://evil/?.example.org:8443", "other", false),
        (&one, "https://a.example.org", "other", false),
    ];
    for (origins, origin, host, allowed) in rows {
        assert_eq!(
            origins.allow(origin.as_bytes(), host.as_bytes()),
            *allowed,
            "{origin} to {host}"
        );
    }
    assert!(listed(&["*"]).allow(b"null", b"edge"));
    assert!(!listed(&[]).allow(b"https://edge", b"edge"));
    for wrong in [
        "",
        "example.com",
        "https://",
        "https://*",
        "https://*.",
        "https://a.*.b",
        "https://a/path",
        "//a",
    ] {
        let error = wrong.parse::<Origin>().expect_err(wrong).to_string();
        assert!(error.contains("https://*.example.com"), "{error}");
    }
}

#[test]
fn addresses_are_followed_from_right_to_left_through_trusted_proxies() {
    use Traced::{Address, Malformed, Peer};
    let trusted = [
        "192.0.2.0/24".parse().unwrap(),
        "2001:db8::/32".parse().unwrap(),
    ];
    let trace = |kind: Forwarded, peer: &str, values: &[&str]| {
        kind.trace(
            ip(peer),
            &trusted,
            values.iter().map(|value| value.as_bytes()),
        )
    };
    let x = Forwarded::XForwardedFor;
    let f = Forwarded::Forwarded;
    let client = Address(ip("198.51.100.7"));
    let rows: &[(Forwarded, &str, &[&str], Traced)] = &[
        (Forwarded::Off, "192.0.2.1", &["198.51.100.7"], Peer),
        (x, "203.0.113.1", &["198.51.100.7"], Peer),
        (x, "192.0.2.1", &[], Peer),
        (x, "192.0.2.1", &["198.51.100.7"], client),
        (x, "::ffff:192.0.2.1", &["198.51.100.7"], client),
        // Spoofed: the leftmost entries are the client's own words.
        (x, "192.0.2.1", &["10.0.0.1, 198.51.100.7"], client),
        (x, "192.0.2.1", &["10.0.0.1", "198.51.100.7"], client),
        (
            x,
            "192.0.2.1",
            &["10.0.0.1, 198.51.100.7, 192.0.2.9"],
            client,
        ),
        (
            x,
            "192.0.2.1",
            &["198.51.100.7", "192.0.2.9 , 2001:db8::2"],
            client,
        ),
        (
            x,
            "192.0.2.1",
            &["192.0.2.8, 192.0.2.9"],
            Address(ip("192.0.2.8")),
        ),
        (x, "192.0.2.1", &["198.51.100.7:4711"], client),
        (
            x,
            "192.0.2.1",
            &["[2001:db9::1]:80"],
            Address(ip("2001:db9::1")),
        ),
        (
            x,
            "192.0.2.1",
            &["[2001:db9::1]"],
            Address(ip("2001:db9::1")),
        ),
        (x, "192.0.2.1", &["::ffff:198.51.100.7"], client),
        (x, "192.0.2.1", &["198.51.100.7, unknown"], Malformed),
        (x, "192.0.2.1", &["198.51.100.7,"], Malformed),
        (x, "192.0.2.1", &["not an address"], Malformed),
        (f, "192.0.2.1", &["for=198.51.100.7"], client),
        (
            f,
            "192.0.2.1",
            &["for=10.0.0.1, For=\"198.51.100.7:1\";proto=https;by=192.0.2.1"],
            client,
        ),
        (
            f,
            "192.0.2.1",
            &["for=\"[2001:db9::1]:4711\""],
            Address(ip("2001:db9::1")),
        ),
        (
            f,
            "192.0.2.1",
            &["for=198.51.100.7;host=\"a,for=10.0.0.1\""],
            client,
        ),
        (f, "192.0.2.1", &["for=_hidden"], Malformed),
        (f, "192.0.2.1", &["proto=https"], Malformed),
        (f, "192.0.2.1", &["for=10.0.0.1;for=10.0.0.2"], Malformed),
        (f, "192.0.2.1", &["for=\"198.51.100.7"], Malformed),
    ];
    for (kind, peer, values, expected) in rows {
        assert_eq!(
            trace(*kind, peer, values),
            *expected,
            "{kind:?} {peer} {values:?}"
        );
    }
}

#[test]
fn a_request_takes_its_address_from_the_header_that_was_chosen() {
    let mut rules = rules();
    rules.forwarded = Forwarded::XForwardedFor;
    rules.trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
    let request = REQUEST.replace(
        "Host",
        "X-Forwarded-For: 10.9.9.9\r\nForwarded: for=10.8.8.8\r\nx-forwarded-for: 198.51.100.7\r\nHost",
    );
    let (upgrade, _) = granted(&rules, &request);
    assert_eq!(upgrade.source, Traced::Address(ip("198.51.100.7")));
}

#[test]
fn a_client_takes_only_the_answer_to_its_own_request() {
    let mut bytes = Vec::new();
    let key = request("edge.example.com", "/", *b"the sample nonce", &mut bytes);
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), REQUEST);
    let (_, answer) = granted(&rules(), REQUEST);
    assert_eq!(check_answer(answer.as_bytes(), &key), Ok(()));
    let with = |from: &str, to: &str| {
        assert!(answer.contains(from), "{from}");
        check_answer(answer.replacen(from, to, 1).as_bytes(), &key)
    };
    assert_eq!(with("s3pP", "S3pP"), Err(NotUpgraded::Key));
    assert_eq!(with("voltlane.v2", "chat"), Err(NotUpgraded::NotOffered));
    assert_eq!(
        with("Connection", "Sec-WebSocket-Extensions: x\r\nConnection"),
        Err(NotUpgraded::NotOffered)
    );
    assert_eq!(
        with("Upgrade: websocket", "Upgrade: h2c"),
        Err(NotUpgraded::Malformed)
    );
    assert_eq!(
        with("101 Switching Protocols", "200 OK"),
        Err(NotUpgraded::Status(200))
    );
    assert_eq!(with("HTTP/1.1", "HTTQ/1.1"), Err(NotUpgraded::Malformed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_cut_of_a_request_gives_the_same(at in 0..REQUEST.len(), byte: u8, piece in 1..50_usize) {
        let mut request = REQUEST.as_bytes().to_vec();
        request[at] = byte;
        request.extend_from_slice(b"behind");
        let whole = serve(&rules(), &request, usize::MAX);
        prop_assert_eq!(serve(&rules(), &request, piece), whole);
    }
}
