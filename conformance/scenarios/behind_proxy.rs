//! An edge behind a proxy that names its clients' addresses. (SPEC 10.7)

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use conformance::shim::{Carriage, Shim as _};
use conformance::{Client, Frames, handshake};

use super::rig;

/// Where version 3 is offered a connection beyond the limits of its source is accepted for a Claim alone.
const BEHIND_LOOPBACK: &str = "listener.versions = [2]\n\
                               listener.proxy_protocol = \"required\"\n\
                               listener.trusted_proxies = [\"127.0.0.0/8\"]\n\
                               limits.source_connections = 1\n\
                               clients.missed_packets_buffer_size = 10\n";

/// 198.51.100.7 port 40000 to 203.0.113.1 port 1, with one extension.
const BINARY: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc6\x33\x64\x07\xcb\0\x71\x01\x9c\x40\0\x01\x04\0\x01\xff";

#[test]
fn a_client_joins_and_comes_back_behind_headers_of_both_versions() {
    // IPv4-mapped IPv6 is the same network.
    let config = BEHIND_LOOPBACK.replace("127.0.0.0/8", "::ffff:127.0.0.0/104");
    let mut rig = rig(&config);
    let line = b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 1\r\n";
    let mut frames = Frames::connect(rig.address());
    frames.write(line);
    let mut client = Client::join_over(frames);
    rig.round_trip(&mut client, b"over a line");
    let session = client.leave();
    let mut frames = Frames::connect(rig.address());
    for byte in BINARY {
        frames.write(&[*byte]);
    }
    let mut client = session.resume_over(frames);
    rig.link.expect_resumed(client.id());
    rig.round_trip(&mut client, b"over a binary header");
    rig.stop();
}

#[test]
fn limits_hold_for_whom_the_header_names() {
    let mut rig = rig(BEHIND_LOOPBACK);
    let from = |source: u8| {
        let mut frames = Frames::connect(rig.address());
        frames.write(format!("PROXY TCP4 198.51.100.{source} 203.0.113.1 1 1\r\n").as_bytes());
        frames
    };
    let mut first = Client::join_over(from(1));
    let mut second = from(1);
    second.expect_closed();
    let mut other = Client::join_over(from(2));
    rig.round_trip(&mut first, b"the first of its source");
    rig.round_trip(&mut other, b"of another source");
}

#[test]
fn a_connection_without_a_header_is_closed_without_a_word() {
    let rig = rig(BEHIND_LOOPBACK);
    let hello = handshake::encoded(voltlane_core::v2::packets::Handshake::ProtocolVersion(2));
    for bytes in [
        &hello[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 1.2.3.4\r\n",
    ] {
        let mut frames = Frames::connect(rig.address());
        frames.write(bytes);
        frames.expect_closed();
    }
}

#[test]
fn an_untrusted_proxy_is_turned_away_and_an_unexpected_header_is_no_packet() {
    for config in [
        "listener.proxy_protocol = \"required\"\nlistener.trusted_proxies = [\"192.0.2.0/24\"]\n",
        "",
    ] {
        let rig = rig(config);
        let mut frames = Frames::connect(rig.address());
        // It may be closed before it can be written to.
        let _ = frames.try_write(b"PROXY TCP4 198.51.100.7 203.0.113.1 40000 1\r\n");
        frames.expect_closed();
    }
}

/// A port that leads to `edge`, with a header in front of what comes from it.
fn proxy(edge: SocketAddr, header: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let relay = |mut from: TcpStream, mut to: TcpStream| {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    };
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let mut far = TcpStream::connect(edge).expect("the edge listens");
            far.write_all(&header).expect("it takes it");
            let ends = [&near, &far].map(|end| end.try_clone().expect("a clone"));
            let [near_again, far_again] = ends;
            thread::spawn(move || relay(near, far));
            thread::spawn(move || relay(far_again, near_again));
        }
    });
    address
}

/// The header comes before TLS and before the request, and the limits hold for the address in it.
#[test]
fn a_header_comes_before_every_door() {
    let line =
        |source: u8| format!("PROXY TCP4 198.51.100.{source} 203.0.113.1 40000 1\r\n").into_bytes();
    for carriage in Carriage::ALL {
        let mut rig = rig(&format!("{}{BEHIND_LOOPBACK}", carriage.config()));
        let edge = rig.address();
        let behind = |header: Vec<u8>| carriage.shim(proxy(edge, header));
        let mut first = Client::join(behind(line(1)));
        rig.round_trip(&mut first, b"over a line");
        Frames::connect(behind(line(1))).expect_closed();
        // By a binary header with an extension.
        let session = Client::join(behind(BINARY.to_vec())).leave();
        // From elsewhere: the edge may hear of the end of the other connection after the beginning of this one.
        let mut other = session.resume(behind(line(3)));
        rig.link.expect_resumed(other.id());
        rig.round_trip(&mut other, b"back");
        rig.round_trip(&mut first, b"still here");
        // Without a header, and with half of one, there is no word of TLS or HTTP.
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"\x16\x03\x01\0\xc8",
            b"PROXY TCP4 1.2.3.4\r\n",
        ] {
            let mut frames = Frames::connect(edge);
            frames.write(bytes);
            frames.expect_closed();
        }
        rig.stop();
    }
}
