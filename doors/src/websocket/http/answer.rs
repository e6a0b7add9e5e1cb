//! The answers of a server. They are fixed, and repeat nothing of the request.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use voltlane_driver::Farewell;

use super::head::HeadFault;

/// The subprotocol of version 2 (SPEC 16.2(a)).
pub const SUBPROTOCOL: &str = "voltlane.v2";

/// Why a request is refused (SPEC 16.2(d)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not a well-formed request of HTTP/1.1.
    Malformed,
    /// It has no Host, or more than one.
    Host,
    /// A header that is defined once is there twice.
    Repeated,
    /// It announces a body.
    Body,
    /// Its key is not 16 bytes in base64.
    Key,
    /// It offers subprotocols, and not ours.
    Subprotocol,
    /// It comes from a page that is not allowed to connect.
    Origin,
    /// Its path is another one.
    Path,
    /// Its method is not GET.
    Method,
    /// It asks for no WebSocket, or for another version of it.
    NotWebSocket,
    /// It has too many bytes or headers.
    TooLong,
    /// It is not HTTP/1.1 at all: a TLS hello, or the preface of HTTP/2. There is no answer.
    OtherProtocol,
}

impl From<HeadFault> for Refusal {
    fn from(fault: HeadFault) -> Refusal {
        match fault {
            HeadFault::Tls => Refusal::OtherProtocol,
            HeadFault::NotHttp | HeadFault::BareLf => Refusal::Malformed,
            HeadFault::TooLong => Refusal::TooLong,
        }
    }
}

/// Called once for each request that is refused, from the thread of its connection.
#[derive(Clone)]
pub struct TellRefusal(Arc<dyn Fn(Refusal) + Send + Sync>);

impl TellRefusal {
    /// Calls `tell`, which must not wait.
    pub fn new(tell: impl Fn(Refusal) + Send + Sync + 'static) -> Self {
        TellRefusal(Arc::new(tell))
    }
}

impl fmt::Debug for TellRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TellRefusal").finish_non_exhaustive()
    }
}

impl Refusal {
    /// Every refusal, in the order of its number.
    pub const ALL: [Refusal; 12] = [
        Refusal::Malformed,
        Refusal::Host,
        Refusal::Repeated,
        Refusal::Body,
        Refusal::Key,
        Refusal::Subprotocol,
        Refusal::Origin,
        Refusal::Path,
        Refusal::Method,
        Refusal::NotWebSocket,
        Refusal::TooLong,
        Refusal::OtherProtocol,
    ];

    /// Returns its name, as metrics have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Refusal::Malformed => "malformed",
            Refusal::Host => "host",
            Refusal::Repeated => "repeated",
            Refusal::Body => "body",
            Refusal::Key => "key",
            Refusal::Subprotocol => "subprotocol",
            Refusal::Origin => "origin",
            Refusal::Path => "path",
            Refusal::Method => "method",
            Refusal::NotWebSocket => "not_websocket",
            Refusal::TooLong => "too_long",
            Refusal::OtherProtocol => "other_protocol",
        }
    }

    /// Appends the answer, and tells of the refusal.
    pub(crate) fn give(self, tell: Option<&TellRefusal>, out: &mut Vec<u8>) {
        self.write(out);
        if let Some(tell) = tell {
            (tell.0)(self);
        }
    }

    /// Returns the status line without its version, more headers, and the text. `None` if there is no answer.
    const fn answer(self) -> Option<(&'static str, &'static str, &'static str)> {
        const BAD: &str = "400 Bad Request";
        Some(match self {
            Refusal::Malformed => (BAD, "", "not a well-formed request"),
            Refusal::Host => (BAD, "", "exactly one Host is needed"),
            Refusal::Repeated => (BAD, "", "a header is repeated"),
            Refusal::Body => (BAD, "", "a request here has no body"),
            Refusal::Key => (BAD, "", "Sec-WebSocket-Key is not 16 bytes in base64"),
            Refusal::Subprotocol => (BAD, "", "the subprotocol here is voltlane.v2"),
            Refusal::Origin => ("403 Forbidden", "", "this origin may not connect"),
            Refusal::Path => ("404 Not Found", "", "nothing is here"),
            Refusal::Method => (
                "405 Method Not Allowed",
                "Allow: GET\r\n",
                "the method here is GET",
            ),
            Refusal::NotWebSocket => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                "WebSocket version 13 is spoken here",
            ),
            Refusal::TooLong => (
                "431 Request Header Fields Too Large",
                "",
                "the request is too long",
            ),
            Refusal::OtherProtocol => return None,
        })
    }

    /// Returns whether no peer in good faith sends such a request (SPEC 10.6(d)).
    #[must_use]
    pub fn is_offence(self) -> bool {
        match self {
            Refusal::Malformed
            | Refusal::Host
            | Refusal::Repeated
            | Refusal::Body
            | Refusal::Key
            | Refusal::TooLong
            | Refusal::OtherProtocol => true,
            Refusal::Subprotocol
            | Refusal::Origin
            | Refusal::Path
            | Refusal::Method
            | Refusal::NotWebSocket => false,
        }
    }

    /// Returns the status of the answer, or 0 if there is none.
    #[must_use]
    pub fn status(self) -> u16 {
        let Some((status, _, _)) = self.answer() else {
            return 0;
        };
        status[..3].parse().unwrap_or(0)
    }

    /// Appends the answer.
    pub fn write(self, out: &mut Vec<u8>) {
        if let Some((status, headers, text)) = self.answer() {
            write_text(status, headers, text, out);
        }
    }
}

/// The time after which one that found no room may come again: up to so many seconds, drawn for each.
const MAX_RETRY_SECS: u8 = 10;

/// Appends the answer to a peer that is turned away before its request was answered (SPEC 16.2(d)).
pub(crate) fn turn_away(farewell: Farewell, out: &mut Vec<u8>) {
    let mut retry = [0];
    crate::websocket::layer::random(&mut retry);
    let retry = format!("Retry-After: {:02}\r\n", 1 + retry[0] % MAX_RETRY_SECS);
    let Some(status) = farewell.status() else {
        return;
    };
    let (phrase, headers, text) = match farewell {
        Farewell::Late => ("Request Timeout", "", "the request took too long"),
        Farewell::Ending => ("Service Unavailable", &*retry, "ending"),
        Farewell::Crowded => ("Service Unavailable", &*retry, "no room"),
        Farewell::SourceCrowded => (
            "Too Many Requests",
            &*retry,
            "too many connections from this address",
        ),
        Farewell::Over | Farewell::Malformed | Farewell::TooLong | Farewell::Refused => return,
    };
    write_text(&format!("{status} {phrase}"), headers, text, out);
}

/// Appends an answer with a text, after which the connection is closed.
pub(super) fn write_text(status: &str, headers: &str, text: &str, out: &mut Vec<u8>) {
    let length = text.len() + 1;
    write!(
        out,
        "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}\n"
    )
    .expect("memory takes everything");
}

/// Appends the answer to an upgrade.
pub(super) fn write_upgrade(accept: &str, with_subprotocol: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ",
    );
    out.extend_from_slice(accept.as_bytes());
    if with_subprotocol {
        out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.extend_from_slice(SUBPROTOCOL.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}
