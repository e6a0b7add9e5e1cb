//! An edge with several backends asks one after the other for the session of a ticket, which does not name its pin (SPEC 45.9).

use crate::code::Code;
use crate::edge::Edge;
use crate::edge::conns::search::Search;
use crate::edge::conns::state::{Elsewhere, Phase, State};
use crate::id::{ClientId, ShardId};
use crate::time::Time;

impl Edge {
    /// Goes on with the attempt at `index` at the next backend that may have its session, since that of this shard says `word`, or is down.
    /// Returns the word for its client if there is none.
    pub(crate) fn search_on(
        &mut self,
        now: Time,
        index: u32,
        id: ClientId,
        word: Code,
    ) -> Option<Code> {
        let backends = self.shares.backends();
        let Some(own) = backends.number_of(self.config.shard.as_u8()) else {
            return Some(word);
        };
        let backends = backends.count();
        let search = self.conns.live_mut(index).search();
        search.note(own, word);
        let search = *search;
        match self.next_to_ask(id, search) {
            Some(to) => {
                self.offer_handover(now, index, Elsewhere::Ask(id, to));
                None
            }
            None if search.has_only(own) && word == Code::BACKEND_DOWN => Some(word),
            // One that is down may have it.
            None if (0..backends).any(|backend| !search.has(backend)) => Some(Code::BUSY),
            None => Some(search.outcome()),
        }
    }

    /// Returns the shard that asks the next backend: the one to which a frame of that backend about this id goes.
    fn next_to_ask(&self, id: ClientId, search: Search) -> Option<ShardId> {
        let backends = self.shares.backends();
        let of_id = backends.number_of(id.shard().as_u8());
        let all = 0..backends.count();
        let next = of_id.into_iter().chain(all).find(|backend| {
            let standing = backends.of_number(*backend);
            !search.has(*backend) && standing.is_some_and(|standing| standing.is_up())
        })?;
        let is_there = |shard: &ShardId| backends.number_of(shard.as_u8()) == Some(next);
        let pinned = self.shares.pin_of(id).map(|(shard, _)| shard);
        let named = Some(id.shard()).filter(is_there);
        let first = ShardId::new(backends.first_shard_of(next));
        Some(named.or(pinned.filter(is_there)).unwrap_or(first))
    }

    /// Notes that a session goes on at this shard, whose backend has it.
    pub(crate) fn note_pin(&self, id: ClientId) {
        let at = self.config.shard;
        if self.shares.backends().number_of(at.as_u8()).is_some() {
            self.shares.change_pins(|pins| pins.arrive(id, at));
        }
    }

    /// Goes on with an attempt of another shard, whose backend did not have its session.
    pub(crate) fn ask_here(&mut self, now: Time, index: u32, id: ClientId) {
        let (opening, _) = self.conns.live_mut(index).opening();
        if opening.numbered().cold().is_none() {
            // The backend of that shard could not be asked at all.
            self.handle_attempt(now, index, id);
            return self.resume_reading(now, index);
        }
        let source = self.limited_source(index);
        self.conns.claiming(index, id, source, true);
        let cold = State::Handshake(Phase::Cold { asked: false });
        self.conns.enter(index, cold, now);
        self.ask_backend(now, index);
    }
}
