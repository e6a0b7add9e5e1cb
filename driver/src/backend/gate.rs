//! Clients of which the application hears nothing before somebody has verified them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use voltlane_core::ClientId;
use voltlane_core::backend::host::Mark;

use super::core::Heard;
use super::verify::{MAX_VERIFYING, Refuse};
use super::{Code, Event, Joined};
use crate::weigh::Weigh as _;

/// Events that wait for the verdict on one client. One that sends more before is refused.
pub const MAX_HELD: usize = 1_024;
/// Bytes that wait for the verdict on one client.
pub const MAX_HELD_BYTES: usize = 1024 * 1024;
/// Bytes that the events of all clients together take that wait for a verdict, or for the application after it: their packets and tokens, and
/// what an event itself takes. A client whose event exceeds it is refused. The number of clients is bounded by [`MAX_SESSIONS`](super::MAX_SESSIONS).
pub const MAX_HELD_BYTES_OF_ALL: usize = 64 * 1024 * 1024;

/// A client on which there is no verdict yet.
struct Held {
    joined: Joined,
    mark: Mark,
    /// The first frame of which something waits here.
    first: Mark,
    events: Vec<Heard>,
    /// Those of its packets and tokens since it joined.
    bytes: usize,
    /// What it counts of the bytes of all.
    weight: usize,
    /// Its place among those that nobody verifies yet.
    place: u64,
}

/// What comes of an event.
pub(super) enum Passage {
    /// The application hears it.
    Passes(Heard),
    Nothing,
    /// The client is to be kicked: it sends too much before the verdict.
    Refused(ClientId, Refuse),
}

#[derive(Default)]
pub(super) struct Gate {
    held: BTreeMap<ClientId, Held>,
    /// Clients that were refused, until they have ended.
    refused: BTreeSet<ClientId>,
    /// Clients that nobody verifies yet, in the order in which they came.
    asks: BTreeMap<u64, ClientId>,
    /// How many have come.
    places: u64,
    /// Clients that are being verified.
    verifying: usize,
    /// Events of clients that were let in, and are not told yet.
    released: VecDeque<Heard>,
    /// How often each frame is the first of a client that waits, or that of a released event.
    waiting: BTreeMap<Mark, usize>,
    /// The bytes of all that waits.
    bytes: usize,
}

impl Gate {
    /// Handles an event.
    pub(super) fn pass(&mut self, heard: Heard) -> Passage {
        let id = match &heard.event {
            // What an earlier life of the backend has noted was its verdict.
            Event::Joined(joined) if joined.note.is_empty() => {
                let joined = joined.clone();
                return self.hold(joined, &heard);
            }
            Event::Packet { id, .. }
            | Event::Away { id, .. }
            | Event::Resumed { id, .. }
            | Event::Gap { id, .. }
            | Event::Token { id, .. }
            | Event::Ended { id, .. } => *id,
            _ => return Passage::Passes(heard),
        };
        let ends = matches!(heard.event, Event::Ended { .. });
        if self.refused.contains(&id) {
            if ends {
                self.refused.remove(&id);
            }
            return Passage::Nothing;
        }
        let Some(held) = self.held.get_mut(&id) else {
            return Passage::Passes(heard);
        };
        let weight = weight(&heard);
        held.bytes += heard.packet_bytes();
        if ends {
            self.drop_held(id);
        } else if held.events.len() >= MAX_HELD
            || held.bytes > MAX_HELD_BYTES
            || self.bytes + weight > MAX_HELD_BYTES_OF_ALL
        {
            self.keep_out(id);
            return too_much(id);
        } else {
            held.weight += weight;
            self.bytes += weight;
            // It may have joined without a frame of its own, over a link of version 2.
            let is_first = held.first == Mark::NONE;
            let mark = heard.mark;
            held.events.push(heard);
            if is_first {
                held.first = mark;
                self.wait(mark);
            }
        }
        Passage::Nothing
    }

    /// Holds a client, unless all of them take too much.
    fn hold(&mut self, joined: Joined, heard: &Heard) -> Passage {
        let (id, weight) = (joined.id, weight(heard));
        if self.bytes + weight > MAX_HELD_BYTES_OF_ALL {
            self.refused.insert(id);
            return too_much(id);
        }
        self.bytes += weight;
        self.places += 1;
        self.asks.insert(self.places, id);
        self.wait(heard.mark);
        let held = Held {
            joined,
            mark: heard.mark,
            first: heard.mark,
            events: Vec::new(),
            bytes: 0,
            weight,
            place: self.places,
        };
        self.held.insert(id, held);
        Passage::Nothing
    }

