//! What a client of either kind does with its time.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::shared::{Shared, now};
use super::world::{FAULTS, KERNEL_PATIENCE, World};
use crate::rng::Rng;

/// Packets that each client must get through, and back, when the faults are over, one after the other.
const ROUNDS: u32 = 3;
/// The longest that a client of a crowd has nothing to say.
const PAUSE_MAX_MS: u64 = 10_000;
/// How long a client waits for an answer before it asks again, while things may still break.
const ASKS_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Sizes of packets that are asked to be echoed in the end, each of them different from the one before.
const ECHO_BYTES: std::ops::Range<usize> = 40..240;

/// What a client hears.
pub(crate) enum Heard {
    /// A new session began.
    Joined(u64),
    /// The session goes on.
    Resumed,
    /// A packet of the backend.
    Packet(Vec<u8>),
    /// The connection, or the attempt to make one, has ended, for this reason.
    Dropped(String),
    /// The session does not go on.
    Refused,
}

/// A client that comes back by itself.
pub(crate) trait Party: Sized {
    /// Waits for what happens next; safe to cancel.
    async fn hear(&mut self) -> Heard;
    /// Queues a packet; false if it was not taken.
    fn say(&mut self, packet: &[u8]) -> bool;
    /// Gives the connection up.
    fn hang_up(&mut self);
    /// Begins another session after a refusal.
    fn start_over(&mut self);
    /// The process was killed and runs again, with what it had saved of its session, or without.
    fn reborn(self, remembers: bool) -> Self;
}

/// A client, and what it knows of itself.
pub(crate) struct Person<'a, P> {
    party: P,
    number: u32,
    /// Which of its sessions it is in: what it makes is numbered anew in each.
    life: u32,
    id: Option<u64>,
    rng: Rng,
    world: &'a World,
    shared: &'a Shared,
    echo_bytes: usize,
    /// How often it has lost its connection, or its session.
    drops: u64,
    /// It has its packets through: nothing may go wrong any more.
    strict: bool,
}

impl<'a, P: Party> Person<'a, P> {
    pub(crate) fn new(party: P, number: u32, world: &'a World, shared: &'a Shared) -> Self {
        Person {
            party,
            number,
            life: 0,
            id: None,
            rng: Rng::fork(world.seed, "person", number.into()),
            world,
            shared,
            echo_bytes: ECHO_BYTES.start,
            drops: 0,
            strict: false,
        }
    }

    /// All of it: through the faults, out of them, and to the end of the edge, unless it leaves before.
    pub(crate) async fn live(mut self) {
        sleep(Duration::from_millis(self.rng.below(1_000))).await;
        while !self.shared.is_calm() {
            self = self.act().await;
        }
        let bound = self.world.recovery() + KERNEL_PATIENCE;
        if timeout(bound, self.recover()).await.is_err() {
            let text = format!("client {} does not get its packets through", self.number);
            return self.fail("L3", text);
        }
        self.strict = true;
        for _ in 0..ROUNDS {
            if timeout(self.world.round_trip(), self.round())
                .await
                .is_err()
            {
                let text = format!("client {} waits for its answer", self.number);
                return self.fail("L5", text);
            }
        }
        let leaves = self.rng.chance(self.world.leavers);
        {
            let mut ledger = self.shared.ledger();
            ledger.settled += 1;
            if let Some(id) = self.id.filter(|_| leaves) {
                ledger.client_left(now(), id);
                return;
            }
        }
        while !self.shared.ledger().ending {
            self.hear().await;
        }
    }

    fn fail(&self, rule: &'static str, text: String) {
        self.shared.ledger().fail(now(), rule, text);
    }

    /// Something that a client does, or nothing.
    async fn act(mut self) -> Self {
        let pause = (self.rng.log_between(1, 1_500) * self.world.quiet()).min(PAUSE_MAX_MS);
        if timeout(Duration::from_millis(pause), self.hear())
            .await
            .is_ok()
        {
            return self;
        }
        match self.rng.below(100) {
            0..8 => self.party.hang_up(),
            8..11 => self = self.die(true),
            11..13 => self = self.die(false),
            // It listens to nobody for a while.
            13..18 => sleep(Duration::from_millis(self.rng.log_between(50, 5_000))).await,
            18..82 => {
                for _ in 0..self.rng.between(1, 10) {
                    let most = self.world.knobs.packet_bytes_max();
                    let bytes = self.rng.log_between(1, most) as usize;
                    self.say(bytes);
                }
            }
            _ => {}
        }
        self
    }

    fn die(mut self, remembers: bool) -> Self {
        self.party = self.party.reborn(remembers);
        self.shared.ledger().breaks(now(), self.number);
        if !remembers {
            self.life += 1;
            self.id = None;
        }
        self
    }

    fn say(&mut self, bytes: usize) {
        let mut ledger = self.shared.ledger();
        let packet = ledger.make_up(now(), self.number, self.life, bytes);
        if !self.party.say(&packet) {
            ledger.unmake_up(self.number, self.life);
        }
    }

    /// Hears one thing and enters it into the ledger; the length of a packet.
    async fn hear(&mut self) -> Option<usize> {
        let heard = self.party.hear().await;
        let mut ledger = self.shared.ledger();
        let number = self.number;
        match heard {
            Heard::Joined(id) => {
                self.id = Some(id);
                ledger.client_joined(now(), number, self.life, id);
            }
            Heard::Resumed => ledger.client_resumed(now(), number),
            Heard::Packet(data) => {
                let id = self.id.unwrap_or_default();
                ledger.client_packet(now(), number, id, &data);
                return Some(data.len());
            }
            Heard::Dropped(cause) => {
                self.drops += 1;
                ledger.client_dropped(now(), number);
                if self.strict && !ledger.ending {
                    let end = ledger.end_of(self.id.unwrap_or_default());
                    let text =
                        format!("client {number} lost its connection: {cause}; its end: {end:?}");
                    ledger.fail(now(), "S15", text);
                }
            }
            Heard::Refused => {
                self.drops += 1;
                ledger.client_refused(now(), number);
                self.life += 1;
                self.id = None;
                self.party.start_over();
            }
        }
        None
    }

    /// Gets a packet through and back, once the faults are over and once the last kernel has given up what they broke.
    async fn recover(&mut self) {
        self.insist().await;
        self.shared
            .ledger()
            .recovered(now().saturating_sub(FAULTS.as_nanos() as u64));
        let calm = (FAULTS + KERNEL_PATIENCE + self.world.tick).as_nanos() as u64;
        let until = Instant::now() + Duration::from_nanos(calm.saturating_sub(now()));
        while timeout_at(until, self.hear()).await.is_ok() {}
        // Answers to what was said before may still be on their way, and be more than the edge may keep.
        loop {
            self.insist().await;
            let drops = self.drops;
            while timeout(self.world.round_trip(), self.hear()).await.is_ok() {}
            if self.drops == drops {
                return;
            }
        }
    }

    /// Asks until there is an answer. What is lost with a connection is asked anew.
    async fn insist(&mut self) {
        while timeout(ASKS_AGAIN_AFTER, self.round()).await.is_err() {}
    }

    /// Sends a packet and waits for its echo.
    async fn round(&mut self) {
        self.echo_bytes += 1;
        if !ECHO_BYTES.contains(&self.echo_bytes) {
            self.echo_bytes = ECHO_BYTES.start;
        }
        self.say(self.echo_bytes);
        while self.hear().await != Some(self.echo_bytes) {}
    }
}
