//! smol as the runtime of the binary.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use voltlane_app::Runtime;
use voltlane_driver::SocketOptions;

use crate::{TcpConnector, TcpListener, Timer};

/// One thread, and its reactor.
#[derive(Debug)]
pub struct Smol;

impl Runtime for Smol {
    type Listener = TcpListener;
    type Connector = TcpConnector;
    type Timer = Timer;

    async fn bind(
        address: String,
        options: SocketOptions,
    ) -> io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind_with(&address, options).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    fn listener(
        listener: std::net::TcpListener,
        options: SocketOptions,
    ) -> io::Result<TcpListener> {
        TcpListener::from_std(listener, options)
    }

    fn connector(address: String, options: SocketOptions) -> TcpConnector {
        TcpConnector::new(address).with_options(options)
    }

    fn block_on<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        Ok(async_io::block_on(future))
    }
}
