//! One run over the network, drawn from a seed.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::{Instant, sleep, sleep_until, timeout};
use voltlane_core::ClientId;
use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;
use voltlane_driver::client::ClientConfig;
use voltlane_driver::{Backend, Client, EdgeDriver, backend, client};
use voltlane_tokio::Timer;

use super::ledger::{Broken, Ledger, Seen};
use super::stream::{Chop, Dialer, Doors};
use crate::payload::Direction;
use crate::rng::Rng;

const EDGE_PORT: u16 = 42_000;
const BACKEND_PORT: u16 = 42_001;
/// How long faults happen.
const FAULTS: Duration = Duration::from_secs(20);
/// How long it may take afterwards until every client has sent and received what it must.
const RECOVERY: Duration = Duration::from_secs(60);
/// Packets that each client must get through, and back, when the faults are over.
const ROUNDS: u32 = 3;

/// What a run is drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// Number of clients, all on one host.
    pub clients: u32,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The first rule broken, if one was.
    pub broken: Option<Broken>,
    /// What was met.
    pub seen: Seen,
    /// The hash of all that the applications saw.
    pub hash: u64,
    /// Virtual time of the run.
    pub simulated: Duration,
}

/// What all hosts share; they take turns, so the lock is never waited for.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a task to end; a task that panicked has broken a rule.
    async fn join(&self, task: tokio::task::JoinHandle<()>) {
        if let Err(error) = task.await {
            self.ledger().fail(now(), "H1", error.to_string());
        }
    }
}

fn now() -> u64 {
    turmoil::sim_elapsed().map_or(0, |elapsed| elapsed.as_nanos() as u64)
}

fn are_faults_over() -> bool {
    now() >= FAULTS.as_nanos() as u64
}

/// Runs a scenario.
#[must_use]
pub fn run(scenario: Scenario) -> Outcome {
    let seed = scenario.seed;
    let mut rng = Rng::fork(seed, "network", 0);
    let shared = Shared::default();
    // A step costs the same whether anything happens in it or not, so its length decides how fast a run is. Within a step the
    // clock of each host runs on by itself; only what passes between hosts is as coarse as the step.
    let tick_ms = rng.pick(&[1, 2, 5, 10]);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .simulation_duration(FAULTS + RECOVERY + Duration::from_secs(30))
        .tick_duration(Duration::from_millis(tick_ms))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(rng.pick(&[2, 20, 100])))
        .tcp_capacity(4_096)
        .build();
    let config = edge_config(&mut rng);
    let chop = Chop::draw(&mut rng);
    let edge_shared = shared.clone();
    sim.host("edge", move || {
        serve_edge(seed, config.clone(), chop, edge_shared.clone())
    });
    let backend_shared = shared.clone();
    sim.host("backend", move || {
        serve_backend(seed, chop, backend_shared.clone())
    });
    let clients_shared = shared.clone();
    sim.client("clients", async move {
        let mut tasks = Vec::new();
        for number in 0..scenario.clients {
            let shared = clients_shared.clone();
            tasks.push(tokio::task::spawn_local(one_client(
                seed, number, chop, shared,
            )));
        }
        for task in tasks {
            clients_shared.join(task).await;
        }
        Ok(())
    });
    let faults = draw_faults(&mut rng);
    let mut faults = faults.iter().peekable();
    loop {
        while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= sim.elapsed()) {
            inflict(&mut sim, *fault);
        }
        match sim.step() {
            Ok(false) if shared.ledger().broken.is_none() => {}
            Ok(_) => break,
            Err(error) => {
                let at = sim.elapsed().as_nanos() as u64;
                shared.ledger().fail(at, "L3", error.to_string());
                break;
            }
        }
    }
    let ledger = shared.ledger();
    let (broken, seen, hash) = (ledger.broken.clone(), ledger.seen, ledger.hash.value());
    Outcome {
        broken,
        seen,
        hash,
        simulated: sim.elapsed(),
    }
}

