//! What clients of either kind do during a run.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use voltlane_driver::client::ClientConfig;

use super::ledger::Wish;
use super::servers::WHIM_MAX_MS;
use super::shared::{Shared, now};
use super::world::{ECHO_BYTES_MAX, FAULTS, KERNEL_PATIENCE, World};
use crate::rng::Rng;

/// Packets that each client must get through and echoed once the faults are over, one after the other.
const ROUNDS: u32 = 3;
/// The longest pause of a client in a crowd.
const PAUSE_MAX_MS: u64 = 10_000;
/// How long a client waits for an answer before it asks again, while faults may still happen.
const ASKS_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Sizes of the packets echoed in the end, each different from the one before.
const ECHO_BYTES: std::ops::Range<usize> = 40..ECHO_BYTES_MAX as usize;
/// The maximum number of packets that a client misses while it is away after the faults.
const MISSED_MAX: usize = 5;
/// How long a client may take to resume after the faults, or to learn that its session is gone: three attempts, with pauses and handshakes.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(20);

/// An event of a client.
pub(crate) enum Heard {
    /// A new session began.
    Joined(u64),
    /// The session was resumed.
    Resumed,
    /// A packet of the backend.
    Packet(Vec<u8>),
    /// The connection, or an attempt to make one, ended for this reason.
    Dropped(String),
    /// The session is gone.
    Refused,
}

/// A client that reconnects by itself.
pub(crate) trait Party: Sized {
    /// Waits for the next event. Safe to cancel.
    async fn hear(&mut self) -> Heard;
    /// Queues a packet. Returns false if it was not accepted.
    fn say(&mut self, packet: &[u8]) -> bool;
    /// Closes the connection, which is reported as the next event.
    fn hang_up(&mut self);
    /// Begins another session after a refusal.
    fn start_over(&mut self);
    /// Returns whether it speaks version 3.
    fn is_v3(&self) -> bool {
        false
    }
    /// Restarts the killed process, with or without its saved session.
    fn reborn(&mut self, remembers: bool) -> Self;
}

/// A client and what it knows about itself.
pub(crate) struct Person<'a, P> {
    party: P,
    /// An earlier process of the client that hangs: its connection is open, and nobody reads from it.
    ghost: Option<P>,
    number: u32,
    /// The number of its current session. Its packets are numbered from 0 in each.
    life: u32,
    id: Option<u64>,
    rng: Rng,
    world: &'a World,
    shared: &'a Shared,
    echo_bytes: usize,
    /// Packets that it has received.
    packets: u32,
    /// How often it has lost its connection or its session.
    drops: u64,
    /// Whether its packets are through, so that nothing may go wrong any more.
    strict: bool,
}

impl<'a, P: Party> Person<'a, P> {
    pub(crate) fn new(party: P, number: u32, world: &'a World, shared: &'a Shared) -> Self {
        Person {
            party,
            ghost: None,
            number,
            life: 0,
            id: None,
            rng: Rng::fork(world.seed, "person", number.into()),
            world,
            shared,
            echo_bytes: ECHO_BYTES.start,
            packets: 0,
            drops: 0,
            strict: false,
        }
    }

