//! A request, read within its bounds, and the answer to it.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The maximum length of the head of a request, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 8 * 1024;
/// The maximum length of its body.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;
/// The maximum number of header fields.
const MAX_HEADERS: usize = 32;
/// How long a request may take to arrive, and an answer to be taken.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// A request.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path, without its query.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(super) says: String,
}

impl Refusal {
    pub(super) fn new(status: u16, says: impl Into<String>) -> Refusal {
        Refusal {
            status,
            says: says.into(),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({ "error": self.says })
    }
}

impl Request {
    /// Returns whether it is to change something.
    pub(super) fn is_change(&self) -> bool {
        self.method != "GET"
    }

    /// Returns the value of a header field, if there is exactly one of the name.
    pub(super) fn header(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut found = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let first = found.next().map(|(_, value)| value.as_str());
        match found.next() {
            None => Ok(first),
            Some(_) => Err(Refusal::new(400, format!("several {name} headers"))),
        }
    }

    /// Returns the value of a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Refuses parameters that a call does not have, and one that is given twice.
    pub(super) fn only(&self, names: &[&str]) -> Result<(), Refusal> {
        let unknown = self
            .query
            .iter()
            .find(|(name, _)| !names.contains(&name.as_str()));
        let names_so_far = |at: usize| self.query[..at].iter().map(|(name, _)| name);
        let mut given = self.query.iter().enumerate();
        let twice = given.find(|(at, (name, _))| names_so_far(*at).any(|other| other == name));
        match (unknown, twice) {
            (None, None) => Ok(()),
            (None, Some((_, (name, _)))) => {
                Err(Refusal::new(400, format!("{name:?} is given twice")))
            }
            (Some((name, _)), _) if names.is_empty() => Err(Refusal::new(
                400,
                format!("unknown parameter {name:?}; this call has none"),
            )),
            (Some((name, _)), _) => Err(Refusal::new(
                400,
                format!(
                    "unknown parameter {name:?}; there are: {}",
                    names.join(", ")
                ),
            )),
        }
    }
}

/// Reads a request. `None`: the peer said nothing and left.
pub(super) fn read(
    stream: &mut impl Read,
    set_timeout: impl Fn(Duration) -> io::Result<()>,
) -> io::Result<Option<Result<Request, Refusal>>> {
    let until = Instant::now() + STEP_TIMEOUT;
    let mut bytes = Vec::new();
    let mut request = loop {
        // A head has to end within the bound. Bytes behind it do not count, whether they came in one read or in several.
        match parse(&bytes[..bytes.len().min(MAX_HEAD_BYTES)]) {
            Err(refusal) => return Ok(Some(Err(refusal))),
            Ok(Some((request, head))) => {
                bytes.drain(..head);
                break request;
            }
            Ok(None) if bytes.len() >= MAX_HEAD_BYTES => {
                return Ok(Some(Err(Refusal::new(431, "the head is too long"))));
            }
            Ok(None) => {}
        }
        match more(stream, &set_timeout, until, &mut bytes)? {
            Some(0) if bytes.is_empty() => return Ok(None),
            Some(0) => return Ok(Some(Err(Refusal::new(400, "the request is cut off")))),
            Some(_) => {}
            None => return Ok(Some(Err(Refusal::new(408, "the request took too long")))),
        }
    };
    let length = match length_of(&request) {
        Ok(length) => length,
        Err(refusal) => return Ok(Some(Err(refusal))),
    };
    while bytes.len() < length {
        match more(stream, &set_timeout, until, &mut bytes)? {
            Some(0) => return Ok(Some(Err(Refusal::new(400, "the body is cut off")))),
            Some(_) => {}
            None => return Ok(Some(Err(Refusal::new(408, "the request took too long")))),
        }
    }
    // Nothing is pipelined: the connection ends with the answer.
    bytes.truncate(length);
    request.body = bytes;
    Ok(Some(Ok(request)))
}

/// Reads a request from memory, which never waits.
pub(crate) fn read_from_memory(
    input: &mut impl Read,
) -> io::Result<Option<Result<Request, Refusal>>> {
    read(input, |_| Ok(()))
}

/// Reads some bytes. `None`: the time is over.
fn more(
    stream: &mut impl Read,
    set_timeout: impl Fn(Duration) -> io::Result<()>,
    until: Instant,
    bytes: &mut Vec<u8>,
) -> io::Result<Option<usize>> {
    let mut piece = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        set_timeout(left)?;
        match stream.read(&mut piece) {
            Ok(length) => {
                bytes.extend_from_slice(&piece[..length]);
                return Ok(Some(length));
            }
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => return Ok(None),
                _ => return Err(error),
            },
        }
    }
}

fn length_of(request: &Request) -> Result<usize, Refusal> {
    if request.header("transfer-encoding")?.is_some() {
        return Err(Refusal::new(501, "a body needs a Content-Length"));
    }
    let Some(length) = request.header("content-length")? else {
        return Ok(0);
    };
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    match length.parse::<usize>() {
        Ok(length) if is_number && length <= MAX_BODY_BYTES => Ok(length),
        _ if is_number => Err(Refusal::new(
            413,
            format!("a body has at most {MAX_BODY_BYTES} bytes"),
        )),
        _ => Err(Refusal::new(400, "Content-Length is no number")),
    }
}

