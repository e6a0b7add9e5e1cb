//! Events that came while the application waited to send.

use std::collections::VecDeque;

/// Bytes of packets that are received while a send waits for room; beyond it nothing is read until some was taken.
const INBOX_BYTES: usize = 1024 * 1024;

/// What an event weighs.
pub(crate) trait Weigh {
    /// Bytes of the packet that it brings.
    fn packet_bytes(&self) -> usize;
}

/// A queue of events that says when it has enough.
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

    /// Whether packets may still be read into it. Other events are few, and always welcome.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < INBOX_BYTES
    }

    pub(crate) fn push(&mut self, event: E) {
        self.bytes += weight(&event);
        self.events.push_back(event);
    }

    pub(crate) fn pop(&mut self) -> Option<E> {
        let event = self.events.pop_front()?;
        self.bytes -= weight(&event);
        Some(event)
    }
}

/// No event is free, or empty packets would have no bound.
fn weight<E: Weigh>(event: &E) -> usize {
    size_of::<E>() + event.packet_bytes()
}
