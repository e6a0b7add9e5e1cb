//! A token that is asked for before each attempt to join.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Returns a token when it is asked to, perhaps after a while.
pub(super) type Ask = Box<dyn Fn() -> Answer + Send>;
pub(super) type Answer = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

enum State {
    /// The next attempt needs one.
    Needed,
    Asked(Answer),
    /// The attempt that is under way, or about to begin, has one.
    Given,
}

pub(super) struct Tokens {
    ask: Ask,
    state: State,
}

impl Tokens {
    pub(super) fn new(ask: Ask) -> Self {
        Tokens {
            ask,
            state: State::Needed,
        }
    }

    /// Ready when the next attempt may begin, with a token if it is a new one.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        loop {
            match &mut self.state {
                State::Needed => self.state = State::Asked((self.ask)()),
                State::Given => return Poll::Ready(None),
                State::Asked(answer) => {
                    let token = std::task::ready!(answer.as_mut().poll(cx));
                    self.state = State::Given;
                    return Poll::Ready(Some(token));
                }
            }
        }
    }

    /// Handles that an attempt is over. What was asked for and has not come is for the next one.
    pub(super) fn attempt_is_over(&mut self) {
        if matches!(self.state, State::Given) {
            self.state = State::Needed;
        }
    }
}
