//! The other shards of the process: a claim of theirs goes there with its stream (SPEC 9.9).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use voltlane_core::ShardId;
use voltlane_core::edge::Handover;

use crate::Stream;

/// Hand-overs that wait for one shard; one more is turned away.
const WAITING_MAX: usize = 1_024;

/// What a shard is to its neighbours: a place where they leave connections for it. See [`EdgeDriver::beside`](crate::EdgeDriver::beside).
pub struct Neighbours<S: Stream> {
    own: ShardId,
    mailboxes: Arc<[Mutex<Mailbox<S>>]>,
}

struct Mailbox<S: Stream> {
    waiting: VecDeque<(Handover, S::Parcel)>,
    /// Woken when something was left; `None` until the shard listens and after it has ended.
    owner: Option<Waker>,
}

impl<S: Stream> Neighbours<S> {
    /// One for each of so many shards, the first for shard 0.
    #[must_use]
    pub fn of(shards: u8) -> Vec<Neighbours<S>> {
        let mailbox = || {
            Mutex::new(Mailbox {
                waiting: VecDeque::new(),
                owner: None,
            })
        };
        let mailboxes: Arc<[_]> = (0..shards).map(|_| mailbox()).collect();
        (0..shards)
            .map(|number| Neighbours {
                own: ShardId::new(number),
                mailboxes: Arc::clone(&mailboxes),
            })
            .collect()
    }

    /// From now on connections are taken, and `waker` is woken for them.
    pub(super) fn listen(&self, waker: &Waker) {
        if let Some(mut mailbox) = self.mailbox(self.own) {
            mailbox.owner = Some(waker.clone());
        }
    }

    /// Leaves a connection for its shard; given back if that does not take it.
    pub(super) fn send(&self, handover: Handover, parcel: S::Parcel) -> Result<(), Handover> {
        let Some(mut mailbox) = self.mailbox(handover.shard()) else {
            return Err(handover);
        };
        let Some(owner) = mailbox.owner.clone() else {
            return Err(handover);
        };
        if mailbox.waiting.len() >= WAITING_MAX {
            return Err(handover);
        }
        mailbox.waiting.push_back((handover, parcel));
        drop(mailbox);
        owner.wake();
        Ok(())
    }

    /// The next connection that was left here.
    pub(super) fn receive(&self) -> Option<(Handover, S::Parcel)> {
        self.mailbox(self.own)?.waiting.pop_front()
    }

    fn mailbox(&self, shard: ShardId) -> Option<MutexGuard<'_, Mailbox<S>>> {
        let mailbox = self.mailboxes.get(usize::from(shard.as_u8()))?;
        // A push or a pop leaves the queue whole wherever a panic may strike.
        Some(mailbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Stream> Drop for Neighbours<S> {
    /// What was left and not taken is closed.
    fn drop(&mut self) {
        if let Some(mut mailbox) = self.mailbox(self.own) {
            mailbox.owner = None;
            mailbox.waiting = VecDeque::new();
        }
    }
}
