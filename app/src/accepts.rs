//! What the listeners tell of themselves, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use voltlane_core::edge::Histogram;

use crate::config::ListenerName;
#[cfg(feature = "tls")]
use crate::handshakes::Handshakes;

/// What is told of one listener.
pub(crate) struct Count {
    pub(crate) name: ListenerName,
    pub(crate) accepts: Arc<AtomicU64>,
    pub(crate) expires: Option<u64>,
    pub(crate) lists_expire: Option<u64>,
    #[cfg(feature = "tls")]
    pub(crate) handshakes: Option<Handshakes>,
}

/// How many connections each listener has accepted.
#[derive(Clone, Default)]
pub(crate) struct Accepts(Arc<Mutex<Vec<Count>>>);

impl Accepts {
    /// Publishes which listeners there are.
    pub(crate) fn publish(&self, listeners: Vec<Count>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = listeners;
    }

    /// Returns the number of each listener.
    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = all.iter();
        let counts = counts.map(|of| (of.name.to_string(), of.accepts.load(Ordering::Relaxed)));
        counts.collect()
    }

    /// Returns when the certificates of each listener that has some expire, in seconds since 1970.
    pub(crate) fn expiries(&self) -> Vec<(String, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expiries = all.iter();
        let expiries = expiries.filter_map(|of| Some((of.name.to_string(), of.expires?)));
        expiries.collect()
    }

    /// Returns when the lists of revoked certificates of each listener that has some are out of date, in seconds since 1970.
    pub(crate) fn list_expiries(&self) -> Vec<(String, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expiries = all.iter();
        let expiries = expiries.filter_map(|of| Some((of.name.to_string(), of.lists_expire?)));
        expiries.collect()
    }

    /// Returns how long handshakes of TLS took at each listener that has it, by how they ended.
    #[cfg(feature = "tls")]
    pub(crate) fn handshakes(&self) -> Vec<(String, &'static str, Histogram)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = |of: &Count| {
            let times = of.handshakes.iter().flat_map(Handshakes::times);
            let times = times.map(|(end, times)| (of.name.to_string(), end, times));
            times.collect::<Vec<_>>()
        };
        all.iter().flat_map(of_one).collect()
    }

    /// As there is no TLS, there are none.
    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "as with TLS")]
    pub(crate) fn handshakes(&self) -> Vec<(String, &'static str, Histogram)> {
        Vec::new()
    }
}
