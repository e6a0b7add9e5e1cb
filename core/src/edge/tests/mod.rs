//! Tests of the machine through its interface: a small world in which each call is one event.

mod admission;
mod backends;
mod deadlines;
mod duties;
mod figures;
mod handover;
mod links;
mod listeners;
mod memory;
mod operator;
mod pace;
mod proxied;
mod reconfigure;
mod sessions;
mod states;
mod transport;
mod turns;
mod v3;

use core::time::Duration;

use super::*;
use crate::edge::HasLink;
use crate::edge::testkit::Adapter;
use crate::edge::trunk::{Batch, Downward, Upward};
use crate::id::{ClientId, ShardId};
use crate::keys::CHALLENGE_BYTES;
use crate::link::tagged::{Flag, Tagged};
use crate::protocol::OfferedVersions;
use crate::v2::packets::Handshake;
use crate::wire::frame::{FrameReader, LENGTH_BYTES, encode_frame};

const SOURCE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1));
const NO_BOUND: u32 = u32::MAX;

/// A client as the tests need it: its keys, and what it knows about its session.
struct Member {
    keys: KeyPair,
    id: ClientId,
    conn: ConnKey,
}

struct World {
    edge: Edge,
    edge_keys: KeyPair,
    now: Time,
    rng: ChaCha20Rng,
    /// The proxy's header in front of each client's bytes.
    header: &'static [u8],
}

/// Offers version 2 alone, for tests of the limits of a source: an edge that offers version 3 accepts what is beyond them for a Claim. The tests
/// of that are in [`v3`].
fn offer_2(config: &mut EdgeConfig) {
    config.listener.versions = OfferedVersions::new(&[2]).unwrap();
}

impl World {
    fn new(change: impl FnOnce(&mut EdgeConfig)) -> Self {
        let mut config = EdgeConfig::default();
        change(&mut config);
        Self::with(config)
    }

    /// Apart from [`World::new`], which is compiled once for each closure.
    fn with(config: EdgeConfig) -> Self {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        let keys = KeyPair::generate(&mut rng);
        let edge_keys = KeyPair::from_bytes(&keys.to_bytes()).unwrap();
        let mut world = World {
            edge: Edge::new(config, keys, [9; 32]),
            edge_keys,
            now: Time::ZERO,
            rng,
            header: b"",
        };
        world.backend_comes();
        world
    }

