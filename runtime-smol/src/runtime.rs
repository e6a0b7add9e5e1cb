//! smol as the runtime of a program.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::pin;

use smol::LocalExecutor;
use voltlane_driver::{Runtime, SocketOptions};
use voltlane_reactor::{Reactor, TcpConnector, TcpListener, Timer};

/// One thread of smol, with the sockets of a reactor.
#[derive(Debug)]
pub struct OneThread<R>(PhantomData<R>);

impl<R: Reactor> Runtime for OneThread<R> {
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
        // The future of a whole edge is large: each layer below would have a copy of it.
        R::block_on(pin!(future))
    }
}

/// Runs a future on this thread, with an executor of smol, until it is done.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    smol::block_on(LocalExecutor::new().run(future))
}
