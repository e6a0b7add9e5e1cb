//! The backend's end of a link of version 3, as far as the measurements need it. It counts as SPEC 37.1 says.

use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::link::v3::{
    Ask, Delivery, Feature, Features, Grant, GroupId, GroupSend, LinkAck, ToEdge, is_counted,
};

/// The group of a packet for many.
const GROUP: GroupId = GroupId(7);
/// How long a backend may leave what it has received unacknowledged. (SPEC 37.2(b))
const ACKNOWLEDGES_WITHIN: Duration = Duration::from_millis(10);

/// Returns the frame that asks for version 3 with all features, or with all but acknowledgements.
#[must_use]
pub fn ask(acknowledges: bool) -> Vec<u8> {
    let without: &[Feature] = match acknowledges {
        true => &[],
        false => &[Feature::LinkAcks, Feature::EndToEnd],
    };
    let features: Features = Feature::ALL
        .into_iter()
        .filter(|feature| !without.contains(feature))
        .collect();
    let ask = Ask {
        features,
        boot: [1; 16],
        run: None,
        received: 0,
        acknowledged: 0,
        sent: 0,
        longest_body: 8 << 20,
    };
    let mut bytes = Vec::new();
    ask.encode(&mut bytes);
    bytes
}

/// Returns the frame that makes these clients members of the group.
#[must_use]
pub fn add_to_group(ids: &[ClientId]) -> Vec<u8> {
    let (mut frame, ids) = (Vec::new(), ids.into());
    ToEdge::GroupAdd { group: GROUP, ids }.encode(&mut frame);
    frame
}

/// Returns the frame that has this packet sent to the whole group.
#[must_use]
pub fn for_group(packet: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let send = GroupSend {
        delivery: Delivery::Ordinary,
        left_out: (&[][..]).into(),
        packet,
    };
    ToEdge::GroupSend { group: GROUP, send }.encode(&mut frame);
    frame
}

/// The counted frames of one link, in both directions.
#[derive(Debug, Default)]
pub struct Counts {
    received: u64,
    /// Frames that the backend has sent.
    pub sent: u64,
    acknowledged: u64,
    acknowledged_at: Duration,
}

impl Counts {
    /// Handles a frame of the edge. Those before the grant are not counted.
    pub fn hear(&mut self, body: &[u8]) {
        if Grant::of(body).is_some() {
            self.received = 0;
        } else if is_counted(body) {
            self.received += 1;
        }
    }

    /// Acknowledges all that was received.
    pub fn acknowledge(&mut self, out: &mut Vec<u8>) {
        self.acknowledged = self.received;
        LinkAck {
            acknowledged: self.received,
            sent: self.sent,
        }
        .encode(out);
    }

    /// Does so if something was received and the last time is as long ago as it may be.
    pub fn acknowledge_if_due(&mut self, now: Duration, out: &mut Vec<u8>) {
        let is_due = now.saturating_sub(self.acknowledged_at) >= ACKNOWLEDGES_WITHIN;
        if is_due && self.acknowledged < self.received {
            self.acknowledged_at = now;
            self.acknowledge(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    /// Returns what an edge would read of an acknowledgement: `acknowledged` and `sent`.
    fn acknowledged(counts: &mut Counts) -> [u64; 2] {
        let mut bytes = Vec::new();
        counts.acknowledge(&mut bytes);
        let fields = bytes.split_off(wire::LENGTH_BYTES + wire::TAG_BYTES);
        let (fields, rest) = fields.as_chunks();
        assert!(rest.is_empty());
        [0, 1].map(|nth| u64::from_le_bytes(fields[nth]))
    }

    #[test]
    fn frames_count_from_the_grant_on_and_acknowledgements_do_not() {
        let data = [&7_u64.to_le_bytes()[..], &[wire::FLAG_DATA, 1, 2]].concat();
        let mut counts = Counts::default();
        counts.hear(&data);
        let grant = Grant {
            features: Feature::ALL.into_iter().collect(),
            boot: [1; 16],
            home: 0,
            term: 1,
            run: [2; 8],
            continues: None,
            received: 0,
            groups_of_a_session: 1,
            sessions: 0,
        };
        let mut bytes = Vec::new();
        grant.encode(&mut bytes);
        counts.hear(&bytes[wire::LENGTH_BYTES..]);
        assert_eq!(acknowledged(&mut counts), [0, 0]);
        counts.hear(&data);
        counts.sent += 2;
        let mut ack = Vec::new();
        counts.acknowledge(&mut ack);
        counts.hear(&ack[wire::LENGTH_BYTES..]);
        assert_eq!(acknowledged(&mut counts), [1, 2]);
    }

    #[test]
    fn what_was_received_is_acknowledged_when_it_is_due_and_once() {
        let data = [&7_u64.to_le_bytes()[..], &[wire::FLAG_DATA]].concat();
        let mut counts = Counts::default();
        let written = |counts: &mut Counts, millis| {
            let mut out = Vec::new();
            counts.acknowledge_if_due(Duration::from_millis(millis), &mut out);
            !out.is_empty()
        };
        assert!(!written(&mut counts, 10));
        counts.hear(&data);
        assert!(!written(&mut counts, 9));
        assert!(written(&mut counts, 10));
        assert!(!written(&mut counts, 20));
        counts.hear(&data);
        assert!(!written(&mut counts, 19));
        assert!(written(&mut counts, 20));
    }
}
