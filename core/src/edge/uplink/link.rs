//! The backend link: its state and its retries (SPEC 7.6, 8.4).

mod face;
mod peer;
pub(crate) mod proof;

use core::mem;
use core::time::Duration;

use rand_chacha::ChaCha20Rng;

use crate::backoff::Backoff;
use crate::link::tagged::TAG_BYTES;
use crate::time::Time;
use crate::wire::frame::BusyFrameReader;

pub use self::face::HasLink;

use self::peer::{Peer, Verdict};
use self::proof::Proving;
use crate::Closed;
use crate::edge::config::MasterConfig;
use crate::edge::contract::{Deadline, DeadlineReason};
use crate::edge::uplink::hold::Wrong;
use crate::wire::frame::FrameTooLong;

/// The factor by which pauses may become longer when links are lost again and again soon after they came up: 30 s instead of 5 s.
const CONTESTED_PAUSE: u32 = 6;

/// The states of the link (SPEC 8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// There is no link. The next attempt is due at `retry_at`.
    Down { retry_at: Time },
    /// An attempt has been in progress since then.
    Connecting { since: Time },
    /// The link has been up since then.
    Up { since: Time },
}

image!(enum LinkState { 0 Down { retry_at: a }, 1 Connecting { since: a }, 2 Up { since: a } });

/// The link to the backend.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) state: LinkState,
    pub(crate) reader: BusyFrameReader,
    /// Whether the adapter must drop the stream: framing is lost, or an attempt takes too long.
    pub(crate) wants_close: bool,
    /// What answers at the backend's address.
    peer: Peer,
    /// What both ends prove before a link is granted.
    pub(crate) proving: Box<Proving>,
    backoff: Backoff,
    /// The range of pauses, and the upper bound while the link is contested.
    pauses: (Duration, Duration),
    connect_timeout: Duration,
    /// The longest body that the backend may send.
    pub(crate) max_body: u32,
}

image!(Link {
    state,
    reader,
    wants_close,
    peer,
    proving,
    backoff,
    pauses,
    connect_timeout,
    max_body,
});

impl Link {
    /// Creates a link to the backend.
    pub(crate) fn new(config: &MasterConfig) -> Self {
        Link {
            state: LinkState::Down {
                retry_at: Time::ZERO,
            },
            reader: BusyFrameReader::default(),
            wants_close: false,
            peer: Peer::default(),
            proving: Box::new(Proving::new(config.secret.clone())),
            backoff: Backoff::new(config.reconnect_min, config.reconnect_max),
            pauses: (config.reconnect_min, config.reconnect_max),
            connect_timeout: config.connect_timeout,
            max_body: longest_body(config),
        }
    }

    /// Changes bounds and pauses. The current pause ends as planned.
    pub(crate) fn set_bounds(&mut self, config: &MasterConfig) {
        self.pauses = (config.reconnect_min, config.reconnect_max);
        self.set_pauses();
        self.connect_timeout = config.connect_timeout;
        self.max_body = longest_body(config);
        self.proving.set_secret(config.secret.as_ref());
    }

    fn set_pauses(&mut self) {
        let (min, max) = self.pauses;
        let contested = self.peer.is_contested();
        let times = if contested { CONTESTED_PAUSE } else { 1 };
        self.backoff.set_range(min, max.saturating_mul(times));
    }

    /// Returns whether a stream to the backend must be opened now.
    pub(crate) fn wants_connect(&self, now: Time) -> bool {
        matches!(self.state, LinkState::Down { retry_at } if retry_at <= now)
    }

    /// Handles that an attempt to open a stream began.
    pub(crate) fn connecting(&mut self, now: Time) {
        if let LinkState::Down { .. } = self.state {
            self.state = LinkState::Connecting { since: now };
        }
    }

    /// Handles that the stream is open. Returns false if it already was.
    pub(crate) fn connected(&mut self, now: Time) -> bool {
        if self.is_up() {
            return false;
        }
        self.state = LinkState::Up { since: now };
        self.wants_close = false;
        self.peer.connected();
        self.proving.reset();
        true
    }

    /// Handles `bytes` from the backend, which are about to be read as packets.
    #[inline]
    fn handle_bytes(&mut self, bytes: &[u8]) {
        self.peer.take(bytes);
    }

    /// Returns false if the packet `body` shows that the peer is no backend, and the link must be dropped (SPEC 7.5(d)). The peer is judged
    /// until one of its packets was good.
    #[inline]
    fn accepts(&mut self, body: &[u8]) -> bool {
        !self.peer.judges() || self.judge(body)
    }

    #[cold]
    fn judge(&mut self, body: &[u8]) -> bool {
        let is_foreign = self.peer.judge(body) == Verdict::Foreign;
        self.wants_close |= is_foreign;
        !is_foreign
    }

    /// Handles that the backend has asked for version 3.
    pub(crate) fn trust(&mut self) {
        self.peer.trust();
    }

    /// Drops the link, whose backend does not ask for the version that is demanded (SPEC 34.4(d)).
    fn refuse(&mut self) {
        self.wants_close = true;
        self.peer.is_not_asking();
    }

    /// Drops the link, on which something is wrong. `is_new` tells whether the log does not have it yet that the backend does not ask.
    /// Returns whether the counts mean nothing any more.
    pub(crate) fn drop_for(&mut self, wrong: Wrong, is_new: impl FnOnce() -> bool) -> bool {
        match wrong {
            Wrong::NotAsked => {
                self.refuse();
                if is_new() {
                    tracing::warn!(
                        "{wrong}, which master.protocol or an earlier link of this run demands; nothing is sent to it. Still trying"
                    );
                }
                false
            }
            Wrong::Unproven => {
                self.wants_close = true;
                false
            }
            Wrong::Late => {
                self.wants_close = true;
                tracing::info!("{wrong}");
                false
            }
            Wrong::Early
            | Wrong::Acknowledged { .. }
            | Wrong::Miscounted { .. }
            | Wrong::Divided => {
                self.wants_close = true;
                tracing::warn!("{wrong}; the link is opened again, and begins anew");
                true
            }
        }
    }

