//! From a Hello to a session of version 3, and the entropy that this and resumes take (SPEC 20.6, 22).

use core::time::Duration;

use crate::protocol::{Code, EntropyStep, Joined, Progress, Ring, Settings};
use crate::queue::{Outbox, Retention};
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::config::ClientsConfig;
use crate::edge::conns::conn::ConnKey;
use crate::edge::conns::state::{Phase, State};
use crate::edge::contract::CloseKind;
use crate::edge::counters::CloseReason;
use crate::edge::lifecycle::last_words::Words;
use crate::edge::lifecycle::notices::Newcomer;
use crate::edge::memory::account::Pressure;
use crate::edge::sessions::{Identity, Numbered};
use crate::edge::shares::Bound;

/// How long a client is asked to wait for room.
pub(crate) const BUSY_WAIT: Duration = Duration::from_secs(1);

impl Edge {
    /// Returns whether the next step of this connection needs entropy.
    pub(crate) fn client_wants_entropy(&self, conn: ConnKey) -> bool {
        let conn = self.conns.find(conn);
        conn.is_some_and(|conn| matches!(conn.state(), State::Handshake(Phase::Entropy { .. })))
    }

    /// Takes the step of this connection for which [`Duty::Entropy`](crate::edge::Duty::Entropy) asked. `random` must come from the operating
    /// system for this call: a generator that lives longer than a step would draw the same in two copies of one machine (SPEC 20.6(a)).
    pub fn handle_entropy(&mut self, now: Time, conn: ConnKey, random: [u8; 32]) {
        noted!(
            self,
            now,
            Entropy {
                conn,
                random: &random
            }
        );
        self.step(now, |edge, now| {
            if edge.client_wants_entropy(conn) {
                edge.take_entropy(now, conn.0.index, random);
            }
        });
    }

    fn take_entropy(&mut self, now: Time, index: u32, random: [u8; 32]) {
        let (opening, _) = self.conns.live_mut(index).opening();
        match opening.numbered().next_step() {
            EntropyStep::Welcome => self.welcome(now, index, random),
            EntropyStep::Refusal => self.answer_refusal(now, index, random),
            EntropyStep::Resume => self.judge_early(now, index, random),
        }
        self.conns.recount(index, &mut self.account);
        self.shed_load(now);
    }

    /// Waits for entropy for the next step of the connection at `index`.
    pub(crate) fn want_entropy(&mut self, now: Time, index: u32, claims: bool) {
        let entropy = State::Handshake(Phase::Entropy { claims });
        self.conns.enter(index, entropy, now);
        self.conns.mark_ready(index);
    }

    /// Returns why no newcomer may begin now, if so.
    pub(crate) fn refuses_newcomer(&self) -> Option<CloseReason> {
        #[cfg(feature = "backends")]
        if self.is_backend_draining() {
            return Some(CloseReason::Shutdown);
        }
        if self.is_draining {
            Some(CloseReason::Shutdown)
        } else if self.session_places() >= self.shares.most(Bound::Sessions) {
            Some(CloseReason::TooManySessions)
        } else if !self.has_place_for_newcomer() {
            Some(CloseReason::TooManyConnections)
        } else if self.pressure() >= Pressure::Full {
            Some(CloseReason::Memory)
        } else {
            None
        }
    }

