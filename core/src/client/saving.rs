//! A client that lets nothing leave before it is saved. (SPEC 46.1)

use zeroize::Zeroizing;

use crate::Time;
use crate::protocol::client::{ClientSession, Mark, Trust};
use crate::queue::{Bounds, Outbox, Retention};

use super::config::Saving;
use super::saved_client::{MAX_STATE_BYTES, encode, write_none, write_v3};
use super::{Client, SavedSession, State};

/// A state is too long to be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a state of {length} bytes, {MAX_STATE_BYTES} allowed")]
#[expect(clippy::exhaustive_structs, reason = "the bound is the only one")]
pub struct StateTooLong {
    /// Its length in bytes.
    pub length: usize,
}

/// What a client that saves its session keeps for that.
#[derive(Debug)]
pub(super) struct Keeper {
    saving: Saving,
    pub(super) state: Vec<u8>,
    /// Whether the state was set since it was stored.
    is_new: bool,
    /// What is stored.
    stored: Mark,
    /// What was given to be stored.
    given: Mark,
    /// Whether output waits for it to be stored.
    is_due: bool,
    /// Packets that were sent since the state was set.
    held: Outbox,
    /// The last packet that was taken since then.
    taken: u64,
    /// Nothing, for the Join record.
    nothing: Outbox,
    /// Whether the application may know the session: it was stored while it was established.
    is_told: bool,
}

impl Keeper {
    /// `is_told`: a process before this one has told the session.
    pub(super) fn new(saving: Saving, is_told: bool) -> Box<Self> {
        Box::new(Keeper {
            saving,
            state: Vec::new(),
            is_new: false,
            stored: Mark::default(),
            given: Mark::default(),
            is_due: false,
            held: Outbox::new(Retention::UntilAcked),
            taken: 0,
            nothing: Outbox::new(Retention::UntilAcked),
            is_told,
        })
    }

    /// Returns what waits for the next state.
    pub(super) fn held(&self) -> &Outbox {
        &self.held
    }

    /// Returns whether packets wait for the next state.
    pub(super) fn holds(&self) -> bool {
        self.saving == Saving::Saved
    }

    /// Holds a packet until the next state.
    pub(super) fn hold(&mut self, data: &[u8]) {
        self.held.push(data);
    }

    /// The session is over, and what waits goes with it.
    pub(super) fn forget(&mut self) {
        self.held.clear();
        self.taken = 0;
    }
}

impl Client {
    /// Returns whether what [`to_save`](Self::to_save) gives must be stored now: [`output`](Self::output) is empty until then, a state was set,
    /// or a session has begun or is over. Only a client [that saves](super::ClientConfig::with_saving) wants it.
    #[must_use]
    pub fn wants_save(&self) -> bool {
        self.keeper.as_ref().is_some_and(|keeper| {
            let mark = self.mark();
            // The application is not to know a session that is not stored. (SPEC 46.1(h))
            let is_another = self.state == State::Established && mark.id != keeper.stored.id;
            let is_over = self.state.is_over() && mark != keeper.stored;
            keeper.is_due || keeper.is_new || is_another || is_over
        })
    }

    /// Returns what is to be stored, in the place of what was stored before. It is as secret as the session's keys. Once it can be read after
    /// a loss of power, call [`handle_saved`](Self::handle_saved), before any other call that changes the client.
    pub fn to_save(&mut self) -> Zeroizing<Vec<u8>> {
        let mark = self.mark();
        if let Some(keeper) = &mut self.keeper {
            keeper.given = mark;
        }
        let state = self.keeper.as_ref().map_or(&[][..], |keeper| &keeper.state);
        encode(state, |out| self.write_session(out))
    }

    fn write_session(&self, out: &mut Vec<u8>) {
        let is_over = self.state.is_over();
        match (&self.session, self.session.id()) {
            (ClientSession::V2(_), Some(_)) => {
                if let Some((id, keys, edge_key)) = self.session.saved() {
                    let saved = SavedSession::new(id, keys.clone(), *edge_key);
                    return out.extend_from_slice(saved.to_bytes().as_slice());
                }
            }
            (ClientSession::V3(session), Some(_)) if !is_over => {
                if let Some(edge_key) = &self.trust.learned {
                    write_v3(out);
                    session.save(&self.outbox, edge_key, out);
                    return crate::protocol::client::save_packets(&self.outbox, out);
                }
            }
            _ => {}
        }
        // What waits for a session that a refusal has kept is no packet of the next one.
        let none = Outbox::new(Retention::UntilAcked);
        write_none(if is_over { &none } else { &self.outbox }, out);
    }

