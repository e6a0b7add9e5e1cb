//! The side of a client.

use std::future::poll_fn;
use std::io;

#[cfg(feature = "tls")]
use voltlane_driver::Stream;
use voltlane_driver::{Connect, Connector};

use crate::DoorStream;
use crate::layers::Layers;

/// A connector of the driver, with TLS or WebSocket or both. An attempt is complete when they are open.
#[derive(Clone, Debug)]
pub struct DoorConnector<C> {
    inner: C,
    #[cfg(feature = "tls")]
    tls: Option<crate::tls::ClientTls>,
    /// The Host and the path of the request.
    #[cfg(feature = "websocket")]
    websocket: Option<(String, String)>,
}

impl<C: Connector> DoorConnector<C> {
    /// Wraps a connector, without layers yet.
    pub fn new(inner: C) -> Self {
        DoorConnector {
            inner,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "websocket")]
            websocket: None,
        }
    }

    /// Adds TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: crate::tls::ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Adds WebSocket at this path of this host, which may have a port. It is within TLS if that is there.
    ///
    /// # Errors
    /// When either has a character that a request cannot carry, or the path does not begin with a slash.
    #[cfg(feature = "websocket")]
    pub fn with_websocket(mut self, host: &str, path: &str) -> io::Result<Self> {
        let is_fine = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || !is_fine(host) || !is_fine(path) || !path.starts_with('/') {
            let wrong = "a WebSocket needs a host and a path that begins with \"/\"";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, wrong));
        }
        self.websocket = Some((host.to_owned(), path.to_owned()));
        Ok(self)
    }

    /// Returns the layers of a new connection, with what is to be sent first.
    fn layers(&self) -> io::Result<Option<Layers>> {
        let mut layers: Option<Layers> = None;
        let _ = &mut layers;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            layers.get_or_insert_default().begin_tls(tls)?;
        }
        #[cfg(feature = "websocket")]
        if let Some((host, path)) = &self.websocket {
            use crate::websocket::layer::{Side, random};
            let layers = layers.get_or_insert_default();
            let mut key = [0; 16];
            random(&mut key);
            let mut request = Vec::new();
            let key = crate::websocket::http::request(host, path, key, &mut request);
            layers.begin_websocket(Side::Client { key });
            layers.request(request);
        }
        Ok(layers)
    }
}

impl<C: Connector> Connector for DoorConnector<C> {
    type Stream = DoorStream<C::Stream>;

    fn connect(&mut self) -> Connect<Self::Stream> {
        let attempt = self.inner.connect();
        let layers = self.layers();
        Box::pin(async move {
            let layers = layers?;
            let stream = attempt.await?;
            let Some(layers) = layers else {
                return Ok(DoorStream::plain(stream));
            };
            let mut door = DoorStream::layered(stream, layers);
            poll_fn(|cx| door.poll_open(cx)).await?;
            Ok(door)
        })
    }
}

#[cfg(feature = "tls")]
impl<S: Stream> DoorStream<S> {
    /// Opens TLS over a stream that is connected, as its client.
    ///
    /// # Errors
    /// When the peer refuses, or is none that this client trusts.
    pub async fn open_tls(stream: S, tls: &crate::tls::ClientTls) -> io::Result<Self> {
        let mut layers = Layers::default();
        layers.begin_tls(tls)?;
        let mut door = DoorStream::layered(stream, layers);
        poll_fn(|cx| door.poll_open(cx)).await?;
        Ok(door)
    }
}

#[cfg(feature = "tls")]
impl Layers {
    /// Adds TLS, with what is to be sent first.
    fn begin_tls(&mut self, tls: &crate::tls::ClientTls) -> io::Result<()> {
        let mut tls = crate::tls::TlsLayer::client(tls).map_err(io::Error::other)?;
        tls.read(&mut [], |_| {}, &mut self.out)
            .map_err(io::Error::other)?;
        self.tls = Some(tls.into());
        Ok(())
    }
}
