//! What version 3 of the backend link costs, by the machine alone: a packet for many, an acknowledgement, a storm of joins, and a client that
//! takes nothing.

use std::fmt::{self, Write as _};
use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use voltlane_core::ClientId;
use voltlane_core::edge::{HasLink as _, LinkProtocol};
use voltlane_core::link::v3::ToEdge;
use voltlane_core::v3::items::Item;

use super::edge::Rig;
use super::v3::Clients;
use super::{Kind, Work};
use crate::{asked, wire};

/// Bytes of a packet for many.
const BYTES: usize = 64;
/// The length in bytes of a long packet for many.
const LONG: usize = 1_024;
/// Steps of a measurement, and those before it.
const STEPS: usize = 48;
const WARM_UP: usize = 16;
/// Packets that a client of version 3 acknowledges at once.
const ACKED: u64 = 16;
/// Clients that join in a storm.
const STORM: usize = 10_000;
/// Joins between two turns of the others: as many as the driver accepts while they have traffic.
const JOINS_IN_A_TURN: usize = 6;

/// Which clients and which link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A packet for each, over a link of version 2.
    FanOut,
    /// One packet for all, over a link of version 3.
    Broadcast,
}

/// The backend's end of a link.
#[derive(Debug, Default)]
struct Counts {
    counts: asked::Counts,
    frames: wire::Partial,
}

impl Counts {
    /// Asks for version 3.
    fn ask(rig: &mut Rig, acknowledges: bool) -> Counts {
        rig.backend_says(&asked::ask(acknowledges));
        let mut counts = Counts::default();
        counts.take(rig);
        counts
    }

    /// Takes what the edge has for the backend.
    fn take(&mut self, rig: &mut Rig) {
        let output = rig.edge.link_output().concat();
        rig.edge.handle_link_written(rig.now, output.len());
        let counts = &mut self.counts;
        self.frames.frames(&output, |body| counts.hear(body));
    }

    /// Acknowledges all of it.
    fn acknowledge(&mut self, rig: &mut Rig) {
        self.take(rig);
        let mut bytes = Vec::new();
        self.counts.acknowledge(&mut bytes);
        rig.backend_says(&bytes);
    }

    fn say(&mut self, rig: &mut Rig, frame: &[u8]) {
        self.counts.sent += 1;
        rig.backend_says(black_box(frame));
    }
}

pub(super) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let [seconds, nanos] = [time.tv_sec, time.tv_nsec].map(|part| u64::try_from(part).unwrap_or(0));
    Duration::from_secs(seconds) + Duration::from_nanos(nanos)
}

/// Returns what a step costs: the median of many.
fn median(mut step: impl FnMut()) -> Duration {
    (0..WARM_UP).for_each(|_| step());
    let mut all: Vec<Duration> = (0..STEPS)
        .map(|_| {
            let before = cpu();
            step();
            cpu() - before
        })
        .collect();
    all.sort_unstable();
    all[all.len() / 2]
}

fn rig_of(way: Way) -> Rig {
    match way {
        Way::FanOut => Rig::new(0),
        Way::Broadcast => Rig::with(|config| config.master.protocol = LinkProtocol::V3),
    }
}

/// What a packet for many costs.
struct Cost {
    /// CPU time of each receiver, in microseconds.
    micros: f64,
    link_bytes: usize,
    /// What waits for each member that takes nothing, in bytes.
    held_bytes: f64,
}

fn join(clients: &mut Clients, version: u8) {
    match version {
        2 => clients.rig.join(),
        _ => clients.join(),
    }
}

fn ids_of(clients: &Clients, version: u8) -> Vec<ClientId> {
    let ids = match version {
        2 => clients.rig.ids(),
        _ => clients.ids(),
    };
    ids.into_iter().map(ClientId::from_u64).collect()
}

