//! Several machines and the trunk of each backend, on the threads of a crew.

#[cfg(feature = "backends")]
mod together;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::thread;

use voltlane_core::ShardId;
use voltlane_core::edge::Edge;
use voltlane_core::edge::trunk::Trunk;
use voltlane_driver::{
    BranchConnector, Connector, EdgeDriver, Errands, Listener, Neighbours, Runtime, Task, Timer,
    TrunkDriver,
};

use super::hands::{Arrivals, Hands, Place};
use super::keeping::Keeping;
use super::orders::{Order, Orders};
use super::station::{Station, Stations};
use super::watch::{Drains, Watch};
use super::{Controls, Entrances, FirstThen, drive, listen_at};
use crate::config_reads;
use crate::dial::Dialer;
use crate::file_errors;
use crate::listeners::{Listening, Sockets};
use crate::logging;
use crate::memory::has_started;
use crate::metrics::{Asked, Snapshot};
use crate::refusals::Refusals;

/// The exit code when a shard panicked: that of a panic in the main thread.
const EXIT_PANIC: i32 = 101;

/// Serves until stopped: the edges and the trunks of their backends on the threads of a crew, the orders here. No backend is at one of its
/// `own` addresses.
pub(super) async fn serve<R: Runtime>(
    (trunks, edges): (Vec<Trunk>, Vec<Edge>),
    entrances: Entrances,
    (backends, own): (Vec<FirstThen<Dialer<R>>>, Vec<SocketAddr>),
    mut orders: Orders<R>,
    (asked, serves): (Vec<Asked>, impl FnOnce(Vec<Errands>)),
    (keeping, (mut hands, place)): (&Keeping, (Hands, Place)),
) -> io::Result<()> {
    let run = edges.first().map_or([0; 8], Edge::run);
    let shards = u8::try_from(edges.len()).unwrap_or(u8::MAX);
    let drains = drains_of(&edges, backends.len());
    let mut asked = asked.into_iter();
    let mut own_asked = asked.next();
    let mut connectors = Vec::with_capacity(shards.into());
    let (mut drivers, mut handles_of_trunks) = (Vec::new(), Vec::new());
    for (trunk, backend) in trunks.into_iter().zip(backends) {
        let (driver, of_shards) = TrunkDriver::new(trunk, backend, R::Timer::default());
        let driver = driver.refusing(own.iter().copied());
        handles_of_trunks.push(driver.handle());
        drivers.push((driver, asked.next()));
        connectors.extend(of_shards);
    }
    let trunks = handles_of_trunks;
    let Entrances {
        sockets,
        lingering,
        accepts,
    } = entrances;
    let refusals = Refusals::default();
    let (started, starting) = mpsc::channel();
    let parts = edges.into_iter().zip(sockets);
    let parts = parts.zip(connectors).zip(Neighbours::of(shards));
    let (stations, of_shards) = Stations::new(shards.into());
    let (stations_of_trunks, of_trunks) = Stations::new(drivers.len());
    let parts = parts.zip(of_shards);
    let arrivals = hands.arrivals();
    let tasks: Vec<Task> = (0..)
        .zip(parts)
        .map(
            |(number, ((((edge, sockets), connector), neighbours), station))| -> Task {
                let shard = Shard::<R> {
                    number,
                    edge,
                    sockets,
                    lingering,
                    connector,
                    neighbours,
                    watch: Watch::new(asked.next(), refusals.clone()),
                    keeping: keeping.clone(),
                    arrivals: arrivals.clone(),
                    station,
                };
                Box::pin(shard.serve(started.clone()))
            },
        )
        .collect();
    drop((started, arrivals));
    let places = orders.backends();
    let drivers = drivers
        .into_iter()
        .zip(places)
        .zip(drains)
        .zip(of_trunks)
        .map(|((((driver, asked), place), drains), station)| {
            let watch = Watch::new(asked, refusals.clone()).of_backend(drains);
            (place, serve_trunk(driver, watch, keeping.clone(), station))
        });
    let mut crew = R::crew(tasks, all_trunks(drivers.collect()))?;
    // Each reports once how it began. One that is gone has dropped its sender.
    let mut handles = Vec::with_capacity(shards.into());
    for _ in 0..shards {
        handles.push(starting.recv().map_err(io::Error::other)??);
    }
    handles.sort_by_key(|shard: &Controls<R>| shard.number);
    let errands: Vec<_> = handles.iter().map(|shard| shard.errands.clone()).collect();
    let taken = handles.iter().map(|shard| shard.taken).sum();
    let refuse = |own: Vec<SocketAddr>| {
        for trunk in &trunks {
            trunk.refuse(own.iter().copied());
        }
    };
    hands.begin(taken, &(run, errands.as_slice()), refuse, place)?;
    stations.run();
    stations_of_trunks.run();
    serves(errands.clone());
    let openings: Vec<_> = handles.iter().map(|shard| shard.openings.clone()).collect();

    poll_fn(|cx| {
        orders.poll(cx, |order| match order {
            Order::Reconfigure(config) => {
                for shard in &handles {
                    let id = ShardId::new(shard.number);
                    shard.handle.reconfigure(config.for_shard(id, shards));
                }
                for trunk in &trunks {
                    trunk.reconfigure(config.master.clone());
                }
            }
            Order::Listen(opening, from) => {
                refuse(listen_at::<R>(opening, from, &openings));
            }
            Order::Unlisten(number) => openings.iter().for_each(|shard| shard.close(number)),
            Order::Leave(within) => handles.iter().for_each(|shard| shard.handle.leave(within)),
            Order::Shutdown(within) => {
                // The trunks come first: they must know why shards end. All were given the same time, and end by themselves.
                for trunk in &trunks {
                    trunk.shutdown(within);
                }
                for shard in &handles {
                    shard.handle.shutdown(within);
                }
            }
        });
        let is_ending = orders.is_ending();
        hands.poll_several(cx, &stations, &stations_of_trunks, &errands, is_ending);
        orders.report(|| {
            let shards = handles
                .iter()
                .map(|shard| shard.handle.poll_done(cx).is_ready());
            // All are polled, so that each that is not done wakes this task.
            let shards = shards.fold(true, |all, done| all & done);
            let trunks = trunks.iter().map(|trunk| trunk.poll_done(cx).is_ready());
            trunks.fold(shards, |all, done| all & done)
        });
        if let Some(asked) = &mut own_asked {
            asked.answer(cx.waker(), || Snapshot {
                is_ending: orders.is_ending(),
                note: orders.note(),
                log_lines_lost: logging::lost_lines(),
                file_errors: file_errors::counts(),
                config_read: config_reads::last(),
                shared_bans: crate::metrics::shared_bans(),
                accepts: accepts.counts(),
                expiries: accepts.expiries(),
                list_expiries: accepts.list_expiries(),
                handshakes: accepts.handshakes(),
                refusals: accepts.refusals(),
                ..Snapshot::default()
            });
        }
        crew.poll_end(cx)
    })
    .await
}