    /// Answers the Hello of the connection at `index`. No session begins yet.
    fn welcome(&mut self, now: Time, index: u32, random: [u8; 32]) {
        let id = match self.refuses_newcomer() {
            None => self.ids.next(),
            Some(_) => None,
        };
        let (opening, control) = self.conns.live_mut(index).opening();
        let Some(id) = id else {
            opening.busy(millis(BUSY_WAIT), control);
            return self.end_opening(now, index, CloseReason::Refused);
        };
        let (run, clients) = (self.run, &self.config.clients);
        let features = offered_to(&self.config);
        let settings = |master: &crate::protocol::Master, mask| Settings {
            id,
            claim_key: master.claim_key(id),
            handle: master.mask(id, mask),
            run,
            features,
            longest_packet_up: clients.max_frame_bytes,
            ring_packets: ring_of(clients).packets,
            ring_bytes: ring_of(clients).bytes,
            window_secs: seconds(clients.stale_timeout),
            ack_delay_ms: u16::try_from(clients.ack_delay.as_millis()).unwrap_or(u16::MAX),
            keep_alive_secs: u16::try_from(seconds(clients.keep_alive)).unwrap_or(u16::MAX),
        };
        match opening.welcome(&self.offer, random, settings, control) {
            Ok(()) => {
                self.conns.enter(index, State::Handshake(Phase::Token), now);
                self.conns.mark_ready(index);
                self.resume_reading(now, index);
            }
            Err(fault) => self.close_conn(now, index, CloseKind::Graceful, fault.into()),
        }
    }

    /// Begins a session with the Join record `body` on the connection at `index` (SPEC 22(d)).
    pub(crate) fn begin_numbered(
        &mut self,
        now: Time,
        index: u32,
        body: &[u8],
    ) -> Result<(), CloseReason> {
        let (opening, _) = self.conns.live_mut(index).opening();
        let Ok(joined) = opening.numbered().join(body) else {
            return Err(CloseReason::BadRecord);
        };
        let refused = match (joined.fault, self.refuses_newcomer()) {
            (Some((code, detail)), _) => Some((code, detail, CloseReason::ProtocolError)),
            (None, Some(_)) => Some((Code::BUSY, 0, CloseReason::Refused)),
            (None, None) => None,
        };
        if let Some((code, detail, reason)) = refused {
            self.refuse_join(now, index, joined, &Words::new(code, detail), reason);
            return Ok(());
        }
        let Joined {
            id,
            standing,
            channel,
            longest_up,
            longest_down,
            ring,
            token,
            exporter,
            #[cfg(feature = "cluster")]
            features,
            ..
        } = joined;
        let numbered = Numbered {
            standing,
            progress: Progress::new(ring),
            cause: Code::GOODBYE,
            longest_up,
            longest_down,
            gives_up: false,
            #[cfg(feature = "cluster")]
            features,
        };
        let identity = Identity::Chain(Box::new(numbered));
        let session = self
            .sessions
            .insert(now, id, identity, index)
            .ok_or(CloseReason::TooManySessions)?;
        self.count_joined(now, index);
        let mut channel = channel;
        channel.outbound().pad_records(self.config.clients.padding);
        let newcomer = Newcomer {
            version: 3,
            exporter,
            token: &token,
        };
        self.tell_joined(index, session, &newcomer);
        self.establish(now, index, session, channel.into());
        tracing::debug!(conn = index, %id, "joined");
        Ok(())
    }

    /// Answers a Join record with CLOSE. No session begins.
    fn refuse_join(
        &mut self,
        now: Time,
        index: u32,
        mut joined: Joined,
        words: &Words,
        reason: CloseReason,
    ) {
        let mut outbox = Outbox::new(Retention::UntilAcked);
        let mut progress = Progress::new(joined.ring);
        let close = words.close("");
        joined
            .channel
            .close(&close, false, &mut outbox, &mut progress);
        let conn = self.conns.live_mut(index);
        conn.say_in_opening(joined.channel.wire());
        self.end_opening(now, index, reason);
    }
}

/// Returns the features that a Welcome grants to those who ask for them.
fn offered_to(_config: &crate::edge::config::EdgeConfig) -> u32 {
    #[cfg(feature = "cluster")]
    if _config.home > 0 && _config.master.link_protocol() != crate::edge::config::LinkProtocol::V2 {
        return crate::protocol::FEATURE_TICKETS;
    }
    0
}

/// Returns the ring of a session that begins now.
fn ring_of(clients: &ClientsConfig) -> Ring {
    Ring {
        packets: clients.ring_packets.max(1),
        bytes: clients.ring_bytes,
    }
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

/// Returns a time as a Busy, an Answer or a CLOSE has it.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
