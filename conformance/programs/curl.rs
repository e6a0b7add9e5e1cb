//! `curl`: health checks, the opening of a WebSocket, and requests that open none. (SPEC 16.2)

use conformance::others::find;
use conformance::shim::{Carriage, Shim as _, certificate_file};
use conformance::{Backend, Directory, Edge};

use super::{rigs, start};

const UPGRADE: [&str; 8] = [
    "-H",
    "Connection: Upgrade",
    "-H",
    "Upgrade: websocket",
    "-H",
    "Sec-WebSocket-Version: 13",
    "-H",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// Returns the status of the answer, or the exit code of curl if there is none.
fn status(arguments: &[&str]) -> Option<Result<String, i32>> {
    let every = [
        "-sS",
        "--max-time",
        "20",
        "--http1.1",
        "-w",
        "%{http_code}",
        "-o",
        "/dev/null",
    ];
    let client = start(find("curl")?, &[&every[..], arguments].concat());
    let finished = client.end();
    Some(match finished.code {
        Some(0) => Ok(finished.stdout.trim().to_owned()),
        code => Err(code.expect("an exit code")),
    })
}

#[test]
fn requests_are_answered_by_their_kind() {
    let long = format!("X-Long: {}", "x".repeat(5_000));
    for rig in rigs(&Carriage::WebSocket.config()) {
        let url = format!("http://{}", rig.address());
        let [health, root, other] = ["/healthz", "/", "/other"].map(|path| format!("{url}{path}"));
        let upgrade = |with: &[&'static str]| [&UPGRADE[..], with].concat();
        let rows: &[(Vec<&str>, &str, Result<&str, i32>)] = &[
            (vec![], &health, Ok("200")),
            (vec!["-I"], &health, Ok("405")),
            (vec!["-X", "POST"], &health, Ok("405")),
            // It has a body.
            (vec!["-d", "body"], &health, Ok("400")),
            (vec![], &root, Ok("426")),
            (vec![], &other, Ok("404")),
            (upgrade(&[]), &other, Ok("404")),
            (upgrade(&["-X", "POST"]), &root, Ok("405")),
            (
                upgrade(&["-H", "Origin: https://elsewhere.example"]),
                &root,
                Ok("403"),
            ),
            (
                upgrade(&["-H", "Sec-WebSocket-Protocol: chat"]),
                &root,
                Ok("400"),
            ),
            (
                upgrade(&["-H", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]),
                &root,
                Ok("400"),
            ),
            (upgrade(&["-H", "Host;"]), &root, Ok("400")),
            (upgrade(&["-H", "Content-Length: 5"]), &root, Ok("400")),
            (vec!["-H", &long], &root, Ok("431")),
            (vec!["--http1.0"], &root, Ok("400")),
        ];
        for (arguments, url, expected) in rows {
            let Some(status) = status(&[&arguments[..], &[url]].concat()) else {
                return;
            };
            assert_eq!(
                status.as_deref(),
                expected.as_ref().map(|text| &**text),
                "{arguments:?} {url}"
            );
        }
        // Closed unanswered.
        let unanswered = status(&["--http2-prior-knowledge", &root]);
        assert!(unanswered.is_none_or(|status| status.is_err()));
        rig.stop();
    }
}

#[test]
fn a_websocket_is_opened() {
    // Curl says nothing before the end.
    let config = format!(
        "{}limits.handshake_timeout_secs = 3\n",
        Carriage::WebSocket.config()
    );
    for rig in rigs(&config) {
        let Some(command) = find("curl") else {
            return;
        };
        let url = format!("http://{}/", rig.address());
        let protocol = "Sec-WebSocket-Protocol: voltlane.v2";
        let arguments = [
            "-sS",
            "--http1.1",
            "--max-time",
            "20",
            "-i",
            "-H",
            protocol,
            &url,
        ];
        let finished = start(command, &[&UPGRADE[..], &arguments].concat()).end();
        let says = |line: &str| assert!(finished.stdout.contains(line), "{}", finished.stdout);
        says("HTTP/1.1 101 ");
        says("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
        says("Sec-WebSocket-Protocol: voltlane.v2\r\n");
        rig.stop();
    }
}

#[test]
fn a_health_check_within_tls_needs_the_certificate() {
    let authority = certificate_file("authority.pem").display().to_string();
    for rig in rigs(&Carriage::WebSocketTls.config()) {
        let (ip, port) = (rig.address().ip(), rig.address().port());
        let resolve = format!("edge.example.com:{port}:{ip}");
        let url = format!("https://edge.example.com:{port}/healthz");
        let by_address = format!("https://{ip}:{port}/healthz");
        let trusts = ["--cacert", &authority];
        let rows: &[(&[&str], &str, Result<&str, i32>)] = &[
            (&trusts, &url, Ok("200")),
            (&["--cacert", &authority, "--no-alpn"], &url, Ok("200")),
            // An authority that nobody knows, another name, and no version in common.
            (&[], &url, Err(60)),
            (&trusts, &by_address, Err(60)),
            (&["--cacert", &authority, "--tls-max", "1.2"], &url, Err(35)),
        ];
        for (arguments, url, expected) in rows {
            let all = [arguments, &["--resolve", &resolve, *url][..]].concat();
            let Some(status) = status(&all) else {
                return;
            };
            assert_eq!(
                status.as_deref(),
                expected.as_ref().map(|text| &**text),
                "{arguments:?} {url}"
            );
        }
        rig.stop();
    }
}

#[test]
fn a_unix_socket_is_a_listener_like_another() {
    let directory = Directory::new();
    for program in crate::PROGRAMS {
        let (place, backend) = (directory.file("edge.sock"), Backend::bind());
        let config = format!(
            "[[listener]]\nname = \"main\"\n[[listener]]\nname = \"web\"\naddress = \"unix:{}\"\ntransport = \"ws\"\n",
            place.display()
        );
        let edge = Edge::start(program, backend.address(), &config);
        edge.expect_log("listener=web");
        let place = place.display().to_string();
        for (path, expected) in [("/healthz", "200"), ("/", "426"), ("/other", "404")] {
            let url = format!("http://edge{path}");
            let Some(status) = status(&["--unix-socket", &place, &url]) else {
                return;
            };
            assert_eq!(status.as_deref(), Ok(expected), "{path}");
        }
        edge.stop();
    }
}
