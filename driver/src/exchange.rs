//! The exchange of batches between a shard and the trunk, which may be on two threads.
//!
//! This file knows nothing of batches: `driver/tests/interleavings.rs` runs it under loom as well.

use std::collections::VecDeque;
use std::mem;
use std::task::{Context, Poll, Waker};

use super::register::register;
use super::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of items in one direction before its writer waits. The reader may hold as many again.
pub(crate) const ITEMS: usize = 4;

/// The number of bytes in one direction from which its writer waits. The last item may bring it above that, by any number. The reader may
/// hold as many bytes again.
pub(crate) const BYTES: usize = 256 * 1024;

/// The number of spare buffers that wait in one direction for its writer.
const SPARES: usize = ITEMS;

/// One end: items of type `O` go out, items of type `I` come in, each in order, and each direction ends separately. Spare buffers of type
/// `S` go back to the writer. The lock is held to append an item or to take all of them, never to copy one.
pub(crate) struct End<O, I, S> {
    outgoing: Arc<Direction<O, S>>,
    pub(crate) incoming: Arc<Direction<I, S>>,
    /// The items that were taken last.
    pub(crate) arrived: VecDeque<I>,
    /// Buffers of taken items, which go back at the next look.
    emptied: Vec<S>,
    /// Whether an item surely fits: only this end adds items.
    has_room: bool,
    /// Buffers for items to come.
    spares: Vec<S>,
}

/// The reader is gone: nothing that is handed over arrives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

pub(crate) struct Direction<T, S>(Mutex<State<T, S>>);

pub(crate) struct State<T, S> {
    pub(crate) items: VecDeque<T>,
    /// The bytes of all items.
    bytes: usize,
    spares: Vec<S>,
    /// The writer has closed: the end follows the items.
    ended: bool,
    /// The reader is gone.
    reader_is_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl<T, S> Default for Direction<T, S> {
    fn default() -> Self {
        Direction(Mutex::new(State {
            items: VecDeque::new(),
            bytes: 0,
            spares: Vec::new(),
            ended: false,
            reader_is_gone: false,
            reader: None,
            writer: None,
        }))
    }
}

impl<T, S> State<T, S> {
    /// Returns whether one more item has room, whatever its length.
    fn has_room(&self) -> bool {
        self.items.len() < ITEMS && self.bytes < BYTES
    }
}

impl<T, S> Direction<T, S> {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State<T, S>> {
        // Every change leaves the state consistent even if something panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, then wakes the waker that `change` returns, outside of the lock.
    fn change(&self, change: impl FnOnce(&mut State<T, S>) -> Option<Waker>) {
        let waker = change(&mut self.lock());
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Creates two ends that are connected.
pub(crate) fn pair<O, I, S>() -> (End<O, I, S>, End<I, O, S>) {
    let (there, back) = (Arc::default(), Arc::default());
    let near = End::new(Arc::clone(&there), Arc::clone(&back));
    (near, End::new(back, there))
}

impl<O, I, S> End<O, I, S> {
    fn new(outgoing: Arc<Direction<O, S>>, incoming: Arc<Direction<I, S>>) -> Self {
        End {
            outgoing,
            incoming,
            arrived: VecDeque::new(),
            emptied: Vec::new(),
            has_room: true,
            spares: Vec::new(),
        }
    }

    /// Ready when [`give`](Self::give) may be called. Otherwise the waker of `cx` is registered.
    ///
    /// # Errors
    /// [`Gone`] when nobody will take anything.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.has_room {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.outgoing.lock();
        if state.reader_is_gone || state.ended {
            return Poll::Ready(Err(Gone));
        }
        self.has_room = state.has_room();
        if !self.has_room {
            register(&mut state.writer, cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Hands an item of `bytes` bytes over. Due once after each time that [`poll_room`](Self::poll_room) was ready. An item that nobody will
    /// take is dropped.
    pub(crate) fn give(&mut self, item: O, bytes: usize) {
        let mut state = self.outgoing.lock();
        if state.reader_is_gone || state.ended {
            self.has_room = false;
            return;
        }
        assert!(state.has_room(), "there is room");
        state.items.push_back(item);
        state.bytes = state.bytes.saturating_add(bytes);
        self.has_room = state.has_room();
        if self.spares.is_empty() {
            mem::swap(&mut self.spares, &mut state.spares);
        }
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Returns a buffer that the other end has emptied.
    pub(crate) fn take_spare(&mut self) -> Option<S> {
        self.spares.pop()
    }

    /// Keeps a buffer for [`take_spare`](Self::take_spare), since nothing was put into it.
    pub(crate) fn keep_spare(&mut self, spare: S) {
        if self.spares.len() < SPARES {
            self.spares.push(spare);
        }
    }

    /// Frees the spare buffers of this end, and those on their way. The other end may have a few for what it gives.
    pub(crate) fn free_spares(&mut self) {
        self.spares = Vec::new();
        self.emptied = Vec::new();
        self.outgoing.lock().spares = Vec::new();
        self.incoming.lock().spares = Vec::new();
    }

    /// Ready with the next item, or with `None` behind the last one. Otherwise the waker of `cx` is registered.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<I>> {
        if let Some(item) = self.arrived.pop_front() {
            return Poll::Ready(Some(item));
        }
        let mut state = self.incoming.lock();
        let spare = SPARES - state.spares.len();
        let count = self.emptied.len().min(spare);
        state.spares.extend(self.emptied.drain(..count));
        self.emptied.clear();
        if state.items.is_empty() {
            if state.ended {
                return Poll::Ready(None);
            }
            register(&mut state.reader, cx.waker());
            return Poll::Pending;
        }
        mem::swap(&mut state.items, &mut self.arrived);
        state.bytes = 0;
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Poll::Ready(self.arrived.pop_front())
    }

    /// Gives the buffer of an item that was taken back to the other end.
    pub(crate) fn give_back(&mut self, emptied: S) {
        if self.emptied.len() < SPARES {
            self.emptied.push(emptied);
        }
    }

    /// Ends the outgoing direction.
    pub(crate) fn close(&mut self) {
        self.has_room = false;
        self.outgoing.change(|state| {
            state.ended = true;
            state.reader.take()
        });
    }
}

impl<O, I, S> Drop for End<O, I, S> {
    /// Items that were handed over can still be taken. Those that this end has not taken are dropped.
    fn drop(&mut self) {
        self.close();
        self.incoming.change(|state| {
            state.reader_is_gone = true;
            state.items = VecDeque::new();
            state.spares = Vec::new();
            state.writer.take()
        });
    }
}
