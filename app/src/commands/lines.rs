//! Lines of standard input, for polling.

use std::collections::VecDeque;
use std::io::{self, BufRead};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

/// The number of lines that are read ahead. Beyond that the pipe is not read.
const AHEAD: usize = 64;

/// Lines read on a thread of their own: a terminal and a pipe cannot be polled the same way everywhere.
pub(super) struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    taken: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    ended: bool,
    waker: Option<Waker>,
}

impl Lines {
    /// Starts to read `input`. A thread that waits for input is left behind when the process ends.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn of(mut input: impl BufRead + Send + 'static) -> io::Result<Lines> {
        let shared = Arc::<Shared>::default();
        let reads = Arc::clone(&shared);
        thread::Builder::new().name("input".into()).spawn(move || {
            while let Some(line) = read_line(&mut input) {
                reads.put(line);
            }
            reads.end();
        })?;
        Ok(Lines(shared))
    }

    /// Returns the next line, without its end, or `None` after the last.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = state.lines.pop_front() {
            self.0.taken.notify_one();
            return Poll::Ready(Some(line));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Shared {
    fn put(&self, line: Vec<u8>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.lines.len() >= AHEAD {
            state = self
                .taken
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.lines.push_back(line);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn end(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Reads the next line without `\n` or `\r\n`; the last one needs no end. An input that cannot be read has ended.
fn read_line(input: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    match input.read_until(b'\n', &mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => {
            if line.last() == Some(&b'\n') {
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
            }
            Some(line)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;
    use std::thread::Thread;

    use super::*;

    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    #[test]
    fn every_line_once_and_in_order() {
        let mut text = Vec::new();
        for number in 0..1_000 {
            text.extend_from_slice(
                format!("{number}{}", if number % 2 == 0 { "\n" } else { "\r\n" }).as_bytes(),
            );
        }
        text.extend_from_slice(b"\n\xff\rno end");
        let mut lines = Lines::of(io::Cursor::new(text)).expect("a thread");
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut next = || loop {
            match lines.poll_next(&mut Context::from_waker(&waker)) {
                Poll::Ready(line) => break line,
                Poll::Pending => thread::park(),
            }
        };
        for number in 0..1_000 {
            assert_eq!(next(), Some(number.to_string().into_bytes()));
        }
        assert_eq!(next().as_deref(), Some(&b""[..]));
        assert_eq!(next().as_deref(), Some(&b"\xff\rno end"[..]));
        assert_eq!((next(), next()), (None, None));
    }
}
