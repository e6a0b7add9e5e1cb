//! The text below the options in a command's help.

#[cfg(all(feature = "upgrade", target_os = "linux"))]
pub(super) const SIGNALS: &str = "Signals: SIGHUP has the configuration read again. SIGUSR2 has the program, as it is on disk now, take over all clients, as upgrade does. SIGINT and SIGTERM end the edge in order, with the exit code 0. A second one ends it at once, with 3.";
#[cfg(not(all(feature = "upgrade", target_os = "linux")))]
pub(super) const SIGNALS: &str = "Signals: SIGHUP has the configuration read again. SIGINT and SIGTERM end the edge in order, with the exit code 0. A second one ends it at once, with 3.";

#[cfg(all(feature = "upgrade", target_os = "linux"))]
pub(super) const UPGRADE: &str = "The running edge starts the new program with its own arguments, and gives it its listeners, connections, sessions and link. Clients notice a pause of some milliseconds. Only those within TLS are closed, and come back. If the new program fails at any step, the running one serves on with all clients, and the log says why. SIGUSR2 asks a running edge for the same, and its log has the answer.";
