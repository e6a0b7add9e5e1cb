//! Where what was saved goes on: at which backend, and at which shard of that (SPEC 39.5).

use std::collections::BTreeSet;

use super::{Contents, Contribution, OfTrunk, SavedLeaving};
use crate::edge::trunk::counts::SavedTrunk;
use crate::id::{ClientId, ShardId};
use crate::link::v3::is_counted;

/// The shards of an edge: each of so many backends has so many.
#[derive(Clone, Copy, Debug)]
pub(in crate::edge) struct Grid {
    pub(in crate::edge) backends: u8,
    pub(in crate::edge) each: u8,
}

impl Grid {
    /// Returns the backend of a shard.
    pub(in crate::edge) fn backend_of(self, shard: ShardId) -> u8 {
        shard.as_u8() / self.each.max(1)
    }

    /// Returns the shard of a backend that is in the place of one that was the `local`th of its own.
    fn shard(self, backend: u8, local: u8) -> ShardId {
        let each = self.each.max(1);
        let first = backend.saturating_mul(each);
        ShardId::new(first.saturating_add(local % each))
    }

    /// Returns the shard of a backend for a session that was at the `local`th shard of its own one. That in its id goes before all others,
    /// since frames of the backend are routed there (SPEC 45.6(f)).
    fn shard_of(self, backend: u8, id: ClientId, local: u8) -> ShardId {
        let own = id.shard();
        match self.backends > 1 {
            _ if self.backend_of(own) == backend => own,
            true => self.shard(backend, local),
            // The first one has those whose shard is missing (SPEC 39.4(c)).
            false => ShardId::default(),
        }
    }
}

impl<'a> Contents<'a> {
    /// Sets the backends of the edge that goes on with it.
    pub(super) fn placed_at(mut self, names: &'a [String]) -> Self {
        self.names = names;
        let numbers = self.backends.iter();
        self.placed = numbers
            .map(|backend| self.number_of(backend.name))
            .collect();
        self
    }

    pub(in crate::edge) fn is_of_several(&self) -> bool {
        let mut parts = self.parts.iter();
        !self.backends.is_empty() || parts.any(|part| !part.departures.leaving.is_empty())
    }

    /// Returns the shards that were saved, of each backend.
    fn grid(&self) -> Grid {
        let backends = self.backends.len().max(1);
        let each = self.parts.len() / backends;
        Grid {
            backends: u8::try_from(backends).unwrap_or(u8::MAX),
            each: u8::try_from(each).unwrap_or(u8::MAX),
        }
    }

    /// Returns whether each trunk, and of several backends each shard, is one of those that there were.
    pub(super) fn is_whole(&self) -> bool {
        let backends = self.backends.len();
        let trunks: BTreeSet<u8> = self.trunks.iter().map(|(backend, _)| *backend).collect();
        let named: BTreeSet<&str> = self.backends.iter().map(|backend| backend.name).collect();
        let is_known = |backend: &u8| usize::from(*backend) < backends.max(1);
        let has_place =
            |part: &Contribution<'_>| usize::from(part.shard.as_u8()) < self.parts.len();
        let are_shards = self.parts.len().is_multiple_of(backends.max(1));
        trunks.len() == self.trunks.len()
            && trunks.iter().all(is_known)
            && named.len() == backends
            && (backends == 0 || are_shards && self.parts.iter().all(has_place))
    }

    /// Returns the number of the backend of this name, of those that are there.
    fn number_of(&self, name: &str) -> Option<u8> {
        let number = self.names.iter().position(|own| own == name)?;
        u8::try_from(number).ok()
    }

    /// Returns where a saved backend is now. `None`: it is none of those that are there. Where there was one, it is the first.
    pub(in crate::edge) fn place_of(&self, saved: u8) -> Option<u8> {
        self.placed
            .get(usize::from(saved))
            .map_or(Some(0), |place| *place)
    }

    /// Returns the number that a backend had which is there now.
    pub(in crate::edge) fn number_before(&self, backend: u8) -> Option<u8> {
        let saved = 0..self.grid().backends;
        saved
            .into_iter()
            .find(|saved| self.place_of(*saved) == Some(backend))
    }

