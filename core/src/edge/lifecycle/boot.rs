//! A backend asks for version 3 of the link, and learns who is there (SPEC 34, 37.4).

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{ClientId, ShardId};
use crate::link::tagged::TAG_BYTES;
use crate::link::v3::{
    Ask, Feature, Features, FrameError, GROUPS_OF_A_SESSION, Grant, JOINED_BYTES, LinkAck,
    MAX_TOKEN_BYTES, Own, OwnState, ToBackend, flag,
};
use crate::queue::FrameQueue;
use crate::time::Time;

use crate::edge::Edge;
use crate::edge::counters::EndReason;
use crate::edge::lifecycle::notices::living;
use crate::edge::sessions::{Place, Session};
use crate::edge::uplink::Uplink;
use crate::edge::uplink::hold::{Version2, Wrong};
use crate::edge::uplink::rewrite::{Waiting, drop_beyond, to_new_boot, to_version_2, waiting_of};
use crate::edge::uplink::version::Granting;

/// What the backend has acknowledged.
#[derive(Debug, Default)]
struct Gone {
    /// Packets, by session.
    packets: BTreeMap<ClientId, u64>,
    /// Sessions whose ENDED it has.
    #[cfg(feature = "backends")]
    ended: Vec<ClientId>,
    /// Sessions whose JOINED it has.
    #[cfg(feature = "cluster")]
    joined: Vec<ClientId>,
}

impl Gone {
    fn add(&mut self, body: &[u8]) {
        match body.split_first_chunk() {
            Some((id, [flag::DATA, ..])) => {
                let id = ClientId::from_u64(u64::from_le_bytes(*id));
                *self.packets.entry(id).or_default() += 1;
            }
            #[cfg(feature = "backends")]
            Some((id, [flag::ENDED, ..])) => {
                self.ended.push(ClientId::from_u64(u64::from_le_bytes(*id)));
            }
            #[cfg(feature = "cluster")]
            Some((id, [flag::JOINED, ..])) => {
                self.joined
                    .push(ClientId::from_u64(u64::from_le_bytes(*id)));
            }
            _ => {}
        }
    }
}

impl Edge {
    /// Handles an ASK.
    pub(crate) fn handle_ask(&mut self, now: Time, ask: Result<Ask, FrameError>) {
        let ask = match ask {
            Ok(ask) => ask,
            Err(error) => {
                tracing::warn!(%error, "the backend asks for version 3 of the link, and the ASK is malformed");
                self.counters.malformed_down += 1;
                return self.handle_not_asked();
            }
        };
        if let Uplink::Link(link) = &mut self.uplink {
            link.trust();
        }
        let of_edge = (self.run, self.counters.link_bytes_out, self.offered());
        let queue = &mut self.link_queue;
        let granted = queue.version.grant(now, &ask, of_edge, &mut queue.frames);
        let granting = match granted {
            Ok(granting) => granting,
            Err(wrong) => return self.handle_wrong(wrong),
        };
        if self.config.shard == ShardId::default() {
            self.warn_of_length(ask.longest_body);
        }
        let features = self.link_queue.version.features().unwrap_or_default();
        let (received, ended) = match granting {
            Granting::GoesOn => {
                self.settling.hurry(now);
                (self.link_queue.version.received(), 0)
            }
            Granting::Anew => {
                #[cfg(feature = "backends")]
                {
                    let is_divided = self.uplink.link().is_none() && ask.run == Some(self.run);
                    self.departures.divide(is_divided);
                }
                let ended = self.begin_boot(features);
                // A backend that thinks that it goes on is told (SPEC 34.3(c)).
                match ask.run == Some(self.run) {
                    true => (u64::MAX, ended),
                    false => (0, ended),
                }
            }
        };
        let staying = self.sessions.iter().filter(|(_, entry)| self.stays(entry));
        let living = staying.filter_map(|(_, entry)| living(entry));
        let sessions = living.count().saturating_add(ended);
        #[cfg(feature = "cluster")]
        let (home, granted) = match self.config.home {
            home @ 1.. if ask.features.has(Feature::Homes) => (home, features.with(Feature::Homes)),
            home => (home, features),
        };
        #[cfg(not(feature = "cluster"))]
        let (home, granted) = (0, features);
        let grant = Grant {
            features: granted,
            boot: ask.boot,
            home,
            term: self.term,
            run: self.run,
            continues: None,
            received,
            groups_of_a_session: GROUPS_OF_A_SESSION,
            sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        };
        match &mut self.uplink {
            Uplink::Link(_) => {
                self.link_queue
                    .version
                    .make_control(|out| grant.encode(out));
                tracing::info!(%features, ?granting, "the backend asked for version 3 of the link");
            }
            Uplink::Branch(branch) => branch.grant(grant),
        }
        self.hear_asked(now);
    }