    /// Handles that what [`to_save`](Self::to_save) gave last is stored. Output that waited for it can go.
    pub fn handle_saved(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.stored = keeper.given;
            (keeper.is_due, keeper.is_new) = (false, false);
            keeper.is_told |= self.state == State::Established;
        }
    }

    /// Returns whether a session that is established is told as one that began: it is new, or it could not be stored when it was. (SPEC
    /// 46.1(h))
    pub(super) fn tells_as_new(&mut self, resumed: bool) -> bool {
        let id = self.mark().id;
        let Some(keeper) = &mut self.keeper else {
            return !resumed;
        };
        let was_told = resumed && keeper.is_told;
        keeper.is_told = was_told || keeper.stored.id == id;
        !was_told
    }

    /// Sets the application's own state, which is stored with the session. With [`Saving::Saved`], what was sent so far leaves and what was
    /// [taken](Self::taken) so far is acknowledged once it is stored.
    ///
    /// # Errors
    /// [`StateTooLong`] above [`MAX_STATE_BYTES`]. Nothing changes then.
    pub fn set_state(&mut self, now: Time, state: &[u8]) -> Result<(), StateTooLong> {
        self.advance_clock(now);
        let length = state.len();
        if length > MAX_STATE_BYTES {
            return Err(StateTooLong { length });
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.state = state.to_vec();
            keeper.is_new = true;
            for packet in keeper.held.held_packets() {
                self.outbox.push(packet);
            }
            keeper.held.clear();
            let taken = core::mem::take(&mut keeper.taken);
            self.session.take(self.now, taken);
        }
        Ok(())
    }

    /// Returns the application's own state, as it was restored or set last.
    #[must_use]
    pub fn saved_state(&self) -> &[u8] {
        self.keeper.as_ref().map_or(&[], |keeper| &keeper.state)
    }

    /// Returns whether a packet is counted as taken at the next state, and keeps its number for that.
    pub(super) fn takes_later(&mut self, number: u64) -> bool {
        let Some(keeper) = self.keeper.as_mut().filter(|keeper| keeper.holds()) else {
            return false;
        };
        keeper.taken = keeper.taken.max(number);
        true
    }

    /// Returns whether there is output that must not go before something is stored.
    pub(super) fn waits_for_save(&mut self) -> bool {
        if self.keeper.is_none() {
            return false;
        }
        let is_empty = self.make_output().is_empty();
        let mark = self.mark();
        let Some(keeper) = &mut self.keeper else {
            return false;
        };
        keeper.is_due = !is_empty && mark != keeper.stored;
        keeper.is_due
    }

    fn mark(&self) -> Mark {
        if self.state.is_over() {
            return Mark::default();
        }
        self.session.mark(&self.outbox)
    }

    /// Returns the session and the packets that may go: none before a client that saves knows that its session has begun. (SPEC 46.1(c))
    pub(super) fn going(&mut self) -> (&mut ClientSession, &mut Trust, &mut Outbox) {
        let outbox = match &mut self.keeper {
            Some(keeper) if !self.session.has_opened() => &mut keeper.nothing,
            _ => &mut self.outbox,
        };
        (&mut self.session, &mut self.trust, outbox)
    }

    /// Returns whether packets wait until this client, which saves, knows that its session has begun. A goodbye goes behind them.
    pub(super) fn holds_back(&self) -> bool {
        self.keeper.is_some() && !self.session.has_opened() && !self.outbox.is_empty()
    }

    /// Returns whether a packet that is stored in so many bytes fits the queue, beside what waits for the next state.
    pub(super) fn takes(&self, stored: usize, bounds: Bounds) -> bool {
        let held = self.keeper.as_ref().map(|keeper| keeper.held.held());
        match held.filter(|held| held.packets > 0) {
            None => self.outbox.takes(stored, bounds),
            Some(held) => {
                let all = self.outbox.held().plus(held);
                all.packets < bounds.packets && all.bytes.saturating_add(stored) <= bounds.bytes
            }
        }
    }
}
