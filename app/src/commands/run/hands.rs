//! The process takes the place of another one, or another one takes its place (SPEC 41).

use std::net::SocketAddr;

/// Opens something once the process before has ended.
pub(super) type Later = Box<dyn FnOnce() -> Result<Opened, String> + Send>;

/// A server that was opened later. It is kept until this process ends.
#[cfg_attr(
    not(all(feature = "upgrade", target_os = "linux")),
    expect(dead_code, reason = "nothing is opened later")
)]
pub(super) struct Opened {
    /// The addresses at which it listens.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) kept: Box<dyn std::any::Any + Send>,
}

#[cfg(all(feature = "upgrade", target_os = "linux"))]
mod moved {
    use std::any::Any;
    use std::future::{Future, poll_fn};
    use std::io;
    use std::net::SocketAddr;
    use std::num::NonZeroUsize;
    use std::os::fd::{BorrowedFd, OwnedFd};
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, PoisonError, mpsc};
    use std::task::Context;
    use std::thread;
    use std::time::Instant;

    use tracing::{error, warn};
    use voltlane_core::Time;
    use voltlane_core::edge::trunk::{Downward, Trunk};
    use voltlane_core::edge::{ConnKey, Edge, Moving, Part, Snapshot};
    use voltlane_core::keys::KeyPair;
    use voltlane_driver::{
        Connector, EdgeDriver, Errands, Listener, Runtime, Stream, Timer, TrunkDriver, Uplink,
    };

    use super::{Later, Opened};
    use crate::cli::ConfigArgs;
    use crate::commands::InEffect;
    use crate::commands::random;
    use crate::commands::run::keeping::{SavesBackends, named, saves_backends};
    use crate::commands::run::recorded::LastWrites;
    use crate::commands::run::station::Stations;
    use crate::config::{Listener as ListenerSettings, Settings};
    use crate::dial::Dialer;
    use crate::entry::ReadAgain;
    use crate::runs_file::RunsFile;
    use crate::upgrade::{
        Asked, Giver, Received, Requests, STOPS_WITHIN, Successor, Taking, Terms, give_away,
    };

    /// The places of the loops of all shards, and of the trunks of backends.
    type Shards<L, C, T> = Stations<EdgeDriver<L, C, T>>;
    type Trunks<K, T> = Stations<TrunkDriver<K, T>>;

    /// A process that is taken over, before its machine stops, if one is, and the requests for the next one.
    pub(in crate::commands::run) struct Before(Option<Taking>, Requests);

    impl Before {
        /// Connects to the process that is taken over, if one is.
        pub(in crate::commands::run) fn begin(
            settings: &Settings,
            keys: &KeyPair,
            takes_over: bool,
        ) -> Result<Before, String> {
            let requests = Requests::take().map_err(|error| error.to_string())?;
            if !takes_over {
                return Ok(Before(None, requests));
            }
            let taking = Taking::begin(settings, keys);
            let taking = taking.map_err(|error| format!("no process is taken over: {error}"))?;
            Ok(Before(Some(taking), requests))
        }

        /// Takes its sockets of this listener.
        pub(in crate::commands::run) fn sockets(
            &mut self,
            listener: &ListenerSettings,
        ) -> Vec<std::net::TcpListener> {
            let taking = self.0.as_mut();
            taking.map_or_else(Vec::new, |taking| taking.sockets(listener))
        }

        /// Has it stop, and receives all that is moved.
        pub(in crate::commands::run) fn receive(
            self,
            keys: &KeyPair,
            settings: &Settings,
        ) -> Result<Hands, String> {
            let names = |snapshot| named(snapshot, settings);
            let received = self.0.map(|taking| taking.receive(keys, names)).transpose();
            let received = received.map_err(|error| format!("nothing was taken over: {error}"))?;
            Ok(Hands {
                received,
                link: None,
                giver: Giver::default(),
                requests: Some(self.1),
                keys: keys.clone(),
                kept: Vec::new(),
                last_writes: None,
                halting: None,
                backends: None,
            })
        }
    }

    /// Both hand-overs of this process: the state of the one before, and the giver for the next one.
    pub(in crate::commands::run) struct Hands {
        received: Option<Received>,
        /// The socket of the link, if it came too.
        link: Option<OwnedFd>,
        giver: Giver,
        /// Until the giver has them.
        requests: Option<Requests>,
        keys: KeyPair,
        kept: Vec<Box<dyn Any + Send>>,
        /// The last writes, for which this process waits before it ends for another one.
        last_writes: Option<LastWrites>,
        /// A request that waits until all shards stand still.
        halting: Option<Halting>,
        /// Saves the names and the sessions on their way of several backends. `None` with one backend.
        backends: Option<SavesBackends>,
    }

    /// A request of another process. It waits until all shards and their trunk stand still.
    struct Halting {
        asked: Standing,
        since: Instant,
        /// Ends when they take too long.
        late: Pin<Box<dyn Future<Output = ()> + Send>>,
    }

    enum Standing {
        Listeners(mpsc::Sender<Vec<(usize, OwnedFd)>>),
        GiveAway(Successor),
    }

    /// The connections of the process before. Each machine takes those of its sessions. The rest are closed when the last copy is dropped.
    #[derive(Clone, Default)]
    pub(in crate::commands::run) struct Arrivals(Option<Arc<Arrived>>);

    struct Arrived {
        snapshot: Arc<Snapshot>,
        /// In the order of the snapshot.
        sockets: Mutex<Vec<Option<OwnedFd>>>,
    }

    impl Arrivals {
        /// Has a driver take those of its sessions. Returns their number.
        pub(in crate::commands::run) fn enter<L: Listener, C: Uplink, T: Timer>(
            self,
            driver: &mut EdgeDriver<L, C, T>,
        ) -> io::Result<usize> {
            let Some(arrived) = self.0 else {
                return Ok(0);
            };
            driver.take_over(&arrived.snapshot, |place| {
                let sockets = arrived.sockets.lock();
                let mut sockets = sockets.unwrap_or_else(PoisonError::into_inner);
                sockets.get_mut(place)?.take()
            })
        }
    }

    /// Counts what all shards answer, and tells it with the last answer.
    struct Tally {
        sum: AtomicUsize,
        sender: mpsc::Sender<usize>,
    }

    impl Drop for Tally {
        fn drop(&mut self) {
            // It may not wait any more.
            let _ = self.sender.send(*self.sum.get_mut());
        }
    }

    /// The state with which a process serves in place of another one, and is replaced.
    pub(in crate::commands::run) struct Place {
        keys: KeyPair,
        args: ConfigArgs,
        in_effect: Arc<Mutex<InEffect>>,
        settings: Settings,
        later: Vec<Later>,
    }

    impl Place {
        pub(in crate::commands::run) fn new(
            keys: &KeyPair,
            args: ConfigArgs,
            in_effect: &Arc<Mutex<InEffect>>,
            settings: &Settings,
            later: Vec<Later>,
        ) -> Place {
            Place {
                keys: keys.clone(),
                args,
                in_effect: Arc::clone(in_effect),
                settings: settings.clone(),
                later,
            }
        }
    }

    /// Returns the arguments with which a new process is started.
    pub(in crate::commands::run) fn args_of(again: &ReadAgain) -> ConfigArgs {
        again.args.clone()
    }

    impl Hands {
        /// Has this process wait for that before it ends for another one.
        pub(in crate::commands::run) fn wait_for(&mut self, last_writes: Option<LastWrites>) {
            self.last_writes = last_writes;
        }

        /// Gives the machines, which have no client yet, what came. Returns the link, if it came too.
        pub(in crate::commands::run) fn restore<R: Runtime>(
            &mut self,
            now: Time,
            trunks: &mut [Trunk],
            edges: &mut [Edge],
            settings: &Settings,
        ) -> Result<Option<<<Dialer<R> as Connector>::Stream as Stream>::Parcel>, String> {
            self.backends = edges
                .first()
                .and_then(|edge| saves_backends(edge, settings));
            let Some(moved) = self.received.as_mut().and_then(|it| it.moved.as_mut()) else {
                return Ok(None);
            };
            for edge in edges {
                edge.restore(now, &moved.snapshot);
            }
            for (number, trunk) in trunks.iter_mut().enumerate() {
                match number {
                    0 => trunk.take_over(now, &moved.snapshot),
                    // A link that was moved is that of the only backend there was.
                    _ => trunk.restore(now, &moved.snapshot),
                }
            }
            let Some(socket) = moved.link.take() else {
                return Ok(None);
            };
            self.link = socket.try_clone().ok();
            let stream = <Dialer<R> as Connector>::Stream::from_socket(socket, &[]);
            let packed = stream.and_then(Stream::pack);
            let packed =
                packed.map_err(|error| format!("the link cannot be taken over: {error}"))?;
            Ok(Some(packed))
        }

        /// Returns the connections that came, to be taken by each machine.
        pub(in crate::commands::run) fn arrivals(&mut self) -> Arrivals {
            let moved = self.received.as_mut().and_then(|it| it.moved.as_mut());
            Arrivals(moved.map(|moved| {
                let sockets = std::mem::take(&mut moved.clients);
                Arc::new(Arrived {
                    snapshot: Arc::clone(&moved.snapshot),
                    sockets: Mutex::new(sockets.into_iter().map(Some).collect()),
                })
            }))
        }

        /// Ends the process before, of which so many connections were taken, and opens what only one process can have. `refuse` is told the
        /// addresses at which no backend can be. Nothing was read or written yet.
        pub(in crate::commands::run) fn begin(
            &mut self,
            connections: usize,
            (run, errands): &([u8; 8], impl AsRef<[Errands]>),
            mut refuse: impl FnMut(Vec<SocketAddr>),
            place: Place,
        ) -> io::Result<()> {
            let takes_over = self.received.is_some();
            let received = self.received.take();
            let passed = received.map(|received| received.took(connections));
            let passed = passed.transpose().map_err(io::Error::other)?;
            if let Some(link) = self.link.take() {
                // The process before has taken one of them off, to watch the link itself. A Unix socket has none.
                let _ = place.settings.master_options().apply_to(&link);
            }
            let Place {
                keys,
                args,
                in_effect,
                settings,
                later,
            } = place;
            // An address that cannot be opened now stays closed, and is logged. The clients matter more.
            for open in later {
                match open() {
                    Ok(Opened { addresses, kept }) => {
                        refuse(addresses);
                        self.kept.push(kept);
                    }
                    Err(problem) => error!("{problem}"),
                }
            }
            if takes_over {
                self.enter_run(&settings, *run, errands.as_ref());
            }
            let terms = Terms {
                keys,
                args,
                in_effect,
            };
            let path = settings.general.upgrade_socket.as_deref();
            let Some(requests) = self.requests.take() else {
                return Ok(());
            };
            match Giver::start(path, passed, terms, requests) {
                Ok(giver) => self.giver = giver,
                Err(error) if takes_over => error!(%error, "no process can take over"),
                Err(error) => return Err(io::Error::other(error)),
            }
            Ok(())
        }

        /// Takes the file of runs, which the process before had until now.
        fn enter_run(&mut self, settings: &Settings, run: [u8; 8], errands: &[Errands]) {
            let Some(key_file) = settings.general.key_file.as_deref() else {
                return;
            };
            match RunsFile::open(key_file) {
                Ok(mut runs) => {
                    for errands in errands {
                        let earlier = runs.earlier().to_vec();
                        let told = errands.send(move |edge, _| edge.set_earlier_runs(&earlier));
                        debug_assert!(told, "it is the first errand");
                    }
                    // It is there already, unless the process before gave no sessions.
                    if let Err(error) = runs.add(run) {
                        super::super::warn_of_runs(&error);
                    }
                    self.kept.push(Box::new(runs));
                }
                Err(error) => super::super::warn_of_runs(&error),
            }
        }

        /// Does what another process asks of one machine. Does not return if that takes over.
        pub(in crate::commands::run) fn poll<L: Listener, C: Uplink, T: Timer>(
            &mut self,
            cx: &mut Context<'_>,
            driver: &mut EdgeDriver<L, C, T>,
            is_ending: bool,
        ) {
            while let Some(asked) = self.giver.poll(cx) {
                match asked {
                    Asked::Listeners(sender) => {
                        // It may not wait any more.
                        let _ = sender.send(listening(&[driver]));
                    }
                    Asked::HalfOpen(sender) => {
                        let _ = sender.send(driver.edge().gauges().half_open);
                    }
                    Asked::GiveAway(_) if is_ending => warn_of_end(),
                    Asked::GiveAway(successor) => {
                        let writes = &mut self.last_writes;
                        give(
                            successor,
                            (&self.keys, writes),
                            Instant::now(),
                            None,
                            &mut [driver],
                        );
                    }
                }
            }
        }

        /// Does what another process asks of several shards and their trunk, which stand still meanwhile. Does not return if that takes over.
        pub(in crate::commands::run) fn poll_several<L, C, T, K>(
            &mut self,
            cx: &mut Context<'_>,
            shards: &Shards<L, C, T>,
            trunk: &Trunks<K, T>,
            errands: &[Errands],
            is_ending: bool,
        ) where
            L: Listener,
            C: Uplink,
            T: Timer + Default,
            K: Connector,
        {
            loop {
                if let Some(halting) = &mut self.halting {
                    let stand =
                        shards.poll_halted(cx).is_ready() && trunk.poll_halted(cx).is_ready();
                    if !stand && halting.late.as_mut().poll(cx).is_pending() {
                        return;
                    }
                    if let Some(Halting { asked, since, .. }) = self.halting.take() {
                        match stand {
                            true => self.stands(asked, since, (shards, trunk), is_ending),
                            false => asked.fail(),
                        }
                    }
                    shards.run();
                    trunk.run();
                }
                let asked = match self.giver.poll(cx) {
                    None => return,
                    Some(Asked::HalfOpen(sender)) => {
                        let sum = AtomicUsize::new(0);
                        let tally = Arc::new(Tally { sum, sender });
                        for errands in errands {
                            let tally = Arc::clone(&tally);
                            let _is_sent = errands.send(move |edge, _| {
                                let half_open = edge.gauges().half_open;
                                tally.sum.fetch_add(half_open, Ordering::Relaxed);
                            });
                        }
                        continue;
                    }
                    // Loops that have ended do not stand still any more. Whoever waits is told by the end of it.
                    Some(Asked::Listeners(_) | Asked::GiveAway(_)) if is_ending => {
                        warn_of_end();
                        continue;
                    }
                    Some(Asked::Listeners(sender)) => Standing::Listeners(sender),
                    Some(Asked::GiveAway(successor)) => Standing::GiveAway(successor),
                };
                let mut timer = T::default();
                let until = timer.now() + STOPS_WITHIN;
                self.halting = Some(Halting {
                    asked,
                    since: Instant::now(),
                    late: Box::pin(poll_fn(move |cx| timer.poll_until(cx, until))),
                });
                shards.halt();
                trunk.halt();
            }
        }

        /// Does what was asked, as all stand still.
        fn stands<L, C, T, K>(
            &mut self,
            asked: Standing,
            since: Instant,
            (shards, trunk): (&Shards<L, C, T>, &Trunks<K, T>),
            is_ending: bool,
        ) where
            L: Listener,
            C: Uplink,
            T: Timer,
            K: Connector,
        {
            let mut drivers = shards.take();
            match asked {
                Standing::Listeners(sender) => {
                    let drivers: Vec<_> = drivers.iter().map(|driver| &**driver).collect();
                    let _ = sender.send(listening(&drivers));
                }
                Standing::GiveAway(_) if is_ending => warn_of_end(),
                Standing::GiveAway(successor) => {
                    let mut trunks = trunk.take();
                    let mut drivers: Vec<_> =
                        drivers.iter_mut().map(|driver| &mut **driver).collect();
                    let backends = self.backends.as_ref().map(|save| save());
                    let of_trunks = as_saved(backends, &mut trunks);
                    give(
                        successor,
                        (&self.keys, &mut self.last_writes),
                        since,
                        Some(of_trunks),
                        &mut drivers,
                    );
                    trunk.put_back(trunks);
                }
            }
            shards.put_back(drivers);
        }
    }

    impl Standing {
        /// Says that the shards do not stand still.
        fn fail(self) {
            match self {
                // Whoever waits is told by the end of it.
                Standing::Listeners(_) => warn!("a shard does not stand still"),
                Standing::GiveAway(successor) => successor.dismiss("a shard does not stand still"),
            }
        }
    }

    fn warn_of_end() {
        warn!("a new process cannot take over: this one is ending");
    }

    /// Returns copies of the sockets of all listeners, with their numbers.
    fn listening<L: Listener, C: Uplink, T: Timer>(
        drivers: &[&EdgeDriver<L, C, T>],
    ) -> Vec<(usize, OwnedFd)> {
        let sockets = drivers.iter().flat_map(|driver| driver.listening());
        let owned = sockets
            .filter_map(|(number, socket)| Some((number, socket.try_clone_to_owned().ok()?)));
        owned.collect()
    }

    /// The saved state of the trunks, and the socket of the link if that moves too.
    struct OfTrunks<'a> {
        parts: Vec<Part>,
        down: Vec<Vec<Downward>>,
        socket: Option<BorrowedFd<'a>>,
    }

    /// Saves the trunks, of which there are several if there is a part of their `backends`: no link moves then (SPEC 41.1(e)).
    fn as_saved<K: Connector, T: Timer>(
        backends: Option<Part>,
        trunks: &mut [Box<TrunkDriver<K, T>>],
    ) -> OfTrunks<'_> {
        let moves_link = backends.is_none();
        let (mut parts, mut down): (Vec<Part>, Vec<Vec<Downward>>) = Default::default();
        let mut socket = None;
        for trunk in trunks {
            let moving = trunk.save_moving(moves_link);
            parts.extend(moving.parts);
            down.extend(moving.down);
            socket = trunk.socket().filter(|_| moving.link);
        }
        parts.extend(backends);
        OfTrunks {
            parts,
            down,
            socket,
        }
    }

    /// Gives everything to `successor`, while nothing else is done since `stopped`. Does not return if that takes over. Otherwise nothing
    /// has changed.
    fn give<L: Listener, C: Uplink, T: Timer>(
        successor: Successor,
        (keys, last_writes): (&KeyPair, &mut Option<LastWrites>),
        stopped: Instant,
        trunks: Option<OfTrunks<'_>>,
        drivers: &mut [&mut EdgeDriver<L, C, T>],
    ) {
        let run = drivers.first().map_or([0; 8], |driver| driver.edge().run());
        let (mut parts, down, link) = match trunks {
            Some(trunks) => (trunks.parts, trunks.down, trunks.socket),
            None => (Vec::new(), vec![Vec::new()], None),
        };
        let moving = match save_all(drivers, &down) {
            Ok(moving) => moving,
            Err(error) => return successor.dismiss(&format!("a thread: {error}")),
        };
        let mut moved: Vec<(Vec<ConnKey>, bool)> = Vec::new();
        for Moving {
            parts: own,
            connections,
            link: has_link,
            ..
        } in moving
        {
            parts.extend(own);
            moved.push((connections, has_link));
        }
        let sockets = drivers.iter().zip(&moved);
        let sockets =
            sockets.flat_map(|(driver, (connections, link))| driver.sockets(connections, *link));
        let sockets: Vec<BorrowedFd<'_>> = link.into_iter().chain(sockets).collect();
        let sealing = (run, keys, *random());
        let taken = give_away(successor, sealing, (&parts, stopped), &sockets);
        drop(sockets);
        if let Some(taken) = taken {
            let mut connections = 0;
            for (driver, (moved, _)) in drivers.iter_mut().zip(&moved) {
                #[cfg(feature = "record")]
                driver.end_recording();
                driver.close_all_but(moved);
                connections += moved.len();
            }
            if let Some(wait) = last_writes.take() {
                wait();
            }
            taken.end(connections);
        }
    }

    /// Saves all machines, on as many threads as there are processors: nobody is served meanwhile.
    fn save_all<L: Listener, C: Uplink, T: Timer>(
        drivers: &mut [&mut EdgeDriver<L, C, T>],
        down: &[Vec<Downward>],
    ) -> io::Result<Vec<Moving>> {
        let save = |(driver, down): (&mut &mut EdgeDriver<L, C, T>, &Vec<Downward>)| {
            driver.save_moving(down)
        };
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let each = drivers.len().div_ceil(processors).max(1);
        thread::scope(|scope| {
            let mut parts = drivers.chunks_mut(each).zip(down.chunks(each));
            let first = parts.next();
            let others = parts.map(|(drivers, down)| {
                let save_part = move || drivers.iter_mut().zip(down).map(save).collect::<Vec<_>>();
                thread::Builder::new().spawn_scoped(scope, save_part)
            });
            let others = others.collect::<io::Result<Vec<_>>>()?;
            let first = first.map(|(drivers, down)| drivers.iter_mut().zip(down).map(save));
            let mut saved: Vec<Moving> = first.into_iter().flatten().collect();
            for other in others {
                let other = other.join();
                saved.extend(other.map_err(|_| io::Error::other("saving has failed"))?);
            }
            Ok(saved)
        })
    }
}

