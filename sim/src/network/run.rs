//! One run: its hosts, its phases, and its outcome.

use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::task::spawn_local;

use super::faults::Agenda;
use super::ledger::{Broken, Seen};
use super::library::Library;
use super::party::Person;
use super::published::Published;
use super::servers::{serve_backend, serve_edge};
use super::shared::Shared;
use super::strangers::stranger;
use super::stream::Sockets;
use super::world::{CLIENTS_PER_HOST, FAULTS, KERNEL_PATIENCE, World};
use crate::rng::Rng;

/// How long the edge may take to hand over its data when it shuts down, and then to see its backend close, too.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(2);
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The first rule broken, if one was.
    pub broken: Option<Broken>,
    /// Counts of what happened.
    pub seen: Seen,
    /// The hash of everything that the applications saw.
    pub hash: u64,
    /// Virtual time of the run.
    pub simulated: Duration,
}

/// The phase of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Everything may fail.
    Faults,
    /// Nothing fails any more; clients get their packets through.
    Recovery,
    /// Sessions of clients that have left end.
    Expiry,
    /// The edge shuts down, no later than this.
    Ending(Duration),
}

/// Runs a world.
#[must_use]
pub fn run(world: &World) -> Outcome {
    let shared = Shared::new(world.bounds());
    let mut sim = build(world);
    let client_hosts = add_hosts(&mut sim, world, &shared);
    let mut agenda = Agenda::new(world, shared.clone(), client_hosts);
    let mut phase = Phase::Faults;
    loop {
        agenda.inflict_due(&mut sim);
        let stepped = sim.step();
        let at = sim.elapsed();
        let at_nanos = at.as_nanos() as u64;
        let mut ledger = shared.ledger();
        let all_gone = stepped.unwrap_or_else(|error| {
            ledger.fail(at_nanos, "L3", error.to_string());
            true
        });
        if ledger.broken.is_some() {
            break;
        }
        match phase {
            Phase::Faults if at >= FAULTS => {
                shared.wires.be_calm();
                phase = Phase::Recovery;
            }
            Phase::Recovery if ledger.settled == world.all_clients() => phase = Phase::Expiry,
            Phase::Expiry if ledger.all_expired(at_nanos) => {
                ledger.ending = true;
                shared.edge().shutdown(SHUTDOWN_WITHIN);
                phase = Phase::Ending(at + SHUTDOWN_WITHIN + CLOSE_WITHIN + world.round_trip());
            }
            Phase::Ending(_) if ledger.edge_ended && all_gone => break,
            Phase::Ending(until) if at > until => {
                let text = "the edge, or a client of it, does not end".to_string();
                ledger.fail(at_nanos, "L7", text);
                break;
            }
            _ => {}
        }
    }
    let ledger = shared.ledger();
    Outcome {
        broken: ledger.broken.clone(),
        seen: ledger.seen,
        hash: ledger.hash.value(),
        simulated: sim.elapsed(),
    }
}

fn build<'a>(world: &World) -> turmoil::Sim<'a> {
    let expiry = Duration::from_nanos(world.bounds().expiry.1);
    turmoil::Builder::new()
        .rng_seed(world.seed)
        .epoch(UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .simulation_duration(
            FAULTS + KERNEL_PATIENCE + world.recovery() * 2 + expiry + SHUTDOWN_WITHIN * 10,
        )
        .tick_duration(world.tick)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(world.latency)
        // In segments. A FIN that finds a full queue is lost, so the queue must never be full. Our streams count their windows in bytes.
        .tcp_capacity(1 << 16)
        .build()
}

/// Adds the hosts, and returns the names of those with clients.
fn add_hosts(sim: &mut turmoil::Sim<'_>, world: &World, shared: &Shared) -> Vec<String> {
    let world = Rc::new(world.clone());
    let with = || (Rc::clone(&world), shared.clone());
    let (edge_world, edge_shared) = with();
    sim.host("edge", move || {
        serve_edge(Rc::clone(&edge_world), edge_shared.clone())
    });
    let (backend_world, backend_shared) = with();
    sim.host("backend", move || {
        serve_backend(Rc::clone(&backend_world), backend_shared.clone())
    });
    let mut names = Vec::new();
    for first in (0..world.all_clients()).step_by(CLIENTS_PER_HOST as usize) {
        let name = format!("clients-{first}");
        let last = (first + CLIENTS_PER_HOST).min(world.all_clients());
        let (world, shared) = with();
        sim.client(name.as_str(), host_clients(first..last, world, shared));
        names.push(name);
    }
    if world.strangers > 0 {
        let (world, shared) = with();
        sim.host("strangers", move || {
            host_strangers(Rc::clone(&world), shared.clone())
        });
    }
    names
}

/// Runs the tasks of a host of clients.
async fn host_clients(
    numbers: std::ops::Range<u32>,
    world: Rc<World>,
    shared: Shared,
) -> turmoil::Result {
    let tasks =
        numbers.map(|number| spawn_local(one_client(number, Rc::clone(&world), shared.clone())));
    for task in tasks.collect::<Vec<_>>() {
        shared.join(task).await;
    }
    Ok(())
}

/// Runs the tasks of the host of strangers.
async fn host_strangers(world: Rc<World>, shared: Shared) -> turmoil::Result {
    let tasks = (0..world.strangers)
        .map(|number| spawn_local(stranger(number, Rc::clone(&world), shared.clone())));
    for task in tasks.collect::<Vec<_>>() {
        shared.join(task).await;
    }
    Ok(())
}

async fn one_client(number: u32, world: Rc<World>, shared: Shared) {
    let rng = Rng::fork(world.seed, "client", number.into());
    let sockets = Sockets::new(&world, &shared.wires);
    if number < world.clients {
        let is_v3 = number < world.v3;
        if is_v3 {
            shared.ledger().expect_nothing_lost(number);
        }
        let party = Library::new(sockets, rng, is_v3);
        Person::new(party, number, &world, &shared).live().await;
    } else {
        let party = Published::new(sockets, rng);
        Person::new(party, number, &world, &shared).live().await;
    }
}
