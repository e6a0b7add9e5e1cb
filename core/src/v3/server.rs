//! The edge's half of an opening. (SPEC sections 22 and 23)
//!
//! It knows packets, keys and the judgement of an attempt. Tables, time and limits are the edge's.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::ClientId;
use crate::keys::{KeyPair, NONCE_BYTES, PublicKey};
use crate::wire::saved::Saved;

use super::code::Code;
use super::items::MAX_RESUMED_MARKS;
use super::packets::{
    Answer, Busy, Claim, Handle, Hello, Packet, PacketError, Position, Settings, Verdict, Welcome,
};
#[cfg(feature = "cluster")]
use super::schedule::ticket::Ticket;
use super::schedule::{
    Attempt, ChainError, ClaimError, ClaimKey, Join, MAX_AHEAD, Master, ResumeSecret, Secret,
};

/// A key of the edge, with all that follows from it.
#[derive(Debug, Clone)]
pub struct EdgeKey {
    pair: KeyPair,
    master: Master,
}

impl EdgeKey {
    /// Derives the rest from the key pair.
    #[must_use]
    pub fn new(pair: KeyPair) -> Self {
        let master = Master::new(&pair);
        EdgeKey { pair, master }
    }

    /// Returns the secret that claim keys and handles follow from.
    #[must_use]
    pub fn master(&self) -> &Master {
        &self.master
    }

    /// Answers a Hello. `random` must come from the operating system for this connection. `settings` gets the handle's random bytes.
    ///
    /// # Errors
    /// [`PacketError::Key`] if the client's point is not on the curve. Nothing was agreed on then.
    pub fn welcome(
        &self,
        hello: &Hello<'_>,
        random: [u8; 32],
        settings: impl FnOnce(&Master, [u8; 8]) -> Settings,
        out: &mut Vec<u8>,
    ) -> Result<Join, PacketError> {
        let client = PublicKey::from_sec1(hello.point)?;
        // It lives for this step alone.
        let mut rng = ChaCha20Rng::from_seed(random);
        let ephemeral = KeyPair::generate(&mut rng);
        let body = Packet::Hello(*hello).body();
        let join = Join::of_edge(&body, &client, &ephemeral, &self.pair);
        let mut mask = [0; 8];
        rng.fill_bytes(&mut mask);
        let sealed = join.seal_welcome(&settings(&self.master, mask));
        Packet::Welcome(Welcome {
            point: ephemeral.public().as_bytes(),
            edge_key: self.pair.public().as_bytes(),
            sealed: &sealed,
        })
        .encode(out);
        Ok(join)
    }
}

/// A Claim that opened: whoever sent it was given the id.
#[derive(Debug, Clone)]
pub struct Claimed {
    id: ClientId,
    key: ClaimKey,
    attempt: Attempt,
    position: Result<Position, PacketError>,
    master: Master,
    #[cfg(feature = "cluster")]
    ticket: Option<Box<Ticket>>,
}

image!(Claimed {
    id,
    key,
    attempt,
    position,
    master,
    #[cfg(feature = "cluster")]
    ticket
});

/// Why a Claim goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "SPEC 23.2(a) has no others")]
pub enum Refused {
    /// It names no key of this edge. This is the answer, in clear.
    Elsewhere(Busy),
    /// It does not open. There is no answer.
    Foreign,
}

impl Claimed {
    /// Opens a Claim with the key that it names (steps 1 and 2 of SPEC 23.2(a)).
    ///
    /// # Errors
    /// [`Refused`]
    pub fn open(claim: &Claim<'_>, keys: &[EdgeKey]) -> Result<Self, Refused> {
        let named = |key: &&EdgeKey| key.master.hint() == claim.head.key_hint;
        let Some(edge) = keys.iter().find(named) else {
            return Err(Refused::Elsewhere(Busy {
                code: Code::NOT_HERE,
                wait_ms: 0,
            }));
        };
        let id = edge.master.unmask(claim.head.handle);
        let key = edge.master.claim_key(id);
        let position = match key.open_claim(claim) {
            Ok(position) => Ok(position),
            Err(ClaimError::Malformed(error)) => Err(error),
            Err(ClaimError::Foreign) => return Err(Refused::Foreign),
        };
        Ok(Claimed {
            id,
            key,
            attempt: Attempt::new(&Packet::Claim(*claim).body()),
            position,
            master: edge.master.clone(),
            #[cfg(feature = "cluster")]
            ticket: claim
                .head
                .extensions
                .ticket()
                .and_then(|sealed| edge.master.open_ticket(sealed))
                .filter(|ticket| ticket.id == id)
                .map(Box::new),
        })
    }

