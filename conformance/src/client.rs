//! A client that performs every step of the handshake by itself, including wrong ones.

use std::net::SocketAddr;

use voltlane_core::ClientId;
use voltlane_core::keys::{KeyPair, PublicKey, SharedKey};
use voltlane_core::v2::packets::Handshake;

use crate::handshake::{encoded, expect_id, hello, new_keys};
use crate::{Frames, Incoming, random};

/// A client's identity, which it needs to resume.
#[derive(Clone, Debug)]
pub struct Session {
    /// The id that the edge assigned.
    pub id: ClientId,
    /// The client's key pair.
    pub keys: KeyPair,
    /// The edge's public key as seen at the first connection.
    pub edge_key: PublicKey,
}

impl Session {
    /// Returns the key that both sides seal with.
    #[must_use]
    pub fn shared_key(&self) -> SharedKey {
        self.keys.agree(&self.edge_key)
    }

    /// Opens a challenge and seals its content again, as the owner of the session would.
    #[must_use]
    pub fn response_to(&self, challenge: &[u8]) -> Vec<u8> {
        let key = self.shared_key();
        let plain = key.open(challenge).expect("a challenge for this session");
        let mut sealed = Vec::new();
        key.seal_with_nonce(&plain, &random(), &mut sealed);
        sealed
    }

    /// Claims this session on a new connection.
    #[must_use]
    pub fn claim(&self, edge: SocketAddr) -> Challenged {
        Challenged::claim(Frames::connect(edge), self.id)
    }

    /// Resumes with the whole reconnect, up to the edge's Ping.
    #[must_use]
    pub fn resume(self, edge: SocketAddr) -> Client {
        self.resume_over(Frames::connect(edge))
    }

    /// Resumes on a given connection.
    #[must_use]
    pub fn resume_over(self, frames: Frames) -> Client {
        let challenged = Challenged::claim(frames, self.id);
        let response = self.response_to(&challenged.challenge);
        let mut frames = challenged.respond(&response);
        assert_eq!(
            frames.incoming(),
            Incoming::Body(vec![0]),
            "the edge's Ping ends the reconnect"
        );
        Client {
            frames,
            session: self,
        }
    }

    /// Tries to resume and is refused: the edge ends the connection in order after the response.
    #[track_caller]
    pub fn expect_refused(&self, edge: SocketAddr) {
        let challenged = self.claim(edge);
        // A decoy does not open. Then any answer will do.
        let response = self
            .shared_key()
            .open(&challenged.challenge)
            .map_or([7; 72].to_vec(), |_| {
                self.response_to(&challenged.challenge)
            });
        challenged.respond(&response).expect_fin();
    }
}

/// A connection that has claimed a session and received the edge's challenge.
#[derive(Debug)]
pub struct Challenged {
    /// The connection.
    pub frames: Frames,
    /// The sealed value of the edge.
    pub challenge: Vec<u8>,
}

impl Challenged {
    /// Claims `id` on a new connection.
    #[must_use]
    pub fn claim(mut frames: Frames, id: ClientId) -> Challenged {
        hello(&mut frames);
        Challenged::claim_after_hello(frames, id)
    }

    /// Claims `id` on a connection that has received the edge's key.
    #[must_use]
    pub fn claim_after_hello(mut frames: Frames, id: ClientId) -> Challenged {
        frames.write(&encoded(Handshake::ClientId(id)));
        let body = frames.body();
        match Handshake::decode(&body) {
            Ok(Handshake::Challenge(sealed)) => Challenged {
                challenge: sealed.to_vec(),
                frames,
            },
            other => panic!("a challenge was expected, not {other:?}"),
        }
    }

    /// Sends a response and a Ping in one segment, as clients in the field do.
    #[must_use]
    pub fn respond(mut self, response: &[u8]) -> Frames {
        let mut bytes = encoded(Handshake::ChallengeResponse(response));
        bytes.extend(encoded(Handshake::Ping));
        self.frames.write(&bytes);
        self.frames
    }
}

/// A client that has joined or resumed.
#[derive(Debug)]
pub struct Client {
    /// The connection, for bytes that a client would not send.
    pub frames: Frames,
    /// Its identity.
    pub session: Session,
}

impl Client {
    /// Joins with a new session.
    #[must_use]
    pub fn join(edge: SocketAddr) -> Client {
        Client::join_over(Frames::connect(edge))
    }

    /// Joins on a given connection.
    #[must_use]
    pub fn join_over(mut frames: Frames) -> Client {
        let edge_key = hello(&mut frames);
        let keys = new_keys();
        frames.write(&encoded(Handshake::PubKey(keys.public().as_bytes())));
        let id = expect_id(&mut frames);
        Client {
            frames,
            session: Session { id, keys, edge_key },
        }
    }

    /// Returns the client's id.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.session.id
    }

    /// Sends a packet.
    pub fn send(&mut self, data: &[u8]) {
        self.frames.write_frame(data);
    }

    /// Returns the next packet.
    #[track_caller]
    pub fn recv(&mut self) -> Vec<u8> {
        self.frames.body()
    }

    /// Waits for exactly this packet.
    #[track_caller]
    pub fn expect(&mut self, data: &[u8]) {
        let received = self.recv();
        assert!(
            received == data,
            "{} bytes were expected, {} other ones came",
            data.len(),
            received.len()
        );
    }

    /// Ends the connection in order and waits until the edge has done so, too: afterwards the session is away. Nothing may be in flight to
    /// the client.
    #[track_caller]
    pub fn leave(self) -> Session {
        let (packets, session) = self.leave_with_packets();
        assert_eq!(packets.len(), 0, "packets were under way");
        session
    }

    /// Like [`leave`](Self::leave), and returns the packets that were in flight.
    pub fn leave_with_packets(mut self) -> (Vec<Vec<u8>>, Session) {
        self.frames.finish();
        let (packets, _) = self.frames.rest();
        (packets, self.session)
    }

    /// Resets the connection. The edge may not have noticed yet when this returns.
    #[must_use]
    pub fn reset(self) -> Session {
        self.frames.reset();
        self.session
    }
}
