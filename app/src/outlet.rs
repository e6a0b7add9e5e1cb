//! Writes text to a stream that may block: a pager, a terminal after Ctrl-S, a log driver that hangs.
//!
//! Callers put their text in a bounded queue and continue. One thread writes it, and only that thread waits for the stream. Lines without
//! room in the queue and lines that the stream refuses are counted. The count is written as soon as the stream accepts text again.

use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
#[cfg(any(test, feature = "tools"))]
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

#[cfg(any(test, feature = "tools"))]
use voltlane_driver::register;

/// The number of bytes that may wait for the stream: about two thousand lines.
pub(crate) const QUEUE_BYTES: usize = 256 * 1024;
/// The number of bytes up to which a queue has room for tasks that wait for it.
#[cfg(any(test, feature = "tools"))]
const ROOM_BYTES: usize = QUEUE_BYTES / 4;
/// Memory that an empty queue keeps.
const KEPT_BYTES: usize = 8 * 1024;
/// The number of bytes in one write: an eighth of a pipe's buffer on Linux.
const PIECE_BYTES: usize = 8 * 1024;
/// How long to wait for a stream that somebody has made non-blocking.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The sender of text for the stream. Cheap to clone. The thread ends with the process.
#[derive(Clone)]
pub(crate) struct Outlet(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: Vec<u8>,
    /// Lines without room since the queue was last taken.
    no_room: u64,
    /// Lines that were lost since the start.
    lost: u64,
    /// Bytes that the stream has accepted since the start.
    written: u64,
    /// Whether the text that was last taken is still being written.
    is_writing: bool,
    /// The first error of the stream.
    failure: Option<io::Error>,
    /// The waker of the task that waits for room.
    waker: Option<Waker>,
}

impl Outlet {
    /// Starts a thread called `name` that writes to `stream`. `tell_lost` formats the line about lost lines.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(
        name: &str,
        stream: impl Write + Send + 'static,
        tell_lost: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Outlet> {
        let outlet = Outlet(Arc::default());
        let shared = Arc::clone(&outlet.0);
        thread::Builder::new()
            .name(name.into())
            .spawn(move || shared.serve(stream, tell_lost))?;
        Ok(outlet)
    }

    /// Queues whole lines for the stream, or counts them as lost. Never waits for the stream.
    pub(crate) fn push(&self, text: &[u8]) {
        let mut state = self.0.lock();
        if state.queue.len() + text.len() > QUEUE_BYTES {
            let lines = lines(text);
            state.no_room += lines;
            state.lost += lines;
            return;
        }
        self.append(state, text);
    }

    fn append(&self, mut state: MutexGuard<'_, State>, text: &[u8]) {
        let was_empty = state.queue.is_empty();
        state.queue.extend_from_slice(text);
        drop(state);
        if was_empty {
            self.0.changed.notify_all();
        }
    }

    /// Waits until everything queued so far is written. Returns false if that takes longer than `within`.
    pub(crate) fn flush(&self, within: Duration) -> bool {
        let is_busy = |state: &mut State| state.is_writing || !state.queue.is_empty();
        let (_state, waited) = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), within, is_busy)
            .unwrap_or_else(PoisonError::into_inner);
        !waited.timed_out()
    }

    /// Returns the number of lines lost since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.0.lock().lost
    }
}

/// What a tool prints must arrive whole.
#[cfg(any(test, feature = "tools"))]
impl Outlet {
    /// Queues text that must not be lost. Callers wait for [room](Outlet::poll_room) first, so the queue exceeds that by one text at most.
    pub(crate) fn push_whole(&self, text: &[u8]) {
        self.append(self.0.lock(), text);
    }

    /// Ready while the queue has room. Also wakes the task when the stream fails.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        register(&mut state.waker, cx.waker());
        if state.queue.len() <= ROOM_BYTES {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Returns whether everything queued so far is written or refused.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.0.lock();
        state.queue.is_empty() && !state.is_writing
    }

