//! Warnings about what the limits refuse, each with the key of the limit, a count, and advice.
//!
//! The machines only count, which is cheap in a flood. This module compares their counts after each turn. For each limit it logs at most
//! one line per [`TELL_EVERY`], for all shards together. The first one is logged at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;
use voltlane_core::edge::{CloseReason, Counters, EndReason, Rejected};

/// The interval between two lines about one limit.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A limit of the configuration.
struct Limit {
    /// Its key, or keys.
    key: &'static str,
    /// Advice to the operator.
    advice: &'static str,
    /// The counters in which it shows.
    causes: &'static [Cause],
}

/// A reason that the machines count.
#[derive(Clone, Copy)]
enum Cause {
    Rejected(Rejected),
    Closed(CloseReason),
    Ended(EndReason),
}

/// Many clients of one source are most often those of a balancer.
const ONE_SOURCE: &str = "behind a balancer all clients are one source: set listener.proxy_protocol, or put the balancer into limits.exempt; otherwise raise it";

const LIMITS: [Limit; 20] = [
    Limit {
        key: "limits.max_connections",
        advice: "raise it (up to an eighth is kept for clients that come back); while it is 0, raise the limit of descriptors (ulimit -n, LimitNOFILE)",
        causes: &[
            Cause::Rejected(Rejected::TooManyConnections),
            Cause::Closed(CloseReason::TooManyConnections),
        ],
    },
    Limit {
        key: "limits.accept_rate",
        advice: "raise it and limits.accept_burst if these clients come in good faith",
        causes: &[Cause::Rejected(Rejected::TooFast)],
    },
    Limit {
        key: "listener.max_connections",
        advice: "raise it, or set it to 0 for limits.max_connections alone",
        causes: &[Cause::Rejected(Rejected::ListenerTooMany)],
    },
    Limit {
        key: "listener.accept_rate",
        advice: "raise it and listener.accept_burst if these clients come in good faith",
        causes: &[Cause::Rejected(Rejected::ListenerTooFast)],
    },
    Limit {
        key: "limits.max_half_open",
        advice: "raise it if these clients come in good faith",
        causes: &[
            Cause::Rejected(Rejected::TooManyHalfOpen),
            Cause::Closed(CloseReason::MadeRoom),
        ],
    },
    Limit {
        key: "limits.source_connections",
        advice: ONE_SOURCE,
        causes: &[Cause::Rejected(Rejected::SourceTooMany)],
    },
    Limit {
        key: "limits.source_rate",
        advice: ONE_SOURCE,
        causes: &[Cause::Rejected(Rejected::SourceTooFast)],
    },
    Limit {
        key: "limits.source_penalties",
        advice: "a source sends malformed input or fails its proof; voltlane_closes_total says which",
        causes: &[Cause::Rejected(Rejected::SourcePenalty)],
    },
    Limit {
        key: "a ban by an operator",
        advice: "`voltlane ctl bans` lists them",
        causes: &[Cause::Rejected(Rejected::Banned)],
    },
    Limit {
        key: "listener.trusted_proxies",
        advice: "with listener.proxy_protocol only the proxies that are listed may connect",
        causes: &[Cause::Rejected(Rejected::UntrustedProxy)],
    },
    Limit {
        key: "clients.max_stale_clients, limits.source_stale_clients",
        advice: "too many clients are away: raise it, or lower clients.stale_timeout_secs",
        causes: &[Cause::Ended(EndReason::TooManyStale)],
    },
    Limit {
        key: "limits.max_connections, clients.max_stale_clients",
        advice: "no room for another session: raise one of them",
        causes: &[Cause::Closed(CloseReason::TooManySessions)],
    },
    Limit {
        key: "limits.max_memory_bytes",
        advice: "raise it, or lower the bounds of the queues",
        causes: &[
            Cause::Closed(CloseReason::Memory),
            Cause::Ended(EndReason::MemoryLimit),
        ],
    },
    Limit {
        key: "clients.channel_capacity, clients.channel_bytes",
        advice: "a client read more slowly than the backend sent, and its session ended; raise them to let clients lag further behind",
        causes: &[Cause::Ended(EndReason::SendQueueFull)],
    },
    Limit {
        key: "clients.write_timeout_secs",
        advice: "a client took nothing for that long while packets waited, and its session ended, or is away in version 3; raise it to wait longer",
        causes: &[
            Cause::Ended(EndReason::WriteTimedOut),
            Cause::Closed(CloseReason::Parked),
        ],
    },
    Limit {
        key: "clients.pace_packets_per_sec, clients.pace_bytes_per_sec",
        advice: "a client was faster for clients.pace_patience_secs and was dropped; raise them if clients send as much in good faith",
        causes: &[Cause::Closed(CloseReason::TooFast)],
    },
    Limit {
        key: "clients.max_frame_bytes",
        advice: "a client sent a longer packet and was dropped; raise it if packets may be that long. A stranger that speaks another protocol counts as well",
        causes: &[Cause::Closed(CloseReason::FrameTooLong)],
    },
    Limit {
        key: "clients.frame_timeout_secs",
        advice: "a packet took that long from its first byte to its last, and its client was dropped; raise it if clients have so slow a network",
        causes: &[Cause::Closed(CloseReason::FrameTimeout)],
    },
    Limit {
        key: "clients.keep_alive_secs",
        advice: "a client sent nothing for two and a half times that, though it was asked, and was taken for gone; raise it if clients have so bad a network",
        causes: &[Cause::Closed(CloseReason::Silent)],
    },
    Limit {
        key: "clients.idle_timeout_secs",
        advice: "a client sent nothing for that long and was dropped; raise it, or let clients send something more often",
        causes: &[Cause::Closed(CloseReason::IdleTimeout)],
    },
];

