//! Streams that were closed in order, and are kept until their peers have read everything.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use voltlane_core::Time;

use super::work::LINGERING;
use crate::Stream;
use crate::waker::{ReadyList, SourceWaker};

/// How long a stream is kept after its FIN was sent. If it were closed at once, with bytes from the peer unread or in flight, the system
/// would answer them with a RST that can overtake what the peer has not read yet.
const LINGER: Duration = Duration::from_secs(1);
/// The default maximum number of lingering streams. Beyond it the oldest is closed early.
const LINGERING_MAX: usize = 256;

/// The lingering streams of an edge, the oldest first.
pub(super) struct Lingering<S> {
    streams: VecDeque<Closing<S>>,
    max: usize,
    source: Arc<SourceWaker>,
    waker: Waker,
}

struct Closing<S> {
    until: Time,
    stream: S,
    /// Whether its FIN is behind bytes that the transport still holds. The waker is registered then.
    holds: bool,
}

impl<S: Stream> Lingering<S> {
    pub(super) fn new(ready: &Arc<ReadyList>) -> Self {
        let source = SourceWaker::new(LINGERING, ready);
        Lingering {
            streams: VecDeque::new(),
            max: LINGERING_MAX,
            waker: Waker::from(Arc::clone(&source)),
            source,
        }
    }

    /// Sets the maximum number of streams.
    pub(super) fn at_most(&mut self, streams: usize) {
        self.max = streams;
    }

    /// Returns whether one more can linger without another's place.
    pub(super) fn has_room(&self) -> bool {
        self.streams.len() < self.max
    }

    /// Closes a stream and keeps it, without a bound on the number of streams.
    pub(super) fn close(&mut self, mut stream: S, now: Time) {
        let closed = stream.poll_close(&mut Context::from_waker(&self.waker));
        if let Poll::Ready(Err(_)) = closed {
            return;
        }
        self.streams.push_back(Closing {
            until: now + LINGER,
            stream,
            holds: closed.is_pending(),
        });
    }

    /// Drops the oldest streams beyond the maximum.
    pub(super) fn hold_the_bound(&mut self) {
        while self.streams.len() > self.max {
            self.streams.pop_front();
        }
    }

    /// Sends what transports hold, as far as there is room now.
    pub(super) fn handle_woken(&mut self) {
        self.source.serve();
        let cx = &mut Context::from_waker(&self.waker);
        for one in self.streams.iter_mut().filter(|one| one.holds) {
            // If it is broken, nobody reads the rest.
            one.holds = one.stream.poll_close(cx).is_pending();
        }
    }

    /// Returns whether a transport holds bytes that wait for room.
    pub(super) fn holds(&self) -> bool {
        self.streams.iter().any(|one| one.holds)
    }

    /// Returns when the oldest stream has lingered long enough.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.streams.front().map(|one| one.until)
    }

    /// Drops streams that have lingered long enough.
    pub(super) fn handle_time(&mut self, now: Time) {
        while self.streams.front().is_some_and(|one| one.until <= now) {
            self.streams.pop_front();
        }
    }

    /// Drops all streams. Reads what they hold first, so that they end without a RST if possible.
    pub(super) fn finish(&mut self, buffer: &mut [u8]) {
        for mut one in self.streams.drain(..) {
            let cx = &mut Context::from_waker(Waker::noop());
            let _ = one.stream.poll_read(cx, buffer);
        }
    }
}
