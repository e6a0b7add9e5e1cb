//! Which of several backends a newcomer goes to (SPEC 45.3).
//!
//! Each shard belongs to one backend, so the shard in the id of a session is its pin. Nothing else of the edge knows of several backends: a
//! newcomer is taken to a shard of the backend that it is to have, and all that follows is as with one.

use core::iter::zip;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::id::ClientId;

/// The maximum number of backends of one edge (SPEC 45.8).
pub const MAX_BACKENDS: u8 = 16;

/// What is known of each backend (SPEC 45.1), by all shards. With one backend it is empty.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    standings: Box<[Standing]>,
    loads: Box<[Load]>,
}

/// A backend.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    is_up: AtomicBool,
    /// Whether an operator wants no more sessions there.
    is_draining: AtomicBool,
    /// Whether it takes sessions of another one: it was granted what tells it where they go on (SPEC 45.6(g)).
    takes_moved: AtomicBool,
    /// Whether a shard has given it up, so that its next link begins anew (SPEC 45.6(d)).
    begins_anew: AtomicBool,
}

impl Standing {
    pub(crate) fn is_up(&self) -> bool {
        self.is_up.load(Relaxed)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    /// Has its next link begin anew.
    pub(crate) fn begin_anew(&self) {
        self.begins_anew.store(true, Relaxed);
    }

    /// Returns whether its next link, which is this one, begins anew.
    pub(crate) fn takes_anew(&self) -> bool {
        self.begins_anew.swap(false, Relaxed)
    }

    pub(crate) fn set_draining(&self, is_draining: bool) {
        self.is_draining.store(is_draining, Relaxed);
    }
}

/// The load of a shard.
#[derive(Debug, Default)]
struct Load {
    /// Sessions, and connections that may begin one.
    clients: AtomicUsize,
    /// Newcomers on their way from other shards.
    arriving: AtomicUsize,
}

impl Load {
    fn clients(&self) -> usize {
        self.clients.load(Relaxed) + self.arriving.load(Relaxed)
    }
}

impl Backends {
    /// Creates what is known at the start: no backend is up.
    pub(crate) fn new(backends: u8, shards: u8) -> Backends {
        if backends < 2 {
            return Backends::default();
        }
        Backends {
            standings: (0..backends).map(|_| Standing::default()).collect(),
            loads: (0..shards).map(|_| Load::default()).collect(),
        }
    }

    /// Returns how many shards each backend has.
    fn shards_of_each(&self) -> usize {
        let backends = self.standings.len().max(1);
        (self.loads.len() / backends).max(1)
    }

    /// Returns the backend of a shard, if there are several.
    pub(crate) fn standing(&self, shard: u8) -> Option<&Standing> {
        self.standings
            .get(usize::from(shard) / self.shards_of_each())
    }

    /// Reports how many clients a shard has.
    pub(crate) fn tell_clients(&self, shard: u8, clients: usize) {
        if let Some(load) = self.loads.get(usize::from(shard))
            && load.clients.load(Relaxed) != clients
        {
            load.clients.store(clients, Relaxed);
        }
    }

    /// Reports whether the backend of this shard is up.
    pub(crate) fn tell_link(&self, shard: u8, is_up: bool) {
        // It is told at each read of a link. What is written is fetched anew by all shards.
        if let Some(standing) = self.standing(shard)
            && standing.is_up() != is_up
        {
            standing.is_up.store(is_up, Relaxed);
        }
    }

    /// Reports whether the backend of this shard takes sessions of another one.
    pub(crate) fn tell_takes_moved(&self, shard: u8, takes: bool) {
        if let Some(standing) = self.standing(shard) {
            standing.takes_moved.store(takes, Relaxed);
        }
    }

    /// Returns the number of backends, if there are several.
    pub(crate) fn count(&self) -> u8 {
        u8::try_from(self.standings.len()).unwrap_or(MAX_BACKENDS)
    }

    /// Returns the first shard of the backend of this number.
    #[cfg(feature = "cluster")]
    pub(crate) fn first_shard_of(&self, backend: u8) -> u8 {
        let first = usize::from(backend) * self.shards_of_each();
        u8::try_from(first).unwrap_or_default()
    }

