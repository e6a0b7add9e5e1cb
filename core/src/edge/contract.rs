//! What the machine and its adapter exchange besides bytes.

use crate::time::Time;

/// How the adapter must close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an adapter has to handle each one")]
pub enum CloseKind {
    /// In order, after everything written before: FIN.
    Graceful,
    /// Abruptly (SPEC 1.3): a RST if the transport has one. Data that the kernel still holds may be discarded.
    Abort,
}

/// Why a transport connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an adapter has to handle each one")]
pub enum Closed {
    /// The peer closed its direction in order.
    Eof,
    /// The transport failed: reset, unreachable, timed out, never connected.
    Error,
    /// The adapter closed it because the machine asked.
    ByEdge,
}

/// When the machine must next be called, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadline {
    /// The time.
    pub at: Time,
    /// The reason.
    pub reason: DeadlineReason,
}

/// The reason for a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DeadlineReason {
    /// [`poll_client`](crate::edge::Edge::poll_client) has something now.
    Ready,
    /// A connection must have been established.
    Handshake,
    /// An unfinished frame must be complete.
    Frame,
    /// A client must have sent something.
    Idle,
    /// A client that sent too fast is checked again.
    Pace,
    /// A newcomer that had to wait tries again.
    Join,
    /// A client must have taken some output.
    Write,
    /// A challenge is sent.
    Reply,
    /// A takeover that had to wait is tried again.
    Takeover,
    /// A kicked client must be gone.
    Drain,
    /// Expired sessions are collected.
    Reap,
    /// The backend is dialled again.
    LinkRetry,
    /// An attempt to reach the backend is given up.
    LinkConnect,
    /// A backend that was doubted is trusted again.
    LinkBelief,
    /// A shutdown must be complete.
    Shutdown,
}
