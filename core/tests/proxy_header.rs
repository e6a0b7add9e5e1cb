//! Headers of the PROXY protocol, good and bad, whole and in pieces (proxy-protocol.txt 2.1, 2.2; SPEC.txt 10.7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::prelude::*;
use voltlane_core::edge::proxy::{
    BINARY_PREFIX_BYTES, MAX_BINARY_REST_BYTES, MAX_LINE_BYTES, ProxyError, ProxyHeader,
    ProxySource, ProxyText, ProxyTls,
};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Returns a header of version 2 with `length` as its stated length and `rest` after it.
fn binary(version_and_command: u8, family: u8, length: usize, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(length).unwrap();
    [
        SIGNATURE,
        &[version_and_command, family][..],
        &length.to_be_bytes(),
        rest,
    ]
    .concat()
}

/// Returns a header of version 2 with the right length.
fn whole(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    binary(version_and_command, family, rest.len(), rest)
}

fn address(text: &str) -> ProxySource {
    ProxySource::Address(text.parse().unwrap())
}

/// 192.0.2.1:51234 to 198.51.100.2:443.
const INET: &[u8; 12] = &[192, 0, 2, 1, 198, 51, 100, 2, 0xc8, 0x22, 0x01, 0xbb];

/// 2001:db8::1 port 51234 to 2001:db8::2 port 443.
fn inet6() -> Vec<u8> {
    let [source, destination]: [Ipv6Addr; 2] =
        ["2001:db8::1", "2001:db8::2"].map(|text| text.parse().unwrap());
    [
        &source.octets()[..],
        &destination.octets(),
        &[0xc8, 0x22, 0x01, 0xbb],
    ]
    .concat()
}

/// Reads `bytes` in the given pieces. Returns the outcome, and how many bytes were consumed.
fn read_in(pieces: &[&[u8]]) -> (Result<Option<ProxySource>, ProxyError>, usize) {
    let (mut reader, mut taken) = (ProxyHeader::default(), 0);
    for piece in pieces {
        let mut input = *piece;
        let outcome = reader.read(&mut input);
        taken += piece.len() - input.len();
        match outcome {
            Ok(None) => assert!(input.is_empty(), "it asks for more with bytes left"),
            Ok(Some(_)) | Err(_) => return (outcome, taken),
        }
    }
    (Ok(None), taken)
}

/// Returns the outcome for `bytes`, which must be the same for every way to cut them in two and for one byte at a time.
fn read(bytes: &[u8]) -> (Result<Option<ProxySource>, ProxyError>, usize) {
    let at_once = read_in(&[bytes]);
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(read_in(&[head, tail]), at_once, "cut at {cut}: {bytes:?}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read_in(&single), at_once, "byte by byte: {bytes:?}");
    at_once
}

fn good_headers() -> Vec<(Vec<u8>, ProxySource)> {
    let line = |text: &str| format!("{text}\r\n").into_bytes();
    let tlv = |value_bytes: usize| {
        let length = u16::try_from(value_bytes).unwrap().to_be_bytes();
        [&[0x04][..], &length, &vec![0xab; value_bytes]].concat()
    };
    let longest = usize::from(MAX_BINARY_REST_BYTES);
    vec![
        (
            line("PROXY TCP4 192.0.2.1 198.51.100.2 51234 443"),
            address("192.0.2.1:51234"),
        ),
        (
            line("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535"),
            address("255.255.255.255:65535"),
        ),
        (line("PROXY TCP4 0.0.0.0 0.0.0.0 0 0"), address("0.0.0.0:0")),
        (
            line("PROXY TCP6 2001:db8::1 2001:DB8::2 51234 443"),
            address("[2001:db8::1]:51234"),
        ),
        (
            line("PROXY TCP6 ::ffff:192.0.2.1 :: 1 1"),
            address("[::ffff:192.0.2.1]:1"),
        ),
        (
            line(
                "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535",
            ),
            address("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        (line("PROXY UNKNOWN"), ProxySource::Local),
        (line("PROXY UNKNOWN "), ProxySource::Local),
        (
            line("PROXY UNKNOWN \0\u{ff} nothing of it matters"),
            ProxySource::Local,
        ),
        (
            line(&format!(
                "PROXY UNKNOWN {}",
                "x".repeat(MAX_LINE_BYTES - 16)
            )),
            ProxySource::Local,
        ),
        (whole(0x21, 0x11, INET), address("192.0.2.1:51234")),
        (
            whole(0x21, 0x11, &[&INET[..], &tlv(6)].concat()),
            address("192.0.2.1:51234"),
        ),
        (
            whole(0x21, 0x11, &[&INET[..], &tlv(longest - 15)].concat()),
            address("192.0.2.1:51234"),
        ),
        (whole(0x21, 0x21, &inet6()), address("[2001:db8::1]:51234")),
        (
            whole(0x21, 0x21, &[&inet6()[..], &tlv(0), &tlv(17)].concat()),
            address("[2001:db8::1]:51234"),
        ),
        (whole(0x21, 0x31, &[b'/'; 216]), ProxySource::Local),
        (whole(0x21, 0x31, &[b'/'; 220]), ProxySource::Local),
        (whole(0x21, 0x00, b""), ProxySource::Local),
        (whole(0x21, 0x00, &tlv(9)), ProxySource::Local),
        (whole(0x20, 0x00, b""), ProxySource::Local),
        (whole(0x20, 0x11, INET), ProxySource::Local),
        (whole(0x20, 0x12, b"short"), ProxySource::Local),
        (whole(0x20, 0xff, &vec![7; longest]), ProxySource::Local),
    ]
}

/// Returns an extension.
fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind][..], &length, value].concat()
}

