//! When one side of a connection acknowledges, asks and gives up. (SPEC 24.3(d), 25.1)

use core::time::Duration;

use rand_core::Rng;

use crate::backoff::uniform_up_to;
use crate::time::Time;

use super::code::Code;

/// How many times "ack delay" one packet alone may wait for its ACK.
const ALONE: u32 = 8;

/// What a side does when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "SPEC has no others")]
pub enum Due {
    /// It sends an ACK.
    Ack,
    /// It asks whether the peer is there.
    Ping,
    /// It takes the connection for dead.
    Dead,
    /// The client leaves, or the edge closes, as GOAWAY said with this code.
    Leave(Code),
}

/// The time that a side takes for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "SPEC has no others")]
pub struct Delays {
    /// The time after which two packets are acknowledged at the latest.
    pub ack: Duration,
    /// The silence after which it asks. Zero: never.
    pub ping: Duration,
    /// The silence after which the connection is dead. Zero: never.
    pub dead: Duration,
}

impl Delays {
    /// Those of an edge: it asks after twice `keep_alive`, and gives up after two and a half times that.
    #[must_use]
    pub fn of_edge(ack: Duration, keep_alive: Duration) -> Self {
        Delays::asking_after(keep_alive.saturating_mul(2), ack, keep_alive)
    }

    /// Those of a client: it asks a tenth of `keep_alive` sooner or later than after that time, and gives up as an edge does.
    #[must_use]
    pub fn of_client(ack: Duration, keep_alive: Duration, rng: &mut impl Rng) -> Self {
        let tenth = keep_alive.checked_div(10).unwrap_or_default();
        let spread = uniform_up_to(tenth.saturating_mul(2), rng);
        let ping = tenth.saturating_mul(9).saturating_add(spread);
        Delays::asking_after(ping, ack, keep_alive)
    }

    fn asking_after(ping: Duration, ack: Duration, keep_alive: Duration) -> Self {
        let dead = keep_alive
            .saturating_mul(2)
            .saturating_add(half(keep_alive));
        Delays { ack, ping, dead }
    }
}

fn half(duration: Duration) -> Duration {
    duration.checked_div(2).unwrap_or_default()
}

/// The clock of one connection, and what is noted of it beside, which would take memory of its own elsewhere. An idle client has one, so it is
/// small.
#[derive(Debug, Clone, Default)]
pub struct Timing {
    heard: Time,
    /// Since when the oldest packet that can be acknowledged waits for it.
    ackable: Sometime,
    /// Whether it has asked since it heard something.
    asked: bool,
    /// Whether the client has ended its early records, and nobody was told.
    pub(super) has_confirmed: bool,
    /// The records that were read, and that nobody was told of.
    pub(super) records: u32,
}

image!(Timing {
    heard,
    ackable,
    asked,
    has_confirmed,
    records
});

/// A time, or never, in eight bytes. The last time that there is is never.
#[derive(Clone, Copy, Debug)]
struct Sometime(Time);

image!(Sometime { 0 });

const NEVER: Time = Time::from_nanos(u64::MAX);

impl Sometime {
    fn get(self) -> Option<Time> {
        Some(self.0).filter(|at| *at != NEVER)
    }
}

impl From<Option<Time>> for Sometime {
    fn from(at: Option<Time>) -> Self {
        Sometime(at.unwrap_or(NEVER))
    }
}

impl Default for Sometime {
    fn default() -> Self {
        Sometime(NEVER)
    }
}

impl Timing {
    /// Handles that something came.
    pub fn heard(&mut self, now: Time) {
        self.heard = now;
        self.asked = false;
    }

    /// Handles that packets were taken or acknowledged: `due` wait for an ACK now.
    pub fn count(&mut self, now: Time, due: u64) {
        let since = match due {
            0 => None,
            _ => self.ackable.get().or(Some(now)),
        };
        self.ackable = since.into();
    }

    /// Handles that an ACK went out.
    pub fn acknowledged(&mut self) {
        self.ackable = Sometime::default();
    }

    /// Handles that a PING went out.
    pub fn pinged(&mut self) {
        self.asked = true;
    }

    /// Returns what is due next, and when, while `due` packets wait for an ACK and the connection `leaves` with a code.
    #[must_use]
    #[expect(clippy::arithmetic_side_effects, reason = "time saturates")]
    pub fn next(
        &self,
        due: u64,
        delays: &Delays,
        leaves: Option<(Time, Code)>,
    ) -> Option<(Time, Due)> {
        let ack = self.ackable.get().filter(|_| due > 0).map(|since| {
            let delay = match due {
                1 => delays.ack.saturating_mul(ALONE),
                _ => delays.ack,
            };
            (since + delay, Due::Ack)
        });
        let silence = match self.asked {
            false => (delays.ping, Due::Ping),
            true => (delays.dead, Due::Dead),
        };
        let silence = Some(silence)
            .filter(|(delay, _)| !delay.is_zero())
            .map(|(delay, due)| (self.heard + delay, due));
        let leave = leaves.map(|(at, code)| (at, Due::Leave(code)));
        [ack, silence, leave]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_packets_wait_the_delay_and_one_eight_times_that() {
        let delays = Delays::of_edge(Duration::from_millis(250), Duration::ZERO);
        let at = Time::from_millis;
        let mut timing = Timing::default();
        assert_eq!(timing.next(0, &delays, None), None);
        timing.count(at(100), 1);
        assert_eq!(timing.next(1, &delays, None), Some((at(2_100), Due::Ack)));
        timing.count(at(200), 2);
        assert_eq!(timing.next(2, &delays, None), Some((at(350), Due::Ack)));
        timing.acknowledged();
        assert_eq!(timing.next(0, &delays, None), None);
    }

    #[test]
    fn an_edge_asks_once_and_gives_up() {
        let delays = Delays::of_edge(Duration::ZERO, Duration::from_secs(20));
        let at = |secs: u64| Time::from_millis(secs * 1_000);
        let mut timing = Timing::default();
        timing.heard(at(1));
        assert_eq!(timing.next(0, &delays, None), Some((at(41), Due::Ping)));
        timing.pinged();
        assert_eq!(timing.next(0, &delays, None), Some((at(51), Due::Dead)));
        timing.heard(at(42));
        assert_eq!(timing.next(0, &delays, None), Some((at(82), Due::Ping)));
    }

    #[test]
    fn who_was_asked_to_leave_leaves_at_that_time() {
        let delays = Delays::of_edge(Duration::ZERO, Duration::from_millis(4));
        let at = Time::from_millis;
        let timing = Timing::default();
        let leaves = |millis| timing.next(0, &delays, Some((at(millis), Code::RESTART)));
        assert_eq!(leaves(7), Some((at(7), Due::Leave(Code::RESTART))));
        assert_eq!(leaves(9), Some((at(8), Due::Ping)));
    }
}
