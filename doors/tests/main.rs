//! The layers, over bytes and over sockets.

#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "websocket")]
mod websocket;
