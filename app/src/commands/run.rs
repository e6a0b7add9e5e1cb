//! `run`: the server.

mod hands;
mod home;
mod keeping;
mod orders;
mod recorded;
mod shards;
mod station;
mod watch;

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tracing::{error, info, warn};
use voltlane_core::edge::trunk::Trunk;
use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;
use voltlane_driver::{
    Connect, Connector, EdgeDriver, EdgeHandle, Errands, Openings, Runtime, Stream, Timer, Uplink,
};

use self::hands::{Before, Hands, Later, Opened, Place, args_of};
use self::home::Home;
use self::keeping::Keeping;
pub(crate) use self::orders::InEffect;
use self::orders::{Order, Orders};
use self::recorded::Recorded;
use self::watch::Watch;
use super::{make_key, random, reload, signals};
use crate::accepts::Accepts;
#[cfg(feature = "admin")]
use crate::admin::{AdminServer, Desk};
use crate::config::{Settings, link_secret};
use crate::config_reads;
use crate::dial::{self, Dialer, dialer};
use crate::edge_name;
use crate::entry::ReadAgain;
use crate::file_errors;
use crate::http::Server;
use crate::key_file::{READABLE_BY_GROUP, load_or_make_key, mode_for_group};
use crate::listeners::{Bound, Entrance, Listeners, Listening, Opening, OwnSocket, Sockets};
use crate::logging;
use crate::memory::{has_started, keep_heap_small};
use crate::metrics::{self, Asked, Exchange, Snapshot};
use crate::refusals::Refusals;
use crate::runs_file::{RunsFile, RunsFileError};
use crate::supervisor::Supervisor;

use crate::Resources;

