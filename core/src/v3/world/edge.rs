//! The edge of the world, with one session.

use crate::ClientId;
use crate::v3::code::Code;
use crate::v3::inbound::Inbound;
use crate::v3::items::{Item, Resumed};
use crate::v3::packets::{Packet, Position, Settings, Verdict};
use crate::v3::record::Sealer;
use crate::v3::schedule::{Join, Master, ResumeSecret};
use crate::v3::server::{Claimed, EdgeKey, Numbers, Standing, verdict};

use super::parts::{Outbound, Random, Ring, Taken, read, take};

pub(super) const ID: ClientId = ClientId::from_u64(7);
const RUN: [u8; 8] = [9; 8];
pub(super) const LONGEST: u32 = 65_536;

/// The edge's end of a connection.
pub(super) enum EdgeEnd {
    First,
    Joining(Box<Join>, Inbound),
    Early(Box<(Claimed, Position, ResumeSecret, Inbound)>),
    Established(Inbound, Outbound),
    Closed,
}

pub(super) struct Session {
    pub(super) standing: Standing,
    pub(super) taken: Taken,
    pub(super) ring: Ring,
    pub(super) attached: usize,
}

pub(super) struct Edge {
    pub(super) key: EdgeKey,
    pub(super) ends: Vec<EdgeEnd>,
    pub(super) session: Option<Session>,
    pub(super) fault: Option<Fault>,
}

/// A planted fault of the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// An Answer does not tell the highest counter.
    HighestNotTold,
    /// The first ACK of a connection goes on from the last one of the connection before.
    AcksGoOn,
    /// Early packets that the edge has are taken again.
    EarlyTakenTwice,
    /// The replay begins after what was acknowledged, not after what was received.
    ReplayFromAcknowledged,
    /// The mark of the attempt before is not told.
    BeforeNotTold,
}

impl Edge {
    pub(super) fn refuse(claimed: &Claimed, verdict: Verdict, random: &mut Random) -> Vec<Vec<u8>> {
        vec![claimed.answer(verdict, random.bytes(), &mut Vec::new())]
    }

    /// Handles a frame, and returns those that it sends.
    pub(super) fn frame(&mut self, at: usize, body: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
        match core::mem::replace(&mut self.ends[at], EdgeEnd::Closed) {
            EdgeEnd::First => self.first(at, body, random),
            EdgeEnd::Joining(join, mut inbound) => {
                if let Ok(items) = read(&mut inbound, body) {
                    let mut session = Session {
                        standing: Standing::new(join.resume.clone()),
                        taken: Taken::default(),
                        ring: Ring::default(),
                        attached: at,
                    };
                    take(items, &mut session.taken, &mut session.ring);
                    self.session = Some(session);
                    let sealer = Sealer::new(&join.down);
                    self.ends[at] = EdgeEnd::Established(inbound, Outbound { sealer, next: 1 });
                }
                Vec::new()
            }
            EdgeEnd::Early(early) => self.early(at, *early, body, random),
            EdgeEnd::Established(mut inbound, outbound) => {
                let session = self.session.as_mut().expect("it is attached");
                // A record that does not open is the adversary's, who appended it.
                if let Ok(items) = read(&mut inbound, body) {
                    take(items, &mut session.taken, &mut session.ring);
                    self.ends[at] = EdgeEnd::Established(inbound, outbound);
                }
                Vec::new()
            }
            EdgeEnd::Closed => Vec::new(),
        }
    }

