//! The request that opens a WebSocket connection (RFC 6455 section 4, SPEC 16.2).
//!
//! A server reads one head with [`HeadReader`] and judges it with [`Rules`]. A client writes [`request`] and checks the answer with
//! [`check_answer`].

mod answer;
mod client;
mod forwarded;
mod head;
mod origin;
mod request;

pub(crate) use self::answer::turn_away;
pub use self::answer::{Refusal, SUBPROTOCOL, TellRefusal};
pub use self::client::{NotUpgraded, check_answer, request};
pub use self::forwarded::{Forwarded, Traced};
pub use self::head::{HeadFault, HeadReader, MAX_HEADERS};
pub use self::origin::{Origin, OriginError, Origins};
pub use self::request::{Outcome, Rules, Upgrade};

/// Returns the value of Sec-WebSocket-Accept for a key.
fn accept_key(key: &[u8]) -> String {
    use sha1::{Digest, Sha1};
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    data_encoding::BASE64.encode(&hash.finalize())
}

/// Returns whether one of the elements of a comma-separated list is `token`, in any case.
fn lists(value: &[u8], token: &str) -> bool {
    value
        .split(|&byte| byte == b',')
        .any(|element| element.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}
