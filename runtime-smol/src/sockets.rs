//! smol's sockets, timers and resolver.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use smol::Async;

use voltlane_reactor::{Alarm, Direction, Reactor, Readiness, Socket, Source};

/// smol's reactor, of which a process has one. A thread in [`smol::block_on`] drives it, or smol's own thread does.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SmolReactor;

impl Reactor for SmolReactor {
    type Source<T: Socket> = Watched<T>;
    type Alarm = AlarmClock;

    fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
        Ok(crate::runtime::block_on(future))
    }

    async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
        smol::net::resolve((host, port)).await
    }
}

/// A socket in smol's reactor.
#[derive(Debug)]
pub struct Watched<T> {
    io: Async<T>,
    /// For each direction, whether an attempt comes before asking the reactor, which makes a system call for each wait.
    ready: [bool; 2],
}

impl<T> From<Async<T>> for Watched<T> {
    fn from(io: Async<T>) -> Self {
        Watched {
            io,
            ready: [true; 2],
        }
    }
}

impl<T: Socket> Source<T> for Watched<T> {
    fn new(socket: T) -> io::Result<Self> {
        Ok(Watched {
            io: Async::new_nonblocking(socket)?,
            ready: [false; 2],
        })
    }

    fn get_ref(&self) -> &T {
        self.io.get_ref()
    }

    fn into_inner(self) -> io::Result<T> {
        self.io.into_inner()
    }

    fn poll_take(
        &mut self,
        direction: Direction,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Readiness>> {
        let ready = &mut self.ready[direction as usize];
        if !*ready {
            ready!(match direction {
                Direction::Read => self.io.poll_readable(cx),
                Direction::Write => self.io.poll_writable(cx),
            })?;
        }
        *ready = false;
        // The next wait finds an end, since the reactor asks the system each time.
        Poll::Ready(Ok(Readiness::new(false)))
    }

    fn restore(&mut self, direction: Direction, _: Readiness) {
        self.ready[direction as usize] = true;
    }
}

/// An alarm of smol.
#[derive(Debug)]
pub struct AlarmClock(smol::Timer);

impl Alarm for AlarmClock {
    fn never() -> Self {
        AlarmClock(smol::Timer::never())
    }

    fn set_at(&mut self, at: Instant) {
        self.0.set_at(at);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Future::poll(Pin::new(&mut self.0), cx).map(drop)
    }
}
