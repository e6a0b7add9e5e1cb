//! A shard's link to the trunk (SPEC 9.9). The trunk judges the backend, counts what concerns the link, and logs about it, once for all shards.

use core::mem;

use crate::edge::uplink::batch::{Batch, Upward};
use crate::edge::uplink::queue::LinkQueue;

/// The states of a branch. The shard wants one whenever it has none, and the trunk gives it one when there is a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Down,
    Connecting,
    Up,
}

/// The branch of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Branch {
    state: State,
    /// Whether the trunk knows that all sessions are announced. It holds back what waits at all shards until then (SPEC 9.9(e)).
    announced: bool,
    /// Whether packets may be handed up, which the trunk decides (SPEC 9.9(e)).
    released: bool,
}

impl Branch {
    pub(crate) fn wants_connect(&self) -> bool {
        self.state == State::Down
    }

    pub(crate) fn connecting(&mut self) {
        if self.state == State::Down {
            self.state = State::Connecting;
        }
    }

    /// Handles that there is a branch. Returns false if there already was.
    pub(crate) fn connected(&mut self) -> bool {
        mem::replace(&mut self.state, State::Up) != State::Up
    }

    /// Handles that the branch is gone. Returns false if there was none, and no attempt to get one.
    pub(crate) fn closed(&mut self) -> bool {
        mem::take(self).state != State::Down
    }

    pub(crate) fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Handles that the trunk has room for the packets that wait.
    pub(crate) fn release(&mut self) {
        self.released = true;
    }

    /// Returns whether there is something in `queue` to hand up.
    #[inline]
    pub(crate) fn has_output(&self, queue: &LinkQueue) -> bool {
        self.is_up()
            && (!queue.announcements.is_empty()
                || (!self.announced && !queue.is_announcing())
                || (self.released && !queue.is_empty()))
    }

    /// Takes what is to be handed up next. A batch takes the memory of `spare` in return.
    pub(crate) fn take_output(
        &mut self,
        queue: &mut LinkQueue,
        spare: &mut Batch,
    ) -> Option<Upward> {
        if !self.is_up() {
            return None;
        }
        if !queue.announcements.is_empty() {
            return Some(Upward::Announcements(queue.take_announcements(spare)));
        }
        if !self.announced && !queue.is_announcing() {
            self.announced = true;
            return Some(Upward::Announced);
        }
        if !self.released {
            return None;
        }
        queue.take_packets(spare).map(Upward::Packets)
    }
}
