//! smol as the runtime of a program.

use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::pin::{Pin, pin};

use voltlane_driver::{Crew, Runtime, SocketOptions, Task};
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
        // The future of a whole edge is large: it stays here, or each layer below would have a copy of it.
        let mut future = pin!(future);
        let mut output = None;
        let run = poll_fn(|cx| future.as_mut().poll(cx).map(|done| output = Some(done)));
        // Of one type for all, so that there is one copy of the code that waits.
        let run: Pin<&mut dyn Future<Output = ()>> = pin!(run);
        R::block_on(run)?;
        Ok(output.expect("a future that is through has an output"))
    }

    fn crew(shards: Vec<Task>, trunk: Task) -> io::Result<Crew> {
        R::crew(shards, trunk)
    }
}

/// Runs a future on this thread until it is done. There are no tasks beside it, so it needs no executor with queues: one for each thread
/// would take 8 KiB.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    smol::block_on(future)
}