impl Limit {
    /// Returns how often it has refused something since the start.
    fn count(&self, counters: &Counters) -> u64 {
        let of = |cause: &Cause| match *cause {
            Cause::Rejected(why) => counters.rejected[why as usize],
            Cause::Closed(why) => counters.closed[why as usize],
            Cause::Ended(why) => counters.ended[why as usize],
        };
        self.causes.iter().map(of).sum()
    }
}

type Counts = [u64; LIMITS.len()];

/// Watches the counters of one machine. Its clones watch others; together they warn about a limit once.
#[derive(Clone, Default)]
pub(crate) struct Refusals {
    /// The counts of this machine at the last check, by limit.
    seen: Counts,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    has_untold: AtomicBool,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    untold: Counts,
    told_at: [Option<Instant>; LIMITS.len()],
}

impl Refusals {
    /// Logs what is new. Cheap if nothing is, so it may be called in every turn of a loop.
    pub(crate) fn watch(&mut self, counters: &Counters) {
        let counts: Counts = std::array::from_fn(|at| LIMITS[at].count(counters));
        if counts == self.seen && !self.shared.has_untold.load(Ordering::Relaxed) {
            return;
        }
        for (at, count) in self.due(counts, Instant::now()) {
            let Limit { key, advice, .. } = LIMITS[at];
            warn!(limit = %key, count, %advice, "a limit was reached");
        }
    }

