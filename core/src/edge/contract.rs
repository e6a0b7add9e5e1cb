//! What the machine and its adapter exchange besides bytes.

use crate::id::ShardId;
use crate::time::Time;

/// What a connection needs from the adapter next (see [`Edge::client_duty`](crate::edge::Edge::client_duty)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an adapter has to handle each one")]
pub enum Duty<'a> {
    /// Write these bytes, the first slice before the second, as far as the stream takes them. One of the slices may be empty. Then call
    /// [`handle_client_written`](crate::edge::Edge::handle_client_written), and ask again.
    Write([&'a [u8]; 2]),
    /// Everything is written. Read up to this number of bytes, which is not 0, when they arrive.
    Read(usize),
    /// Everything is written, and nothing is to be read until the connection is listed again.
    Rest,
    /// Close the stream like this, then call [`handle_client_closed`](crate::edge::Edge::handle_client_closed) with
    /// [`Closed::Asked`](crate::Closed::Asked).
    Close(CloseKind),
    /// Call [`handle_entropy`](crate::edge::Edge::handle_entropy) with bytes that come from the operating system for this call, and ask
    /// again. Only a connection of version 3 needs some.
    Entropy,
    /// Call [`take_handover`](crate::edge::Edge::take_handover), and take the stream to this shard with what it returns.
    HandOver(ShardId),
}

/// How the adapter must close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "an adapter has to handle each one")]
pub enum CloseKind {
    /// In order, after everything written before: FIN.
    Graceful,
    /// Abruptly (SPEC 1.3): a RST if the transport has one. Data that the kernel still holds may be discarded.
    Abort,
}

image!(enum CloseKind { 0 Graceful {}, 1 Abort {} });

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
    /// A client of version 3 is due an acknowledgement or a question, or is taken for gone.
    Alarm,
    /// Expired sessions are collected.
    Reap,
    /// The backend is dialled again.
    LinkRetry,
    /// An attempt to reach the backend is given up.
    LinkConnect,
    /// A backend that was doubted is trusted again.
    LinkBelief,
    /// A backend must have asked for version 3 of the link, or is due an acknowledgement.
    LinkAlarm,
    /// A shutdown must be complete.
    Shutdown,
}
