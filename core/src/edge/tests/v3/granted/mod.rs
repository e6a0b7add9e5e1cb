//! A backend that asks for version 3 of the link (SPEC 33 to 38), with clients of both versions.

mod asking;
mod counts;
mod crowd;
mod gaps;
#[cfg(all(feature = "backend", feature = "cluster", feature = "client"))]
mod moves;
mod orders;
#[cfg(feature = "backends")]
mod pins;
#[cfg(feature = "backends")]
mod pins_kept;
#[cfg(feature = "backend")]
mod saved;
#[cfg(all(
    feature = "backend",
    feature = "backends",
    feature = "cluster",
    feature = "client"
))]
mod searches;
#[cfg(feature = "backend")]
mod secret;
#[cfg(all(feature = "backend", feature = "cluster"))]
mod several;
mod shards;

use super::*;
use crate::link::v3::{
    Ask, Carriage, Feature, Features, Grant, GroupId, GroupSend, Ids, Joined, Kick, LinkAck,
    MAX_TOKEN_BYTES, Own, OwnState, Peer, Policy, ToBackend, ToEdge, flag, is_counted,
};
use crate::link::v3::{Delivery as Class, Overflow};
use crate::queue::{FrameQueue, Outbox, SHARED_ENTRY_BYTES, SHORTEST_SHARED_BYTES, Sent};
use core::net::SocketAddr;

const BOOT: [u8; 16] = [1; 16];
const GROUP: GroupId = GroupId(5);

fn all() -> Features {
    Feature::ALL.into_iter().collect()
}

fn demanding(config: &mut EdgeConfig) {
    config.master.protocol = LinkProtocol::V3;
}

fn automatic(config: &mut EdgeConfig) {
    config.master.protocol = LinkProtocol::Auto;
}

/// A backend as simple as can be: it keeps what it sends until it is acknowledged, and counts what comes.
struct Backend {
    boot: [u8; 16],
    asks: Features,
    longest_body: u32,
    run: Option<[u8; 8]>,
    received: u64,
    frames: FrameQueue,
    sent: Sent,
    reader: FrameReader,
    grant: Option<Grant>,
    /// Bodies that came, without LINK_ACK.
    heard: Vec<Vec<u8>>,
    acks: Vec<LinkAck>,
}

impl Backend {
    fn new(boot: [u8; 16]) -> Self {
        Backend {
            boot,
            asks: all(),
            longest_body: u32::MAX,
            run: None,
            received: 0,
            frames: FrameQueue::new(),
            sent: Sent::default(),
            reader: FrameReader::default(),
            grant: None,
            heard: Vec::new(),
            acks: Vec::new(),
        }
    }

    fn ask(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let ask = Ask {
            features: self.asks,
            boot: self.boot,
            run: self.run,
            received: self.received,
            acknowledged: self.received,
            sent: self.sent.highest(),
            longest_body: self.longest_body,
        };
        ask.encode(&mut out);
        out
    }

    /// Reads bytes of the edge.
    fn read(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while let Some(body) = self.reader.next_frame(&mut input, NO_BOUND).unwrap() {
            if let Some(grant) = Grant::of(body) {
                let grant = grant.unwrap();
                assert_eq!(grant.boot, self.boot);
                let is_anew = self.run != Some(grant.run) || grant.received == u64::MAX;
                if is_anew {
                    (self.run, self.received) = (Some(grant.run), 0);
                    (self.sent, self.frames) = (Sent::default(), FrameQueue::new());
                } else {
                    self.sent.resume(grant.received, &mut self.frames).unwrap();
                }
                self.grant = Some(grant);
                continue;
            }
            let body = body.to_vec();
            match ToBackend::decode(&body, all()) {
                Ok(ToBackend::LinkAck(ack)) => {
                    assert_eq!(ack.sent, self.received, "its place");
                    self.sent
                        .acknowledge(ack.acknowledged, &mut self.frames)
                        .unwrap();
                    self.acks.push(ack);
                }
                decoded => {
                    decoded.unwrap();
                    assert!(is_counted(&body));
                    self.received += 1;
                    self.heard.push(body);
                }
            }
        }
    }

