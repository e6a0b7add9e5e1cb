//! What an edge says of itself over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use conformance::{Client, Frames, PATIENCE};

use super::rig;

/// The status and the body.
fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("it is taken");
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("an answer and its end");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

fn value(page: &str, series: &str) -> u64 {
    let found = page
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let value = found.unwrap_or_else(|| panic!("no {series} in\n{page}"));
    value.parse().expect("a whole number")
}

#[test]
fn numbers_move_with_what_happens_and_an_idle_edge_answers() {
    let mut rig = rig("metrics.address = \"127.0.0.1:0\"\n");
    let line = rig.edge.expect_log("metrics address=");
    let address = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("address="));
    let address = address
        .and_then(|text| text.parse().ok())
        .expect("an address");
    assert_eq!(get(address, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(address, "/readyz"), (200, "ok\n".to_owned()));
    let (status, before) = get(address, "/metrics");
    assert_eq!(status, 200);
    assert_eq!(value(&before, "voltlane_accepts_total"), 0);
    assert_eq!(value(&before, "voltlane_link_up"), 1);

    let mut client = Client::join(rig.address());
    rig.round_trip(&mut client, b"12345");
    let mut stranger = Frames::connect(rig.address());
    stranger.write(b"GET / HTTP/1.1\r\n\r\n");
    stranger.expect_closed();
    let (_, after) = get(address, "/metrics");
    for (series, expected) in [
        ("voltlane_accepts_total", 2),
        ("voltlane_closes_total{reason=\"frame_too_long\"}", 1),
        ("voltlane_sessions_started_total", 1),
        ("voltlane_sessions{state=\"attached\"}", 1),
        ("voltlane_sessions{state=\"away\"}", 0),
        ("voltlane_packets_total{direction=\"up\"}", 1),
        ("voltlane_packets_total{direction=\"down\"}", 1),
        ("voltlane_link_bytes_total{direction=\"in\"}", 13 + 5),
        ("voltlane_link_bytes_total{direction=\"out\"}", 13 + 5),
    ] {
        assert_eq!(value(&after, series), expected, "{series}\n{after}");
    }
    client.leave();
    rig.edge.stop();
}

#[test]
fn an_edge_without_a_backend_is_well_and_not_ready() {
    let rig = rig("metrics.address = \"127.0.0.1:0\"\n");
    let line = rig.edge.expect_log("metrics address=");
    let (_, address) = line.split_once("address=").expect("it was looked for");
    let address = address.trim().parse().expect("an address");
    drop((rig.link, rig.backend));
    let _ = rig.edge.expect_log("the backend is gone");
    assert_eq!(get(address, "/healthz").0, 200);
    assert_eq!(
        get(address, "/readyz"),
        (503, "there is no backend\n".to_owned())
    );
}