/// Parses a head. Also returns its length. `None` until it is complete.
fn parse(bytes: &[u8]) -> Result<Option<(Request, usize)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(length)) => length,
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::new(431, "there are too many headers"));
        }
        Err(error) => return Err(Refusal::new(400, format!("no HTTP/1.1 request: {error}"))),
    };
    let target = head.path.unwrap_or_default();
    if !target.starts_with('/') {
        return Err(Refusal::new(400, "the target is no path"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        ..Request::default()
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        request.query.push((decoded(name)?, decoded(value)?));
    }
    for header in head.headers.iter() {
        let value = std::str::from_utf8(header.value);
        let value = value.map_err(|_| Refusal::new(400, "a header is no text"))?;
        let name = header.name.to_owned();
        request.headers.push((name, value.trim().to_owned()));
    }
    Ok(Some((request, length)))
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, Refusal> {
    let wrong = || Refusal::new(400, "the query is not well encoded");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = rest.get(..2).ok_or_else(wrong)?;
                rest = &rest[2..];
                let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
                bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// Returns the reason phrase of a status.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        _ => "Service Unavailable",
    }
}

/// Writes a head with `more` fields. A body of `length` bytes follows, or one that ends with the connection.
pub(super) fn write_head(
    stream: &mut impl Write,
    status: u16,
    content_type: &str,
    length: Option<usize>,
    more: &str,
) -> io::Result<()> {
    let length = length.map_or(String::new(), |length| {
        format!("Content-Length: {length}\r\n")
    });
    let asks = match status {
        401 => "WWW-Authenticate: Bearer\r\n",
        405 => "Allow: GET, POST, DELETE\r\n",
        _ => "",
    };
    write!(
        stream,
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\n{length}{asks}{more}Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
        reason(status)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(text: &str) -> Result<Request, u16> {
        let read = read(&mut text.as_bytes(), |_| Ok(())).expect("memory");
        let read = read.expect("not nothing");
        read.map_err(|refusal| refusal.status)
    }

    #[test]
    fn a_request_with_a_query_and_a_body() {
        let request = read_all(
            "POST /v1/bans?network=10.0.0.0%2F8&a=b+c HTTP/1.1\r\nHost: x\r\ncontent-length: 2\r\n\r\n{}more",
        );
        let request = request.expect("good");
        assert_eq!((&*request.method, &*request.path), ("POST", "/v1/bans"));
        assert_eq!(request.parameter("network"), Some("10.0.0.0/8"));
        assert_eq!(request.parameter("a"), Some("b c"));
        assert_eq!(request.header("HOST").expect("one"), Some("x"));
        assert_eq!(request.body, b"{}");
        assert!(request.only(&["network"]).is_err());
        assert!(request.only(&["network", "a"]).is_ok());
        let twice = read_all("GET /?a=b&c=d&a=b HTTP/1.1\r\n\r\n").expect("good");
        assert!(twice.only(&["a", "c"]).is_err());
    }

    #[test]
    fn bad_requests_are_refused_with_the_status_that_says_why() {
        let long = "x".repeat(MAX_HEAD_BYTES);
        let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
        for (text, status) in [
            ("GET / HTTP/1.1\r\n", 400),
            ("nonsense\r\n\r\n", 400),
            ("GET x HTTP/1.1\r\n\r\n", 400),
            ("GET /?a=%zz HTTP/1.1\r\n\r\n", 400),
            ("GET /?a=%f HTTP/1.1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n{}", 400),
            ("POST / HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}", 400),
            (
                "POST / HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
                400,
            ),
            ("POST / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", 413),
            (
                "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
                413,
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                501,
            ),
            (&format!("GET /{long} HTTP/1.1\r\n\r\n"), 431),
            (&format!("GET / HTTP/1.1\r\n{many}\r\n"), 431),
            (&format!("GET /{} HTTP/1.1\r\n\r\n", &long[17..]), 431),
        ] {
            assert_eq!(read_all(text).map(|_| ()), Err(status), "{text:.60}");
        }
        let head = format!("GET /{} HTTP/1.1\r\n\r\n", &long[18..]);
        assert_eq!(head.len(), MAX_HEAD_BYTES);
        assert!(read_all(&head).is_ok());
        let most = "x".repeat(MAX_BODY_BYTES);
        let head = format!("POST / HTTP/1.1\r\nContent-Length: {MAX_BODY_BYTES}\r\n\r\n{most}");
        assert_eq!(read_all(&head).expect("good").body.len(), MAX_BODY_BYTES);
        assert!(read(&mut &b""[..], |_| Ok(())).expect("memory").is_none());
    }

    #[test]
    fn a_request_that_does_not_come_in_time_is_given_up() {
        struct Silent;
        impl Read for Silent {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
        let read = read(&mut Silent, |_| Ok(())).expect("no error");
        assert_eq!(
            read.expect("an answer").map(|_| ()).unwrap_err().status,
            408
        );
    }
}
