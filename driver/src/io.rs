//! A stream as the drivers use it.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tracing::debug;

use crate::Stream;

/// Reads of [`Channel::poll_finish`] in one poll.
const DISCARDS_PER_POLL: usize = 16;

/// A stream that is read to its end when it takes no more writes: what the peer sent before it went away counts.
pub(crate) struct Channel<S> {
    stream: S,
    write_failed: bool,
}

/// What became of a read.
pub(crate) enum Read {
    /// Nothing is there: the waker is registered.
    Blocked,
    /// So many bytes, at least one.
    Bytes(usize),
    /// The peer ended its direction in order.
    Eof,
    /// The stream is broken.
    Failed,
}

/// What became of a write.
pub(crate) enum Written {
    /// There was nothing to write, or writing has failed before.
    Nothing,
    /// So many bytes were taken, at least one.
    Bytes(usize),
    /// None for now: the waker is registered.
    Blocked,
    /// Writing fails from now on. The stream is to be read until that ends as well, which will be at once.
    Failed,
}

impl<S: Stream> Channel<S> {
    pub(crate) fn new(stream: S) -> Self {
        Channel {
            stream,
            write_failed: false,
        }
    }

    /// Whether writing has failed.
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
                Read::Failed
            }
        }
    }

    /// Writes both parts in one call.
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

    /// Ends the sending half and throws away what still comes, until the peer has ended too: a socket closed with
    /// bytes unread resets the connection, under the last of our own bytes. The caller bounds the wait.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<()> {
        if self.write_failed || matches!(self.stream.poll_close(cx), Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        for _ in 0..DISCARDS_PER_POLL {
            match self.read(cx, buffer) {
                Read::Blocked => return Poll::Pending,
                Read::Eof | Read::Failed => return Poll::Ready(()),
                Read::Bytes(_) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends the sending half. False if the stream is broken.
    #[cfg(feature = "edge")]
    pub(crate) fn close(&mut self, cx: &mut Context<'_>) -> bool {
        !matches!(self.stream.poll_close(cx), Poll::Ready(Err(_)))
    }

    /// The stream, to be asked about.
    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    /// The stream itself.
    #[cfg(feature = "edge")]
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    /// Ends the stream at once.
    pub(crate) fn abort(self) {
        self.stream.abort();
    }
}