    /// Returns the features that it offers.
    fn offered(&self) -> Features {
        #[cfg(feature = "cluster")]
        if self.config.home > 0 {
            return Features::of_several();
        }
        Features::built()
    }

    /// Warns of a backend that takes shorter frames than clients can cause (SPEC 34.2(d)).
    fn warn_of_length(&self, takes: u32) {
        let longest = self.longest_frame();
        if u64::from(takes) < longest {
            tracing::warn!(
                takes,
                longest,
                "a packet of a client can make a frame that the backend does not take, and ends its session; let it take `longest` bytes, or lower clients.max_frame_bytes"
            );
        }
    }

    /// Returns the length of the longest body that a client can cause, in bytes: a packet, or JOINED with its token.
    pub(crate) fn longest_frame(&self) -> u64 {
        let packet = u64::from(self.config.clients.max_frame_bytes);
        let joined = JOINED_BYTES.saturating_add(MAX_TOKEN_BYTES) as u64;
        packet.max(joined).saturating_add(TAG_BYTES as u64)
    }

    /// Applies the acknowledgement in ASK once it counts.
    pub(crate) fn hear_asked(&mut self, now: Time) {
        let queue = &mut self.link_queue;
        let mut gone = Gone::default();
        let heard = queue
            .version
            .hear_asked(&mut queue.frames, |body| gone.add(body));
        self.end_hearing(now, heard, gone);
    }

    /// Handles a LINK_ACK.
    pub(crate) fn hear_ack(&mut self, now: Time, ack: LinkAck) {
        #[cfg(feature = "backends")]
        if self.departures.is_divided() {
            return;
        }
        let queue = &mut self.link_queue;
        let mut gone = Gone::default();
        let heard = queue
            .version
            .hear(ack, &mut queue.frames, |body| gone.add(body));
        self.end_hearing(now, heard, gone);
    }

    fn end_hearing(&mut self, now: Time, heard: Result<usize, Wrong>, gone: Gone) {
        match heard {
            Ok(0) => {}
            Ok(_) => {
                #[cfg(feature = "cluster")]
                if self.config.home > 0 {
                    for id in gone.joined {
                        self.hear_taken(now, id);
                    }
                }
                for (id, packets) in gone.packets {
                    #[cfg(feature = "cluster")]
                    let packets = self.moves.of_present_copy(id, packets);
                    if let Some(session) = self.sessions.lookup(id) {
                        self.sessions.live_mut(session).acknowledge_up(packets);
                        self.take_acknowledged(now, session);
                    }
                }
                #[cfg(feature = "backends")]
                self.hear_ended(now, &gone.ended);
                self.link_heard(now);
            }
            Err(wrong) => self.handle_wrong(wrong),
        }
    }

    #[inline(never)]
    fn link_heard(&mut self, now: Time) {
        self.link_written(now);
    }

    /// Handles the first frame of a backend that does not ask. Returns false if it had to.
    pub(crate) fn handle_not_asked(&mut self) {
        let queue = &mut self.link_queue;
        match queue.version.is_not_asked(&mut queue.frames) {
            Ok(Some(how)) => self.begin_version_2(how),
            Ok(None) => {}
            Err(wrong) => self.handle_wrong(wrong),
        }
    }

    /// Rewrites what waits in line, since the link has version 2.
    pub(crate) fn begin_version_2(&mut self, how: Version2) {
        if how == Version2::First {
            self.rewrite_backlogs(to_version_2);
        }
        let announces = self.config.master.announce_all;
        self.link_queue.begin_announcing(announces, &self.sessions);
    }

