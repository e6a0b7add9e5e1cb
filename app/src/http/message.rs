//! The part of HTTP/1.1 (RFC 9112) that scrapers, health checks and pages need: one GET or HEAD per connection, without a body.

use std::borrow::Cow;

/// The maximum length of a request head.
pub(super) const MAX_HEAD_BYTES: usize = 8 * 1024;

/// The request in a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// The path of a GET, without its query.
    Get(&'a str),
    /// The path of a HEAD, without its query.
    Head(&'a str),
    /// Some other method.
    OtherMethod,
    /// Not HTTP/1.
    Malformed,
}

/// Parses a head. Returns `None` until its end has arrived.
pub(super) fn read_head(bytes: &[u8]) -> Option<Request<'_>> {
    // An empty line ends it. Some senders omit the CR (RFC 9112 2.2).
    let ends = |line_end: &[u8]| {
        bytes
            .windows(line_end.len())
            .any(|window| window == line_end)
    };
    if !ends(b"\r\n\r\n") && !ends(b"\n\n") {
        return None;
    }
    let line = bytes
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    Some(request(line.strip_suffix(b"\r").unwrap_or(line)))
}

/// Returns the path of a GET or a HEAD, as [`read_head`] finds it.
#[cfg(feature = "admin")]
pub(crate) fn read_path(bytes: &[u8]) -> Option<Option<&str>> {
    Some(match read_head(bytes)? {
        Request::Get(path) | Request::Head(path) => Some(path),
        Request::OtherMethod | Request::Malformed => None,
    })
}

fn request(line: &[u8]) -> Request<'_> {
    let Ok(line) = str::from_utf8(line) else {
        return Request::Malformed;
    };
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Request::Malformed;
    };
    let is_token = !method.is_empty()
        && method
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_token || !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Request::Malformed;
    }
    let Some(path) = path_of(target) else {
        return Request::Malformed;
    };
    match method {
        "GET" => Request::Get(path),
        "HEAD" => Request::Head(path),
        _ => Request::OtherMethod,
    }
}

/// Returns the path of a target, in its usual form or as a proxy gets it, with scheme and authority (RFC 9112 3.2.1, 3.2.2). The authority
/// is ignored.
fn path_of(target: &str) -> Option<&str> {
    let path = if target.starts_with('/') {
        target
    } else {
        let (scheme, rest) = target.split_once("://")?;
        let is_http = ["http", "https"]
            .iter()
            .any(|name| name.eq_ignore_ascii_case(scheme));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        if !is_http || end == 0 {
            return None;
        }
        &rest[end..]
    };
    let path = path.split('?').next().unwrap_or(path);
    // An authority alone means its root.
    Some(if path.is_empty() { "/" } else { path })
}

/// A response, after which the connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    status: &'static str,
    content_type: &'static str,
    body: Cow<'static, str>,
    /// The Content-Security-Policy of a page. Empty: it has none.
    policy: &'static str,
    /// A header of its own: its name and its value, which has no line break.
    header: Option<(&'static str, String)>,
    /// A response to HEAD has only the head, which is that of the complete response (RFC 9110 9.3.2).
    sends_body: bool,
}

impl Response {
    pub(crate) fn text(status: &'static str, body: &str) -> Response {
        Response {
            status,
            content_type: "text/plain; charset=utf-8",
            body: format!("{body}\n").into(),
            policy: "",
            header: None,
            sends_body: true,
        }
    }

    pub(crate) fn page(content_type: &'static str, body: impl Into<Cow<'static, str>>) -> Response {
        Response {
            status: "200 OK",
            content_type,
            body: body.into(),
            policy: "",
            header: None,
            sends_body: true,
        }
    }

    /// Limits what the page may do.
    #[cfg(feature = "admin")]
    pub(crate) fn under(self, policy: &'static str) -> Response {
        Response { policy, ..self }
    }

    /// Adds a header, unless there is no value. It has no line break.
    pub(crate) fn with_header(self, name: &'static str, value: Option<String>) -> Response {
        let header = value.map(|value| (name, value));
        Response { header, ..self }
    }

