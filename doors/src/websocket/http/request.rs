//! Judges a request.

use std::net::IpAddr;

use httparse::{Header, Status};
use ipnet::IpNet;

use super::answer::{Refusal, SUBPROTOCOL, TellRefusal, write_text, write_upgrade};
use super::forwarded::{Forwarded, Traced};
use super::head::MAX_HEADERS;
use super::origin::Origins;
use super::{accept_key, lists};

/// What a request must be (SPEC 16.2).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Rules {
    /// The path to connect to, without a query.
    pub path: String,
    /// The path that tells that the process serves. `None`: there is none.
    pub health_path: Option<String>,
    /// The pages that may connect.
    pub origins: Origins,
    /// Whether a request without an Origin is refused.
    pub origin_required: bool,
    /// The header that tells where a request comes from.
    pub forwarded: Forwarded,
    /// The networks of the proxies that write it.
    pub trusted_proxies: Vec<IpNet>,
    /// The longest head, in bytes.
    pub max_head_bytes: usize,
    /// What is told of requests that are refused.
    pub tell_refusal: Option<TellRefusal>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            path: "/".into(),
            health_path: Some("/healthz".into()),
            origins: Origins::default(),
            origin_required: false,
            forwarded: Forwarded::default(),
            trusted_proxies: Vec::new(),
            max_head_bytes: 4_096,
            tell_refusal: None,
        }
    }
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a caller has to handle each one")]
pub enum Outcome {
    /// A WebSocket connection.
    Upgrade(Upgrade),
    /// Whether the process serves. It does, or nobody would answer. The answer is written, and the connection is closed.
    Health,
}

/// A request for a WebSocket connection that is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Upgrade {
    /// Where it comes from.
    pub source: Traced,
}

/// The headers of a request that count.
#[derive(Default)]
struct Headers<'a> {
    host: Option<&'a [u8]>,
    key: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    upgrades: bool,
    is_connection: bool,
    has_subprotocols: bool,
    has_ours: bool,
}

impl Rules {
    /// Judges the `head` of a request that came from `peer`, and appends the answer to `out`.
    ///
    /// # Errors
    /// When it is refused. Nothing is appended then: see [`Refusal::write`].
    pub fn answer(&self, head: &[u8], peer: IpAddr, out: &mut Vec<u8>) -> Result<Outcome, Refusal> {
        if head.starts_with(b"PRI * HTTP/2.0\r\n") {
            return Err(Refusal::OtherProtocol);
        }
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(head) {
            Ok(Status::Complete(length)) if length == head.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooLong),
            Ok(_) | Err(_) => return Err(Refusal::Malformed),
        }
        let (Some(method), Some(target), Some(version)) =
            (request.method, request.path, request.version)
        else {
            return Err(Refusal::Malformed);
        };
        let found = Headers::read(request.headers)?;
        if method != "GET" {
            return Err(Refusal::Method);
        }
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        if self.health_path.as_deref() == Some(path) {
            write_text("200 OK", "", "ok", out);
            return Ok(Outcome::Health);
        }
        let host = found.host.ok_or(Refusal::Host)?;
        if version != 1 {
            return Err(Refusal::Malformed);
        }
        if path != self.path {
            return Err(Refusal::Path);
        }
        if !found.upgrades || !found.is_connection || found.version != Some(b"13") {
            return Err(Refusal::NotWebSocket);
        }
        let key = found.key.ok_or(Refusal::Key)?;
        let decoded = data_encoding::BASE64.decode(key);
        if !decoded.is_ok_and(|key| key.len() == 16) {
            return Err(Refusal::Key);
        }
        let allowed = match found.origin {
            Some(origin) => self.origins.allow(origin, host),
            None => !self.origin_required,
        };
        if !allowed {
            return Err(Refusal::Origin);
        }
        if found.has_subprotocols && !found.has_ours {
            return Err(Refusal::Subprotocol);
        }
        let source = self.trace(peer, request.headers);
        write_upgrade(&accept_key(key), found.has_ours, out);
        Ok(Outcome::Upgrade(Upgrade { source }))
    }

    /// Returns whether requests from `peer` tell where they come from.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.forwarded.trusts(peer, &self.trusted_proxies)
    }

    fn trace(&self, peer: IpAddr, headers: &[Header<'_>]) -> Traced {
        let Some(name) = self.forwarded.header() else {
            return Traced::Peer;
        };
        let values = headers
            .iter()
            .filter(|header| header.name.eq_ignore_ascii_case(name));
        let values = values.map(|header| header.value);
        self.forwarded.trace(peer, &self.trusted_proxies, values)
    }
}

impl<'a> Headers<'a> {
    fn read(headers: &[Header<'a>]) -> Result<Headers<'a>, Refusal> {
        let mut found = Headers::default();
        for header in headers {
            let value = header.value.trim_ascii();
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("host") {
                if found.host.is_some() || !is_host(value) {
                    return Err(Refusal::Host);
                }
                found.host = Some(value);
            } else if is("content-length") || is("transfer-encoding") {
                return Err(Refusal::Body);
            } else if is("sec-websocket-key") {
                once(&mut found.key, value)?;
            } else if is("sec-websocket-version") {
                once(&mut found.version, value)?;
            } else if is("origin") {
                once(&mut found.origin, value)?;
            } else if is("upgrade") {
                found.upgrades |= lists(value, "websocket");
            } else if is("connection") {
                found.is_connection |= lists(value, "upgrade");
            } else if is("sec-websocket-protocol") {
                found.has_subprotocols = true;
                // Subprotocols have upper and lower case.
                found.has_ours |= value
                    .split(|&byte| byte == b',')
                    .any(|element| element.trim_ascii() == SUBPROTOCOL.as_bytes());
            }
        }
        Ok(found)
    }
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8]) -> Result<(), Refusal> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Refusal::Repeated),
    }
}

fn is_host(value: &[u8]) -> bool {
    let is_of_host = |&byte: &u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
    !value.is_empty() && value.iter().all(is_of_host)
}