    /// Handles that the backend does not share the secret (SPEC 34.5(d)). It is told, unless the link is to be dropped at once.
    pub(crate) fn refuse_secret(&mut self, drops: bool) {
        self.wants_close |= drops;
        self.peer.is_not_asking();
    }

    /// Handles a length above the limit: the start of the next packet is lost (SPEC 7.5(c)).
    #[cold]
    fn lose_framing(&mut self, error: FrameTooLong) {
        self.wants_close = true;
        self.peer.lose_framing(error);
    }

    /// Returns whether the last link showed that no backend is there, and this one has not shown otherwise (SPEC 7.6(i)).
    pub(crate) fn is_doubted(&self) -> bool {
        self.peer.is_doubted()
    }

    /// Returns when a doubted peer is trusted again: once it has been connected for the longest pause without sending malformed packets.
    fn believed_at(&self) -> Option<Time> {
        match self.state {
            LinkState::Up { since } if self.peer.is_doubted() && !self.peer.is_foreign() => {
                Some(since + self.pauses.1)
            }
            _ => None,
        }
    }

    /// Returns when an attempt must begin, the current one must be given up, or a peer is trusted again.
    pub(crate) fn deadline(&self) -> Option<Deadline> {
        let (at, reason) = match self.state {
            LinkState::Down { retry_at } => (retry_at, DeadlineReason::LinkRetry),
            LinkState::Connecting { since } if !self.wants_close => {
                (since + self.connect_timeout, DeadlineReason::LinkConnect)
            }
            LinkState::Connecting { .. } => return None,
            LinkState::Up { .. } => (self.believed_at()?, DeadlineReason::LinkBelief),
        };
        Some(Deadline { at, reason })
    }

    /// Gives up an attempt that takes too long, and trusts a peer that has stayed connected.
    pub(crate) fn handle_timeout(&mut self, now: Time) {
        if self.believed_at().is_some_and(|at| at <= now) {
            self.peer.believe();
        }
        if let LinkState::Connecting { since } = self.state
            && since + self.connect_timeout <= now
        {
            self.wants_close = true;
        }
    }

    /// Handles that the stream is gone or was never open: the state is `Down`, and the next attempt follows after a pause. Returns whether
    /// there was a stream, or `None` if the link was already down.
    pub(crate) fn closed(
        &mut self,
        now: Time,
        cause: Closed,
        rng: &mut ChaCha20Rng,
    ) -> Option<bool> {
        let lasted = match self.state {
            LinkState::Down { .. } => return None,
            LinkState::Connecting { .. } => None,
            LinkState::Up { since } => Some(now.since(since)),
        };
        let longest = self.backoff.max();
        // A backend that accepts a connection and drops it at once does not deserve a quick attempt.
        if self.peer.closed(lasted, longest, cause) {
            self.backoff.reset();
        }
        self.set_pauses();
        let retry_at = now + self.backoff.next_delay(rng);
        self.let_go(retry_at)
    }

    /// Forgets the stream: the state is `Down`, and the next attempt follows at `retry_at`. Nothing is learnt of the backend. Returns as
    /// [`closed`](Self::closed) does.
    pub(crate) fn let_go(&mut self, retry_at: Time) -> Option<bool> {
        let was_up = match self.state {
            LinkState::Down { .. } => return None,
            LinkState::Connecting { .. } => false,
            LinkState::Up { .. } => true,
        };
        self.state = LinkState::Down { retry_at };
        self.wants_close = false;
        self.proving.reset();
        self.reader = BusyFrameReader::default();
        Some(was_up)
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up { .. })
    }

    /// Returns whether bytes go both ways: the link is up, and must not be dropped.
    pub(crate) fn is_open(&self) -> bool {
        self.is_up() && !self.wants_close
    }
}

/// Reads the packets in `bytes`, which came from the link of `machine`, and passes each one to `handle` with the number of bytes behind it.
/// Returns false if the link must be dropped: framing is lost, or the peer is no backend.
#[inline]
pub(crate) fn read_packets<M>(
    machine: &mut M,
    link: impl Fn(&mut M) -> &mut Link,
    bytes: &[u8],
    mut handle: impl FnMut(&mut M, &[u8], usize),
) -> bool {
    // The reader is taken out so that a body can be borrowed from it while the machine handles it.
    let mut reader = mem::take(&mut link(machine).reader);
    link(machine).handle_bytes(bytes);
    let max_body = link(machine).max_body;
    let mut input = bytes;
    let is_good = loop {
        match reader.next_frame(&mut input, max_body) {
            Ok(Some(body)) => {
                handle(machine, body, input.len());
                if !link(machine).accepts(body) {
                    break false;
                }
            }
            Ok(None) => break true,
            Err(error) => {
                link(machine).lose_framing(error);
                break false;
            }
        }
    };
    link(machine).reader = reader;
    is_good
}

/// Returns the longest body of the backend: an id and a flag plus the largest packet. `u32::MAX` means no limit but the format's.
fn longest_body(config: &MasterConfig) -> u32 {
    let tag_bytes = u32::try_from(TAG_BYTES).unwrap_or(0);
    config.max_frame_bytes.saturating_add(tag_bytes)
}
