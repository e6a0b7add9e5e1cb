//! A terminal for a program under test.

use std::fs::File;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A terminal of its own, closed when dropped.
#[derive(Debug)]
pub struct Terminal {
    _near: File,
    path: String,
}

impl Terminal {
    /// Opens a terminal.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "it makes something in the world"
    )]
    pub fn new() -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let near = openpt(flags).expect("a terminal");
        grantpt(&near).expect("our own");
        unlockpt(&near).expect("our own");
        let path = ptsname(&near, Vec::new()).expect("it has a name");
        Terminal {
            _near: near.into(),
            path: path.into_string().expect("a path in UTF-8"),
        }
    }

    /// Returns the path that a program opens.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}
