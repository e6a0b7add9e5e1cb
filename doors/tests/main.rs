//! The layers, over bytes and over sockets.

#[cfg(feature = "websocket")]
mod websocket;
