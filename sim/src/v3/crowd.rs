//! Crowds: up to eight clients of both versions compete for small bounds of one edge, while strangers flood it with openings that they have
//! made up, or altered, or seen.
//!
//! The ledger, the taps and the end of a run are those of every other run, so each client is judged by itself: it gets its own packets, and
//! none of another's (V1, S9, S10), whatever the others do, and it is back within three attempts once nothing is wrong (V11), while floods
//! go on. An attempt that the edge turned away for want of places is none of them: V20 judges whether it was right, by how much of the paces
//! is left at the least. What the edge holds is bounded, and counts (V21).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use voltlane_core::ClientId;
use voltlane_core::edge::{CloseReason, Rejected};

use super::keys;
use super::setup::{Due, Op, Setup};
use super::{Owner, World, outcome_of};
use crate::codec::{Frames, Hello, LENGTH_BYTES, frame};
use crate::engine::identity::{edge_pair, identity};
use crate::engine::pipe::{End, Pipe};
use crate::ledgered::Outcome;
use crate::rng::Rng;

/// How many clients a crowd has.
const CLIENTS: (u64, u64) = (2, 8);
/// From how many networks a flood comes. With the clients' and that of other strangers they are fewer than the claimants that find places.
/// So while all of these are taken, some source has two.
const NETWORKS: u64 = 3;
/// How many connections an address may begin at once, and in a second.
const BURST: u32 = 20;
const RATE: u32 = 10;
/// How many connections a flood has.
const FLOOD: (u64, u64) = (4, 400);
/// How many floods come after everything else, how many connections each has, and how much time is between them.
const LATE_FLOODS: u32 = 8;
const LATE_FLOOD: (u64, u64) = (4, 60);
const LATE_FLOOD_EVERY: u64 = 100_000_000;
/// The kinds of openings that a flood has.
const FORGERIES: u64 = 8;
/// What a holder has at most that gives nothing up (SPEC 10.5(d)).
pub(super) const CRUMB_BYTES: usize = 1_024;
/// What a session counts for whose end is remembered.
pub(super) const END_BYTES: u64 = 128;
/// What a packet counts for at most beside the bytes of its frame.
const PACKET_BYTES: usize = 256;
/// The bytes of a Hello, which are the first ones of a Claim, too, without what may be behind its fixed part.
const CLAIM_BYTES: u64 = 42;
/// How many runs a failure may take to shrink.
const SHRINK_RUNS: usize = 600;

/// Runs the crowd that a seed draws.
#[must_use]
pub fn run_crowd(seed: u64) -> Outcome {
    outcome_of(World::new(Setup::draw_crowd(seed), false))
}

/// Like [`run_crowd`], and records what happened.
#[must_use]
pub fn run_crowd_traced(seed: u64) -> Outcome {
    outcome_of(World::new(Setup::draw_crowd(seed), true))
}

/// Shrinks what happens in a seed that breaks a rule to the least found that breaks the same rule. Returns that run, traced, or `None` if no
/// rule is broken.
#[must_use]
pub fn shrink_crowd(seed: u64) -> Option<Outcome> {
    let setup = Setup::draw_crowd(seed);
    let run = |plan: &[Due], traced| {
        let mut world = World::new(setup.clone(), traced);
        world.plan = plan.to_vec().into();
        outcome_of(world)
    };
    let mut plan = setup.plan();
    let id = run(&plan, false).violation?.id;
    let mut size = plan.len().div_ceil(2).max(1);
    let mut runs = 0;
    loop {
        let (mut from, mut has_shrunk) = (0, false);
        while from < plan.len() && runs < SHRINK_RUNS {
            let mut fewer = plan.clone();
            fewer.drain(from..(from + size).min(plan.len()));
            runs += 1;
            if run(&fewer, false).violation.is_some_and(|it| it.id == id) {
                (plan, has_shrunk) = (fewer, true);
            } else {
                from += size;
            }
        }
        if runs >= SHRINK_RUNS || (size == 1 && !has_shrunk) {
            return Some(run(&plan, true));
        }
        size = size.div_ceil(2);
    }
}

