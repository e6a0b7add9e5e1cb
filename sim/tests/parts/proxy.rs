//! The model's reading of PROXY headers.

use std::net::IpAddr;

use sim::model::proxy::{BINARY, Header, read};

#[test]
fn headers_are_whole_at_their_last_byte_and_bad_ones_are_bad() {
    let v4 = Some(IpAddr::from([192, 0, 2, 1]));
    let mut inet = [BINARY, &[0x21, 0x11, 0, 15]].concat();
    inet.extend([192, 0, 2, 1, 10, 0, 0, 1, 1, 2, 3, 4, 9, 9, 9]);
    let good = [
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(), v4),
        (b"PROXY UNKNOWN \xff what?\r\n".to_vec(), None),
        (inet, v4),
        ([BINARY, &[0x20, 0x12, 0, 1, 7]].concat(), None),
    ];
    for (bytes, source) in good {
        for cut in 0..bytes.len() {
            assert_eq!(
                read(&bytes[..cut]),
                Header::Unfinished,
                "{bytes:?} at {cut}"
            );
        }
        let whole = Header::Whole(bytes.len(), source);
        assert_eq!(read(&bytes), whole);
        assert_eq!(read(&[&bytes[..], b"behind"].concat()), whole);
    }
    let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 92], b"\r\n"].concat();
    let bad: [&[u8]; 7] = [
        b"GET",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n",
        b"PROXY TCP6 192.0.2.1 10.0.0.1 1 2\r\n",
        b"PROXY UNKNOWN\n",
        &long,
        &[BINARY, &[0x31]].concat(),
        &[BINARY, &[0x21, 0x12]].concat(),
    ];
    for bytes in bad {
        assert_eq!(read(bytes), Header::Bad, "{bytes:?}");
    }
}
