//! Connections that do not behave: opened, held, fed and dropped as a plan says, without a session's machine.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::load::sources::Sources;
use crate::wire;

/// Connections that are looked at in one turn, in rotation.
const LOOKED_AT: usize = 64;
const TURN: Duration = Duration::from_millis(2);
/// Who reads nothing need not be fast: what it harms is what piles up, and the backend is not to be what is measured.
const UNREAD_TURN: Duration = Duration::from_millis(20);
/// As little as the kernel gives to who reads nothing.
const SMALL_BUFFER_BYTES: usize = 2048;

/// What a stranger says first.
#[derive(Clone, Copy, Debug)]
pub enum First {
    /// Nothing.
    Silence,
    /// A good handshake in one go, without waiting for answers: it becomes a client.
    Join,
    /// A good handshake, then this.
    JoinThen(&'static [u8]),
    /// A claim to be a client whose id was guessed.
    GuessedId,
    /// A claim to be one of the clients whose ids are known, in turn.
    KnownId,
    /// Random bytes.
    Random,
    /// These bytes.
    Bytes(&'static [u8]),
}

/// What it does afterwards.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// Nothing.
    Silence,
    /// One more byte of a greeting at a time.
    Drip(Duration),
    /// Frames with so many bytes of body, as fast as they go where what comes back is read; steadily where it is left lying.
    Pour {
        /// Bytes of a body.
        body: usize,
        /// Whether it reads what comes back.
        reads: bool,
    },
}

/// Where strangers come from.
#[derive(Clone, Copy, Debug)]
pub enum From {
    /// From the addresses behind that of the ordinary clients.
    Elsewhere,
    /// From that of the ordinary clients.
    Beside,
    /// From one IPv4 /24 in which nobody else is.
    OneNetwork,
    /// From an IPv4 /24 each.
    Apart,
}

impl From {
    /// So many addresses there.
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
    /// What each says first.
    pub first: First,
    /// What it does afterwards.
    pub then: Then,
    /// Where these come from.
    pub from: From,
    /// Loopback addresses that they come from in turn, if it is not that of the ordinary clients.
    pub sources: u32,
    /// Connections at a time; beyond it the oldest goes, or, of those that pour, no more come.
    pub hold: usize,
    /// New connections a second.
    pub per_second: u32,
    /// Whether they go with a reset.
    pub reset: bool,
}

/// What strangers did and met.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Connections that they opened.
    pub(super) opened: AtomicU64,
    /// Connections that the other side ended.
    pub(super) ended: AtomicU64,
    /// Health checks that had no good answer in time.
    pub(super) unhealthy: AtomicU64,
}

struct Stranger {
    stream: TcpStream,
    unsaid: Vec<u8>,
    next_drip: Instant,
}

/// Does what the plan says until it is told to stop.
pub(super) fn run(
    plan: &Plan,
    address: SocketAddr,
    known: &[u64],
    stop: &AtomicBool,
    tally: &Tally,
) -> io::Result<()> {
    let mut known = known.iter().cycle();
    let mut rng = ChaCha20Rng::from_seed([8; 32]);
    let mut strangers: VecDeque<Stranger> = VecDeque::new();
    let mut buffer = vec![0; 64 * 1024];
    let unread = matches!(plan.then, Then::Pour { reads: false, .. });
    let mut sources = plan.from.sources(plan.sources);
    if unread {
        sources = sources.with_receive_buffer(SMALL_BUFFER_BYTES);
    }
    let pours = matches!(plan.then, Then::Pour { .. });
    let poured = match plan.then {
        Then::Pour { body, .. } => pour(body),
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
            let unsaid = first_words(plan.first, &mut rng, &mut known);
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

/// One look at one connection. False where it has ended.
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
        // A linger of zero makes the close a reset. If it cannot be set, it is a close like others.
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
        First::Silence => {}
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

/// Whole frames, at least one, of about a buffer in all.
fn pour(body: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let frame = vec![0; body];
    while out.is_empty() || out.len() + body < 16 * 1024 {
        wire::put_frame(&mut out, &frame);
    }
    out
}
