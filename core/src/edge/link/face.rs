//! What an edge alone and a trunk are to their adapter: machines with a link to the backend.

use crate::edge::Closed;
use crate::time::Time;

/// A machine with a link to the backend. Its adapter keeps the stream.
///
/// The adapter looks at [`link_wants_connect`](HasLink::link_wants_connect) and [`link_wants_close`](HasLink::link_wants_close) once a turn,
/// reads the stream within [`link_read_budget`](HasLink::link_read_budget), and writes [`link_output`](HasLink::link_output) when the stream
/// takes bytes, as much as it takes. A call that is not due is harmless.
pub trait HasLink {
    /// Whether the adapter is to open a stream to the backend now.
    fn link_wants_connect(&self, now: Time) -> bool;

    /// The adapter began to open a stream to the backend.
    fn handle_link_connecting(&mut self, now: Time);

    /// The stream to the backend is open.
    fn handle_link_connected(&mut self, now: Time);

    /// The stream to the backend is no more, or could not be opened.
    fn handle_link_closed(&mut self, now: Time, cause: Closed);

    /// Whether the adapter is to drop the stream to the backend (or the attempt at one) now. It then calls
    /// [`handle_link_closed`](HasLink::handle_link_closed) with [`Closed::ByEdge`].
    fn link_wants_close(&self) -> bool;

    /// How many bytes to read from the backend at most now.
    fn link_read_budget(&self) -> usize;

    /// The backend sent `bytes`.
    fn handle_link_bytes(&mut self, now: Time, bytes: &[u8]);

    /// What is to be written to the backend now, in this order; both parts may be empty.
    fn link_output(&self) -> [&[u8]; 2];

    /// The backend's transport took the first `bytes` bytes of [`link_output`](HasLink::link_output).
    fn handle_link_written(&mut self, now: Time, bytes: usize);
}
