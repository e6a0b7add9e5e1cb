//! How sessions ended whose client was not told (SPEC 23.2(g)).

use core::net::IpAddr;
use std::collections::BTreeMap;

use crate::id::ClientId;
use crate::protocol::Code;
use crate::wire::saved::{Saved, put_count};

/// Ends remembered.
pub(crate) const MOST: usize = 65_536;
/// Ends remembered of sessions of one source.
pub(crate) const MOST_OF_SOURCE: usize = 256;
/// The memory of one, measured and rounded up.
const EACH_BYTES: usize = 128;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: Code,
    /// The highest counter that was accepted.
    pub(crate) highest: u64,
    pub(crate) acknowledged_up: u64,
    pub(crate) acknowledged_down: u64,
}

image!(End {
    code,
    highest,
    acknowledged_up,
    acknowledged_down
});

impl End {
    /// Reads what [`Ends::save`] wrote of the end of a session.
    pub(crate) fn load(saved: &mut Saved<'_>) -> Option<(ClientId, Self)> {
        let id = ClientId::from_u64(saved.u64()?);
        let end = End {
            code: Code::from_u16(saved.u16()?)?,
            highest: saved.u64()?,
            acknowledged_up: saved.u64()?,
            acknowledged_down: saved.u64()?,
        };
        Some((id, end))
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    end: End,
    source: Option<IpAddr>,
    order: u64,
}

image!(Entry { end, source, order });

/// The ends that are remembered. The oldest is forgotten for a new one, of its source or of all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ends {
    by_id: BTreeMap<u64, Entry>,
    in_order: BTreeMap<u64, ClientId>,
    of_source: BTreeMap<(IpAddr, u64), ClientId>,
    next: u64,
}

image!(Ends {
    by_id,
    in_order,
    of_source,
    next
});

impl Ends {
    /// Remembers how the session `id` ended, whose last connection came from `source` if that is limited. `most` are remembered.
    pub(crate) fn remember(&mut self, id: ClientId, source: Option<IpAddr>, end: End, most: usize) {
        self.forget(id);
        if let Some(source) = source {
            let mut of_source = self.of_source.range((source, 0)..=(source, u64::MAX));
            let oldest = of_source.next().map(|(_, &oldest)| oldest);
            if of_source.count() + 1 >= MOST_OF_SOURCE
                && let Some(oldest) = oldest
            {
                self.forget(oldest);
            }
        }
        while self.by_id.len() >= most
            && let Some((_, &oldest)) = self.in_order.first_key_value()
        {
            self.forget(oldest);
        }
        if most == 0 {
            return;
        }
        let order = self.next;
        self.next += 1;
        self.in_order.insert(order, id);
        if let Some(source) = source {
            self.of_source.insert((source, order), id);
        }
        let entry = Entry { end, source, order };
        self.by_id.insert(id.as_u64(), entry);
    }

    /// Forgets how the session `id` ended: its client was told.
    pub(crate) fn forget(&mut self, id: ClientId) {
        let Some(entry) = self.by_id.remove(&id.as_u64()) else {
            return;
        };
        self.in_order.remove(&entry.order);
        if let Some(source) = entry.source {
            self.of_source.remove(&(source, entry.order));
        }
    }

    /// Returns how the session `id` ended, if that is remembered.
    pub(crate) fn find(&self, id: ClientId) -> Option<End> {
        self.by_id.get(&id.as_u64()).map(|entry| entry.end)
    }

    /// Appends the ends, oldest first (SPEC 39.2). Of what source they were is not saved.
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        put_count(out, self.by_id.len());
        for id in self.in_order.values() {
            let Some(end) = self.find(*id) else { continue };
            out.extend_from_slice(&id.as_u64().to_le_bytes());
            out.extend_from_slice(&end.code.to_u16().to_le_bytes());
            for number in [end.highest, end.acknowledged_up, end.acknowledged_down] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }

    /// Returns an estimate of its memory in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.by_id.len() * EACH_BYTES
    }

    /// Panics if its tables are inconsistent.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn audit(&self) {
        assert_eq!(
            self.by_id.len(),
            self.in_order.len(),
            "ends by id and in order"
        );
        let of_sources = self.by_id.values().filter(|entry| entry.source.is_some());
        assert_eq!(self.of_source.len(), of_sources.count(), "ends of sources");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: End = End {
        code: Code::KICKED,
        highest: 1,
        acknowledged_up: 2,
        acknowledged_down: 3,
    };

    fn id(number: u64) -> ClientId {
        ClientId::from_u64(number)
    }

    #[test]
    fn the_oldest_is_forgotten_for_a_new_one() {
        let mut ends = Ends::default();
        for number in 0..3 {
            ends.remember(id(number), None, END, 3);
        }
        assert_eq!(ends.find(id(0)), Some(END));
        ends.remember(id(3), None, END, 3);
        assert_eq!((ends.find(id(0)), ends.find(id(1))), (None, Some(END)));
        ends.forget(id(1));
        ends.forget(id(1));
        ends.remember(id(4), None, END, 3);
        assert_eq!(ends.find(id(2)), Some(END));
        assert_eq!(ends.held_bytes(), 3 * EACH_BYTES);
        ends.audit();
    }

    #[test]
    fn a_source_washes_out_its_own_only() {
        let mut ends = Ends::default();
        let source = |last| Some(IpAddr::from([192, 0, 2, last]));
        ends.remember(id(1), source(7), END, MOST);
        for number in 0..MOST_OF_SOURCE as u64 {
            ends.remember(id(1_000 + number), source(8), END, MOST);
        }
        assert_eq!(ends.find(id(1_000)), Some(END), "so many of one source");
        ends.remember(id(9_999), source(8), END, MOST);
        assert_eq!(ends.find(id(1_000)), None, "and one more");
        assert_eq!(ends.find(id(1_001)), Some(END));
        assert_eq!(ends.find(id(1)), Some(END));
        ends.audit();
    }
}
