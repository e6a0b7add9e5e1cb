//! What is counted for each listener: its connections, and the pace at which it accepts them (SPEC 10.6(k)).

use core::time::Duration;
use std::collections::BTreeMap;

use crate::time::Time;

use crate::edge::config::ListenerConfig;
use crate::edge::door::limits::Bucket;
use crate::edge::door::sources::interval;

/// The counts of all listeners that have connections, or had some lately, by their accounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners(BTreeMap<u16, Counts>);

image!(Listeners { 0 });

#[derive(Clone, Copy, Debug)]
struct Counts {
    connections: usize,
    accepts: Bucket,
}

image!(Counts {
    connections,
    accepts
});

impl Default for Counts {
    fn default() -> Self {
        Counts {
            connections: 0,
            accepts: Bucket::full(Time::ZERO),
        }
    }
}

/// The pace of a listener that has one.
fn pace(config: &ListenerConfig) -> Option<(u32, Duration)> {
    let burst = match config.accept_burst {
        0 => config.accept_rate,
        burst => burst,
    };
    (config.accept_rate > 0).then(|| (burst, interval(config.accept_rate)))
}

impl Listeners {
    /// Counts one more connection of this account. Returns false, and counts nothing, if it has as many as it may.
    pub(crate) fn enter(&mut self, account: u16, config: &ListenerConfig) -> bool {
        let counts = self.0.entry(account).or_default();
        let has_place = config.max_connections == 0 || counts.connections < config.max_connections;
        counts.connections += usize::from(has_place);
        has_place
    }

    /// Counts a connection of another process, whatever this account may have.
    #[cfg(feature = "upgrade")]
    pub(crate) fn join(&mut self, account: u16) {
        self.0.entry(account).or_default().connections += 1;
    }

    /// Handles that a connection that was counted is gone.
    pub(crate) fn leave(&mut self, account: u16) {
        if let Some(counts) = self.0.get_mut(&account) {
            counts.connections = counts.connections.saturating_sub(1);
        }
    }

    /// Returns whether this account may accept one more at its pace.
    pub(crate) fn is_in_pace(&mut self, now: Time, account: u16, config: &ListenerConfig) -> bool {
        pace(config).is_none_or(|(burst, every)| {
            let counts = self.0.entry(account).or_default();
            counts.accepts.has_one(now, burst, every)
        })
    }

    /// Counts an accept towards the pace of this account.
    pub(crate) fn take(&mut self, now: Time, account: u16, config: &ListenerConfig) {
        if let Some((burst, every)) = pace(config) {
            self.0
                .entry(account)
                .or_default()
                .accepts
                .take(now, burst, every);
        }
    }

    /// Forgets accounts that have no connection left and are not `used` by a listener.
    pub(crate) fn forget_unused(&mut self, used: impl Fn(u16) -> bool) {
        self.0
            .retain(|&account, counts| counts.connections > 0 || used(account));
    }

    /// Returns the number of connections of this account.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn connections(&self, account: u16) -> usize {
        self.0.get(&account).map_or(0, |counts| counts.connections)
    }

    /// Returns the number of accounts that are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