/// Clients that are in one group of a backend, and acknowledge nothing.
pub struct Group {
    clients: Clients,
    counts: Counts,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Group {
    /// Makes one of so many clients of this version.
    #[must_use]
    pub fn new(version: u8, members: usize) -> Self {
        let mut rig = rig_of(Way::Broadcast);
        let mut counts = Counts::ask(&mut rig, true);
        let mut clients = Clients::on(rig);
        (0..members).for_each(|_| join(&mut clients, version));
        counts.acknowledge(&mut clients.rig);
        let add = asked::add_to_group(&ids_of(&clients, version));
        counts.say(&mut clients.rig, &add);
        Group { clients, counts }
    }

    /// Sends a packet of this length to all of them.
    pub fn send(&mut self, length: usize) {
        let frame = asked::for_group(&vec![7; length]);
        self.counts.say(&mut self.clients.rig, &frame);
    }

    /// Takes what waits for them.
    pub fn take(&mut self) {
        self.clients.rig.take_client_output();
    }
}

fn cost_for_many(version: u8, way: Way, members: usize, bytes: usize) -> Cost {
    let packet = vec![7; bytes];
    let mut rig = rig_of(way);
    let mut counts = (way == Way::Broadcast).then(|| Counts::ask(&mut rig, true));
    let mut clients = Clients::on(rig);
    (0..members).for_each(|_| join(&mut clients, version));
    let ids = ids_of(&clients, version);
    let frame = match &mut counts {
        Some(counts) => {
            counts.acknowledge(&mut clients.rig);
            counts.say(&mut clients.rig, &asked::add_to_group(&ids));
            asked::for_group(&packet)
        }
        None => {
            let mut frames = Vec::new();
            for id in &ids {
                wire::put_tagged(&mut frames, id.as_u64(), wire::FLAG_DATA, &packet);
            }
            frames
        }
    };
    let say = |clients: &mut Clients, counts: &mut Option<Counts>| match counts {
        Some(counts) => counts.say(&mut clients.rig, &frame),
        None => clients.rig.backend_says(black_box(&frame)),
    };
    let acks = || vec![Item::Ack(ACKED)];
    if version == 3 {
        clients.prepare_steps((WARM_UP + STEPS) / ACKED as usize + 2, |_| acks());
    }
    let mut steps = 0;
    let spent = median(|| {
        clients.rig.pass_time();
        say(&mut clients, &mut counts);
        clients.rig.take_client_output();
        steps += 1;
        if version == 3 && steps % ACKED == 0 {
            (0..members).for_each(|nth| clients.say(nth, acks));
        }
        match &mut counts {
            Some(counts) => counts.acknowledge(&mut clients.rig),
            None => clients.rig.take_link_output(),
        }
    });
    let before = clients.rig.edge.gauges().held_bytes;
    say(&mut clients, &mut counts);
    let held = clients.rig.edge.gauges().held_bytes.saturating_sub(before);
    Cost {
        micros: spent.as_secs_f64() * 1e6 / members as f64,
        link_bytes: frame.len(),
        held_bytes: held as f64 / members as f64,
    }
}

/// Pairs of measurements of which a ratio is the median.
const PAIRS: usize = 9;

/// A ratio, and the quarters of its pairs that lie below and above.
struct Ratio {
    median: f64,
    quartiles: [f64; 2],
}

/// Measures two things one after the other, in pairs: what else the machine does then falls on both. Returns the median of the first, and how
/// many times as much the second is.
fn in_pairs(first: impl Fn() -> f64, second: impl Fn() -> f64) -> (f64, Ratio) {
    let (mut ones, mut ratios) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let (one, other);
        if pair % 2 == 0 {
            one = first();
            other = second();
        } else {
            other = second();
            one = first();
        }
        ones.push(one);
        ratios.push(other / one);
    }
    ones.sort_unstable_by(f64::total_cmp);
    ratios.sort_unstable_by(f64::total_cmp);
    let ratio = Ratio {
        median: ratios[PAIRS / 2],
        quartiles: [ratios[PAIRS / 4], ratios[PAIRS - 1 - PAIRS / 4]],
    };
    (ones[PAIRS / 2], ratio)
}

/// Clients in a measurement of acknowledgements, and packets for each.
const ACKNOWLEDGED: usize = 256;

/// A link with or without acknowledgements, and clients that send: in each step, a packet of each.
fn packets_up(acknowledges: bool) -> impl FnMut() {
    let mut rig = rig_of(Way::Broadcast);
    let mut counts = Counts::ask(&mut rig, acknowledges);
    (0..ACKNOWLEDGED).for_each(|_| rig.join());
    let mut packet = Vec::new();
    wire::put_frame(&mut packet, &[7; BYTES]);
    move || {
        rig.pass_time();
        (0..ACKNOWLEDGED).for_each(|nth| rig.client_says(nth, black_box(&packet)));
        match acknowledges {
            true => counts.acknowledge(&mut rig),
            false => counts.take(&mut rig),
        }
        rig.take_client_output();
    }
}

/// Returns what a packet up costs in microseconds, over a link with or without acknowledgements of 256 packets each.
fn cost_of_acks(acknowledges: bool) -> f64 {
    let spent = median(packets_up(acknowledges));
    spent.as_secs_f64() * 1e6 / ACKNOWLEDGED as f64
}

/// Packets up over a link of version 3, with and without acknowledgements. Their difference is what an acknowledgement costs a packet.
pub(super) fn kinds() -> Vec<Kind> {
    // The backend of a measurement allocates, for what it reads and says.
    const OF_BACKEND: u64 = 1_000;
    let plain = |_| Work::new(ACKNOWLEDGED, packets_up(false));
    let acked = |_| Work::new(ACKNOWLEDGED, packets_up(true));
    vec![
        Kind::allocating("link3-up", BYTES, OF_BACKEND, plain),
        Kind::allocating("link3-up-acked", BYTES, OF_BACKEND, acked),
    ]
}

