//! Fuzzes the readers of requests to the admin interface, and to the metrics and the status page.

use std::fmt::Write as _;
use std::io::{self, Read};

use voltlane_app::fuzzing::{
    self, AdminRequest, MAX_ADMIN_BODY_BYTES, MAX_ADMIN_HEAD_BYTES, page_request,
};

/// Gives its bytes in pieces of some length.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let length = self.piece.min(out.len()).min(self.rest.len());
        let (now, later) = self.rest.split_at(length);
        out[..length].copy_from_slice(now);
        self.rest = later;
        Ok(length)
    }
}

fn read(rest: &[u8], piece: usize) -> Result<Option<AdminRequest>, u16> {
    fuzzing::admin_request(&mut Pieces { rest, piece })
}

/// The first byte chooses the cuts, the rest is a request and what is behind it.
///
/// Every way to cut gives the same outcome, within the bounds. No request is read that two servers could read differently. One that was read is
/// the same when it is written again. The reader of the metrics takes a head as whole, and the same, however much is behind it.
pub fn admin_request(input: &[u8]) {
    let Some((&cuts, stream)) = input.split_first() else {
        return;
    };
    let outcome = read(stream, usize::MAX);
    assert_eq!(read(stream, 1 + usize::from(cuts)), outcome);
    match &outcome {
        Ok(None) => assert!(stream.is_empty()),
        Err(status) => assert!([400, 413, 431, 501].contains(status), "{status}"),
        Ok(Some(request)) => check(stream, request),
    }
    check_page(stream, usize::from(cuts));
}

fn check(stream: &[u8], request: &AdminRequest) {
    assert!(request.path.starts_with('/') && !request.path.contains('?'));
    assert!(request.body.len() <= MAX_ADMIN_BODY_BYTES && request.headers.len() <= 32);
    let query = request.query.iter();
    let query: usize = query.map(|(name, value)| name.len() + value.len()).sum();
    assert!(request.method.len() + request.path.len() + query <= MAX_ADMIN_HEAD_BYTES);
    let count = |name: &str| {
        let fields = request.headers.iter();
        fields
            .filter(|(known, _)| known.eq_ignore_ascii_case(name))
            .count()
    };
    assert!(count("content-length") <= 1 && count("transfer-encoding") == 0);
    // The body is what stands behind the head.
    let end = stream.len() - request.body.len();
    let is_behind = |at: usize| stream[at..].starts_with(&request.body);
    assert!((0..=end).any(is_behind));
    let again = write(request);
    if again.len() - request.body.len() <= MAX_ADMIN_HEAD_BYTES {
        assert_eq!(
            read(&again, usize::MAX).as_ref(),
            Ok(&Some(request.clone()))
        );
    }
}

/// Writes a request.
fn write(request: &AdminRequest) -> Vec<u8> {
    let mut head = format!("{} {}", request.method, request.path);
    for (number, (name, value)) in request.query.iter().enumerate() {
        head.push(if number == 0 { '?' } else { '&' });
        for byte in name.bytes() {
            let _ = write!(head, "%{byte:02x}");
        }
        head.push('=');
        for byte in value.bytes() {
            let _ = write!(head, "%{byte:02X}");
        }
    }
    head.push_str(" HTTP/1.1\r\n");
    for (name, value) in &request.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    [head.as_bytes(), &request.body].concat()
}

fn check_page(stream: &[u8], cut: usize) {
    let whole = page_request(stream);
    if let Some(Some(path)) = whole {
        assert!(path.starts_with('/') && !path.contains(['?', ' ', '\n']));
    }
    let begin = &stream[..stream.len().min(cut)];
    if let Some(early) = page_request(begin) {
        assert_eq!(Some(early), whole);
    }
}
