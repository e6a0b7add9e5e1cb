//! A shard's link to the trunk (SPEC 9.9). The trunk judges the backend, counts what concerns the link, and logs about it, once for all shards.

use core::mem;

use crate::edge::uplink::batch::{Batch, Upward};
use crate::edge::uplink::queue::LinkQueue;
use crate::link::v3::Grant;

/// The states of a branch. The shard wants one whenever it has none, and the trunk gives it one when there is a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Down,
    Connecting,
    Up,
}

image!(enum State { 0 Down {}, 1 Connecting {}, 2 Up {} });

/// The branch of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Branch {
    state: State,
    /// Whether the trunk knows that all sessions are announced. It holds back what waits at all shards until then (SPEC 9.9(e)).
    announced: bool,
    /// Whether packets may be handed up, which the trunk decides (SPEC 9.9(e)).
    released: bool,
    /// What the trunk is to know of this shard before anything else, on a link of version 3.
    granted: Option<Grant>,
}

image!(Branch {
    state,
    announced,
    released,
    granted
});

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

    /// Handles that it is the branch of a link of which the backend knows all sessions already.
    #[cfg(feature = "upgrade")]
    pub(crate) fn go_on(&mut self) {
        self.announced = true;
    }

    /// Handles that the shard has taken up what the backend asks for.
    pub(crate) fn grant(&mut self, grant: Grant) {
        self.granted = Some(grant);
    }

    /// Handles that the trunk has room for the packets that wait.
    pub(crate) fn release(&mut self) {
        self.released = true;
    }

    /// Returns whether there is something in `queue` to hand up.
    #[inline]
    pub(crate) fn has_output(&self, queue: &LinkQueue) -> bool {
        self.is_up()
            && !queue.version.is_held()
            && (self.granted.is_some()
                || !queue.announcements.is_empty()
                || (!self.announced && !queue.is_announcing())
                || (self.released && queue.has_packets()))
    }

    /// Takes what is to be handed up next. A batch takes the memory of `spare` in return.
    pub(crate) fn take_output(
        &mut self,
        queue: &mut LinkQueue,
        spare: &mut Batch,
    ) -> Option<Upward> {
        if !self.is_up() || queue.version.is_held() {
            return None;
        }
        if let Some(grant) = self.granted.take() {
            return Some(Upward::Granted(grant));
        }
        if queue.version.has_owns() {
            return Some(Upward::Announcements(queue.copy_packets(spare)));
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
        if queue.version.is_granted() {
            let has_packets = queue.has_packets();
            return has_packets.then(|| Upward::Packets(queue.copy_packets(spare)));
        }
        queue.take_packets(spare).map(Upward::Packets)
    }
}