/// So many at once, and then one in each interval.
#[derive(Debug)]
struct Pace {
    burst: u64,
    every: u64,
    /// When all of the burst is there again.
    full_at: u64,
}

impl Pace {
    fn new(burst: u32, rate: u32) -> Pace {
        Pace {
            burst: burst.into(),
            every: 1_000_000_000 / u64::from(rate),
            full_at: 0,
        }
    }

    fn has_one(&self, now: u64) -> bool {
        self.full_at.saturating_sub(now) + self.every <= self.burst * self.every
    }

    /// Takes one, if there is one.
    fn take(&mut self, now: u64) -> bool {
        let has_one = self.has_one(now);
        if has_one {
            self.full_at = self.full_at.max(now) + self.every;
        }
        has_one
    }
}

/// What is left, at least, of the pace of accepts for those that are within the pace of their own address (SPEC 27.3(a)).
#[derive(Debug)]
pub(super) struct Paces {
    accepts: Pace,
    addresses: BTreeMap<IpAddr, Pace>,
    /// The clients from whose addresses a flood came, or too many connections of their own.
    crowded: BTreeSet<usize>,
}

impl Paces {
    pub(super) fn new(setup: &Setup) -> Paces {
        let limits = &setup.config.limits;
        Paces {
            accepts: Pace::new(limits.accept_burst / 2, limits.accept_rate.max(1)),
            addresses: BTreeMap::new(),
            crowded: BTreeSet::new(),
        }
    }

    /// An address connects.
    fn connects(&mut self, now: u64, address: IpAddr) {
        // One more than it has: what the edge rounds away is less.
        let pace = self.addresses.entry(address);
        let pace = pace.or_insert_with(|| Pace::new(BURST + 1, RATE));
        if pace.take(now) {
            self.accepts.take(now);
        }
    }

    /// Returns whether an address may be refused: its own pace is used up, or that of all.
    fn may_refuse(&self, now: u64, address: IpAddr) -> bool {
        !self.is_within(now, address) || !self.accepts.has_one(now)
    }

    /// Returns whether an address is within its own pace, by more than what the edge rounds away.
    fn is_within(&self, now: u64, address: IpAddr) -> bool {
        let own = self.addresses.get(&address);
        own.is_none_or(|own| {
            own.full_at.saturating_sub(now) + 2 * own.every <= u64::from(BURST) * own.every
        })
    }
}

impl Setup {
    /// Draws a crowd.
    pub(super) fn draw_crowd(seed: u64) -> Setup {
        let mut rng = Rng::fork(seed, "crowd", 0);
        let all = rng.between(CLIENTS.0, CLIENTS.1) as usize;
        let clients = rng.between(1, all as u64) as usize;
        let mut setup = Setup {
            clients,
            plain: all - clients,
            is_crowd: true,
            ..Setup::draw(seed)
        };
        let limits = &mut setup.config.limits;
        limits.max_half_open = rng.pick(&[20, 24, 40]);
        (limits.accept_rate, limits.accept_burst) = rng.pick(&[(100, 240), (300, 600)]);
        (limits.join_rate, limits.join_burst) = rng.pick(&[(0, 1), (20, 2), (200, 20)]);
        limits.max_sessions = rng.pick(&[1 << 21, all + 1, all + 3]);
        limits.max_memory_bytes = rng.pick(&[0, 60_000, 200_000]);
        let sources = &mut limits.sources;
        (sources.rate, sources.burst) = (RATE, BURST);
        (sources.wide_rate, sources.wide_burst) = (RATE * 2, BURST * 2);
        sources.penalties = true;
        sources.stale_sessions = rng.pick(&[2, 256]);
        if limits.max_memory_bytes > 0 {
            setup.config.master.channel_bytes = rng.pick(&[400, 20_000]);
        }
        setup
    }

