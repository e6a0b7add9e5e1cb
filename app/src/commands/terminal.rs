//! The terminal that a process was started from, and whether it is still there.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use signal_hook::consts::SIGHUP;

use crate::inherited::is_ignored;

/// The terminal that controls the process, wherever its output goes.
const CONTROLLING: &str = "/dev/tty";

/// What SIGHUP is about. The system sends it to what runs in a terminal when that is closed, and people send it to have the
/// configuration read again.
pub(super) struct Terminal {
    /// The process lives with it, and is to end with it.
    is_bound: bool,
}

impl Terminal {
    /// To be asked for before SIGHUP is taken over: a process that ignores it, as under `nohup`, is to survive its terminal, as is one
    /// that never had any.
    pub(super) fn of_this_process() -> Terminal {
        Terminal {
            is_bound: !is_ignored(SIGHUP) && open().is_ok(),
        }
    }

    /// Whether the process is to end with its terminal, and that was closed.
    pub(super) fn is_gone(&self) -> bool {
        self.is_bound && open().is_err_and(|error| is_closed(&error))
    }
}

fn open() -> io::Result<()> {
    let mut options = OpenOptions::new();
    // A line with a modem would wait for its carrier.
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(CONTROLLING).map(drop)
}

/// Whether there is no terminal, as opposed to no descriptor to ask with.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENXIO | libc::EIO))
}
