//! A stream whose peer is given up if it acknowledges nothing, but not if it merely has no room.
//!
//! Linux gives up a peer that leaves sent bytes unacknowledged (TCP_USER_TIMEOUT, RFC 5482). It also gives up one that acknowledges
//! everything but has had no room for as long. So a backend that stops reading would be reset, and megabytes lost. For the streams that the
//! drivers watch, this task is taken over from the system.

use std::ops::{Deref, DerefMut};
use std::task::Context;
use std::time::Duration;

use tracing::debug;
use voltlane_core::Time;

use crate::io::{Channel, Written};
use crate::{Acknowledgements, Stream};

/// The number of checks of the acknowledgements within the time after which a peer is given up.
const LOOKS: u32 = 8;
/// The number of unanswered retransmissions and probes that are required: one may be lost on the way.
const REPEATS: u32 = 2;

/// The state of watching one stream, from the first write that waits for something.
struct Watch {
    timeout: Duration,
    /// Since when the peer owes an answer, as far as observed.
    since: Time,
    /// The number of segments retransmitted by then, once it is known.
    repeated: Option<u32>,
    /// The next check. `None` while nothing waits for the peer.
    next_look: Option<Time>,
}

impl Watch {
    fn new(timeout: Duration) -> Self {
        Watch {
            timeout,
            since: Time::ZERO,
            repeated: None,
            next_look: None,
        }
    }

    fn handle_written(&mut self, now: Time) {
        if self.next_look.is_none() {
            self.since = now;
            self.repeated = None;
            self.next_look = Some(now + self.timeout / LOOKS);
        }
    }

    /// Returns whether the peer must be given up, judging by `seen`.
    fn judge(&mut self, now: Time, seen: Option<Acknowledgements>) -> bool {
        let Some(seen) = seen.filter(|seen| (seen.awaited | seen.questions | seen.unsent) > 0)
        else {
            self.next_look = None;
            return false;
        };
        self.next_look = Some(now + self.timeout / LOOKS);
        let waited = now.since(self.since);
        let owes = (seen.awaited | seen.questions) > 0;
        if !owes || seen.age < waited {
            self.since = now;
            self.repeated = Some(seen.repeated);
            return false;
        }
        let before = *self.repeated.get_or_insert(seen.repeated);
        let unanswered = seen
            .repeated
            .wrapping_sub(before)
            .saturating_add(seen.questions);
        waited >= self.timeout && unanswered >= REPEATS
    }
}

/// A [`Channel`] that is watched, if its stream supports it.
pub(crate) struct WatchedChannel<S> {
    channel: Channel<S>,
    watch: Option<Watch>,
}

impl<S: Stream> WatchedChannel<S> {
    pub(crate) fn new(mut stream: S) -> Self {
        let watch = stream.take_user_timeout().map(Watch::new);
        WatchedChannel {
            channel: Channel::new(stream),
            watch,
        }
    }

    /// Writes both slices in one call.
    pub(crate) fn write(&mut self, cx: &mut Context<'_>, now: Time, output: [&[u8]; 2]) -> Written {
        let written = self.channel.write(cx, output);
        if let (Written::Bytes(_), Some(watch)) = (&written, &mut self.watch) {
            watch.handle_written(now);
        }
        written
    }

    /// Returns when [`is_given_up`](Self::is_given_up) must be called.
    pub(crate) fn next_look(&self) -> Option<Time> {
        self.watch.as_ref().and_then(|watch| watch.next_look)
    }

    /// Returns whether the peer is gone without notice. The stream must then be ended.
    pub(crate) fn is_given_up(&mut self, now: Time) -> bool {
        let Some(watch) = &mut self.watch else {
            return false;
        };
        if watch.next_look.is_none_or(|at| now < at) {
            return false;
        }
        let given_up = watch.judge(now, self.channel.stream().acknowledgements());
        if given_up {
            debug!(timeout = ?watch.timeout, "a peer acknowledges nothing, and is given up");
        }
        given_up
    }

    /// Ends the stream at once.
    pub(crate) fn abort(self) {
        self.channel.abort();
    }
}

impl<S> Deref for WatchedChannel<S> {
    type Target = Channel<S>;

    fn deref(&self) -> &Channel<S> {
        &self.channel
    }
}

impl<S> DerefMut for WatchedChannel<S> {
    fn deref_mut(&mut self) -> &mut Channel<S> {
        &mut self.channel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(8);

    fn at(second: u64) -> Time {
        Time::from_millis(1_000 * second)
    }

    /// Returns when a peer is given up, within an hour of checks, if the system reports `seen` for each second.
    fn given_up(mut seen: impl FnMut(u64) -> Acknowledgements) -> Option<u64> {
        let mut watch = Watch::new(TIMEOUT);
        watch.handle_written(Time::ZERO);
        (1..=3_600).find(|second| {
            let now = at(*second);
            watch.next_look.is_some_and(|due| due <= now) && watch.judge(now, Some(seen(*second)))
        })
    }

    fn seconds(age: u64) -> Acknowledgements {
        Acknowledgements {
            age: Duration::from_secs(age),
            ..Acknowledgements::default()
        }
    }

    #[test]
    fn a_peer_that_left_bytes_without_an_acknowledgement_is_given_up_in_time() {
        let silent = |second: u64| Acknowledgements {
            awaited: 3,
            // Once before all of this, then more and more rarely.
            repeated: 1 + second.ilog2(),
            ..seconds(second + 100)
        };
        assert_eq!(given_up(silent), Some(8));
    }

    #[test]
    fn a_peer_that_answers_is_waited_for_however_long_it_has_no_room() {
        // Finally every two minutes, and never more than one unanswered probe, which the system repeats.
        let rests = |second: u64| Acknowledgements {
            unsent: 1_000,
            questions: u32::from(second % 120 > 60),
            ..seconds(second % 120)
        };
        assert_eq!(given_up(rests), None);
    }

    #[test]
    fn a_peer_that_went_while_it_had_no_room_is_given_up_after_two_questions() {
        let gone = |second: u64| Acknowledgements {
            unsent: 1_000,
            questions: u32::try_from(second.saturating_sub(1_000) / 120).unwrap(),
            ..seconds(if second < 1_000 {
                second % 120
            } else {
                second - 960
            })
        };
        assert_eq!(given_up(gone), Some(1_240));
    }

    #[test]
    fn a_segment_that_was_lost_once_ends_nothing() {
        let slow = |second: u64| Acknowledgements {
            awaited: 1,
            repeated: u32::from(second > 30),
            ..seconds(second)
        };
        assert_eq!(given_up(slow), None);
    }

    #[test]
    fn where_nothing_waits_nobody_looks() {
        let mut watch = Watch::new(TIMEOUT);
        assert_eq!(watch.next_look, None);
        watch.handle_written(at(5));
        watch.handle_written(at(6));
        assert_eq!(watch.next_look, Some(at(6)));
        assert!(!watch.judge(at(6), Some(seconds(1))));
        assert_eq!(watch.next_look, None, "all is acknowledged");
        watch.handle_written(at(7));
        assert!(!watch.judge(at(8), None));
        assert_eq!(watch.next_look, None, "the system says nothing");
    }
}
