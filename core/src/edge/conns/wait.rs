//! What connections wait for, and since when (SPEC 11, 27.2).

use crate::edge::table::deadlines::{Deadlines, Timed, Timer};
use crate::edge::table::slab::Slab;
use crate::time::Time;

use crate::edge::conns::conn::Conn;

/// What a connection can wait for. All waits of one kind last equally long. Waits that end at the same instant are handled in the order of
/// this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Until its challenge is sent.
    Reply,
    /// Until the next check of whether it may begin a session.
    Join,
    /// Until the next check of whether it is within its pace again. It is not read meanwhile.
    Pace,
    /// Until the next attempt at its takeover.
    Takeover,
    /// How long it may take, once it must close, to read what was queued for it.
    Drain,
    /// How long its first early record may take.
    Early,
    /// How long its handshake may take.
    Handshake,
    /// How long it may take to finish a frame.
    Frame,
    /// How long it may be silent.
    Idle,
    /// How long it may take none of its output.
    Write,
}

/// The timers of a connection. Each waits for one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// What the edge does with it next.
    Next,
    /// What it must send.
    Read,
    /// What it must take.
    Write,
}

impl Wait {
    /// All of them, in order.
    pub(crate) const ALL: [Wait; 10] = [
        Wait::Reply,
        Wait::Join,
        Wait::Pace,
        Wait::Takeover,
        Wait::Drain,
        Wait::Early,
        Wait::Handshake,
        Wait::Frame,
        Wait::Idle,
        Wait::Write,
    ];

    /// Returns the timer, and the kind that it runs as.
    #[inline]
    const fn timer(self) -> (Slot, u8) {
        match self {
            Wait::Reply => (Slot::Next, 0),
            Wait::Join => (Slot::Next, 1),
            Wait::Pace => (Slot::Next, 2),
            Wait::Takeover => (Slot::Next, 3),
            Wait::Drain => (Slot::Next, 4),
            Wait::Early => (Slot::Next, 5),
            Wait::Handshake => (Slot::Read, 0),
            Wait::Frame => (Slot::Read, 1),
            Wait::Idle => (Slot::Read, 2),
            Wait::Write => (Slot::Write, 0),
        }
    }
}

/// The timers within a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timers {
    next: Timer,
    read: Timer,
    write: Timer,
}

image!(Timers { next, read, write });

impl Timers {
    /// Returns whether it waits for this.
    #[inline]
    pub(crate) fn is_armed(&self, wait: Wait) -> bool {
        let (slot, kind) = wait.timer();
        self.timer(slot).is(kind)
    }

    /// Returns since when it waits for this, if it does.
    pub(crate) fn since(&self, wait: Wait) -> Option<Time> {
        let (slot, kind) = wait.timer();
        let timer = self.timer(slot);
        timer.is(kind).then(|| timer.since())
    }

    /// Returns whether it waits for anything with this timer.
    #[inline]
    pub(crate) fn is_any_armed(&self, slot: Slot) -> bool {
        self.timer(slot).is_armed()
    }

    /// Returns what each timer runs as, and since when.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn running(&self) -> [Option<(u8, Time)>; 3] {
        [&self.read, &self.write, &self.next]
            .map(|timer| timer.kind().map(|kind| (kind, timer.since())))
    }

    #[inline]
    fn timer(&self, slot: Slot) -> &Timer {
        match slot {
            Slot::Next => &self.next,
            Slot::Read => &self.read,
            Slot::Write => &self.write,
        }
    }
}

/// [`Timers::next`].
#[derive(Clone, Debug)]
struct NextTimer;

impl Timed<Conn> for NextTimer {
    #[inline]
    fn timer(conn: &mut Conn) -> &mut Timer {
        &mut conn.timers.next
    }
}

/// [`Timers::read`].
#[derive(Clone, Debug)]
struct ReadTimer;

impl Timed<Conn> for ReadTimer {
    #[inline]
    fn timer(conn: &mut Conn) -> &mut Timer {
        &mut conn.timers.read
    }
}

/// [`Timers::write`].
#[derive(Clone, Debug)]
struct WriteTimer;

impl Timed<Conn> for WriteTimer {
    #[inline]
    fn timer(conn: &mut Conn) -> &mut Timer {
        &mut conn.timers.write
    }
}

/// All waiting connections, by what they wait for and by how long they have waited.
#[derive(Clone, Debug)]
pub(super) struct Waits {
    next: Deadlines<Conn, NextTimer, 6>,
    reads: Deadlines<Conn, ReadTimer, 3>,
    writes: Deadlines<Conn, WriteTimer, 1>,
}

image!(Waits {
    next,
    reads,
    writes
});

impl Waits {
    pub(crate) fn new() -> Self {
        Waits {
            next: Deadlines::new(),
            reads: Deadlines::new(),
            writes: Deadlines::new(),
        }
    }

    /// Arms a wait of the connection at `index` from `now` on, replacing any other of the same timer.
    // Nearly every caller names the wait, so that one of the three arms is left.
    #[inline(always)]
    pub(crate) fn arm(&mut self, slab: &mut Slab<Conn>, wait: Wait, index: u32, now: Time) {
        match wait.timer() {
            (Slot::Next, kind) => self.next.arm(slab, index, kind, now),
            (Slot::Read, kind) => self.reads.arm(slab, index, kind, now),
            (Slot::Write, kind) => self.writes.arm(slab, index, kind, now),
        }
    }

    /// Arms the write timer of the connection at `index`, which is not armed: what most packets down do.
    #[inline(always)]
    pub(crate) fn start_write(&mut self, slab: &mut Slab<Conn>, index: u32, now: Time) {
        let (_, kind) = Wait::Write.timer();
        self.writes.start(slab, index, kind, now);
    }

    /// Disarms a timer of the connection at `index`.
    #[inline(always)]
    pub(crate) fn disarm(&mut self, slab: &mut Slab<Conn>, slot: Slot, index: u32) {
        match slot {
            Slot::Next => self.next.disarm(slab, index),
            Slot::Read => self.reads.disarm(slab, index),
            Slot::Write => self.writes.disarm(slab, index),
        }
    }

    /// Returns the connection that has waited for this for longest, and since when.
    #[inline]
    pub(crate) fn first(&self, wait: Wait) -> Option<(u32, Time)> {
        match wait.timer() {
            (Slot::Next, kind) => self.next.first(kind),
            (Slot::Read, kind) => self.reads.first(kind),
            (Slot::Write, kind) => self.writes.first(kind),
        }
    }

    /// Returns the number of connections that wait for this.
    pub(crate) fn len(&self, wait: Wait) -> usize {
        match wait.timer() {
            (Slot::Next, kind) => self.next.len(kind),
            (Slot::Read, kind) => self.reads.len(kind),
            (Slot::Write, kind) => self.writes.len(kind),
        }
    }
}
