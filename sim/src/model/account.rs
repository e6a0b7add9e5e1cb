//! A second account of every waiting byte (SPEC 10.1, 10.5(a)).

use super::conn::{Conn, Piece, State};
use super::link::Item;
use super::{Model, View};

/// The bytes by which a notice or packet is cheaper while it waits with its client and not in the link queue (10.1(a)).
const TAG_BYTES: usize = 9;

/// The length of a challenge's frame: 32 bytes that are sealed, with their nonce and tag, their type and the lengths of both.
const CHALLENGE_FRAME_BYTES: usize = 78;

impl Model {
    /// Compares the edge's account with the model's. Where SPEC leaves open in which queue a packet waits, it must be within the possible
    /// range.
    pub(super) fn check_account(&mut self, view: &dyn View) {
        if self.link.up && self.link.must_close {
            return;
        }
        let (least, most) = self.account();
        let held = view.held_bytes();
        if held < least || held > most {
            let text = format!("the edge counts {held} bytes, there are {least} to {most}");
            self.fail("B6", "10.5(a)", text);
        }
    }

    /// Compares the edge's counters with what happened.
    pub fn check_counters(&mut self, view: &dyn View) {
        let reach = &self.reach;
        let ended = |reason| reach.ended.get(reason).copied().unwrap_or(0);
        let wrong = view.counted().into_iter().find_map(|(name, counted)| {
            let must = match name {
                "accepted" => self.accepts,
                "resumed" => reach.resumed,
                "takeovers" => reach.takeover,
                reason => ended(reason),
            };
            (counted != must).then(|| format!("{counted} {name} are counted, there were {must}"))
        });
        if let Some(text) = wrong {
            self.fail("H3", "-", text);
        }
    }

    /// Returns the least and the most bytes that can be waiting.
    pub(super) fn account(&self) -> (usize, usize) {
        let (mut least, mut unsure) = (0, 0);
        for state in self.conns.values() {
            let (sure, more) = of_conn(state);
            least += sure;
            unsure += more;
        }
        let away = self.sessions.values().flat_map(|session| &session.queue);
        least += away.map(Vec::len).sum::<usize>();
        for item in self.outbox.values().flatten() {
            let (sure, more) = of_item(item);
            least += sure;
            unsure += more;
        }
        if self.link.up {
            least += self.link.incoming.held();
        }
        unsure += self.link.announcements() * (4 + TAG_BYTES);
        (least, least + unsure)
    }
}

/// Returns the bytes that certainly wait in one connection, and how many more there may be.
fn of_conn(state: &Conn) -> (usize, usize) {
    if state.close.is_some() {
        return (0, 0);
    }
    let frames = state.frames.held();
    // A packet counts in full until its last byte is taken, a handshake frame byte by byte.
    let taken = match state.pieces.front() {
        Some(Piece::Data(_)) | None => 0,
        Some(_) => state.offset,
    };
    // Until it is seen, a challenge is a piece without bytes.
    let unseen = match state.pieces.back() {
        Some(Piece::AnyChallenge) => CHALLENGE_FRAME_BYTES,
        _ => 0,
    };
    let waits = state.piece_bytes - taken + unseen;
    // Of a PROXY header the edge holds the part that it still needs.
    if state.hidden_violation || state.state == State::Proxy {
        (waits, frames)
    } else {
        (waits + frames, 0)
    }
}

fn of_item(item: &Item) -> (usize, usize) {
    match (item.optional, item.sure) {
        (true, _) => (0, item.cost()),
        (false, true) => (item.cost(), 0),
        (false, false) => (item.cost() - TAG_BYTES, TAG_BYTES),
    }
}
