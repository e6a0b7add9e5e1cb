//! The sessions of a process that go on in the next one.

#[cfg(feature = "snapshot")]
mod kept {
    use std::path::PathBuf;
    use std::sync::{Arc, Mutex, PoisonError};
    use std::time::Duration;

    use tracing::{info, warn};
    use voltlane_core::Time;
    use voltlane_core::edge::trunk::Trunk;
    use voltlane_core::edge::{Edge, Part, Snapshot};
    use voltlane_core::keys::KeyPair;

    use super::{SavesBackends, named, saves_backends};
    use crate::commands::random;
    use crate::config::Settings;
    use crate::file_errors;
    use crate::runs_file::RunsFile;
    use crate::snapshot_file;

    /// Where sessions are saved at the end, and what each machine has saved so far.
    #[derive(Clone)]
    pub(in crate::commands::run) struct Keeping(Option<Arc<Kept>>);

    struct Kept {
        path: PathBuf,
        keys: KeyPair,
        parts: Mutex<Vec<Part>>,
        /// The snapshot of the last process, until the machines have it.
        snapshot: Mutex<Option<Snapshot>>,
        /// Saves the names and the sessions on their way of several backends. `None` with one backend.
        backends: Mutex<Option<SavesBackends>>,
    }

    impl Keeping {
        /// Takes what the last process has saved, if sessions are to be saved. `runs` are the runs of this edge.
        pub(in crate::commands::run) fn begin(
            settings: &Settings,
            keys: &KeyPair,
            runs: Option<&RunsFile>,
            takes_over: bool,
        ) -> Keeping {
            let Some(path) = settings.general.snapshot_file.clone() else {
                return Keeping(None);
            };
            let kept = |path, snapshot| {
                Keeping(Some(Arc::new(Kept {
                    path,
                    keys: keys.clone(),
                    parts: Mutex::default(),
                    snapshot: Mutex::new(snapshot),
                    backends: Mutex::default(),
                })))
            };
            if takes_over {
                // The sessions come from a process, and not from its file.
                return kept(path, None);
            }
            let Some(runs) = runs else {
                warn!(
                    "sessions do not go on and are not saved, since the runs of this edge are not kept"
                );
                return Keeping(None);
            };
            let window = Duration::from_secs(settings.clients.stale_timeout_secs.into());
            let snapshot = match snapshot_file::take(&path, keys, runs.last(), window) {
                Ok(snapshot) => snapshot.map(|snapshot| named(snapshot, settings)),
                Err(error) => {
                    file_errors::count(file_errors::Kept::Snapshot);
                    warn!(%error, "the sessions of the last process do not go on");
                    None
                }
            };
            if let Some(snapshot) = &snapshot {
                let sessions = snapshot.sessions();
                info!(sessions, path = %path.display(), "the sessions of the last process go on");
            }
            kept(path, snapshot)
        }

        /// Gives the machines, of which there is no client yet, the sessions of the last process.
        pub(in crate::commands::run) fn restore(
            &self,
            now: Time,
            trunks: &mut [Trunk],
            shards: &mut [Edge],
            settings: &Settings,
        ) {
            let Some(kept) = &self.0 else { return };
            let snapshot = kept.snapshot.lock();
            let snapshot = snapshot.unwrap_or_else(PoisonError::into_inner).take();
            let backends = shards
                .first()
                .and_then(|edge| saves_backends(edge, settings));
            *kept.backends.lock().unwrap_or_else(PoisonError::into_inner) = backends;
            for trunk in trunks {
                trunk.keep_sessions();
                if let Some(snapshot) = &snapshot {
                    trunk.restore(now, snapshot);
                }
            }
            for edge in shards {
                edge.keep_sessions();
                if let Some(snapshot) = &snapshot {
                    edge.restore(now, snapshot);
                }
            }
        }

        /// Adds what a machine saves at its end.
        pub(in crate::commands::run) fn add(&self, save: impl FnOnce() -> Part) {
            if let Some(kept) = &self.0 {
                let part = save();
                let parts = kept.parts.lock();
                parts.unwrap_or_else(PoisonError::into_inner).push(part);
            }
        }

