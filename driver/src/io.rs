//! A stream as the drivers use it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tracing::debug;

use crate::Stream;

/// The number of reads of [`Channel::poll_finish`] per poll.
const DISCARDS_PER_POLL: usize = 16;

/// A stream that is read to its end after a write has failed: what the peer sent before it left still counts.
///
/// `N` is what its owner notes about it. Seven bytes of that take no memory: they would be padding.
pub(crate) struct Channel<S, N = ()> {
    stream: S,
    write_failed: bool,
    #[cfg_attr(
        not(feature = "edge"),
        expect(dead_code, reason = "an edge notes something")
    )]
    pub(crate) notes: N,
}

/// The result of a read.
pub(crate) enum Read {
    /// Nothing has arrived. The waker is registered.
    Blocked,
    /// This many bytes, at least one.
    Bytes(usize),
    /// The peer closed its direction in order.
    Eof,
    /// The stream is broken.
    Failed,
    /// The transport has answered the peer for the last time. The answer arrives only if the stream is closed in order.
    Answered,
}

/// The result of a write.
pub(crate) enum Written {
    /// There was nothing to write, or writing has failed before.
    Nothing,
    /// This many bytes were taken, at least one.
    Bytes(usize),
    /// Nothing was taken. The waker is registered.
    Blocked,
    /// Writing fails from now on. The stream must be read until that ends as well, which it soon does.
    Failed,
}

impl<S: Stream, N: Default> Channel<S, N> {
    pub(crate) fn new(stream: S) -> Self {
        Channel {
            stream,
            write_failed: false,
            notes: N::default(),
        }
    }
}

impl<S: Stream, N> Channel<S, N> {
    /// Returns whether writing has failed.
    pub(crate) fn write_failed(&self) -> bool {
        self.write_failed
    }

    /// Reads once.
    pub(crate) fn read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Read {
        match self.stream.poll_read(cx, buf) {
            Poll::Pending if self.write_failed => Read::Failed,
            Poll::Pending => Read::Blocked,
            Poll::Ready(Ok(0)) => Read::Eof,
            Poll::Ready(Ok(bytes)) => Read::Bytes(bytes),
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
                cx.waker().wake_by_ref();
                Read::Blocked
            }
            Poll::Ready(Err(error)) => {
                debug!(%error, "a stream broke");
                match error.kind() {
                    io::ErrorKind::InvalidData => Read::Answered,
                    _ => Read::Failed,
                }
            }
        }
    }

    /// Returns the stream, to tell it something.
    #[cfg(feature = "edge")]
    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Sends what the transport holds of earlier writes. Returns whether that failed now.
    #[cfg(any(feature = "client", feature = "backend"))]
    pub(crate) fn flush_fails(&mut self, cx: &mut Context<'_>) -> bool {
        let had_failed = self.write_failed;
        self.holds(cx);
        self.write_failed != had_failed
    }

    /// Sends what the transport holds of earlier writes. Returns whether some of that must wait: the waker is then registered.
    pub(crate) fn holds(&mut self, cx: &mut Context<'_>) -> bool {
        if self.write_failed {
            return false;
        }
        match self.stream.poll_flush(cx) {
            Poll::Pending => true,
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(error)) => {
                debug!(%error, "a stream takes no more");
                self.write_failed = true;
                false
            }
        }
    }

    /// Writes both slices in one call.
    pub(crate) fn write(&mut self, cx: &mut Context<'_>, output: [&[u8]; 2]) -> Written {
        let parts = output.map(IoSlice::new);
        let parts = match output {
            [[], []] => return Written::Nothing,
            _ if self.write_failed => return Written::Nothing,
            [_, []] => &parts[..1],
            [[], _] => &parts[1..],
            _ => &parts[..],
        };
        match self.stream.poll_write(cx, parts) {
            Poll::Pending => Written::Blocked,
            Poll::Ready(Ok(bytes)) if bytes > 0 => Written::Bytes(bytes),
            Poll::Ready(outcome) => {
                debug!(?outcome, "a stream takes no more");
                self.write_failed = true;
                Written::Failed
            }
        }
    }

    /// Closes the sending half and discards what still arrives until the peer has closed, too. A socket that is closed with unread bytes
    /// resets the connection, and our last bytes with it. The caller bounds the wait.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<()> {
        if self.write_failed || matches!(self.stream.poll_close(cx), Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        for _ in 0..DISCARDS_PER_POLL {
            match self.read(cx, buffer) {
                Read::Blocked => return Poll::Pending,
                Read::Eof | Read::Failed | Read::Answered => return Poll::Ready(()),
                Read::Bytes(_) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Closes the sending half. What still arrives is to be read.
    #[cfg(feature = "snapshot")]
    pub(crate) fn end_sending(&mut self, cx: &mut Context<'_>) {
        if !self.write_failed && matches!(self.stream.poll_close(cx), Poll::Ready(Err(_))) {
            self.write_failed = true;
        }
    }

    /// Returns the stream, to query it.
    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    /// Returns the stream itself.
    #[cfg(feature = "edge")]
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    /// Ends the stream at once.
    pub(crate) fn abort(self) {
        self.stream.abort();
    }
}
