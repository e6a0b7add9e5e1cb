//! Errors of a client. Each is one that its caller can do something about.

use std::io;

use voltlane_core::client::End;

use super::DropCause;

/// Why a client did not come to an edge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No session began within the time that the options allow.
    #[error("no edge answered in time: {last}")]
    Unreachable {
        /// Why the last attempt failed.
        #[source]
        last: DropCause,
    },
    /// The edge, or this client, does not want the session.
    #[error("the session ended before it began: {0}")]
    Ended(End),
    /// An option, or the address, is wrong.
    #[error("{0}")]
    Config(String),
    /// A file that an option names cannot be read, or the system has no resources.
    #[error(transparent)]
    Io(#[from] io::Error),
}
