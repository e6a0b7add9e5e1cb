//! What stands between a socket and the client link of Voltlane: TLS and WebSocket, as layers without sockets.
//!
//! A layer takes bytes and gives bytes. It owns no socket, reads no clock and starts no task, so tests cut its input at every byte. The
//! machine in `voltlane-core` does not know of layers: it is given the byte stream within (SPEC 16).
#![forbid(unsafe_code)]
#![warn(unnameable_types, missing_debug_implementations)]

#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "websocket")]
pub mod websocket;
