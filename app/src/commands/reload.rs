//! SIGHUP: reads the configuration again, from the same sources as at the start. If the signal means that the terminal was closed, the
//! process ends.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use super::signals::Asker;
use super::terminal::Terminal;
use crate::config::{self, Change, Settings, WhenMissing};
use crate::doors::Doors;
use crate::entry::ReadAgain;

/// What is logged when certificates that were read again are wrong.
const CERTIFICATES_STAY: &str = "the certificates in effect stay";

/// Configurations that were read while the process runs.
pub(super) struct Reloads(Arc<Mutex<Latest>>);

#[derive(Default)]
struct Latest {
    change: Option<Box<Change>>,
    waker: Option<Waker>,
}

/// Takes over SIGHUP for the whole process.
///
/// A thread of its own reads the configuration, so that a slow disk delays nothing. Problems are logged, and then nothing changes.
/// `current` is the configuration in effect. If the terminal that the process was started from is closed, `stop` is asked to end the
/// process, which would otherwise keep its port unnoticed.
///
/// # Errors
/// When the system refuses the handler.
pub(super) fn on_hangup(
    mut again: ReadAgain,
    mut current: Settings,
    mut doors: Doors,
    stop: Asker,
) -> io::Result<Reloads> {
    let terminal = Terminal::of_this_process();
    let mut signals = Signals::new([SIGHUP])?;
    let reloads = Reloads(Arc::default());
    let latest = Arc::clone(&reloads.0);
    thread::Builder::new()
        .name("reload".into())
        .spawn(move || {
            for _ in signals.forever() {
                if terminal.is_gone() {
                    info!("the terminal was closed");
                    stop.ask();
                    return;
                }
                let Some(mut change) = read_again(&mut again, &current) else {
                    // Renewed certificates mostly have the names of the old ones.
                    if let Err(error) = doors.reload(&current) {
                        error!(%error, "{CERTIFICATES_STAY}");
                    }
                    continue;
                };
                if let Err(error) = doors.reload(&change.settings) {
                    change.refuse("listener", &current);
                    let keys = change.refused.join(", ");
                    error!(%error, %keys, "{CERTIFICATES_STAY}");
                }
                if change.taken.is_empty() {
                    info!("the configuration was read again; nothing in effect changes");
                    continue;
                }
                current = change.settings.clone();
                let waker = {
                    let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
                    // A change that was not taken yet is part of this one.
                    let earlier = latest.change.take().map(|earlier| earlier.taken);
                    for key in earlier.into_iter().flatten() {
                        if !change.taken.contains(&key) {
                            change.taken.push(key);
                        }
                    }
                    latest.change = Some(Box::new(change));
                    latest.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        })?;
    Ok(reloads)
}

/// Returns the configuration that is to take effect, which may be the one in effect. `None` if it is wrong.
fn read_again(again: &mut ReadAgain, current: &Settings) -> Option<Change> {
    let read = config::load(
        Path::new("."),
        again.args.config.as_deref(),
        WhenMissing::Keep {
            has_file: again.has_file,
            has_dotenv: again.has_dotenv,
        },
        again.args.arguments(),
    );
    let change = match read {
        Ok((loaded, _)) => {
            (again.has_file, again.has_dotenv) = (loaded.has_file(), loaded.has_dotenv());
            Change::between(current, loaded.settings)
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
    Some(change)
}

impl Reloads {
    /// Returns a configuration that is to take effect now; the last one of several.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Box<Change>> {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(change) = latest.change.take() {
            return Poll::Ready(change);
        }
        // Called in every round of the loop, almost always with the same waker.
        match &mut latest.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}
