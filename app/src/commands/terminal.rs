//! The terminal that a process was started from, and whether it is still there.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use signal_hook::consts::SIGHUP;

use crate::inherited::is_ignored;

/// The controlling terminal of the process, wherever its output goes.
const CONTROLLING: &str = "/dev/tty";

/// Distinguishes the two meanings of SIGHUP. The system sends it to the processes of a terminal that is closed, and people send it to
/// reload the configuration.
pub(super) struct Terminal {
    /// Whether the process ends when the terminal is closed.
    is_bound: bool,
}

impl Terminal {
    /// Looks for the terminal. Must be called before SIGHUP has a handler: a process that ignores the signal, as under `nohup`, survives
    /// its terminal.
    pub(super) fn of_this_process() -> Terminal {
        Terminal {
            is_bound: !is_ignored(SIGHUP) && open().is_ok(),
        }
    }

    /// Returns whether the terminal was closed and the process must end with it.
    pub(super) fn is_gone(&self) -> bool {
        self.is_bound && open().is_err_and(|error| is_closed(&error))
    }
}

fn open() -> io::Result<()> {
    let mut options = OpenOptions::new();
    // Without this flag a line with a modem would wait for its carrier.
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(CONTROLLING).map(drop)
}

/// Returns whether there is no terminal, as opposed to no descriptor to check with.
fn is_closed(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENXIO | libc::EIO))
}
