//! A byte stream within the process, between a shard and the trunk, which may be on two threads.

use std::io::{self, IoSlice};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::Stream;

/// The capacity of one direction before its writer waits. The reader may hold as many bytes again.
const CAPACITY: usize = 256 * 1024;

/// The memory that an empty direction keeps once batches have been small for long.
const KEPT_CAPACITY: usize = 64 * 1024;
/// The number of batches in a row that fit in [`KEPT_CAPACITY`] after which the rest of the memory is given back. Given back whenever a
/// direction is empty, it would come from the system again page by page with each large batch.
const SMALL_BATCHES: u32 = 1_000;

/// One end of a stream between two threads, like TCP without the system: bytes in order, backpressure at 256 KiB, an end for each
/// direction. The lock is held to append a batch or to swap one out, never for a single packet.
pub struct Pipe {
    incoming: Arc<Direction>,
    outgoing: Arc<Direction>,
    /// The batch that was swapped out last, and how much of it was read.
    batch: Vec<u8>,
    read: usize,
    /// Small batches in a row.
    small_batches: u32,
}

#[derive(Default)]
struct Direction(Mutex<State>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// The writer has closed: the end follows the bytes.
    ended: bool,
    /// The reader is gone.
    reader_is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn lock(&self) -> MutexGuard<'_, State> {
        // An append or a swap leaves the state consistent even if something panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes the waker that `change` returns, outside of the lock.
    fn change(&self, change: impl FnOnce(&mut State) -> Option<Waker>) {
        let waker = change(&mut self.lock());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Pipe {
    /// Creates the two ends of a new stream.
    #[must_use]
    pub fn pair() -> (Pipe, Pipe) {
        let (there, back) = (Arc::<Direction>::default(), Arc::<Direction>::default());
        let end = |incoming: &Arc<Direction>, outgoing: &Arc<Direction>| Pipe {
            incoming: Arc::clone(incoming),
            outgoing: Arc::clone(outgoing),
            batch: Vec::new(),
            read: 0,
            small_batches: 0,
        };
        (end(&back, &there), end(&there, &back))
    }
}

/// Stores the waker, unless the stored one wakes the same task.
fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

impl Stream for Pipe {
    type Parcel = Pipe;

    fn pack(self) -> io::Result<Pipe> {
        Ok(self)
    }

    fn unpack(parcel: Pipe) -> io::Result<Pipe> {
        Ok(parcel)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.read == self.batch.len() {
            self.batch.clear();
            self.read = 0;
            let mut state = self.incoming.lock();
            if state.bytes.is_empty() {
                if state.ended {
                    return Poll::Ready(Ok(0));
                }
                register(&mut state.reader, cx);
                return Poll::Pending;
            }
            self.small_batches = match state.bytes.len() {
                0..=KEPT_CAPACITY => self.small_batches.saturating_add(1),
                _ => 0,
            };
            if self.small_batches >= SMALL_BATCHES {
                self.batch.shrink_to(KEPT_CAPACITY);
            }
            mem::swap(&mut state.bytes, &mut self.batch);
            let writer = state.writer.take();
            drop(state);
            if let Some(writer) = writer {
                writer.wake();
            }
        }
        let rest = &self.batch[self.read..];
        let taken = rest.len().min(buf.len());
        buf[..taken].copy_from_slice(&rest[..taken]);
        self.read += taken;
        Poll::Ready(Ok(taken))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.outgoing.lock();
        if state.reader_is_gone || state.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = CAPACITY.saturating_sub(state.bytes.len());
        if room == 0 {
            register(&mut state.writer, cx);
            return Poll::Pending;
        }
        let mut taken = 0;
        for buf in bufs {
            let part = &buf[..buf.len().min(room - taken)];
            state.bytes.extend_from_slice(part);
            taken += part.len();
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.change(|state| {
            state.ended = true;
            state.reader.take()
        });
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    /// Bytes that were written can still be read; unread ones are discarded.
    fn drop(&mut self) {
        self.outgoing.change(|state| {
            state.ended = true;
            state.reader.take()
        });
        self.incoming.change(|state| {
            state.reader_is_gone = true;
            state.bytes = Vec::new();
            state.writer.take()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;
    use std::thread;

    use super::*;
    use crate::wakes::Wakes;

    fn write(pipe: &mut Pipe, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        pipe.poll_write(&mut Context::from_waker(waker), &[IoSlice::new(bytes)])
    }

    fn read(pipe: &mut Pipe, waker: &Waker, most: usize) -> Poll<Vec<u8>> {
        let mut buf = vec![0; most];
        pipe.poll_read(&mut Context::from_waker(waker), &mut buf)
            .map(|read| buf[..read.expect("a pipe cannot fail to be read")].to_vec())
    }

    #[test]
    fn bytes_come_out_in_order_and_the_end_after_them() {
        let (mut a, mut b) = Pipe::pair();
        let waker = Waker::noop();
        assert!(matches!(
            write(&mut a, waker, b"hello "),
            Poll::Ready(Ok(6))
        ));
        assert_eq!(read(&mut b, waker, 2), Poll::Ready(b"he".to_vec()));
        assert!(matches!(write(&mut a, waker, b"world"), Poll::Ready(Ok(5))));
        drop(a);
        assert_eq!(read(&mut b, waker, 100), Poll::Ready(b"llo ".to_vec()));
        assert_eq!(read(&mut b, waker, 100), Poll::Ready(b"world".to_vec()));
        assert_eq!(read(&mut b, waker, 100), Poll::Ready(Vec::new()), "the end");
        let broken = write(&mut b, waker, b"x");
        assert!(
            matches!(broken, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe)
        );
    }

    #[test]
    fn a_full_direction_takes_no_byte_more_and_wakes_its_writer_when_it_is_read() {
        let (mut a, mut b) = Pipe::pair();
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        let full = write(&mut a, &waker, &vec![7; CAPACITY + 1]);
        assert!(matches!(full, Poll::Ready(Ok(CAPACITY))));
        assert!(write(&mut a, &waker, b"x").is_pending());
        assert_eq!(wakes.count(), 0);
        assert_eq!(read(&mut b, Waker::noop(), 1), Poll::Ready(vec![7]));
        assert_eq!(wakes.count(), 1);
        assert!(matches!(write(&mut a, &waker, b"x"), Poll::Ready(Ok(1))));
    }

    #[test]
    fn a_reader_that_waits_is_woken_once_for_each_wait() {
        let (mut a, mut b) = Pipe::pair();
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        assert!(read(&mut b, &waker, 8).is_pending());
        for _ in 0..3 {
            assert!(matches!(
                write(&mut a, Waker::noop(), b"x"),
                Poll::Ready(Ok(1))
            ));
        }
        assert_eq!(wakes.count(), 1);
        assert_eq!(read(&mut b, &waker, 8), Poll::Ready(b"xxx".to_vec()));
        assert!(read(&mut b, &waker, 8).is_pending());
        assert!(
            a.poll_close(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        );
        assert_eq!(wakes.count(), 2);
        assert_eq!(read(&mut b, &waker, 8), Poll::Ready(Vec::new()));
    }

    #[test]
    fn memory_is_kept_while_batches_are_large_and_given_back_when_they_have_been_small_for_long() {
        let (mut a, mut b) = Pipe::pair();
        let waker = Waker::noop();
        let mut pass = |bytes: usize| {
            assert!(
                matches!(write(&mut a, waker, &vec![7; bytes]), Poll::Ready(Ok(all)) if all == bytes)
            );
            assert_eq!(read(&mut b, waker, bytes), Poll::Ready(vec![7; bytes]));
            assert!(read(&mut b, waker, 1).is_pending());
            b.batch.capacity().max(b.incoming.lock().bytes.capacity())
        };
        pass(CAPACITY);
        for _ in 1..SMALL_BATCHES {
            assert!(pass(KEPT_CAPACITY) >= CAPACITY);
        }
        // Each of the two buffers is given back when it has been emptied.
        pass(KEPT_CAPACITY);
        assert!(pass(KEPT_CAPACITY) <= KEPT_CAPACITY);
        assert!(pass(CAPACITY) >= CAPACITY, "counted from zero");
        assert!(pass(1) >= CAPACITY);
    }

    #[test]
    fn two_threads_pass_all_through() {
        struct Unpark(thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        const BYTES: usize = 8 << 20;
        let (mut a, mut b) = Pipe::pair();
        let writer = thread::spawn(move || {
            let waker = Waker::from(Arc::new(Unpark(thread::current())));
            let mut sent = 0;
            while sent < BYTES {
                let batch: Vec<u8> = (sent..BYTES.min(sent + 10_007)).map(|n| n as u8).collect();
                match write(&mut a, &waker, &batch) {
                    Poll::Ready(taken) => sent += taken.expect("the reader is there"),
                    Poll::Pending => thread::park(),
                }
            }
        });
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut got = 0;
        loop {
            match read(&mut b, &waker, 4_099) {
                Poll::Pending => thread::park(),
                Poll::Ready(bytes) if bytes.is_empty() => break,
                Poll::Ready(bytes) => {
                    assert!(bytes.iter().zip(got..).all(|(byte, n)| *byte == n as u8));
                    got += bytes.len();
                }
            }
        }
        assert_eq!(got, BYTES);
        writer.join().expect("no panic");
    }
}