#[cfg(not(all(feature = "upgrade", target_os = "linux")))]
mod moved {
    use std::net::SocketAddr;
    use std::sync::{Arc, Mutex};
    use std::task::Context;

    use voltlane_core::Time;
    use voltlane_core::edge::Edge;
    use voltlane_core::edge::trunk::Trunk;
    use voltlane_core::keys::KeyPair;
    use voltlane_driver::{
        Connector, EdgeDriver, Errands, Listener, Runtime, Stream, Timer, TrunkDriver, Uplink,
    };

    use super::Later;
    use crate::commands::run::InEffect;
    use crate::commands::run::station::Stations;
    use crate::config::{Listener as ListenerSettings, Settings};
    use crate::dial::Dialer;
    use crate::entry::ReadAgain;

    type Shards<L, C, T> = Stations<EdgeDriver<L, C, T>>;
    type Trunks<K, T> = Stations<TrunkDriver<K, T>>;

    pub(in crate::commands::run) struct Before;

    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as if processes could be taken over"
    )]
    impl Before {
        pub(in crate::commands::run) fn begin(
            _: &Settings,
            _: &KeyPair,
            _: bool,
        ) -> Result<Before, String> {
            Ok(Before)
        }

        pub(in crate::commands::run) fn sockets(
            &mut self,
            _: &ListenerSettings,
        ) -> Vec<std::net::TcpListener> {
            Vec::new()
        }

        pub(in crate::commands::run) fn receive(
            self,
            _: &KeyPair,
            _: &Settings,
        ) -> Result<Hands, String> {
            Ok(Hands)
        }
    }

    pub(in crate::commands::run) struct Hands;

    #[derive(Clone)]
    pub(in crate::commands::run) struct Arrivals;

    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as if processes could be taken over"
    )]
    impl Arrivals {
        pub(in crate::commands::run) fn enter<L: Listener, C: Uplink, T: Timer>(
            self,
            _: &mut EdgeDriver<L, C, T>,
        ) -> std::io::Result<usize> {
            Ok(0)
        }
    }

    pub(in crate::commands::run) struct Place;

    /// No other process is started.
    pub(in crate::commands::run) struct NotStarted;

    impl Place {
        pub(in crate::commands::run) fn new(
            _: &KeyPair,
            _: NotStarted,
            _: &Arc<Mutex<InEffect>>,
            _: &Settings,
            _: Vec<Later>,
        ) -> Place {
            Place
        }
    }

    pub(in crate::commands::run) fn args_of(_: &ReadAgain) -> NotStarted {
        NotStarted
    }

    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "as if processes could be taken over"
    )]
    impl Hands {
        pub(in crate::commands::run) fn restore<R: Runtime>(
            &mut self,
            _: Time,
            _: &mut [Trunk],
            _: &mut [Edge],
            _: &Settings,
        ) -> Result<Option<<<Dialer<R> as Connector>::Stream as Stream>::Parcel>, String> {
            Ok(None)
        }

        pub(in crate::commands::run) fn wait_for(
            &mut self,
            _: Option<crate::commands::run::recorded::LastWrites>,
        ) {
        }

        pub(in crate::commands::run) fn arrivals(&mut self) -> Arrivals {
            Arrivals
        }

        pub(in crate::commands::run) fn begin(
            &mut self,
            _: usize,
            _: &([u8; 8], impl AsRef<[Errands]>),
            _: impl FnMut(Vec<SocketAddr>),
            _: Place,
        ) -> std::io::Result<()> {
            Ok(())
        }

        pub(in crate::commands::run) fn poll_several<L, C, T, K>(
            &mut self,
            _: &mut Context<'_>,
            _: &Shards<L, C, T>,
            _: &Trunks<K, T>,
            _: &[Errands],
            _: bool,
        ) where
            L: Listener,
            C: Uplink,
            T: Timer,
            K: Connector,
        {
        }

        pub(in crate::commands::run) fn poll<L: Listener, C: Uplink, T: Timer>(
            &mut self,
            _: &mut Context<'_>,
            _: &mut EdgeDriver<L, C, T>,
            _: bool,
        ) {
        }
    }
}

pub(super) use moved::{Arrivals, Before, Hands, Place, args_of};
