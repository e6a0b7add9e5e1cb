//! Readers behind private doors, for the fuzz targets. This is no interface.

use std::io::Read;

use crate::admin::read_request;
use crate::http::read_path;

/// A request to the admin interface, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the fuzz targets alone use it")]
pub struct AdminRequest {
    /// Its method.
    pub method: String,
    /// Its path, as it was written.
    pub path: String,
    /// The parameters of its query, decoded.
    pub query: Vec<(String, String)>,
    /// Its header fields.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// The most bytes of a head of a request to the admin interface.
pub const MAX_ADMIN_HEAD_BYTES: usize = crate::admin::MAX_HEAD_BYTES;
/// The most bytes of its body.
pub const MAX_ADMIN_BODY_BYTES: usize = crate::admin::MAX_BODY_BYTES;

/// Reads a request to the admin interface. `None`: nothing came.
///
/// # Errors
/// The status with which it is refused.
///
/// # Panics
/// When `input` has an error: it is memory.
pub fn admin_request(input: &mut impl Read) -> Result<Option<AdminRequest>, u16> {
    let read = read_request(input).expect("memory");
    let request = read.transpose().map_err(|refusal| refusal.status)?;
    Ok(request.map(|request| AdminRequest {
        method: request.method,
        path: request.path,
        query: request.query,
        headers: request.headers,
        body: request.body,
    }))
}

/// Reads the head of a request to the metrics or the status page. Returns its path if it is a GET or a HEAD, and `None` until it is whole.
#[must_use]
pub fn page_request(head: &[u8]) -> Option<Option<&str>> {
    read_path(head)
}