    /// Returns the first error of the stream, if there was one.
    pub(crate) fn failure(&self) -> Option<io::Error> {
        let state = self.0.lock();
        let error = state.failure.as_ref()?;
        Some(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        })
    }

    /// Waits until everything queued so far is written, for as long as the stream accepts some of it. Returns false once it has accepted
    /// nothing for `patience`.
    pub(crate) fn flush_while_read(&self, patience: Duration) -> bool {
        let mut state = self.0.lock();
        while state.is_writing || !state.queue.is_empty() {
            let written = state.written;
            let is_stuck = |state: &mut State| {
                state.written == written && (state.is_writing || !state.queue.is_empty())
            };
            let waited = self
                .0
                .changed
                .wait_timeout_while(state, patience, is_stuck)
                .unwrap_or_else(PoisonError::into_inner);
            if waited.1.timed_out() {
                return false;
            }
            state = waited.0;
        }
        true
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and the panic hook comes here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: impl Write, tell_lost: impl Fn(u64) -> String) {
        let mut taken = Vec::new();
        let mut untold = 0;
        loop {
            let no_room = self.take(&mut taken);
            let tell = |stream: &mut _, untold: &mut u64| {
                if *untold > 0 && put(stream, tell_lost(*untold).as_bytes()).is_ok() {
                    *untold = 0;
                }
            };
            // Lines that the stream refused come before this text, lines without room after it.
            tell(&mut stream, &mut untold);
            let refused = match self.put_all(&mut stream, &taken) {
                Ok(()) => 0,
                Err((written, error)) => {
                    self.fail(error);
                    lines(&taken[written..])
                }
            };
            untold += no_room + refused;
            if refused == 0 {
                tell(&mut stream, &mut untold);
            }
            self.lock().lost += refused;
            taken.clear();
            taken.shrink_to(KEPT_BYTES);
        }
    }

    /// Like [`put`], and counts what the stream accepts. Writes in pieces, so that a slow reader shows.
    fn put_all(&self, stream: &mut impl Write, text: &[u8]) -> Result<(), (usize, io::Error)> {
        for (index, piece) in text.chunks(PIECE_BYTES).enumerate() {
            put(stream, piece).map_err(|(bytes, error)| (index * PIECE_BYTES + bytes, error))?;
            self.lock().written += piece.len() as u64;
            self.changed.notify_all();
        }
        Ok(())
    }

    fn fail(&self, error: io::Error) {
        let waker = {
            let mut state = self.lock();
            state.failure.get_or_insert(error);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for text and takes all of it. Returns how many lines had no room behind it.
    fn take(&self, taken: &mut Vec<u8>) -> u64 {
        let mut state = self.lock();
        state.is_writing = false;
        self.changed.notify_all();
        let is_idle = |state: &mut State| state.queue.is_empty();
        let waited = self.changed.wait_while(state, is_idle);
        state = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        std::mem::swap(&mut state.queue, taken);
        let no_room = std::mem::take(&mut state.no_room);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        no_room
    }
}

/// Writes everything and flushes the stream. The error has the number of bytes written before the stream refused the rest.
fn put(stream: &mut impl Write, text: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    loop {
        let outcome = match &text[written..] {
            // A prompt is not a whole line, and must be visible.
            [] => stream.flush().map(|()| None),
            rest => stream.write(rest).map(Some),
        };
        match outcome {
            Ok(None) => return Ok(()),
            Ok(Some(0)) => return Err((written, ErrorKind::WriteZero.into())),
            Ok(Some(bytes)) => written += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
            Err(error) => return Err((written, error)),
        }
    }
}

fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A stream that accepts text as the test says: each write waits for its turn.
    struct Gate {
        turns: Receiver<io::Result<()>>,
        written: Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // After the end of the test everything passes.
            self.turns.recv().unwrap_or(Ok(()))?;
            let _ = self.written.send(String::from_utf8_lossy(bytes).into());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (Outlet, Sender<io::Result<()>>, Receiver<String>) {
        let (turns, gate_turns) = mpsc::channel();
        let (gate_written, written) = mpsc::channel();
        let gate = Gate {
            turns: gate_turns,
            written: gate_written,
        };
        let outlet =
            Outlet::start("gate", gate, |lost| format!("{lost} lost\n")).expect("a thread");
        (outlet, turns, written)
    }

    /// Queues a line and waits until the thread has taken it and waits for the stream.
    fn stop_at(outlet: &Outlet, line: &str) {
        outlet.push(line.as_bytes());
        while !outlet.0.lock().queue.is_empty() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_stalled_stream_blocks_nobody_and_lines_without_room_are_counted() {
        let (outlet, turns, written) = gated();
        stop_at(&outlet, "first\n");
        let line = [&[b'x'; 63][..], b"\n"].concat();
        let fitting = QUEUE_BYTES / line.len();
        for _ in 0..fitting {
            outlet.push(&line);
        }
        assert_eq!(outlet.lost(), 0, "all of these have room");
        outlet.push(b"\n");
        outlet.push(b"two\nlines\n");
        assert_eq!(outlet.lost(), 3);
        assert!(!outlet.flush(Duration::from_millis(1)), "nobody reads it");
        let pieces = QUEUE_BYTES / PIECE_BYTES;
        for _ in 0..pieces + 3 {
            turns.send(Ok(())).expect("the thread lives");
        }
        assert_eq!(written.recv().as_deref(), Ok("first\n"));
        for _ in 0..pieces {
            assert_eq!(written.recv().map(|text| text.len()), Ok(PIECE_BYTES));
        }
        assert_eq!(written.recv().as_deref(), Ok("3 lost\n"));
        outlet.push(b"later\n");
        assert_eq!(written.recv().as_deref(), Ok("later\n"), "told once");
        assert!(outlet.flush(LONG));
        assert!(outlet.0.lock().queue.capacity() <= QUEUE_BYTES);
    }

    #[test]
    fn an_end_waits_for_a_slow_reader_and_not_for_one_that_takes_nothing() {
        const PATIENCE: Duration = Duration::from_millis(50);
        let (outlet, turns, written) = gated();
        assert!(outlet.flush_while_read(PATIENCE), "nothing waits");
        stop_at(&outlet, &"x".repeat(3 * PIECE_BYTES));
        assert!(!outlet.flush_while_read(PATIENCE), "nobody takes it");
        turns.send(Ok(())).expect("the thread lives");
        assert_eq!(written.recv().map(|text| text.len()), Ok(PIECE_BYTES));
        assert!(!outlet.flush_while_read(PATIENCE), "a part was taken");
        drop(turns);
        assert!(outlet.flush_while_read(LONG));
        assert_eq!(written.try_iter().count(), 2);
    }

    #[test]
    fn refused_lines_are_reported_before_the_next_accepted_one() {
        let (outlet, turns, written) = gated();
        let full = || Err(ErrorKind::StorageFull.into());
        turns.send(full()).expect("the thread lives");
        outlet.push(b"a\nb\n");
        assert!(outlet.flush(LONG), "refused is done with");
        assert_eq!(outlet.lost(), 2);
        // The notice is refused as well, and so is the line behind it.
        turns.send(full()).expect("the thread lives");
        turns.send(full()).expect("the thread lives");
        outlet.push(b"c\n");
        assert!(outlet.flush(LONG));
        assert_eq!(outlet.lost(), 3);
        turns.send(Err(ErrorKind::Interrupted.into())).expect("so");
        turns.send(Err(ErrorKind::WouldBlock.into())).expect("so");
        turns.send(Ok(())).expect("the thread lives");
        turns.send(Ok(())).expect("the thread lives");
        outlet.push(b"d\n");
        assert_eq!(written.recv().as_deref(), Ok("3 lost\n"));
        assert_eq!(written.recv().as_deref(), Ok("d\n"));
    }

    #[test]
    fn lines_come_whole_and_in_order() {
        let (outlet, turns, written) = gated();
        drop(turns);
        let mut expected = String::new();
        for number in 0..1_000 {
            let line = format!("{number}\n");
            outlet.push(line.as_bytes());
            expected.push_str(&line);
        }
        assert!(outlet.flush(LONG));
        assert_eq!(written.try_iter().collect::<String>(), expected);
    }
}
