//! Faults of the network and of whole hosts.

use std::io::ErrorKind;
use std::time::Duration;

use super::shared::Shared;
use super::wires::{Side, Wire};
use super::world::{FAULTS, KERNEL_PATIENCE, World};
use crate::rng::Rng;

/// The part of the network that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between the clients and the edge.
    Front,
    /// Between the edge and the backend.
    Back,
}

/// The host that a fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The edge.
    Edge,
    /// The backend.
    Backend,
}

/// A fault of the network or of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Holds back all segments; nothing is lost.
    Hold(Place),
    /// Releases what was held back.
    Release(Place),
    /// Passes nothing, and drops what is in flight.
    Partition(Place),
    /// Passes nothing towards the edge.
    PartitionIn(Place),
    /// Passes nothing from the edge.
    PartitionOut(Place),
    /// Repairs the link. Connections that were open have lost bytes: they are dead, and time out.
    Repair(Place),
    /// Resets every connection at both ends.
    Reset(Place),
    /// Delays everything by this much from now on.
    Slow(Place, Duration),
    /// Ends the process. Its kernel closes its connections.
    Crash(Host),
    /// Starts the process, or the machine, again.
    Start(Host),
    /// Switches the machine off, without a last segment.
    PowerLoss(Host),
    /// Switches the machine on again.
    Power(Host),
}

/// Draws three independent tracks of faults: of the front, of the back, and of the edge. All are over at the end of the time of faults.
pub(crate) fn draw_troubles(rng: &mut Rng) -> Vec<(Duration, Trouble)> {
    let mut troubles = Vec::new();
    let latency = Duration::from_millis(rng.pick(&[300, 1_500]));
    for (place, percent) in [(Place::Front, 70), (Place::Back, 70)] {
        if rng.chance(percent) {
            draw_track(rng, 6_000, &mut troubles, |rng| {
                link_trouble(rng, place, latency)
            });
        }
    }
    if rng.chance(30) {
        draw_track(rng, 15_000, &mut troubles, |rng| {
            host_trouble(rng, Host::Edge)
        });
    }
    if rng.chance(30) {
        troubles.push((
            FAULTS - Duration::from_millis(1),
            Trouble::Reset(Place::Front),
        ));
    }
    troubles.sort_by_key(|(at, _)| *at);
    troubles
}

/// Draws one fault after the other, with pauses of at most `pause_max` ms.
fn draw_track(
    rng: &mut Rng,
    pause_max: u64,
    troubles: &mut Vec<(Duration, Trouble)>,
    mut draw: impl FnMut(&mut Rng) -> (Trouble, Option<Trouble>),
) {
    let last = FAULTS.as_millis() as u64 - 500;
    let mut at = rng.log_between(500, pause_max);
    while at < last {
        let (begin, end) = draw(rng);
        troubles.push((Duration::from_millis(at), begin));
        if let Some(end) = end {
            at = (at + rng.log_between(20, 6_000)).min(last);
            troubles.push((Duration::from_millis(at), end));
        }
        at += rng.log_between(100, pause_max);
    }
}

fn link_trouble(rng: &mut Rng, place: Place, latency: Duration) -> (Trouble, Option<Trouble>) {
    let repair = Some(Trouble::Repair(place));
    match rng.below(8) {
        0 | 1 => (Trouble::Hold(place), Some(Trouble::Release(place))),
        2 => (Trouble::Partition(place), repair),
        3 => (Trouble::PartitionIn(place), repair),
        4 => (Trouble::PartitionOut(place), repair),
        5 => (Trouble::Reset(place), None),
        6 => (
            Trouble::Slow(place, latency),
            Some(Trouble::Slow(place, Duration::ZERO)),
        ),
        _ => match place {
            Place::Front => (Trouble::Reset(place), None),
            Place::Back => host_trouble(rng, Host::Backend),
        },
    }
}

fn host_trouble(rng: &mut Rng, host: Host) -> (Trouble, Option<Trouble>) {
    if rng.chance(50) {
        (Trouble::Crash(host), Some(Trouble::Start(host)))
    } else {
        (Trouble::PowerLoss(host), Some(Trouble::Power(host)))
    }
}

/// A kernel gives up the connections that were open at a cut.
#[derive(Clone, Copy, Debug)]
struct GiveUp {
    at: Duration,
    wire: Wire,
    side: Side,
    cut: u64,
}

/// The faults that are still to happen.
pub(crate) struct Agenda<'a> {
    world: &'a World,
    shared: Shared,
    troubles: std::iter::Peekable<std::slice::Iter<'a, (Duration, Trouble)>>,
    give_ups: Vec<GiveUp>,
    /// The names of the hosts of clients, and of those of strangers.
    client_hosts: Vec<String>,
    has_strangers: bool,
    rng: Rng,
}

