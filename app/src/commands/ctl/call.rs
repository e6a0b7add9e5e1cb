//! One call of the admin interface.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Failure;
use crate::admin::{Stream, Token, read_token};
use crate::config::{Place, Settings};

/// How long the edge may take to answer, and between two events.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than the edge ever answers.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// Calls the edge that the configuration names.
pub(super) struct Caller {
    place: Place,
    token: Option<Token>,
}

impl Caller {
    pub(super) fn new(settings: &Settings) -> Result<Caller, Failure> {
        let admin = &settings.admin;
        let place = admin.address.clone().ok_or_else(|| {
            Failure::Usage(
                "admin.address is empty, so no edge can be asked; set it, as to \"unix:/run/voltlane/admin.sock\"".into(),
            )
        })?;
        if !place.is_definite() {
            let what =
                format!("admin.address = \"{place}\" leaves the port to the system; name one");
            return Err(Failure::Usage(what));
        }
        let token = match (&place, &admin.token_file) {
            (Place::Unix(_), _) => None,
            (Place::Net(_), Some(path)) => Some(read_token(path).map_err(|error| {
                Failure::Usage(format!("admin.token_file: {}: {error}", path.display()))
            })?),
            (Place::Passed(_), _) => {
                return Err(Failure::Usage(format!("nobody can connect to {place}")));
            }
            (Place::Net(_), None) => {
                return Err(Failure::Usage("admin.token_file is empty".into()));
            }
        };
        Ok(Caller { place, token })
    }

    fn connect(&self) -> io::Result<Stream> {
        let stream = match &self.place {
            Place::Unix(place) => {
                let stream = UnixStream::from(OwnedFd::from(place.connect()?));
                stream.set_nonblocking(false)?;
                Stream::Unix(stream)
            }
            Place::Passed(_) => return Err(io::ErrorKind::Unsupported.into()),
            Place::Net(address) => {
                let mut addresses = (address.host(), address.port()).to_socket_addrs()?;
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                let connected = addresses.find_map(|address| {
                    let connected = TcpStream::connect_timeout(&address, PATIENCE);
                    connected.map_err(|error| last = error).ok()
                });
                Stream::Net(connected.ok_or(last)?)
            }
        };
        stream.set_timeouts(PATIENCE, PATIENCE)?;
        Ok(stream)
    }

    fn begin(&self, method: &str, path: &str, body: &str) -> io::Result<Stream> {
        let stream = self.connect()?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        if let Some(token) = &self.token {
            head.push_str(&format!("Authorization: Bearer {}\r\n", token.reveal()));
        }
        head.push_str("\r\n");
        head.push_str(body);
        (&stream).write_all(head.as_bytes())?;
        Ok(stream)
    }

    fn no_answer(&self, error: &io::Error) -> Failure {
        Failure::Refused(format!("no answer from {}: {error}", self.place))
    }

    fn foreign(&self) -> Failure {
        Failure::Refused(format!("{} answers as no edge does", self.place))
    }

    /// Makes a call and returns its result.
    pub(super) fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let read = || -> io::Result<String> {
            let stream = self.begin(method, path, &body)?;
            let mut answer = String::new();
            (&stream)
                .take(MAX_ANSWER_BYTES)
                .read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = read().map_err(|error| self.no_answer(&error))?;
        let (status, text) = split(&answer).ok_or_else(|| self.foreign())?;
        let value: Value = serde_json::from_str(text).map_err(|_| self.foreign())?;
        match status {
            200..=299 => Ok(value),
            _ => {
                let says = value["error"].as_str().unwrap_or("refused").to_owned();
                Err(match status {
                    400 | 409 | 413 | 415 => Failure::Usage(says),
                    _ => Failure::Refused(says),
                })
            }
        }
    }

    /// Calls `see` with the name and the data of each event, until it returns false, or for `secs` seconds.
    pub(super) fn watch(
        &self,
        secs: Option<u32>,
        mut see: impl FnMut(&str, &Value) -> bool,
    ) -> Result<(), Failure> {
        let until = secs.map(|secs| Instant::now() + Duration::from_secs(secs.into()));
        let stream = self.begin("GET", "/v1/events", "");
        let stream = stream.map_err(|error| self.no_answer(&error))?;
        let mut lines = BufReader::new(&stream).lines();
        let mut next = || lines.next().transpose();
        let first = next().map_err(|error| self.no_answer(&error))?;
        if !first.is_some_and(|line| line.starts_with("HTTP/1.1 200 ")) {
            return Err(Failure::Refused("the edge lets nobody else watch".into()));
        }
        let mut name = String::new();
        while let Some(line) = next().map_err(|error| self.no_answer(&error))? {
            if let Some(of) = line.strip_prefix("event: ") {
                name = of.to_owned();
            }
            let Some(data) = line.strip_prefix("data: ") else {
                continue;
            };
            let value: Value = serde_json::from_str(data).map_err(|_| self.foreign())?;
            let is_over = until.is_some_and(|until| until <= Instant::now());
            if !see(&name, &value) || is_over {
                return Ok(());
            }
        }
        Err(Failure::Refused("the edge has ended".into()))
    }
}

/// Returns the status and the body of an answer.
fn split(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    Some((status.parse().ok()?, body))
}

/// Returns a path with those parameters that have a value.
pub(super) fn with_query(path: &str, parameters: &[(&str, &Option<String>)]) -> String {
    let mut out = path.to_owned();
    let given = parameters.iter();
    let given = given.filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (place, (name, value)) in given.enumerate() {
        let mark = if place == 0 { '?' } else { '&' };
        out.push_str(&format!("{mark}{name}={}", escaped(value)));
    }
    out
}

/// Encodes text for a path or a query.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}