    /// Returns the names of saved backends that are none of those that are there.
    pub(super) fn missing(&self) -> Vec<&'a str> {
        let names = self.backends.iter().map(|backend| backend.name);
        names
            .filter(|name| self.number_of(name).is_none())
            .collect()
    }

    /// Returns the number that the backend of this part had.
    pub(in crate::edge) fn backend_of(&self, part: &Contribution<'_>) -> u8 {
        self.grid().backend_of(part.shard)
    }

    /// Returns which one of the shards of its backend it was.
    fn local(&self, part: &Contribution<'_>) -> u8 {
        part.shard.as_u8() % self.grid().each.max(1)
    }

    /// Returns the shard of `grid` at which a session of this part goes on. `None`: its backend is not there.
    pub(in crate::edge) fn shard_for(
        &self,
        grid: Grid,
        part: &Contribution<'_>,
        id: ClientId,
    ) -> Option<ShardId> {
        let backend = match part.departures.leaving.get(&id.as_u64()) {
            Some(SavedLeaving::Gone { name, .. }) => self.number_of(name)?,
            // It has left, and waits at a shard that may be another one's now.
            Some(SavedLeaving::Left(_)) => self.place_of(self.backend_of(part)).unwrap_or(0),
            Some(SavedLeaving::Told) | None => self.place_of(self.backend_of(part))?,
        };
        Some(grid.shard_of(backend, id, self.local(part)))
    }

    /// Returns the shard of `grid` that is in the place of that of this part, whose backend is there.
    pub(in crate::edge) fn heir_of(&self, grid: Grid, part: &Contribution<'_>) -> Option<ShardId> {
        let backend = self.place_of(self.backend_of(part))?;
        Some(grid.shard(backend, self.local(part)))
    }

    /// Returns the parts of the shards of a saved backend.
    pub(in crate::edge) fn parts_of(&self, saved: u8) -> impl Iterator<Item = &Contribution<'a>> {
        let parts = self.parts.iter();
        parts.filter(move |part| self.backend_of(part) == saved)
    }

    /// Returns the part of the trunk of a saved backend.
    pub(in crate::edge) fn trunk_of(&self, saved: u8) -> Option<&OfTrunk<'a>> {
        let mut trunks = self.trunks.iter();
        let (_, of_trunk) = trunks.find(|(backend, _)| *backend == saved)?;
        Some(of_trunk)
    }

    /// Returns whether a backend that is there has as many shards in `grid` as before, with the same sessions: then what waits stays with
    /// its shard, in order.
    pub(in crate::edge) fn is_same(&self, grid: Grid, backend: u8) -> bool {
        let Some(saved) = self.number_before(backend) else {
            return false;
        };
        let stays = |part: &Contribution<'_>, session: &[u8]| {
            let id = id_of(session);
            let leaving = part.departures.leaving.get(&id.as_u64());
            // What waits of these is with them.
            matches!(
                leaving,
                Some(SavedLeaving::Left(_) | SavedLeaving::Gone { .. })
            ) || self.shard_for(grid, part, id) == self.heir_of(grid, part)
        };
        let mut parts = self.parts_of(saved);
        let are_as_many = self.parts_of(saved).count() == usize::from(grid.each)
            && self
                .parts
                .iter()
                .all(|part| usize::from(part.shard.as_u8()) < self.parts.len());
        are_as_many && parts.all(|part| part.sessions.iter().all(|session| stays(part, session)))
    }

    /// Returns what the trunk of a backend that is there had counted, if its shards in `grid` go on behind it: they are the same ones, and
    /// each has counted what it has.
    pub(in crate::edge) fn counts_of(&self, grid: Grid, backend: u8) -> Option<&SavedTrunk> {
        let saved = self.number_before(backend)?;
        let trunk = self.trunk_of(saved)?;
        let of_trunk = trunk.counts.as_ref()?;
        let are_as_many = of_trunk.shards() == usize::from(grid.each);
        let agrees = |part: &Contribution<'_>| {
            let local = ShardId::new(self.local(part));
            let late = trunk.late.iter();
            let of_it = late.filter(|(shard, body)| *shard == local && is_counted(body));
            let late = of_it.count() as u64;
            let marks = of_trunk.of(local);
            let named = (&of_trunk.boot, of_trunk.features);
            let frames = part.frames.len() as u64;
            marks.is_some_and(|marks| part.version.agrees(named, marks, frames, late))
        };
        // What waits there has no count.
        let is_all_counted = trunk.frames.is_empty();
        let goes_on = are_as_many && is_all_counted && self.is_same(grid, backend);
        (goes_on && self.parts_of(saved).all(agrees)).then_some(of_trunk)
    }
}

/// Returns the id with which the body of a frame, or a saved session, begins.
pub(in crate::edge) fn id_of(bytes: &[u8]) -> ClientId {
    let id = bytes.first_chunk().copied().unwrap_or_default();
    ClientId::from_u64(u64::from_le_bytes(id))
}
