//! Misbehaving connections: opened, held, fed and dropped according to a plan, without a session's machine.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::load::carriage;
use crate::load::sources::Sources;
use crate::wire;

/// The number of connections checked per turn, in rotation.
const LOOKED_AT: usize = 64;
const TURN: Duration = Duration::from_millis(2);
/// The turn of connections that do not read. They need not be fast: the harm is in what piles up, and the backend must not be the
/// bottleneck.
const UNREAD_TURN: Duration = Duration::from_millis(20);
/// The smallest buffer that the kernel allows, for connections that do not read.
const SMALL_BUFFER_BYTES: usize = 2048;
/// How much is written at once by those that pour.
const POURED_BYTES: usize = 16 * 1024;

/// The first bytes of a stranger.
#[derive(Clone, Copy, Debug)]
pub enum First {
    /// Nothing.
    Silence,
    /// A correct handshake at once, without waiting for responses: it becomes a client.
    Join,
    /// A correct handshake, then these bytes.
    JoinThen(&'static [u8]),
    /// A claim of a guessed id.
    GuessedId,
    /// A claim of one of the clients whose ids are known, in turn.
    KnownId,
    /// Random bytes.
    Random,
    /// These bytes.
    Bytes(&'static [u8]),
    /// A whole hello of TLS, and nothing of what comes after the edge's.
    Hello,
    /// A request that opens a WebSocket, then these bytes.
    Upgrade(&'static [u8]),
}

/// The behaviour of a stranger after its first bytes.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// Nothing.
    Silence,
    /// Sends one more byte of a greeting at each interval.
    Drip(Duration),
    /// Sends frames with a body of this many bytes: as fast as possible if it reads what comes back, and steadily if it does not.
    Pour {
        /// The length of a body in bytes.
        body: usize,
        /// Whether it reads what comes back.
        reads: bool,
    },
    /// Sends these bytes over and over, as fast as possible.
    Repeat(&'static [u8]),
}

/// Where strangers connect from.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// Addresses above that of the ordinary clients.
    Elsewhere,
    /// The address of the ordinary clients.
    Beside,
    /// One IPv4 /24 that nobody else uses.
    OneNetwork,
    /// An IPv4 /24 each.
    Apart,
}

impl From {
    /// Returns sources with this many addresses there.
    pub(super) fn sources(self, addresses: u32) -> Sources {
        match self {
            From::Elsewhere => Sources::strangers(addresses),
            From::Beside => Sources::new(1),
            From::OneNetwork => Sources::of_one_network(addresses),
            From::Apart => Sources::apart(addresses),
        }
    }
}

/// How strangers come and go.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What each of them sends first.
    pub first: First,
    /// What each of them does afterwards.
    pub then: Then,
    /// Where they connect from.
    pub from: From,
    /// The number of loopback addresses, unless they use that of the ordinary clients.
    pub sources: u32,
    /// The maximum number of connections at a time. Beyond it the oldest is closed, or no more are opened if they pour.
    pub hold: usize,
    /// New connections per second.
    pub per_second: u32,
    /// Whether they are closed with a reset.
    pub reset: bool,
}

/// Counts of what strangers did and met.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Connections that they opened.
    pub(super) opened: AtomicU64,
    /// Connections that the other side closed.
    pub(super) ended: AtomicU64,
    /// Health checks without a good response in time.
    pub(super) unhealthy: AtomicU64,
}

struct Stranger {
    stream: TcpStream,
    unsaid: Vec<u8>,
    next_drip: Instant,
}

