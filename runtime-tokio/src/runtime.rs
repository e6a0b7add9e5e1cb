//! tokio as the runtime of the program.

use std::future::Future;
#[cfg(target_os = "linux")]
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
#[cfg(target_os = "linux")]
use std::pin::pin;
#[cfg(target_os = "linux")]
use std::task::Poll;

#[cfg(target_os = "linux")]
use tokio::io::{Interest, unix::AsyncFd};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::unconstrained;
#[cfg(target_os = "linux")]
use voltlane_driver::{Crew, Task};
use voltlane_driver::{Runtime, SocketOptions};
#[cfg(target_os = "linux")]
use voltlane_reactor::{Epoll, Guest, Reactor};

use crate::{TcpConnector, TcpListener, Timer};

/// The number of task polls between two checks of the sockets while there is always a task to poll. There are few tasks here and each poll
/// is a batch, so a check after each is cheap, and nobody waits for another one's flood.
const EVENT_INTERVAL: u32 = 1;

/// One thread of tokio, with this crate's sockets.
#[derive(Debug)]
#[non_exhaustive]
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
        block_on(future)
    }
}

/// Runs a future to completion on a thread of tokio.
fn block_on<T: 'static>(future: impl Future<Output = T> + 'static) -> io::Result<T> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(EVENT_INTERVAL)
        .build_local(LocalOptions::default())?;
    // Runs as a task, because each wake of the future passed to `block_on` costs a write to an eventfd.
    let task = runtime.spawn_local(unconstrained(future));
    match runtime.block_on(task) {
        Ok(done) => Ok(done),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// One thread of tokio with an edge-triggered reactor for the sockets, which tokio sees as one descriptor.
///
/// It avoids three costs of tokio's own sockets: a system call to deregister each socket before it is closed, events about room to write
/// for as long as a socket lives, and an entry for each socket with work for each packet.
#[cfg(target_os = "linux")]
#[derive(Debug)]
#[non_exhaustive]
pub struct TokioEpoll;

#[cfg(target_os = "linux")]
impl Runtime for TokioEpoll {
    type Listener = voltlane_reactor::TcpListener<Epoll>;
    type Connector = voltlane_reactor::TcpConnector<Epoll>;
    type Timer = voltlane_reactor::Timer<Epoll>;

    async fn bind(
        address: String,
        options: SocketOptions,
    ) -> io::Result<(Self::Listener, SocketAddr)> {
        let listener = voltlane_reactor::TcpListener::bind_with(&address, options).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    fn listener(
        listener: std::net::TcpListener,
        options: SocketOptions,
    ) -> io::Result<Self::Listener> {
        voltlane_reactor::TcpListener::from_std(listener, options)
    }

    fn connector(address: String, options: SocketOptions) -> Self::Connector {
        voltlane_reactor::TcpConnector::new(address).with_options(options)
    }

    fn block_on<T: Send + 'static>(
        future: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        block_on(host(future))?
    }

    /// Shards wait on their own reactors, without tokio around them: each wake would cost several system calls.
    fn crew(shards: Vec<Task>, trunk: Task) -> io::Result<Crew> {
        Epoll::crew(shards, trunk)
    }
}

/// Runs a future on a reactor that tokio waits for.
#[cfg(target_os = "linux")]
async fn host<F: Future>(future: F) -> io::Result<F::Output> {
    let mut guest = registered(Guest::new()?)?;
    let mut future = pin!(future);
    poll_fn(|cx| {
        while let Poll::Ready(mut guard) = guest.poll_read_ready_mut(cx)? {
            if guard.get_inner_mut().look()? {
                // Handle these events first, and the rest when the sockets are next checked.
                cx.waker().wake_by_ref();
                break;
            }
            guard.clear_ready();
        }
        guest.get_mut().poll(future.as_mut(), cx).map(Ok)
    })
    .await
}

#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "tokio has no safe way to wait for a descriptor of another kind"
)]
fn registered(guest: Guest) -> io::Result<AsyncFd<Guest>> {
    // SAFETY: the descriptor of a guest is open and unchanged for as long as the guest lives. `host` is the only owner of the returned
    // value and does not replace the guest in it.
    let registered = unsafe { AsyncFd::register_with_interest(guest, Interest::READABLE) };
    Ok(registered?)
}
