//! The desk: the running edge as the calls reach it.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use voltlane_core::Time;
use voltlane_core::edge::Edge;
use voltlane_driver::{Errands, Peers};

use super::ban_file::{self, Ban};
use super::request::Refusal;
use crate::commands::InEffect;
use crate::config::Settings;
use crate::metrics::{Exchange, Snapshot};
#[cfg(feature = "engine")]
use crate::shared_bans::Sharing;

/// How long a shard may take to answer before it counts as stuck.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The running edge, as the admin interface sees it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Desk(Arc<Inner>);

struct Inner {
    /// The machine of each shard, once all serve.
    shards: OnceLock<Vec<Errands>>,
    exchange: Exchange,
    in_effect: Arc<Mutex<InEffect>>,
    began: Instant,
    #[cfg(feature = "engine")]
    sharing: OnceLock<Sharing>,
}

impl Desk {
    /// Creates the desk of an edge. `exchange` asks for its numbers, and `in_effect` is kept up to date by it.
    pub(crate) fn new(exchange: Exchange, in_effect: Arc<Mutex<InEffect>>) -> Desk {
        Desk(Arc::new(Inner {
            shards: OnceLock::new(),
            exchange,
            in_effect,
            began: Instant::now(),
            #[cfg(feature = "engine")]
            sharing: OnceLock::new(),
        }))
    }

    /// Sets the machines of the shards, in their order. They serve from now on.
    pub(crate) fn serves(&self, shards: Vec<Errands>) {
        // It is called once.
        let _ = self.0.shards.set(shards);
    }

    /// Bans what the file of bans says, once: the shards serve by then. What it cannot read is an error of the log, as the edge serves
    /// already.
    pub(super) fn load_bans(&self) {
        let path = self.settings().admin.ban_file;
        let loaded = path.map(|path| {
            ban_file::load(self, &path).unwrap_or_else(|error| {
                tracing::error!(%error, path = %path.display(), "earlier bans are not in effect");
                Vec::new()
            })
        });
        self.begin_sharing(loaded.unwrap_or_default());
    }

    /// Sets what shares the bans of this edge, once.
    #[cfg(feature = "engine")]
    pub(crate) fn shares(&self, sharing: Sharing) {
        let _ = self.0.sharing.set(sharing);
    }

    /// Begins to share the bans of this edge, which has these, if that is configured.
    pub(crate) fn begin_sharing(&self, _bans: Vec<Ban>) {
        #[cfg(feature = "engine")]
        if let Some(sharing) = self.0.sharing.get() {
            sharing.begin(self.clone(), _bans);
        }
    }

    /// Tells the other edges of a ban. Returns whether it is shared. `None`: this edge shares none.
    pub(super) fn share_ban(&self, _ban: &Ban) -> Option<bool> {
        #[cfg(feature = "engine")]
        return self.0.sharing.get().map(|sharing| sharing.ban(_ban));
        #[cfg(not(feature = "engine"))]
        None
    }

    /// Tells the other edges that a ban is lifted. Returns whether it was shared.
    pub(super) fn share_lift(&self, _network: IpNet) -> bool {
        #[cfg(feature = "engine")]
        return (self.0.sharing.get()).is_some_and(|sharing| sharing.lift(_network));
        #[cfg(not(feature = "engine"))]
        false
    }

    /// Returns the networks whose bans are shared, with the homes of the edges at which they were made.
    pub(super) fn homes(&self) -> BTreeMap<IpNet, u16> {
        #[cfg(feature = "engine")]
        return self.0.sharing.get().map(Sharing::homes).unwrap_or_default();
        #[cfg(not(feature = "engine"))]
        BTreeMap::new()
    }

    /// Writes the bans to their file, if they have one.
    pub(crate) fn keep_bans(&self) -> Result<(), Refusal> {
        let file = self.settings().admin.ban_file;
        file.map_or(Ok(()), |file| ban_file::save(self, &file))
    }

    pub(super) fn began(&self) -> Instant {
        self.0.began
    }

    /// Returns the configuration in effect.
    pub(crate) fn settings(&self) -> Settings {
        self.in_effect().settings.clone()
    }

    /// Returns the names of the listeners, by their numbers in the machine.
    pub(super) fn names(&self) -> Vec<String> {
        self.in_effect().names.clone()
    }

    fn in_effect(&self) -> MutexGuard<'_, InEffect> {
        let in_effect = self.0.in_effect.lock();
        in_effect.unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of shards that serve.
    pub(super) fn shards(&self) -> usize {
        self.0.shards.get().map_or(0, Vec::len)
    }

    /// Returns the numbers of each loop.
    pub(super) fn numbers(&self) -> Result<Vec<Snapshot>, Refusal> {
        let numbers = self.0.exchange.ask_each(PATIENCE);
        numbers.ok_or_else(|| Refusal::new(503, "the edge does not answer"))
    }

    /// Has a shard do something with its machine, and returns what comes of it. It must be bounded.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        shard: usize,
        errand: impl FnOnce(&mut Edge, Time) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        self.ask_with_peers(shard, move |edge, now, _| errand(edge, now))
    }

    /// Like [`ask`](Self::ask), for an errand that asks for what is known of a client beside the machine as well.
    pub(super) fn ask_with_peers<T: Send + 'static>(
        &self,
        shard: usize,
        errand: impl FnOnce(&mut Edge, Time, &dyn Peers) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let shards = self.0.shards.get();
        let machine = shards.and_then(|shards| shards.get(shard));
        let machine = machine.ok_or_else(|| Refusal::new(404, "there is no such shard"))?;
        let (tell, told) = mpsc::sync_channel(1);
        let is_sent = machine.send_with_peers(move |edge, now, peers| {
            // Whoever asked may have given up.
            let _ = tell.send(errand(edge, now, peers));
        });
        if !is_sent {
            return Err(Refusal::new(503, "the shard has too much to do"));
        }
        told.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => Refusal::new(503, "the shard does not answer"),
            RecvTimeoutError::Disconnected => Refusal::new(503, "the shard has ended"),
        })
    }
}
