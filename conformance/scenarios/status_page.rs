//! The status page, at the address of the metrics.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use conformance::PATIENCE;

use super::{METRICS, rig};

const WATCHERS: usize = 8;

fn ask(address: SocketAddr, path: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is taken");
    BufReader::new(stream)
}

/// Returns the next event.
fn event(watcher: &mut BufReader<TcpStream>) -> String {
    let mut lines = watcher.lines().map(|line| line.expect("an event"));
    let data = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned));
    data.expect("more events")
}

#[test]
fn the_page_shows_totals_alone_and_may_ask_nobody_else() {
    let mut rig = rig(METRICS);
    let client = rig.join();
    let address = rig.edge.metrics_address();
    let mut text = String::new();
    ask(address, "/").read_to_string(&mut text).expect("a page");
    let (head, page) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(
        head.contains("Content-Security-Policy: default-src 'none'"),
        "{head}"
    );
    assert!(
        page.contains("<th scope=\"row\">sessions attached</th><td>1</td>"),
        "{page}"
    );
    for secret in [client.id().to_string(), rig.address().to_string()] {
        assert!(!page.contains(&secret), "{secret}");
    }
}

#[test]
fn watchers_hear_every_second_and_have_a_bound_and_hold_up_no_scrape() {
    let mut rig = rig(METRICS);
    let address = rig.edge.metrics_address();
    let mut watchers: Vec<_> = (0..WATCHERS).map(|_| ask(address, "/events")).collect();
    for watcher in &mut watchers {
        assert!(event(watcher).contains("\"attached\":0"));
    }
    let mut refused = String::new();
    ask(address, "/events")
        .read_to_string(&mut refused)
        .expect("an answer");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let _client = rig.join();
    while !event(&mut watchers[0]).contains("\"attached\":1") {}
    assert_eq!(
        rig.edge
            .metrics()
            .value("voltlane_sessions{state=\"attached\"}"),
        1
    );
    // Its place is free once the edge has seen that it left.
    drop(watchers.pop());
    loop {
        let mut line = String::new();
        ask(address, "/events")
            .read_line(&mut line)
            .expect("an answer");
        if line.starts_with("HTTP/1.1 200 ") {
            break;
        }
    }
    rig.stop();
}
