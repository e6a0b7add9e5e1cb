//! The work to do next: tokens that were woken, and those that a turn put back.

use std::collections::VecDeque;

use voltlane_core::edge::ConnKey;

use super::wakers::Wakers;
use crate::turn::OWN;
use crate::waker::Token;

/// Tokens of sources other than clients, from the top down. Clients' tokens are dense, from 0 up.
pub(super) const LISTENER: Token = OWN;
pub(super) const MAILBOX: Token = OWN - 1;
pub(super) const LINGERING: Token = OWN - 2;
pub(super) const ERRANDS: Token = OWN - 3;

/// The work of the coming turns.
pub(super) struct Work {
    /// Clients to read, in order of arrival.
    clients: VecDeque<Token>,
    /// Clients whose writes may proceed.
    pub(super) unblocked: Vec<ConnKey>,
}

impl Work {
    pub(super) fn new() -> Self {
        Work {
            clients: VecDeque::new(),
            unblocked: Vec::new(),
        }
    }

    /// Queues a client that was woken.
    pub(super) fn push(&mut self, token: Token) {
        self.clients.push_back(token);
    }

    /// Queues a client that is to be read again, unless it is already queued.
    pub(super) fn queue(&mut self, wakers: &Wakers, token: Token) {
        if wakers.queue(token) {
            self.clients.push_back(token);
        }
    }

    /// Takes the next client to read.
    pub(super) fn next_client(&mut self) -> Option<Token> {
        self.clients.pop_front()
    }

    /// Returns the number of clients that wait to be read.
    pub(super) fn waiting(&self) -> usize {
        self.clients.len()
    }

    /// Returns whether there is no work.
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.unblocked.is_empty()
    }
}
