//! Sessions that leave outlive their process (SPEC 39.5), and so do those whose backend does not.

use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use crate::edge::lifecycle::departing::{Departures, Gone, Left};
use crate::edge::sessions::saved::SavedSession;
use crate::edge::snapshot::{
    Contents, Contribution, GONE, LEFT, OF_BACKENDS, Part, SavedLeaving, TOLD, id_of,
};
use crate::edge::uplink::rewrite::is_repeated;
use crate::edge::{BackendControl, Edge};
use crate::id::ClientId;
use crate::queue::FrameQueue;
use crate::time::Time;
use crate::wire::saved::{put_bytes, put_count};

/// What a session that leaves takes beside its frames, and its name of a backend.
const LEAVING_BYTES: usize = 32;

impl Departures {
    /// Returns whether there is nothing that outlives the process.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_ordered && self.leaving.is_empty() && self.gone.is_empty()
    }

    /// Returns about as many bytes as it takes to save them.
    pub(crate) fn held_bytes(&self) -> usize {
        let of_left = |left: &Left| {
            let name = left.gone.as_ref().map_or(0, |gone| gone.name.len());
            2 * left.waiting.held_bytes() + name
        };
        let leaving = self.leaving.values().flatten().map(of_left);
        let gone = self.gone.iter();
        let gone = gone.map(|one| one.record.len() + 2 * one.waiting.held_bytes());
        let beside = LEAVING_BYTES * (1 + self.leaving.len() + self.gone.len());
        beside + leaving.chain(gone).sum::<usize>()
    }

    /// Returns the sessions on their way to other shards, as they are saved.
    pub(crate) fn gone(&self) -> impl Iterator<Item = &[u8]> {
        self.gone.iter().map(|departing| &departing.record[..])
    }

    /// Appends who leaves, if somebody does. Those on their way to another shard have left, and will choose again.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        out.push(self.is_ordered.into());
        put_count(out, self.leaving.len() + self.gone.len());
        for (id, left) in &self.leaving {
            out.extend_from_slice(&id.as_u64().to_le_bytes());
            let Some(Left { waiting, gone, .. }) = left else {
                out.push(TOLD);
                continue;
            };
            match gone {
                None => out.push(LEFT),
                Some(gone) => {
                    out.push(GONE);
                    put_bytes(out, gone.name.as_bytes());
                    out.push(gone.goes.into());
                }
            }
            put_frames(out, waiting);
        }
        for departing in &self.gone {
            out.extend_from_slice(&departing.id.as_u64().to_le_bytes());
            out.push(LEFT);
            put_frames(out, &departing.waiting);
        }
    }

    /// Copies them for a machine that is saved. There is no backend that anybody goes to from it.
    #[cfg(feature = "upgrade")]
    pub(crate) fn copied(&self, shares: &crate::edge::shares::Shares) -> Departures {
        let copy = |left: &Left| Left {
            waiting: left.waiting.clone(),
            gone: left.gone.clone(),
            _lent: shares.lends(0),
        };
        let leaving = self.leaving.iter();
        let gone = self.gone.iter().map(|departing| crate::edge::Departing {
            to: departing.to,
            id: departing.id,
            record: departing.record.clone(),
            waiting: departing.waiting.clone(),
            _arriving: shares.sends_newcomer(departing.to),
            _lent: shares.lends(0),
        });
        let mut copied = Departures::default();
        copied.is_ordered = self.is_ordered;
        copied.leaving = leaving
            .map(|(id, left)| (*id, left.as_ref().map(copy)))
            .collect();
        copied.gone = gone.collect();
        copied
    }
}

impl BackendControl {
    /// Saves which backends there are, in order, and which of them drain, for a [`Snapshot`](crate::edge::Snapshot) (SPEC 39.5(a)).
    #[must_use]
    pub fn save(&self, names: &[String]) -> Part {
        let mut out = Zeroizing::new(vec![OF_BACKENDS]);
        put_count(&mut out, names.len());
        for (backend, name) in (0..=u8::MAX).zip(names) {
            put_bytes(&mut out, name.as_bytes());
            out.push(self.is_draining(backend).into());
        }
        Part(out)
    }
}

fn put_frames(out: &mut Vec<u8>, frames: &FrameQueue) {
    put_count(out, frames.packets());
    frames.bodies().for_each(|body| put_bytes(out, body));
}

fn queue_of(bodies: &[&[u8]]) -> FrameQueue {
    let mut frames = FrameQueue::new();
    bodies.iter().for_each(|body| frames.push_body(body));
    frames
}

