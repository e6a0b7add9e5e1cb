//! The hosts of the edge and of the backend.

use std::num::NonZeroU8;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{spawn_local, unconstrained};
use tokio::time::{Instant, sleep, sleep_until};
use voltlane_core::ClientId;
use voltlane_core::edge::Edge;
use voltlane_core::edge::trunk::Trunk;
use voltlane_core::keys::KeyPair;
use voltlane_doors::{DoorListener, SharedDoor};
use voltlane_driver::backend::{Backend, Event, Means, Options};
use voltlane_driver::{EdgeDriver, Neighbours, TrunkDriver};
use voltlane_tokio::Timer;

use super::carriage::Carried as _;
use super::ledger::Wish;
use super::shared::{Process, Shared, now};
use super::strangers::FIRST_STRANGER;
use super::stream::{Dialer, Doors, Sockets};
use super::wires::{Side, Wire};
use super::world::World;
use super::{BACKEND_PORT, EDGE_PORT, seed_of};
use crate::rng::Rng;

/// The longest pause between two actions of the backend's own accord.
pub(crate) const WHIM_MAX_MS: u64 = 600;
/// Packets at a time for a stranger that asks for many.
const GREED_PACKETS: usize = 20;

/// Runs the edge's process, from its start to its end.
pub(crate) async fn serve_edge(world: Rc<World>, shared: Shared) -> turmoil::Result {
    let mut rng = Rng::fork(world.seed, "edge-host", now());
    let mut kept = Rng::fork(world.seed, "edge-key", 0);
    let mut key = seed_of(if world.keeps_key { &mut kept } else { &mut rng });
    // Below the order of the curve, whatever was drawn.
    key[0] = 0;
    let keys = KeyPair::from_bytes(&key)?;
    let sockets = Sockets::new(&world, &shared.wires);
    let mut doors = Doors::open(
        EDGE_PORT,
        Wire::Front,
        Side::Edge,
        sockets.clone(),
        Rng::new(rng.next()),
    )
    .await?;
    let door = SharedDoor::from(world.carriage.door());
    let dialer = Dialer {
        host: "backend",
        port: BACKEND_PORT,
        wire: Wire::Back,
        side: Side::Edge,
        sockets,
        rng: Rng::new(rng.next()),
    };
    let (mut process, mut tasks) = (Process::default(), Vec::new());
    if world.shards == NonZeroU8::MIN {
        let edge = Edge::new(world.edge.clone(), keys, seed_of(&mut rng));
        let doors = DoorListener::new(doors, door);
        let driver = EdgeDriver::new(edge, doors, dialer, Timer::new());
        process.shards.push(driver.handle());
        tasks.push(spawn_local(unconstrained(driver)));
    } else {
        let seed = seed_of(&mut rng);
        let (trunk, edges) = Trunk::with_shards(&world.edge, &keys, world.shards, seed);
        let (driver, connectors) = TrunkDriver::new(trunk, dialer, Timer::new());
        process.trunk = Some(driver.handle());
        tasks.push(spawn_local(unconstrained(driver)));
        let neighbours = Neighbours::of(world.shards.get());
        for ((edge, connector), neighbours) in edges.into_iter().zip(connectors).zip(neighbours) {
            let doors = DoorListener::new(doors.sibling(), door.clone());
            let driver = EdgeDriver::new(edge, doors, connector, Timer::new());
            let driver = driver.with_neighbours(neighbours);
            process.shards.push(driver.handle());
            tasks.push(spawn_local(unconstrained(driver)));
        }
    }
    *shared.edge() = process;
    for task in tasks {
        shared.join(task).await;
    }
    let mut ledger = shared.ledger();
    if ledger.ending {
        ledger.edge_ended = true;
    } else {
        let text = "the driver of the edge has ended by itself".to_string();
        ledger.fail(now(), "A2", text);
    }
    Ok(())
}

/// Runs the backend's process, from its start to its end.
pub(crate) async fn serve_backend(world: Rc<World>, shared: Shared) -> turmoil::Result {
    let mut rng = Rng::fork(world.seed, "backend-host", now());
    let doors = Doors::open(
        BACKEND_PORT,
        Wire::Back,
        Side::Peer,
        Sockets::new(&world, &shared.wires),
        Rng::new(rng.next()),
    )
    .await?;
    let means = Means::new(doors, Timer::new(), seed_of(&mut rng));
    let backend = Backend::begin(Options::default(), means)?;
    let application = Application {
        backend,
        rng,
        world,
        shared: shared.clone(),
    };
    shared.join(spawn_local(application.run())).await;
    Ok(())
}