/// Executes the plan until told to stop.
pub(super) fn run(
    plan: &Plan,
    address: SocketAddr,
    known: &[u64],
    stop: &AtomicBool,
    tally: &Tally,
) -> io::Result<()> {
    let mut known = known.iter().cycle();
    let hello = match plan.first {
        First::Hello => carriage::hello()?,
        _ => Vec::new(),
    };
    let mut rng = ChaCha20Rng::from_seed([8; 32]);
    let mut strangers: VecDeque<Stranger> = VecDeque::new();
    let mut buffer = vec![0; 64 * 1024];
    let unread = matches!(plan.then, Then::Pour { reads: false, .. });
    let mut sources = plan.from.sources(plan.sources);
    if unread {
        sources = sources.with_receive_buffer(SMALL_BUFFER_BYTES);
    }
    let pours = matches!(plan.then, Then::Pour { .. } | Then::Repeat(_));
    let poured = match plan.then {
        Then::Pour { body, .. } => pour(body),
        Then::Repeat(bytes) => bytes.repeat(POURED_BYTES / bytes.len()),
        _ => Vec::new(),
    };
    let begin = Instant::now();
    let mut opened = 0;
    while !stop.load(Relaxed) {
        let due = (begin.elapsed().as_secs_f64() * f64::from(plan.per_second)) as usize;
        while opened < due {
            if strangers.len() >= plan.hold {
                if pours {
                    break;
                }
                strangers
                    .pop_front()
                    .into_iter()
                    .for_each(|stranger| leave(stranger, plan.reset));
            }
            opened += 1;
            let Ok(stream) = sources.connect(address) else {
                continue;
            };
            tally.opened.fetch_add(1, Relaxed);
            let mut unsaid = first_words(plan.first, &mut rng, &mut known);
            unsaid.extend_from_slice(&hello);
            strangers.push_back(Stranger {
                stream,
                unsaid,
                next_drip: Instant::now(),
            });
            act(
                strangers.back_mut().expect("it was just put there"),
                plan,
                &poured,
                &mut buffer,
            );
        }
        for _ in 0..LOOKED_AT.min(strangers.len()) {
            let Some(mut stranger) = strangers.pop_front() else {
                break;
            };
            if act(&mut stranger, plan, &poured, &mut buffer) {
                strangers.push_back(stranger);
            } else {
                tally.ended.fetch_add(1, Relaxed);
            }
        }
        if unread {
            std::thread::sleep(UNREAD_TURN);
        } else if !pours {
            std::thread::sleep(TURN);
        }
    }
    Ok(())
}

/// Checks one connection. Returns false if it has ended.
fn act(stranger: &mut Stranger, plan: &Plan, poured: &[u8], buffer: &mut [u8]) -> bool {
    let reads = !matches!(plan.then, Then::Pour { reads: false, .. });
    if reads && matches!(stranger.stream.read(buffer), Ok(0)) {
        return false;
    }
    if let Then::Drip(every) = plan.then
        && stranger.next_drip <= Instant::now()
    {
        stranger.next_drip += every;
        stranger.unsaid.push(wire::VERSION_FRAME[0]);
    }
    if stranger.unsaid.is_empty() {
        stranger.unsaid.extend_from_slice(poured);
    }
    if stranger.unsaid.is_empty() {
        return true;
    }
    match stranger.stream.write(&stranger.unsaid) {
        Ok(written) => drop(stranger.unsaid.drain(..written)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
            ) => {}
        Err(_) => return false,
    }
    true
}

fn leave(stranger: Stranger, reset: bool) {
    if reset {
        // A linger time of zero makes the close a reset. If it cannot be set, the close is an ordinary one.
        let _ = socket2::SockRef::from(&stranger.stream).set_linger(Some(Duration::ZERO));
    }
}

fn first_words<'a>(
    first: First,
    rng: &mut ChaCha20Rng,
    known: &mut impl Iterator<Item = &'a u64>,
) -> Vec<u8> {
    let mut out = Vec::new();
    match first {
        First::Silence | First::Hello => {}
        First::Upgrade(bytes) => out.extend_from_slice(&[carriage::REQUEST, bytes].concat()),
        First::Join | First::JoinThen(_) => {
            out.extend_from_slice(&wire::VERSION_FRAME);
            wire::put_pub_key(&mut out, &wire::ANY_KEY);
            if let First::JoinThen(bytes) = first {
                out.extend_from_slice(bytes);
            }
        }
        First::GuessedId => {
            out.extend_from_slice(&wire::VERSION_FRAME);
            wire::put_client_id(&mut out, rng.next_u64());
        }
        First::KnownId => {
            out.extend_from_slice(&wire::VERSION_FRAME);
            wire::put_client_id(&mut out, known.next().copied().unwrap_or_default());
        }
        First::Random => {
            out.resize(200, 0);
            rng.fill_bytes(&mut out);
        }
        First::Bytes(bytes) => out.extend_from_slice(bytes),
    }
    out
}

/// Returns whole frames, at least one, of about the size of a buffer.
fn pour(body: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let frame = vec![0; body];
    while out.is_empty() || out.len() + body < POURED_BYTES {
        wire::put_frame(&mut out, &frame);
    }
    out
}
