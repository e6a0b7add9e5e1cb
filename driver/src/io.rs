//! One write of what a machine has to say.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use crate::Stream;

/// What became of it.
pub(crate) enum Written {
    /// There was nothing to write.
    Nothing,
    /// So many bytes were taken.
    Bytes(usize),
    /// None for now: the waker is registered.
    Blocked,
    /// The stream is broken.
    Failed(io::Error),
}

/// Writes both parts in one call.
pub(crate) fn write_once<S: Stream>(
    stream: &mut S,
    cx: &mut Context<'_>,
    output: [&[u8]; 2],
) -> Written {
    let parts = output.map(IoSlice::new);
    let parts = match output {
        [[], []] => return Written::Nothing,
        [_, []] => &parts[..1],
        [[], _] => &parts[1..],
        _ => &parts[..],
    };
    match stream.poll_write(cx, parts) {
        Poll::Pending => Written::Blocked,
        Poll::Ready(Ok(0)) => Written::Failed(io::ErrorKind::WriteZero.into()),
        Poll::Ready(Ok(bytes)) => Written::Bytes(bytes),
        Poll::Ready(Err(error)) => Written::Failed(error),
    }
}
