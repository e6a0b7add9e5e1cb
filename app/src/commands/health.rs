//! `health`: asks a running edge whether it is ready, as a container's health check does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::config::{Address, Settings};

/// The time for the whole answer. The edge itself takes at most a second to say that a loop does not respond.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than the edge ever answers to such a request.
const MAX_ANSWER_BYTES: u64 = 4_096;

/// Why an edge does not count as healthy.
#[derive(Debug, Error)]
pub(crate) enum Unhealthy {
    /// The configuration has no address to ask at.
    #[error("metrics.address is empty, so no edge answers; set it, as to \"127.0.0.1:9100\"")]
    NoAddress,
    /// The configuration has an address that only the edge knows.
    #[error("metrics.address = \"{0}\" leaves the port to the system; name one")]
    AnyPort(Address),
    /// There is no edge, or it does not answer.
    #[error("no answer from {0}: {1}")]
    NoAnswer(Address, io::Error),
    /// Something answers that is no edge.
    #[error("{0} answers as no edge does: another program has this port (metrics.address)")]
    Foreign(Address),
    /// The edge answers that it is not ready, and why.
    #[error("{0}")]
    NotReady(String),
}

/// Asks the edge with these settings. Returns its answer if it is healthy: it runs and, unless `alive` is enough, has a backend.
pub(crate) fn ask(settings: &Settings, alive: bool) -> Result<String, Unhealthy> {
    let address = &settings.metrics_address().ok_or(Unhealthy::NoAddress)?;
    if address.port() == 0 {
        return Err(Unhealthy::AnyPort(address.clone()));
    }
    let path = if alive { "/healthz" } else { "/readyz" };
    let answer = get(address, path).map_err(|error| Unhealthy::NoAnswer(address.clone(), error))?;
    match read(&answer) {
        None => Err(Unhealthy::Foreign(address.clone())),
        Some((true, text)) => Ok(text.to_owned()),
        Some((false, text)) => Err(Unhealthy::NotReady(text.to_owned())),
    }
}

fn get(address: &Address, path: &str) -> io::Result<Vec<u8>> {
    let until = Instant::now() + PATIENCE;
    let mut stream = connect((address.host(), address.port()).to_socket_addrs()?, until)?;
    stream.set_write_timeout(Some(left(until)?))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    let mut piece = [0; 1_024];
    // Each read has the rest of the time, so an answer in drops takes no longer.
    while (answer.len() as u64) < MAX_ANSWER_BYTES {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(&mut piece)? {
            0 => break,
            length => answer.extend_from_slice(&piece[..length]),
        }
    }
    Ok(answer)
}

/// Connects to the first address that accepts.
fn connect(addresses: impl Iterator<Item = SocketAddr>, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, left(until)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "not in time"));
    }
    Ok(left)
}

/// Returns whether the status is 200, and the text of the answer. `None` for anything but a response of HTTP/1.1 with 200 or 503.
fn read(answer: &[u8]) -> Option<(bool, &str)> {
    let answer = std::str::from_utf8(answer).ok()?;
    let (head, text) = answer.split_once("\r\n\r\n")?;
    let is_well = match head.strip_prefix("HTTP/1.1 ")?.get(..4)? {
        "200 " => true,
        "503 " => false,
        _ => return None,
    };
    Some((is_well, text.trim()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn asked_at(address: &str) -> Settings {
        let mut settings = Settings::default();
        let address: Address = address.parse().expect("an address");
        settings.metrics.address = Some(address.into());
        settings
    }

    /// Asks a server that answers the first request with this.
    fn answered(answer: &'static [u8]) -> Result<String, Unhealthy> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a request");
                    request.push(byte[0]);
                }
                stream.write_all(answer).expect("it is read");
            });
            ask(&asked_at(&address), false)
        })
    }

    #[test]
    fn an_answer_is_healthy_or_says_why_not() {
        let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
        assert_eq!(answered(ok).expect("it is"), "ok");
        let not = b"HTTP/1.1 503 Service Unavailable\r\n\r\nthere is no backend\n";
        let not = answered(not).expect_err("it is not");
        assert_eq!(not.to_string(), "there is no backend");
        for foreign in [
            &b""[..],
            b"HTTP/1.1 404 Not Found\r\n\r\n",
            b"SSH-2.0-x\r\n\r\n",
            b"\xff\r\n\r\n",
        ] {
            let error = answered(foreign).expect_err("no edge");
            assert!(matches!(error, Unhealthy::Foreign(_)), "{error}");
        }
    }

    #[test]
    fn an_answer_without_end_is_read_to_its_bound() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        thread::scope(|scope| {
            scope.spawn(move || {
                let (mut stream, _) = listener.accept().expect("a client");
                // Until the client has gone.
                while stream.write_all(&[b'x'; 1_024]).is_ok() {}
            });
            let error = ask(&asked_at(&address), true).expect_err("no edge");
            assert!(matches!(error, Unhealthy::Foreign(_)), "{error}");
        });
    }

    #[test]
    fn without_an_address_or_an_edge_the_remedy_is_said() {
        let mut nowhere = Settings::default();
        nowhere.metrics.address = None;
        let error = ask(&nowhere, false).expect_err("none");
        assert!(error.to_string().contains("set it, as to"), "{error}");
        let error = ask(&asked_at("127.0.0.1:0"), false).expect_err("none");
        assert!(error.to_string().contains("name one"), "{error}");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("bound").to_string();
        drop(free);
        let error = ask(&asked_at(&address), false).expect_err("none");
        assert!(matches!(error, Unhealthy::NoAnswer(..)), "{error}");
    }
}
