//! The interface of an edge alone and of a trunk to their adapter: machines with a link to the backend.

use crate::Closed;
use crate::time::Time;

/// A machine with a link to the backend. Its adapter owns the stream.
///
/// The adapter checks [`link_wants_connect`](HasLink::link_wants_connect) and [`link_wants_close`](HasLink::link_wants_close) once per
/// turn, reads the stream within [`link_read_budget`](HasLink::link_read_budget), and writes as much of
/// [`link_output`](HasLink::link_output) as the stream takes. A call that is not due is harmless.
pub trait HasLink {
    /// Returns whether the adapter must open a stream to the backend now.
    fn link_wants_connect(&self, now: Time) -> bool;

    /// Handles that the adapter began to open a stream to the backend.
    fn handle_link_connecting(&mut self, now: Time);

    /// Handles that the stream to the backend is open.
    fn handle_link_connected(&mut self, now: Time);

    /// Handles that the stream to the backend is gone, or could not be opened.
    fn handle_link_closed(&mut self, now: Time, cause: Closed);

    /// Returns whether the adapter must drop the stream to the backend, or the attempt to open one, now. It then calls
    /// [`handle_link_closed`](HasLink::handle_link_closed) with [`Closed::Asked`].
    fn link_wants_close(&self) -> bool;

    /// Returns the maximum number of bytes to read from the backend now.
    fn link_read_budget(&self) -> usize;

    /// Handles `bytes` from the backend.
    fn handle_link_bytes(&mut self, now: Time, bytes: &[u8]);

    /// Returns the bytes to write to the backend now, in this order. Both slices may be empty.
    fn link_output(&self) -> [&[u8]; 2];

    /// Handles that the backend's transport took the first `bytes` bytes of [`link_output`](HasLink::link_output).
    fn handle_link_written(&mut self, now: Time, bytes: usize);
}
