//! What a machine saves at an orderly end, and how another process goes on with it (SPEC 39).

use zeroize::Zeroizing;

use crate::Closed;
use crate::edge::Edge;
use crate::edge::counters::EndReason;
use crate::edge::door::sources::{Admission, Nesting};
use crate::edge::sessions::ends::MOST;
use crate::edge::sessions::saved::SavedSession;
use crate::edge::sessions::{Place, Session};
use crate::edge::snapshot::{
    Contents, Contribution, Grid, OF_MACHINE, OfTrunk, Part, Snapshot, id_of,
};
use crate::id::{ClientId, ShardId};
use crate::link::tagged::{Flag, Tagged};
use crate::queue::FrameQueue;
use crate::time::Time;
use crate::wire::saved::{put_bytes, put_count};

/// What a session takes beside its packets, at most, but for marks and notes.
const SESSION_BYTES: usize = 512;

impl Edge {
    /// Says that the sessions will be [saved](Self::save) at the end: then none has to make room for others that go away at a
    /// [shutdown](Edge::handle_shutdown). To be called before that.
    pub fn keep_sessions(&mut self) {
        noted!(self, Time::ZERO, KeepSessions);
        self.saves = true;
    }

    /// Returns whether they will be.
    #[must_use]
    pub fn keeps_sessions(&self) -> bool {
        self.saves
    }

    /// Saves the sessions, so that another process can [go on](Self::restore) with them, and what waits for the backend (SPEC 39.1). To be
    /// called once, when the edge [has finished](Edge::is_finished) and its transports are closed: who is still there goes away. The machine is
    /// not to be used after that.
    pub fn save(&mut self, now: Time) -> Part {
        noted!(self, now, Save);
        self.step(now, |edge, now| edge.save_all(now))
    }

    fn save_all(&mut self, now: Time) -> Part {
        self.saves = true;
        self.shutdown_at.get_or_insert(now);
        let mut from = 0;
        while let Some(index) = self.conns.next_from(from) {
            self.remove_conn(now, index);
            from = index + 1;
        }
        self.save_sessions(now)
    }

    /// Saves the sessions that are away, and those whose connections are moved with them.
    pub(crate) fn save_sessions(&mut self, now: Time) -> Part {
        self.uplink.closed(
            now,
            Closed::Asked,
            &mut self.rng,
            &mut self.link_queue,
            &mut self.counters,
        );
        self.link_queue.unseal();
        let held = self.held_bytes() + self.ends.held_bytes();
        #[cfg(feature = "backends")]
        let held = held + self.departures.held_bytes();
        let beside = SESSION_BYTES.saturating_mul(self.sessions.len() + 1);
        // Room for all of it, so that no key is left in memory that it grew out of.
        let mut out = Zeroizing::new(Vec::with_capacity(held.saturating_add(beside)));
        out.push(OF_MACHINE);
        out.push(self.config.shard.as_u8());
        put_count(&mut out, 1 + self.kept_ids.len());
        self.ids.save(&mut out);
        self.kept_ids.iter().for_each(|ids| ids.save(&mut out));
        self.link_queue.version.save(&mut out);
        self.ends.save(&mut out);
        self.save_frames(&mut out);
        let mut record = Zeroizing::new(Vec::new());
        let sessions = self.sessions.iter().map(|(_, session)| session);
        let living = sessions.filter(|session| session.place != Place::Ended);
        let living: Vec<&Session> = living.collect();
        // Those on their way to another shard are nowhere else.
        #[cfg(feature = "backends")]
        let gone: Vec<&[u8]> = self.departures.gone().collect();
        #[cfg(not(feature = "backends"))]
        let gone: [&[u8]; 0] = [];
        put_count(&mut out, living.len() + gone.len());
        for session in living {
            record.clear();
            record.reserve(session.held_bytes().saturating_add(SESSION_BYTES));
            session.save(now, &mut record);
            put_bytes(&mut out, &record);
        }
        gone.iter().for_each(|record| put_bytes(&mut out, record));
        #[cfg(feature = "backends")]
        self.departures.save(&mut out);
        Part(out)
    }

    /// Appends the frames for the backend: those of the queue, then those that wait in line.
    fn save_frames(&self, out: &mut Vec<u8>) {
        let backlogs = || {
            let sessions = self.sessions.iter();
            sessions.filter_map(|(_, session)| session.line_frames())
        };
        let waiting: usize = backlogs().map(FrameQueue::packets).sum();
        put_count(out, self.link_queue.frames.packets() + waiting);
        for body in self.link_queue.frames.bodies() {
            put_bytes(out, body);
        }
        for frames in backlogs() {
            frames.bodies().for_each(|body| put_bytes(out, body));
        }
    }

    /// Goes on with the sessions of another process, which are away, and with its run (SPEC 39.4). To be called before the first client and the
    /// first link, for each shard with the same snapshot. Sessions for which this edge has no memory end as at any other time.
    pub fn restore(&mut self, now: Time, snapshot: &Snapshot) {
        noted!(self, now, Restore(snapshot.plain()));
        self.step(now, |edge, now| edge.take_back(now, &snapshot.contents()));
    }