impl Edge {
    /// Notes which of the saved sessions are, or were, at another shard than that in their id.
    pub(in crate::edge) fn take_pins(&mut self, contents: &Contents<'_>) {
        let grid = self.grid();
        if grid.backends < 2 {
            return;
        }
        for part in &contents.parts {
            let away = |id: ClientId| {
                let shard = contents.shard_for(grid, part, id);
                Some((id, shard.filter(|shard| *shard != id.shard())?))
            };
            let living = part.sessions.iter().map(|session| id_of(session));
            let ended = part.ends.iter().map(|(id, _)| *id);
            self.shares.change_pins(|pins| {
                for (id, shard) in living.filter_map(away) {
                    pins.arrive(id, shard);
                }
                for (id, shard) in ended.filter_map(away) {
                    if pins.find(id).is_none() {
                        pins.arrive(id, shard);
                        pins.end(id);
                    }
                }
            });
        }
    }

    /// Goes on with those that leave, and takes those whose backend is not there: they wait as for one that is down.
    pub(in crate::edge) fn take_departures(&mut self, now: Time, contents: &Contents<'_>) {
        self.take_orders(contents);
        let (grid, own) = (self.grid(), self.config.shard);
        for part in &contents.parts {
            self.take_orphans(now, contents, part);
            for (id, leaving) in &part.departures.leaving {
                let id = ClientId::from_u64(*id);
                if contents.shard_for(grid, part, id) != Some(own) {
                    continue;
                }
                let Some(session) = self.sessions.lookup(id) else {
                    continue;
                };
                let left = match leaving {
                    SavedLeaving::Told => None,
                    SavedLeaving::Left(frames) => Some(self.left(queue_of(frames), None)),
                    SavedLeaving::Gone { frames, .. } => {
                        // Its backend is there again. What it had not acknowledged waits for it.
                        self.push_frames(frames.iter().copied());
                        continue;
                    }
                };
                self.forget_settled(session);
                self.departures.leaving.insert(id, left);
            }
        }
        if self.sessions.len() > 0 && self.departures.was_exact {
            // It may never come.
            self.backend_went(now);
        }
        if !self.departures.is_empty() {
            self.departures.look_at(now);
        }
    }

    /// Goes on with what an operator has ordered for the backend of this shard.
    fn take_orders(&mut self, contents: &Contents<'_>) {
        let own = self.config.shard;
        let Some(saved) = contents.number_before(self.grid().backend_of(own)) else {
            return;
        };
        let parts = || contents.parts_of(saved);
        self.departures.is_ordered |= parts().any(|part| part.departures.is_ordered);
        self.departures.was_exact = parts().all(|part| part.version.is_exact());
        let was = contents.backends.get(usize::from(saved));
        if was.is_some_and(|was| was.is_draining)
            && let Some(standing) = self.shares.backends().standing(own.as_u8())
        {
            standing.set_draining(true);
        }
    }

    /// Takes those sessions of a part that are to be here until there is a backend for them, since theirs is not there.
    fn take_orphans(&mut self, now: Time, contents: &Contents<'_>, part: &Contribution<'_>) {
        let grid = self.grid();
        let saved = contents.backend_of(part);
        let own_name = contents.backends.get(usize::from(saved));
        let own_name = own_name.map_or("", |backend| backend.name);
        let mut orphans: BTreeMap<ClientId, (FrameQueue, Gone)> = BTreeMap::new();
        let mut with_frames: BTreeSet<ClientId> = BTreeSet::new();
        for session in &part.sessions {
            let id = id_of(session);
            if contents.shard_for(grid, part, id).is_some() || !self.is_here(id) {
                continue;
            }
            let Some(saved) = SavedSession::load(session) else {
                continue;
            };
            self.take_session(now, saved);
            let Some(session) = self.sessions.lookup(id) else {
                continue;
            };
            self.forget_linked(session);
            let (frames, name, goes) = match part.departures.leaving.get(&id.as_u64()) {
                Some(SavedLeaving::Gone { name, goes, frames }) => {
                    with_frames.insert(id);
                    (queue_of(frames), *name, *goes)
                }
                _ => (FrameQueue::new(), own_name, part.version.is_exact()),
            };
            let name = name.into();
            orphans.insert(id, (frames, Gone { name, goes }));
        }
        if orphans.is_empty() {
            return;
        }
        let trunk = contents.trunk_of(saved).into_iter();
        let bodies = trunk.flat_map(|trunk| &trunk.frames).chain(&part.frames);
        for body in bodies.filter(|body| is_repeated(body)) {
            let id = id_of(body);
            if let Some((frames, _)) = orphans.get_mut(&id)
                && !with_frames.contains(&id)
            {
                frames.push_body(body);
            }
        }
        tracing::warn!(
            sessions = orphans.len(),
            "there are sessions of a backend that is not configured any more"
        );
        self.departures.gone_since = Some(now);
        for (id, (frames, gone)) in orphans {
            let left = self.left(frames, Some(gone));
            self.departures.leaving.insert(id, Some(left));
        }
        self.repin_changed();
    }
}