    fn backend_comes(&mut self) {
        assert!(self.edge.link_wants_connect(self.now));
        self.edge.link_up(self.now);
    }

    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.edge.skip_listed();
        while let Some(due) = self.edge.handle_next(&mut self.now, until) {
            if due.reason == DeadlineReason::LinkRetry {
                // Nobody dials.
                break;
            }
            self.edge.skip_listed();
        }
        self.now = until;
        self.edge.handle_timeout(self.now);
    }

    fn accept(&mut self) -> ConnKey {
        let conn = self.edge.handle_accepted(self.now, SOURCE).unwrap();
        self.edge.handle_client_bytes(self.now, conn, self.header);
        conn
    }

    fn say(&mut self, conn: ConnKey, packet: Handshake<'_>) {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes);
        self.edge.handle_client_bytes(self.now, conn, &bytes);
    }

    /// Returns the bodies of the edge's output for this connection.
    fn hear(&mut self, conn: ConnKey) -> Vec<Vec<u8>> {
        self.edge.audit();
        bodies(&self.edge.client_takes(self.now, conn, usize::MAX))
    }

    fn join(&mut self) -> Member {
        let conn = self.accept();
        let keys = KeyPair::generate(&mut self.rng);
        self.say(conn, Handshake::ProtocolVersion(2));
        self.say(conn, Handshake::PubKey(keys.public().as_bytes()));
        let heard = self.hear(conn);
        assert_eq!(
            Handshake::decode(&heard[0]),
            Ok(Handshake::PubKey(self.edge_keys.public().as_bytes()))
        );
        let Ok(Handshake::ClientId(id)) = Handshake::decode(&heard[1]) else {
            panic!("no id in {heard:?}")
        };
        Member { keys, id, conn }
    }

    /// Opens a connection that claims `id`, and returns it with the sealed challenge.
    fn claim(&mut self, id: ClientId) -> (ConnKey, Vec<u8>) {
        let conn = self.accept();
        self.say(conn, Handshake::ProtocolVersion(2));
        self.say(conn, Handshake::ClientId(id));
        assert_eq!(
            self.edge.read_budget(conn),
            0,
            "nothing is heard before the challenge is out"
        );
        self.wait(RESUME_REPLY_DELAY);
        let heard = self.hear(conn);
        let Ok(Handshake::Challenge(sealed)) = Handshake::decode(&heard[1]) else {
            panic!("no challenge in {heard:?}")
        };
        (conn, sealed.to_vec())
    }

    /// Returns the right response to a challenge, by the holder of `keys`.
    fn answer(&mut self, keys: &KeyPair, sealed: &[u8]) -> Vec<u8> {
        let shared = keys.agree(&self.edge_keys.public());
        let plain = shared.open(sealed).unwrap();
        assert_eq!(plain.len(), CHALLENGE_BYTES);
        let mut nonce = [0; 24];
        self.rng.fill_bytes(&mut nonce);
        let mut answer = Vec::new();
        shared.seal_with_nonce(&plain, &nonce, &mut answer);
        answer
    }

    /// Resumes as `member` on a new connection. Returns what it receives first, including the final Ping.
    fn come_back(&mut self, member: &mut Member) -> Vec<Vec<u8>> {
        let (conn, sealed) = self.claim(member.id);
        let answer = self.answer(&member.keys, &sealed);
        self.say(conn, Handshake::ChallengeResponse(&answer));
        self.say(conn, Handshake::Ping);
        member.conn = conn;
        self.hear(conn)
    }

    fn send(&mut self, conn: ConnKey, body: &[u8]) {
        let mut bytes = Vec::new();
        encode_frame(body, &mut bytes);
        self.edge.handle_client_bytes(self.now, conn, &bytes);
    }

    fn leave(&mut self, conn: ConnKey) {
        self.edge.handle_client_closed(self.now, conn, Closed::Eof);
    }

    fn backend_says(&mut self, id: ClientId, flag: Flag, data: &[u8]) {
        let mut bytes = Vec::new();
        Tagged { id, flag, data }.encode(&mut bytes);
        if let Uplink::Link(_) = self.edge.uplink {
            return self.edge.handle_link_bytes(self.now, &bytes);
        }
        let mut batch = Batch::new();
        batch.push(&bytes[LENGTH_BYTES..]);
        let input = Downward::Packets(batch);
        self.edge.handle_branch_input(self.now, &input);
    }

    /// Returns what a shard hands up to the trunk next.
    fn hands_up(&mut self) -> Option<Upward> {
        self.edge.audit();
        self.edge.take_branch_output(self.now, &mut Batch::new())
    }

    /// Returns the edge's output for the backend: id, flag, data as text.
    fn backend_hears(&mut self) -> Vec<(ClientId, Flag, String)> {
        let mut heard = Vec::new();
        loop {
            self.edge.audit();
            let bytes = match self.hands_up() {
                Some(output) => output.batch().map_or(&[][..], Batch::bytes).to_vec(),
                None => self.edge.link_takes(self.now, usize::MAX),
            };
            if bytes.is_empty() && !self.edge.branch_has_output() {
                return heard;
            }
            heard.extend(bodies(&bytes).iter().map(|body| {
                let tagged = Tagged::decode(body).unwrap();
                (
                    tagged.id,
                    tagged.flag,
                    String::from_utf8_lossy(tagged.data).into_owned(),
                )
            }));
        }
    }

    fn is_closed(&mut self, conn: ConnKey) -> bool {
        self.edge.client_close(conn).is_some()
    }
}

/// An edge behind a proxy at [`SOURCE`].
fn behind_proxy(config: &mut EdgeConfig) {
    config.listener.proxy_required = true;
    config.listener.trusted_proxies = vec![SOURCE.into()];
}

fn bodies(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut reader, mut input, mut bodies) = (FrameReader::default(), bytes, Vec::new());
    while let Some(body) = reader.next_frame(&mut input, NO_BOUND).unwrap() {
        bodies.push(body.to_vec());
    }
    assert!(!reader.is_mid_frame(), "whole frames only");
    bodies
}

fn data(id: ClientId, text: &str) -> (ClientId, Flag, String) {
    (id, Flag::Data, text.to_owned())
}

fn failure(id: ClientId, text: &str) -> (ClientId, Flag, String) {
    (id, Flag::Failure, text.to_owned())
}

fn ping() -> Vec<u8> {
    vec![0]
}
