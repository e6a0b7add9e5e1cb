//! SIGHUP: reads the configuration again, from the same sources as at the start. If the signal means that the terminal was closed, the
//! process ends.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};
use voltlane_core::link::v3::LinkSecret;
use voltlane_driver::register;

use super::signals::Asker;
use super::terminal::Terminal;
use crate::config::{self, Change, Loaded, Settings, WhenMissing, link_secret};
use crate::config_reads;
use crate::dial;
use crate::edge_name;
use crate::entry::ReadAgain;
use crate::listeners::{ListenerChange, Listeners};
use crate::supervisor::Supervisor;

/// The key of the file that has the secret of the link.
const SECRET_KEY: &str = "master.token_file";

/// Configurations that were read while the process runs.
pub(super) struct Reloads(Arc<Mutex<Latest>>);

#[derive(Default)]
struct Latest {
    reload: Option<Box<Reload>>,
    waker: Option<Waker>,
}

/// A configuration that is to take effect.
pub(super) struct Reload {
    pub(super) change: Change,
    pub(super) listeners: ListenerChange,
    pub(super) secret: Option<LinkSecret>,
}

/// Takes over SIGHUP for the whole process.
///
/// A thread of its own reads the configuration and certificates and binds addresses, so that a slow disk or resolver delays nothing. Problems
/// are logged, and then nothing changes, or nothing of the listener that has them. `current` is the configuration in effect, and `secret` that
/// of the link. If the terminal that the process was started from is closed, `stop` is asked to end the process, which would otherwise keep
/// its port unnoticed.
///
/// # Errors
/// When the system refuses the handler.
pub(super) fn on_hangup(
    mut again: ReadAgain,
    (mut current, mut secret): (Settings, Option<LinkSecret>),
    listeners: Listeners,
    (stop, supervisor): (Asker, Supervisor),
) -> io::Result<Reloads> {
    let terminal = Terminal::of_this_process();
    let mut signals = Signals::new([SIGHUP])?;
    let reloads = Reloads(Arc::default());
    let latest = Arc::clone(&reloads.0);
    let listeners = Arc::new(Mutex::new(listeners));
    watch(&current, Arc::clone(&listeners))?;
    thread::Builder::new()
        .name("reload".into())
        .spawn(move || {
            for _ in signals.forever() {
                if terminal.is_gone() {
                    info!("the terminal was closed");
                    stop.ask();
                    return;
                }
                supervisor.reloads();
                let read = read_again(&mut again, &current);
                let mut listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
                config_reads::note(read.is_none());
                let Some((mut change, loaded)) = read else {
                    // Renewed certificates mostly have the names of the old ones.
                    listeners.refresh();
                    supervisor.reloaded();
                    continue;
                };
                let changed = listeners.reload(&mut change);
                let mut is_refused = false;
                if let Err(error) = dial::check(&change.settings) {
                    change.refuse_master(&current.master);
                    is_refused = true;
                    let keys = change.refused.join(", ");
                    error!(%error, %keys, "the way to the backend that is in effect stays");
                }
                match link_secret::read(Path::new("."), &change.settings.master) {
                    Ok(read) => {
                        let key = SECRET_KEY.to_owned();
                        // The file may have another secret, though its path is the same.
                        if read != secret && !change.taken.contains(&key) {
                            change.taken.push(key);
                        }
                        secret = read;
                    }
                    Err(error) => {
                        is_refused = true;
                        error!(%error, "the secret that is in effect stays");
                    }
                }
                is_refused |= !change.refused.is_empty();
                config_reads::note(is_refused);
                // Also if only the order of the listeners changes.
                current.clone_from(&change.settings);
                note_origins(&current, &loaded);
                edge_name::note(&current);
                if change.taken.is_empty() {
                    info!("the configuration was read again; nothing in effect changes");
                    supervisor.reloaded();
                    continue;
                }
                publish(
                    &latest,
                    Reload {
                        change,
                        listeners: changed,
                        secret: secret.clone(),
                    },
                );
            }
        })?;
    Ok(reloads)
}

/// Starts a thread that looks at the files of certificates, unless it is not to.
fn watch(settings: &Settings, listeners: Arc<Mutex<Listeners>>) -> io::Result<()> {
    let pause = Duration::from_secs(settings.general.watch_secs.into());
    if pause.is_zero() {
        return Ok(());
    }
    let look = move || loop {
        thread::sleep(pause);
        let mut listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.look();
    };
    thread::Builder::new().name("watch".into()).spawn(look)?;
    Ok(())
}

/// Leaves a configuration for the main loop. One that was not taken yet is part of it.
fn publish(latest: &Mutex<Latest>, mut reload: Reload) {
    let waker = {
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = latest.reload.take() {
            for key in earlier.change.taken {
                if !reload.change.taken.contains(&key) {
                    reload.change.taken.push(key);
                }
            }
            let later = std::mem::replace(&mut reload.listeners, earlier.listeners);
            reload.listeners.then(later);
        }
        latest.reload = Some(Box::new(reload));
        latest.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Returns the configuration that is to take effect, which may be the one in effect, and as it was read. `None` if it is wrong.
fn read_again(again: &mut ReadAgain, current: &Settings) -> Option<(Change, Loaded)> {
    let read = config::load(
        Path::new("."),
        again.args.config.as_deref(),
        WhenMissing::Keep {
            has_file: again.has_file,
            has_dotenv: again.has_dotenv,
        },
        again.args.arguments(),
    );
    let (change, loaded) = match read {
        Ok((loaded, _)) => {
            (again.has_file, again.has_dotenv) = (loaded.has_file(), loaded.has_dotenv());
            (Change::between(current, loaded.settings.clone()), loaded)
        }
        Err(problems) => {
            error!(
                problems = problems.iter().count(),
                "the configuration is wrong; the one in effect stays"
            );
            for problem in problems.iter() {
                error!("{problem}");
            }
            return None;
        }
    };
    if !change.needs_restart.is_empty() {
        let keys = change.needs_restart.join(", ");
        warn!(%keys, "new values need a restart");
    }
    Some((change, loaded))
}

/// Notes where the values in effect come from, for those who ask.
fn note_origins(in_effect: &Settings, read: &Loaded) {
    #[cfg(feature = "admin")]
    config::Origins::in_effect()
        .after(in_effect, read)
        .publish();
    #[cfg(not(feature = "admin"))]
    let _ = (in_effect, read);
}

impl Reloads {
    /// Returns a configuration that is to take effect now; the last one of several.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Box<Reload>> {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reload) = latest.reload.take() {
            return Poll::Ready(reload);
        }
        // Called in every round of the loop, almost always with the same waker.
        register(&mut latest.waker, cx.waker());
        Poll::Pending
    }
}
