//! The simulated backend: what the plan's operations make it do, and what it does by itself.

use std::collections::{BTreeMap, VecDeque};

use voltlane_core::edge::Closed;

use super::pipe::take_front;
use super::{Drop, End, Event, Lane, Mark, World, trace};
use crate::codec::{self, Frames, Tagged, frame};
use crate::payload::{self, Direction, Label};
use crate::plan::Action;

/// An id that no edge of shard 0 assigns.
const NOBODY: u64 = 0x77 << 56;
/// How long the network takes to give up a link whose peer is gone, in nanoseconds.
const GIVE_UP: u64 = 15_000_000_000;

/// The backend across the generations of its link.
#[derive(Default)]
pub(super) struct Backend {
    pub(super) refuses: bool,
    pub(super) stalled: bool,
    incoming: Frames,
    outbox: VecDeque<u8>,
    /// Half a frame was sent, or framing was broken: nothing after it has a meaning.
    broken: bool,
    /// Packets received, by the client that their payload names.
    pub(super) received: BTreeMap<u32, u64>,
}

impl Backend {
    pub(super) fn connected(&mut self) {
        self.disconnected();
    }

    pub(super) fn disconnected(&mut self) {
        self.incoming = Frames::default();
        self.outbox.clear();
        self.broken = false;
    }
}

