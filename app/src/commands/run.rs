//! `run`: the server.

mod orders;
mod shards;
mod watch;

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tracing::{error, info, warn};
use voltlane_core::edge::Edge;
use voltlane_core::edge::trunk::Trunk;
use voltlane_driver::{
    Connect, Connector, EdgeDriver, Runtime, SocketOptions, Stream, Timer, Uplink,
};

use self::orders::{Order, Orders};
use self::watch::Watch;
use super::{make_key, random, reload, signals};
use crate::config::Settings;
use crate::doors::{self, Doors, Listening};
use crate::entry::ReadAgain;
use crate::key_file::{READABLE_BY_GROUP, load_or_make_key, mode_for_group};
use crate::memory::{has_started, keep_heap_small};
use crate::metrics::{self, Asked, Exchange, Snapshot};
use crate::refusals::Refusals;
use crate::{listen, logging};

use crate::Resources;

/// Descriptors per listener: its own, and one in reserve.
const DESCRIPTORS_PER_LISTENER: usize = 2;

/// Serves until SIGINT or SIGTERM; before it serves, either ends it at once. `again` tells how SIGHUP reads the configuration again.
pub(super) fn run<R: Runtime>(settings: Settings, again: ReadAgain) -> ExitCode {
    keep_heap_small();
    let served = R::block_on(serve::<R>(settings, again))
        .unwrap_or_else(|error| Err(format!("the runtime cannot start: {error}")));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn serve<R: Runtime>(settings: Settings, again: ReadAgain) -> Result<(), String> {
    let unhandled = |error| format!("signals cannot be handled: {error}");
    let stop = signals::stop().map_err(unhandled)?;
    let doors = Doors::open(&settings)?;
    let door = doors.entrance();
    let reloads =
        reload::on_hangup(again, settings.clone(), doors, stop.asker()).map_err(unhandled)?;
    let keys = load_or_make_key(settings.general.key_file.as_deref(), make_key)
        .map_err(|error| error.to_string())?;
    if let Some(path) = &settings.general.key_file
        && let Some(mode) = mode_for_group(path)
    {
        warn!(path = %path.display(), mode = %format_args!("{mode:04o}"), "{READABLE_BY_GROUP}");
    }
    let measured = Resources::raise_and_measure();

    let shards = settings.shards();
    let name = &settings.listener.address;
    let options = settings.listener_options();
    let cannot_listen = |error| format!("cannot listen on {name}: {error}");
    // Bound before the backend is dialled: an edge that cannot listen must not take the backend from the one that does.
    let bound = listen::bind(name, options).map_err(cannot_listen)?;
    let more_listeners = (bound.len() - 1) * usize::from(shards.get());
    let resources = measured.without_descriptors(DESCRIPTORS_PER_LISTENER * more_listeners);
    let config = settings.edge_config(resources);
    let lingering = settings.lingering(resources);
    let later = Arc::new(Mutex::new(connector::<R>(&settings)));
    let mut backend = FirstThen {
        first: None,
        later: Arc::clone(&later),
    };
    if settings.master.required_at_start {
        let master = &settings.master.address;
        info!(address = %master, "waiting for the backend");
        let attempt = within::<R::Timer, _>(config.master.connect_timeout, backend.connect());
        let problem = |error| format!("the backend {master} cannot be reached: {error}");
        let stream = attempt.await.and_then(Stream::pack);
        backend.first = Some(stream.map_err(problem)?);
    }
    // The port is closed until clients are served.
    let listeners = bound.listen(shards.get().into()).map_err(cannot_listen)?;
    let addresses = listeners.first().map(|own| listen::local_addrs(own));
    let addresses = addresses.transpose().map_err(cannot_listen)?;

    // One loop for each shard. With several shards, also one for their trunk and one for the orders.
    let loops = match usize::from(shards.get()) {
        1 => 1,
        several => several + 2,
    };
    let (metrics, mut asked) = Exchange::of(loops);
    let metrics = match &settings.metrics.address {
        None => {
            asked.clear();
            None
        }
        Some(address) => {
            let started = metrics::Server::start(address, metrics);
            Some(started.map_err(|error| format!("cannot serve metrics on {address}: {error}"))?)
        }
    };
    info!(
        descriptors = measured.descriptors,
        max_connections = config.limits.max_connections,
        max_memory_bytes = config.limits.max_memory_bytes,
        shards,
        "limits of the process"
    );
    stop.serves();
    let addresses = addresses.unwrap_or_default();
    let of_metrics: Vec<_> = metrics
        .iter()
        .flat_map(metrics::Server::addresses)
        .collect();
    // Tests and scripts that let the system choose the port read it here.
    for address in &addresses {
        info!(%address, master = %settings.master.address, shards, "listening");
    }
    for address in &of_metrics {
        info!(%address, "metrics");
    }
    let own = [addresses, of_metrics].concat();

    has_started();
    let entrance = Entrance {
        options,
        lingering,
        door,
    };
    let orders = Orders::new(stop, reloads, settings, resources, later);
    let cannot = |error: io::Error| format!("cannot serve: {error}");
    if shards.get() == 1 {
        let edge = Edge::new(config, keys, *random());
        alone::<R>(edge, listeners, entrance, (backend, own), orders, asked)
            .await
            .map_err(cannot)?;
    } else {
        let machines = Trunk::with_shards(&config, &keys, shards, *random());
        shards::serve::<R>(machines, listeners, entrance, (backend, own), orders, asked)
            .await
            .map_err(cannot)?;
    }
    info!("ended");
    Ok(())
}

/// Serves with one machine, on this thread. The backend is at none of its `own` addresses.
async fn alone<R: Runtime>(
    edge: Edge,
    listeners: Vec<Vec<TcpListener>>,
    entrance: Entrance,
    (backend, own): (FirstThen<R::Connector>, Vec<SocketAddr>),
    mut orders: Orders<R>,
    asked: Vec<Asked>,
) -> io::Result<()> {
    let listeners = listeners.into_iter().next().unwrap_or_default();
    let driver = drive::<R, _>(edge, listeners, &entrance, backend)?.refusing(own);
    let mut driver = pin!(driver);
    let handle = driver.handle();
    let mut watch = Watch::new(asked.into_iter().next(), Refusals::default());
    poll_fn(|cx| {
        orders.poll(cx, |order| match order {
            Order::Reconfigure(config) => handle.reconfigure(*config),
            Order::Shutdown(within) => handle.shutdown(within),
        });
        let polled = watch.poll(driver.as_mut(), cx, || Snapshot {
            is_ending: orders.is_ending(),
            log_lines_lost: logging::lost_lines(),
            ..Snapshot::default()
        });
        orders.report(|| handle.poll_done(cx).is_ready());
        polled
    })
    .await;
    Ok(())
}

/// Creates the connector to the backend.
fn connector<R: Runtime>(settings: &Settings) -> R::Connector {
    R::connector(
        settings.master.address.to_string(),
        settings.master_options(),
    )
}

/// Creates the driver of an edge for the clients of `listeners`.
fn drive<R: Runtime, C: Uplink>(
    edge: Edge,
    listeners: Vec<TcpListener>,
    entrance: &Entrance,
    backend: C,
) -> io::Result<EdgeDriver<Listening<R>, C, R::Timer>> {
    let Entrance {
        options,
        lingering,
        door,
    } = entrance;
    let (first, more) = listen::for_runtime::<R>(listeners, *options)?;
    let driver = EdgeDriver::new(edge, door.wrap::<R>(first), backend, R::Timer::default());
    let driver = driver.lingering_at_most(*lingering);
    let more = more.into_iter().map(|listener| door.wrap::<R>(listener));
    Ok(more.fold(driver, EdgeDriver::listening_at))
}

/// How each socket of the listener takes its clients.
#[derive(Clone)]
struct Entrance {
    options: SocketOptions,
    /// The maximum number of connections that linger after their end, for each shard.
    lingering: usize,
    door: doors::Entrance,
}

/// Returns the outcome of `attempt`, or an error if there is none `within` the time.
async fn within<T: Timer + Default, O>(
    within: Duration,
    attempt: impl Future<Output = io::Result<O>>,
) -> io::Result<O> {
    let mut timer = T::default();
    let until = timer.now() + within;
    let mut attempt = pin!(attempt);
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = attempt.as_mut().poll(cx) {
            return Poll::Ready(outcome);
        }
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer in time");
        timer.poll_until(cx, until).map(|()| Err(late()))
    })
    .await
}

/// A connector that was used once before, and that another one can replace.
struct FirstThen<C: Connector> {
    /// The stream that it connected then, in transit to the thread that asks next.
    first: Option<<C::Stream as Stream>::Parcel>,
    later: Arc<Mutex<C>>,
}

impl<C: Connector> Connector for FirstThen<C> {
    type Stream = C::Stream;

    fn connect(&mut self) -> Connect<C::Stream> {
        match self.first.take() {
            Some(parcel) => Box::pin(std::future::ready(Stream::unpack(parcel))),
            None => self
                .later
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .connect(),
        }
    }
}
