//! The process takes the place of another one, or another one takes its place (SPEC 41).

/// Opens something once the process before has ended. The result is kept until this process ends.
pub(super) type Later = Box<dyn FnOnce() -> Result<Box<dyn std::any::Any + Send>, String> + Send>;

#[cfg(all(feature = "upgrade", target_os = "linux"))]
mod moved {
    use std::any::Any;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::sync::{Arc, Mutex};
    use std::task::Context;
    use std::time::Instant;

    use tracing::{error, warn};
    use voltlane_core::Time;
    use voltlane_core::edge::Edge;
    use voltlane_core::keys::KeyPair;
    use voltlane_driver::{Connector, EdgeDriver, Listener, Runtime, Stream, Timer, Uplink};

    use super::Later;
    use crate::cli::ConfigArgs;
    use crate::commands::InEffect;
    use crate::commands::random;
    use crate::config::{Listener as ListenerSettings, Settings};
    use crate::dial::Dialer;
    use crate::entry::ReadAgain;
    use crate::runs_file::RunsFile;
    use crate::upgrade::{Asked, Giver, Received, Taking, Terms, give_away};

    /// A process that is taken over, before its machine stops.
    pub(in crate::commands::run) struct Before(Option<Taking>);

    impl Before {
        /// Connects to the process that is taken over, if one is.
        pub(in crate::commands::run) fn begin(
            settings: &Settings,
            keys: &KeyPair,
            takes_over: bool,
        ) -> Result<Before, String> {
            if !takes_over {
                return Ok(Before(None));
            }
            if settings.shards().get() != 1 {
                return Err("general.shards must be 1 to take a process over".to_owned());
            }
            let taking = Taking::begin(settings, keys);
            let taking = taking.map_err(|error| format!("no process is taken over: {error}"))?;
            Ok(Before(Some(taking)))
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
        pub(in crate::commands::run) fn receive(self, keys: &KeyPair) -> Result<Hands, String> {
            let received = self.0.map(|taking| taking.receive(keys)).transpose();
            let received = received.map_err(|error| format!("nothing was taken over: {error}"))?;
            Ok(Hands {
                received,
                link: None,
                giver: Giver::default(),
                keys: keys.clone(),
                kept: Vec::new(),
            })
        }
    }

    /// Both hand-overs of this process: the state of the one before, and the giver for the next one.
    pub(in crate::commands::run) struct Hands {
        received: Option<Received>,
        /// The socket of the link, if it came too.
        link: Option<OwnedFd>,
        giver: Giver,
        keys: KeyPair,
        kept: Vec<Box<dyn Any + Send>>,
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

        /// Says that an edge with several shards cannot be taken over, if it should be.
        pub(in crate::commands::run) fn warn_of_shards(&self) {
            if self.settings.general.upgrade_socket.is_some() {
                warn!(
                    "no process can take this one over: it has several shards, and general.shards = 1 is needed"
                );
            }
        }
    }

    /// Returns the arguments with which a new process is started.
    pub(in crate::commands::run) fn args_of(again: &ReadAgain) -> ConfigArgs {
        again.args.clone()
    }

    impl Hands {
        /// Gives the machine, which has no client yet, what came. Returns the link, if it came too.
        pub(in crate::commands::run) fn restore<R: Runtime>(
            &mut self,
            now: Time,
            edge: &mut Edge,
        ) -> Result<Option<<<Dialer<R> as Connector>::Stream as Stream>::Parcel>, String> {
            let Some(moved) = self.received.as_mut().and_then(|it| it.moved.as_mut()) else {
                return Ok(None);
            };
            edge.restore(now, &moved.snapshot);
            let Some(socket) = moved.link.take() else {
                return Ok(None);
            };
            self.link = socket.try_clone().ok();
            let stream = <Dialer<R> as Connector>::Stream::from_socket(socket);
            let packed = stream.and_then(Stream::pack);
            let packed =
                packed.map_err(|error| format!("the link cannot be taken over: {error}"))?;
            Ok(Some(packed))
        }