impl<'a> Agenda<'a> {
    pub(crate) fn new(world: &'a World, shared: Shared, client_hosts: Vec<String>) -> Self {
        Agenda {
            world,
            shared,
            troubles: world.troubles.iter().peekable(),
            give_ups: Vec::new(),
            client_hosts,
            has_strangers: world.strangers > 0,
            rng: Rng::fork(world.seed, "agenda", 0),
        }
    }

    /// Performs the faults that are due.
    pub(crate) fn inflict_due(&mut self, sim: &mut turmoil::Sim<'_>) {
        let now = sim.elapsed();
        while let Some((_, trouble)) = self.troubles.next_if(|(at, _)| *at <= now) {
            self.inflict(sim, *trouble);
        }
        let due = |give_up: &GiveUp| give_up.at <= now;
        for GiveUp {
            wire, side, cut, ..
        } in self.give_ups.iter().filter(|g| due(g))
        {
            self.shared
                .wires
                .give_up(*wire, *side, *cut, ErrorKind::TimedOut);
        }
        self.give_ups.retain(|give_up| !due(give_up));
    }

    fn inflict(&mut self, sim: &mut turmoil::Sim<'_>, trouble: Trouble) {
        match trouble {
            Trouble::Hold(place) => self.each_link(place, |here, there| sim.hold(here, there)),
            Trouble::Release(place) => {
                self.each_link(place, |here, there| sim.release(here, there));
            }
            Trouble::Partition(place) => {
                self.each_link(place, |here, there| sim.partition(here, there));
                self.cut(sim, wire(place));
            }
            Trouble::PartitionIn(place) => {
                self.each_link(place, |edge, peer| sim.partition_oneway(peer, edge));
                self.cut(sim, wire(place));
            }
            Trouble::PartitionOut(place) => {
                self.each_link(place, |edge, peer| sim.partition_oneway(edge, peer));
                self.cut(sim, wire(place));
            }
            Trouble::Repair(place) => {
                self.each_link(place, |here, there| sim.repair(here, there));
                self.cut(sim, wire(place));
            }
            Trouble::Reset(place) => {
                let cut = self.shared.wires.cut(wire(place));
                for side in [Side::Edge, Side::Peer] {
                    self.shared
                        .wires
                        .give_up(wire(place), side, cut, ErrorKind::ConnectionReset);
                }
            }
            Trouble::Slow(place, latency) => {
                let latency = latency.max(self.world.latency);
                self.each_link(place, |here, there| {
                    sim.set_link_max_message_latency(here, there, latency);
                });
            }
            Trouble::Crash(host) => self.crash(sim, host),
            Trouble::Start(host) => sim.bounce(name(host)),
            Trouble::PowerLoss(host) => {
                self.each_link_of(host, |here, there| sim.partition(here, there));
                self.cut_all_of(sim, host);
                self.crash(sim, host);
            }
            Trouble::Power(host) => {
                self.each_link_of(host, |here, there| sim.repair(here, there));
                self.cut_all_of(sim, host);
                sim.bounce(name(host));
            }
        }
    }

    fn crash(&mut self, sim: &mut turmoil::Sim<'_>, host: Host) {
        sim.crash(name(host));
        let mut ledger = self.shared.ledger();
        ledger.breaks_all(sim.elapsed().as_nanos() as u64);
        ledger.seen.restarts += u64::from(host == Host::Edge);
    }

    /// Kills all connections open on a wire. Each side gives them up after a time of its own.
    fn cut(&mut self, sim: &turmoil::Sim<'_>, wire: Wire) {
        let cut = self.shared.wires.cut(wire);
        for side in [Side::Edge, Side::Peer] {
            let patience = self.rng.log_between(20, KERNEL_PATIENCE.as_millis() as u64);
            let at = sim.elapsed() + Duration::from_millis(patience);
            self.give_ups.push(GiveUp {
                at,
                wire,
                side,
                cut,
            });
        }
    }

    fn cut_all_of(&mut self, sim: &turmoil::Sim<'_>, host: Host) {
        for wire in Wire::ALL {
            if host == Host::Edge || wire == Wire::Back {
                self.cut(sim, wire);
            }
        }
    }

    /// Calls `act` for every pair of hosts at a place, the edge first.
    fn each_link(&self, place: Place, mut act: impl FnMut(&str, &str)) {
        match place {
            Place::Front => self.client_hosts.iter().for_each(|host| act("edge", host)),
            Place::Back => act("edge", "backend"),
        }
    }

    fn each_link_of(&self, host: Host, mut act: impl FnMut(&str, &str)) {
        act("edge", "backend");
        if host == Host::Edge {
            self.client_hosts.iter().for_each(|host| act("edge", host));
            if self.has_strangers {
                act("edge", "strangers");
            }
        }
    }
}

fn wire(place: Place) -> Wire {
    match place {
        Place::Front => Wire::Front,
        Place::Back => Wire::Back,
    }
}

fn name(host: Host) -> &'static str {
    match host {
        Host::Edge => "edge",
        Host::Backend => "backend",
    }
}