        /// Writes what all machines have saved.
        pub(in crate::commands::run) fn end(self, run: [u8; 8]) -> Result<(), String> {
            let Some(kept) = &self.0 else { return Ok(()) };
            let parts = kept.parts.lock();
            let mut parts = parts.unwrap_or_else(PoisonError::into_inner);
            let backends = kept.backends.lock();
            let backends = backends.unwrap_or_else(PoisonError::into_inner);
            parts.extend(backends.iter().map(|save| save()));
            let written = snapshot_file::write(&kept.path, (run, &parts), &kept.keys, *random());
            let bytes = written.map_err(|error| format!("the sessions are not saved: {error}"))?;
            info!(bytes, path = %kept.path.display(), "the sessions are saved");
            Ok(())
        }
    }
}

/// Without saved sessions: none is kept.
#[cfg(not(feature = "snapshot"))]
mod kept {
    use voltlane_core::Time;
    use voltlane_core::edge::trunk::Trunk;
    use voltlane_core::edge::{Edge, Part};
    use voltlane_core::keys::KeyPair;

    use crate::config::Settings;
    use crate::runs_file::RunsFile;

    #[derive(Clone)]
    pub(in crate::commands::run) struct Keeping;

    #[expect(clippy::unused_self, reason = "as if sessions could be kept")]
    impl Keeping {
        pub(in crate::commands::run) fn begin(
            _: &Settings,
            _: &KeyPair,
            _: Option<&RunsFile>,
            _: bool,
        ) -> Keeping {
            Keeping
        }

        pub(in crate::commands::run) fn restore(
            &self,
            _: Time,
            _: &mut [Trunk],
            _: &mut [Edge],
            _: &Settings,
        ) {
        }

        pub(in crate::commands::run) fn add(&self, _: impl FnOnce() -> Part) {}

        #[expect(clippy::unnecessary_wraps, reason = "as if they could be saved")]
        pub(in crate::commands::run) fn end(self, _: [u8; 8]) -> Result<(), String> {
            Ok(())
        }
    }
}

pub(super) use kept::Keeping;

/// Saves which backends there are.
#[cfg(any(feature = "snapshot", all(feature = "upgrade", target_os = "linux")))]
pub(super) type SavesBackends = Box<dyn Fn() -> voltlane_core::edge::Part + Send + Sync>;

/// Returns what saves the backends of an edge that has several, of which this is a shard (SPEC 39.5(a), 45.7).
#[cfg(any(feature = "snapshot", all(feature = "upgrade", target_os = "linux")))]
#[cfg_attr(not(feature = "backends"), expect(unused_variables))]
pub(super) fn saves_backends(
    edge: &voltlane_core::edge::Edge,
    settings: &crate::config::Settings,
) -> Option<SavesBackends> {
    #[cfg(feature = "backends")]
    if settings.backends().len() > 1 {
        let (control, names) = (edge.backends(), names_in(settings));
        return Some(Box::new(move || control.save(&names)));
    }
    None
}

/// Names the backends of this process for a snapshot of another one.
#[cfg(any(feature = "snapshot", all(feature = "upgrade", target_os = "linux")))]
pub(super) fn named(
    mut snapshot: voltlane_core::edge::Snapshot,
    settings: &crate::config::Settings,
) -> voltlane_core::edge::Snapshot {
    snapshot.name_backends(names_in(settings));
    for backend in snapshot.missing_backends() {
        tracing::warn!(
            %backend,
            "there are sessions of a backend that is not configured any more: they wait for it to be configured again, or go to others after master.repin_secs"
        );
    }
    snapshot
}

#[cfg(any(feature = "snapshot", all(feature = "upgrade", target_os = "linux")))]
fn names_in(settings: &crate::config::Settings) -> Vec<String> {
    let backends = settings.backends().iter();
    backends.map(ToString::to_string).collect()
}
