//! Layers between a socket and the client link of Voltlane: TLS and WebSocket, without sockets of their own.
//!
//! [`DoorListener`] and [`DoorConnector`] wrap those of the driver, for any runtime, and give [`DoorStream`]s.
//!
//! A layer takes bytes and gives bytes. It owns no socket, reads no clock and starts no task, so tests cut its input at every byte. The
//! machine in `voltlane-core` does not know of layers: it is given the byte stream within (SPEC 16).
#![forbid(unsafe_code)]
// Public types can be extended. An enum or a struct that others match or build as a whole says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

#[cfg(feature = "client")]
pub mod client;
#[cfg(any(feature = "tls", feature = "websocket"))]
mod connector;
#[cfg(any(feature = "tls", feature = "websocket"))]
mod fault;
#[cfg(feature = "tls")]
mod handshake;
#[cfg(any(feature = "tls", feature = "websocket"))]
mod layers;
#[cfg(any(feature = "tls", feature = "websocket"))]
mod listener;
#[cfg(any(feature = "tls", feature = "websocket"))]
mod opened;
#[cfg(all(feature = "upgrade", feature = "websocket", unix))]
mod saved;
#[cfg(any(feature = "tls", feature = "websocket"))]
mod stream;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "websocket")]
pub mod websocket;

#[cfg(any(feature = "tls", feature = "websocket"))]
pub use self::connector::DoorConnector;
#[cfg(any(feature = "tls", feature = "websocket"))]
pub use self::fault::DoorFault;
#[cfg(feature = "tls")]
pub use self::handshake::{HandshakeEnd, TellHandshake};
#[cfg(any(feature = "tls", feature = "websocket"))]
pub use self::layers::MAX_WRITE_BYTES;
#[cfg(any(feature = "tls", feature = "websocket"))]
pub use self::listener::{Door, DoorListener, MAX_HANDSHAKE_BYTES, SharedDoor};
#[cfg(any(feature = "tls", feature = "websocket"))]
pub use self::opened::{MAX_OPENING, OPENING_TIMEOUT, OpenedListener};
#[cfg(any(feature = "tls", feature = "websocket"))]
pub use self::stream::{DoorParcel, DoorStream};

/// Returns whether an address is in one of these networks. An IPv4-mapped IPv6 address counts as the IPv4 address.
#[cfg(all(feature = "proxy", any(feature = "tls", feature = "websocket")))]
fn is_among(networks: &[ipnet::IpNet], ip: std::net::IpAddr) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.contains(&ip))
}

#[cfg(all(doctest, feature = "tls"))]
#[doc = include_str!("../README.md")]
struct Readme;
