//! tokio as the runtime of the binary.

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
use voltlane_driver::{Runtime, SocketOptions};
#[cfg(target_os = "linux")]
use voltlane_reactor::{Epoll, Guest};

use crate::{TcpConnector, TcpListener, Timer};

/// Polls of tasks between two looks at the sockets, while there is always a task to poll. There are few tasks here, and
/// each poll is a batch: to look after each is cheap, and lets nobody wait for someone else's flood.
const EVENT_INTERVAL: u32 = 1;

/// One thread of tokio, and the sockets of this library.
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
        block_on(future)
    }
}

/// Runs a future on a thread of tokio.
fn block_on<T: 'static>(future: impl Future<Output = T> + 'static) -> io::Result<T> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(EVENT_INTERVAL)
        .build_local(LocalOptions::default())?;
    // As a task, since each wake of the future of `block_on` itself costs a write to an eventfd.
    let task = runtime.spawn_local(unconstrained(future));
    match runtime.block_on(task) {
        Ok(done) => Ok(done),
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// One thread of tokio with an edge-triggered reactor for the sockets, of which tokio knows as of one descriptor.
///
/// tokio takes a socket out of its register before it is closed, a system call that the close makes needless; it has the system tell of room to
/// write for as long as a socket lives; and it makes an entry of its own for each socket, and books for each packet.
#[cfg(target_os = "linux")]
#[derive(Debug)]
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
}

/// Runs a future on a reactor that tokio waits for.
#[cfg(target_os = "linux")]
async fn host<F: Future>(future: F) -> io::Result<F::Output> {
    let mut guest = registered(Guest::new()?)?;
    let mut future = pin!(future);
    poll_fn(|cx| {
        while let Poll::Ready(mut guard) = guest.poll_read_ready_mut(cx)? {
            if guard.get_inner_mut().look()? {
                // What there is comes first; the rest, when the sockets are looked at again.
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
    // SAFETY: the descriptor of a guest is open, and the same one, for as long as the guest lives; and `host`, who alone has what is
    // returned, puts no other guest into its place.
    let registered = unsafe { AsyncFd::register_with_interest(guest, Interest::READABLE) };
    Ok(registered?)
}