/// Returns the extension about TLS, with these flags, this result of the verification, and more within it.
fn tls(flags: u8, result: u32, more: &[u8]) -> Vec<u8> {
    let value = [&[flags][..], &result.to_be_bytes(), more].concat();
    extension(0x20, &value)
}

/// Returns what extensions tell of TLS, which must not depend on how the header is cut.
fn told(extensions: &[u8]) -> Option<ProxyTls> {
    let bytes = whole(0x21, 0x11, &[INET, extensions].concat());
    let read = |pieces: &[&[u8]]| {
        let mut reader = ProxyHeader::default();
        let mut outcome = None;
        for piece in pieces {
            outcome = reader.read(&mut &**piece).expect("a header");
        }
        assert_eq!(outcome, Some(address("192.0.2.1:51234")));
        reader.tls().cloned()
    };
    let at_once = read(&[&bytes]);
    for cut in 0..=bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(read(&[head, tail]), at_once, "cut at {cut}");
    }
    at_once
}

#[test]
fn what_a_proxy_tells_of_tls_is_known() {
    assert_eq!(told(b""), None);
    let within = [
        extension(0x21, b"TLSv1.3"),
        extension(0x25, b"EC256"),
        extension(0x22, b"player one"),
        extension(0x23, b""),
    ];
    let all = [
        extension(0x04, b""),
        extension(0x01, b"voltlane/2"),
        extension(0x02, b"edge.example.com"),
        tls(0b101, 0, &within.concat()),
        // A kind of another meaning outside.
        extension(0x22, b"nobody"),
        extension(0x03, &[7; 4]),
    ];
    let seen = told(&all.concat()).expect("extensions");
    assert!(seen.is_tls && seen.has_certificate && seen.is_verified);
    let texts = [seen.version, seen.common_name, seen.alpn, seen.authority];
    assert_eq!(
        texts.map(|text| text.to_string()),
        ["TLSv1.3", "player one", "voltlane/2", "edge.example.com"]
    );
    let facts = |flags, result| {
        let seen = told(&tls(flags, result, b"")).expect("extensions");
        (seen.is_tls, seen.has_certificate, seen.is_verified)
    };
    assert_eq!(facts(0, 0), (false, false, false));
    assert_eq!(facts(1, 0), (true, false, false), "there is none to verify");
    assert_eq!(facts(3, 0), (true, true, true), "in this connection");
    assert_eq!(facts(5, 1), (true, true, false), "it was not verified");
}

