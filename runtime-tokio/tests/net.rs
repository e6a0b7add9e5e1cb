//! The sockets keep the contract of the driver's traits.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpSocket;
use voltlane_driver::{Connector as _, Listener as _, Stream as _};
use voltlane_tokio::{TcpConnector, TcpListener, TcpStream};

/// Longer than anything here takes, so that a hang is a failure.
const BOUND: Duration = Duration::from_secs(20);

async fn pair(bind: &str) -> (TcpStream, TcpStream) {
    let mut listener = TcpListener::bind(bind).await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut connector = TcpConnector::new(address.to_string());
    let connected = connector.connect().await.expect("somebody listens");
    let (accepted, source) = poll_fn(|cx| listener.poll_accept(cx))
        .await
        .expect("somebody connects");
    assert_eq!(source.is_ipv4(), address.is_ipv4());
    (connected, accepted)
}

async fn write(stream: &mut TcpStream, parts: [&[u8]; 2]) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_write(cx, &parts.map(IoSlice::new))).await
}

async fn read(stream: &mut TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_read(cx, buf)).await
}

#[tokio::test]
async fn bytes_pass_and_the_end_is_told() {
    let run = async {
        for bind in ["127.0.0.1:0", "[::1]:0", "::1:0", "localhost:0"] {
            let (mut a, mut b) = pair(bind).await;
            let mut buf = [0; 64];
            assert_eq!(
                write(&mut a, [b"one ", b"segment"]).await.expect("written"),
                11
            );
            assert_eq!(read(&mut b, &mut buf).await.expect("read"), 11);
            assert_eq!(&buf[..11], b"one segment");
            // Drained: the waker is registered and nothing is ready.
            assert!(
                poll_fn(|cx| Poll::Ready(b.poll_read(cx, &mut buf)))
                    .await
                    .is_pending()
            );

            poll_fn(|cx| a.poll_close(cx)).await.expect("closed");
            assert_eq!(read(&mut b, &mut buf).await.expect("the end"), 0);
            // Only one half was closed.
            assert_eq!(write(&mut b, [b"late", b""]).await.expect("written"), 4);
            assert_eq!(read(&mut a, &mut buf).await.expect("read"), 4);
        }
    };
    tokio::time::timeout(BOUND, run).await.expect("in time");
}

#[tokio::test]
async fn an_aborted_stream_is_reset() {
    let run = async {
        let (a, mut b) = pair("127.0.0.1:0").await;
        a.abort();
        let error = read(&mut b, &mut [0; 8])
            .await
            .expect_err("not an orderly end");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    };
    tokio::time::timeout(BOUND, run).await.expect("in time");
}

#[tokio::test]
async fn what_cannot_be_reached_is_an_error() {
    // Bound, so that nobody else gets the port, and nobody listens.
    let deaf = TcpSocket::new_v4().expect("a socket");
    deaf.bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let free = deaf.local_addr().expect("it is bound");
    for address in [
        &free.to_string(),
        "no port",
        "127.0.0.1:65536",
        "127.0.0.1:",
    ] {
        assert!(
            TcpConnector::new(address).connect().await.is_err(),
            "{address}"
        );
    }
    assert!(
        TcpListener::bind("192.0.2.1:0").await.is_err(),
        "not an address of this machine"
    );
}
