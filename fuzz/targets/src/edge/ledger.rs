//! A record, for each session, of what went into the machine and what came out of it.

use std::collections::BTreeMap;

use voltlane_core::ClientId;
use voltlane_core::edge::{EndReason, UNKNOWN_CLIENT};
use voltlane_core::link::tagged::{Flag, Tagged};

/// One session as its client knows it.
pub(super) struct Member {
    pub(super) id: ClientId,
    /// The number of its key pair; `None` if it joined with bytes of unknown origin.
    pub(super) pair: Option<usize>,
    /// Whole packets that the edge has read from the client; `None` once that is unknown.
    pub(super) up: Option<Vec<Vec<u8>>>,
    /// Packets that the client received.
    pub(super) down: Vec<Vec<u8>>,
}

/// A record of all traffic.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) members: Vec<Member>,
    /// Whole packets that the edge has read from the backend.
    sent: BTreeMap<ClientId, Vec<Vec<u8>>>,
    heard: BTreeMap<ClientId, Heard>,
}

/// What the backend received for one id.
#[derive(Default)]
struct Heard {
    packets: Vec<Vec<u8>>,
    has_ended: bool,
}

impl Ledger {
    /// Records that a client was given an id.
    pub(super) fn join(&mut self, id: ClientId, pair: Option<usize>) -> usize {
        assert!(
            self.members.iter().all(|member| member.id != id),
            "{id} was assigned before"
        );
        self.members.push(Member {
            id,
            pair,
            up: pair.map(|_| Vec::new()),
            down: Vec::new(),
        });
        self.members.len() - 1
    }

    /// Records a body that the edge has read on the link.
    pub(super) fn sent(&mut self, body: &[u8]) {
        if let Ok(Tagged {
            id,
            flag: Flag::Data,
            data,
        }) = Tagged::decode(body)
        {
            self.sent.entry(id).or_default().push(data.to_vec());
        }
    }

    /// Records a body that the backend has read on the link.
    pub(super) fn heard(&mut self, body: &[u8]) {
        let Tagged { id, flag, data } = Tagged::decode(body).expect("an edge tags its packets");
        let heard = self.heard.entry(id).or_default();
        match flag {
            Flag::Failure if data == UNKNOWN_CLIENT.as_bytes() => {}
            Flag::Failure => {
                let known = EndReason::ALL
                    .iter()
                    .any(|reason| reason.text().as_bytes() == data);
                assert!(known, "{:?}", data.escape_ascii().to_string());
                assert!(!heard.has_ended, "{id} ended twice");
                heard.has_ended = true;
            }
            _ if heard.has_ended => panic!("{flag:?} of {id} after its end"),
            Flag::Data => heard.packets.push(data.to_vec()),
            Flag::Resumed => assert!(data.is_empty()),
            Flag::Kick => panic!("an edge sends no kick"),
        }
    }

    pub(super) fn has_ended(&self, id: ClientId) -> bool {
        self.heard.get(&id).is_some_and(|heard| heard.has_ended)
    }

    /// Checks order and content for every session, and completeness for those that live.
    ///
    /// `attached` tells whether a session's client is connected and has read everything that there was.
    pub(super) fn check(&self, attached: impl Fn(usize) -> bool) {
        let nothing = (Vec::new(), Heard::default());
        for (number, member) in self.members.iter().enumerate() {
            let heard = &self.heard.get(&member.id).unwrap_or(&nothing.1).packets;
            let sent = self.sent.get(&member.id).unwrap_or(&nothing.0);
            let lives = !self.has_ended(member.id);
            if let Some(up) = &member.up {
                assert!(
                    up.starts_with(heard),
                    "{}: up {up:?}, received {heard:?}",
                    member.id
                );
                assert!(
                    !lives || up == heard,
                    "{}: up {up:?}, only {heard:?} was received",
                    member.id
                );
            }
            let down = &member.down;
            assert!(
                sent.starts_with(down),
                "{}: sent {sent:?}, received {down:?}",
                member.id
            );
            let all = lives && attached(number);
            assert!(
                !all || sent == down,
                "{}: sent {sent:?}, only {down:?} was received",
                member.id
            );
        }
    }
}
