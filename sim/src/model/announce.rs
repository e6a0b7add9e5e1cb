//! The announcement at the start of a link, as SPEC 7.7 describes it.

use std::collections::BTreeSet;

use super::Model;
use super::link::{Link, What};
use crate::codec::{self, Tagged};

/// The sessions to announce on a link that has just come up.
#[derive(Clone, Default, Hash)]
pub(super) struct Announcing {
    /// Sessions attached since the link came up, and not announced yet.
    must: BTreeSet<u64>,
    /// Sessions attached at some time since then, and not announced yet.
    may: BTreeSet<u64>,
}

impl Link {
    /// Handles that the session has lost its connection: it may be left out.
    pub(super) fn not_to_announce(&mut self, sid: u64) {
        if let Some(announcing) = &mut self.announcing {
            announcing.must.remove(&sid);
        }
    }

    /// Handles that the session has a connection now: it may be announced.
    pub(super) fn may_announce(&mut self, sid: u64) {
        if let Some(announcing) = &mut self.announcing {
            announcing.may.insert(sid);
        }
    }

    /// Returns how many announcements may be waiting.
    pub(super) fn announcements(&self) -> usize {
        self.announcing.as_ref().map_or(0, |all| all.may.len())
    }

    /// Replaces a provisional name by the id that the edge shows.
    pub(super) fn learn_announced(&mut self, provisional: u64, id: u64) {
        if let Some(Announcing { must, may }) = &mut self.announcing {
            for ids in [must, may] {
                if ids.remove(&provisional) {
                    ids.insert(id);
                }
            }
        }
    }
}

impl Model {
    /// Handles that the link has come up.
    pub(super) fn begin_announcing(&mut self) {
        self.link.announcing = self.limits.announce_all.then(|| {
            let attached = self.sessions.iter().filter(|(_, one)| one.conn.is_some());
            let must: BTreeSet<u64> = attached.map(|(sid, _)| *sid).collect();
            let may = must.clone();
            Announcing { must, may }
        });
        self.reach.announced += u64::from(
            self.link
                .announcing
                .as_ref()
                .is_some_and(|announcing| !announcing.must.is_empty()),
        );
    }

    /// Returns whether `packet`, which the edge has written, is an announcement.
    pub(super) fn announces(&mut self, packet: &Tagged<'_>) -> bool {
        let Some(announcing) = &mut self.link.announcing else {
            return false;
        };
        let announced = packet.flag == codec::RESUMED
            && packet.data.is_empty()
            && announcing.may.remove(&packet.id);
        if !announced {
            self.check_announced();
            return false;
        }
        if !announcing.must.remove(&packet.id) {
            // It may just as well be the waiting notice. Which of the two it was cannot be seen.
            self.make_optional(packet.id);
        }
        true
    }

    fn make_optional(&mut self, id: u64) {
        let items = self.outbox.get_mut(&id).into_iter().flatten();
        for item in items.filter(|item| item.what == What::Resumed) {
            item.optional = true;
        }
    }

    /// Checks at the end of the announcement that no session is missing.
    pub(super) fn check_announced(&mut self) {
        let Some(announcing) = self.link.announcing.take() else {
            return;
        };
        if let Some(sid) = announcing.must.first() {
            let text = format!("{sid:016x} is attached, and the new link does not hear of it");
            self.fail("S16", "7.7(b)", text);
        }
    }

    /// Handles the loss of the link: records what it had taken of a cut packet.
    pub(super) fn note_cut(&mut self) {
        let rest = self.link.outgoing.rest();
        let announcement = codec::TAG_BYTES as u8;
        let may_announce = self.link.announcing.take().is_some()
            && rest.first().is_none_or(|first| *first == announcement)
            && rest.len() < 4 + codec::TAG_BYTES;
        // The rest of an announcement means nothing. A packet cut before it still comes first.
        if !may_announce {
            self.link.cut = rest.to_vec();
        }
    }
}
