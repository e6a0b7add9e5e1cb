//! The lines of a pipe as they arrive.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use crate::PATIENCE;

/// All lines of a pipe so far. A thread reads them, so the process never waits for the test.
#[derive(Debug)]
pub(crate) struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    /// Whether further lines are ignored.
    closed: bool,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it is held")
    }
}

impl Lines {
    /// Reads a pipe to its end.
    pub(crate) fn follow(pipe: impl Read + Send + 'static) -> Lines {
        let shared = Arc::<Shared>::default();
        let lines = Lines(Arc::clone(&shared));
        thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let mut state = shared.lock();
                if state.closed {
                    break;
                }
                state.lines.push(line);
                shared.changed.notify_all();
            }
            shared.lock().ended = true;
            shared.changed.notify_all();
        });
        lines
    }

    /// Waits for the first line from number `from` on that `matches`, and returns it with its number. `None` if the pipe ends without one,
    /// or none arrives in time.
    pub(crate) fn wait_for(
        &self,
        mut from: usize,
        matches: impl Fn(&str) -> bool,
    ) -> Option<(usize, String)> {
        let found = self.wait_until(|state| {
            let new = state.lines.get(from..).unwrap_or_default();
            let found = new.iter().position(|line| matches(line));
            let found = found.map(|at| (from + at, new[at].clone()));
            from += new.len();
            (found.is_some() || state.ended).then_some(found)
        });
        found.flatten()
    }

    /// Waits for the end of the pipe. Returns false if it does not end in time.
    pub(crate) fn wait_for_end(&self) -> bool {
        self.wait_until(|state| state.ended.then_some(())).is_some()
    }

    /// Closes the pipe when the next line arrives.
    pub(crate) fn close(&self) {
        self.0.lock().closed = true;
    }

    /// Returns all lines from number `from` on, with their line ends.
    pub(crate) fn text(&self, from: usize) -> String {
        let state = self.0.lock();
        let lines = state.lines.get(from..).unwrap_or_default();
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn wait_until<T>(&self, mut look: impl FnMut(&State) -> Option<T>) -> Option<T> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.0.lock();
        loop {
            if let Some(found) = look(&state) {
                return Some(found);
            }
            let left = until.checked_duration_since(Instant::now())?;
            let waited = self.0.changed.wait_timeout(state, left);
            (state, _) = waited.expect("no panic while it is held");
        }
    }
}
