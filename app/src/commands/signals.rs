//! SIGINT and SIGTERM: the first asks for an end in order, the second ends the process at once.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

/// Ready once the process was asked to end.
pub(super) struct Stop(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    asked: bool,
    waker: Option<Waker>,
}

/// Takes over SIGINT and SIGTERM for the whole process.
///
/// # Errors
/// When the system does not let it.
pub(super) fn stop() -> io::Result<Stop> {
    let armed = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: what the first signal sets is what the second one finds. It needs no loop that is alive.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&armed))?;
        flag::register(signal, Arc::clone(&armed))?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let stop = Stop(Arc::default());
    let asked = Arc::clone(&stop.0);
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            if signals.forever().next().is_some() {
                let waker = {
                    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
                    asked.asked = true;
                    asked.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
        })?;
    Ok(stop)
}

impl Future for Stop {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.asked {
            return Poll::Ready(());
        }
        // Looked at in every round of the loop, almost always with the waker of the round before.
        match &mut asked.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}