    fn take_back(&mut self, now: Time, contents: &Contents<'_>) {
        // A recording has nothing of sessions that leave, so it ends here (SPEC 42.1(g)).
        #[cfg(feature = "record")]
        if contents.is_of_several() {
            self.stop_recording();
        }
        self.run = contents.run;
        #[cfg(feature = "cluster")]
        self.tell_name();
        let shards = self.config.shards.max(1);
        let is_stray = |session: &&[u8]| id_of(session).shard().as_u8() >= shards;
        let mut sessions = contents.parts.iter().flat_map(|part| &part.sessions);
        self.takes_strays = sessions.any(is_stray);
        #[cfg(feature = "backends")]
        self.take_pins(contents);
        for part in &contents.parts {
            self.take_ids(part, shards);
        }
        let grid = self.grid();
        // As many machines as before: what waits stays with its shard, in order.
        let backend = grid.backend_of(self.config.shard);
        let is_same = contents.is_same(grid, backend);
        let saved = contents.number_before(backend);
        let none = OfTrunk::default();
        let trunk = saved.and_then(|saved| contents.trunk_of(saved));
        let trunk = trunk.unwrap_or(&none);
        // Without its counts the link begins anew, and what the backend has sent before is discarded (SPEC 37.4(a)).
        let with_counts = match self.config.shards {
            0 => is_same && trunk.counts.is_none(),
            _ => contents.counts_of(grid, backend).is_some(),
        };
        // They were on their way already, so they go before what their shards have.
        self.push_frames(trunk.frames.iter().copied());
        for part in saved.iter().flat_map(|saved| contents.parts_of(*saved)) {
            let heir = contents.heir_of(grid, part).filter(|_| is_same);
            self.take_frames(now, part, heir, with_counts);
            for (id, end) in &part.ends {
                if self.is_here(*id) {
                    let most = MOST.div_ceil(usize::from(shards));
                    self.ends.remember(*id, None, *end, most);
                }
            }
        }
        for part in &contents.parts {
            for session in &part.sessions {
                if contents.shard_for(grid, part, id_of(session)) == Some(self.config.shard)
                    && let Some(saved) = SavedSession::load(session)
                {
                    self.take_session(now, saved);
                }
            }
        }
        let is_discarded = trunk.counts.is_some() && !with_counts;
        let first = backend.saturating_mul(grid.each);
        for (local, body) in &trunk.late {
            let is_here = match is_same {
                true => first.saturating_add(local.as_u8()) == self.config.shard.as_u8(),
                false => self.is_here(id_of(body)),
            };
            if is_here && !is_discarded {
                self.take_late(now, body);
            }
        }
        #[cfg(feature = "backends")]
        self.take_departures(now, contents);
        self.shed_load(now);
    }

    /// Returns how many shards each backend has.
    pub(in crate::edge) fn grid(&self) -> Grid {
        let backends = self.config.backends();
        Grid {
            backends,
            each: (self.config.shards / backends).max(1),
        }
    }

    /// Takes a frame of the backend for a shard that had ended.
    pub(crate) fn take_late(&mut self, now: Time, body: &[u8]) {
        if self.link_queue.version.is_counted() {
            return self.take_late_order(now, body);
        }
        match Tagged::decode(body) {
            Ok(Tagged {
                id,
                flag: Flag::Data,
                data,
            }) => {
                self.deliver(now, id, data, false);
            }
            Ok(Tagged {
                id,
                flag: Flag::Kick,
                data: [],
            }) => {
                if let Some(session) = self.sessions.lookup(id) {
                    self.end_session(now, session, EndReason::Kicked);
                }
            }
            _ => {}
        }
    }

    /// Queues those of these frames for the backend whose sessions belong to this machine.
    pub(crate) fn push_frames<'a>(&mut self, bodies: impl Iterator<Item = &'a [u8]>) {
        for body in bodies {
            if self.is_here(id_of(body)) {
                self.link_queue.frames.push_body(body);
            }
        }
    }

    /// Returns whether the session of this id belongs to this machine.
    pub(crate) fn is_here(&self, id: ClientId) -> bool {
        self.config.shards == 0 || self.home_of(id) == self.config.shard
    }

    fn take_ids(&mut self, part: &Contribution<'_>, shards: u8) {
        for ids in &part.ids {
            let shard = ids.shard();
            if shard == self.config.shard {
                self.ids = ids.clone();
                #[cfg(feature = "cluster")]
                {
                    self.ids = ids.clone().at_home(self.config.home);
                }
            } else if self.config.shard.as_u8() == 0 && shard.as_u8() >= shards {
                self.kept_ids.push(ids.clone());
            }
        }
    }

    /// Takes the frames of a part: all of them at its `heir`, or if it has none those whose sessions are here.
    fn take_frames(
        &mut self,
        now: Time,
        part: &Contribution<'_>,
        heir: Option<ShardId>,
        with_counts: bool,
    ) {
        let mut frames = FrameQueue::new();
        for body in &part.frames {
            let is_here = match heir {
                Some(heir) => heir == self.config.shard,
                None => self.is_here(id_of(body)),
            };
            if is_here {
                frames.push_body(body);
            }
        }
        // The counts of another shard are none of its own.
        let with_counts = with_counts && heir == Some(self.config.shard);
        let version = &mut self.link_queue.version;
        version.restore(now, &part.version, with_counts, &mut frames);
        for body in frames.bodies() {
            self.link_queue.frames.push_body(body);
        }
    }

    pub(crate) fn take_session(&mut self, now: Time, saved: SavedSession) {
        let Some(session) = self.sessions.restore(now, saved) else {
            return;
        };
        self.sessions.begin_absence(session, now);
        if self.link_queue.version.may_be_version_3() {
            self.sessions.live_mut(session).linked().is_told_away = true;
        }
        // Of what source it was is not known any more.
        self.sessions
            .count_absence(session, Admission::EXEMPT, &Nesting::NONE);
        self.sessions.recount(session, &mut self.account);
        let entry = self.sessions.live(session);
        for group in entry.groups() {
            self.groups.entry(*group).or_default().insert(session);
        }
        if entry.is_linked() && entry.settled_down() > entry.told_settled() {
            self.begin_settling(session);
        }
    }
}
