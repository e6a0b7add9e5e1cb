//! The metrics of an edge over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::PATIENCE;

/// Responses that mean that a thread of the edge, or this one, was suspended for a while.
const HELD_UP: [&str; 2] = ["the edge does not answer\n", "the head took too long\n"];

/// Requests a page, and returns the status and the body. Retries for a while if a thread was suspended.
///
/// # Panics
/// When there is no complete response.
#[must_use]
pub fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let until = Instant::now() + PATIENCE;
    loop {
        let (status, body) = get_once(address, path);
        if !HELD_UP.contains(&&*body) || Instant::now() >= until {
            return (status, body);
        }
    }
}

fn get_once(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is taken");
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

/// The metrics of an edge at one moment.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// Requests the metrics.
    #[must_use]
    pub fn of(address: SocketAddr) -> Metrics {
        let (status, page) = get(address, "/metrics");
        assert_eq!(status, 200, "{page}");
        Metrics(page)
    }

    /// Returns the value of a series, named with its labels as they are printed.
    #[must_use]
    #[track_caller]
    pub fn value(&self, series: &str) -> u64 {
        let mut lines = self.0.lines();
        let found = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = found.unwrap_or_else(|| panic!("no {series} in\n{}", self.0));
        value.parse().expect("a whole number")
    }

    /// Returns the sum over all labels of a series.
    #[must_use]
    #[track_caller]
    pub fn sum(&self, series: &str) -> u64 {
        let lines = self.0.lines();
        let of_series = lines.filter_map(|line| line.strip_prefix(series)?.strip_prefix('{'));
        let values = of_series.map(|line| {
            let (_, value) = line.rsplit_once(' ').expect("a value");
            value.parse::<u64>().expect("a whole number")
        });
        values.sum()
    }
}