    fn rewrite_backlogs(&mut self, mut rewrite: impl FnMut(&mut FrameQueue)) {
        let waiting: Vec<u32> = self.line.iter().collect();
        for session in waiting {
            let entry = self.sessions.live_mut(session);
            rewrite(&mut entry.line_entry().backlog);
            self.sessions.recount(session, &mut self.account);
        }
    }

    /// Drops a link on which something is wrong.
    pub(crate) fn handle_wrong(&mut self, wrong: Wrong) {
        let link = self.uplink.link_mut();
        let is_new = || self.link_queue.version.complains();
        if link.drop_for(wrong, is_new) {
            self.counters.link_violations += 1;
            self.link_queue.version.forget_counts();
        }
    }

    /// Handles that what is due of the link's version is due.
    pub(crate) fn link_timeout(&mut self, now: Time) {
        let queue = &mut self.link_queue;
        match queue.version.end_hold(now, &mut queue.frames) {
            Ok(Some(how)) => self.begin_version_2(how),
            Ok(None) => queue.version.handle_timeout(now, &queue.frames),
            Err(wrong) => self.handle_wrong(wrong),
        }
    }

    /// Tells a boot that knows nothing of each session, before what waits for the backend (SPEC 37.4). Returns how many of these sessions have
    /// ended.
    fn begin_boot(&mut self, features: Features) -> usize {
        self.end_groups();
        self.end_pauses();
        self.forget_keys();
        self.forget_all_settled();
        self.link_queue.unseal();
        #[cfg(feature = "cluster")]
        self.drop_old_frames();
        #[cfg(feature = "backends")]
        self.depart_from_new_boot(self.now);
        let waiting = self.waiting_for_backend();
        let (mut frames, ended) = self.owns(&waiting, features);
        self.link_queue
            .version
            .begin_with_owns(frames.packets() as u64);
        self.note_owned(&waiting, features.has(Feature::LinkAcks).then_some(ended));
        let beyond = self.rewrite_waiting(features);
        for body in self.link_queue.frames.bodies() {
            frames.push_body(body);
        }
        self.link_queue.frames = frames;
        #[cfg(feature = "cluster")]
        self.adopt_again();
        ended + self.end_beyond(beyond)
    }

    /// Returns an OWN for each session, and how many of these sessions have ended. Where the link has no acknowledgements, there are none.
    fn owns(
        &self,
        waiting: &BTreeMap<ClientId, Waiting>,
        features: Features,
    ) -> (FrameQueue, usize) {
        let (mut frames, mut ended) = (FrameQueue::new(), 0);
        if features.has(Feature::LinkAcks) {
            let mut frame = Vec::new();
            for (id, own) in self.owned(waiting) {
                ended += usize::from(own.state == OwnState::Ended);
                frame.clear();
                ToBackend::Own { id, own }.encode(&mut frame);
                frames.push_frame(&frame, &[]);
            }
        }
        (frames, ended)
    }

    /// Notes what this boot is told of each session: by which frame, whether it is away, and the packets that wait, which it is to acknowledge.
    /// `ended` OWN of sessions that have ended go before those of the others, if there are any.
    fn note_owned(&mut self, waiting: &BTreeMap<ClientId, Waiting>, ended: Option<usize>) {
        let mut owns = ended.map(|ended| ended as u64);
        let noted = self.sessions.iter().map(|(session, entry)| {
            let packets = waiting.get(&entry.id).map_or(0, |waiting| waiting.packets);
            let has_own = self.stays(entry) && living(entry).is_some();
            let own = owns.as_mut().filter(|_| has_own);
            let told_at = own.map_or(0, |own| {
                *own += 1;
                *own
            });
            (session, packets, self.is_away(entry.place), told_at)
        });
        let noted: Vec<(u32, u64, bool, u64)> = noted.collect();
        for (session, packets, is_away, told_at) in noted {
            let entry = self.sessions.live_mut(session);
            if entry.unacknowledged_up() != packets {
                entry.linked().unacknowledged = packets;
            }
            if entry.told_at() != told_at {
                entry.linked().told_at = told_at;
            }
            if is_away || entry.is_linked() {
                entry.linked().is_told_away = is_away;
            }
        }
    }

