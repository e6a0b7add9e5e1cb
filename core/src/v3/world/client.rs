//! The client of the world.

use crate::v3::client::{Attempting, Joining, Outcome, Resumable, Returning};
use crate::v3::code::Code;
use crate::v3::inbound::Inbound;
use crate::v3::items::Item;
use crate::v3::record::Sealer;

use super::edge::LONGEST;
use super::parts::{Outbound, Random, Ring, Taken, read, take};

/// The client's end of its connection.
pub(super) enum ClientEnd {
    None,
    Joining(Joining),
    Waiting(Attempting, Outbound, u64),
    Returning(Box<Returning>, Inbound, Outbound),
    Established(Inbound, Outbound),
}

pub(super) struct Client {
    pub(super) end: ClientEnd,
    pub(super) session: Option<Resumable>,
    pub(super) taken: Taken,
    pub(super) ring: Ring,
    pub(super) conflicts: u32,
    /// Whether it has opened a RESUMED.
    pub(super) was_back: bool,
    pub(super) is_gone: bool,
}

impl Client {
    /// Begins an attempt. Returns its first flight.
    pub(super) fn connect(&mut self, random: &mut Random) -> Vec<Vec<u8>> {
        self.taken.received.reconnect();
        self.ring.heard.reconnect();
        let Some(session) = &mut self.session else {
            let mut out = Vec::new();
            let joining = Joining::begin(random.bytes(), &[], LONGEST, &mut out);
            self.end = ClientEnd::Joining(joining);
            return vec![out.split_off(4)];
        };
        let first = self
            .ring
            .kept
            .front()
            .copied()
            .unwrap_or(self.ring.next + 1);
        let received = self.taken.received.received();
        let attempting = session.attempt(random.bytes(), first, received);
        let sealer = Sealer::new(&attempting.early());
        let mut early = Outbound {
            sealer,
            next: first,
        };
        let mut flight = vec![attempting.claim().to_vec()];
        // One to three early records, of which any may be empty.
        for _ in 0..=random.below(3) {
            let most = random.below(4);
            let packets: Vec<_> = self.ring.from(early.next).take(most).collect();
            let packets: Vec<_> = packets.into_iter().map(u64::to_le_bytes).collect();
            let items: Vec<_> = packets.iter().map(|packet| Item::Packet(packet)).collect();
            flight.push(early.record(&items));
        }
        self.ring.sent = self.ring.sent.max(early.next - 1);
        self.end = ClientEnd::Waiting(attempting, early, received);
        flight
    }

    /// Handles a frame, and returns those that it sends. The connection is over if there is no end.
    pub(super) fn frame(&mut self, body: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
        match core::mem::replace(&mut self.end, ClientEnd::None) {
            ClientEnd::None => Vec::new(),
            ClientEnd::Joining(joining) => {
                let welcomed = joining.welcome(body).expect("an honest edge");
                self.session = Some(welcomed.session);
                let sealer = Sealer::new(&welcomed.join.up);
                let mut outbound = Outbound { sealer, next: 1 };
                let packets: Vec<_> = self.ring.from(1).map(u64::to_le_bytes).collect();
                let mut items = vec![Item::Token(b"token")];
                let most = random.below(4);
                items.extend(packets.iter().take(most).map(|packet| Item::Packet(packet)));
                let record = outbound.record(&items);
                self.ring.sent = self.ring.sent.max(outbound.next - 1);
                let inbound = Inbound::of_welcome(&welcomed.join.down, LONGEST);
                self.end = ClientEnd::Established(inbound, outbound);
                vec![record]
            }
            ClientEnd::Waiting(attempting, early, received) => {
                let session = self.session.as_mut().expect("it resumes");
                match attempting.answer(session, body).expect("an honest edge") {
                    Outcome::TakenUp(returning) => {
                        let inbound = Inbound::of_answer(&returning.down, received, LONGEST);
                        let returning = Box::new(returning);
                        self.end = ClientEnd::Returning(returning, inbound, early);
                    }
                    Outcome::AtOnce | Outcome::Later => {}
                    Outcome::Conflict => self.conflicts += 1,
                    Outcome::ByClass(verdict) if verdict.code == Code::GONE => self.is_gone = true,
                    outcome => panic!("{outcome:?}"),
                }
                Vec::new()
            }
            ClientEnd::Returning(returning, mut inbound, mut early) => {
                let items = read(&mut inbound, body).expect("an honest edge");
                let resumed = take(items, &mut self.taken, &mut self.ring);
                let (resumed, marks) = resumed.expect("it comes first");
                let session = self.session.as_mut().expect("it resumes");
                let sealer = Sealer::new(&returning.up);
                self.conflicts += u32::from(returning.resumed(session, &marks));
                self.was_back = true;
                let end = early.record(&[Item::EarlyEnd]);
                let next = early.next.max(resumed.received_up + 1);
                self.end = ClientEnd::Established(inbound, Outbound { sealer, next });
                vec![end]
            }
            ClientEnd::Established(mut inbound, outbound) => {
                let items = read(&mut inbound, body).expect("an honest edge");
                take(items, &mut self.taken, &mut self.ring);
                self.end = ClientEnd::Established(inbound, outbound);
                Vec::new()
            }
        }
    }
}
