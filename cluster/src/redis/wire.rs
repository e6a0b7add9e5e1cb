//! The protocol of Redis (RESP2), as far as a client of the engine reads and writes it. Bytes are arguments.

use zeroize::Zeroizing;

use crate::server::{Buffer, Parse, body, line};

/// The longest line: an error of the server.
const MAX_LINE_BYTES: usize = 32 * 1_024;
/// The longest text: what a server says of itself. A value is much shorter.
const MAX_BULK_BYTES: usize = 64 * 1_024;
/// The most elements of an answer: a token, and three for each record of a list.
const MAX_ELEMENTS: usize = 1 + 3 * crate::engine::MAX_ENTRIES;
/// The longest answer: a list of the largest records, with what the protocol adds to each.
const MAX_ANSWER_BYTES: usize = 6 << 20;

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A status, such as `OK`.
    Status(String),
    Error(String),
    Number(i64),
    Text(Vec<u8>),
    Nothing,
    /// What an array has. None of them is an array.
    All(Vec<Said>),
}

/// Appends a command.
pub(super) fn command(out: &mut Zeroizing<Vec<u8>>, words: &[&[u8]]) {
    // Room for all of it, so that no password is left in memory that it grew out of.
    let bytes: usize = words.iter().map(|word| word.len() + 32).sum();
    let mut grown = Zeroizing::new(Vec::with_capacity(out.len() + bytes + 32));
    grown.extend_from_slice(out);
    *out = grown;
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The grammar, and how far an answer was read.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The array that is being read, so that no part of it is read again when more comes.
    array: Option<Array>,
}

/// An array that is not whole yet.
#[derive(Debug)]
struct Array {
    /// How many elements it will have.
    elements: usize,
    said: Vec<Said>,
    /// The bytes of what was read of it.
    bytes: usize,
}

impl Parse for Parser {
    type Said = Said;

    fn next(&mut self, buffer: &mut Buffer) -> Result<Option<Said>, &'static str> {
        loop {
            if let Some(array) = self
                .array
                .take_if(|array| array.said.len() == array.elements)
            {
                return Ok(Some(Said::All(array.said)));
            }
            let mut rest = buffer.rest();
            let all = rest.len();
            let Some(one) = one(&mut rest)? else {
                let before = self.array.as_ref().map_or(0, |array| array.bytes);
                return short(before + all);
            };
            let bytes = all - rest.len();
            buffer.take(bytes);
            match (&mut self.array, one) {
                (None, One::Said(said)) => return Ok(Some(said)),
                (None, One::Array(elements)) => {
                    self.array = Some(Array {
                        elements,
                        said: Vec::new(),
                        bytes,
                    });
                }
                (Some(array), One::Said(element)) => {
                    array.said.push(element);
                    array.bytes += bytes;
                }
                (Some(_), One::Array(_)) => return Err("an array is within an array"),
            }
        }
    }
}

fn short(bytes: usize) -> Result<Option<Said>, &'static str> {
    match bytes < MAX_ANSWER_BYTES {
        true => Ok(None),
        false => Err("an answer is too long"),
    }
}

enum One {
    Said(Said),
    /// So many elements follow.
    Array(usize),
}

/// Takes what is said next, or the head of an array.
fn one(rest: &mut &[u8]) -> Result<Option<One>, &'static str> {
    if !matches!(rest.first(), None | Some(b'+' | b'-' | b':' | b'$' | b'*')) {
        return Err("it does not speak the protocol of Redis");
    }
    let Some((line, behind)) = line(rest, MAX_LINE_BYTES)? else {
        return Ok(None);
    };
    let line = line.strip_suffix('\r').ok_or("a line ends within itself")?;
    let (kind, text) = line.split_at(1);
    let (one, behind) = match kind {
        "+" => (One::Said(Said::Status(text.to_owned())), behind),
        "-" => (One::Said(Said::Error(text.to_owned())), behind),
        ":" => (One::Said(Said::Number(number(text)?)), behind),
        "*" => match length(text, MAX_ELEMENTS, "an array is too long")? {
            None => (One::Said(Said::Nothing), behind),
            Some(elements) => (One::Array(elements), behind),
        },
        _ => match length(text, MAX_BULK_BYTES, "a text is too long")? {
            None => (One::Said(Said::Nothing), behind),
            Some(length) => {
                let text = body(behind, length, "a text does not end where it should")?;
                let Some(text) = text else {
                    return Ok(None);
                };
                let said = Said::Text(text.to_vec());
                (One::Said(said), &behind[length + 2..])
            }
        },
    };
    *rest = behind;
    Ok(Some(one))
}