    /// Returns whether a session in this place is away for the backend: it is as long as its client owes a Ping.
    fn is_away(&self, place: Place) -> bool {
        match place {
            Place::Attached(index) => !self.conns.live(index).is_established(),
            Place::Away => true,
            Place::Ended => false,
        }
    }

    /// Rewrites what waits for a boot that knows nothing. Returns the sessions of which a packet is longer than the backend takes.
    fn rewrite_waiting(&mut self, features: Features) -> BTreeSet<ClientId> {
        let longest = self.link_queue.version.longest_body() as usize;
        let mut beyond = BTreeSet::new();
        let mut rewrite = |frames: &mut FrameQueue| {
            to_new_boot(frames, features);
            drop_beyond(frames, longest, &mut beyond);
        };
        rewrite(&mut self.link_queue.frames);
        self.rewrite_backlogs(rewrite);
        beyond
    }

    /// Ends the sessions of which a packet is longer than the backend takes (SPEC 34.2(d)). OWN has told of them. Returns how many they are.
    fn end_beyond(&mut self, beyond: BTreeSet<ClientId>) -> usize {
        let mut ended = 0;
        for id in beyond {
            if let Some(session) = self.sessions.lookup(id) {
                ended += 1;
                self.end_session(self.now, session, EndReason::PacketTooLong);
            }
        }
        ended
    }

    /// Returns what waits of each session.
    fn waiting_for_backend(&mut self) -> BTreeMap<ClientId, Waiting> {
        let mut all: BTreeMap<ClientId, Waiting> = BTreeMap::new();
        let mut add = |body: &[u8]| {
            if let Some((id, of_frame)) = waiting_of(body) {
                let waiting = all.entry(id).or_default();
                waiting.packets += of_frame.packets;
                waiting.joined |= of_frame.joined;
                waiting.ended = waiting.ended.or(of_frame.ended);
            }
        };
        self.link_queue.frames.bodies().for_each(&mut add);
        for session in self.line.iter() {
            let entry = self.sessions.live_mut(session);
            entry.line_entry().backlog.bodies().for_each(&mut add);
        }
        all
    }

    /// Returns an OWN for each session: first those that have ended and have frames that wait.
    fn owned(&self, waiting: &BTreeMap<ClientId, Waiting>) -> Vec<(ClientId, Own<'_>)> {
        let ended = waiting.iter().filter_map(|(&id, waiting)| {
            let (up, numbered_down, settled_down) = waiting.ended?;
            let own = Own {
                counter: 0,
                next_up: up.saturating_sub(waiting.packets).saturating_add(1),
                numbered_down,
                settled_down,
                state: OwnState::Ended,
                joined_follows: waiting.joined,
                note: "",
            };
            Some((id, own))
        });
        let living = self.sessions.iter().filter(|(_, entry)| self.stays(entry));
        let living = living.filter_map(|(index, entry)| {
            let state = match entry.place {
                Place::Ended => return None,
                place if self.is_away(place) => OwnState::Away,
                _ => OwnState::Attached,
            };
            let waiting = waiting.get(&entry.id).copied().unwrap_or_default();
            Some((entry.id, self.own_of(index, entry, state, waiting)))
        });
        ended.chain(living).collect()
    }

    /// Returns an OWN of the session at `index`, of which this waits.
    pub(crate) fn own_of<'a>(
        &self,
        index: u32,
        entry: &'a Session,
        state: OwnState,
        waiting: Waiting,
    ) -> Own<'a> {
        let up = match entry.numbers() {
            Some(numbers) => numbers.received(),
            None => entry.packets_up(),
        };
        Own {
            counter: self.counter_of(index),
            next_up: up.saturating_sub(waiting.packets).saturating_add(1),
            numbered_down: entry.numbered_down(),
            settled_down: entry.settled_down(),
            state,
            joined_follows: waiting.joined,
            note: entry.note(),
        }
    }

    /// Returns whether the session does not leave for another backend.
    #[cfg(feature = "backends")]
    fn stays(&self, entry: &Session) -> bool {
        !self.departures.has(entry.id)
    }

    #[cfg(not(feature = "backends"))]
    #[expect(clippy::unused_self, reason = "as if there could be another one")]
    fn stays(&self, _: &Session) -> bool {
        true
    }
}