    pub(super) fn without_body(self) -> Response {
        Response {
            sends_body: false,
            ..self
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let Response {
            status,
            content_type,
            body,
            policy,
            header,
            sends_body,
        } = self;
        let own = header.as_ref();
        let own = own.map_or_else(String::new, |(name, value)| format!("{name}: {value}\r\n"));
        // A 405 must name the allowed methods (RFC 9110 15.5.6).
        let allow = if status.starts_with("405") {
            "Allow: GET, HEAD\r\n"
        } else {
            ""
        };
        let policy = match policy {
            &"" => String::new(),
            policy => {
                format!("Content-Security-Policy: {policy}\r\nX-Content-Type-Options: nosniff\r\n")
            }
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{allow}{policy}{own}Cache-Control: no-store\r\n\
             Connection: close\r\n\r\n{}",
            body.len(),
            if *sends_body { body } else { "" }
        )
        .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        for (head, request) in [
            ("GET / HTTP/1.1\r\n\r\n", Some(Request::Get("/"))),
            (
                "GET /metrics HTTP/1.0\r\n\r\n",
                Some(Request::Get("/metrics")),
            ),
            (
                "GET /metrics?a=b&c HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n",
                Some(Request::Get("/metrics")),
            ),
            (
                "GET /healthz HTTP/1.1\nHost: x\n\n",
                Some(Request::Get("/healthz")),
            ),
            (
                "GET /metrics HTTP/1.1\r\n\r\nrest",
                Some(Request::Get("/metrics")),
            ),
            (
                "POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
                Some(Request::OtherMethod),
            ),
            ("HEAD /a?b HTTP/1.1\r\n\r\n", Some(Request::Head("/a"))),
            ("head / HTTP/1.1\r\n\r\n", Some(Request::OtherMethod)),
            ("get / HTTP/1.1\r\n\r\n", Some(Request::OtherMethod)),
            ("GET / HTTP/2.0\r\n\r\n", Some(Request::Malformed)),
            ("GET  / HTTP/1.1\r\n\r\n", Some(Request::Malformed)),
            ("GET / HTTP/1.1 \r\n\r\n", Some(Request::Malformed)),
            ("GET metrics HTTP/1.1\r\n\r\n", Some(Request::Malformed)),
            (
                "GET http://x:9100/metrics?a HTTP/1.1\r\n\r\n",
                Some(Request::Get("/metrics")),
            ),
            ("GET HTTPS://x HTTP/1.1\r\n\r\n", Some(Request::Get("/"))),
            ("GET http://x?a/b HTTP/1.1\r\n\r\n", Some(Request::Get("/"))),
            ("GET http:///x HTTP/1.1\r\n\r\n", Some(Request::Malformed)),
            (
                "GET ftp://x/metrics HTTP/1.1\r\n\r\n",
                Some(Request::Malformed),
            ),
            ("OPTIONS * HTTP/1.1\r\n\r\n", Some(Request::Malformed)),
            ("GET /\r\n\r\n", Some(Request::Malformed)),
            ("\r\n\r\n", Some(Request::Malformed)),
            ("", None),
            ("GET / HTTP/1.1", None),
            ("GET / HTTP/1.1\r\n", None),
            ("GET / HTTP/1.1\r\nHost: x\r\n", None),
        ] {
            assert_eq!(read_head(head.as_bytes()), request, "{head:?}");
        }
        assert_eq!(
            read_head(b"GET /\xff HTTP/1.1\r\n\r\n"),
            Some(Request::Malformed)
        );
        assert_eq!(
            read_head(b"\x16\x03\x01\x02\0\n\n"),
            Some(Request::Malformed),
            "TLS"
        );
    }

    #[test]
    fn a_response_states_its_length() {
        let bytes = Response::text("200 OK", "ok").to_bytes();
        assert_eq!(
            String::from_utf8(bytes).expect("text"),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\nCache-Control: no-store\r\n\
             Connection: close\r\n\r\nok\n"
        );
        let bytes = Response::text("200 OK", "ok").without_body().to_bytes();
        let head = String::from_utf8(bytes).expect("text");
        assert!(head.contains("Content-Length: 3\r\n") && head.ends_with("\r\n\r\n"));
        let named = Response::text("200 OK", "ok").with_header("Name", Some("b".into()));
        let head = String::from_utf8(named.to_bytes()).expect("text");
        assert!(head.contains("\r\nName: b\r\nCache-Control: "), "{head}");
        let bytes = Response::text("405 Method Not Allowed", "").to_bytes();
        assert!(
            String::from_utf8(bytes)
                .expect("text")
                .contains("\r\nAllow: GET, HEAD\r\n")
        );
    }
}