/// Reads a length. `None`: there is nothing.
fn length(text: &str, most: usize, beyond: &'static str) -> Result<Option<usize>, &'static str> {
    match number(text)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Err(_) => Err("a length is below 0"),
            Ok(length) if length > most => Err(beyond),
            Ok(length) => Ok(Some(length)),
        },
    }
}

fn number(text: &str) -> Result<i64, &'static str> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_number);
    number.ok_or("a number is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::is_read_however_it_is_cut;

    type Reader = crate::server::Reader<Parser>;

    const SPOKEN: &[u8] =
        b"+OK\r\n-ERR unknown command\r\n:-7\r\n$5\r\nhel\r\n\r\n$0\r\n\r\n$-1\r\n*-1\r\n\
        *3\r\n$1\r\n7\r\n$-1\r\n:4\r\n*0\r\n";

    #[test]
    fn what_a_server_says_is_read_however_it_is_cut() {
        let text = |text: &[u8]| Said::Text(text.to_vec());
        let expected = [
            Said::Status("OK".into()),
            Said::Error("ERR unknown command".into()),
            Said::Number(-7),
            text(b"hel\r\n"),
            text(b""),
            Said::Nothing,
            Said::Nothing,
            Said::All(vec![text(b"7"), Said::Nothing, Said::Number(4)]),
            Said::All(Vec::new()),
        ];
        is_read_however_it_is_cut::<Parser>(SPOKEN, &expected);
    }

    #[test]
    fn what_is_no_redis_is_told() {
        let mut long = vec![b'x'; MAX_LINE_BYTES];
        long[0] = b'+';
        let text = format!("${}\r\n", MAX_BULK_BYTES + 1);
        let array = format!("*{}\r\n", MAX_ELEMENTS + 1);
        for (bytes, why) in [
            (&b"INFO {}\r\n"[..], "protocol"),
            (b"HTTP/1.1 400 Bad Request\r\n", "protocol"),
            (b"\xff", "protocol"),
            (b"+\xff\r\n", "no text"),
            (b"+OK\n", "ends within"),
            (&long, "too long"),
            (text.as_bytes(), "a text is too long"),
            (array.as_bytes(), "an array is too long"),
            (b":\r\n", "malformed"),
            (b":+1\r\n", "malformed"),
            (b":-\r\n", "malformed"),
            (b"$99999999999999999999\r\n", "malformed"),
            (b"$-2\r\n", "below 0"),
            (b"*-2\r\n", "below 0"),
            (b"*1\r\n*1\r\n:1\r\n", "within an array"),
            (b"$1\r\nxyz", "does not end"),
        ] {
            let mut reader = Reader::default();
            reader.push(bytes);
            let error = reader.next().expect_err(why);
            assert!(error.contains(why), "{error} is not about {why}");
        }
        let mut reader = Reader::default();
        reader.push(&long[..long.len() - 1]);
        assert_eq!(reader.next(), Ok(None), "at the bound");
    }

    #[test]
    fn an_answer_has_a_bound() {
        let mut reader = Reader::default();
        let element = [
            b"$65536\r\n".as_slice(),
            &vec![b'v'; MAX_BULK_BYTES],
            b"\r\n",
        ]
        .concat();
        let mut bytes = format!("*{MAX_ELEMENTS}\r\n").into_bytes();
        while bytes.len() + element.len() < MAX_ANSWER_BYTES {
            bytes.extend_from_slice(&element);
        }
        reader.push(&bytes);
        assert_eq!(reader.next(), Ok(None), "at the bound");
        reader.push(&element);
        assert_eq!(reader.next(), Err("an answer is too long"));
    }

    #[test]
    fn what_was_read_of_an_array_is_not_read_again() {
        let mut reader = Reader::default();
        reader.push(b"*1000\r\n");
        for _ in 0..999 {
            reader.push(b"$3\r\none\r\n$3\r\nt");
            assert_eq!(reader.next(), Ok(None));
            let unread = reader.buffer.rest().len();
            assert_eq!(unread, b"$3\r\nt".len(), "only what is not whole");
            reader.push(b"wo\r\n");
            let whole = reader.next().expect("good");
            if let Some(Said::All(elements)) = whole {
                assert_eq!(elements.len(), 1_000);
                return;
            }
        }
        panic!("the array is never whole");
    }

    #[test]
    fn a_command_is_an_array_of_texts() {
        let mut out = Zeroizing::new(Vec::new());
        command(&mut out, &[b"AUTH", b"a b"]);
        command(&mut out, &[b""]);
        assert_eq!(
            out[..],
            *b"*2\r\n$4\r\nAUTH\r\n$3\r\na b\r\n*1\r\n$0\r\n\r\n"
        );
    }
}
