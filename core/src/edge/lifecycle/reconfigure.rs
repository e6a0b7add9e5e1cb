//! Changes the configuration of a running edge (SPEC 10.8).

use core::mem;

use crate::time::Time;

use crate::edge::Edge;
use crate::edge::config::EdgeConfig;
use crate::edge::conns::state::State;
use crate::edge::conns::wait::{Slot, Wait};
use crate::edge::shares::Bound;

impl Edge {
    /// Changes the whole configuration in this step: what was handled before followed the old one, what comes later follows the new one.
    /// [`EdgeConfig::shard`], [`EdgeConfig::shards`] and the home describe what the machine is, and do not change.
    ///
    /// If a bound becomes smaller, what exceeds it stays until the bound is next checked, as for a queue with its next packet. Running
    /// deadlines count from where they began. The cost is a walk over all connections.
    pub fn handle_config(&mut self, now: Time, config: EdgeConfig) {
        noted!(self, now, Config(std::borrow::Cow::Borrowed(&config)));
        self.step(now, |edge, now| edge.change_config(now, config));
    }

    fn change_config(&mut self, now: Time, config: EdgeConfig) {
        let config = EdgeConfig {
            shard: self.config.shard,
            shards: self.config.shards,
            #[cfg(feature = "cluster")]
            home: self.config.home,
            ..config
        };
        let old = mem::replace(&mut self.config, config);
        self.shares.set_bounds(&self.config);
        self.account.set_bound(self.shares.own(Bound::Memory));
        self.forget_listeners();
        self.uplink.set_bounds(&self.config);
        self.link_queue.set_bounds(&self.config.master);
        let mut from = 0;
        while let Some(index) = self.conns.next_from(from) {
            self.rearm(now, index, &old);
            from = index + 1;
        }
        #[cfg(feature = "backends")]
        self.repin_changed();
        // The link may have more room than before.
        self.serve_line(now);
    }

    /// Forgets what was counted for listeners that are gone with their connections.
    fn forget_listeners(&self) {
        let config = &self.config;
        let numbers = 0..=config.more_listeners.len();
        let is_used = |account| {
            numbers
                .clone()
                .any(|number| config.account_of(number) == account)
        };
        self.shares.listeners().forget_unused(is_used);
    }

    /// Updates the timers of the connection at `index` whose duration became endless or finite: only armed timers are checked. A duration
    /// that stays finite needs nothing, since a timer stores when it was armed and not when it ends.
    fn rearm(&mut self, now: Time, index: u32, old: &EdgeConfig) {
        let (clients, limits) = (&self.config.clients, &self.config.limits);
        let conn = self.conns.live_mut(index);
        let session = match conn.state() {
            State::Handshake(_) => {
                let endless = limits.handshake_timeout.is_zero();
                if endless {
                    self.conns.disarm(Slot::Read, index);
                } else if !conn.waits_for(Wait::Handshake) {
                    self.watch_handshake(now, index);
                }
                return;
            }
            State::Established { session } => *session,
            State::Draining(_) | State::Closed(_) => return,
        };
        if clients.pace != old.clients.pace || clients.enforce_pace != old.clients.enforce_pace {
            // Its debt was computed with other rates.
            conn.pace = None;
            if conn.waits_for(Wait::Pace) {
                self.conns.disarm(Slot::Next, index);
                self.conns.mark_ready(index);
            }
        }
        let clients = &self.config.clients;
        let conn = self.conns.live(index);
        let entry = self.sessions.live(session);
        let (queued, stalled) = (
            conn.has_output(&entry.outbox, entry.numbers()),
            conn.waits_for(Wait::Write),
        );
        let runs_on = (conn.waits_for(Wait::Frame) && !clients.frame_timeout.is_zero())
            || (conn.waits_for(Wait::Idle) && !clients.idle_timeout.is_zero());
        // A frame that is not read is not late.
        let is_read = !entry.waiting && !conn.waits_for(Wait::Pace);
        if is_read && !runs_on {
            self.conns.disarm(Slot::Read, index);
            self.watch_reads(now, index, true);
        }
        if self.config.clients.write_timeout.is_zero() {
            self.conns.disarm(Slot::Write, index);
        } else if queued && !stalled {
            self.watch_writes(now, index);
        }
    }
}
