//! What a transport does below the client link: TLS or WebSocket (SPEC 16.5). The machine knows it as numbers alone.

use crate::time::Time;

use crate::edge::Edge;
use crate::edge::config::Enforce;
use crate::edge::conns::conn::ConnKey;
use crate::edge::conns::state::{Stage, State};
use crate::edge::counters::CloseReason;
use crate::edge::door::sources::interval;

impl Edge {
    /// Handles that the transport of this client read `bytes` bytes that are none of the client link, such as headers and control frames.
    /// They count towards its pace (SPEC 16.5(a)).
    pub fn handle_client_overhead(&mut self, now: Time, conn: ConnKey, bytes: usize) {
        noted!(self, now, Overhead { conn, bytes });
        self.step(now, |edge, now| {
            let state = edge.conns.find(conn).map(|found| found.state());
            if let Some(State::Established { .. }) = state {
                edge.pace(now, conn.0.index, 0, bytes);
            }
        });
    }

    /// Handles that the transport of this client now holds `bytes` bytes: those that it has read and not given, and those that it has taken
    /// and not sent. They count as memory of the connection (SPEC 10.5).
    pub fn handle_client_held(&mut self, now: Time, conn: ConnKey, bytes: usize) {
        noted!(self, now, Held { conn, bytes });
        self.step(now, |edge, now| edge.recount_transport(now, conn, bytes));
    }

    fn recount_transport(&mut self, now: Time, conn: ConnKey, bytes: usize) {
        let Some(found) = self.conns.find_mut(conn) else {
            return;
        };
        if found.state().stage() == Stage::Closed {
            return;
        }
        found.transport_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.conns.recount(conn.0.index, &mut self.account);
        self.shed_load(now);
    }

    /// Asks whether one more costly handshake of a transport, such as the key exchange of TLS, may be made now (SPEC 16.5(b)). It counts
    /// towards `handshake_rate` if so.
    ///
    /// # Errors
    /// When to ask again, if not.
    pub fn admit_handshake(&mut self, now: Time) -> Result<(), Time> {
        noted!(self, now, AdmitHandshake);
        told!(
            self,
            self.step(now, |edge, now| edge.take_handshake(now)),
            |admitted| admitted.is_ok().into()
        )
    }

    fn take_handshake(&mut self, now: Time) -> Result<(), Time> {
        let limits = &self.config.limits;
        let (burst, every) = (limits.handshake_burst, interval(limits.handshake_rate));
        if limits.handshake_rate == 0 || limits.enforce_accepts == Enforce::Off {
            return Ok(());
        }
        if self.shares.handshakes().take(now, burst, every) {
            return Ok(());
        }
        self.counters.handshakes_paced += 1;
        match limits.enforce_accepts {
            Enforce::On => Err(now + every),
            Enforce::Report | Enforce::Off => Ok(()),
        }
    }

    /// Returns why the edge closed this connection, once [`client_duty`](Edge::client_duty) has told how.
    #[must_use]
    pub fn close_reason(&self, conn: ConnKey) -> Option<CloseReason> {
        self.conns.find(conn)?.close_reason
    }

    /// Counts that the client at `index` broke the rules of its transport, and charges its source.
    pub(crate) fn count_violation(&mut self, now: Time, index: u32) {
        if self.conns.live(index).state().stage() == Stage::Closed {
            return;
        }
        self.counters.count_closed(CloseReason::BadTransport);
        self.punish(now, index, CloseReason::BadTransport);
    }
}
