//! The client's side.

use httparse::Status;

use super::answer::SUBPROTOCOL;
use super::head::MAX_HEADERS;
use super::{accept_key, lists};

/// Why an answer is not one to our request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotUpgraded {
    /// It is no answer of HTTP/1.1.
    #[error("the answer is not HTTP/1.1")]
    Malformed,
    /// It has this status.
    #[error("the server answers {0} and not 101; is this address and path one for WebSocket?")]
    Status(u16),
    /// It is not an answer to our key.
    #[error("the server did not answer the key of the request")]
    Key,
    /// It speaks of another protocol, or of an extension that was not asked for.
    #[error("the server chose what was not offered")]
    NotOffered,
}

/// Appends a request for `path` at `host`, with a `key` of random bytes. Returns the key in base64, for [`check_answer`].
pub fn request(host: &str, path: &str, key: [u8; 16], out: &mut Vec<u8>) -> String {
    let key = data_encoding::BASE64.encode(&key);
    for part in [
        "GET ",
        path,
        " HTTP/1.1\r\nHost: ",
        host,
        "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
        &key,
        "\r\nSec-WebSocket-Protocol: ",
        SUBPROTOCOL,
        "\r\n\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    key
}

/// Checks the `head` of an answer to the request with this `key`.
///
/// # Errors
/// When it is not the answer of a server of ours.
pub fn check_answer(head: &[u8], key: &str) -> Result<(), NotUpgraded> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    match answer.parse(head) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Ok(_) | Err(_) => return Err(NotUpgraded::Malformed),
    }
    match (answer.version, answer.code) {
        (Some(1), Some(101)) => {}
        (Some(_), Some(status)) => return Err(NotUpgraded::Status(status)),
        _ => return Err(NotUpgraded::Malformed),
    }
    let (mut upgrades, mut is_connection, mut is_accepted) = (false, false, false);
    for header in &*answer.headers {
        let value = header.value.trim_ascii();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("upgrade") {
            upgrades = lists(value, "websocket");
        } else if is("connection") {
            is_connection |= lists(value, "upgrade");
        } else if is("sec-websocket-accept") {
            is_accepted = value == accept_key(key.as_bytes()).as_bytes();
        } else if is("sec-websocket-extensions")
            || (is("sec-websocket-protocol") && value != SUBPROTOCOL.as_bytes())
        {
            return Err(NotUpgraded::NotOffered);
        }
    }
    if !upgrades || !is_connection {
        return Err(NotUpgraded::Malformed);
    }
    is_accepted.then_some(()).ok_or(NotUpgraded::Key)
}