    /// Adds floods to a plan. Often the network of a client fails meanwhile.
    pub(super) fn add_floods(&self, plan: &mut Vec<Due>) {
        let mut rng = Rng::fork(self.seed, "floods", 0);
        for _ in 0..rng.between(1, 4) {
            let place = rng.below(plan.len() as u64) as usize;
            let op = Op::Flood {
                count: rng.log_between(FLOOD.0, FLOOD.1),
                draws: rng.next(),
            };
            let all = (self.clients + self.plain) as u64;
            let (at, client) = (plan[place].at, rng.below(all) as usize);
            if rng.chance(60) {
                let op = Op::Reset;
                plan.insert(place, Due { at, client, op });
            }
            plan.insert(place, Due { at, client, op });
        }
    }
}

impl World {
    /// Returns the address that somebody connects from. In a crowd each client has a network of its own.
    pub(super) fn address(&self, owner: Owner) -> IpAddr {
        match owner {
            Owner::Client(client) if self.setup.is_crowd => neighbour_of(client),
            Owner::Client(client) => IpAddr::from([203, 0, 113, client as u8]),
            Owner::Flood(network) => IpAddr::from([198, 51, network, 1]),
            Owner::Neighbour(client) => neighbour_of(client),
            Owner::Watcher | Owner::Thief | Owner::Stranger => IpAddr::from([203, 0, 113, 100]),
        }
    }

    /// Opens many connections with openings that nobody may come in by, from some network, or from the address of `client`.
    pub(super) fn flood(&mut self, client: usize, count: u64, draws: u64) {
        let mut rng = Rng::new(draws);
        let network = rng.below(NETWORKS) as u8;
        let owner = match rng.chance(25) {
            true => Owner::Neighbour(client),
            false => Owner::Flood(network),
        };
        let only = rng.chance(50).then(|| rng.below(FORGERIES));
        for _ in 0..count {
            let kind = only.unwrap_or_else(|| rng.below(FORGERIES));
            let bytes = self.forged(kind, &mut rng);
            let random = self.entropy();
            let Some(conn) = self.open(owner, random) else {
                self.ledger.reached("flood refused");
                continue;
            };
            self.ledger.reached("forged");
            // No secret goes into it, so its tap would take altered bytes for sealed ones.
            self.conns[conn].tap.lose();
            self.conns[conn].up = Pipe::new(1 << 20, 0, Rng::new(0));
            self.conns[conn].up.write(self.now, &bytes, &mut self.wakes);
            if rng.chance(30) {
                let state = &mut self.conns[conn];
                self.wakes.extend(state.up.end(self.now, End::Fin));
            }
        }
    }

    /// While everybody comes back, strangers flood the edge on: no fault of the network, and no reason to stay away.
    pub(super) fn flood_on(&mut self) {
        let is_due = self.now >= self.late_floods.1;
        if !self.setup.is_crowd || self.late_floods.0 == LATE_FLOODS || !is_due {
            return;
        }
        self.late_floods = (self.late_floods.0 + 1, self.now + LATE_FLOOD_EVERY);
        let mut rng = Rng::fork(self.setup.seed, "late floods", self.late_floods.0.into());
        let client = rng.below(self.clients.len() as u64) as usize;
        let (count, draws) = (rng.log_between(LATE_FLOOD.0, LATE_FLOOD.1), rng.next());
        self.flood(client, count, draws);
        self.ledger.reached("flooded in the end");
    }

