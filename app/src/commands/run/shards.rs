//! Several machines and their trunk, on the threads of a crew.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::mpsc::{self, Sender};
use std::thread;

use voltlane_core::ShardId;
use voltlane_core::edge::Edge;
use voltlane_core::edge::trunk::Trunk;
use voltlane_driver::{
    BranchConnector, Connector, Errands, Listener, Neighbours, Runtime, Task, Timer, TrunkDriver,
};

use super::keeping::Keeping;
use super::orders::{Order, Orders};
use super::watch::Watch;
use super::{Controls, Entrances, FirstThen, drive, listen_at};
use crate::dial::Dialer;
use crate::listeners::{Listening, Sockets};
use crate::logging;
use crate::memory::has_started;
use crate::metrics::{Asked, Snapshot};
use crate::refusals::Refusals;

/// The exit code when a shard panicked: that of a panic in the main thread.
const EXIT_PANIC: i32 = 101;

/// Serves until stopped: the edges and their trunk on the threads of a crew, the orders here. The backend is at none of its
/// `own` addresses.
pub(super) async fn serve<R: Runtime>(
    (trunk, edges): (Trunk, Vec<Edge>),
    entrances: Entrances,
    (backend, own): (FirstThen<Dialer<R>>, Vec<SocketAddr>),
    mut orders: Orders<R>,
    (asked, serves): (Vec<Asked>, impl FnOnce(Vec<Errands>)),
    keeping: &Keeping,
) -> io::Result<()> {
    let shards = u8::try_from(edges.len()).unwrap_or(u8::MAX);
    let mut asked = asked.into_iter();
    let mut own_asked = asked.next();
    let trunk_asked = asked.next();
    let (driver, connectors) = TrunkDriver::new(trunk, backend, R::Timer::default());
    let driver = driver.refusing(own);
    let trunk = driver.handle();
    let Entrances {
        sockets,
        lingering,
        accepts,
    } = entrances;
    let refusals = Refusals::default();
    let (started, starting) = mpsc::channel();
    let parts = edges.into_iter().zip(sockets);
    let parts = parts.zip(connectors).zip(Neighbours::of(shards));
    let tasks: Vec<Task> = (0..)
        .zip(parts)
        .map(
            |(number, (((edge, sockets), connector), neighbours))| -> Task {
                let shard = Shard::<R> {
                    number,
                    edge,
                    sockets,
                    lingering,
                    connector,
                    neighbours,
                    watch: Watch::new(asked.next(), refusals.clone()),
                    keeping: keeping.clone(),
                };
                Box::pin(shard.serve(started.clone()))
            },
        )
        .collect();
    drop(started);
    let watch = Watch::new(trunk_asked, refusals);
    let mut crew = R::crew(tasks, Box::pin(serve_trunk(driver, watch, keeping.clone())))?;
    // Each reports once how it began. One that is gone has dropped its sender.
    let mut handles = Vec::with_capacity(shards.into());
    for _ in 0..shards {
        handles.push(starting.recv().map_err(io::Error::other)??);
    }
    handles.sort_by_key(|shard: &Controls<R>| shard.number);
    serves(handles.iter().map(|shard| shard.errands.clone()).collect());
    let openings: Vec<_> = handles.iter().map(|shard| shard.openings.clone()).collect();

    poll_fn(|cx| {
        orders.poll(cx, |order| match order {
            Order::Reconfigure(config) => {
                for shard in &handles {
                    let id = ShardId::new(shard.number);
                    shard.handle.reconfigure(config.for_shard(id, shards));
                }
                trunk.reconfigure(config.master);
            }
            Order::Listen(opening, from) => {
                trunk.refuse(listen_at::<R>(opening, from, &openings));
            }
            Order::Unlisten(number) => openings.iter().for_each(|shard| shard.close(number)),
            Order::Leave(within) => handles.iter().for_each(|shard| shard.handle.leave(within)),
            Order::Shutdown(within) => {
                // The trunk comes first: it must know why shards end. All were given the same time, and end by themselves.
                trunk.shutdown(within);
                for shard in &handles {
                    shard.handle.shutdown(within);
                }
            }
        });
        orders.report(|| {
            let shards = handles
                .iter()
                .map(|shard| shard.handle.poll_done(cx).is_ready());
            // All are polled, so that each that is not done wakes this task.
            shards.fold(true, |all, done| all & done) & trunk.poll_done(cx).is_ready()
        });
        if let Some(asked) = &mut own_asked {
            asked.answer(cx.waker(), || Snapshot {
                is_ending: orders.is_ending(),
                note: orders.note(),
                log_lines_lost: logging::lost_lines(),
                accepts: accepts.counts(),
                expiries: accepts.expiries(),
                list_expiries: accepts.list_expiries(),
                ..Snapshot::default()
            });
        }
        crew.poll_end(cx)
    })
    .await
}

/// Serves the trunk of all shards.
async fn serve_trunk<C: Connector, T: Timer>(
    driver: TrunkDriver<C, T>,
    watch: Watch,
    keeping: Keeping,
) {
    let _guard = EndsProcess;
    has_started();
    let mut driver = pin!(driver);
    watch.run(driver.as_mut()).await;
    keeping.add(|| driver.get_mut().save());
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
}

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
        let mut driver = pin!(driver.with_neighbours(self.neighbours));
        let controls = Controls {
            number: self.number,
            handle: driver.handle(),
            openings: driver.openings(),
            errands: driver.errands(),
        };
        if started.send(Ok(controls)).is_err() {
            return;
        }
        drop(started);
        self.watch.run(driver.as_mut()).await;
        self.keeping.add(|| driver.get_mut().save());
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
