//! What both ends of the world have alike.

use std::collections::VecDeque;

use crate::v3::acks::{Acknowledged, Received};
use crate::v3::inbound::{Inbound, InboundError};
use crate::v3::items::{Item, Resumed};
use crate::v3::record::Sealer;

/// SplitMix64: schedules, and randoms that never repeat.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.next() as u8)
    }
}

/// Packets of one direction, as their sender keeps them. What a packet says is its number.
#[derive(Default)]
pub(super) struct Ring {
    pub(super) next: u64,
    pub(super) kept: VecDeque<u64>,
    pub(super) heard: Acknowledged,
    /// The highest number that was sealed on any connection.
    pub(super) sent: u64,
}

impl Ring {
    pub(super) fn push(&mut self) {
        self.next += 1;
        self.kept.push_back(self.next);
    }

    pub(super) fn ack(&mut self, more: u64) {
        let acknowledged = self.heard.hear(more, self.sent).expect("an honest ACK");
        while self
            .kept
            .front()
            .is_some_and(|number| *number <= acknowledged)
        {
            self.kept.pop_front();
        }
    }

    pub(super) fn from(&self, number: u64) -> impl Iterator<Item = u64> {
        let kept = self.kept.iter().copied();
        kept.filter(move |kept| *kept >= number)
    }
}

/// One direction of one connection, as its sender sees it.
pub(super) struct Outbound {
    pub(super) sealer: Sealer,
    pub(super) next: u64,
}

impl Outbound {
    pub(super) fn record(&mut self, items: &[Item<'_>]) -> Vec<u8> {
        let mut out = vec![0; 4];
        items.iter().for_each(|item| item.encode(&mut out));
        self.sealer
            .seal(self.next, &mut out, 0)
            .expect("it is short");
        self.next += items.iter().map(Item::numbers).sum::<u64>();
        out.split_off(4)
    }

    /// Seals what the ring has for this connection, with an ACK if one is due.
    pub(super) fn flush(
        &mut self,
        ring: &mut Ring,
        received: &mut Received,
        most: usize,
    ) -> Option<Vec<u8>> {
        let packets: Vec<_> = ring
            .from(self.next)
            .take(most)
            .map(u64::to_le_bytes)
            .collect();
        let mut items: Vec<_> = received.tell().map(Item::Ack).into_iter().collect();
        items.extend(packets.iter().map(|packet| Item::Packet(packet)));
        if items.is_empty() {
            return None;
        }
        let record = self.record(&items);
        ring.sent = ring.sent.max(self.next - 1);
        Some(record)
    }
}

/// Takes packets in order, each once.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) received: Received,
    /// A planted fault.
    pub(super) repeats: bool,
}

impl Taken {
    pub(super) fn packet(&mut self, bytes: &[u8], number: u64) {
        let says = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        assert_eq!(says, number, "a packet under another number");
        if number <= self.received.received() && !self.repeats {
            return;
        }
        assert_eq!(self.received.count(1), Some(number), "a packet is missing");
        self.received.take(number);
    }
}

/// What an item means to both ends alike. Returns RESUMED.
pub(super) fn take(
    items: Vec<Owned>,
    taken: &mut Taken,
    ring: &mut Ring,
) -> Option<(Resumed, Vec<[u8; 8]>)> {
    let mut resumed = None;
    for item in items {
        match item {
            Owned::Packet(bytes, number) => taken.packet(&bytes, number),
            Owned::Ack(more) => ring.ack(more),
            Owned::Resumed(found, marks) => resumed = Some((found, marks)),
            Owned::Other => {}
        }
    }
    resumed
}

pub(super) enum Owned {
    Packet(Vec<u8>, u64),
    Ack(u64),
    Resumed(Resumed, Vec<[u8; 8]>),
    Other,
}

pub(super) fn read(inbound: &mut Inbound, body: &[u8]) -> Result<Vec<Owned>, InboundError> {
    let mut items = Vec::new();
    inbound.read(&mut body.to_vec(), |item, number| {
        items.push(match item {
            Item::Packet(bytes) => Owned::Packet(bytes.to_vec(), number),
            Item::Ack(more) => Owned::Ack(more),
            Item::Resumed(resumed, marks) => Owned::Resumed(resumed, marks.to_vec()),
            _ => Owned::Other,
        });
    })?;
    Ok(items)
}