fn edge_config(rng: &mut Rng) -> EdgeConfig {
    let mut config = EdgeConfig::default();
    config.clients.missed_packets_buffer_size = rng.pick(&[0, 3, 1_000]);
    config.clients.stale_timeout = Duration::from_millis(rng.log_between(1_000, 60_000));
    config.clients.stale_reap_interval = Duration::from_millis(rng.log_between(10, 5_000));
    config.clients.channel_capacity = rng.pick(&[8, 100, 8_192]);
    config.master.channel_capacity = rng.pick(&[2, 64, 32_768]);
    // All clients are of one host here: what one source may do is not what this is about.
    config.limits.enforce_sources = voltlane_core::edge::Enforce::Off;
    config
}

/// What happens to the network and its hosts.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Hold(&'static str, &'static str),
    Release(&'static str, &'static str),
    CrashBackend,
    BounceBackend,
}

/// Faults come in pairs, one that begins and one that ends, and all have ended when the time of faults is over.
fn draw_faults(rng: &mut Rng) -> Vec<(Duration, Fault)> {
    let mut faults = Vec::new();
    let last = FAULTS.as_millis() as u64 - 500;
    let mut at = rng.between(500, 4_000);
    while at < last {
        let until = (at + rng.log_between(20, 6_000)).min(last);
        let (begin, end) = match rng.below(3) {
            0 => (
                Fault::Hold("clients", "edge"),
                Fault::Release("clients", "edge"),
            ),
            1 => (
                Fault::Hold("edge", "backend"),
                Fault::Release("edge", "backend"),
            ),
            _ => (Fault::CrashBackend, Fault::BounceBackend),
        };
        faults.push((Duration::from_millis(at), begin));
        faults.push((Duration::from_millis(until), end));
        at = until + rng.log_between(100, 6_000);
    }
    faults
}

fn inflict(sim: &mut turmoil::Sim<'_>, fault: Fault) {
    match fault {
        Fault::Hold(one, other) => sim.hold(one, other),
        Fault::Release(one, other) => sim.release(one, other),
        Fault::CrashBackend => sim.crash("backend"),
        Fault::BounceBackend => sim.bounce("backend"),
    }
}

async fn serve_edge(seed: u64, config: EdgeConfig, chop: Chop, shared: Shared) -> turmoil::Result {
    let mut rng = Rng::fork(seed, "edge-host", 0);
    let (mut key, mut edge_seed) = ([7; 32], [0; 32]);
    rng.fill(&mut key[8..]);
    rng.fill(&mut edge_seed);
    let edge = Edge::new(config, KeyPair::from_bytes(&key)?, edge_seed);
    let doors = Doors::open(EDGE_PORT, chop, Rng::new(rng.next())).await?;
    let dialer = Dialer::new("backend", BACKEND_PORT, chop, Rng::new(rng.next()));
    let driver = EdgeDriver::new(edge, doors, dialer, Timer::new());
    let task = tokio::task::spawn_local(async move {
        driver.await;
    });
    shared.join(task).await;
    shared.ledger().fail(
        now(),
        "A2",
        "the driver of the edge has ended by itself".to_string(),
    );
    Ok(())
}

async fn serve_backend(seed: u64, chop: Chop, shared: Shared) -> turmoil::Result {
    let mut rng = Rng::fork(seed, "backend-host", now());
    let doors = Doors::open(BACKEND_PORT, chop, Rng::new(rng.next())).await?;
    let backend = Backend::with_config(backend::BackendConfig::default(), doors, Timer::new());
    let task_shared = shared.clone();
    let task = tokio::task::spawn_local(one_backend(backend, rng, chop, task_shared));
    shared.join(task).await;
    Ok(())
}

async fn one_backend(mut backend: Backend<Doors, Timer>, mut rng: Rng, chop: Chop, shared: Shared) {
    let mut next_whim = Instant::now() + Duration::from_millis(200);
    loop {
        tokio::select! {
            biased;
            event = backend.recv() => backend_event(&mut backend, event, &mut rng, &shared).await,
            () = sleep_until(next_whim) => {
                next_whim += Duration::from_millis(rng.between(20, 600));
                if !are_faults_over() {
                    backend_whim(&mut backend, &mut rng, chop, &shared).await;
                }
            }
        }
    }
}