    /// Returns the id that it is about.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Returns where the client is (steps 3 and 4 of SPEC 23.2(a)). `was_run` tells the earlier runs of this edge.
    ///
    /// # Errors
    /// The code of the Answer.
    pub fn position(
        &self,
        run: [u8; 8],
        was_run: impl FnOnce([u8; 8]) -> bool,
    ) -> Result<Position, Code> {
        let position = self.position.map_err(|_| Code::PROTOCOL)?;
        match position.run == run {
            true => Ok(position),
            false if was_run(position.run) => Err(Code::GONE),
            false => Err(Code::NOT_HERE),
        }
    }

    /// Returns its ticket, if it has one that opens and is for the id.
    #[cfg(feature = "cluster")]
    pub(crate) fn ticket(&self) -> Option<&Ticket> {
        self.ticket.as_deref()
    }

    /// Returns where the client is, whatever edge it was at.
    #[cfg(feature = "cluster")]
    pub(crate) fn position_anywhere(&self) -> Option<Position> {
        self.position.ok()
    }

    /// Returns the secret of its early records.
    #[must_use]
    pub fn early(&self, link: &ResumeSecret) -> Secret {
        self.attempt.early(link)
    }

    /// Appends an Answer, and returns its body. `random` must come from the operating system for this Answer. The handle is filled in.
    pub fn answer(&self, verdict: Verdict, random: [u8; 32], out: &mut Vec<u8>) -> Vec<u8> {
        // As many bytes as it takes, so no generator is needed.
        let (nonce, mask) = random
            .split_first_chunk::<NONCE_BYTES>()
            .expect("the nonce is the first part");
        let mask = mask.try_into().expect("the mask is the rest");
        let handle = self.master.mask(self.id, mask);
        let verdict = Verdict { handle, ..verdict };
        let sealed = self.attempt.seal_answer(&self.key, *nonce, &verdict);
        let answer = Packet::Answer(Answer {
            nonce: *nonce,
            sealed: &sealed,
        });
        answer.encode(out);
        answer.body()
    }

    /// Returns the secrets up and down, from the body of the Answer.
    #[must_use]
    pub fn established(&self, link: &ResumeSecret, answer: &[u8]) -> (Secret, Secret) {
        self.attempt.established(link, answer)
    }
}

/// An Answer without a word about any session.
#[must_use]
pub fn verdict(code: Code, run: [u8; 8]) -> Verdict {
    Verdict {
        code,
        highest: 0,
        wait_ms: 0,
        jitter_ms: 0,
        run,
        handle: Handle::from_bytes([0; super::packets::HANDLE_BYTES]),
        acknowledged_up: 0,
        acknowledged_down: 0,
    }
}

/// What names an attempt to resume that was accepted.
type Mark = [u8; 8];

/// The marks of several attempts.
#[derive(Debug, Clone, Default)]
struct Marks(Vec<Mark>);

image!(Marks { 0 });

/// What the edge keeps of a session to judge attempts by.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The secret of the least counter that can still be accepted.
    next: ResumeSecret,
    /// The mark of the attempt accepted last, zeros after the join.
    mark: Mark,
    /// The marks of those before it, since the last one whose RESUMED the client has opened, that one included. Oldest first, at most
    /// [`MAX_RESUMED_MARKS`]. Most often there are none, which takes a pointer.
    before: Option<Box<Marks>>,
}

image!(Standing { next, mark, before });

impl Standing {
    /// Begins with the secret of a join.
    #[must_use]
    pub fn new(first: ResumeSecret) -> Self {
        Standing {
            next: first,
            mark: [0; 8],
            before: None,
        }
    }

    /// Goes on as another edge did that has accepted all below the counter of this secret, the last attempt with this mark (SPEC 44.2).
    #[cfg(feature = "cluster")]
    pub(crate) fn after(next: ResumeSecret, mark: [u8; 8]) -> Self {
        Standing {
            mark,
            ..Standing::new(next)
        }
    }

