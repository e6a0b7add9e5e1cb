//! tokio as the runtime of the binary.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::runtime::Builder;
use tokio::task::unconstrained;
use voltlane_app::Runtime;
use voltlane_driver::SocketOptions;

use crate::{TcpConnector, TcpListener, Timer};

/// Polls of tasks between two looks at the sockets, while there is always a task to poll. There are few tasks here, and
/// each poll is a batch: to look after each is cheap, and lets nobody wait for someone else's flood.
const EVENT_INTERVAL: u32 = 1;

/// One thread of tokio.
#[derive(Debug)]
pub struct Tokio;

impl Runtime for Tokio {
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
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .event_interval(EVENT_INTERVAL)
            .build()?;
        // As a task, since each wake of the future of `block_on` itself costs a write to an eventfd.
        let task = runtime.spawn(unconstrained(future));
        match runtime.block_on(task) {
            Ok(done) => Ok(done),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
