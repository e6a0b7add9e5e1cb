//! smol as the runtime of the binary.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;

use voltlane_driver::{Runtime, SocketOptions};
use voltlane_reactor::{Reactor, TcpConnector, TcpListener, Timer};

/// One thread, and a reactor for it.
#[derive(Debug)]
pub struct Smol<R>(PhantomData<R>);

impl<R: Reactor> Runtime for Smol<R> {
    type Listener = TcpListener<R>;
    type Connector = TcpConnector<R>;
    type Timer = Timer<R>;

    async fn bind(
        address: String,
        options: SocketOptions,
    ) -> io::Result<(TcpListener<R>, SocketAddr)> {
        let listener = TcpListener::bind_with(&address, options).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    fn listener(
        listener: std::net::TcpListener,
        options: SocketOptions,
    ) -> io::Result<TcpListener<R>> {
        TcpListener::from_std(listener, options)
    }

    fn connector(address: String, options: SocketOptions) -> TcpConnector<R> {
        TcpConnector::new(address).with_options(options)
    }

    fn block_on<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        R::block_on(future)
    }
}
