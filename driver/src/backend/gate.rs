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

/// A client on which there is no verdict yet.
struct Held {
    joined: Joined,
    mark: Mark,
    /// The first frame of which something waits here.
    first: Mark,
    events: Vec<Heard>,
    bytes: usize,
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
    /// Clients that nobody verifies yet.
    asks: VecDeque<Joined>,
    /// Clients that are being verified.
    verifying: usize,
    /// Events of clients that were let in, and are not told yet.
    released: VecDeque<Heard>,
    /// How often each frame is the first of a client that waits, or that of a released event.
    waiting: BTreeMap<Mark, usize>,
}

impl Gate {
    /// Handles an event.
    pub(super) fn pass(&mut self, heard: Heard) -> Passage {
        let id = match &heard.event {
            // What an earlier life of the backend has noted was its verdict.
            Event::Joined(joined) if joined.note.is_empty() => {
                let joined = joined.clone();
                self.asks.push_back(joined.clone());
                let held = Held {
                    mark: heard.mark,
                    first: heard.mark,
                    joined,
                    events: Vec::new(),
                    bytes: 0,
                };
                self.wait(heard.mark);
                self.held.insert(held.joined.id, held);
                return Passage::Nothing;
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
        held.bytes += heard.packet_bytes();
        if ends {
            self.drop_held(id);
        } else if held.events.len() >= MAX_HELD || held.bytes > MAX_HELD_BYTES {
            self.keep_out(id);
            let text = "too much before the token was verified";
            return Passage::Refused(id, Refuse::new(Code::TOKEN.to_u16(), text));
        } else {
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

    /// Returns the next client that is to be verified.
    pub(super) fn next_to_verify(&mut self) -> Option<Joined> {
        while self.verifying < MAX_VERIFYING {
            let joined = self.asks.pop_front()?;
            // Others have ended meanwhile.
            if self.held.contains_key(&joined.id) {
                self.verifying += 1;
                return Some(joined);
            }
        }
        None
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
        self.wait_no_more(held.first);
        Some(held)
    }

    /// Returns the next event of a client that was let in.
    pub(super) fn pop(&mut self) -> Option<Heard> {
        let heard = self.released.pop_front()?;
        self.wait_no_more(heard.mark);
        Some(heard)
    }

    /// Returns whether such events wait.
    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Returns the first frame of which something waits here, for a verdict or for the application.
    pub(super) fn first_waiting(&self) -> Option<Mark> {
        self.waiting.keys().next().copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ClientId = ClientId::from_u64(7);

    fn packet(number: u64, length: usize) -> Heard {
        Heard {
            event: Event::Packet {
                id: ID,
                data: vec![0; length],
                number,
            },
            mark: Mark::NONE,
        }
    }

    fn held() -> Gate {
        let mut gate = Gate::default();
        let joined = Heard {
            event: Event::Joined(Joined::bare(ID)),
            mark: Mark::NONE,
        };
        assert!(matches!(gate.pass(joined), Passage::Nothing));
        gate
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
