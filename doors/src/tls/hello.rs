//! Finds the end of a client's hello, at which the key exchange begins.

/// How far a client's hello has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// More must come.
    Partial,
    /// It is complete, or only rustls can tell.
    Complete,
    /// These bytes begin no hello, which rustls finds without a key exchange.
    None,
}

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER_BYTES: usize = 5;
const MESSAGE_HEADER_BYTES: usize = 4;

/// Judges the first bytes of a connection.
pub(super) fn progress(bytes: &[u8]) -> Hello {
    let mut header = [0; MESSAGE_HEADER_BYTES];
    // Bytes of the message, with its header.
    let mut have = 0;
    let mut rest = bytes;
    loop {
        match rest.first() {
            None => return Hello::Partial,
            Some(&HANDSHAKE_RECORD) => {}
            Some(_) if have == 0 => return Hello::None,
            Some(_) => return Hello::Complete,
        }
        let Some((record, body)) = rest.split_first_chunk::<RECORD_HEADER_BYTES>() else {
            return Hello::Partial;
        };
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        if length == 0 {
            return Hello::Complete;
        }
        let here = &body[..length.min(body.len())];
        for (slot, byte) in header.iter_mut().skip(have).zip(here) {
            *slot = *byte;
        }
        have += here.len();
        if have > 0 && header[0] != CLIENT_HELLO {
            return Hello::None;
        }
        let [_, high, middle, low] = header;
        let message = u32::from_be_bytes([0, high, middle, low]) as usize;
        if have >= MESSAGE_HEADER_BYTES && have >= MESSAGE_HEADER_BYTES + message {
            return Hello::Complete;
        }
        match body.get(length..) {
            Some(next) => rest = next,
            None => return Hello::Partial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of this length, in records of this many bytes.
    fn records(message: &[u8], each: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in message.chunks(each) {
            bytes.extend([HANDSHAKE_RECORD, 3, 1]);
            bytes.extend((part.len() as u16).to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }

    fn hello(length: u16) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        let mut message = vec![CLIENT_HELLO, 0, high, low];
        message.resize(MESSAGE_HEADER_BYTES + usize::from(length), 0xA5);
        message
    }

    #[test]
    fn a_hello_is_complete_with_its_last_byte_however_it_is_cut() {
        for length in [0, 1, 200, 1_400] {
            for each in [1, 2, 3, 4, 5, 700, 1_404] {
                let bytes = records(&hello(length), each);
                for end in 0..bytes.len() {
                    assert_eq!(progress(&bytes[..end]), Hello::Partial, "{length} {each}");
                }
                assert_eq!(progress(&bytes), Hello::Complete, "{length} in {each}");
            }
        }
    }

    #[test]
    fn what_is_no_hello_is_found_at_once() {
        for wrong in [
            &b"GET / HTTP/1.1"[..],
            b"\0\0\0\x02\0\x02",
            &[21, 3, 3, 0, 2, 2, 40],
            &[HANDSHAKE_RECORD, 3, 1, 0, 4, 2, 0, 0, 0],
        ] {
            assert_eq!(progress(wrong), Hello::None, "{wrong:?}");
        }
        // After a part of one, rustls is the judge.
        let mut bytes = records(&hello(100), 50);
        bytes.truncate(RECORD_HEADER_BYTES + 50);
        bytes.push(20);
        assert_eq!(progress(&bytes), Hello::Complete);
        assert_eq!(
            progress(&[HANDSHAKE_RECORD, 3, 1, 0, 0]),
            Hello::Complete,
            "an empty record"
        );
    }
}
