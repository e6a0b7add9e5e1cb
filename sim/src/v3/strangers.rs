//! Who repeats flights, steals secrets, claims with version 2, or sends anything.

use voltlane_core::keys::PublicKey;

use super::keys::{self, Lane};
use super::{Owner, World};
use crate::codec::{Hello, frame};
use crate::engine::identity::edge_pair;
use crate::engine::pipe::End;
use crate::ledgered::Runs as _;
use crate::rng::Rng;

impl World {
    /// Reads and forgets what comes to others than clients, and what comes to clients that have gone.
    pub(super) fn others_turn(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        for conn in self.live.clone() {
            let state = &mut self.conns[conn];
            if matches!(state.owner, Owner::Client(_)) {
                continue;
            }
            state.down.advance(now);
            moved |= !state.down.read(usize::MAX).is_empty();
            if state.down.ended(now).is_some() {
                moved |= state.up.end(now, End::Fin).is_some();
            }
        }
        moved
    }

    /// Opens a connection on which `bytes` are written.
    fn write_as(&mut self, owner: Owner, random: [u8; 32], bytes: &[u8]) -> Option<usize> {
        let conn = self.open(owner, random)?;
        let state = &mut self.conns[conn];
        state.up = crate::engine::pipe::Pipe::new(1 << 20, 0, Rng::new(0));
        let mut seen = Vec::new();
        let read = state.tap.up(bytes, &mut self.common, &mut seen);
        state.up_seen.extend(seen);
        state.up.write(self.now, bytes, &mut self.wakes);
        if let Err(text) = read {
            self.misread(conn, text);
        }
        Some(conn)
    }

    /// Repeats the first flight of one of the client's connections, or all but its last `cut` bytes.
    pub(super) fn repeat(&mut self, client: usize, back: usize, cut: usize) {
        let conns = &self.clients[client].conns;
        let Some(which) = conns.len().checked_sub(back + 1) else {
            return;
        };
        let seen = &self.conns[conns[which]];
        let (random, flight) = (seen.random, seen.flight.clone());
        let bytes = &flight[..flight.len().saturating_sub(cut)];
        if let Some(conn) = self.write_as(Owner::Watcher, random, bytes) {
            self.note(|| {
                format!(
                    "connection {conn} repeats {} bytes of a flight",
                    bytes.len()
                )
            });
            self.ledger.reached("repeated");
        }
    }

    /// Resumes the client's session with a copy of its secrets.
    pub(super) fn steal(&mut self, client: usize, ahead: u64, claims_less: bool) {
        let state = &self.clients[client];
        let (Some(session), Some(id)) = (state.session.filter(|_| state.is_v3), state.id) else {
            return;
        };
        let (received_down, first_up) = {
            let entry = &self.ledger.sessions[session];
            // It has what the owner had, or says that it has less.
            let received = if claims_less {
                entry.down.acked / 2
            } else {
                entry.down.taken
            };
            (received, entry.up.acked + 1)
        };
        let counter = self.ledger.sessions[session].highest + ahead;
        let random = self.entropy();
        let bytes = self.flight(id, counter, first_up, received_down, random);
        if let Some(conn) = self.write_as(Owner::Thief, random, &bytes) {
            self.note(|| format!("connection {conn} is a thief's, with counter {counter}"));
            self.ledger.reached("stolen");
        }
    }

    /// Makes a first flight.
    fn flight(
        &mut self,
        id: u64,
        counter: u64,
        first_up: u64,
        received_down: u64,
        random: [u8; 32],
    ) -> Vec<u8> {
        let nonce: [u8; 24] = *random.first_chunk().expect("24 of 32");
        let mask: [u8; 8] = *random.last_chunk().expect("8 of 32");
        let Some(chain) = self.common.chains.get_mut(&id) else {
            return Vec::new();
        };
        let key = keys::expand(&chain.claim_key, &[b"seal"]);
        let link = chain.link(counter);
        let mut plain = [0; 48];
        plain[..8].copy_from_slice(&counter.to_le_bytes());
        plain[16..24].copy_from_slice(&self.edge.run());
        plain[24..32].copy_from_slice(&first_up.to_le_bytes());
        plain[32..40].copy_from_slice(&received_down.to_le_bytes());
        let mut claim = vec![0x12];
        claim.extend(self.common.edge.hint);
        claim.extend(self.common.edge.handle(id, mask));
        claim.extend(nonce);
        let sealed = keys::seal(&key, &nonce, &claim, &plain);
        claim.extend(sealed);
        let tc = keys::sha256(&[b"voltlane 3 resume", &claim]);
        let mut early = Lane::new(&keys::expand(&link, &[b"early", &tc]));
        let record = early.seal(first_up, &[]);
        [Hello::Version(3).to_frame(), frame(&claim), frame(&record)].concat()
    }

    /// Claims the client's session with version 2. There is no proof, so nobody may come in.
    pub(super) fn downgrade(&mut self, client: usize) {
        let Some(id) = self.clients[client].id else {
            return;
        };
        let bytes = [Hello::Version(2).to_frame(), Hello::Id(id).to_frame()].concat();
        let random = self.entropy();
        if let Some(conn) = self.write_as(Owner::Stranger, random, &bytes) {
            self.conns[conn].tap.lose();
        }
    }

    pub(super) fn stranger(&mut self, kind: u64, draws: u64) {
        let mut rng = Rng::new(draws);
        let random = self.entropy();
        let version = Hello::Version(3).to_frame();
        let mut body = vec![0; rng.between(1, 300) as usize];
        rng.fill(&mut body);
        let hint = PublicKey::as_bytes(&edge_pair().public()).to_vec();
        let hint = keys::sha256(&[&hint]);
        match kind {
            0 => {}
            // A Claim that no key opens.
            1 => {
                body.resize(109, 7);
                body[0] = 0x12;
                body[1..5].copy_from_slice(&hint[..4]);
            }
            // A Hello without a point, or with one.
            2 => {
                body.resize(42, 9);
                (body[0], body[9]) = (0x10, 2);
            }
            // A Claim for another edge.
            3 => {
                body.resize(109, 5);
                (body[0], body[1]) = (0x12, !hint[0]);
            }
            4 => body[0] = 0x13,
            _ => body.truncate(3),
        }
        let bytes = [version, frame(&body)].concat();
        if let Some(conn) = self.write_as(Owner::Stranger, random, &bytes) {
            self.conns[conn].tap.lose();
            if rng.chance(50) {
                let state = &mut self.conns[conn];
                self.wakes.extend(state.up.end(self.now, End::Fin));
            }
        }
    }

    /// Everybody who is no client leaves.
    pub(super) fn others_leave(&mut self) {
        for conn in self.live.clone() {
            let state = &mut self.conns[conn];
            if !matches!(state.owner, Owner::Client(_)) {
                self.wakes.extend(state.up.end(self.now, End::Rst));
            }
        }
    }
}
