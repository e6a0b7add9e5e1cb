//! What is to be done next: the tokens that were woken, and those that a turn put back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use voltlane_core::edge::ConnKey;

use crate::waker::{ReadyList, SourceWaker, Token};

/// Tokens of what is not a client, from the top down; clients' are dense, from 0 up.
pub(super) const LINK: Token = Token::MAX;
pub(super) const LISTENER: Token = Token::MAX - 1;
pub(super) const TIMER: Token = Token::MAX - 2;
pub(super) const HANDLE: Token = Token::MAX - 3;
pub(super) const MAILBOX: Token = Token::MAX - 4;

/// The work of the turns to come.
pub(super) struct Work {
    ready: Arc<ReadyList>,
    /// Clients to read, first come first served.
    clients: VecDeque<Token>,
    /// Clients whose writes may get on.
    pub(super) unblocked: Vec<ConnKey>,
    /// Reused by [`Work::collect`].
    woken: Vec<Token>,
}

impl Work {
    pub(super) fn new() -> Self {
        Work {
            ready: Arc::default(),
            clients: VecDeque::new(),
            unblocked: Vec::new(),
            woken: Vec::new(),
        }
    }

    pub(super) fn ready(&self) -> &Arc<ReadyList> {
        &self.ready
    }

    /// Wakes go to `task` from now on.
    pub(super) fn register(&self, task: &Waker) {
        self.ready.register(task);
    }

    /// Takes what was woken: clients join the queue, the others are told to `special`.
    pub(super) fn collect(&mut self, mut special: impl FnMut(Token)) {
        self.ready.take(&mut self.woken);
        for token in self.woken.drain(..) {
            if token >= MAILBOX {
                special(token);
            } else {
                self.clients.push_back(token);
            }
        }
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