async fn backend_event(
    backend: &mut Backend<Doors, Timer>,
    event: backend::Event,
    rng: &mut Rng,
    shared: &Shared,
) {
    match event {
        backend::Event::Packet { id, data } => {
            let owner = shared.ledger().backend_packet(now(), id.as_u64(), &data);
            if let Some(owner) = owner.filter(|_| are_faults_over() || rng.chance(30)) {
                let answer = shared.ledger().make(Direction::Down, owner, data.len());
                let _ = backend.send(id, &answer).await;
            }
        }
        backend::Event::Resumed { id } => shared.ledger().backend_resumed(now(), id.as_u64()),
        backend::Event::Failed { id, reason } => {
            shared.ledger().backend_failed(now(), id.as_u64(), &reason)
        }
        backend::Event::EdgeConnected { .. } => shared.ledger().seen.links += 1,
        backend::Event::EdgeLost => {}
    }
}

/// Something that the backend does of its own accord.
async fn backend_whim(
    backend: &mut Backend<Doors, Timer>,
    rng: &mut Rng,
    chop: Chop,
    shared: &Shared,
) {
    let alive = shared.ledger().alive();
    let Some(&(id, owner)) = alive.get(rng.below(alive.len() as u64) as usize) else {
        return;
    };
    let id = ClientId::from_u64(id);
    if rng.chance(5) {
        return backend.kick(id).await;
    }
    for _ in 0..rng.between(1, 12) {
        let bytes = rng.log_between(1, chop.packet_bytes_max()) as usize;
        let packet = shared.ledger().make(Direction::Down, owner, bytes);
        let _ = backend.send(id, &packet).await;
    }
}

async fn one_client(seed: u64, number: u32, chop: Chop, shared: Shared) {
    let mut rng = Rng::fork(seed, "client-task", number.into());
    let mut client_seed = [0; 32];
    rng.fill(&mut client_seed);
    sleep(Duration::from_millis(rng.below(1_000))).await;
    let dialer = Dialer::new("edge", EDGE_PORT, chop, Rng::new(rng.next()));
    let mut client = Client::new(ClientConfig::default(), client_seed, dialer, Timer::new());
    while !are_faults_over() {
        let pause = Duration::from_millis(rng.log_between(1, 1_500));
        if let Ok(event) = timeout(pause, client.recv()).await {
            client_event(&mut client, event, number, &shared);
            continue;
        }
        match rng.below(100) {
            0..10 => client.drop_connection(),
            10..80 => {
                for _ in 0..rng.between(1, 10) {
                    let bytes = rng.log_between(1, chop.packet_bytes_max()) as usize;
                    let packet = shared.ledger().make(Direction::Up, number, bytes);
                    // A queue that is full is a reason to say less.
                    let _ = client.try_send(&packet);
                }
            }
            _ => {}
        }
    }
    if timeout(RECOVERY, recover(&mut client, number, &shared))
        .await
        .is_err()
    {
        let state = client.state();
        shared.ledger().fail(
            now(),
            "L3",
            format!("client {number} does not get its packets through: {state:?}"),
        );
    }
    client.close(Duration::from_secs(1)).await;
}

/// Sends until enough has come back. What is lost with a connection is sent anew.
async fn recover(client: &mut Client<Dialer, Timer>, number: u32, shared: &Shared) {
    let mut rounds = 0;
    while rounds < ROUNDS {
        let packet = shared.ledger().make(Direction::Up, number, 40);
        if client.send(&packet).await.is_err() {
            client.start_over();
        }
        let patience = Instant::now() + Duration::from_secs(2);
        while Instant::now() < patience && rounds < ROUNDS {
            let Ok(event) = timeout(Duration::from_secs(1), client.recv()).await else {
                break;
            };
            rounds +=
                u32::from(matches!(&event, Some(client::Event::Packet(data)) if data.len() == 40));
            client_event(client, event, number, shared);
        }
        // Others have their turn even where nothing has to be waited for.
        yield_once().await;
    }
}

async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn client_event(
    client: &mut Client<Dialer, Timer>,
    event: Option<client::Event>,
    number: u32,
    shared: &Shared,
) {
    let mut ledger = shared.ledger();
    match event {
        Some(client::Event::Connected { id }) => ledger.client_joined(now(), number, id.as_u64()),
        Some(client::Event::Resumed { .. }) => ledger.seen.resumed += 1,
        Some(client::Event::Packet(data)) => ledger.client_packet(now(), number, &data),
        Some(client::Event::Dropped { .. }) => {}
        Some(client::Event::Refused(_)) | None => {
            ledger.seen.refused += 1;
            client.start_over();
        }
    }
}
