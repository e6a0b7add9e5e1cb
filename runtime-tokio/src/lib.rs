//! Voltlane on tokio: a client and a backend library, and the edge to embed.
//!
//! An edge connects many clients to one backend. Clients connect to it over TCP. The backend sees one stream of packets, each with
//! the id of its client. A client that loses its connection comes back by itself as the same client.
//!
//! # A client
//!
//! [`connect`] gives a [`Client`]. Its address chooses the way: TCP, TLS, WebSocket or a Unix socket. What happens is one stream of events. A
//! lost connection is one of them and not an error: the client comes back by itself, and nothing is lost with it. It makes progress only while
//! it is awaited, in any task: see [`client`](mod@client).
//!
//! ```no_run
//! use voltlane_tokio::client::Event;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = voltlane_tokio::connect("127.0.0.1:42000").await?;
//! client.send("hello").await?;
//! while let Some(event) = client.recv().await {
//!     match event {
//!         Event::Packet { data, .. } => println!("{}", String::from_utf8_lossy(&data)),
//!         Event::Dropped { cause, .. } => println!("{cause}"),
//!         Event::Ended { end, .. } => println!("{end}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # A backend
//!
//! [`listen`] gives a [`Backend`], which waits for its edge at an address, and never sees a client's socket. What happens is one stream of
//! events, each with the id of its client. See [`backend`](mod@backend).
//!
//! ```no_run
//! use voltlane_tokio::backend::Event;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut backend = voltlane_tokio::listen("127.0.0.1:42001").await?;
//! while let Some(event) = backend.recv().await {
//!     match event {
//!         Event::Joined(new) => println!("{} is here", new.id),
//!         Event::Packet { id, data, .. } => drop(backend.send(id, data).await?),
//!         Event::Ended { id, end, .. } => println!("{id} is gone: {end}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # An edge
//!
//! An edge is mostly run as the program `voltlane`. To embed one, give an [`EdgeDriver`] a machine and sockets, and run it with [`serve`].
//!
//! ```
//! use std::time::Duration;
//!
//! use voltlane_core::edge::{Edge, EdgeConfig};
//! use voltlane_core::keys::KeyPair;
//! use voltlane_tokio::{EdgeDriver, TcpConnector, TcpListener, Timer, serve};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (private_key, seed) = ([1; 32], [2; 32]);
//! // `private_key` and `seed` are 32 random bytes each.
//! let edge = Edge::new(EdgeConfig::default(), KeyPair::from_bytes(&private_key)?, seed);
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let driver = EdgeDriver::new(edge, listener, TcpConnector::new("127.0.0.1:42001"), Timer::new());
//! let handle = driver.handle();
//! let served = tokio::spawn(serve(driver));
//!
//! handle.shutdown(Duration::from_secs(5));
//! served.await?;
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]
// Public types can be extended. An enum or a struct that others match or build as a whole says why.
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

/// Compiles the code in the project's README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ProjectReadme;

/// Compiles the code in the package's README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod net;
mod runtime;
mod timer;

pub use voltlane_core::{ClientId, ShardId};
#[cfg(feature = "edge")]
pub use voltlane_driver::EdgeHandle;
#[cfg(feature = "backend")]
pub use voltlane_driver::backend::{Backend, BackendHandle};
#[cfg(feature = "client")]
pub use voltlane_driver::client::{Client, ClientSender};
pub use voltlane_driver::{Connect, Connector, Listener, SocketOptions, Stream};

pub use net::{TcpConnector, TcpListener, TcpStream};
pub use runtime::Tokio;
#[cfg(target_os = "linux")]
pub use runtime::TokioEpoll;
pub use timer::Timer;

/// The client library: events, options and errors. See [`voltlane_driver::client`].
#[cfg(feature = "client")]
pub mod client {
    pub use voltlane_doors::client::*;
    pub use voltlane_driver::client::*;
}

/// Connects to the edge at `address`, and waits until a session has begun: at most 30 s. See [`client()`] for the forms of an address.
///
/// # Errors
/// [`ConnectError`](client::ConnectError): the address cannot be, nobody answers there in time, or the edge does not want the session.
///
/// # Cancel safety
/// A client that has not begun leaves nothing behind but a connection that the edge ends.
#[cfg(feature = "client")]
pub async fn connect(address: &str) -> Result<Client, client::ConnectError> {
    client(address).connect().await
}

/// Begins with the address of an edge: `host:port` or `tcp://host:port`, `tls://host:port`, `ws://host/path`, `wss://host/path`, `unix:/path`
/// or `unix:@name`. `tls` and `ws` are features of this crate.
///
/// ```no_run
/// # async fn example() -> Result<(), voltlane_tokio::client::ConnectError> {
/// use std::time::Duration;
///
/// let client = voltlane_tokio::client("play.example:42000")
///     .or_address("play2.example:42000")
///     .edge_key("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
///     .token("ticket 7")
///     .start_over(true)
///     .give_up_after(Duration::from_secs(10))
///     .connect()
///     .await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "client")]
#[must_use]
pub fn client(address: &str) -> client::Builder {
    client::Builder::on::<Tokio>(address)
}

/// The backend library: events, options and errors. See [`voltlane_driver::backend`].
#[cfg(feature = "backend")]
pub mod backend {
    pub use voltlane_driver::backend::*;
}

/// Listens for the edge at `address`: `host:port` or `tcp://host:port`, `unix:/path` or `unix:@name`.
///
/// # Errors
/// [`ListenError`](backend::ListenError): the address cannot be, or the system does not let it listen there.
///
/// # Cancel safety
/// If the future is dropped, nobody listens.
#[cfg(feature = "backend")]
pub async fn listen(address: &str) -> Result<Backend, backend::ListenError> {
    backend(address).listen().await
}

/// Begins with the address at which the edge comes. See [`listen`] for its forms.
///
/// ```no_run
/// # async fn example() -> Result<(), voltlane_tokio::backend::ListenError> {
/// use std::time::Duration;
///
/// let backend = voltlane_tokio::backend("127.0.0.1:42001")
///     .tick(Duration::from_millis(50))
///     .listen()
///     .await?;
/// # drop(backend);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "backend")]
#[must_use]
pub fn backend(address: &str) -> backend::Builder {
    backend::Builder::on::<Tokio>(address)
}

/// An edge, over TCP.
#[cfg(feature = "edge")]
pub type EdgeDriver = voltlane_driver::EdgeDriver<TcpListener, TcpConnector, Timer>;

/// Serves an edge until it is asked to shut down.
///
/// Give it a task of its own, ideally on a single-threaded runtime. The driver is exempt from tokio's cooperative budget, under which a
/// task that serves a thousand sockets would see 128 of them at a time. It yields by itself.
#[cfg(feature = "edge")]
pub async fn serve(driver: EdgeDriver) {
    tokio::task::unconstrained(driver).await;
}