    /// Returns the next client that is to be verified.
    pub(super) fn next_to_verify(&mut self) -> Option<Joined> {
        if self.verifying >= MAX_VERIFYING {
            return None;
        }
        let (_, id) = self.asks.pop_first()?;
        let joined = self.held.get(&id)?.joined.clone();
        self.verifying += 1;
        Some(joined)
    }

    /// One was verified.
    pub(super) fn end_verifying(&mut self) {
        self.verifying -= 1;
    }

    /// Returns whether somebody is to be verified now.
    pub(super) fn has_asks(&self) -> bool {
        !self.asks.is_empty() && self.verifying < MAX_VERIFYING
    }

    /// Lets a client in. Returns whether it is still there.
    pub(super) fn let_in(&mut self, id: ClientId, note: &str) -> bool {
        let Some(held) = self.drop_held(id) else {
            return false;
        };
        let mut joined = held.joined;
        note.clone_into(&mut joined.note);
        let joined = Heard {
            event: Event::Joined(joined),
            mark: held.mark,
        };
        for heard in std::iter::once(joined).chain(held.events) {
            self.wait(heard.mark);
            self.bytes += weight(&heard);
            self.released.push_back(heard);
        }
        true
    }

    /// Keeps a client out. Returns whether it is still there.
    pub(super) fn keep_out(&mut self, id: ClientId) -> bool {
        self.drop_held(id).is_some() && self.refused.insert(id)
    }

    /// Lets go of a client that waits for its verdict.
    fn drop_held(&mut self, id: ClientId) -> Option<Held> {
        let held = self.held.remove(&id)?;
        self.asks.remove(&held.place);
        self.bytes -= held.weight;
        self.wait_no_more(held.first);
        Some(held)
    }

    /// Returns the next event of a client that was let in.
    pub(super) fn pop(&mut self) -> Option<Heard> {
        let heard = self.released.pop_front()?;
        self.bytes -= weight(&heard);
        self.wait_no_more(heard.mark);
        Some(heard)
    }

    /// Returns whether such events wait.
    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Returns the first frame of which something waits here, for a verdict or for the application.
    /// Of frames of the edge of which one has the mark `of`.
    pub(super) fn first_waiting(&self, of: Mark) -> Option<Mark> {
        let mut waiting = self.waiting.range(of.first_of_edge()..);
        let first = waiting.next().map(|(&mark, _)| mark);
        first.filter(|mark| mark.is_of_edge(of))
    }

    fn wait(&mut self, mark: Mark) {
        if mark != Mark::NONE {
            *self.waiting.entry(mark).or_default() += 1;
        }
    }

    fn wait_no_more(&mut self, mark: Mark) {
        if let Some(count) = self.waiting.get_mut(&mark) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&mark);
            }
        }
    }
}

/// Returns what an event counts of the bytes of all. Who has joined counts with its token alone, since sessions have a bound of their own.
fn weight(heard: &Heard) -> usize {
    let own = match heard.event {
        Event::Joined(_) => 0,
        _ => size_of::<Heard>(),
    };
    own + heard.packet_bytes()
}

