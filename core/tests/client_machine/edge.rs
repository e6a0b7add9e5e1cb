//! A client machine, and an edge that sends exactly what a test tells it to.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use voltlane_core::client::{
    Client, ClientConfig, Closed, DropCause, Event, MAX_UNPROVABLE_CHALLENGES, Refusal,
    SavedSession, State,
};
use voltlane_core::keys::{KeyPair, NONCE_BYTES, PublicKey, SharedKey};
use voltlane_core::v2::packets::Handshake;
use voltlane_core::wire::frame::{FrameReader, encode_frame};
use voltlane_core::{ClientId, Time};

pub(crate) const ID: ClientId = ClientId::from_u64(0x0102_0304_0506_0708);
pub(crate) const SECRET: [u8; 32] = [0x5a; 32];

/// An [`Event`] that owns its packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Connected(ClientId),
    Resumed(ClientId),
    Packet(Vec<u8>),
    Dropped(DropCause),
    Refused(Refusal),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Connected { id } => Seen::Connected(id),
            Event::Resumed { id, .. } => Seen::Resumed(id),
            Event::Packet { data, .. } => Seen::Packet(data.to_vec()),
            Event::Dropped { cause, .. } => Seen::Dropped(cause),
            Event::Refused(refusal) => Seen::Refused(refusal),
            event => panic!("{event:?} in version 2"),
        }
    }
}

/// Both ends of one client link.
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) now: Time,
    pub(crate) edge_keys: KeyPair,
    /// The key that the client offered for its session, once it has.
    pub(crate) client_key: Option<PublicKey>,
    from_client: FrameReader,
    rng: ChaCha20Rng,
}

impl Link {
    pub(crate) fn new() -> Self {
        Link::with_client(Client::new(ClientConfig::default(), [1; 32]))
    }

    pub(crate) fn with_config(config: ClientConfig) -> Self {
        Link::with_client(Client::new(config, [1; 32]))
    }

    pub(crate) fn with_client(client: Client) -> Self {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let edge_keys = KeyPair::generate(&mut rng);
        Link {
            client,
            now: Time::from_millis(1),
            edge_keys,
            client_key: None,
            from_client: FrameReader::default(),
            rng,
        }
    }

    /// Creates a client that has joined as `ID`, with its handshake written.
    pub(crate) fn joined() -> Self {
        let mut link = Link::new();
        link.join();
        link
    }

    /// Creates another process with the same session, at the same edge.
    pub(crate) fn restored(&self, seed: [u8; 32], saved: &SavedSession) -> Self {
        Link {
            client: Client::restore(ClientConfig::default(), seed, saved),
            now: self.now,
            edge_keys: self.edge_keys.clone(),
            client_key: self.client_key,
            from_client: FrameReader::default(),
            rng: self.rng.clone(),
        }
    }

    /// Lets the client's pause end, and opens its transport.
    pub(crate) fn connect(&mut self) {
        if let Some(at) = self.client.poll_timeout() {
            self.now = self.now.max(at);
            self.client.handle_timeout(self.now);
        }
        assert!(self.client.wants_connect(self.now), "{:?}", self.client);
        self.client.handle_connected(self.now, [3; 32]);
        self.from_client.clear();
    }

    /// A whole first handshake.
    pub(crate) fn join(&mut self) {
        self.connect();
        self.until_await_id();
        assert_eq!(self.feed(&id_packet()), [Seen::Connected(ID)]);
    }

    /// From an open transport to the client's public key.
    pub(crate) fn until_await_id(&mut self) {
        assert_eq!(self.take_packets(), ["ProtocolVersion"]);
        assert_eq!(self.feed(&self.key_packet()), []);
        let frames = self.take_frames();
        let [frame] = frames.as_slice() else {
            panic!("{} frames", frames.len())
        };
        let Ok(Handshake::PubKey(point)) = Handshake::decode(frame) else {
            panic!("{frame:?}")
        };
        self.client_key = Some(PublicKey::from_sec1(point).expect("a client sends a point"));
    }

    /// A whole reconnect, up to the edge's Ping.
    pub(crate) fn resume(&mut self) {
        self.connect();
        self.until_await_ping();
        assert_eq!(self.feed(&ping_packet()), [Seen::Resumed(ID)]);
    }

    /// Claims the session and gets a challenge that is not sealed for this client, as from an edge that does not know the session.
    pub(crate) fn get_decoy(&mut self) -> Vec<Seen> {
        self.connect();
        self.until_await_challenge();
        let decoy = packet(Handshake::Challenge(&[0xd0; 72]));
        assert_eq!(self.feed(&decoy), []);
        assert_eq!(self.client.output(), [0; 0], "it must not be answered");
        self.close(Closed::Eof)
    }

