//! A listener that gives connections once they are open.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use voltlane_driver::{Listener, Stream};

use crate::{DoorListener, DoorStream};

/// The maximum number of connections that are being opened at once. Beyond it the oldest goes.
pub const MAX_OPENING: usize = 64;

/// A [`DoorListener`] that gives only connections whose layers are open, for a backend: the next connection takes the place of the link, so
/// one that has not shown its certificate must not be one.
pub struct OpenedListener<L: Listener> {
    inner: DoorListener<L>,
    opening: VecDeque<(DoorStream<L::Stream>, SocketAddr)>,
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
            opening: VecDeque::new(),
        }
    }

    /// Returns the first connection that is open now.
    fn poll_opening(&mut self, cx: &mut Context<'_>) -> Poll<(DoorStream<L::Stream>, SocketAddr)> {
        let mut at = 0;
        while let Some((stream, peer)) = self.opening.get_mut(at) {
            match stream.poll_open(cx) {
                Poll::Pending => at += 1,
                Poll::Ready(opened) => {
                    let peer = *peer;
                    let stream = self.opening.remove(at);
                    match (opened, stream) {
                        (Ok(()), Some(stream)) => return Poll::Ready(stream),
                        (Err(error), Some((mut stream, _))) => {
                            tracing::info!(%peer, %error, "a connection is refused");
                            // So that the alert arrives, if the peer has sent no more.
                            let _ = stream.poll_close(cx);
                        }
                        (_, None) => {}
                    }
                }
            }
        }
        Poll::Pending
    }
}

impl<L: Listener> Listener for OpenedListener<L> {
    type Stream = DoorStream<L::Stream>;

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(Self::Stream, SocketAddr)>> {
        for _ in 0..MAX_OPENING {
            match self.inner.poll_accept(cx) {
                Poll::Pending => return self.poll_opening(cx).map(Ok),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(accepted)) => {
                    if self.opening.len() == MAX_OPENING {
                        self.opening.pop_front();
                    }
                    self.opening.push_back(accepted);
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
