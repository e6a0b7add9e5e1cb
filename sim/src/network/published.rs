//! A client of the published protocol, written from SPEC.txt on the simulator's own codec. Apart from the cryptography it shares no code
//! with the shipped client.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use voltlane_core::keys::{KeyPair, PublicKey};
use voltlane_doors::{DoorConnector, DoorStream};
use voltlane_driver::{Connect, Connector, Stream};

use super::party::{Heard, Party};
use super::stream::{Chopped, Dialer, Sockets};
use super::{dialer_to_edge, seed_of};
use crate::codec::{Frames, Hello, frame};
use crate::rng::Rng;

/// The longest body that it accepts (SPEC 2.2).
const MAX_BODY: u32 = 8 << 20;
/// The capacity of its queue, in packets.
const QUEUE_PACKETS: usize = 1_000;
/// The time from a connect attempt to the end of its handshake (SPEC 4.6(e)).
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// The first and the last step of the pauses between attempts (SPEC 4.6(d)).
const STEP_MS: (u64, u64) = (100, 5_000);
/// The number of challenges in a row that do not open after which the session counts as gone (SPEC 4.6(c)).
const FOREIGN_CHALLENGES_MAX: u32 = 3;

/// What a client keeps of its session (SPEC 4.6(a)).
#[derive(Clone)]
struct Session {
    id: u64,
    keys: KeyPair,
    edge_key: Vec<u8>,
}

/// What the handshake waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    EdgeKey,
    Id,
    Challenge,
    Ping,
    Established,
}

/// A connection, from the attempt on.
struct Conn {
    attempt: Option<Connect<DoorStream<Chopped>>>,
    stream: Option<DoorStream<Chopped>>,
    stage: Stage,
    incoming: Frames,
    outgoing: VecDeque<u8>,
    /// The key pair of a session that is to begin, and the edge's key.
    keys: Option<KeyPair>,
    edge_key: Vec<u8>,
}

pub(crate) struct Published {
    dialer: DoorConnector<Dialer>,
    sockets: Sockets,
    rng: Rng,
    session: Option<Session>,
    conn: Option<Conn>,
    /// Packets to send. The first is kept until the transport has taken all of it.
    queue: VecDeque<Vec<u8>>,
    /// Bytes of the first packet's frame that the transport has taken.
    taken: usize,
    /// When it connects, or gives up the handshake.
    alarm: Pin<Box<Sleep>>,
    step_ms: u64,
    /// Whether the application closes the connection.
    hangs_up: bool,
    foreign_challenges: u32,
}