    /// Returns an opening. No secret of a living session is in it, so it brings nobody in.
    fn forged(&self, kind: u64, rng: &mut Rng) -> Vec<u8> {
        let version = Hello::Version(3).to_frame();
        let hint = keys::sha256(&[edge_pair().public().as_bytes()]);
        match kind {
            0 => Vec::new(),
            // A Hello with the key of somebody, whose session is never begun.
            1 => {
                let mut body = vec![0; 42];
                rng.fill(&mut body[1..9]);
                (body[0], body[1]) = (0x10, 0);
                body[9..].copy_from_slice(&identity(rng.below(8) as usize).public());
                [version, frame(&body)].concat()
            }
            // A Hello whose key is a point or none.
            2 => {
                let mut body = vec![0; 42];
                rng.fill(&mut body);
                (body[0], body[9]) = (0x10, 2);
                [version, frame(&body)].concat()
            }
            // A Claim of this edge that no key opens.
            3 => {
                let mut body = vec![0; rng.pick(&[109, 109, 140]) as usize];
                rng.fill(&mut body);
                body[0] = 0x12;
                body[1..5].copy_from_slice(&hint[..4]);
                [version, frame(&body), frame(&[7; 40])].concat()
            }
            // A flight that was seen, with a bit of its Hello or Claim altered, or cut there with an end made up. What is behind a Claim is not
            // touched: one that has not come yet would be taken up.
            4 | 5 => {
                let mut flight = self.seen_flight(rng);
                let first = version.len() + LENGTH_BYTES;
                let at = first + rng.below(CLAIM_BYTES) as usize;
                match flight.get_mut(at) {
                    Some(byte) if kind == 4 => *byte ^= 1 << rng.below(8),
                    Some(_) => {
                        flight.truncate(at);
                        flight.extend([0x5a; 160]);
                    }
                    // It was not written so far.
                    None => flight.truncate(version.len()),
                }
                flight
            }
            // Claims with version 2: of anybody, whatever the version of their sessions.
            6 => {
                let clients = self.clients.iter().filter_map(|client| client.id);
                let ids: Vec<_> = clients.chain([rng.next()]).collect();
                let id = ids[rng.below(ids.len() as u64) as usize];
                [Hello::Version(2).to_frame(), Hello::Id(id).to_frame()].concat()
            }
            _ => {
                let mut bytes = vec![0; rng.between(1, 200) as usize];
                rng.fill(&mut bytes);
                [version, bytes].concat()
            }
        }
    }

    /// Returns the first flight of some connection of a client of version 3, if there was one.
    fn seen_flight(&self, rng: &mut Rng) -> Vec<u8> {
        let client = &self.clients[rng.below(self.setup.clients as u64) as usize];
        let conns = &client.conns;
        if conns.is_empty() {
            return Vec::new();
        }
        let conn = conns[rng.below(conns.len() as u64) as usize];
        self.conns[conn].flight.clone()
    }

    /// Somebody connects. A client that is within the pace of its address is refused for nobody else's sake.
    pub(super) fn connects(&mut self, owner: Owner, refusal: Option<Rejected>) {
        let address = self.address(owner);
        let is_within = self.paces.is_within(self.now, address);
        match owner {
            Owner::Client(_) if is_within => {}
            Owner::Client(client) | Owner::Neighbour(client) => {
                self.paces.crowded.insert(client);
            }
            _ => {}
        }
        let Some(refusal) = refusal else {
            return self.paces.connects(self.now, address);
        };
        let Owner::Client(client) = owner else {
            return;
        };
        if !self.paces.may_refuse(self.now, address) {
            let text = format!("client {client} is refused: {refusal:?}");
            self.ledger.fail("V20", "27.3(a)", text);
        }
        self.ledger.reached("client refused");
    }

    /// A connection has ended at the edge. A Claim is not rejected, whatever comes from its address, and neither is anything else from an
    /// address that is not crowded. One that has claimed and is not refused makes room for nobody while its address has no other connection:
    /// another source has two then.
    pub(super) fn turned_away(&mut self, conn: usize) {
        let state = &self.conns[conn];
        let (is_rejected, has_made_room) = (
            state.reason == Some(CloseReason::Rejected),
            state.reason == Some(CloseReason::MadeRoom),
        );
        if !self.setup.is_crowd || !(is_rejected || has_made_room) {
            return;
        }
        let Owner::Client(client) = state.owner else {
            return self.ledger.reached("flood turned away");
        };
        self.ledger.reached("client turned away");
        if is_rejected && state.claim.is_some() {
            let text = format!("client {client} has claimed, and is rejected: connection {conn}");
            return self.ledger.fail("V20", "27.3(a)", text);
        }
        if is_rejected && !self.paces.crowded.contains(&client) {
            let text = format!("client {client} is rejected for others: connection {conn}");
            return self.ledger.fail("V20", "27.3(a)", text);
        }
        let of_session = |session: usize| self.ledger.sessions[session].conn == Some(conn);
        if state.session.is_some_and(of_session) {
            let text = format!("client {client} has its session, and is turned away: {conn}");
            return self.ledger.fail("V20", "10.6(c)", text);
        }
        let address = self.address(state.owner);
        let is_alone = self.live.iter().all(|other| {
            let other_one = &self.conns[*other];
            *other == conn || other_one.key.is_none() || self.address(other_one.owner) != address
        });
        if has_made_room && is_alone && self.has_claimed(conn) && !self.is_refused(conn) {
            let text = format!("client {client} has claimed, and makes room: connection {conn}");
            self.ledger.fail("V20", "10.6(c)", text);
        }
    }