    pub(super) fn first(&mut self, at: usize, body: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
        match Packet::decode(body).expect("clients send packets") {
            Packet::Hello(hello) => {
                let mut out = Vec::new();
                let settings = |master: &Master, mask| Settings {
                    id: ID,
                    claim_key: master.claim_key(ID),
                    handle: master.mask(ID, mask),
                    run: RUN,
                    features: 0,
                    longest_packet_up: LONGEST,
                    ring_packets: 8_192,
                    ring_bytes: 1 << 20,
                    window_secs: 300,
                    ack_delay_ms: 250,
                    keep_alive_secs: 20,
                };
                let join = self.key.welcome(&hello, random.bytes(), settings, &mut out);
                let join = Box::new(join.expect("a point"));
                let inbound = Inbound::of_join(&join.up, LONGEST);
                self.ends[at] = EdgeEnd::Joining(join, inbound);
                vec![out.split_off(4)]
            }
            Packet::Claim(claim) => {
                let keys = core::slice::from_ref(&self.key);
                let claimed = Claimed::open(&claim, keys).expect("it is for this edge");
                let position = claimed.position(RUN, |_| false).expect("of this run");
                let Some(session) = &self.session else {
                    return Self::refuse(&claimed, verdict(Code::GONE, RUN), random);
                };
                let highest = match self.fault {
                    Some(Fault::HighestNotTold) => 0,
                    _ => session.standing.highest(),
                };
                match self.judge(position.counter) {
                    Ok(link) => {
                        let early = claimed.early(&link);
                        let inbound = Inbound::of_early(&early, position.first_up, LONGEST);
                        let early = Box::new((claimed, position, link, inbound));
                        self.ends[at] = EdgeEnd::Early(early);
                        Vec::new()
                    }
                    Err(code) => {
                        let verdict = Verdict {
                            highest,
                            ..verdict(code, RUN)
                        };
                        Self::refuse(&claimed, verdict, random)
                    }
                }
            }
            packet => panic!("{}", packet.name()),
        }
    }

    pub(super) fn judge(&self, counter: u64) -> Result<ResumeSecret, Code> {
        let session = self.session.as_ref().expect("it is there");
        session.standing.judge(counter)
    }

    pub(super) fn early(
        &mut self,
        at: usize,
        (claimed, position, link, mut inbound): (Claimed, Position, ResumeSecret, Inbound),
        body: &[u8],
        random: &mut Random,
    ) -> Vec<Vec<u8>> {
        let Ok(items) = read(&mut inbound, body) else {
            return Vec::new();
        };
        let fault = self.fault;
        let session = self.session.as_mut().expect("it was there a moment ago");
        if let Err(code) = session.standing.accept(&claimed, &link) {
            let verdict = Verdict {
                highest: session.standing.highest(),
                ..verdict(code, RUN)
            };
            return Self::refuse(&claimed, verdict, random);
        }
        let before = match fault {
            Some(Fault::BeforeNotTold) => &[[1; 8]],
            _ => session.standing.before(),
        };
        let numbers = Numbers {
            received_up: session.taken.received.received(),
            sent_down: session.ring.sent,
            acknowledged_down: session.ring.heard.acknowledged(),
        };
        assert_eq!(numbers.fit(&position), Ok(0), "an honest client");
        let old = core::mem::replace(&mut session.attached, at);
        session.taken.received.reconnect();
        if fault != Some(Fault::AcksGoOn) {
            session.ring.heard.reconnect();
        }
        session.taken.repeats = fault == Some(Fault::EarlyTakenTwice);
        take(items, &mut session.taken, &mut session.ring);
        let taken_up = Verdict {
            highest: link.counter(),
            ..verdict(Code::TAKEN_UP, RUN)
        };
        let answer = claimed.answer(taken_up, random.bytes(), &mut Vec::new());
        let (up, down) = claimed.established(&link, &answer);
        let received_up = session.taken.received.received();
        inbound.resume(&up, received_up);
        let sealer = Sealer::new(&down);
        let next = match fault {
            Some(Fault::ReplayFromAcknowledged) => session.ring.heard.acknowledged() + 1,
            _ => position.received_down + 1,
        };
        let mut outbound = Outbound { sealer, next };
        let resumed = Resumed {
            until: session.ring.next,
            received_up,
            away_ms: 0,
            cause: Code::GOODBYE,
        };
        let resumed = outbound.record(&[Item::Resumed(resumed, before)]);
        if old != at {
            self.ends[old] = EdgeEnd::Closed;
        }
        self.ends[at] = EdgeEnd::Established(inbound, outbound);
        vec![answer, resumed]
    }
}
