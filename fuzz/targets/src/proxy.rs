//! Fuzzes headers of the PROXY protocol.

use voltlane_core::edge::proxy::{
    BINARY_PREFIX_BYTES, MAX_BINARY_REST_BYTES, ProxyError, ProxyHeader, ProxySource, ProxyTls,
};

use crate::bytes::in_pieces;

const MAX_BYTES: usize = BINARY_PREFIX_BYTES + MAX_BINARY_REST_BYTES as usize;

/// The first byte chooses the cuts, the rest is the header and the bytes after it.
///
/// Every way to cut gives the same outcome within the bound and tells the same of TLS, and an address read from a line survives writing and reading.
pub fn proxy_header(input: &[u8]) {
    let Some((&cuts, stream)) = input.split_first() else {
        return;
    };
    let at_once = read(stream, 0);
    assert_eq!(read(stream, cuts), at_once);
    let (outcome, taken, told) = at_once;
    let texts = told.map(|tls| [tls.version, tls.common_name, tls.alpn, tls.authority]);
    for text in texts.into_iter().flatten() {
        assert!(
            text.to_string()
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' ')
        );
    }
    assert!(taken <= MAX_BYTES.min(stream.len()));
    match outcome {
        Ok(None) => assert!(taken == stream.len() && taken < MAX_BYTES),
        Ok(Some(ProxySource::Address(source))) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            let (ip, port) = (source.ip(), source.port());
            let line = format!("PROXY {family} {ip} {ip} {port} {port}\r\n");
            assert_eq!(read(line.as_bytes(), cuts), (outcome, line.len(), None));
        }
        Ok(Some(ProxySource::Local)) | Err(_) => {}
    }
}

/// Returns the outcome, how many bytes of `stream` the reader consumed, and what they tell of TLS.
fn read(stream: &[u8], cuts: u8) -> Read {
    let (mut reader, mut outcome, mut taken) = (ProxyHeader::default(), Ok(None), 0);
    in_pieces(stream, cuts, |piece| {
        let mut left = piece;
        if outcome == Ok(None) {
            outcome = reader.read(&mut left);
            taken += piece.len() - left.len();
        } else {
            assert_eq!(reader.read(&mut left), outcome, "an outcome is kept");
            assert_eq!(left, piece, "and no further byte is consumed");
        }
    });
    (outcome, taken, reader.tls().cloned())
}

type Read = (
    Result<Option<ProxySource>, ProxyError>,
    usize,
    Option<ProxyTls>,
);
