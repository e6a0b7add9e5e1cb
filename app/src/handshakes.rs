//! How long the handshakes of TLS of a listener took.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use voltlane_core::edge::Histogram;
use voltlane_doors::{HandshakeEnd, TellHandshake};

/// How long handshakes took, by how they ended. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handshakes(Arc<[Mutex<Histogram>; HandshakeEnd::ALL.len()]>);

impl Handshakes {
    /// Returns what counts them, from any thread.
    pub(crate) fn counter(&self) -> TellHandshake {
        let own = self.clone();
        TellHandshake::new(move |end, took| {
            let place = HandshakeEnd::ALL.iter().position(|known| *known == end);
            if let Some(times) = place.and_then(|place| own.0.get(place)) {
                lock(times).record(took);
            }
        })
    }

    /// Returns the times of each end, by its name.
    pub(crate) fn times(&self) -> Vec<(&'static str, Histogram)> {
        let all = HandshakeEnd::ALL.iter().zip(&*self.0);
        all.map(|(end, times)| (end.name(), lock(times).clone()))
            .collect()
    }
}

fn lock(times: &Mutex<Histogram>) -> MutexGuard<'_, Histogram> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}
