//! Messages to the service manager that started the process: it serves, reads its configuration again, ends, and is alive. (sd_notify(3))
//!
//! A thread of its own sends them, so that a manager that does not read delays no client. Without `NOTIFY_SOCKET` in the environment there
//! is neither a thread nor a message. The feature `systemd` is needed.

#[cfg(feature = "systemd")]
mod reporter;

use std::io;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::metrics::Exchange;

/// The service manager, if one listens.
#[derive(Clone, Debug)]
pub(crate) struct Supervisor(Option<Sender<Event>>);

#[derive(Clone, Copy, Debug)]
enum Event {
    #[cfg_attr(
        not(feature = "systemd"),
        expect(dead_code, reason = "there is nobody to tell it")
    )]
    Waits(&'static str),
    Serves,
    Reloads,
    Reloaded,
    #[cfg_attr(
        not(feature = "systemd"),
        expect(dead_code, reason = "there is nobody to tell it")
    )]
    Ends(Duration),
}

/// Tells the service manager, if there is one, that the process of this number takes the place of this one.
#[cfg(all(feature = "upgrade", target_os = "linux"))]
pub(crate) fn hand_over(pid: i32) {
    #[cfg(feature = "systemd")]
    if Supervisor::is_there() {
        let pid = u32::try_from(pid).unwrap_or(0);
        if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::MainPid(pid)]) {
            tracing::warn!(%error, "the service manager cannot be told of the new process");
        }
    }
    #[cfg(not(feature = "systemd"))]
    let _ = pid;
}

impl Supervisor {
    /// Returns whether the process was started by a manager that wants messages.
    pub(crate) fn is_there() -> bool {
        cfg!(feature = "systemd")
            && std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty())
    }

    /// Starts the thread that sends messages, if there is a manager. The loops behind `exchange` must respond to show that they are alive.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(exchange: Exchange) -> io::Result<Supervisor> {
        #[cfg(feature = "systemd")]
        if Supervisor::is_there() {
            return reporter::start(exchange).map(|sender| Supervisor(Some(sender)));
        }
        drop(exchange);
        Ok(Supervisor(None))
    }

    /// The process waits for this before it listens.
    pub(crate) fn waits(&self, what: &'static str) {
        self.tell(Event::Waits(what));
    }

    /// The process listens.
    pub(crate) fn serves(&self) {
        self.tell(Event::Serves);
    }

    /// The configuration is being read again. [`reloaded`](Self::reloaded) must follow, whatever the outcome.
    pub(crate) fn reloads(&self) {
        self.tell(Event::Reloads);
    }

    /// The configuration that was read is in effect, or was refused.
    pub(crate) fn reloaded(&self) {
        self.tell(Event::Reloaded);
    }

    /// The process ends in order, `within` this time.
    pub(crate) fn ends(&self, within: Duration) {
        self.tell(Event::Ends(within));
    }

    fn tell(&self, event: Event) {
        if let Some(sender) = &self.0 {
            // The thread ends with the last sender.
            let _ = sender.send(event);
        }
    }
}
