//! Strangers: silent, hasty, wrong, greedy. They never stop, and no client may be affected.

use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use voltlane_doors::DoorStream;
use voltlane_driver::{Connector, Stream};

use super::EDGE_PORT;
use super::carriage::Carried as _;
use super::shared::{Shared, now};
use super::stream::{Chopped, Dialer, Sockets};
use super::wires::{Side, Wire};
use super::world::World;
use crate::codec::frame;
use crate::engine::peer::{Outcome, Peer, Role};
use crate::plan::{Attempt, Join};
use crate::rng::Rng;

/// The first number of strangers that join, far from those of clients.
pub(crate) const FIRST_STRANGER: u32 = 1_000_000;
/// The longest that a stranger keeps one connection.
const STAYS_MAX: Duration = Duration::from_secs(20);

/// The repeated behaviour of a stranger.
#[derive(Clone, Copy)]
enum Habit {
    /// Performs a wrong handshake, or stops in the middle of one.
    Join,
    /// Tries to resume a client's session.
    Attempt,
    /// Connects, sends a few bytes, and is gone.
    Reset,
    /// Joins, and sends packets of zero, one and two bytes.
    TinyFrames,
    /// Joins, requests many packets, and reads none of them.
    DeafGreed,
}

pub(crate) async fn stranger(number: u32, world: Rc<World>, shared: Shared) {
    let mut rng = Rng::fork(world.seed, "stranger", number.into());
    let habit = rng.pick(&[
        Habit::Join,
        Habit::Attempt,
        Habit::Reset,
        Habit::TinyFrames,
        Habit::DeafGreed,
    ]);
    let pause_max = rng.pick(&[30, 500]);
    let sockets = Sockets::new(&world, &shared.wires);
    let carriage = sockets.carriage;
    let mut dialer = carriage.wrap(Dialer {
        host: "edge",
        port: EDGE_PORT,
        wire: Wire::Street,
        side: Side::Peer,
        sockets,
        rng: Rng::new(rng.next()),
    });
    let mut life = 0;
    while !shared.ledger().ending {
        sleep(Duration::from_millis(rng.log_between(5, pause_max))).await;
        let Ok(Ok(stream)) = timeout(STAYS_MAX, dialer.connect()).await else {
            continue;
        };
        shared.ledger().seen.strangers += 1;
        life += 1;
        let mut visit = Visit {
            stream,
            owner: FIRST_STRANGER + number,
            life,
            shared: &shared,
            rng: Rng::new(rng.next()),
        };
        let _ = timeout(STAYS_MAX, visit.make(habit)).await;
    }
}

/// One connection of a stranger.
struct Visit<'a> {
    stream: DoorStream<Chopped>,
    owner: u32,
    life: u32,
    shared: &'a Shared,
    rng: Rng,
}

impl Visit<'_> {
    async fn make(&mut self, habit: Habit) {
        match habit {
            Habit::Join => {
                let join = self.rng.pick(Join::ALL);
                self.follow(Role::Join(join), 0).await;
            }
            Habit::Attempt => {
                let alive = self.shared.ledger().alive();
                let claim = match alive.get(self.rng.below(alive.len() as u64) as usize) {
                    Some((id, _)) => *id,
                    None => self.rng.next(),
                };
                let attempt = self.rng.pick(Attempt::ALL);
                self.follow(Role::Attempt(attempt), claim).await;
            }
            Habit::Reset => {
                let bytes = self.rng.below(9) as usize;
                let _ = self.write(&[2, 0, 0, 0, 1, 2, 0x23, 0, 0][..bytes]).await;
            }
            Habit::TinyFrames => {
                if self.follow(Role::Join(Join::Normal), 0).await {
                    self.send_tiny_frames().await;
                }
            }
            Habit::DeafGreed => {
                if self.follow(Role::Join(Join::Normal), 0).await {
                    self.be_greedy().await;
                }
            }
        }
    }

    /// Follows a script. Returns true once it has joined, false if the edge ends the connection.
    async fn follow(&mut self, role: Role, claim: u64) -> bool {
        let number = (self.owner - FIRST_STRANGER) as usize;
        let mut peer = Peer::new(role, number, number, claim, Rng::new(self.rng.next()));
        peer.start();
        let mut buffer = [0; 1_024];
        loop {
            let out: Vec<u8> = peer.outbox.drain(..).collect();
            if !self.write(&out).await {
                return false;
            }
            let Some(bytes) = self.read(&mut buffer).await else {
                return false;
            };
            for outcome in peer.take(&buffer[..bytes]) {
                match outcome {
                    Outcome::Joined(_) => return true,
                    Outcome::Leave => return false,
                    Outcome::Resumed => {
                        let text = format!("a stranger has come back as {claim:016x}: {role:?}");
                        self.shared.ledger().fail(now(), "S6", text);
                    }
                    Outcome::GoodResponse(_)
                    | Outcome::Packet(_)
                    | Outcome::Nonsense(_)
                    | Outcome::Decoy => {}
                }
            }
        }
    }

    async fn send_tiny_frames(&mut self) {
        for _ in 0..self.rng.log_between(1, 100) {
            let mut burst = Vec::new();
            for _ in 0..self.rng.between(1, 50) {
                let bytes = self.rng.below(3) as usize;
                burst.extend(frame(&[b'u'; 3][..bytes]));
            }
            if !self.write(&burst).await {
                return;
            }
            sleep(Duration::from_millis(self.rng.log_between(20, 500))).await;
        }
    }

    async fn be_greedy(&mut self) {
        loop {
            let (owner, life) = (self.owner, self.life);
            let packet = self.shared.ledger().make_up(now(), owner, life, 40);
            if !self.write(&frame(&packet)).await {
                return;
            }
            sleep(Duration::from_millis(self.rng.log_between(50, 500))).await;
        }
    }

    /// Writes everything. Returns false when the connection accepts no more.
    async fn write(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let written = poll_fn(|cx| self.stream.poll_write(cx, &[IoSlice::new(bytes)])).await;
            match written {
                Ok(written) if written > 0 => bytes = &bytes[written..],
                _ => return false,
            }
        }
        poll_fn(|cx| self.stream.poll_flush(cx)).await.is_ok()
    }

    /// Reads once. Returns `None` when the connection is over.
    async fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let read = poll_fn(|cx| match self.stream.poll_read(cx, buffer) {
            Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            read => read,
        });
        read.await.ok().filter(|bytes| *bytes > 0)
    }
}