    /// Returns what a ticket has of it: the secret of the least counter that can be accepted, and the mark of the attempt accepted last.
    #[cfg(feature = "cluster")]
    pub(crate) fn of_ticket(&self) -> (&ResumeSecret, [u8; 8]) {
        (&self.next, self.mark)
    }

    /// Returns the highest counter accepted.
    #[must_use]
    pub fn highest(&self) -> u64 {
        self.next.counter().saturating_sub(1)
    }

    /// Returns the resume secret of an attempt that may go on (steps 6, 7 and 11 of SPEC 23.2(a)). Nothing changes.
    ///
    /// # Errors
    /// [`Code::STALE`] or [`Code::AHEAD`].
    pub fn judge(&self, counter: u64) -> Result<ResumeSecret, Code> {
        // The secret kept is that of highest + 1.
        let links = MAX_AHEAD.saturating_sub(1);
        self.next.at(counter, links).map_err(|error| match error {
            ChainError::Behind { .. } => Code::STALE,
            ChainError::Ahead { .. } => Code::AHEAD,
        })
    }

    /// Accepts an attempt whose early record has opened under `link`.
    ///
    /// # Errors
    /// [`Code::STALE`] if a counter that is not lower was accepted since it was [judged](Self::judge).
    pub fn accept(&mut self, claimed: &Claimed, link: &ResumeSecret) -> Result<(), Code> {
        if link.counter() < self.next.counter() {
            return Err(Code::STALE);
        }
        let after = link.counter().saturating_add(1);
        self.next = link.at(after, 1).map_err(|_| Code::STALE)?;
        let before = core::mem::replace(&mut self.mark, claimed.attempt.mark());
        let marks = &mut self.before.get_or_insert_default().0;
        if marks.len() == MAX_RESUMED_MARKS {
            marks.remove(0);
        }
        marks.reserve_exact(1);
        marks.push(before);
        Ok(())
    }

    /// Returns the marks that RESUMED of the attempt accepted last tells. (SPEC 23.6(b))
    #[must_use]
    pub fn before(&self) -> &[Mark] {
        self.before
            .as_deref()
            .map_or(&[], |marks| marks.0.as_slice())
    }

    /// Handles that the client has opened the RESUMED of the attempt accepted last: its EARLY_END has come. It knows of all before it.
    pub fn confirm(&mut self) {
        self.before = None;
    }

    /// Appends it to what an edge saves. (SPEC 39.2)
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        self.next.save(out);
        out.extend_from_slice(&self.mark);
        let before = self.before();
        out.push(u8::try_from(before.len()).unwrap_or(u8::MAX));
        before.iter().for_each(|mark| out.extend_from_slice(mark));
    }

    /// Reads what [`save`](Self::save) wrote.
    pub(crate) fn load(saved: &mut Saved<'_>) -> Option<Self> {
        let (next, mark) = (ResumeSecret::load(saved)?, saved.array()?);
        let count = usize::from(saved.u8()?);
        if count > MAX_RESUMED_MARKS {
            return None;
        }
        let before: Option<Vec<Mark>> = (0..count).map(|_| saved.array()).collect();
        Some(Standing {
            next,
            mark,
            before: Some(before?)
                .filter(|before| !before.is_empty())
                .map(|before| Box::new(Marks(before))),
        })
    }

    /// Returns the number of bytes on the heap that it keeps for marks.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let memory =
            |marks: &Marks| size_of_val(marks).saturating_add(size_of_val(marks.0.as_slice()));
        self.before.as_deref().map_or(0, memory)
    }
}

/// Where the two directions of a session are at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "SPEC 23.2(d) has no others")]
pub struct Numbers {
    /// The highest number up received.
    pub received_up: u64,
    /// The highest number down sent on any connection.
    pub sent_down: u64,
    /// The highest number down that the client has acknowledged.
    pub acknowledged_down: u64,
}

impl Numbers {
    /// Returns how many packets down are to be told as a gap before the replay begins, which is 0 for an honest client.
    ///
    /// # Errors
    /// [`Code::NUMBERS`] if the client claims what cannot be (SPEC 23.2(d)).
    pub fn fit(&self, position: &Position) -> Result<u64, Code> {
        let has_hole = position.first_up.saturating_sub(1) > self.received_up;
        if has_hole || position.received_down > self.sent_down {
            return Err(Code::NUMBERS);
        }
        Ok(self
            .acknowledged_down
            .saturating_sub(position.received_down))
    }
}
