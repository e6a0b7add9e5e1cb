//! Several machines, each on a thread of its own, and their trunk on this one.

use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use tracing::error;
use voltlane_core::ShardId;
use voltlane_core::edge::Edge;
use voltlane_core::edge::trunk::Trunk;
use voltlane_driver::{
    BranchConnector, EdgeHandle, Listener, Neighbours, Runtime, SocketOptions, TrunkDriver,
};

use super::orders::{Order, Orders};
use super::{FirstThen, drive};
use crate::logging;
use crate::memory::Ebb;
use crate::metrics::{Asked, Snapshot};
use crate::refusals::Refusals;

/// Exit code when a shard panicked: the same as for a panic in the main thread.
const EXIT_PANIC: i32 = 101;

/// Serves until it is stopped: the trunk here, each edge on its own thread.
pub(super) async fn serve<R: Runtime>(
    (trunk, edges): (Trunk, Vec<Edge>),
    listeners: Vec<Vec<TcpListener>>,
    options: SocketOptions,
    backend: FirstThen<R::Connector>,
    mut orders: Orders<R>,
    asked: Vec<Asked>,
) -> io::Result<()> {
    let shards = u8::try_from(edges.len()).unwrap_or(u8::MAX);
    let mut asked = asked.into_iter();
    let mut own_asked = asked.next();
    let (driver, connectors) = TrunkDriver::new(trunk, backend, R::Timer::default());
    let neighbours = Neighbours::of(shards);
    let refusals = Refusals::default();
    let (started, starting) = mpsc::channel();
    let mut threads = Vec::with_capacity(edges.len());
    let parts = edges
        .into_iter()
        .zip(listeners)
        .zip(connectors)
        .zip(neighbours);
    for (number, (((edge, listeners), connector), neighbours)) in parts.enumerate() {
        let shard = Shard {
            edge,
            listeners,
            options,
            connector,
            neighbours,
            asked: asked.next(),
            refusals: refusals.clone(),
        };
        threads.push(shard.start::<R>(number, started.clone())?);
    }
    drop(started);
    // Each says once how it began; a thread that is gone has dropped its sender.
    let mut handles = Vec::with_capacity(threads.len());
    for _ in &threads {
        let handle = starting.recv().map_err(io::Error::other)??;
        handles.push(handle);
    }

    let mut driver = pin!(driver);
    let handle = driver.handle();
    poll_fn(|cx| {
        orders.poll(cx, |order| match order {
            Order::Reconfigure(config) => {
                for (number, shard) in (0..).zip(&handles) {
                    shard.reconfigure(config.for_shard(ShardId::new(number), shards));
                }
                handle.reconfigure(config.master);
            }
            Order::Shutdown(within) => {
                for shard in &handles {
                    shard.shutdown(within);
                }
                handle.shutdown(within);
            }
        });
        let polled = driver.as_mut().poll(cx);
        orders.report(|| {
            let shards = handles.iter().map(|shard| shard.poll_done(cx).is_ready());
            // Every one, so that every one that is not done wakes this task.
            shards.fold(true, |all, done| all & done) & handle.poll_done(cx).is_ready()
        });
        if let Some(asked) = &mut own_asked {
            asked.answer(cx.waker(), || Snapshot {
                counters: driver.trunk().counters().clone(),
                gauges: driver.trunk().gauges(),
                is_ending: orders.is_ending(),
                log_lines_lost: logging::lost_lines(),
            });
        }
        polled
    })
    .await;
    // They were given the same time, and end by themselves.
    for thread in threads {
        if thread.join().is_err() {
            return Err(io::Error::other("a shard ended badly"));
        }
    }
    Ok(())
}

/// The parts that one thread serves.
struct Shard<L: Listener> {
    edge: Edge,
    listeners: Vec<TcpListener>,
    options: SocketOptions,
    connector: BranchConnector,
    neighbours: Neighbours<L::Stream>,
    asked: Option<Asked>,
    refusals: Refusals,
}

impl<L: Listener> Shard<L> {
    fn start<R: Runtime<Listener = L>>(
        self,
        number: usize,
        started: Sender<io::Result<EdgeHandle>>,
    ) -> io::Result<JoinHandle<()>> {
        thread::Builder::new()
            .name(format!("shard-{number}"))
            .spawn(move || {
                let _guard = EndsProcess;
                let failed = started.clone();
                if let Err(error) = R::block_on(self.serve::<R>(started)) {
                    // Before it began there is somebody who waits to hear it; afterwards a runtime does not fail.
                    if failed.send(Err(error)).is_err() {
                        error!("a shard cannot go on");
                    }
                }
            })
    }

    async fn serve<R: Runtime<Listener = L>>(self, started: Sender<io::Result<EdgeHandle>>) {
        let driver = match drive::<R, _>(self.edge, self.listeners, self.options, self.connector) {
            Ok(driver) => driver,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let mut driver = pin!(driver.beside(self.neighbours));
        if started.send(Ok(driver.handle())).is_err() {
            return;
        }
        drop(started);
        let mut asked = self.asked;
        let mut ebb = Ebb::default();
        let mut refusals = self.refusals;
        poll_fn(|cx| {
            let polled = driver.as_mut().poll(cx);
            ebb.watch(driver.edge().footprint_bytes());
            refusals.watch(driver.edge().counters());
            if let Some(asked) = &mut asked {
                asked.answer(cx.waker(), || Snapshot {
                    counters: driver.edge().counters().clone(),
                    gauges: driver.edge().gauges(),
                    is_ending: false,
                    log_lines_lost: 0,
                });
            }
            polled
        })
        .await;
    }
}

/// An edge without one of its shards would be a zombie: alive, and deaf to a part of its clients. A panic there ends the process, as
/// one in the main thread does.
struct EndsProcess;

impl Drop for EndsProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            logging::flush();
            std::process::exit(EXIT_PANIC);
        }
    }
}
