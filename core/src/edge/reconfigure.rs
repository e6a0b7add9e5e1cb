//! Another configuration while it runs (SPEC 10.8).

use core::mem;

use crate::time::Time;

use super::Edge;
use super::config::EdgeConfig;
use super::shares::Bound;
use super::state::State;
use super::wait::{Slot, Wait};

impl Edge {
    /// Takes another configuration, whole, in this step: what was handled before it was handled by the old one, what comes after it by
    /// the new one. [`EdgeConfig::shard`] and [`EdgeConfig::shards`] are what the machine is, not what it does, and stay.
    ///
    /// What is beyond a bound that became smaller stays until the bound is looked at next: a queue, with the next packet for it.
    /// Deadlines that run count from where they began. It costs a walk over all connections.
    pub fn handle_config(&mut self, now: Time, config: EdgeConfig) {
        let now = self.advance(now);
        let config = EdgeConfig {
            shard: self.config.shard,
            shards: self.config.shards,
            ..config
        };
        let old = mem::replace(&mut self.config, config);
        self.shares.set_bounds(&self.config);
        self.account.set_bound(self.shares.own(Bound::Memory));
        self.link.set_bounds(&self.config.master);
        let mut from = 0;
        while let Some(index) = self.conns.next_from(from) {
            self.rearm(now, index, &old);
            from = index + 1;
        }
        // There may be more room on the link than before.
        self.serve_line(now);
        self.settle();
    }

    /// The timers of the connection at `index`, where a duration became endless or ceased to be: one that runs out is looked for only
    /// where its timer was armed. What is still finite needs nothing, since a timer knows when it was armed and not when it ends.
    fn rearm(&mut self, now: Time, index: u32, old: &EdgeConfig) {
        let (clients, limits) = (&self.config.clients, &self.config.limits);
        let conn = self.conns.live_mut(index);
        let session = match conn.state() {
            State::Handshake(_) => {
                let endless = limits.handshake_timeout.is_zero();
                if endless {
                    self.conns.disarm(Slot::Read, index);
                } else if !conn.waits_for(Wait::Handshake) {
                    self.conns.arm(Wait::Handshake, index, now);
                }
                return;
            }
            State::Established { session } => *session,
            State::Draining(_) | State::Closed(_) => return,
        };
        if clients.pace != old.clients.pace || clients.enforce_pace != old.clients.enforce_pace {
            // What it owes was reckoned at other rates.
            conn.pace = None;
            if conn.waits_for(Wait::Pace) {
                self.conns.disarm(Slot::Step, index);
                self.conns.mark_ready(index);
            }
        }
        let clients = &self.config.clients;
        let conn = self.conns.live(index);
        let entry = self.sessions.live(session);
        let (queued, stalled) = (!entry.queue.is_empty(), conn.waits_for(Wait::Write));
        let runs_on = (conn.waits_for(Wait::Frame) && !clients.frame_timeout.is_zero())
            || (conn.waits_for(Wait::Idle) && !clients.idle_timeout.is_zero());
        // What is not read is not late.
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