    /// Returns whether the edge has read a Claim on a connection, or a ClientId of version 2.
    fn has_claimed(&self, conn: usize) -> bool {
        let state = &self.conns[conn];
        let read = state.flight.len().min(state.up_read as usize);
        let mut frames = Frames::default();
        frames.push(&state.flight[..read]);
        let mut bodies = core::iter::from_fn(|| frames.next_body(u32::MAX).ok().flatten());
        let second = bodies.nth(1).and_then(|body| Hello::read(&body));
        state.claim.is_some() || matches!(second, Some(Hello::Id(_)))
    }

    /// Returns whether the edge has refused what was claimed on a connection, or must.
    fn is_refused(&mut self, conn: usize) -> bool {
        self.look_at_link();
        let state = &self.conns[conn];
        let (Some(session), Some(claim)) = (state.session, &state.claim) else {
            return state.is_refused;
        };
        let entry = &self.ledger.sessions[session];
        let is_over = entry.kicked || !entry.has_begun || self.ledger.may_be_over(session);
        state.is_refused || is_over || claim.counter <= entry.highest
    }

    /// Returns whether the bounds in bytes may be a quarter of what they were while this much comes (SPEC 10.5(b)).
    pub(super) fn may_be_pressed(&self, bytes: usize) -> bool {
        let most = self.setup.config.limits.max_memory_bytes;
        let held = self.edge.gauges().held_bytes + bytes + PACKET_BYTES;
        most > 0 && held >= most / 100 * 80
    }

    /// Tells the ledger how many sessions have ended for want of memory.
    pub(super) fn see_shed(&mut self) {
        let shed = self.counted().shed;
        if shed > self.ledger.shed {
            self.ledger.shed = shed;
            self.ledger.reached("memory over");
        }
    }

    /// Checks what the edge holds after something has come: no more than it may, and no less than it must.
    pub(super) fn check_memory(&mut self) {
        self.see_shed();
        let gauges = self.edge.gauges();
        let pieces: usize = self.live.iter().map(|conn| self.pieces_of(*conn)).sum();
        if gauges.held_bytes < pieces {
            let text = format!("pieces of {pieces} bytes are held: {gauges:?}");
            self.ledger.fail("V21", "10.5(a)", text);
        }
        let most = self.setup.config.limits.max_memory_bytes;
        // What waits in the lines of sessions that have ended nobody gives up.
        if most == 0 || gauges.ending > 0 {
            return;
        }
        let of_link = gauges.link_bytes + self.link.handed_bytes();
        let crumbs = (gauges.connections + gauges.sessions) * CRUMB_BYTES;
        let ends = (self.counted().ended * END_BYTES) as usize;
        let bound = most / 100 * 95 + of_link + crumbs + ends;
        if gauges.held_bytes > bound {
            let text = format!("{bound} bytes may be held: {gauges:?}");
            self.ledger.fail("V21", "10.5(d)", text);
        }
    }

    /// Returns the bytes of the pieces of a packet up that have come on a connection and wait for its last one.
    fn pieces_of(&self, conn: usize) -> usize {
        let state = &self.conns[conn];
        let Some(session) = state.session.filter(|_| state.watch.pieces > 0) else {
            return 0;
        };
        let entry = &self.ledger.sessions[session];
        // One whose session has ended, or has gone away before it, reads no more.
        let info = self.edge.inspect(ClientId::from_u64(entry.id));
        let is_read = entry.conn == Some(conn) && info.is_some_and(|info| info.conn.is_some());
        if is_read { state.watch.pieces } else { 0 }
    }
}

/// The address of a client and of whoever shares it.
fn neighbour_of(client: usize) -> IpAddr {
    IpAddr::from([10, 0, client as u8, 1])
}
