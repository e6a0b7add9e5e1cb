//! The load tool: starts a program, drives it with clients and a backend, and measures what the program costs.

pub mod backend;
pub mod carriage;
pub mod fleet;
pub mod keys;
pub mod meter;
pub mod payload;
pub mod process;
pub mod program;
pub mod progress;
pub(crate) mod proxies;
pub mod scale;
pub(crate) mod scenario;
pub mod sources;
pub mod v3;

use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use backend::{Backend, Job};
use carriage::{Carriage, Carrier};
use fleet::{Client, Event, Fleet, Next, Speech};
use meter::{Meter, Outcome, Snapshot};
use payload::Clock;
use program::{Launch, Program, Running, StartError};
use progress::Progress;
pub use scenario::Scenario;

/// How long the program may take to connect to the backend.
const LINK_WITHIN: Duration = Duration::from_secs(10);
/// How long any number of clients may take until all are ready, times [`Options::patience`].
const READY_WITHIN: Duration = Duration::from_secs(10);
/// The time added for each client, also times [`Options::patience`].
const READY_WITHIN_EACH: Duration = Duration::from_millis(1);

/// The version of the backend link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Version 2. A packet for many is sent to each of them.
    #[default]
    V2,
    /// Version 3. A packet for many is sent once, to a group.
    V3 {
        /// Whether the backend asks for acknowledgements.
        acknowledges: bool,
    },
}

/// Options of every run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long to measure.
    pub measure: Duration,
    /// How long to run the load before measuring.
    pub warm_up: Duration,
    /// Lines of `connserver.toml`.
    pub config: String,
    /// How clients are carried.
    pub carriage: Carriage,
    /// Whether clients speak version 3, where they speak the protocol.
    pub v3: bool,
    /// How the backend speaks.
    pub link: Link,
    /// CPUs of the program under test; empty for all.
    pub program_cpus: Vec<usize>,
    /// Number of loopback addresses that the clients connect from.
    pub sources: u32,
    /// The pause between two checks of the clients' sockets while measuring. Each check then finds more for the same CPU of the load, which
    /// leaves the machine to the program.
    pub rest: Duration,
    /// Factor on the time that clients may take, above 1 for a slow machine.
    pub patience: u32,
}

impl Options {
    /// Returns how long this many clients may take until all are ready.
    pub fn ready_within(&self, clients: usize) -> Duration {
        ready_within(clients, self.patience)
    }
}

