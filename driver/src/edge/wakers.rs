//! The wakers of clients' streams, many of them in one allocation.
//!
//! A waker of `std` owns an allocation of its own, 55 bytes for each client as they are in practice. Here 64 clients share one, and a waker
//! is a pointer into it. Its distance from the beginning tells which client it is of.
#![expect(
    unsafe_code,
    reason = "a waker that is no `Arc` of its own is made of raw parts"
)]

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{RawWaker, RawWakerVTable, Waker};

use crate::waker::{ReadyList, Token};

/// The clients that share an allocation, one for each bit of a word.
const IN_CHUNK: usize = 64;

/// The wakers of neighbouring tokens. It is aligned to their number, so the lower bits of a pointer into it tell which one is meant.
#[repr(align(64))]
struct Chunk {
    /// Those whose token is on the list, or on the driver's own work queue.
    queued: AtomicU64,
    first: Token,
    ready: Arc<ReadyList>,
}

const _: () = assert!(align_of::<Chunk>() == IN_CHUNK && size_of::<Chunk>() >= IN_CHUNK);

impl Chunk {
    /// Marks a token as queued. Returns false if it is queued or woken already.
    fn queue(&self, position: usize) -> bool {
        let bit = 1 << position;
        self.queued.fetch_or(bit, Ordering::AcqRel) & bit == 0
    }

    fn wake(&self, position: usize) {
        if self.queue(position) {
            self.ready.push(self.first + position as Token);
        }
    }
}

/// The wakers of the tokens from 0 up. Wakers of a token are the same, whichever client has it: a wake that comes too late is for the next
/// one, which is then served for nothing.
pub(super) struct Wakers {
    ready: Arc<ReadyList>,
    chunks: Vec<Arc<Chunk>>,
}

impl Wakers {
    pub(super) fn new(ready: &Arc<ReadyList>) -> Self {
        Wakers {
            ready: Arc::clone(ready),
            chunks: Vec::new(),
        }
    }

    /// Makes as many as this.
    pub(super) fn resize(&mut self, tokens: usize) {
        let chunks = tokens.div_ceil(IN_CHUNK);
        self.chunks.truncate(chunks);
        while self.chunks.len() < chunks {
            let first = self.chunks.len() * IN_CHUNK;
            self.chunks.push(Arc::new(Chunk {
                queued: AtomicU64::new(0),
                first: Token::try_from(first).expect("a token fits, so the first of its chunk"),
                ready: Arc::clone(&self.ready),
            }));
        }
    }

    /// Returns the waker of a token. It is made for each turn.
    pub(super) fn waker(&self, token: Token) -> Option<Waker> {
        let (chunk, position) = self.at(token)?;
        let chunk = Arc::into_raw(Arc::clone(chunk));
        let data = chunk.cast::<u8>().wrapping_add(position).cast::<()>();
        // SAFETY: the functions of the table keep the contract of `RawWaker`. `data` is what they expect: it points into a chunk, whose
        // reference it owns.
        Some(unsafe { Waker::new(data, &TABLE) })
    }

    /// Marks a token as queued by the driver. Returns false if it is queued or woken already.
    pub(super) fn queue(&self, token: Token) -> bool {
        self.at(token)
            .is_some_and(|(chunk, position)| chunk.queue(position))
    }

    /// Marks a token as served: a wake from now on counts again.
    ///
    /// A wake just before that is not listed again, so the caller must see what that wake was for. Hence no store: it reads what the waker
    /// wrote, and with it all that came before.
    pub(super) fn serve(&self, token: Token) {
        if let Some((chunk, position)) = self.at(token) {
            chunk.queued.fetch_and(!(1 << position), Ordering::AcqRel);
        }
    }

    fn at(&self, token: Token) -> Option<(&Arc<Chunk>, usize)> {
        let chunk = self.chunks.get(token as usize / IN_CHUNK)?;
        Some((chunk, token as usize % IN_CHUNK))
    }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, forget);

/// Returns the chunk that a waker points into, and the position of its client there.
fn parts(data: *const ()) -> (*const Chunk, usize) {
    let position = data.addr() % IN_CHUNK;
    (data.cast::<u8>().wrapping_sub(position).cast(), position)
}

/// # Safety
/// `data` is that of a living waker, like for the functions below.
unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: the waker owns a reference to its chunk, which came from `Arc::into_raw`. The new one gets another.
    unsafe { Arc::increment_strong_count(parts(data).0) };
    RawWaker::new(data, &TABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: the waker lives until its reference is given up, which comes last.
    unsafe {
        wake_by_ref(data);
        forget(data);
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    let (chunk, position) = parts(data);
    // SAFETY: the waker owns a reference to its chunk, and lives as long as this call.
    unsafe { &*chunk }.wake(position);
}

unsafe fn forget(data: *const ()) {
    // SAFETY: the waker owns a reference to its chunk, which came from `Arc::into_raw`, and ends with this call.
    mem::drop(unsafe { Arc::from_raw(parts(data).0) });
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn woken(ready: &ReadyList) -> Vec<Token> {
        let mut tokens = Vec::new();
        ready.take(&mut tokens);
        tokens.sort_unstable();
        tokens
    }

    #[test]
    fn each_wakes_its_own_token_once_until_it_is_served() {
        let ready = Arc::new(ReadyList::default());
        let mut wakers = Wakers::new(&ready);
        wakers.resize(130);
        assert!(wakers.waker(192).is_none());
        let [first, last, other] = [0, 63, 129].map(|token| wakers.waker(token).unwrap());
        for waker in [&first, &last, &other, &first] {
            waker.wake_by_ref();
        }
        assert_eq!(woken(&ready), [0, 63, 129]);
        wakers.waker(63).unwrap().wake();
        assert!(!wakers.queue(63), "it was not served");
        wakers.serve(63);
        last.wake();
        assert_eq!(woken(&ready), [63]);
        wakers.serve(0);
        assert!(wakers.queue(0), "its neighbours do not count");
        first.wake_by_ref();
        assert!(woken(&ready).is_empty());
        assert!(first.will_wake(&wakers.waker(0).unwrap()));
        assert!(!first.will_wake(&other));
    }

    #[test]
    fn a_chunk_lives_as_long_as_a_waker_of_it() {
        let ready = Arc::new(ReadyList::default());
        let mut wakers = Wakers::new(&ready);
        wakers.resize(1);
        let waker = wakers.waker(7).unwrap();
        let clones = [waker.clone(), waker.clone()];
        assert_eq!(Arc::strong_count(&wakers.chunks[0]), 4);
        wakers.resize(0);
        // Of the test, of `Wakers`, and of the chunk.
        assert_eq!(Arc::strong_count(&ready), 3);
        thread::spawn(move || clones.into_iter().for_each(Waker::wake))
            .join()
            .unwrap();
        assert_eq!(woken(&ready), [7]);
        drop(waker);
        assert_eq!(Arc::strong_count(&ready), 2);
        // It is made again, and nothing of it is queued.
        wakers.resize(8);
        assert!(wakers.queue(7));
    }
}
