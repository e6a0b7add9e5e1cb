//! The text protocol of NATS, as far as a client of the engine reads it. Bytes are arguments.

use crate::server::{Buffer, Parse, body, line};

/// The longest line: INFO has the addresses of all servers.
const MAX_LINE_BYTES: usize = 32 * 1_024;
/// The largest message: the most that a server takes by default.
const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Info(String),
    /// A message of a subject. With a status there is no content.
    Message {
        subject: String,
        status: Option<u16>,
        payload: Vec<u8>,
    },
    Ping,
    Pong,
    Ok,
    Error(String),
}

/// The grammar, which has no state.
#[derive(Debug, Default)]
pub(super) struct Parser;

impl Parse for Parser {
    type Said = Said;

    fn next(&mut self, buffer: &mut Buffer) -> Result<Option<Said>, &'static str> {
        let rest = buffer.rest();
        let Some((line, behind)) = line(rest, MAX_LINE_BYTES)? else {
            return Ok(None);
        };
        let head = rest.len() - behind.len();
        let line = line.trim_end_matches('\r');
        let (word, text) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        let (said, length) = match word.to_ascii_uppercase().as_str() {
            "INFO" => (Said::Info(text.trim().to_owned()), 0),
            "PING" => (Said::Ping, 0),
            "PONG" => (Said::Pong, 0),
            "+OK" => (Said::Ok, 0),
            "-ERR" => (Said::Error(text.trim().trim_matches('\'').to_owned()), 0),
            "MSG" => {
                let (subject, [length]) = message(text)?;
                match payload_of(behind, length)? {
                    None => return Ok(None),
                    Some(payload) => {
                        let payload = payload.to_vec();
                        let status = None;
                        let said = Said::Message {
                            subject,
                            status,
                            payload,
                        };
                        (said, length + 2)
                    }
                }
            }
            "HMSG" => {
                let (subject, [headers, length]) = message(text)?;
                if headers > length {
                    return Err("a message is shorter than its headers");
                }
                match payload_of(behind, length)? {
                    None => return Ok(None),
                    Some(whole) => {
                        let (headers, payload) = whole.split_at(headers);
                        let said = Said::Message {
                            subject,
                            status: status(headers)?,
                            payload: payload.to_vec(),
                        };
                        (said, length + 2)
                    }
                }
            }
            _ => return Err("it does not speak the protocol of NATS"),
        };
        buffer.take(head + length);
        Ok(Some(said))
    }
}

/// Returns the subject of a message and the numbers at the end of its line.
fn message<const N: usize>(text: &str) -> Result<(String, [usize; N]), &'static str> {
    const WRONG: &str = "the line of a message is malformed";
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    // Subject and subscription, perhaps where to answer, and the numbers.
    if !(2 + N..=3 + N).contains(&words.len()) {
        return Err(WRONG);
    }
    let mut numbers = [0; N];
    for (number, word) in numbers.iter_mut().zip(&words[words.len() - N..]) {
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        *number = word.parse().ok().filter(|_| is_number).ok_or(WRONG)?;
    }
    Ok((words[0].to_owned(), numbers))
}

/// Returns the bytes of a message, once all are there.
fn payload_of(rest: &[u8], length: usize) -> Result<Option<&[u8]>, &'static str> {
    if length > MAX_PAYLOAD_BYTES {
        return Err("a message is too large");
    }
    body(rest, length, "a message does not end where it should")
}

/// Returns the status in headers, if there is one.
fn status(head: &[u8]) -> Result<Option<u16>, &'static str> {
    let head = std::str::from_utf8(head).map_err(|_| "headers are no text")?;
    let first = head.lines().next().unwrap_or_default();
    let Some(rest) = first.strip_prefix("NATS/1.0") else {
        return Err("headers are of another version");
    };
    match rest.split_ascii_whitespace().next() {
        None => Ok(None),
        Some(code) => code.parse().map(Some).map_err(|_| "a status is no number"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::is_read_however_it_is_cut;

    type Reader = crate::server::Reader<Parser>;

    const SPOKEN: &[u8] = b"INFO {\"a\":1} \r\nPING\r\n+OK\r\nPONG\r\n-ERR 'Authorization Violation'\r\n\
        MSG _INBOX.x.1 1 5\r\nhel\r\n\r\nMSG _INBOX.x.2 1 reply 0\r\n\r\n\
        HMSG _INBOX.x.3 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\nHMSG s 1 r 17 19\r\nNATS/1.0\r\nA:b\r\n\r\nok\r\n";

    fn message(subject: &str, status: Option<u16>, payload: &[u8]) -> Said {
        Said::Message {
            subject: subject.into(),
            status,
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn what_a_server_says_is_read_however_it_is_cut() {
        let expected = [
            Said::Info("{\"a\":1}".into()),
            Said::Ping,
            Said::Ok,
            Said::Pong,
            Said::Error("Authorization Violation".into()),
            message("_INBOX.x.1", None, b"hel\r\n"),
            message("_INBOX.x.2", None, b""),
            message("_INBOX.x.3", Some(503), b""),
            message("s", None, b"ok"),
        ];
        is_read_however_it_is_cut::<Parser>(SPOKEN, &expected);
    }

    #[test]
    fn what_is_no_nats_is_told() {
        let long = vec![b'x'; MAX_LINE_BYTES];
        let too_large = format!("MSG a 1 {}\r\n", MAX_PAYLOAD_BYTES + 1);
        for (bytes, why) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], "protocol"),
            (b"\xff\r\n", "text"),
            (&long, "too long"),
            (too_large.as_bytes(), "too large"),
            (b"MSG a 1\r\n", "malformed"),
            (b"MSG a 1 b c 1\r\n", "malformed"),
            (b"MSG a 1 -1\r\n", "malformed"),
            (b"MSG a 1 +1\r\n", "malformed"),
            (b"MSG a 1 99999999999999999999\r\n", "malformed"),
            (b"MSG a 1 1\r\nxyz", "does not end"),
            (b"HMSG a 1 3 2\r\n", "shorter"),
            (b"HMSG a 1 2 2\r\nhi\r\n", "another version"),
            (b"HMSG a 1 10 10\r\nNATS/1.0 x\r\n", "no number"),
            (b"HMSG a 1 1 1\r\n\xff\r\n", "no text"),
        ] {
            let mut reader = Reader::default();
            reader.push(bytes);
            let error = reader.next().expect_err(why);
            assert!(error.contains(why), "{error} is not about {why}");
        }
        let mut reader = Reader::default();
        reader.push(&long[1..]);
        assert_eq!(reader.next(), Ok(None));
    }
}