    /// Runs the client: through the faults, their aftermath, and to the end of the edge, unless it leaves before.
    pub(crate) async fn live(mut self) {
        sleep(Duration::from_millis(self.rng.below(1_000))).await;
        while !self.shared.is_calm() {
            self.act().await;
        }
        self.ghost = None;
        let bound = self.world.recovery() + KERNEL_PATIENCE;
        if timeout(bound, self.recover()).await.is_err() {
            self.fail("L3", "it does not get its packets through".to_string());
            return;
        }
        if !self.is_served_well().await {
            return;
        }
        // In a crowd others are still reconnecting, and the edge admits them at its own pace.
        let is_crowd = self.world.quiet() > 1;
        let tried = match self.rng.below(3) {
            _ if is_crowd => true,
            0 => self.goes_away_and_misses_nothing().await,
            1 => self.is_kicked_once_asked().await,
            _ => true,
        };
        if !(tried && self.is_served_well().await) {
            return;
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

    fn fail(&self, rule: &'static str, text: String) -> bool {
        let text = format!("client {}: {text}", self.number);
        self.shared.ledger().fail(now(), rule, text);
        false
    }

    /// Checks that from now on every packet is answered in time and no connection is lost. Returns false if not.
    async fn is_served_well(&mut self) -> bool {
        self.strict = true;
        for _ in 0..ROUNDS {
            if timeout(self.world.round_trip(), self.round())
                .await
                .is_err()
            {
                return self.fail("L5", "it waits for its answer".to_string());
            }
        }
        true
    }

    /// Hangs up, and resumes to receive what was sent meanwhile. The backend must be told of it once. Returns false if not.
    async fn goes_away_and_misses_nothing(&mut self) -> bool {
        let (clients, round_trip) = (&self.world.edge.clients, self.world.round_trip());
        let whim = Duration::from_millis(WHIM_MAX_MS);
        // The faults have made its pauses long, and in version 3 they are so until a connection has been open for 10 s (SPEC 26.3(b)).
        let pause = match self.party.is_v3() {
            true => ClientConfig::default().backoff().1,
            false => Duration::ZERO,
        };
        let away = (whim + round_trip) * 3 + pause;
        let Some(id) = self.id.filter(|_| clients.stale_timeout > away) else {
            return true;
        };
        let packets = clients.missed_packets_buffer_size.min(MISSED_MAX) as u32;
        let told = self.shared.ledger().told_of(id);
        self.strict = false;
        self.party.hang_up();
        self.hear().await;
        // First until the edge knows, then until the backend has acted and its packets have reached the edge.
        sleep(round_trip).await;
        let wish = Wish::Send(id, self.number, packets);
        self.shared.ledger().wish(wish);
        sleep(whim + round_trip).await;
        let wanted = self.packets + packets;
        let returns = async {
            while self.packets < wanted {
                self.hear().await;
            }
        };
        if timeout(COMES_BACK_WITHIN, returns).await.is_err() {
            let missing = wanted - self.packets;
            return self.fail(
                "S10",
                format!("{missing} of {packets} that it missed do not come"),
            );
        }
        if timeout(COMES_BACK_WITHIN, self.round()).await.is_err() || self.id != Some(id) {
            return self.fail("L2", format!("{id:016x} does not come back"));
        }
        // The backend is told of a resume before it receives what the client sends after it.
        match self.shared.ledger().told_of(id) - told {
            1 => true,
            times => self.fail(
                "S16",
                format!("of its return the backend was told {times} times"),
            ),
        }
    }

    /// Gets itself kicked, and begins a new session. Returns false if that fails.
    async fn is_kicked_once_asked(&mut self) -> bool {
        let (Some(id), life) = (self.id, self.life) else {
            return true;
        };
        self.strict = false;
        self.shared.ledger().wish(Wish::Kick(id));
        let ends = async {
            while self.life == life {
                self.hear().await;
            }
        };
        if timeout(COMES_BACK_WITHIN, ends).await.is_err() {
            return self.fail("S16", format!("{id:016x} was kicked and goes on"));
        }
        if self.party.is_v3() {
            // It is told at once, and the backend by way of the link.
            sleep(self.world.round_trip()).await;
        }
        let end = self.shared.ledger().end_of(id).map(str::to_string);
        if end.as_deref() != Some("kicked") {
            return self.fail(
                "S13",
                format!("{id:016x} was kicked and ended with {end:?}"),
            );
        }
        match timeout(COMES_BACK_WITHIN, self.round()).await {
            Ok(()) => true,
            Err(_) => self.fail("L2", "it cannot start over".to_string()),
        }
    }

    /// Does something, or nothing.
    async fn act(&mut self) {
        let pause = (self.rng.log_between(1, 1_500) * self.world.quiet()).min(PAUSE_MAX_MS);
        if timeout(Duration::from_millis(pause), self.hear())
            .await
            .is_ok()
        {
            return;
        }
        match self.rng.below(100) {
            0..8 => self.party.hang_up(),
            8..12 => self.die(true),
            12..14 => self.die(false),
            // Stops reading for a while, and perhaps for good.
            14..22 => {
                sleep(Duration::from_millis(self.rng.log_between(50, 5_000))).await;
                match self.rng.below(4) {
                    0 => self.party.hang_up(),
                    1 => self.die(true),
                    _ => {}
                }
            }
            22..84 => {
                for _ in 0..self.rng.between(1, 10) {
                    let most = self.world.knobs.packet_bytes_max();
                    let bytes = self.rng.log_between(1, most) as usize;
                    self.say(bytes);
                }
            }
            _ => {}
        }
    }

    /// Kills the process, or hangs it for good, and starts another one.
    fn die(&mut self, remembers: bool) {
        // A session of version 3 is not saved.
        let remembers = remembers && !self.party.is_v3();
        let heir = self.party.reborn(remembers);
        let old = std::mem::replace(&mut self.party, heir);
        self.ghost = Some(old).filter(|_| self.rng.chance(50));
        self.shared.ledger().client_died(now(), self.number);
        if !remembers {
            self.life += 1;
            self.id = None;
        }
    }

    fn say(&mut self, bytes: usize) {
        let mut ledger = self.shared.ledger();
        let packet = ledger.make_up(now(), self.number, self.life, bytes);
        if !self.party.say(&packet) {
            ledger.unmake_up(self.number, self.life);
        }
    }

    /// Receives one event and records it in the ledger. Returns the length of a packet.
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
                self.packets += 1;
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

    /// Gets a packet through and echoed once the faults are over and the last kernel has given up what they broke.
    async fn recover(&mut self) {
        self.insist().await;
        self.shared
            .ledger()
            .recovered(now().saturating_sub(FAULTS.as_nanos() as u64));
        let calm = (FAULTS + KERNEL_PATIENCE + self.world.tick).as_nanos() as u64;
        let until = Instant::now() + Duration::from_nanos(calm.saturating_sub(now()));
        while timeout_at(until, self.hear()).await.is_ok() {}
        // Answers to earlier packets may still be in flight, and exceed what the edge may keep.
        loop {
            self.insist().await;
            let drops = self.drops;
            while timeout(self.world.round_trip(), self.hear()).await.is_ok() {}
            if self.drops == drops {
                return;
            }
        }
    }

    /// Asks until there is an answer. A request that is lost with a connection is repeated.
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
