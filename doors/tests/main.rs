//! The layers, over bytes and over sockets.

#[cfg(all(feature = "tls", feature = "websocket"))]
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "websocket")]
mod websocket;