/// Returns what tells of each backend whether it drains, if there are several.
#[cfg(feature = "backends")]
fn drains_of(edges: &[Edge], backends: usize) -> Vec<Option<Drains>> {
    let control = edges.first().map(Edge::backends).filter(|_| backends > 1);
    let drains = (0..=u8::MAX).map(|backend| {
        let control = control.clone()?;
        Some(Box::new(move || control.is_draining(backend)) as Drains)
    });
    drains.take(backends).collect()
}

#[cfg(not(feature = "backends"))]
fn drains_of(_: &[Edge], _: usize) -> Vec<Option<Drains>> {
    vec![None]
}

/// Returns what serves all trunks. With several, what one of them logs has the address of its backend.
fn all_trunks(mut trunks: Vec<(String, impl Future<Output = ()> + Send + 'static)>) -> Task {
    #[cfg(feature = "backends")]
    if trunks.len() > 1 {
        return Box::pin(together::Together::new(trunks));
    }
    match trunks.pop() {
        Some((_, trunk)) => Box::pin(trunk),
        None => Box::pin(std::future::ready(())),
    }
}

/// Serves the trunk of the shards of a backend.
async fn serve_trunk<C: Connector, T: Timer>(
    driver: TrunkDriver<C, T>,
    watch: Watch,
    keeping: Keeping,
    station: Station<TrunkDriver<C, T>>,
) {
    let _guard = EndsProcess;
    has_started();
    let mut driver = station.run(watch, driver).await;
    keeping.add(|| driver.save());
}

/// Everything that serves one shard.
struct Shard<R: Runtime> {
    number: u8,
    edge: Edge,
    sockets: Sockets,
    lingering: usize,
    connector: BranchConnector,
    neighbours: Neighbours<<Listening<R> as Listener>::Stream>,
    watch: Watch,
    keeping: Keeping,
    arrivals: Arrivals,
    station: Station<DriverOf<R>>,
}

/// The driver of a shard.
type DriverOf<R> = EdgeDriver<Listening<R>, BranchConnector, <R as Runtime>::Timer>;

impl<R: Runtime> Shard<R> {
    async fn serve(self, started: Sender<io::Result<Controls<R>>>) {
        let _guard = EndsProcess;
        let driver = match drive::<R, _>(self.edge, self.sockets, self.lingering, self.connector) {
            Ok(driver) => driver,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let mut driver = driver.with_neighbours(self.neighbours);
        let taken = match self.arrivals.enter(&mut driver) {
            Ok(taken) => taken,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let controls = Controls {
            number: self.number,
            handle: driver.handle(),
            openings: driver.openings(),
            errands: driver.errands(),
            taken,
        };
        if started.send(Ok(controls)).is_err() {
            return;
        }
        drop(started);
        let mut driver = self.station.run(self.watch, driver).await;
        self.keeping.add(|| driver.save());
    }
}

/// Ends the process on a panic in a shard, like one in the main thread. An edge without one of its shards would be alive, but would not
/// answer a part of its clients.
struct EndsProcess;

impl Drop for EndsProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            logging::flush();
            std::process::exit(EXIT_PANIC);
        }
    }
}
