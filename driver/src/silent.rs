//! A stream for tests that move streams around and do not read or write them.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use crate::Stream;

/// A stream on which nothing happens.
pub(crate) struct Silent;

impl Stream for Silent {
    type Parcel = Silent;

    fn pack(self) -> io::Result<Silent> {
        Ok(self)
    }

    fn unpack(parcel: Silent) -> io::Result<Silent> {
        Ok(parcel)
    }

    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_write(&mut self, _: &mut Context<'_>, _: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}
