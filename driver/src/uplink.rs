//! The carrier of an edge's link: a stream to the backend, or a branch to the trunk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use voltlane_core::Time;
use voltlane_core::edge::Edge;
#[cfg(feature = "figures")]
use voltlane_core::edge::Histogram;

use crate::waker::{ReadyList, Token};

/// How an edge reaches its backend: through a [`Connector`](crate::Connector), or as a shard through its
/// [`BranchConnector`](crate::BranchConnector). There are no others.
pub trait Uplink: sealed::Carried {}

impl<C: sealed::Carried> Uplink for C {}

/// Moves the bytes of a machine's link, without any policy: the machine decides when to connect and when to give up.
pub(crate) trait Carrier<M> {
    /// Refuses a connection to these addresses, at which this process listens. Within a process nothing leads there.
    fn refuse(&mut self, own: impl IntoIterator<Item = SocketAddr>) {
        drop(own);
    }
    /// Handles that its token was woken.
    fn handle_woken(&mut self);
    /// Returns whether another turn would make progress without a wake.
    fn has_work(&self, machine: &M, now: Time) -> bool;
    /// Connects when the machine wants it, and gives up when the machine wants that.
    fn drive(&mut self, machine: &mut M, now: Time);
    /// Passes on what has arrived, within the machine's budget.
    fn read(&mut self, machine: &mut M, now: Time, buffer: &mut [u8]);
    /// Returns when [`handle_time`](Self::handle_time) has something to do.
    fn next_deadline(&self) -> Option<Time>;
    /// Handles the time.
    fn handle_time(&mut self, machine: &mut M, now: Time);
    /// Sends the machine's output.
    fn write(&mut self, machine: &mut M, now: Time);
    /// Closes in order once the machine has finished. The caller bounds the wait.
    fn poll_finish(&mut self, buffer: &mut [u8]) -> Poll<()>;
    /// Returns how long the machine's output waited, each time that the link took less than there was.
    #[cfg(feature = "figures")]
    fn waits(&self) -> Option<&Histogram> {
        None
    }
    /// Returns the socket of the link, if it is up and nothing else.
    #[cfg(all(feature = "upgrade", unix))]
    fn socket(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
    /// Returns copies of what is on its way to a shard.
    #[cfg(all(feature = "upgrade", unix))]
    fn coming(&self) -> Vec<voltlane_core::edge::trunk::Downward> {
        Vec::new()
    }
    /// The same, but passes on what still arrives: it is for sessions that another process goes on with.
    #[cfg(feature = "snapshot")]
    fn poll_finish_keeping(&mut self, machine: &mut M, now: Time, buffer: &mut [u8]) -> Poll<()>;
}

pub(crate) mod sealed {
    use super::*;

    /// The part of [`Uplink`](super::Uplink) that only this crate can use.
    #[expect(unnameable_types, reason = "nobody else implements it")]
    pub trait Carried: Unpin + Send + 'static {
        /// The part of a driver that it becomes.
        #[expect(private_bounds, reason = "it is used in this crate alone")]
        type Carrier: Carrier<Edge> + Unpin + Send;

        /// Makes that part. `token` is put on `ready` when it may proceed.
        #[expect(private_interfaces, reason = "it is called in this crate alone")]
        fn carrier(self, token: Token, ready: &Arc<ReadyList>) -> Self::Carrier;
    }
}