        /// Takes the connections that came, ends the process before, and opens what only one process can have.
        pub(in crate::commands::run) fn begin<L: Listener, C: Uplink, T: Timer>(
            &mut self,
            driver: &mut EdgeDriver<L, C, T>,
            place: Place,
        ) -> io::Result<()> {
            let takes_over = self.received.is_some();
            let mut passed = None;
            if let Some(mut received) = self.received.take() {
                let connections = match &mut received.moved {
                    Some(moved) => {
                        let clients = std::mem::take(&mut moved.clients);
                        driver.take_over(&moved.snapshot, clients)?
                    }
                    None => 0,
                };
                passed = Some(received.took(connections).map_err(io::Error::other)?);
            }
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
                    Ok(kept) => self.kept.push(kept),
                    Err(problem) => error!("{problem}"),
                }
            }
            if takes_over {
                self.enter_run(&settings, driver);
            }
            let terms = Terms {
                keys,
                args,
                in_effect,
            };
            match Giver::start(settings.general.upgrade_socket.as_deref(), passed, terms) {
                Ok(giver) => self.giver = giver,
                Err(error) if takes_over => error!(%error, "no process can take over"),
                Err(error) => return Err(io::Error::other(error)),
            }
            Ok(())
        }

        /// Takes the file of runs, which the process before had until now.
        fn enter_run<L: Listener, C: Uplink, T: Timer>(
            &mut self,
            settings: &Settings,
            driver: &EdgeDriver<L, C, T>,
        ) {
            let Some(key_file) = settings.general.key_file.as_deref() else {
                return;
            };
            match RunsFile::open(key_file) {
                Ok(mut runs) => {
                    let earlier = runs.earlier().to_vec();
                    let told = driver
                        .errands()
                        .send(move |edge, _| edge.set_earlier_runs(&earlier));
                    debug_assert!(told, "it is the first errand");
                    // It is there already, unless the process before gave no sessions.
                    if let Err(error) = runs.add(driver.edge().run()) {
                        super::super::warn_of_runs(&error);
                    }
                    self.kept.push(Box::new(runs));
                }
                Err(error) => super::super::warn_of_runs(&error),
            }
        }

        /// Does what another process asks. Does not return if that takes over.
        pub(in crate::commands::run) fn poll<L: Listener, C: Uplink, T: Timer>(
            &mut self,
            cx: &mut Context<'_>,
            driver: &mut EdgeDriver<L, C, T>,
            is_ending: bool,
        ) {
            while let Some(asked) = self.giver.poll(cx) {
                match asked {
                    Asked::Listeners(sender) => {
                        let sockets = driver.listening().filter_map(|(number, socket)| {
                            Some((number, socket.try_clone_to_owned().ok()?))
                        });
                        // It may not wait any more.
                        let _ = sender.send(sockets.collect());
                    }
                    Asked::HalfOpen(sender) => {
                        let _ = sender.send(driver.edge().gauges().half_open);
                    }
                    Asked::GiveAway(_) if is_ending => {
                        warn!("a new process cannot take over: this one is ending");
                    }
                    Asked::GiveAway(successor) => {
                        let stopped = Instant::now();
                        let run = driver.edge().run();
                        let (moving, sockets) = driver.save_moving();
                        let sealing = (run, &self.keys, *random());
                        let taken = give_away(successor, sealing, (&moving, stopped), &sockets);
                        if let Some(taken) = taken {
                            drop(sockets);
                            #[cfg(feature = "record")]
                            driver.end_recording();
                            driver.close_all_but(&moving.connections);
                            taken.end(moving.connections.len());
                        }
                    }
                }
            }
        }
    }
}

#[cfg(not(all(feature = "upgrade", target_os = "linux")))]
mod moved {
    use std::sync::{Arc, Mutex};
    use std::task::Context;

    use voltlane_core::Time;
    use voltlane_core::edge::Edge;
    use voltlane_core::keys::KeyPair;
    use voltlane_driver::{Connector, EdgeDriver, Listener, Runtime, Stream, Timer, Uplink};

    use super::Later;
    use crate::commands::run::InEffect;
    use crate::config::{Listener as ListenerSettings, Settings};
    use crate::dial::Dialer;
    use crate::entry::ReadAgain;

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

        pub(in crate::commands::run) fn receive(self, _: &KeyPair) -> Result<Hands, String> {
            Ok(Hands)
        }
    }

    pub(in crate::commands::run) struct Hands;

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

        pub(in crate::commands::run) fn warn_of_shards(&self) {}
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
            _: &mut Edge,
        ) -> Result<Option<<<Dialer<R> as Connector>::Stream as Stream>::Parcel>, String> {
            Ok(None)
        }

        pub(in crate::commands::run) fn begin<L: Listener, C: Uplink, T: Timer>(
            &mut self,
            _: &mut EdgeDriver<L, C, T>,
            _: Place,
        ) -> std::io::Result<()> {
            Ok(())
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

pub(super) use moved::{Before, Hands, Place, args_of};
