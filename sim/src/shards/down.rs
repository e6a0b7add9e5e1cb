//! The rules of the way down: from the backend through the trunk and a branch to a client.

use super::ledger::{Ledger, Purpose};
use crate::codec::{self, Frames, LENGTH_BYTES, TAG_BYTES, Tagged};
use crate::payload::{self, Direction};

impl Ledger {
    /// Handles that the trunk took `bytes` from the backend.
    pub(super) fn trunk_took(&mut self, bytes: &[u8]) {
        let longest = self.setup.config.master.max_frame_bytes + TAG_BYTES as u32;
        self.arrived.push(bytes);
        while !self.framing_lost {
            match self.arrived.next_body(longest) {
                Ok(Some(body)) => {
                    // Malformed, and not passed to a shard.
                    if body.is_empty() {
                        continue;
                    }
                    let shards = self.for_shards.len();
                    let named = body.get(7).map_or(0, |top| usize::from(*top));
                    let shard = if named < shards { named } else { 0 };
                    self.for_shards[shard].push_back(body);
                }
                Ok(None) => return,
                Err(_) => self.framing_lost = true,
            }
        }
    }

    /// Handles that a shard took whole frames from its branch.
    pub(super) fn shard_took(&mut self, shard: usize, bytes: &[u8]) {
        let mut frames = Frames::default();
        frames.push(bytes);
        while let Ok(Some(body)) = frames.next_body(u32::MAX) {
            match self.for_shards[shard].pop_front() {
                Some(expected) if expected == body => self.came_for(shard, &body),
                expected => {
                    let text = format!(
                        "shard {shard} gets {:?}, and {:?} is next",
                        Tagged::read(&body),
                        expected.as_deref().map(Tagged::read)
                    );
                    return self.fail("S10", "9.9", text);
                }
            }
        }
        if frames.held() > 0 {
            let text = format!("shard {shard} gets a batch that ends within a packet");
            self.fail("S10", "9.9", text);
        }
    }

    fn came_for(&mut self, shard: usize, body: &[u8]) {
        let Some(packet) = Tagged::read(body) else {
            return;
        };
        let Some(&number) = self.by_id.get(&packet.id) else {
            let (came, _) = self.strange.entry(packet.id).or_default();
            *came += 1;
            return;
        };
        let session = &mut self.sessions[number];
        match packet {
            Tagged {
                flag: codec::KICK,
                data: [],
                ..
            } => {
                session.kicked = true;
                if let Some(conn) = session.current.take() {
                    session.left_at = Some(self.now);
                    // It is still read, and its bytes are discarded.
                    self.watches[conn as usize].over = true;
                }
                self.reached("kick");
            }
            Tagged {
                flag: codec::DATA,
                data,
                ..
            } if !session.kicked => {
                let Ok(label) = payload::decode(data) else {
                    let text = format!("shard {shard}: a packet for session {number} is altered");
                    return self.fail("S10", "1.4(b)", text);
                };
                let bytes = LENGTH_BYTES + data.len();
                session.owed_down.push_back((label, bytes));
                session.owed_bytes += bytes;
                let (packets, most) = session.most_owed;
                session.most_owed = (
                    packets.max(session.owed_down.len()),
                    most.max(session.owed_bytes),
                );
            }
            _ => {}
        }
    }

    /// Handles that the transport of a client took `bytes`.
    pub(super) fn client_took(&mut self, conn: u32, bytes: &[u8]) {
        let watch = &mut self.watches[conn as usize];
        watch.took.push(bytes);
        while let Ok(Some(body)) = watch.took.next_body(u32::MAX) {
            if watch.handshake_down > 0 {
                watch.handshake_down -= 1;
                continue;
            }
            let session = &mut self.sessions[watch.session];
            let next = session.owed_down.front().copied();
            let label = payload::decode(&body).ok();
            if label.is_none()
                || next.map(|(label, _)| label) != label
                || watch.purpose == Purpose::Attempt
            {
                let text = format!("connection {conn} gets {label:?}, and {next:?} is next");
                return self.fail("S10", "1.4(b)", text);
            }
            session.owed_down.pop_front();
            session.owed_bytes -= LENGTH_BYTES + body.len();
        }
        // A packet that was begun must be the next one.
        let begun = watch.took.rest().first_chunk::<LENGTH_BYTES>();
        let next = self.sessions[watch.session].owed_down.front();
        if let Some(length) = begun.filter(|_| watch.handshake_down == 0) {
            let length = LENGTH_BYTES + u32::from_le_bytes(*length) as usize;
            if next.is_none_or(|(_, bytes)| *bytes != length) {
                let text = format!("connection {conn} gets {length} bytes, and {next:?} is next");
                self.fail("S10", "1.4(b)", text);
            }
        }
    }

    /// Handles a packet that a client received.
    pub(super) fn received(&mut self, number: usize, data: &[u8]) {
        let session = &mut self.sessions[number];
        let fine = payload::decode(data).is_ok_and(|label| {
            let next = session.next_received;
            session.next_received = label.seq + 1;
            label.direction == Direction::Down
                && label.owner as usize == number
                && label.seq >= next
        });
        session.received += 1;
        if !fine {
            let text = format!("session {number} gets {:?}", payload::decode(data));
            self.fail("S2", "1.4(b)", text);
        }
    }
}