/// What a proxy tells decides nothing, so what is not well formed is passed over.
#[test]
fn extensions_that_are_not_well_formed_tell_nothing_more() {
    let nothing = ProxyTls::default();
    let cut = extension(0x22, b"name");
    let rows: [(&str, Vec<u8>); 5] = [
        ("no flags", extension(0x20, &[1, 0, 0, 0])),
        ("an end within a kind", vec![0x20, 0]),
        ("an end within the flags", tls(1, 0, b"")[..5].to_vec()),
        ("longer than the header", vec![0x01, 1, 0]),
        ("of another kind", extension(0xee, b"TLSv1.3")),
    ];
    for (what, extensions) in rows {
        assert_eq!(told(&extensions), Some(nothing.clone()), "{what}");
    }
    // Those within TLS end where it does. Nothing behind is believed.
    for end in 1..cut.len() {
        let all = [tls(1, 0, &cut[..end]), extension(0x01, b"late")].concat();
        let seen = told(&all).expect("extensions");
        assert!(seen.is_tls && seen.alpn.as_bytes().is_empty(), "{end}");
        assert!(b"name".starts_with(seen.common_name.as_bytes()));
    }
    // A text has a bound, and brings no line into a log.
    let long = [b'x'; ProxyText::MAX_BYTES + 1];
    let seen = told(&extension(0x01, &long)).expect("extensions");
    assert_eq!(seen.alpn.as_bytes(), &long[1..]);
    let seen = told(&extension(0x01, b"\nINFO \"\xff")).expect("extensions");
    assert_eq!(seen.alpn.to_string(), r#"\nINFO \"\xff"#);
}

fn bad_headers() -> Vec<(Vec<u8>, ProxyError)> {
    use ProxyError::*;
    let line = |text: &str| format!("{text}\r\n").into_bytes();
    let mut bad = vec![
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), NoHeader),
        (b"\x02\0\0\0\x01\x02".to_vec(), NoHeader),
        (b"\0".to_vec(), NoHeader),
        (line("proxy TCP4 192.0.2.1 198.51.100.2 1 2"), NoHeader),
        (line(" PROXY TCP4 192.0.2.1 198.51.100.2 1 2"), NoHeader),
        (line("PROXY"), NoHeader),
        (line("PROXY\tTCP4 192.0.2.1 198.51.100.2 1 2"), NoHeader),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), NoHeader),
        (b"\r\n\r\n\x01".to_vec(), NoHeader),
        (b"PROXY UNKNOWN\rx".to_vec(), BadLineEnd),
        (b"PROXY UNKNOWN\r\r\n".to_vec(), BadLineEnd),
        (b"PROXY UNKNOWN\n".to_vec(), BadLineEnd),
        (
            b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n".to_vec(),
            BadLineEnd,
        ),
        (vec_of("PROXY UNKNOWN ", MAX_LINE_BYTES), LineTooLong),
        (vec_of("PROXY UNKNOWN ", MAX_LINE_BYTES + 50), LineTooLong),
        (
            [vec_of("PROXY TCP4 ", MAX_LINE_BYTES - 1), b"\r\n".to_vec()].concat(),
            LineTooLong,
        ),
        (line("PROXY "), UnknownProtocol),
        (
            line("PROXY  TCP4 192.0.2.1 198.51.100.2 1 2"),
            UnknownProtocol,
        ),
        (
            line("PROXY tcp4 192.0.2.1 198.51.100.2 1 2"),
            UnknownProtocol,
        ),
        (line("PROXY UNKNOWNS"), UnknownProtocol),
        (
            line("PROXY UDP4 192.0.2.1 198.51.100.2 1 2"),
            UnknownProtocol,
        ),
        (line("PROXY TCP4"), BadFields),
        (line("PROXY TCP4 192.0.2.1 198.51.100.2 1"), BadFields),
        (line("PROXY TCP4 192.0.2.1 198.51.100.2 1 2 "), BadFields),
        (line("PROXY TCP4 192.0.2.1 198.51.100.2 1 2 3"), BadFields),
        (line("PROXY TCP4  192.0.2.1 198.51.100.2 1 2"), BadFields),
        (line("PROXY TCP4  192.0.2.1 198.51.100.2 1"), BadAddress),
    ];
    for address in [
        "",
        "192.0.2",
        "192.0.2.1.1",
        "192.0.2.256",
        "192.0.2.01",
        "192.0.02.1",
        "192.0.2.-1",
        "0x7f.0.0.1",
        "::1",
        "192.0.2.1:80",
        "example",
        "192.0.2.\u{e9}",
    ] {
        bad.push((
            line(&format!("PROXY TCP4 {address} 198.51.100.2 1 2")),
            BadAddress,
        ));
        bad.push((
            line(&format!("PROXY TCP4 198.51.100.2 {address} 1 2")),
            BadAddress,
        ));
    }
    for address in [
        "",
        "1::2::3",
        "192.0.2.1",
        "fe80::1%eth0",
        "[::1]",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "00001::",
        "g::",
    ] {
        bad.push((line(&format!("PROXY TCP6 {address} ::1 1 2")), BadAddress));
        bad.push((line(&format!("PROXY TCP6 ::1 {address} 1 2")), BadAddress));
    }
    for port in [
        "",
        "00",
        "01",
        "080",
        "65536",
        "99999999999999999999",
        "-1",
        "+1",
        "0x50",
        "8o",
        "1.0",
    ] {
        bad.push((
            line(&format!("PROXY TCP4 192.0.2.1 198.51.100.2 {port} 2")),
            BadPort,
        ));
        bad.push((
            line(&format!("PROXY TCP4 192.0.2.1 198.51.100.2 1 {port}")),
            BadPort,
        ));
    }
    for version in (0..=15).filter(|&version| version != 2) {
        bad.push((
            whole(version << 4 | 1, 0x11, INET),
            UnknownVersion { version },
        ));
    }
    for command in 2..=15 {
        bad.push((
            whole(0x20 | command, 0x11, INET),
            UnknownCommand { command },
        ));
    }
    for family in (0x01..=0xff).filter(|family| !matches!(family, 0x11 | 0x21 | 0x31)) {
        let error = match family {
            0x12 | 0x22 | 0x32 => Datagram { family },
            _ => UnknownFamily { family },
        };
        bad.push((whole(0x21, family, &[0; 216]), error));
    }
    for (family, needed) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
        for length in [0, needed - 1] {
            let rest = vec![0; usize::from(length)];
            bad.push((whole(0x21, family, &rest), TooShort { length, needed }));
        }
    }
    for length in [MAX_BINARY_REST_BYTES + 1, u16::MAX] {
        for command in [0x20, 0x21] {
            let header = binary(command, 0x11, usize::from(length), INET);
            bad.push((header, TooLong { length }));
        }
    }
    bad
}

