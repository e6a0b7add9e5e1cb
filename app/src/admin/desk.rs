//! The desk: the running edge as the calls reach it.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use voltlane_core::Time;
use voltlane_core::edge::Edge;
use voltlane_driver::{Errands, Peers};

use super::ban_file;
use super::request::Refusal;
use crate::commands::InEffect;
use crate::config::Settings;
use crate::metrics::{Exchange, Snapshot};

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
}

impl Desk {
    /// Creates the desk of an edge. `exchange` asks for its numbers, and `in_effect` is kept up to date by it.
    pub(crate) fn new(exchange: Exchange, in_effect: Arc<Mutex<InEffect>>) -> Desk {
        Desk(Arc::new(Inner {
            shards: OnceLock::new(),
            exchange,
            in_effect,
            began: Instant::now(),
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
        let Some(path) = self.settings().admin.ban_file else {
            return;
        };
        if let Err(error) = ban_file::load(self, &path) {
            tracing::error!(%error, path = %path.display(), "earlier bans are not in effect");
        }
    }

    pub(super) fn began(&self) -> Instant {
        self.0.began
    }

    /// Returns the configuration in effect.
    pub(super) fn settings(&self) -> Settings {
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
    pub(super) fn ask<T: Send + 'static>(
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
