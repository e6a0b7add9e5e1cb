//! Errors of a client. Each is one that its caller can do something about.

use std::io;
use std::path::PathBuf;

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
    /// Another client, of this process or of another one, has the session that a store is for.
    #[error("{}: another client has this session{}", path.display(), of_process(*pid))]
    SessionInUse {
        /// The file of the session.
        path: PathBuf,
        /// The process that has it, if the system tells: Linux does.
        pid: Option<u32>,
    },
    /// An option, or the address, is wrong.
    #[error("{0}")]
    Config(String),
    /// A file that an option names cannot be read, or the system has no resources.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn of_process(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(", in process {pid}"))
}