/// `start` and then `x` up to `length` bytes.
fn vec_of(start: &str, length: usize) -> Vec<u8> {
    format!("{start:x<length$}").into_bytes()
}

#[test]
fn good_headers_give_the_source_and_leave_what_follows() {
    for (header, source) in good_headers() {
        assert!(header.len() <= BINARY_PREFIX_BYTES + usize::from(MAX_BINARY_REST_BYTES));
        assert_eq!(
            read(&header),
            (Ok(Some(source)), header.len()),
            "{header:?}"
        );
        let followed = [&header[..], b"\x02\0\0\0\x01\x02PROXY "].concat();
        assert_eq!(
            read(&followed),
            (Ok(Some(source)), header.len()),
            "{header:?}"
        );
    }
}

#[test]
fn a_header_that_is_not_whole_yet_gives_nothing() {
    for (header, _) in good_headers() {
        for length in 0..header.len() {
            assert_eq!(read_in(&[&header[..length]]), (Ok(None), length));
        }
    }
}

#[test]
fn bad_headers_are_errors_and_stay_errors() {
    for (header, error) in bad_headers() {
        let (outcome, _) = read(&header);
        assert_eq!(outcome, Err(error), "{}", header.escape_ascii());
        let mut reader = ProxyHeader::default();
        assert_eq!(reader.read(&mut &header[..]), Err(error));
        let mut good = &b"PROXY UNKNOWN\r\n"[..];
        assert_eq!(reader.read(&mut good), Err(error));
        assert_eq!(good.len(), 15, "a reader that failed takes nothing");
    }
}