    /// Continues until the client considers the session gone.
    pub(crate) fn until_refused(&mut self) {
        for _ in 1..MAX_UNPROVABLE_CHALLENGES {
            self.get_decoy();
        }
        assert_eq!(self.get_decoy(), [Seen::Refused(Refusal::UnknownOrExpired)]);
    }

    /// From an open transport to the client's claim.
    pub(crate) fn until_await_challenge(&mut self) {
        assert_eq!(self.take_packets(), ["ProtocolVersion"]);
        assert_eq!(self.feed(&self.key_packet()), []);
        let frames = self.take_frames();
        let claims: Vec<_> = frames
            .iter()
            .map(|frame| Handshake::decode(frame))
            .collect();
        assert_eq!(claims, [Ok(Handshake::ClientId(ID))]);
    }

    /// From an open transport to the client's Ping.
    pub(crate) fn until_await_ping(&mut self) {
        self.until_await_challenge();
        let challenge = self.challenge_packet(&SECRET);
        assert_eq!(self.feed(&challenge), []);
        assert_eq!(self.take_packets(), ["ChallengeResponse", "Ping"]);
    }

    /// Ends the transport. Returns the client's events.
    pub(crate) fn close(&mut self, closed: Closed) -> Vec<Seen> {
        self.client.handle_closed(self.now, closed);
        self.events()
    }

    /// Feeds bytes from the edge in one piece. Returns the client's events.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Seen> {
        let mut input = bytes;
        let mut seen = Vec::new();
        while let Some(event) = self.client.handle_bytes(self.now, &mut input) {
            seen.push(event.into());
        }
        assert!(input.is_empty(), "None means that nothing is left");
        seen
    }

    pub(crate) fn events(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.client.poll_event())
            .map(Seen::from)
            .collect()
    }

    /// Writes `n` bytes of the client's output, and returns the frames that are complete now.
    pub(crate) fn take_bytes(&mut self, n: usize) -> Vec<Vec<u8>> {
        let taken = self.client.output()[..n].to_vec();
        self.client.handle_written(self.now, n);
        let mut input = taken.as_slice();
        let mut frames = Vec::new();
        while let Some(body) = self
            .from_client
            .next_frame(&mut input, 1 << 24)
            .expect("a client keeps to its bounds")
        {
            frames.push(body.to_vec());
        }
        frames
    }

    /// Writes all of the client's output.
    pub(crate) fn take_frames(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while !self.client.output().is_empty() {
            let n = self.client.output().len();
            frames.extend(self.take_bytes(n));
        }
        frames
    }

    /// Writes all of the client's output, which is handshake packets, and returns their names.
    pub(crate) fn take_packets(&mut self) -> Vec<&'static str> {
        let frames = self.take_frames();
        frames
            .iter()
            .map(|frame| {
                Handshake::decode(frame)
                    .expect("a client encodes well")
                    .name()
            })
            .collect()
    }

    pub(crate) fn key_packet(&self) -> Vec<u8> {
        packet(Handshake::PubKey(self.edge_keys.public().as_bytes()))
    }

    pub(crate) fn shared_key(&self) -> SharedKey {
        self.edge_keys
            .agree(&self.client_key.expect("the client has offered a key"))
    }

    pub(crate) fn challenge_packet(&mut self, secret: &[u8]) -> Vec<u8> {
        packet(Handshake::Challenge(&self.seal(secret)))
    }

    /// Seals with the session's key and a nonce of the edge.
    pub(crate) fn seal(&mut self, secret: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        self.rng.fill_bytes(&mut nonce);
        let mut sealed = Vec::new();
        self.shared_key()
            .seal_with_nonce(secret, &nonce, &mut sealed);
        sealed
    }

    /// Returns the sealed value of the client's response, which is written together with its Ping.
    pub(crate) fn take_response(&mut self) -> Vec<u8> {
        let frames = self.take_frames();
        let [response, ping] = frames.as_slice() else {
            panic!("{} frames", frames.len())
        };
        assert_eq!(Handshake::decode(ping), Ok(Handshake::Ping));
        let Ok(Handshake::ChallengeResponse(sealed)) = Handshake::decode(response) else {
            panic!("{response:?}")
        };
        sealed.to_vec()
    }

    #[track_caller]
    pub(crate) fn assert_state(&self, state: State) {
        assert_eq!(self.client.state(), state);
    }
}

pub(crate) fn packet(packet: Handshake<'_>) -> Vec<u8> {
    let mut frame = Vec::new();
    packet.encode(&mut frame);
    frame
}

pub(crate) fn id_packet() -> Vec<u8> {
    packet(Handshake::ClientId(ID))
}

pub(crate) fn ping_packet() -> Vec<u8> {
    packet(Handshake::Ping)
}

pub(crate) fn data(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_frame(body, &mut frame);
    frame
}
