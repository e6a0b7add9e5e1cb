//! What is to be done next: the tokens that were woken, and those that a turn put back.

use std::collections::VecDeque;
use std::sync::Arc;

use voltlane_core::edge::ConnKey;

use crate::turn::OWN;
use crate::waker::{ReadyList, SourceWaker, Token};

/// Tokens of what is not a client, from the top down; clients' are dense, from 0 up.
pub(super) const LISTENER: Token = OWN;
pub(super) const MAILBOX: Token = OWN - 1;

/// The work of the turns to come.
pub(super) struct Work {
    ready: Arc<ReadyList>,
    /// Clients to read, first come first served.
    clients: VecDeque<Token>,
    /// Clients whose writes may get on.
    pub(super) unblocked: Vec<ConnKey>,
}

impl Work {
    pub(super) fn new(ready: &Arc<ReadyList>) -> Self {
        Work {
            ready: Arc::clone(ready),
            clients: VecDeque::new(),
            unblocked: Vec::new(),
        }
    }

    pub(super) fn ready(&self) -> &Arc<ReadyList> {
        &self.ready
    }

    /// Queues a client that was woken.
    pub(super) fn push(&mut self, token: Token) {
        self.clients.push_back(token);
    }

    /// Queues a client that is to be read again, unless it is queued.
    pub(super) fn queue(&mut self, source: &SourceWaker, token: Token) {
        if source.queue() {
            self.clients.push_back(token);
        }
    }

    /// The next client to read.
    pub(super) fn next_client(&mut self) -> Option<Token> {
        self.clients.pop_front()
    }

    /// How many clients wait to be read.
    pub(super) fn waiting(&self) -> usize {
        self.clients.len()
    }

    /// Whether anything waits.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.unblocked.is_empty()
    }
}
