//! Events that arrive while the application waits to send.

use std::collections::VecDeque;

use crate::weigh::Weigh;

/// The number of packet bytes received while a send waits for room. Beyond it nothing is read until some was taken.
const INBOX_BYTES: usize = 1024 * 1024;

/// A queue of events that reports when it is full.
pub(crate) struct Inbox<E> {
    events: VecDeque<E>,
    bytes: usize,
}

impl<E: Weigh> Inbox<E> {
    pub(crate) fn new() -> Self {
        Inbox {
            events: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Returns whether more packets may be read into it. Other events are few, and always accepted.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < INBOX_BYTES
    }

    pub(crate) fn push(&mut self, event: E) {
        self.bytes += weight(&event);
        self.events.push_back(event);
    }

    /// Returns whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns the events, the oldest first.
    #[cfg(feature = "backend")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &E> {
        self.events.iter()
    }

    /// Takes the last event back if it is one of these.
    #[cfg(feature = "client")]
    pub(crate) fn pop_last_if(&mut self, is_one: impl FnOnce(&E) -> bool) -> Option<E> {
        if !self.events.back().is_some_and(is_one) {
            return None;
        }
        let event = self.events.pop_back()?;
        self.bytes -= weight(&event);
        Some(event)
    }

    pub(crate) fn pop(&mut self) -> Option<E> {
        let event = self.events.pop_front()?;
        self.bytes -= weight(&event);
        Some(event)
    }
}

/// Every event has a weight, or empty packets would have no bound.
fn weight<E: Weigh>(event: &E) -> usize {
    size_of::<E>() + event.packet_bytes()
}
