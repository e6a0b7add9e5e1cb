//! `health`: asks a running edge whether it is ready, as a container's health check does.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::config::{Address, Settings};
use crate::edge_name;
use crate::text::excerpt;

/// The time for the whole answer. The edge itself takes at most a second to say that a loop does not respond.
const PATIENCE: Duration = Duration::from_secs(3);
/// More than the edge ever answers to such a request.
const MAX_ANSWER_BYTES: u64 = 4_096;
/// The maximum number of characters shown of the name of another edge.
const SHOWN: usize = 80;

/// Why an edge does not count as healthy.
#[derive(Debug, Error)]
pub(crate) enum Unhealthy {
    /// The configuration has no address to ask at.
    #[error("metrics.address is empty, so no edge answers; set it, as to \"127.0.0.1:42002\"")]
    NoAddress,
    /// The backend has the usual address.
    #[error(
        "metrics.address is \"auto\", and the backend is at the usual address, so no edge answers; set it, as to \"127.0.0.1:42003\""
    )]
    OfBackend,
    /// The configuration has an address that only the edge knows.
    #[error("metrics.address = \"{0}\" leaves the port to the system; name one")]
    AnyPort(Address),
    /// There is no edge, or it does not answer.
    #[error("no answer from {0}: {1}")]
    NoAnswer(Address, io::Error),
    /// Something answers that is no edge.
    #[error("{0} answers as no edge does: another program has this port (metrics.address)")]
    Foreign(Address),
    /// Another edge has the usual address.
    #[error(
        "at {0} the edge with listener.address = \"{1}\" answers, and that of this one is \"{2}\": give this one a metrics.address of its own, or ask with the configuration that it runs with"
    )]
    Another(Address, String, String),
    /// The edge answers that it is not ready, and why.
    #[error("{0}")]
    NotReady(String),
}

/// Asks the edge with these settings. Returns its answer if it is healthy: it runs and, unless `alive` is enough, has a backend.
pub(crate) fn ask(settings: &Settings, alive: bool) -> Result<String, Unhealthy> {
    let gives_way = settings.metrics_give_way();
    let address = &settings.metrics_address().ok_or(match gives_way {
        true => Unhealthy::OfBackend,
        false => Unhealthy::NoAddress,
    })?;
    if address.port() == 0 {
        return Err(Unhealthy::AnyPort(address.clone()));
    }
    let path = if alive { "/healthz" } else { "/readyz" };
    let answer = get(address, path).map_err(|error| Unhealthy::NoAnswer(address.clone(), error))?;
    let (is_well, edge, text) = read(&answer).ok_or_else(|| Unhealthy::Foreign(address.clone()))?;
    // An address that was set is of this edge alone: it would not have started without.
    if gives_way {
        check_edge(address, edge, edge_name::of(settings))?;
    }
    match is_well {
        true => Ok(text.to_owned()),
        false => Err(Unhealthy::NotReady(text.to_owned())),
    }
}

/// Checks that the edge that answers is the one that is asked for. One that listens on a port of the system's choice has no name.
fn check_edge(
    address: &Address,
    answers: Option<&str>,
    own: Option<String>,
) -> Result<(), Unhealthy> {
    match (answers, own) {
        (Some(answers), Some(own)) if answers != own => {
            let answers = excerpt(answers, SHOWN);
            Err(Unhealthy::Another(address.clone(), answers, own))
        }
        _ => Ok(()),
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

/// Returns whether the status is 200, the name of the edge if it has one, and the text of the answer. `None` for anything but a response of
/// HTTP/1.1 with 200 or 503.
fn read(answer: &[u8]) -> Option<(bool, Option<&str>, &str)> {
    let answer = std::str::from_utf8(answer).ok()?;
    let (head, text) = answer.split_once("\r\n\r\n")?;
    let is_well = match head.strip_prefix("HTTP/1.1 ")?.get(..4)? {
        "200 " => true,
        "503 " => false,
        _ => return None,
    };
    let mut headers = head.split("\r\n").filter_map(|line| line.split_once(": "));
    let edge = headers.find(|(name, _)| name.eq_ignore_ascii_case(edge_name::HEADER));
    Some((is_well, edge.map(|(_, name)| name), text.trim()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::config::Place;

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
    fn an_answer_of_another_edge_is_no_answer_of_this_one() {
        let of = |answer: &'static [u8]| read(answer).expect("of an edge").1;
        let named = of(b"HTTP/1.1 200 OK\r\nvoltlane-listener: 10.0.0.1:1\r\n\r\nok\n");
        assert_eq!(named, Some("10.0.0.1:1"));
        assert_eq!(of(b"HTTP/1.1 503 No\r\nA: b\r\n\r\nok\n"), None);
        let usual: Address = "127.0.0.1:42002".parse().expect("an address");
        let checked = |own: Option<&str>| check_edge(&usual, named, own.map(str::to_owned));
        checked(Some("10.0.0.1:1")).expect("it is this one");
        checked(None).expect("its port is not known");
        check_edge(&usual, None, Some("10.0.0.1:1".into())).expect("that of the other");
        let error = checked(Some("10.0.0.1:2")).expect_err("another one");
        for part in ["10.0.0.1:1", "10.0.0.1:2", "metrics.address of its own"] {
            assert!(error.to_string().contains(part), "{error}");
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
        let mut of_backend = Settings::default();
        of_backend.master.address = Place::Net(of_backend.metrics_address().expect("the usual"));
        let error = ask(&of_backend, false).expect_err("none");
        let says = "is \"auto\", and the backend is at the usual address";
        assert!(error.to_string().contains(says), "{error}");
        let error = ask(&asked_at("127.0.0.1:0"), false).expect_err("none");
        assert!(error.to_string().contains("name one"), "{error}");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("bound").to_string();
        drop(free);
        let error = ask(&asked_at(&address), false).expect_err("none");
        assert!(matches!(error, Unhealthy::NoAnswer(..)), "{error}");
    }
}