    /// Returns the number of the backend of a shard, if there are several.
    pub(crate) fn number_of(&self, shard: u8) -> Option<u8> {
        self.standing(shard)?;
        u8::try_from(usize::from(shard) / self.shards_of_each()).ok()
    }

    /// Returns the shard for the session `id`, which leaves the backend of the shard `own`, if that is one of these. `waiting` is the number of
    /// sessions that wait for room, by shard. `None`: there is no backend that takes it now.
    pub(crate) fn choose_for_move(
        &self,
        own: Option<u8>,
        id: ClientId,
        waiting: &[AtomicUsize],
    ) -> Option<u8> {
        let each = self.shards_of_each();
        let parts = zip(self.loads.chunks(each), waiting.chunks(each));
        let backends = zip(&self.standings, parts).enumerate();
        let open = backends.filter(|(backend, (standing, _))| {
            own.is_none_or(|own| *backend != usize::from(own) / each)
                && standing.is_up()
                && standing.takes_moved.load(Relaxed)
                && !standing.is_draining()
        });
        let (best, (_, (loads, _))) = open.min_by_key(|(_, (_, (loads, waiting)))| {
            let clients: usize = loads.iter().map(Load::clients).sum();
            let waits = waiting.iter().any(|waiting| waiting.load(Relaxed) > 0);
            (waits, clients)
        })?;
        let home = usize::from(id.shard().as_u8());
        if home / each == best {
            // A frame of its backend is routed by the shard in its id.
            return u8::try_from(home).ok();
        }
        let (place, _) = loads
            .iter()
            .enumerate()
            .min_by_key(|(_, load)| load.clients())?;
        u8::try_from(best * each + place).ok()
    }

    /// Returns the backend of this number, if there are several.
    pub(crate) fn of_number(&self, backend: u8) -> Option<&Standing> {
        self.standings.get(usize::from(backend))
    }

    /// Returns the number of newcomers on their way to a shard.
    pub(crate) fn arriving(&self, shard: u8) -> Option<&AtomicUsize> {
        Some(&self.loads.get(usize::from(shard))?.arriving)
    }