/// Returns the 99th percentile of a turn of a hundred clients that echo, in microseconds, while others join or none do.
fn p99_of_echo(joins: bool) -> f64 {
    const CLIENTS: usize = 100;
    let mut rig = rig_of(Way::Broadcast);
    let mut counts = Counts::ask(&mut rig, true);
    (0..CLIENTS).for_each(|_| rig.join());
    let mut up = Vec::new();
    wire::put_frame(&mut up, &[7; BYTES]);
    let frames: Vec<Vec<u8>> = rig
        .ids()
        .into_iter()
        .map(|id| {
            let mut frame = Vec::new();
            wire::put_tagged(&mut frame, id, wire::FLAG_DATA, &[7; BYTES]);
            frame
        })
        .collect();
    let turns = STORM / JOINS_IN_A_TURN;
    let mut all: Vec<Duration> = (0..turns)
        .map(|_| {
            let before = cpu();
            rig.pass_time();
            if joins {
                (0..JOINS_IN_A_TURN).for_each(|_| rig.join());
            }
            (0..CLIENTS).for_each(|nth| rig.client_says(nth, black_box(&up)));
            counts.acknowledge(&mut rig);
            frames.iter().for_each(|frame| counts.say(&mut rig, frame));
            rig.take_client_output();
            cpu() - before
        })
        .collect();
    all.sort_unstable();
    all[all.len() * 99 / 100].as_secs_f64() * 1e6
}

/// Returns what a packet for many costs each of 1,000 clients of version 2 in microseconds, if one of them is paused and takes nothing, or
/// none is.
fn cost_beside_a_slow_one(is_slow: bool) -> f64 {
    const CLIENTS: usize = 1_000;
    let mut rig = rig_of(Way::Broadcast);
    let mut counts = Counts::ask(&mut rig, true);
    (0..CLIENTS).for_each(|_| rig.join());
    counts.acknowledge(&mut rig);
    let ids: Vec<ClientId> = rig.ids().into_iter().map(ClientId::from_u64).collect();
    counts.say(&mut rig, &asked::add_to_group(&ids));
    if is_slow {
        let mut pause = Vec::new();
        ToEdge::Pause { id: ids[0] }.encode(&mut pause);
        counts.say(&mut rig, &pause);
    }
    let to_all = asked::for_group(&[7; BYTES]);
    let slow = is_slow.then(|| rig.conn(0));
    let spent = median(|| {
        rig.pass_time();
        counts.say(&mut rig, &to_all);
        rig.take_client_output_but_for(slow);
        counts.acknowledge(&mut rig);
    });
    spent.as_secs_f64() * 1e6 / CLIENTS as f64
}

/// Measures everything, and returns a table.
#[must_use]
pub fn report() -> String {
    let mut out = String::from(
        "| a packet for many                | fan-out, version 2 | broadcast | difference | link bytes | held per member |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for (version, members, bytes) in [
        (2, 1_000, BYTES),
        (2, 10_000, BYTES),
        (3, 1_000, BYTES),
        (3, 10_000, BYTES),
        (2, 10_000, LONG),
        (3, 10_000, LONG),
    ] {
        let each = cost_for_many(version, Way::FanOut, members, bytes);
        let one = cost_for_many(version, Way::Broadcast, members, bytes);
        let (ratio, more) = (one.micros / each.micros, one.micros - each.micros);
        let _ = writeln!(
            out,
            "| {bytes} B, {members} clients of version {version} | {:.3} µs | {:.3} µs | {ratio:.2} ×, {more:+.3} µs | {} → {} | {:.0} → {:.0} |",
            each.micros,
            one.micros,
            each.link_bytes,
            one.link_bytes,
            each.held_bytes,
            one.held_bytes
        );
    }
    let (without, with) = in_pairs(|| cost_of_acks(false), || cost_of_acks(true));
    let [low, high] = with.quartiles.map(|ratio| (ratio - 1.0) * 100.0);
    let _ = writeln!(
        out,
        "\na packet up: {without:.3} µs without link acknowledgements, with them {:+.1} % (half of {PAIRS} pairs {low:+.1} to {high:+.1} %)",
        (with.median - 1.0) * 100.0
    );
    let (calm, storm) = in_pairs(|| p99_of_echo(false), || p99_of_echo(true));
    let [low, high] = storm.quartiles;
    let _ = writeln!(
        out,
        "a turn of 100 clients that echo, CPU time, p99: {calm:.0} µs; while {STORM} join, {JOINS_IN_A_TURN} a turn: {:.2} × (half of {PAIRS} pairs {low:.2} to {high:.2} ×)",
        storm.median
    );
    let (none, one) = (cost_beside_a_slow_one(false), cost_beside_a_slow_one(true));
    let ratio = one / none;
    let _ = writeln!(
        out,
        "a broadcast to 1000: {none:.3} µs each; beside one that is paused and takes nothing: {one:.3} µs ({ratio:.2} ×)"
    );
    out
}
