//! Our edge-triggered reactor as a guest of smol.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use smol::Async;
use voltlane_reactor::{EpollAlarm, Guest, Reactor, Socket, Watched};

/// Looks at our sockets between two turns of smol. A wait in smol's reactor takes six system calls, a look takes one.
const LOOKS_PER_TURN: usize = 16;

/// An edge-triggered reactor for each thread, which smol waits for as for one descriptor.
///
/// smol has one reactor for the whole process, and arms each socket for every wait. This one registers a socket once. Names are smol's
/// to look up.
#[derive(Clone, Copy, Debug)]
pub struct HostedEpoll;

impl Reactor for HostedEpoll {
    type Source<T: Socket> = Watched<T>;
    type Alarm = EpollAlarm;

    fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
        crate::runtime::block_on(host(future))
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
                // While it worked more may have happened, and a look is cheaper than a wait.
                Some(Poll::Pending) => continue,
                None => {}
            }
            if guest.rest() && descriptor.poll_readable(cx)?.is_pending() {
                return Poll::Pending;
            }
        }
        // There is more to do, and smol has its turn before that.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}
