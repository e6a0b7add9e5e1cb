//! Where a client keeps its session, so that another process goes on with it.

use std::fmt;
use std::io;
use std::time::Duration;

use voltlane_core::client::Zeroizing;

/// How long [`suspend`](super::Client::suspend) sends what waits, at most, in version 2.
pub const SUSPEND_WITHIN: Duration = Duration::from_secs(2);

/// What a client leaves behind that was [suspended](super::Client::suspend): its session, and what was sent and is not acknowledged.
///
/// It is what a [`SessionStore`] stores, and as secret as the session's keys: whoever has it can be this client.
pub struct Suspended(pub(super) Zeroizing<Vec<u8>>);

impl Suspended {
    /// Returns the bytes, for [`Options::suspended`](super::Options::suspended).
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Suspended {
    /// Does not show the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suspended").finish_non_exhaustive()
    }
}

/// A place for what a client saves: a file, a keychain, a table. Whoever can read it can be this client.
pub trait SessionStore: Send + 'static {
    /// Returns what was stored last. `None`: nothing was.
    ///
    /// # Errors
    /// Those of the place. The client does not begin then.
    fn load(&mut self) -> io::Result<Option<Vec<u8>>>;

    /// Stores this in the place of what was stored before, whole or not at all. When it returns, it can be read even after a loss of power.
    ///
    /// # Errors
    /// Those of the place. Nothing leaves the client then: it drops its connection, and tries again.
    fn store(&mut self, content: &[u8]) -> io::Result<()>;
}

impl<S: SessionStore + ?Sized> SessionStore for Box<S> {
    fn load(&mut self) -> io::Result<Option<Vec<u8>>> {
        (**self).load()
    }

    fn store(&mut self, content: &[u8]) -> io::Result<()> {
        (**self).store(content)
    }
}
