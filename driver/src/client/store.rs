//! Where a client keeps its session, so that another process goes on with it.

use std::io;

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
