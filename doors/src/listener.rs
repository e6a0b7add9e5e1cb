//! The side of an edge.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
#[cfg(feature = "websocket")]
use std::time::Duration;

use voltlane_driver::{Listener, Stream};

use crate::DoorStream;
#[cfg(feature = "tls")]
use crate::handshake::Handshake;
use crate::layers::Layers;
#[cfg(feature = "websocket")]
use crate::layers::Pings;

/// The maximum number of bytes that may come until the handshake of TLS is complete (SPEC 16.1(e)).
pub const MAX_HANDSHAKE_BYTES: usize = 8 * 1024;

/// What connections to a listener are wrapped in. Clones share certificates and rules.
#[derive(Clone, Debug, Default)]
pub struct Door {
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::ServerTls>,
    #[cfg(feature = "tls")]
    tell_handshake: Option<crate::TellHandshake>,
    #[cfg(feature = "websocket")]
    websocket: Option<Arc<crate::websocket::http::Rules>>,
    #[cfg(feature = "websocket")]
    max_message_bytes: u64,
    #[cfg(feature = "websocket")]
    pings: Option<Arc<Pings>>,
    /// Networks from which connections begin with a PROXY header, if any do.
    #[cfg(feature = "proxy")]
    proxies: Option<Arc<[ipnet::IpNet]>>,
}

impl Door {
    /// Takes a PROXY header before the layers, from connections that come from one of these networks. The machine reads it, and decides about
    /// connections from elsewhere. From nowhere: the stream within begins with none either, whatever the machine expects. Without layers it
    /// has no effect.
    #[cfg(feature = "proxy")]
    #[must_use]
    pub fn with_proxies(mut self, networks: Vec<ipnet::IpNet>) -> Self {
        self.proxies = Some(networks.into());
        self
    }

    /// Adds TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: crate::tls::ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Tells of each handshake of TLS that has ended, how it ended and how long it took.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_handshakes(mut self, tell: crate::TellHandshake) -> Self {
        self.tell_handshake = Some(tell);
        self
    }

    /// Adds WebSocket, within TLS if that is there. Messages of more than `max_message_bytes` are refused; 0: any is
    /// taken, since none is held.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn with_websocket(
        mut self,
        rules: crate::websocket::http::Rules,
        max_message_bytes: u64,
    ) -> Self {
        self.websocket = Some(rules.into());
        self.max_message_bytes = max_message_bytes;
        self
    }

    /// Asks clients of WebSocket for a sign of life at the latest `every` so often when they are silent. One that does not answer `within`
    /// this time is dropped. If `every` is zero, none is asked.
    #[cfg(feature = "websocket")]
    #[must_use]
    pub fn with_pings(mut self, every: Duration, within: Duration) -> Self {
        self.pings = (!every.is_zero()).then(|| Pings { every, within }.into());
        self
    }

    /// Wraps a connection that was accepted from `peer`.
    ///
    /// # Errors
    /// When there is no randomness for TLS.
    pub fn enter<S: Stream>(&self, stream: S, peer: IpAddr) -> io::Result<DoorStream<S>> {
        let mut layers: Option<Layers> = None;
        let _ = (peer, &mut layers);
        #[cfg(feature = "proxy")]
        let has_header = self
            .proxies
            .as_ref()
            .is_some_and(|own| crate::is_among(own, peer));
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            let tls = crate::tls::TlsLayer::server(tls, MAX_HANDSHAKE_BYTES);
            let mut tls = tls.map_err(io::Error::other)?;
            tls.handshake = self.tell_handshake.as_ref().map(Handshake::new);
            layers.get_or_insert_default().tls = Some(tls.into());
        }
        #[cfg(feature = "websocket")]
        if let Some(rules) = &self.websocket {
            let layers = layers.get_or_insert_default();
            // A request does not tell more than a header in front of it.
            let introduces = rules.trusts(peer) && !has_header;
            layers.introduces = introduces.then_some(true);
            layers.pings.clone_from(&self.pings);
            layers.begin_websocket(crate::websocket::layer::Side::Server {
                rules: Arc::clone(rules),
                peer,
                introduces,
                max_message_bytes: self.max_message_bytes,
            });
        }
        #[cfg(feature = "proxy")]
        if let Some(layers) = &mut layers {
            if has_header {
                layers.header = Some(Box::default());
                layers.introduces = Some(true);
            } else if self.proxies.is_some() {
                layers.introduces.get_or_insert(false);
            }
        }
        Ok(match layers {
            None => DoorStream::plain(stream),
            Some(layers) => DoorStream::layered(stream, layers),
        })
    }
}

/// A [`Door`] that can be replaced while connections come through it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SharedDoor(Arc<RwLock<Arc<Door>>>);

impl From<Door> for SharedDoor {
    fn from(door: Door) -> Self {
        SharedDoor(Arc::new(RwLock::new(Arc::new(door))))
    }
}

impl SharedDoor {
    /// Replaces the door for connections that are accepted from now on.
    pub fn replace(&self, door: Door) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(door);
    }

    fn current(&self) -> Arc<Door> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A listener of the driver, with a [`Door`].
#[derive(Debug)]
pub struct DoorListener<L> {
    inner: L,
    door: SharedDoor,
}

impl<L: Listener> DoorListener<L> {
    /// Wraps each connection of `inner` as `door` says.
    pub fn new(inner: L, door: impl Into<SharedDoor>) -> Self {
        let door = door.into();
        DoorListener { inner, door }
    }
}

impl<L: Listener> Listener for DoorListener<L> {
    type Stream = DoorStream<L::Stream>;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Stream, SocketAddr)>> {
        let (stream, peer) = ready!(self.inner.poll_accept(cx))?;
        let door = self.door.current();
        Poll::Ready(door.enter(stream, peer.ip()).map(|stream| (stream, peer)))
    }

    fn place(&self) -> Option<SocketAddr> {
        self.inner.place()
    }

    #[cfg(all(feature = "upgrade", unix))]
    fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.inner.socket()
    }

    fn shed(&mut self) {
        self.inner.shed();
    }
}