    /// Returns the shard for a newcomer at the shard `own`: that one, unless another backend is better. `waiting` is the number of sessions
    /// that wait for room, by shard. `None`: all backends drain, or there is only one.
    pub(crate) fn choose(&self, own: u8, waiting: &[AtomicUsize]) -> Option<u8> {
        let own = usize::from(own);
        let each = self.shards_of_each();
        let parts = zip(self.loads.chunks(each), waiting.chunks(each));
        let backends = zip(&self.standings, parts).enumerate();
        let open = backends.filter(|(_, (standing, _))| !standing.is_draining());
        let (best, (_, (loads, _))) =
            open.min_by_key(|(backend, (standing, (loads, waiting)))| {
                let is_here = *backend == own / each;
                let clients: usize = loads.iter().map(Load::clients).sum();
                (
                    !standing.is_up(),
                    waiting.iter().any(|waiting| waiting.load(Relaxed) > 0),
                    // The newcomer itself is one of those here.
                    clients.saturating_sub(is_here.into()),
                    !is_here,
                )
            })?;
        if best == own / each {
            return u8::try_from(own).ok();
        }
        let (place, _) = loads
            .iter()
            .enumerate()
            .min_by_key(|(_, load)| load.clients())?;
        u8::try_from(best * each + place).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two shards for each of three backends, which are up, with these clients.
    fn three(clients: [usize; 6]) -> Backends {
        let backends = Backends::new(3, 6);
        for (shard, clients) in zip(0.., clients) {
            backends.tell_clients(shard, clients);
            backends.tell_link(shard, true);
        }
        backends
    }

    fn waiting(at: Option<usize>) -> [AtomicUsize; 6] {
        core::array::from_fn(|shard| AtomicUsize::new((at == Some(shard)).into()))
    }

    #[test]
    fn a_newcomer_goes_to_the_backend_with_the_fewest_and_there_to_the_shard_with_the_fewest() {
        let choose = |clients, own| three(clients).choose(own, &waiting(None));
        assert_eq!(choose([5, 5, 3, 1, 4, 4], 0), Some(3));
        assert_eq!(choose([5, 5, 3, 1, 4, 4], 2), Some(2), "it is there");
        // It counts where it came.
        assert_eq!(choose([1, 0, 0, 0, 0, 0], 0), Some(0));
        assert_eq!(choose([2, 0, 0, 0, 0, 0], 0), Some(2));
        // Of equal ones that where it came, and else the first.
        assert_eq!(choose([2, 0, 1, 1, 1, 0], 4), Some(4));
        assert_eq!(choose([1, 0, 1, 0, 4, 0], 4), Some(1));
    }

    #[test]
    fn those_that_are_on_their_way_count() {
        let backends = three([3, 0, 0, 0, 1, 0]);
        let arriving = backends.arriving(2).expect("it is a shard");
        arriving.store(2, Relaxed);
        assert_eq!(backends.choose(0, &waiting(None)), Some(5));
        assert!(backends.arriving(6).is_none());
    }

    #[test]
    fn a_backend_that_is_down_or_has_no_room_comes_after_the_others() {
        let backends = three([9, 9, 0, 0, 5, 5]);
        assert_eq!(backends.choose(0, &waiting(Some(3))), Some(4), "no room");
        backends.tell_link(3, false);
        assert_eq!(backends.choose(2, &waiting(None)), Some(4), "down");
        backends.tell_link(0, false);
        assert_eq!(
            backends.choose(2, &waiting(Some(4))),
            Some(4),
            "the only one"
        );
        backends.tell_link(5, false);
        // None is up: it waits at the one with the fewest.
        assert_eq!(backends.choose(2, &waiting(None)), Some(2));
        assert_eq!(backends.choose(0, &waiting(None)), Some(2));
    }

    #[test]
    fn a_backend_that_drains_gets_nobody() {
        let backends = three([0, 0, 9, 9, 8, 8]);
        let drain = |backend, is_draining| {
            let standing = backends.of_number(backend).expect("it is there");
            standing.set_draining(is_draining);
        };
        drain(0, true);
        assert_eq!(backends.choose(0, &waiting(None)), Some(4));
        backends.tell_link(4, false);
        backends.tell_link(2, false);
        assert_eq!(
            backends.choose(0, &waiting(None)),
            Some(4),
            "down, but not drained"
        );
        drain(1, true);
        drain(2, true);
        assert_eq!(backends.choose(0, &waiting(None)), None);
        drain(0, false);
        assert_eq!(backends.choose(4, &waiting(None)), Some(0));
    }

    #[test]
    fn a_session_goes_to_another_backend_that_takes_it_and_there_to_the_shard_in_its_id() {
        let backends = three([0, 0, 5, 3, 4, 2]);
        let id = |shard: u8| ClientId::from_u64(u64::from(shard) << 56 | 7);
        let choose = |own, shard| backends.choose_for_move(Some(own), id(shard), &waiting(None));
        assert_eq!(choose(0, 0), None, "they do not take it");
        for shard in [0, 2, 4] {
            backends.tell_takes_moved(shard, true);
        }
        assert_eq!(choose(0, 0), Some(5));
        assert_eq!(choose(1, 4), Some(4), "that of its id");
        assert_eq!(choose(2, 2), Some(0));
        assert_eq!(
            backends.choose_for_move(Some(0), id(0), &waiting(Some(4))),
            Some(3),
            "no room"
        );
        let of_none = |shard| backends.choose_for_move(None, id(shard), &waiting(None));
        assert_eq!((of_none(0), of_none(1)), (Some(0), Some(1)), "the fewest");
        let standing = backends.of_number(2).expect("it is there");
        standing.set_draining(true);
        assert_eq!(choose(0, 0), Some(3), "it drains");
        backends.tell_link(2, false);
        assert_eq!(choose(0, 0), None, "none is left");
        let numbers = [0, 1, 2, 3, 4, 5].map(|shard| backends.number_of(shard));
        assert_eq!(numbers, [0, 0, 1, 1, 2, 2].map(Some));
        assert_eq!(Backends::new(1, 6).number_of(0), None);
    }

    #[test]
    fn with_one_backend_there_is_nothing_to_choose() {
        for backends in [Backends::new(0, 0), Backends::new(1, 6)] {
            assert_eq!(backends.choose(0, &waiting(None)), None);
            assert!(backends.of_number(0).is_none() && backends.arriving(0).is_none());
        }
    }
}
