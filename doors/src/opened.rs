//! A listener that gives connections once they are open.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use voltlane_driver::{Listener, Stream};

use crate::{DoorListener, DoorStream};

/// The maximum number of connections that are being opened at once. Beyond it a random one goes.
pub const MAX_OPENING: usize = 64;
/// How long a connection may take to open unless another time is set.
pub const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// A [`DoorListener`] that gives only connections whose layers are open, for a backend: the next connection takes the place of the link, so
/// one that has not shown its certificate must not be one.
pub struct OpenedListener<L: Listener> {
    inner: DoorListener<L>,
    opening: Vec<Opening<L::Stream>>,
    timeout: Duration,
    random: RandomState,
}

/// A connection whose layers are not open yet.
struct Opening<S: Stream> {
    stream: DoorStream<S>,
    peer: SocketAddr,
    since: Instant,
}

impl<L: Listener + fmt::Debug> fmt::Debug for OpenedListener<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedListener")
            .field("inner", &self.inner)
            .field("opening", &self.opening.len())
            .finish()
    }
}

impl<L: Listener> OpenedListener<L> {
    /// Waits for the connections of `inner` to open.
    pub fn new(inner: DoorListener<L>) -> Self {
        OpenedListener {
            inner,
            opening: Vec::new(),
            timeout: OPENING_TIMEOUT,
            random: RandomState::new(),
        }
    }

    /// Sets how long a connection may take to open. One that takes longer is dropped when the next one comes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns the first connection that is open now.
    fn poll_opening(&mut self, cx: &mut Context<'_>) -> Poll<(DoorStream<L::Stream>, SocketAddr)> {
        let mut at = 0;
        while let Some(opening) = self.opening.get_mut(at) {
            match opening.stream.poll_open(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(opened) => {
                    let Opening {
                        mut stream, peer, ..
                    } = self.opening.swap_remove(at);
                    match opened {
                        Ok(()) => return Poll::Ready((stream, peer)),
                        Err(error) => {
                            tracing::info!(%peer, %error, "a connection is refused");
                            // So that the alert arrives, if the peer has sent no more.
                            let _ = stream.poll_close(cx);
                        }
                    }
                }
            }
        }
        Poll::Pending
    }

    /// Makes room for one more. If the oldest went, whoever connects often enough would keep everybody else from opening.
    fn make_room(&mut self) {
        let now = Instant::now();
        let timeout = self.timeout;
        self.opening
            .retain(|opening| now.duration_since(opening.since) < timeout);
        if self.opening.len() >= MAX_OPENING {
            let random = self.random.hash_one(now) % self.opening.len() as u64;
            self.opening.swap_remove(random as usize);
        }
    }
}

impl<L: Listener> Listener for OpenedListener<L> {
    type Stream = DoorStream<L::Stream>;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Stream, SocketAddr)>> {
        // First those that have waited, so that no newcomer displaces one that is open.
        if let Poll::Ready(opened) = self.poll_opening(cx) {
            return Poll::Ready(Ok(opened));
        }
        for _ in 0..MAX_OPENING {
            match self.inner.poll_accept(cx) {
                Poll::Pending => return self.poll_opening(cx).map(Ok),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok((stream, peer))) => {
                    self.make_room();
                    self.opening.push(Opening {
                        stream,
                        peer,
                        since: Instant::now(),
                    });
                }
            }
        }
        let opened = self.poll_opening(cx);
        if opened.is_pending() {
            // More may wait to be accepted.
            cx.waker().wake_by_ref();
        }
        opened.map(Ok)
    }

    fn place(&self) -> Option<SocketAddr> {
        self.inner.place()
    }

    fn shed(&mut self) {
        self.opening.clear();
        self.inner.shed();
    }
}