    /// Returns the limits to warn about now, each with the count since its last warning.
    fn due(&mut self, counts: Counts, now: Instant) -> Vec<(usize, u64)> {
        let mut tally = self
            .shared
            .tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        for (at, count) in counts.into_iter().enumerate() {
            tally.untold[at] += count.saturating_sub(self.seen[at]);
            let rests = tally.told_at[at].is_some_and(|told| now - told < TELL_EVERY);
            if tally.untold[at] > 0 && !rests {
                due.push((at, std::mem::take(&mut tally.untold[at])));
                tally.told_at[at] = Some(now);
            }
        }
        self.seen = counts;
        let has_untold = tally.untold.iter().any(|&count| count > 0);
        self.shared.has_untold.store(has_untold, Ordering::Relaxed);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Counts = [0; LIMITS.len()];

    fn counts(at: usize, count: u64) -> Counts {
        let mut counts = NONE;
        counts[at] = count;
        counts
    }

    #[test]
    fn a_limit_is_told_at_once_and_then_each_ten_seconds_with_what_all_shards_refused() {
        let mut first = Refusals::default();
        let mut second = first.clone();
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(first.due(NONE, start), []);
        assert_eq!(first.due(counts(3, 2), start), [(3, 2)]);
        assert_eq!(first.due(counts(3, 5), after(1)), []);
        assert_eq!(second.due(counts(3, 7), after(2)), [], "for all together");
        assert_eq!(second.due(counts(3, 7), after(9_999)), []);
        assert!(first.shared.has_untold.load(Ordering::Relaxed));
        assert_eq!(first.due(counts(3, 5), after(10_000)), [(3, 10)]);
        assert!(!first.shared.has_untold.load(Ordering::Relaxed));
        let mut other = counts(3, 6);
        other[0] = 1;
        assert_eq!(first.due(other, after(10_001)), [(0, 1)], "each by itself");
    }

    #[test]
    fn every_rejection_but_that_of_the_end_belongs_to_a_limit() {
        for why in Rejected::ALL {
            let mut counters = Counters::default();
            counters.rejected[why as usize] = 1;
            let of = LIMITS.iter().filter(|limit| limit.count(&counters) == 1);
            assert_eq!(of.count(), usize::from(why != Rejected::Shutdown), "{why}");
        }
    }

    #[test]
    fn every_close_by_a_limit_belongs_to_it() {
        for why in CloseReason::ALL {
            let is_of_a_limit = match why {
                // The peer does not speak the protocol, or does not prove its claim. Penalties have a limit of their own.
                CloseReason::BadHandshake
                | CloseReason::BadVersion
                | CloseReason::BadKey
                | CloseReason::BadProof
                | CloseReason::BadProxyHeader
                | CloseReason::BadTransport
                | CloseReason::ClaimLapsed
                | CloseReason::BadClaim
                | CloseReason::Refused
                | CloseReason::NoEarlyRecord
                | CloseReason::BadRecord
                | CloseReason::ProtocolError
                | CloseReason::PeerError => false,
                // Strangers that say nothing are not worth a warning.
                CloseReason::HandshakeTimeout | CloseReason::KeptWaiting => false,
                // The session goes on elsewhere, or its end has a reason of its own.
                CloseReason::Replaced | CloseReason::SessionEnded | CloseReason::Moved => false,
                // Counted by what rejected it.
                CloseReason::Rejected => false,
                CloseReason::Shutdown => false,
                _ => true,
            };
            let mut counters = Counters::default();
            counters.closed[why as usize] = 1;
            let of = LIMITS.iter().filter(|limit| limit.count(&counters) == 1);
            assert_eq!(of.count(), usize::from(is_of_a_limit), "{why:?}");
        }
    }

    #[test]
    fn every_end_of_a_session_belongs_to_a_limit_unless_no_limit_is_its_cause_or_core_reports_it() {
        for why in EndReason::ALL {
            let is_of_a_limit = match why {
                // Its client left, or the backend wanted it.
                EndReason::Expired | EndReason::Kicked | EndReason::Goodbye => false,
                // The client and the edge, or the client and the backend, do not agree.
                EndReason::NumbersDoNotFit | EndReason::PacketTooLong => false,
                // Reported once, with the key.
                EndReason::MissedPacketsFull | EndReason::ClientAway => false,
                _ => true,
            };
            let mut counters = Counters::default();
            counters.ended[why as usize] = 1;
            let of = LIMITS.iter().filter(|limit| limit.count(&counters) == 1);
            assert_eq!(of.count(), usize::from(is_of_a_limit), "{why:?}");
        }
    }
}