    fn queue(&mut self, order: &ToEdge<'_>) {
        let mut out = Vec::new();
        order.encode(&mut out);
        self.frames.push_frame(&out, &[]);
    }

    fn lose_link(&mut self) {
        self.reader = FrameReader::default();
        self.sent.lose_stream(&mut self.frames);
        self.grant = None;
    }
}

impl World {
    /// Lets a backend ask on the link that is there, and takes what follows.
    fn granted(&mut self, backend: &mut Backend) -> Grant {
        let ask = backend.ask();
        self.edge.handle_link_bytes(self.now, &ask);
        self.exchange(backend);
        backend.grant.expect("it is granted")
    }

    /// Writes everything both ways.
    fn exchange(&mut self, backend: &mut Backend) {
        loop {
            self.edge.audit();
            let bytes = self.edge.link_takes(self.now, usize::MAX);
            backend.read(&bytes);
            let down = backend.frames.output().to_vec();
            if backend.grant.is_none() || down.is_empty() {
                if bytes.is_empty() {
                    return;
                }
                continue;
            }
            self.edge.handle_link_bytes(self.now, &down);
            backend.sent.advance(down.len(), &mut backend.frames);
        }
    }

    /// Lets the backend acknowledge what it has, and takes what follows.
    fn backend_acknowledges(&mut self, backend: &mut Backend) {
        self.exchange(backend);
        let ack = LinkAck {
            acknowledged: backend.received,
            sent: backend.sent.sent(),
        };
        let mut bytes = Vec::new();
        ack.encode(&mut bytes);
        self.edge.handle_link_bytes(self.now, &bytes);
        self.exchange(backend);
    }

    /// Sends an order of the backend, and takes what follows.
    fn order(&mut self, backend: &mut Backend, order: &ToEdge<'_>) {
        backend.queue(order);
        self.exchange(backend);
    }

    fn lose_link(&mut self, backend: &mut Backend) {
        self.edge.handle_link_closed(self.now, Closed::Eof);
        backend.lose_link();
        // Pauses grow while links are short.
        while !self.edge.link_wants_connect(self.now) {
            self.wait(Duration::from_secs(1));
        }
        self.backend_comes();
    }
}

/// Returns what the backend heard since the last call.
fn heard(backend: &mut Backend) -> Vec<String> {
    let bodies = core::mem::take(&mut backend.heard);
    let show = |body: &Vec<u8>| match ToBackend::decode(body, all()).unwrap() {
        ToBackend::Data { packet, .. } => String::from_utf8_lossy(packet).into_owned(),
        ToBackend::Joined { .. } => "JOINED".to_owned(),
        ToBackend::Token { token, .. } => format!("TOKEN {}", String::from_utf8_lossy(token)),
        ToBackend::Away { cause, .. } => format!("AWAY {}", cause.to_u16()),
        ToBackend::Resumed { resumed, .. } => {
            format!("RESUMED {} {}", resumed.counter, resumed.replay)
        }
        ToBackend::Ended { ended, .. } => {
            assert!(ended.up.is_balanced() && ended.down.is_balanced());
            format!("ENDED {} {}", ended.code.to_u16(), ended.text)
        }
        ToBackend::Own { own, .. } => format!(
            "OWN {:?} {} {} {}",
            own.state, own.next_up, own.numbered_down, own.settled_down
        ),
        ToBackend::Settled(settled) => {
            let numbers: Vec<_> = settled.iter().map(|(_, number)| number).collect();
            format!("SETTLED {numbers:?}")
        }
        ToBackend::Gap {
            first,
            count,
            bytes,
            reason,
            ..
        } => format!("GAP {first} {count} {bytes} {reason}"),
        ToBackend::Refused { flag, refusal, .. } => format!("REFUSED {flag:#04x} {refusal:?}"),
        other => panic!("{other:?}"),
    };
    bodies.iter().map(show).collect()
}

fn packet(id: ClientId, packet: &'static [u8]) -> ToEdge<'static> {
    ToEdge::Packet {
        id,
        delivery: Class::Ordinary,
        packet,
    }
}

// ---- ask and grant