fn too_much(id: ClientId) -> Passage {
    let text = "too much before the token was verified";
    Passage::Refused(id, Refuse::new(Code::TOKEN.to_u16(), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::backend::{End, Ledgers};

    const ID: ClientId = ClientId::from_u64(7);

    fn packet(number: u64, length: usize) -> Heard {
        packet_of(ID, number, length)
    }

    fn packet_of(id: ClientId, number: u64, length: usize) -> Heard {
        Heard {
            event: Event::Packet {
                id,
                data: vec![0; length],
                number,
            },
            mark: Mark::NONE,
        }
    }

    fn joined(id: ClientId, token: usize) -> Heard {
        let mut joined = Joined::bare(id);
        joined.token = vec![0; token];
        Heard {
            event: Event::Joined(joined),
            mark: Mark::NONE,
        }
    }

    fn held() -> Gate {
        let mut gate = Gate::default();
        assert!(matches!(gate.pass(joined(ID, 0)), Passage::Nothing));
        gate
    }

    #[test]
    fn what_all_clients_may_send_before_the_verdict_is_bounded() {
        const EACH: usize = MAX_HELD_BYTES - size_of::<Heard>();
        const FIRST: u64 = 1_000;
        let of = |number: usize| ClientId::from_u64(FIRST + number as u64);
        let mut gate = held();
        for number in 0..MAX_HELD_BYTES_OF_ALL / MAX_HELD_BYTES {
            assert!(matches!(gate.pass(joined(of(number), 0)), Passage::Nothing));
            let packet = packet_of(of(number), 1, EACH);
            assert!(
                matches!(gate.pass(packet), Passage::Nothing),
                "at the bound"
            );
        }
        assert_eq!(gate.bytes, MAX_HELD_BYTES_OF_ALL);
        assert!(matches!(gate.pass(joined(of(100), 0)), Passage::Nothing));
        assert!(matches!(gate.pass(joined(of(101), 1)), Passage::Refused(id, _) if id == of(101)));
        assert!(matches!(gate.pass(packet(1, 0)), Passage::Refused(ID, _)));
        // What was let in counts until the application has it.
        assert!(gate.let_in(of(0), "user 17"));
        assert!(gate.pop().is_some());
        let refused = gate.pass(packet_of(of(100), 1, 0));
        assert!(matches!(refused, Passage::Refused(id, _) if id == of(100)));
        assert!(gate.pop().is_some());
        // A client that ends makes room as well.
        let end = End::new(Code::GONE, "", Ledgers::default());
        let ended = Event::Ended { id: of(1), end };
        let mark = Mark::NONE;
        assert!(matches!(
            gate.pass(Heard { event: ended, mark }),
            Passage::Nothing
        ));
        for number in [2, 3] {
            assert!(gate.keep_out(of(number)));
        }
        assert_eq!(gate.bytes, MAX_HELD_BYTES_OF_ALL - 4 * MAX_HELD_BYTES);
        assert!(matches!(gate.pass(joined(of(102), 1)), Passage::Nothing));
    }

    #[test]
    fn who_ends_before_is_not_asked_for() {
        let mut gate = held();
        for _ in 0..3 {
            let end = End::new(Code::GONE, "", Ledgers::default());
            let event = Event::Ended { id: ID, end };
            let mark = Mark::NONE;
            assert!(gate.has_asks());
            assert!(matches!(gate.pass(Heard { event, mark }), Passage::Nothing));
            assert!(!gate.has_asks() && gate.next_to_verify().is_none());
            assert!(matches!(gate.pass(joined(ID, 0)), Passage::Nothing));
        }
    }

    #[test]
    fn what_one_client_may_send_before_the_verdict_is_bounded() {
        let mut gate = held();
        for number in 0..MAX_HELD {
            assert!(matches!(
                gate.pass(packet(number as u64, 0)),
                Passage::Nothing
            ));
        }
        assert!(matches!(gate.pass(packet(0, 0)), Passage::Refused(ID, _)));
        assert!(matches!(gate.pass(packet(0, 0)), Passage::Nothing));
        assert!(!gate.let_in(ID, ""), "the verdict is late");
        assert!(gate.next_to_verify().is_none());

        let mut gate = held();
        assert!(matches!(
            gate.pass(packet(1, MAX_HELD_BYTES)),
            Passage::Nothing
        ));
        assert!(matches!(gate.pass(packet(2, 1)), Passage::Refused(ID, _)));
    }

    #[test]
    fn who_is_let_in_comes_with_all_that_it_sent() {
        let mut gate = held();
        assert!(matches!(gate.pass(packet(1, 3)), Passage::Nothing));
        assert_eq!(gate.next_to_verify().map(|joined| joined.id), Some(ID));
        assert!(!gate.has_asks() && gate.pop().is_none());
        assert!(gate.let_in(ID, "user 17"));
        assert!(
            matches!(gate.pop(), Some(Heard { event: Event::Joined(joined), .. }) if joined.note == "user 17")
        );
        assert!(matches!(
            gate.pop(),
            Some(Heard {
                event: Event::Packet { number: 1, .. },
                ..
            })
        ));
        assert!(matches!(gate.pass(packet(2, 0)), Passage::Passes(_)));
    }
}
