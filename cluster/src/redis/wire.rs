//! The protocol of Redis (RESP2), as far as a client of the engine reads and writes it. Bytes are arguments.

use zeroize::Zeroizing;

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

/// Cuts what a server says out of bytes.
#[derive(Debug, Default)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    /// How much of the buffer was read.
    at: usize,
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

impl Reader {
    /// Adds bytes, after [`next`](Reader::next) has said that there is nothing whole.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next thing that was said whole. The error says why the bytes make no sense.
    pub(super) fn next(&mut self) -> Result<Option<Said>, &'static str> {
        loop {
            if let Some(array) = self
                .array
                .take_if(|array| array.said.len() == array.elements)
            {
                return Ok(Some(Said::All(array.said)));
            }
            let mut rest = &self.buffer[self.at..];
            let all = rest.len();
            let Some(one) = one(&mut rest)? else {
                let before = self.array.as_ref().map_or(0, |array| array.bytes);
                return short(before + all);
            };
            let bytes = all - rest.len();
            self.at += bytes;
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
    let window = &rest[..rest.len().min(MAX_LINE_BYTES)];
    if !matches!(
        window.first(),
        None | Some(b'+' | b'-' | b':' | b'$' | b'*')
    ) {
        return Err("it does not speak the protocol of Redis");
    }
    let Some(end) = window.iter().position(|byte| *byte == b'\n') else {
        return match rest.len() < MAX_LINE_BYTES {
            true => Ok(None),
            false => Err("a line is too long"),
        };
    };
    let line = std::str::from_utf8(&rest[..end]).map_err(|_| "a line is no text")?;
    let line = line.strip_suffix('\r').ok_or("a line ends within itself")?;
    let (kind, text) = line.split_at(1);
    let behind = &rest[end + 1..];
    let (said, behind) = match kind {
        "+" => (Said::Status(text.to_owned()), behind),
        "-" => (Said::Error(text.to_owned()), behind),
        ":" => (Said::Number(number(text)?), behind),
        "*" => {
            let elements = match number(text)? {
                -1 => {
                    *rest = behind;
                    return Ok(Some(One::Said(Said::Nothing)));
                }
                elements => usize::try_from(elements).map_err(|_| "a length is below 0")?,
            };
            if elements > MAX_ELEMENTS {
                return Err("an array is too long");
            }
            *rest = behind;
            return Ok(Some(One::Array(elements)));
        }
        _ => match number(text)? {
            -1 => (Said::Nothing, behind),
            length => {
                let length = usize::try_from(length).map_err(|_| "a length is below 0")?;
                if length > MAX_BULK_BYTES {
                    return Err("a text is too long");
                }
                match behind.get(length..length + 2) {
                    None => return Ok(None),
                    Some(b"\r\n") => {
                        let text = behind[..length].to_vec();
                        (Said::Text(text), &behind[length + 2..])
                    }
                    Some(_) => return Err("a text does not end where it should"),
                }
            }
        },
    };
    *rest = behind;
    Ok(Some(One::Said(said)))
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
        for size in 1..=SPOKEN.len() {
            let mut reader = Reader::default();
            let mut said = Vec::new();
            for piece in SPOKEN.chunks(size) {
                reader.push(piece);
                while let Some(one) = reader.next().expect("good") {
                    said.push(one);
                }
            }
            assert_eq!(said, expected);
        }
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
            let unread = reader.buffer.len() - reader.at;
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
