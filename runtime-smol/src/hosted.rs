//! This project's edge-triggered reactor as a guest of smol.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use smol::Async;
use voltlane_driver::{Crew, Task};
use voltlane_reactor::{Epoll, EpollAlarm, Guest, Reactor, Socket, Watched};

/// The number of checks of the sockets between two turns of smol. A wait in smol's reactor takes six system calls, a check takes one.
const LOOKS_PER_TURN: usize = 16;

/// An edge-triggered reactor for each thread, which smol waits for as one descriptor.
///
/// smol has one reactor for the whole process, and re-arms each socket for every wait. This one registers a socket once. smol resolves
/// names.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HostedEpoll;

impl Reactor for HostedEpoll {
    type Source<T: Socket> = Watched<T>;
    type Alarm = EpollAlarm;

    fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
        crate::runtime::block_on(host(future))
    }

    /// Shards wait on their own reactors. Names are still smol's to look up.
    fn crew(tasks: Vec<Task>, carried: Task) -> io::Result<Crew> {
        Epoll::crew(tasks, carried)
    }

    async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        smol::net::resolve((host, port)).await
    }
}

/// Runs a future on a reactor that smol waits for.
async fn host<F: Future>(future: F) -> io::Result<F::Output> {
    let mut guest = Guest::new()?;
    let descriptor = Async::new_nonblocking(guest.descriptor())?;
    let mut future = pin!(future);
    poll_fn(|cx| {
        for _ in 0..LOOKS_PER_TURN {
            guest.look()?;
            match guest.poll_woken(future.as_mut()) {
                Some(Poll::Ready(output)) => return Poll::Ready(Ok(output)),
                // More may have happened while it worked, and a check is cheaper than a wait.
                Some(Poll::Pending) => continue,
                None => {}
            }
            if guest.rest() && descriptor.poll_readable(cx)?.is_pending() {
                return Poll::Pending;
            }
        }
        // There is more to do, but smol has its turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}
