//! A PROXY header in front of the layers (SPEC 10.7, 16).

use std::task::Poll;

use voltlane_core::edge::proxy::{MAX_BINARY_REST_BYTES, ProxySource};
use voltlane_doors::websocket::http::Rules;
use voltlane_driver::{Connector, Stream};

use super::reluctant::*;

const LINE: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 1\r\n";

/// Returns a binary header with as many extensions as there may be, such as those about the proxy's own TLS.
fn longest() -> Vec<u8> {
    let mut header = Vec::new();
    let source = "198.51.100.7:40000".parse().expect("an address");
    ProxySource::Address(source).encode(&mut header);
    let more = usize::from(MAX_BINARY_REST_BYTES) - 12;
    header[14..16].copy_from_slice(&MAX_BINARY_REST_BYTES.to_be_bytes());
    header.extend(std::iter::repeat_n(0x20, more));
    header
}

fn networks(text: &str) -> Vec<ipnet::IpNet> {
    vec![text.parse().expect("a network")]
}

/// The reader is given the header as it came, then the stream within, however both are cut.
#[test]
fn the_header_is_passed_on_and_the_layers_begin_behind_it() {
    for kind in KINDS {
        let door = door(kind, Rules::default()).with_proxies(networks("192.0.2.0/24"));
        for header in [LINE.to_vec(), longest()] {
            for step in [1, 7, 1_000, 0] {
                let (client, server) = pipe(step);
                client
                    .writes
                    .lock()
                    .expect("no panic")
                    .bytes
                    .extend(&header);
                let mut server = door.enter(server, PEER).expect("a door");
                assert_eq!(server.is_introduced(), Some(true));
                let mut attempt = connector(kind, client).connect();
                let mut seen = Vec::new();
                let mut client = loop {
                    if let Poll::Ready(client) = attempt.as_mut().poll(&mut cx()) {
                        break client.expect("it opens");
                    }
                    let mut buffer = [0; 64];
                    if let Poll::Ready(read) = server.poll_read(&mut cx(), &mut buffer) {
                        let read = read.expect("it gives");
                        assert!(read > 0, "{kind:?} {step}: no end");
                        seen.extend_from_slice(&buffer[..read]);
                    }
                };
                assert!(write(&mut client, b"behind it").is_ready());
                for _ in 0..200 {
                    let _ = client.poll_flush(&mut cx());
                    seen.extend(read(&mut server, 64).0);
                }
                assert_eq!(
                    seen,
                    [&header[..], b"behind it"].concat(),
                    "{kind:?} {step}"
                );
                // Headers are none of the layers' own bytes, and nothing of them is kept.
                assert_eq!(server.held_bytes(), 0);
            }
        }
    }
}

/// What is no header reaches neither TLS nor the request, and nothing is answered: the machine closes.
#[test]
fn what_is_no_header_is_not_answered() {
    for kind in KINDS {
        let door = door(kind, Rules::default()).with_proxies(networks("192.0.2.0/24"));
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\x16\x03\x01",
            b"PROXY TCP9 ",
        ] {
            let (client, server) = pipe(0);
            client.writes.lock().expect("no panic").bytes.extend(bytes);
            let mut server = door.enter(server, PEER).expect("a door");
            let (seen, end) = read(&mut server, 64);
            assert!(bytes.starts_with(&seen) && !seen.is_empty() && end.is_none());
            assert!(client.reads.lock().expect("no panic").bytes.is_empty());
        }
    }
}

#[test]
fn connections_from_elsewhere_have_none() {
    for kind in KINDS {
        let door = door(kind, Rules::default()).with_proxies(networks("203.0.113.0/24"));
        let (mut client, mut server) = open_at(kind, 0, &door);
        assert_eq!(server.is_introduced(), Some(false));
        assert!(write(&mut client, b"at once").is_ready());
        assert_eq!(read(&mut server, 64).0, b"at once");
    }
}