/// The application on top of the backend library.
struct Application {
    backend: Backend,
    rng: Rng,
    world: Rc<World>,
    shared: Shared,
}

impl Application {
    async fn run(mut self) {
        let mut next_whim = Instant::now() + Duration::from_millis(200);
        loop {
            tokio::select! {
                biased;
                event = self.backend.recv() => self.take(event.expect("nobody closes it")).await,
                () = sleep_until(next_whim) => {
                    next_whim = Instant::now() + Duration::from_millis(self.rng.between(20, WHIM_MAX_MS));
                    if self.shared.is_calm() {
                        self.grant_wishes().await;
                    } else {
                        self.follow_whim().await;
                    }
                }
            }
        }
    }

    async fn take(&mut self, event: Event) {
        match event {
            Event::Packet { id, data, .. } => self.take_packet(id, data).await,
            // Its first packet, which comes next, says the same.
            Event::Joined(joined) if !joined.again => {}
            Event::Joined(joined) => {
                let id = joined.id.as_u64();
                self.shared.ledger().backend_resumed(now(), id);
            }
            Event::Resumed { id, .. } => {
                self.shared.ledger().backend_resumed(now(), id.as_u64());
            }
            Event::Ended { id, end, .. } => {
                let mut ledger = self.shared.ledger();
                ledger.backend_failed(now(), id.as_u64(), &end.text);
            }
            Event::EdgeConnected { .. } => {
                let mut ledger = self.shared.ledger();
                ledger.breaks_all(now());
                ledger.seen.links += 1;
            }
            Event::EdgeLost { .. } => self.shared.ledger().breaks_all(now()),
            other => panic!("the simulator knows no {other:?}"),
        }
    }

    async fn take_packet(&mut self, id: ClientId, data: Vec<u8>) {
        let owner = self
            .shared
            .ledger()
            .backend_packet(now(), id.as_u64(), &data);
        match owner {
            Some(owner) if owner >= FIRST_STRANGER => {
                for _ in 0..GREED_PACKETS {
                    let bytes = self.world.knobs.packet_bytes_max() as usize;
                    self.send(id, owner, bytes).await;
                }
            }
            Some(owner) if self.shared.is_calm() || self.rng.chance(30) => {
                self.send(id, owner, data.len()).await;
            }
            _ => {}
        }
    }

    async fn send(&mut self, id: ClientId, owner: u32, bytes: usize) {
        let packet = self
            .shared
            .ledger()
            .make_down(now(), id.as_u64(), owner, bytes);
        if let Err(error) = self.backend.send(id, &packet).await {
            self.shared.ledger().fail(now(), "A1", error.to_string());
        }
    }

    async fn kick(&mut self, id: u64) {
        let kicked = self
            .backend
            .kick(ClientId::from_u64(id), 401, "kicked")
            .await;
        kicked.expect("a kick that can be");
    }

    /// Does what clients have asked for.
    async fn grant_wishes(&mut self) {
        let wishes = self.shared.ledger().take_wishes();
        for wish in wishes {
            match wish {
                Wish::Kick(id) => self.kick(id).await,
                Wish::Send(id, owner, packets) => {
                    for _ in 0..packets {
                        let bytes = self.rng.between(20, 300) as usize;
                        self.send(ClientId::from_u64(id), owner, bytes).await;
                    }
                }
            }
        }
    }

    /// Does something of its own accord.
    async fn follow_whim(&mut self) {
        let alive = self.shared.ledger().alive();
        let Some(&(id, owner)) = alive.get(self.rng.below(alive.len() as u64) as usize) else {
            return;
        };
        let id = ClientId::from_u64(id);
        match self.rng.below(100) {
            0..5 => self.kick(id.as_u64()).await,
            5..8 => {
                // The recipient does not exist, which the answer reports.
                let nobody = self.rng.next();
                self.shared.ledger().made_up(nobody);
                self.kick(nobody).await;
            }
            // Is busy with something else and does not read.
            8..11 => sleep(Duration::from_millis(self.rng.log_between(50, 4_000))).await,
            _ => {
                for _ in 0..self.rng.between(1, 12) {
                    let most = self.world.knobs.packet_bytes_max();
                    let bytes = self.rng.log_between(1, most) as usize;
                    self.send(id, owner, bytes).await;
                }
            }
        }
    }
}