/// Serves until SIGINT or SIGTERM; before it serves, either ends it at once. `again` tells how SIGHUP reads the configuration again.
/// `takes_over`: it takes the place of the process at `general.upgrade_socket`.
pub(super) fn run<R: Runtime>(settings: Settings, again: ReadAgain, takes_over: bool) -> ExitCode {
    keep_heap_small();
    let served = R::block_on(serve::<R>(settings, again, takes_over))
        .unwrap_or_else(|error| Err(format!("the runtime cannot start: {error}")));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn serve<R: Runtime>(
    settings: Settings,
    again: ReadAgain,
    takes_over: bool,
) -> Result<(), String> {
    let takes_over = takes_over && cfg!(all(feature = "upgrade", target_os = "linux"));
    config_reads::note(false);
    edge_name::note(&settings);
    let unhandled = |error| format!("signals cannot be handled: {error}");
    let stop = signals::stop().map_err(unhandled)?;
    let mut listeners = Listeners::open(&settings)?;
    dial::check(&settings)?;
    let secret = link_secret::read(Path::new("."), &settings.master);
    let secret = secret.map_err(|error| error.to_string())?;
    let keys = load_or_make_key(settings.general.key_file.as_deref(), make_key)
        .map_err(|error| error.to_string())?;
    if let Some(path) = &settings.general.key_file
        && let Some(mode) = mode_for_group(path)
    {
        warn!(path = %path.display(), mode = %format_args!("{mode:04o}"), "{READABLE_BY_GROUP}");
    }
    let measured = Resources::raise_and_measure();

    let (shards, each) = (settings.shards(), settings.shards_of_each());
    // Bound before the backend is dialled: an edge that cannot listen must not take the backend from the one that does.
    let mut before = Before::begin(&settings, &keys, takes_over)?;
    let bound = listeners.bind(|listener| before.sockets(listener))?;
    let args = args_of(&again);
    let accepts = listeners.accepts();
    // One loop for each shard. With several shards, also one for the trunk of each backend and one for the orders.
    let loops = match usize::from(shards.get()) {
        1 => 1,
        several => several + 1 + settings.backends().len(),
    };
    let (metrics, mut asked) = Exchange::of(loops);
    let is_asked = settings.metrics_address().is_some() || settings.admin.address.is_some();
    let is_asked = is_asked || Home::is_leased(&settings);
    if !is_asked && !Supervisor::is_there() {
        asked.clear();
    }
    let cannot_tell = |error| format!("the service manager cannot be told of the start: {error}");
    let supervisor = Supervisor::start(metrics.clone()).map_err(cannot_tell)?;
    let reloads = reload::on_hangup(
        again.clone(),
        (settings.clone(), secret.clone()),
        listeners,
        (stop.asker(), supervisor.clone()),
    )
    .map_err(unhandled)?;
    let addresses = bound.iter().map(Bound::len).sum();
    let resources = settings.left(measured, addresses);
    let mut config = settings.edge_config(resources);
    config.master.secret = secret;
    let lingering = settings.lingering(resources);
    let later = settings.backends().iter();
    let later = later.map(|backend| Arc::new(Mutex::new(dialer::<R>(&settings, backend))));
    let later: Vec<_> = later.collect();
    let backends = later.iter().map(|later| FirstThen {
        first: None,
        later: Arc::clone(later),
    });
    let mut backends: Vec<_> = backends.collect();
    let master = settings.backends().iter().map(ToString::to_string);
    let master = master.collect::<Vec<_>>().join(", ");
    // Taken before the backend is dialled, for the same reason.
    if Home::is_leased(&settings) {
        supervisor.waits("waiting for the home of this edge (cluster.home)");
    }
    if !takes_over {
        home::wait_for_a_new_term(
            settings
                .general
                .key_file
                .as_deref()
                .and_then(RunsFile::last_began),
        );
    }
    let home = Home::take(&settings)?;
    let exchange = metrics.clone();
    if settings.master.required_at_start && !takes_over {
        info!(address = %master, "waiting for the backend");
        // One of several is enough, as it is for the readiness (SPEC 45.4(d)).
        let mut problem = Ok(());
        for (backend, place) in backends.iter_mut().zip(settings.backends()) {
            let attempt = within::<R::Timer, _>(config.master.connect_timeout, backend.connect());
            problem = match attempt.await.and_then(Stream::pack) {
                Ok(stream) => {
                    backend.first = Some(stream);
                    Ok(())
                }
                Err(error) => Err(format!("the backend {place} cannot be reached: {error}")),
            };
            if problem.is_ok() {
                break;
            }
        }
        problem?;
    }
    // The port is closed until clients are served.
    let openings = bound.into_iter();
    let openings = openings.map(|bound| bound.listen(shards.get().into()));
    let openings = openings.collect::<Result<Vec<_>, _>>()?;

    let in_effect = Arc::new(Mutex::new(InEffect::new(settings.clone())));
    // The process that is taken over has their addresses until it ends.
    let mut opened_later: Vec<Later> = Vec::new();
    #[cfg(feature = "admin")]
    let desk = Desk::new(metrics.clone(), Arc::clone(&in_effect));
    #[cfg(all(feature = "admin", feature = "engine"))]
    if let Some(sharing) = home.sharing(&settings) {
        desk.shares(sharing);
    }
    #[cfg(feature = "admin")]
    let admin = match takes_over {
        false => open_desk(&settings, &desk)?,
        true => {
            let (settings, desk) = (settings.clone(), desk.clone());
            opened_later.push(Box::new(move || {
                let opened = open_desk(&settings, &desk)?;
                let places = opened.iter().flat_map(AdminServer::places);
                places.for_each(|place| info!(address = %place, "admin"));
                let addresses = opened.iter().flat_map(AdminServer::addresses);
                Ok(Opened {
                    addresses: addresses.copied().collect(),
                    kept: Box::new(opened),
                })
            }));
            None
        }
    };
    let metrics = match takes_over {
        false => open_metrics(&settings, metrics)?,
        true => {
            let settings = settings.clone();
            opened_later.push(Box::new(move || {
                let opened = open_metrics(&settings, metrics)?;
                let addresses = opened.iter().flat_map(Server::addresses);
                let addresses: Vec<SocketAddr> = addresses.collect();
                for address in &addresses {
                    info!(%address, "metrics");
                }
                Ok(Opened {
                    addresses,
                    kept: Box::new(opened),
                })
            }));
            None
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
    let of_metrics: Vec<_> = metrics.iter().flat_map(Server::addresses).collect();
    // Tests and scripts that let the system choose the port read it here.
    let mut own = of_metrics.clone();
    #[cfg(feature = "admin")]
    own.extend(admin.iter().flat_map(AdminServer::addresses));
    for opening in &openings {
        let listener = opening.name();
        let places = opening.places().map_err(|error| error.to_string())?;
        for address in places {
            info!(%address, %master, shards, %listener, "listening");
        }
        own.extend(opening.addresses().unwrap_or_default());
    }
    for address in &of_metrics {
        info!(%address, "metrics");
    }
    #[cfg(feature = "admin")]
    for place in admin.iter().flat_map(AdminServer::places) {
        info!(address = %place, "admin");
    }
    supervisor.serves();

    let mut sockets: Vec<Sockets> = (0..shards.get()).map(|_| Sockets::new()).collect();
    for opening in openings {
        opening.distribute(&mut sockets);
    }
    let entrances = Entrances {
        sockets,
        lingering,
        accepts,
    };
    let mut recorded = Recorded::begin(&again, &settings, &keys)?;
    let mut runs = match takes_over {
        false => earlier_runs(settings.general.key_file.as_deref()),
        // The process that is taken over has the file until it ends.
        true => None,
    };
    let keeping = Keeping::begin(&settings, &keys, runs.as_ref(), takes_over);
    let configured = settings.clone();
    let place = Place::new(&keys, args, &in_effect, &settings, opened_later);
    let orders = Orders::new(
        (stop, reloads),
        (settings, in_effect),
        measured,
        later,
        (supervisor, home.clone()),
    );
    #[cfg(feature = "admin")]
    let has_admin = configured.admin.address.is_some();
    let serves = move |_errands: Vec<Errands>| {
        #[cfg(feature = "admin")]
        {
            desk.serves(_errands);
            // The admin interface begins once it has read its file of bans.
            if !has_admin {
                desk.begin_sharing(Vec::new());
            }
        }
    };
    let cannot = |error: io::Error| format!("cannot serve: {error}");
    let run;
    let mut hands = before.receive(&keys, &configured)?;
    if shards.get() == 1 {
        let seed = random();
        let mut edge = Edge::new(config, keys.clone(), *seed);
        recorded.record(&mut edge, &seed)?;
        hands.wait_for(recorded.last_writes());
        edge.set_term(home.term());
        let now = R::Timer::default().now();
        let edges = std::slice::from_mut(&mut edge);
        keeping.restore(now, &mut [], edges, &configured);
        let Some(mut backend) = backends.pop() else {
            return Err("there is no backend".to_owned());
        };
        if let Some(link) = hands.restore::<R>(now, &mut [], edges, &configured)? {
            backend.first = Some(link);
        }
        run = edge.run();
        home.serves(run, exchange);
        enter_run(runs.as_mut(), std::slice::from_mut(&mut edge));
        let links = (backend, own);
        let hands = (hands, place);
        alone::<R>(
            edge,
            entrances,
            links,
            orders,
            (asked, serves),
            (&keeping, hands),
        )
        .await
        .map_err(cannot)?;
    } else {
        let now = R::Timer::default().now();
        let mut machines = machines_of(&config, &keys, each, *random());
        let term = home.term();
        machines.1.iter_mut().for_each(|edge| edge.set_term(term));
        let (trunks, edges) = (&mut machines.0, &mut machines.1);
        keeping.restore(now, trunks, edges, &configured);
        if let Some(link) = hands.restore::<R>(now, trunks, edges, &configured)?
            && let Some(backend) = backends.first_mut()
        {
            backend.first = Some(link);
        }
        #[cfg(feature = "cluster")]
        if let Some(first) = machines.1.first() {
            machines
                .0
                .iter_mut()
                .for_each(|trunk| trunk.set_name(first));
        }
        run = machines.1.first().map_or([0; 8], Edge::run);
        home.serves(run, exchange);
        enter_run(runs.as_mut(), &mut machines.1);
        let links = (backends, own);
        shards::serve::<R>(
            machines,
            entrances,
            links,
            orders,
            (asked, serves),
            (&keeping, (hands, place)),
        )
        .await
        .map_err(cannot)?;
    }
    recorded.finish();
    home.check()?;
    keeping.end(run)?;
    home.end();
    info!("ended");
    Ok(())
}

/// Creates the shards and the trunk of each backend, each of which has this many shards.
fn machines_of(
    config: &EdgeConfig,
    keys: &KeyPair,
    each: NonZeroU8,
    seed: [u8; 32],
) -> (Vec<Trunk>, Vec<Edge>) {
    #[cfg(feature = "backends")]
    return Trunk::with_backends(config, keys, each, seed);
    #[cfg(not(feature = "backends"))]
    {
        let (trunk, edges) = Trunk::with_shards(config, keys, each, seed);
        (vec![trunk], edges)
    }
}

/// Opens the admin interface, if there is to be one.
#[cfg(feature = "admin")]
fn open_desk(settings: &Settings, desk: &Desk) -> Result<Option<AdminServer>, String> {
    let Some(place) = &settings.admin.address else {
        return Ok(None);
    };
    let server = AdminServer::start(&settings.admin, place, desk.clone());
    let server = server.map_err(|error| format!("no admin interface at {place}: {error}"))?;
    Ok(Some(server))
}

/// Opens the page of metrics, if there is to be one.
fn open_metrics(settings: &Settings, metrics: Exchange) -> Result<Option<Server>, String> {
    let Some(address) = settings.metrics_address() else {
        return Ok(None);
    };
    match metrics::serve(&address, metrics) {
        Ok(started) => Ok(Some(started)),
        Err(error) if settings.metrics_give_way() => {
            warn!(%address, %error, "no metrics and no answers to health checks: their usual address cannot be had; set metrics.address");
            Ok(None)
        }
        Err(error) => Err(format!("cannot serve metrics on {address}: {error}")),
    }
}

/// Returns the runs of the edge with this key file, if they can be kept. Without one the key is new at every start, and no client looks for
/// an earlier run.
fn earlier_runs(key_file: Option<&Path>) -> Option<RunsFile> {
    RunsFile::open(key_file?).inspect_err(warn_of_runs).ok()
}

/// Gives the edge its earlier runs, and writes this one before there is a client of it. (SPEC 23.2(f))
fn enter_run(runs: Option<&mut RunsFile>, shards: &mut [Edge]) {
    let Some(runs) = runs else { return };
    for edge in shards.iter_mut() {
        edge.set_earlier_runs(runs.earlier());
    }
    if let Some(Err(error)) = shards.first().map(|first| runs.add(first.run())) {
        warn_of_runs(&error);
    }
}

fn warn_of_runs(error: &RunsFileError) {
    file_errors::count(file_errors::Kept::Runs);
    warn!(%error, "runs of this edge are not kept: after a restart, clients of version 3 look for another edge until their sessions expire");
}

/// Serves with one machine, on this thread. The backend is at none of its `own` addresses.
async fn alone<R: Runtime>(
    edge: Edge,
    entrances: Entrances,
    (backend, own): (FirstThen<Dialer<R>>, Vec<SocketAddr>),
    mut orders: Orders<R>,
    (asked, serves): (Vec<Asked>, impl FnOnce(Vec<Errands>)),
    (keeping, (mut hands, place)): (&Keeping, (Hands, Place)),
) -> io::Result<()> {
    let Entrances {
        sockets,
        lingering,
        accepts,
    } = entrances;
    let is_recorded = watch::is_recorded(&edge);
    let sockets = sockets.into_iter().next().unwrap_or_default();
    let driver = drive::<R, _>(edge, sockets, lingering, backend)?.refusing(own);
    let mut driver = pin!(driver);
    let handle = driver.handle();
    let connections = hands.arrivals().enter(driver.as_mut().get_mut())?;
    let ours = (driver.edge().run(), [driver.errands()]);
    hands.begin(connections, &ours, |own| handle.refuse(own), place)?;
    let openings = [driver.openings()];
    serves(vec![driver.errands()]);
    has_started();
    let mut watch = Watch::new(asked.into_iter().next(), Refusals::default());
    watch.expects_recording(is_recorded);
    poll_fn(|cx| {
        orders.poll(cx, |order| match order {
            Order::Reconfigure(config) => handle.reconfigure(*config),
            Order::Listen(opening, from) => {
                handle.refuse(listen_at::<R>(opening, from, &openings));
            }
            Order::Unlisten(number) => openings.iter().for_each(|shard| shard.close(number)),
            Order::Leave(within) => handle.leave(within),
            Order::Shutdown(within) => handle.shutdown(within),
        });
        let is_ending = orders.is_ending();
        hands.poll(cx, driver.as_mut().get_mut(), is_ending);
        let polled = watch.poll(driver.as_mut(), cx, || Snapshot {
            is_ending: orders.is_ending(),
            note: orders.note(),
            log_lines_lost: logging::lost_lines(),
            file_errors: file_errors::counts(),
            config_read: config_reads::last(),
            shared_bans: metrics::shared_bans(),
            accepts: accepts.counts(),
            expiries: accepts.expiries(),
            list_expiries: accepts.list_expiries(),
            handshakes: accepts.handshakes(),
            refusals: accepts.refusals(),
            ..Snapshot::default()
        });
        orders.report(|| handle.poll_done(cx).is_ready());
        polled
    })
    .await;
    let driver = driver.get_mut();
    keeping.add(|| driver.save());
    #[cfg(feature = "record")]
    driver.end_recording();
    Ok(())
}

/// Creates the driver of an edge for the clients of `sockets`.
fn drive<R: Runtime, C: Uplink>(
    edge: Edge,
    sockets: Sockets,
    lingering: usize,
    backend: C,
) -> io::Result<EdgeDriver<Listening<R>, C, R::Timer>> {
    let mut listeners = sockets
        .into_iter()
        .map(|(entrance, socket)| entrance.listen::<R>(socket));
    let first = listeners.next();
    let first = first.ok_or_else(|| io::Error::other("no listener"))?;
    let driver = EdgeDriver::new(edge, first?, backend, R::Timer::default());
    let mut driver = driver.lingering_at_most(lingering);
    for listener in listeners {
        driver = driver.listening_at(listener?);
    }
    Ok(driver)
}

/// Gives each of the `shards` its sockets of a new listener, or of one that moves from this number. Returns the addresses.
fn listen_at<R: Runtime>(
    opening: Opening,
    from: Option<usize>,
    shards: &[Openings<Listening<R>>],
) -> Vec<SocketAddr> {
    let addresses = opening.addresses().unwrap_or_default();
    for address in opening.places().unwrap_or_default() {
        info!(%address, listener = %opening.name(), "listening");
    }
    let mut sockets: Vec<Sockets> = shards.iter().map(|_| Sockets::new()).collect();
    opening.distribute(&mut sockets);
    for (shard, sockets) in shards.iter().zip(sockets) {
        let listen = |(entrance, socket): (Entrance, OwnSocket)| entrance.listen::<R>(socket);
        match from {
            Some(number) => {
                shard.replace(number, move || sockets.into_iter().map(listen).collect());
            }
            None => {
                for own in sockets {
                    shard.open(move || listen(own));
                }
            }
        }
    }
    addresses
}

/// The listening sockets for clients.
struct Entrances {
    /// The sockets of each shard.
    sockets: Vec<Sockets>,
    /// The maximum number of connections that linger after their end, for each shard.
    lingering: usize,
    accepts: Accepts,
}

/// A shard as the main loop sees it.
struct Controls<R: Runtime> {
    number: u8,
    handle: EdgeHandle,
    openings: Openings<Listening<R>>,
    errands: Errands,
    /// The connections of the process before that it has taken.
    taken: usize,
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
    /// The stream of that use, in transit to the thread that asks next.
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