fn ready_within(clients: usize, patience: u32) -> Duration {
    let clients = u32::try_from(clients).unwrap_or(u32::MAX);
    (READY_WITHIN + READY_WITHIN_EACH * clients) * patience
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The program could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The program cannot do what the scenario asks.
    #[error("{0} cannot do this")]
    NotApplicable(Program),
    /// The program never connected to the backend.
    #[error("{0} did not connect to its backend within {LINK_WITHIN:?}")]
    NoLink(Program),
    /// Not all clients were served in time.
    #[error("{phase}: {ready} of {clients} clients were ready within {within:?}")]
    NotReady {
        /// The phase of the run.
        phase: &'static str,
        /// The number of ready clients.
        ready: usize,
        /// The number of all clients.
        clients: usize,
        /// The time they had.
        within: Duration,
    },
    /// Connections broke, and no other client can become ready.
    #[error("{phase}: {lost} of {clients} clients lost their connection, which breaks the run")]
    Lost {
        /// The phase of the run.
        phase: &'static str,
        /// The number of clients without a connection.
        lost: usize,
        /// The number of all clients.
        clients: usize,
    },
    /// An attack over IPv6 on a machine without its addresses.
    #[error(
        "{0} needs IPv6 addresses that only a network namespace has: see the attacks in benches/README.md"
    )]
    NoNetwork(&'static str),
    /// The program ended during the run.
    #[error("{program} ended during the run: {stderr}")]
    Ended {
        /// The program.
        program: Program,
        /// Its last output to standard error.
        stderr: String,
    },
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs one scenario against one program.
pub fn run(
    program: &Program,
    scenario: &Scenario,
    options: &Options,
) -> Result<Outcome, LoadError> {
    let has_link = options.link == Link::V2 || program.resumes();
    if !scenario.suits(program) || !program.carries(options.carriage) || !has_link {
        return Err(LoadError::NotApplicable(program.clone()));
    }
    let options = Options {
        sources: options.sources.max(scenario.min_sources()),
        ..options.clone()
    };
    let job = scenario.job(program, options.carriage);
    let mut bench = Bench::start(program, job, &options)?;
    if !scenario.has_sessions() {
        bench.fleet.speech = Speech::Plain;
    }
    let mut outcome = scenario.run(&mut bench)?;
    if !bench.running.is_alive() {
        return Err(LoadError::Ended {
            program: program.clone(),
            stderr: bench.running.stderr(),
        });
    }
    outcome.memory = bench.pid().map(process::memory).transpose()?;
    outcome.broken = bench.fleet.broken;
    Ok(outcome)
}

/// A program under test with its backend and its clients.
#[derive(Debug)]
pub struct Bench {
    /// The time base.
    pub clock: Clock,
    /// The clients, none at first.
    pub fleet: Fleet,
    /// The program under test.
    pub running: Running,
    /// The backend.
    pub backend: Backend,
    /// The progress display.
    pub progress: Progress,
    options: Options,
}

impl Bench {
    /// Starts the backend and the program, and waits for the link between them.
    pub fn start(program: &Program, job: Job, options: &Options) -> Result<Self, LoadError> {
        Self::start_special(program, job, options, None, None)
    }

    /// Like [`start`](Self::start), with the program at another host, or with a limit on its open descriptors.
    pub fn start_special(
        program: &Program,
        job: Job,
        options: &Options,
        host: Option<IpAddr>,
        max_descriptors: Option<u64>,
    ) -> Result<Self, LoadError> {
        let clock = Clock::start();
        let backend = Backend::start(job, options.link, clock)?;
        let launch = Launch {
            backend: backend.address,
            config: options.config.clone(),
            carriage: options.carriage,
            v3: options.v3,
            link: options.link,
            cpus: options.program_cpus.clone(),
            host,
            max_descriptors,
        };
        let running = Running::start(program, &launch)?;
        let speech = if program.is_plain() {
            Speech::Plain
        } else if options.v3 {
            Speech::V3
        } else {
            Speech::V2
        };
        let mut fleet = Fleet::new(running.address, speech, options.sources, clock)?;
        fleet.carrier = Carrier::new(options.carriage)?;
        let bench = Self {
            clock,
            fleet,
            running,
            backend,
            progress: Progress::silent("connecting"),
            options: options.clone(),
        };
        let until = clock.now() + LINK_WITHIN;
        while !program.is_plain() && bench.backend.shared.links.load(Relaxed) == 0 {
            if clock.now() > until {
                return Err(LoadError::NoLink(program.clone()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(bench)
    }

    /// Returns the process id of the program, if there is a program.
    pub fn pid(&self) -> Option<u32> {
        self.running.pid()
    }

    /// Adds clients and waits until all are ready.
    pub fn connect(&mut self, clients: usize) -> Result<(), LoadError> {
        self.fleet.add(clients);
        self.await_ready()
    }

    /// Waits until all clients are ready, or can no longer become so.
    pub fn await_ready(&mut self) -> Result<(), LoadError> {
        self.await_ready_or(Next::Leave)
    }

    /// Like [`await_ready`](Self::await_ready). A client whose connection breaks on the way does `next`, and tries again if that says so.
    pub fn await_ready_or(&mut self, next: Next) -> Result<(), LoadError> {
        let within = self.options.ready_within(self.fleet.clients.len());
        await_ready(
            &mut self.fleet,
            self.clock,
            within,
            next,
            &mut self.progress,
        )
    }

    /// Runs turns of the fleet for this long.
    pub fn turn_for(
        &mut self,
        time: Duration,
        on: &mut impl FnMut(&mut Client, Event<'_>),
    ) -> Result<(), LoadError> {
        let until = self.clock.now() + time;
        while self.clock.now() < until {
            self.fleet.turn(until, on)?;
        }
        Ok(())
    }

    /// Warms up, then measures what `on` records in the meter.
    pub fn measure(
        &mut self,
        on: &mut impl FnMut(&mut Meter, &mut Client, Event<'_>),
    ) -> Result<Outcome, LoadError> {
        let mut meter = Meter::new(self.clock);
        self.fleet.rest = self.options.rest;
        self.turn_for(self.options.warm_up, &mut |client, event| {
            on(&mut meter, client, event)
        })?;
        let start = Snapshot::take(self.clock, self.pid())?;
        meter.recording = true;
        self.turn_for(self.options.measure, &mut |client, event| {
            on(&mut meter, client, event)
        })?;
        self.fleet.rest = Duration::ZERO;
        Ok(Outcome::between(
            start,
            Snapshot::take(self.clock, self.pid())?,
            meter,
        ))
    }
}

fn await_ready(
    fleet: &mut Fleet,
    clock: Clock,
    within: Duration,
    next: Next,
    progress: &mut Progress,
) -> Result<(), LoadError> {
    let clients = fleet.clients.len();
    let phase = progress.phase();
    let until = clock.now() + within;
    loop {
        let ready = fleet.ready();
        progress.at(ready, clients);
        if ready == clients {
            return Ok(());
        }
        if fleet.on_their_way() == 0 {
            let lost = clients - ready;
            return Err(LoadError::Lost {
                phase,
                lost,
                clients,
            });
        }
        if clock.now() >= until {
            return Err(LoadError::NotReady {
                phase,
                ready,
                clients,
                within,
            });
        }
        fleet.turn(until, &mut |client, event| {
            if event == Event::Closed {
                client.next = next;
            }
        })?;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const CLIENTS: usize = 20;

    /// Creates clients on their way to a listener that may or may not be served.
    fn clients_of(listener: &TcpListener, speech: Speech) -> (Fleet, Clock) {
        let clock = Clock::start();
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let mut fleet = Fleet::new(address, speech, 1, clock).expect("an epoll can be had");
        fleet.add(CLIENTS);
        (fleet, clock)
    }

    fn wait(fleet: &mut Fleet, clock: Clock, within: Duration) -> Result<(), LoadError> {
        let progress = &mut Progress::silent("connecting");
        await_ready(fleet, clock, within, Next::Leave, progress)
    }

    #[test]
    fn a_client_that_left_is_not_ready_any_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut fleet, clock) = clients_of(&listener, Speech::Plain);
        wait(&mut fleet, clock, READY_WITHIN).unwrap();
        assert_eq!((fleet.ready(), fleet.on_their_way()), (CLIENTS, 0));
        fleet.clients[0].next = Next::Leave;
        fleet.clients[1].next = Next::Rejoin;
        for index in 0..2 {
            fleet.flush(index, &mut |_, _| {});
        }
        assert_eq!((fleet.ready(), fleet.on_their_way()), (CLIENTS - 2, 1));
    }

    #[test]
    fn a_phase_that_times_out_reports_its_progress() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut fleet, clock) = clients_of(&listener, Speech::V2);
        let error = wait(&mut fleet, clock, Duration::from_millis(20)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "connecting: 0 of 20 clients were ready within 20ms"
        );
    }

    #[test]
    fn when_all_are_lost_nobody_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut fleet, clock) = clients_of(&listener, Speech::V2);
        let refuses = std::thread::spawn(move || {
            for _ in 0..CLIENTS {
                drop(listener.accept().unwrap());
            }
        });
        let error = wait(&mut fleet, clock, READY_WITHIN).unwrap_err();
        refuses.join().unwrap();
        assert!(
            matches!(error, LoadError::Lost { lost: CLIENTS, .. }),
            "{error}"
        );
        assert_eq!(fleet.broken, CLIENTS as u64);
    }

    #[test]
    fn a_client_that_is_turned_away_tries_again_where_that_is_wanted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (mut fleet, clock) = clients_of(&listener, Speech::V2);
        drop(listener);
        let progress = &mut Progress::silent("coming back");
        while fleet.broken <= CLIENTS as u64 {
            let within = Duration::from_millis(20);
            let error = await_ready(&mut fleet, clock, within, Next::Rejoin, progress);
            assert!(matches!(error, Err(LoadError::NotReady { .. })));
        }
    }

    #[test]
    fn patience_is_a_factor_on_all_of_the_time() {
        assert_eq!(ready_within(1000, 1), Duration::from_secs(11));
        assert_eq!(ready_within(1000, 10), Duration::from_secs(110));
    }
}