#[test]
fn an_error_is_seen_at_the_byte_that_shows_it() {
    let error_at = |header: &[u8]| read_in(&header.chunks(1).collect::<Vec<_>>());
    assert_eq!(error_at(b"PROXYTCP4"), (Err(ProxyError::NoHeader), 6));
    assert_eq!(
        error_at(&whole(0x31, 0x11, INET)),
        (Err(ProxyError::UnknownVersion { version: 3 }), 13)
    );
    assert_eq!(
        error_at(&whole(0x21, 0x13, INET)),
        (Err(ProxyError::UnknownFamily { family: 0x13 }), 14)
    );
    assert_eq!(
        error_at(&binary(0x21, 0x11, 513, INET)),
        (Err(ProxyError::TooLong { length: 513 }), 16)
    );
}

#[test]
fn an_outcome_is_kept_and_takes_nothing_more() {
    let mut reader = ProxyHeader::default();
    let mut input = &b"PROXY UNKNOWN\r\nPROXY TCP4 "[..];
    for _ in 0..3 {
        assert_eq!(reader.read(&mut input), Ok(Some(ProxySource::Local)));
        assert_eq!(input, b"PROXY TCP4 ");
    }
}

proptest! {
    #[test]
    fn addresses_come_back_from_both_versions(v4: [u8; 4], v6: [u8; 16], port: u16, is_v6: bool) {
        let ip = if is_v6 { IpAddr::from(Ipv6Addr::from(v6)) } else { IpAddr::from(Ipv4Addr::from(v4)) };
        let source = ProxySource::Address(SocketAddr::new(ip, port));
        let protocol = if is_v6 { "TCP6" } else { "TCP4" };
        let text = format!("PROXY {protocol} {ip} {ip} {port} {port}\r\n");
        prop_assert_eq!(read(text.as_bytes()), (Ok(Some(source)), text.len()));
        let octets = if is_v6 { v6.to_vec() } else { v4.to_vec() };
        let addresses = [&octets[..], &octets, &port.to_be_bytes(), &port.to_be_bytes()].concat();
        let bytes = whole(0x21, if is_v6 { 0x21 } else { 0x11 }, &addresses);
        prop_assert_eq!(read(&bytes), (Ok(Some(source)), bytes.len()));
    }

    #[test]
    fn any_bytes_after_any_start_come_to_one_outcome_within_the_bound(
        good in 0..23_usize,
        keep in 0..60_usize,
        tail in proptest::collection::vec(any::<u8>(), 0..700),
    ) {
        let (header, _) = &good_headers()[good];
        let bytes = [&header[..keep.min(header.len())], &tail].concat();
        let (outcome, taken) = read(&bytes);
        prop_assert!(taken <= BINARY_PREFIX_BYTES + usize::from(MAX_BINARY_REST_BYTES));
        if outcome == Ok(None) {
            prop_assert_eq!(taken, bytes.len());
            prop_assert!(taken < BINARY_PREFIX_BYTES + usize::from(MAX_BINARY_REST_BYTES));
        }
    }
}

#[test]
fn what_is_written_is_read_again() {
    for source in [
        address("192.0.2.1:51234"),
        address("[2001:db8::1]:51234"),
        address("0.0.0.0:0"),
        ProxySource::Local,
    ] {
        let mut header = Vec::new();
        source.encode(&mut header);
        let length = header.len();
        assert_eq!(read_in(&[&header]), (Ok(Some(source)), length));
    }
    let mut header = Vec::new();
    address("192.0.2.1:51234").encode(&mut header);
    let rest = [192, 0, 2, 1, 0, 0, 0, 0, 0xc8, 0x22, 0, 0];
    assert_eq!(header, whole(0x21, 0x11, &rest));
}
