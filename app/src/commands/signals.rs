//! SIGINT and SIGTERM. Until the process serves, either ends it at once, whatever it waits for, such as a resolver or an unresponsive
//! backend. Afterwards the first one asks for an orderly end, and a later one ends the process at once, with an exit code of its own.
//!
//! `timeout` and some other parents send a signal twice, to the process and to its group. So a second one right behind the first does not
//! count.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use tracing::info;
use voltlane_driver::register;

use crate::logging;

/// The time after the first signal in which further ones do not count.
const SAME_WITHIN: Duration = Duration::from_millis(500);
/// The exit code of a process that did not end in order, since it was asked a second time (SPEC 9.8(f)).
const ENDED_AT_ONCE: i32 = 3;

/// Ready once the process was asked to end.
pub(super) struct Stop(Asker);

/// Asks the process to end, from any thread.
#[derive(Clone)]
pub(super) struct Asker(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    serves: bool,
    asked: bool,
    waker: Option<Waker>,
}

/// Takes over SIGINT and SIGTERM for the whole process.
///
/// # Errors
/// When the system refuses a handler.
pub(super) fn stop() -> io::Result<Stop> {
    let armed = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // This does not depend on a running loop.
        flag::register_conditional_shutdown(signal, ENDED_AT_ONCE, Arc::clone(&armed))?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let asker = Asker(Arc::default());
    let stop = Stop(asker.clone());
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.forever().next().is_some() {
                asker.ask();
                thread::sleep(SAME_WITHIN);
                armed.store(true, Ordering::SeqCst);
                info!("another signal ends it at once");
            }
        })?;
    Ok(stop)
}

impl Asker {
    /// Asks for an orderly end. A process that does not serve yet has nothing to hand over, and ends at once.
    pub(super) fn ask(&self) {
        let mut asked = self.lock();
        if !asked.serves {
            // The lock is held to the end, so that no other thread begins to serve meanwhile.
            info!("ended before it served");
            logging::flush();
            process::exit(0);
        }
        asked.asked = true;
        let waker = asked.waker.take();
        drop(asked);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stop {
    /// Returns a handle for other threads, to end the process for other reasons.
    pub(super) fn asker(&self) -> Asker {
        self.0.clone()
    }

    /// Marks the process as serving: from now on a signal asks for an orderly end, and the caller polls this future.
    pub(super) fn serves(&self) {
        self.0.lock().serves = true;
    }
}

impl Future for Stop {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut asked = self.0.lock();
        if asked.asked {
            return Poll::Ready(());
        }
        // Called in every round of the loop, almost always with the same waker.
        register(&mut asked.waker, cx.waker());
        Poll::Pending
    }
}