impl Published {
    pub(crate) fn new(sockets: Sockets, mut rng: Rng) -> Published {
        Published {
            dialer: dialer_to_edge(&sockets, rng.next()),
            sockets,
            rng,
            session: None,
            conn: None,
            queue: VecDeque::new(),
            taken: 0,
            alarm: Box::pin(sleep_until(Instant::now())),
            step_ms: STEP_MS.0,
            hangs_up: false,
            foreign_challenges: 0,
        }
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        if std::mem::take(&mut self.hangs_up) {
            return Poll::Ready(self.lose());
        }
        loop {
            let Some(conn) = &mut self.conn else {
                if self.alarm.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.dial();
                continue;
            };
            if conn.stage != Stage::Established && self.alarm.as_mut().poll(cx).is_ready() {
                return Poll::Ready(self.lose());
            }
            if let Some(attempt) = &mut conn.attempt {
                match attempt.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(self.lose()),
                    Poll::Ready(Ok(stream)) => {
                        conn.attempt = None;
                        conn.stream = Some(stream);
                        conn.outgoing.extend(Hello::Version(2).to_frame());
                    }
                }
            }
            match self.take_frame() {
                Ok(Some(heard)) => return Poll::Ready(heard),
                Ok(None) => {}
                Err(End::Broken) => return Poll::Ready(self.lose()),
                Err(End::Refused) => return Poll::Ready(self.refused()),
            }
            let wrote = match self.write(cx) {
                Ok(wrote) => wrote,
                Err(End::Broken | End::Refused) => return Poll::Ready(self.lose()),
            };
            match self.read(cx) {
                Ok(true) => {}
                Ok(false) if wrote => {}
                Ok(false) => return Poll::Pending,
                Err(End::Broken) => return Poll::Ready(self.lose()),
                Err(End::Refused) => return Poll::Ready(self.refused()),
            }
        }
    }

    fn dial(&mut self) {
        self.conn = Some(Conn {
            attempt: Some(self.dialer.connect()),
            stream: None,
            stage: Stage::EdgeKey,
            incoming: Frames::default(),
            outgoing: VecDeque::new(),
            keys: None,
            edge_key: Vec::new(),
        });
        self.alarm.as_mut().reset(Instant::now() + HANDSHAKE_WITHIN);
    }

    /// Ends the connection. Another attempt follows after a pause.
    fn lose(&mut self) -> Heard {
        self.conn = None;
        self.taken = 0;
        let pause = Duration::from_millis(self.rng.below(self.step_ms));
        self.step_ms = (self.step_ms * 2).min(STEP_MS.1);
        self.alarm.as_mut().reset(Instant::now() + pause);
        Heard::Dropped("the connection has ended".to_string())
    }

    fn refused(&mut self) -> Heard {
        self.lose();
        Heard::Refused
    }

    /// Takes the next frame that has arrived, and returns its meaning.
    fn take_frame(&mut self) -> Result<Option<Heard>, End> {
        let Some(conn) = &mut self.conn else {
            return Ok(None);
        };
        while let Some(body) = conn.incoming.next_body(MAX_BODY).map_err(|_| End::Broken)? {
            if conn.stage == Stage::Established {
                return Ok(Some(Heard::Packet(body)));
            }
            match (conn.stage, Hello::read(&body)) {
                (Stage::EdgeKey, Some(Hello::PublicKey(key))) => {
                    let hello = match &self.session {
                        Some(session) if session.edge_key != key => return Err(End::Refused),
                        Some(session) => Hello::Id(session.id),
                        None => {
                            let keys = new_keys(&mut self.rng);
                            let point = keys.public().as_bytes().to_vec();
                            conn.keys = Some(keys);
                            Hello::PublicKey(point)
                        }
                    };
                    conn.stage = match hello {
                        Hello::Id(_) => Stage::Challenge,
                        _ => Stage::Id,
                    };
                    conn.edge_key = key;
                    conn.outgoing.extend(hello.to_frame());
                }
                (Stage::Id, Some(Hello::Id(id))) => {
                    let keys = conn.keys.take().ok_or(End::Broken)?;
                    conn.stage = Stage::Established;
                    let edge_key = std::mem::take(&mut conn.edge_key);
                    self.session = Some(Session { id, keys, edge_key });
                    self.step_ms = STEP_MS.0;
                    return Ok(Some(Heard::Joined(id)));
                }
                (Stage::Challenge, Some(Hello::Challenge(sealed))) => {
                    let session = self.session.as_ref().ok_or(End::Broken)?;
                    let edge_key = PublicKey::from_sec1(&session.edge_key);
                    let shared = session.keys.agree(&edge_key.map_err(|_| End::Broken)?);
                    let Ok(plain) = shared.open(&sealed) else {
                        self.foreign_challenges += 1;
                        return Err(if self.foreign_challenges == FOREIGN_CHALLENGES_MAX {
                            End::Refused
                        } else {
                            End::Broken
                        });
                    };
                    self.foreign_challenges = 0;
                    let mut nonce = [0; 24];
                    self.rng.fill(&mut nonce);
                    let mut response = Vec::new();
                    shared.seal_with_nonce(&plain, &nonce, &mut response);
                    conn.outgoing.extend(Hello::Response(response).to_frame());
                    conn.outgoing.extend(Hello::Ping.to_frame());
                    conn.stage = Stage::Ping;
                }
                (Stage::Ping, Some(Hello::Ping)) => {
                    conn.stage = Stage::Established;
                    self.step_ms = STEP_MS.0;
                    return Ok(Some(Heard::Resumed));
                }
                _ => return Err(End::Broken),
            }
        }
        Ok(None)
    }

    /// Writes once. Returns true if anything was taken.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Some(Conn {
            stream: Some(stream),
            stage,
            outgoing,
            ..
        }) = &mut self.conn
        else {
            return Ok(false);
        };
        if !outgoing.is_empty() {
            let Poll::Ready(written) =
                stream.poll_write(cx, &[IoSlice::new(outgoing.make_contiguous())])
            else {
                return Ok(false);
            };
            outgoing.drain(..written.map_err(|_| End::Broken)?);
            return Ok(true);
        }
        // What its layers hold goes on without another write.
        if let Poll::Ready(Err(_)) = stream.poll_flush(cx) {
            return Err(End::Broken);
        }
        let (Stage::Established, Some(packet)) = (*stage, self.queue.front()) else {
            return Ok(false);
        };
        let bytes = frame(packet);
        let Poll::Ready(written) = stream.poll_write(cx, &[IoSlice::new(&bytes[self.taken..])])
        else {
            return Ok(false);
        };
        self.taken += written.map_err(|_| End::Broken)?;
        if self.taken == bytes.len() {
            self.queue.pop_front();
            self.taken = 0;
        }
        Ok(true)
    }

    /// Reads once. Returns true if anything arrived.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let Some(Conn {
            stream: Some(stream),
            incoming,
            ..
        }) = &mut self.conn
        else {
            return Ok(false);
        };
        let mut buffer = [0; 4_096];
        match stream.poll_read(cx, &mut buffer) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => Ok(true),
            Poll::Ready(Err(_)) => Err(End::Broken),
            // Also after the response: the next claim tells whether the session is gone (SPEC 4.6(b)).
            Poll::Ready(Ok(0)) => Err(End::Broken),
            Poll::Ready(Ok(bytes)) => {
                incoming.push(&buffer[..bytes]);
                Ok(true)
            }
        }
    }
}

/// Why a connection ended.
enum End {
    Broken,
    Refused,
}

fn new_keys(rng: &mut Rng) -> KeyPair {
    loop {
        if let Ok(keys) = KeyPair::from_bytes(&seed_of(rng)) {
            return keys;
        }
    }
}

impl Party for Published {
    async fn hear(&mut self) -> Heard {
        poll_fn(|cx| self.poll_hear(cx)).await
    }

    fn say(&mut self, packet: &[u8]) -> bool {
        let has_room = self.queue.len() < QUEUE_PACKETS;
        if has_room {
            self.queue.push_back(packet.to_vec());
        }
        has_room
    }

    fn hang_up(&mut self) {
        self.hangs_up = self.conn.is_some();
    }

    fn start_over(&mut self) {
        self.session = None;
        self.foreign_challenges = 0;
        self.queue.clear();
        self.taken = 0;
    }

    fn reborn(&mut self, remembers: bool) -> Self {
        let rng = Rng::new(self.rng.next());
        Published {
            session: self.session.clone().filter(|_| remembers),
            ..Published::new(self.sockets.clone(), rng)
        }
    }
}
