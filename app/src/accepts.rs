//! The figures of listeners, for the metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use voltlane_core::edge::Histogram;

use crate::config::ListenerName;
#[cfg(feature = "tls")]
use crate::handshakes::Handshakes;
#[cfg(feature = "websocket")]
use crate::upgrade_refusals::UpgradeRefusals;

/// The figures of one listener.
pub(crate) struct Count {
    pub(crate) name: ListenerName,
    pub(crate) accepts: Arc<AtomicU64>,
    pub(crate) expires: Option<u64>,
    pub(crate) lists_expire: Option<u64>,
    #[cfg(feature = "tls")]
    pub(crate) handshakes: Option<Handshakes>,
    #[cfg(feature = "websocket")]
    pub(crate) refusals: Option<UpgradeRefusals>,
}

/// The figures of all listeners. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Accepts(Arc<Mutex<Vec<Count>>>);

impl Accepts {
    /// Publishes which listeners there are.
    pub(crate) fn publish(&self, listeners: Vec<Count>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = listeners;
    }

    /// Returns a figure of each listener that has it, by the listener's name.
    fn of_each<T>(&self, figure: impl Fn(&Count) -> Option<T>) -> Vec<(String, T)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = all.iter();
        let figures = figures.filter_map(|of| Some((of.name.to_string(), figure(of)?)));
        figures.collect()
    }

    /// Returns how many connections each listener has accepted.
    pub(crate) fn counts(&self) -> Vec<(String, u64)> {
        self.of_each(|of| Some(of.accepts.load(Ordering::Relaxed)))
    }

    /// Returns when the certificates of each listener that has some expire, in seconds since 1970.
    pub(crate) fn expiries(&self) -> Vec<(String, u64)> {
        self.of_each(|of| of.expires)
    }

    /// Returns when the lists of revoked certificates of each listener that has some are out of date, in seconds since 1970.
    pub(crate) fn list_expiries(&self) -> Vec<(String, u64)> {
        self.of_each(|of| of.lists_expire)
    }

    /// Returns how long handshakes of TLS took at each listener that has it, by how they ended.
    #[cfg(feature = "tls")]
    pub(crate) fn handshakes(&self) -> Vec<(String, &'static str, Histogram)> {
        let all = self.of_each(|of| of.handshakes.as_ref().map(Handshakes::times));
        let of_one = |(name, times): (String, Vec<(&'static str, Histogram)>)| {
            let times = times.into_iter();
            times.map(move |(end, times)| (name.clone(), end, times))
        };
        all.into_iter().flat_map(of_one).collect()
    }

    /// Returns how many requests for WebSocket each listener that has it has refused, by the reason.
    #[cfg(feature = "websocket")]
    pub(crate) fn refusals(&self) -> Vec<(String, &'static str, u64)> {
        let all = self.of_each(|of| of.refusals.as_ref().map(UpgradeRefusals::counts));
        let of_one = |(name, counts): (String, Vec<(&'static str, u64)>)| {
            let counts = counts.into_iter();
            counts.map(move |(reason, count)| (name.clone(), reason, count))
        };
        all.into_iter().flat_map(of_one).collect()
    }

    /// As there is no WebSocket, there are none.
    #[cfg(not(feature = "websocket"))]
    #[expect(clippy::unused_self, reason = "as with WebSocket")]
    pub(crate) fn refusals(&self) -> Vec<(String, &'static str, u64)> {
        Vec::new()
    }

    /// As there is no TLS, there are none.
    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "as with TLS")]
    pub(crate) fn handshakes(&self) -> Vec<(String, &'static str, Histogram)> {
        Vec::new()
    }
}
