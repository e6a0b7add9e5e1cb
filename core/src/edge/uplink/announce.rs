//! A new backend hears of the sessions that are there (SPEC 7.6).

use crate::edge::sessions::{Place, Sessions};
use crate::edge::uplink::queue::{LinkQueue, push_tagged};
use crate::link::tagged::Flag;

/// The number of announcements made at a time, so that a link with many sessions needs no very large buffer.
const ANNOUNCEMENTS_AT_ONCE: usize = 4096;

impl LinkQueue {
    /// Begins the announcements to a new backend: with `announce_all` it is told 0x03 for every attached session, before anything else.
    pub(crate) fn begin_announcing(&mut self, announce_all: bool, sessions: &Sessions) {
        if announce_all {
            self.announced_to = Some(0);
            self.announce_more(sessions);
        } else {
            self.end_announcing();
        }
    }

    /// Returns whether there may be more to announce than waits.
    pub(super) const fn is_announcing(&self) -> bool {
        self.announced_to.is_some()
    }

    fn end_announcing(&mut self) {
        self.announced_to = None;
        self.announcements.release();
    }

    /// Announces the next part of the walk over the sessions. A session that begins behind it needs no announcement: its data has the same
    /// effect later.
    pub(crate) fn announce_more(&mut self, sessions: &Sessions) {
        let Some(mut from) = self.announced_to else {
            return;
        };
        while self.announcements.packets() < ANNOUNCEMENTS_AT_ONCE
            && let Some((index, session)) = sessions.next_from(from)
        {
            if matches!(session.place, Place::Attached(_)) {
                push_tagged(&mut self.announcements, session.id, Flag::Resumed, &[]);
            }
            from = index + 1;
        }
        if self.announcements.is_empty() {
            self.end_announcing();
        } else {
            self.announced_to = Some(from);
        }
    }
}
