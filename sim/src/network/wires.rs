//! What turmoil's network lacks: kernels that give up connections, resets, and windows that count bytes.
//!
//! A segment that turmoil loses is never sent again, and nobody is told. A kernel would send it again, or finally give up the connection.
//! So every connection that was open when its wire was cut is given up here, on each side after a time of its own: one side may believe in
//! a connection that the other has forgotten.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

/// A wire that connections run over. The edge is at one end of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wire {
    /// Between clients and the edge.
    Front,
    /// Between the edge and the backend.
    Back,
    /// Between strangers and the edge.
    Street,
}

impl Wire {
    pub(crate) const ALL: [Wire; 3] = [Wire::Front, Wire::Back, Wire::Street];
}

/// An end of a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Edge,
    Peer,
}

/// A call of a stream that can wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Read,
    Write,
}

/// One end of a wire: which of its connections are dead.
#[derive(Default)]
struct Line {
    /// Connections that were open before this cut are dead.
    dead_before: u64,
    /// The error that their calls return.
    cause: Option<ErrorKind>,
    /// Calls that wait, to be woken when their connection dies.
    waiting: BTreeMap<(u64, Call), Waker>,
}

/// Bytes in flight in one direction of one connection.
#[derive(Default)]
struct Window {
    bytes: usize,
    writer: Option<Waker>,
}

#[derive(Default)]
struct State {
    lines: BTreeMap<(Wire, Side), Line>,
    /// The number of cuts of each wire.
    cuts: BTreeMap<Wire, u64>,
    windows: BTreeMap<(SocketAddr, SocketAddr), Weak<Mutex<Window>>>,
    connections: u64,
    /// Whether the faults are over.
    calm: bool,
}

/// All wires of a run, shared by its hosts.
#[derive(Clone, Default)]
pub(crate) struct Wires(Arc<Mutex<State>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The hosts take turns on one thread, so the lock is never contended. A poisoned one is consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wires {
    /// Registers one end of a new connection.
    pub(crate) fn plug(
        &self,
        wire: Wire,
        side: Side,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Plug {
        let mut state = lock(&self.0);
        state.connections += 1;
        let mut window = |key| {
            let known = state.windows.get(&key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let made = Arc::default();
                state.windows.insert(key, Arc::downgrade(&made));
                made
            })
        };
        let (outgoing, incoming) = (window((local, remote)), window((remote, local)));
        Plug {
            born: state.cuts.get(&wire).copied().unwrap_or(0),
            number: state.connections,
            wire,
            side,
            outgoing,
            incoming,
            key: (local, remote),
            wires: self.clone(),
        }
    }

    /// Cuts the wire: all open connections are lost, though nobody knows yet. Returns the number to pass to [`Wires::give_up`].
    pub(crate) fn cut(&self, wire: Wire) -> u64 {
        let mut state = lock(&self.0);
        let cuts = state.cuts.entry(wire).or_default();
        *cuts += 1;
        *cuts
    }

    /// Makes the kernel at one side give up what was open at a cut.
    pub(crate) fn give_up(&self, wire: Wire, side: Side, cut: u64, cause: ErrorKind) {
        let waiting = {
            let mut state = lock(&self.0);
            let line = state.lines.entry((wire, side)).or_default();
            line.dead_before = line.dead_before.max(cut);
            line.cause = Some(cause);
            std::mem::take(&mut line.waiting)
        };
        // Calls of connections that are alive find nothing new, and wait again.
        waiting.into_values().for_each(Waker::wake);
    }

    /// Ends the faults of single calls.
    pub(crate) fn be_calm(&self) {
        lock(&self.0).calm = true;
    }

    pub(crate) fn is_calm(&self) -> bool {
        lock(&self.0).calm
    }
}

/// A stream's handle on its wire.
pub(crate) struct Plug {
    wires: Wires,
    wire: Wire,
    side: Side,
    number: u64,
    /// The number of cuts of the wire when the connection began.
    born: u64,
    key: (SocketAddr, SocketAddr),
    outgoing: Arc<Mutex<Window>>,
    incoming: Arc<Mutex<Window>>,
}

impl Plug {
    /// Returns why the connection is dead, if it is.
    pub(crate) fn dead(&self) -> Option<ErrorKind> {
        let state = lock(&self.wires.0);
        let line = state.lines.get(&(self.wire, self.side))?;
        line.cause.filter(|_| self.born < line.dead_before)
    }

    /// Registers a call that waits, to be woken when the connection dies.
    pub(crate) fn wait(&self, call: Call, cx: &Context<'_>) {
        let mut state = lock(&self.wires.0);
        let line = state.lines.entry((self.wire, self.side)).or_default();
        line.waiting
            .entry((self.number, call))
            .and_modify(|waker| waker.clone_from(cx.waker()))
            .or_insert_with(|| cx.waker().clone());
    }

    /// Returns the room in the window. The writer waits until there is some.
    pub(crate) fn poll_room(&self, cx: &Context<'_>, window_bytes: usize) -> Poll<usize> {
        let mut window = lock(&self.outgoing);
        match window_bytes.saturating_sub(window.bytes) {
            0 => {
                window.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            room => Poll::Ready(room),
        }
    }

    pub(crate) fn sent(&self, bytes: usize) {
        lock(&self.outgoing).bytes += bytes;
    }

    pub(crate) fn received(&self, bytes: usize) {
        let writer = {
            let mut window = lock(&self.incoming);
            window.bytes = window.bytes.saturating_sub(bytes);
            window.writer.take()
        };
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    pub(crate) fn wires(&self) -> &Wires {
        &self.wires
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        let mut state = lock(&self.wires.0);
        if let Some(line) = state.lines.get_mut(&(self.wire, self.side)) {
            line.waiting.remove(&(self.number, Call::Read));
            line.waiting.remove(&(self.number, Call::Write));
        }
        // The other end may still hold its own two.
        if Arc::strong_count(&self.outgoing) == 1 {
            state.windows.remove(&self.key);
        }
        if Arc::strong_count(&self.incoming) == 1 {
            state.windows.remove(&(self.key.1, self.key.0));
        }
    }
}