impl World<'_> {
    pub(super) fn backend_operates(&mut self, action: &Action) {
        let sid = |client: usize| self.clients.get(client).and_then(|client| client.sid);
        match *action {
            Action::BackendSend {
                client,
                count,
                bytes,
            } => {
                for _ in 0..count {
                    self.backend_sends(client, bytes as usize);
                }
            }
            Action::Kick { client } => self.tagged(sid(client), codec::KICK, &[]),
            Action::KickUnknown {} => self.tagged(Some(NOBODY), codec::KICK, &[]),
            Action::SendUnknown {} => self.tagged(Some(NOBODY + 1), codec::DATA, b"anybody?"),
            Action::KickWithData { client } => self.tagged(sid(client), codec::KICK, b"out!"),
            Action::ShortFrame { bytes } => {
                self.backend_says(&frame(&vec![3; bytes.min(8) as usize]))
            }
            Action::BadFlag { client, flag } => self.tagged(sid(client), flag as u8, b"data"),
            Action::BackendTooLong {} => {
                let length = self.plan.options.max_down_bytes as u32 + codec::TAG_BYTES as u32 + 1;
                self.backend_says(&length.to_le_bytes());
                self.backend.broken = true;
            }
            Action::LinkDrop { how } => self.backend_drops(how),
            Action::LinkHalf { client } => {
                let id = sid(client).unwrap_or(NOBODY);
                let whole = Tagged {
                    id,
                    flag: codec::DATA,
                    data: b"half of it",
                }
                .to_frame();
                self.backend_says(&whole[..whole.len() / 2]);
                self.backend.broken = true;
                self.backend_drops(Drop::Fin);
            }
            Action::Refuse {} => self.backend.refuses = true,
            Action::Accept {} => self.backend.refuses = false,
            Action::BackendStall {} => self.backend.stalled = true,
            Action::BackendUnstall {} => self.backend_unstalls(),
            _ => {}
        }
    }

    /// Sends one packet to a client.
    pub(super) fn backend_sends(&mut self, client: usize, bytes: usize) {
        let Some(state) = self.clients.get_mut(client) else {
            return;
        };
        let Some(id) = state.sid else { return };
        let conn = self.link.as_ref().map_or(0, |link| link.generation);
        let label = Label {
            direction: Direction::Down,
            owner: client as u32,
            conn,
            seq: state.sent_down,
        };
        state.sent_down += 1;
        self.tagged(Some(id), codec::DATA, &payload::encode(label, bytes));
    }

    fn tagged(&mut self, id: Option<u64>, flag: u8, data: &[u8]) {
        if let Some(id) = id {
            self.backend_says(&Tagged { id, flag, data }.to_frame());
        }
    }

    fn backend_says(&mut self, bytes: &[u8]) {
        if self.link.is_some() && !self.backend.broken {
            self.backend.outbox.extend(bytes);
            self.pump_backend();
        }
    }

    /// Hands the link as much as it takes of the backend's output.
    pub(super) fn pump_backend(&mut self) {
        let now = self.now;
        let Some(link) = self.link.as_mut() else {
            return;
        };
        let count = self.backend.outbox.len().min(link.down.room());
        let bytes = take_front(&mut self.backend.outbox, count);
        let mut arrivals = Vec::new();
        link.down.write(now, &bytes, &mut arrivals);
        let generation = link.generation;
        for at in arrivals {
            self.at(at, Event::LinkToEdge(generation));
        }
    }

    fn backend_drops(&mut self, how: Drop) {
        let now = self.now;
        let Some(link) = self.link.as_mut().filter(|link| !link.silent) else {
            return;
        };
        self.backend.outbox.clear();
        self.backend.broken = true;
        let generation = link.generation;
        if how == Drop::Silent {
            link.silent = true;
            link.up.go_silent();
            link.down.go_silent();
            return self.at(now + GIVE_UP, Event::LinkGiveUp(generation));
        }
        link.up.discard();
        let blocked = link.blocked;
        if let Some(at) = link
            .down
            .end(now, if how == Drop::Fin { End::Fin } else { End::Rst })
        {
            self.at(at, Event::LinkToEdge(generation));
        }
        if blocked {
            self.at(now, Event::LinkWritable(generation));
        }
    }

    pub(super) fn link_give_up(&mut self, generation: u32) {
        if self
            .link
            .as_ref()
            .is_some_and(|link| link.generation == generation)
        {
            self.link_lost(Closed::Error);
        }
    }

    pub(super) fn backend_unstalls(&mut self) {
        self.backend.stalled = false;
        if let Some(generation) = self.link.as_ref().map(|link| link.generation) {
            self.reach_backend(generation);
        }
    }

    /// Handles bytes that have arrived at the backend.
    pub(super) fn reach_backend(&mut self, generation: u32) {
        let now = self.now;
        let Some(link) = self
            .link
            .as_mut()
            .filter(|link| link.generation == generation && !link.silent)
        else {
            return;
        };
        if self.backend.stalled {
            return;
        }
        link.up.advance(now);
        let bytes = link.up.read(usize::MAX);
        let blocked = link.blocked && !bytes.is_empty();
        self.backend.incoming.push(&bytes);
        if blocked {
            self.at(now, Event::LinkWritable(generation));
        }
        while let Ok(Some(body)) = self.backend.incoming.next_body(u32::MAX) {
            self.backend_received(&body);
        }
    }

    fn backend_received(&mut self, body: &[u8]) {
        let Some(packet) = Tagged::read(body) else {
            return;
        };
        self.note(Lane::Backend, Lane::Backend, Mark::Packet, || {
            format!("got {}", trace::link_bytes(&frame(body)))
        });
        let Ok(label) = payload::decode(packet.data) else {
            return;
        };
        *self.backend.received.entry(label.owner).or_default() += 1;
        let owner = self
            .clients
            .get(label.owner as usize)
            .and_then(|client| client.sid);
        if owner.is_none_or(|sid| sid != packet.id) && self.is_current(label) {
            let text = format!(
                "the backend received {label:?} under the id {:016x}",
                packet.id
            );
            self.model.fail("S1", "9.2(a)", text);
        }
    }

    /// Returns whether a client sent this packet on its latest connection and knows its id there.
    fn is_current(&self, label: Label) -> bool {
        let client = self.clients.get(label.owner as usize);
        client.is_some_and(|client| client.conn == Some(label.conn) && client.sid.is_some())
    }
}
