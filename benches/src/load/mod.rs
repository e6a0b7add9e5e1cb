//! The load tool: starts a program, drives it with clients and a backend of its own, and measures what the program costs.

pub mod backend;
pub mod fleet;
pub mod keys;
pub mod meter;
pub mod payload;
pub mod process;
pub mod program;
pub mod scale;
pub(crate) mod scenario;
pub mod sources;

use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use backend::{Backend, Job};
use fleet::{Client, Event, Fleet, Speech};
use meter::{Meter, Outcome, Snapshot};
use payload::Clock;
use program::{Launch, Program, Running, StartError};
pub use scenario::Scenario;

/// How long the program may take to connect to the backend.
const LINK_WITHIN: Duration = Duration::from_secs(10);

/// What holds for every run.
#[derive(Clone, Debug)]
pub struct Options {
    /// For how long it is measured.
    pub measure: Duration,
    /// For how long the load runs before that.
    pub warm_up: Duration,
    /// Lines of `connserver.toml`.
    pub config: String,
    /// CPUs of the program under test; empty for all.
    pub program_cpus: Vec<usize>,
    /// Loopback addresses that the clients come from.
    pub sources: u32,
    /// How long the clients rest between two looks at their sockets while it is measured. Each look then finds more, for the same
    /// CPU of the load: it leaves the machine to the program.
    pub rest: Duration,
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
    /// It never connected to the backend.
    #[error("{0} did not connect to its backend within {LINK_WITHIN:?}")]
    NoLink(Program),
    /// Not all clients were served in time.
    #[error("{ready} of {clients} clients were ready after {within:?}")]
    NotReady {
        /// Those that were.
        ready: usize,
        /// All.
        clients: usize,
        /// How long they had.
        within: Duration,
    },
    /// The program ended while it was measured.
    #[error("{program} ended during the run: {stderr}")]
    Ended {
        /// Which.
        program: Program,
        /// Its last words.
        stderr: String,
    },
    /// The machine refused something.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs one scenario against one program.
pub fn run(
    program: &Program,
    scenario: &Scenario,
    options: &Options,
) -> Result<Outcome, LoadError> {
    if !scenario.suits(program) {
        return Err(LoadError::NotApplicable(program.clone()));
    }
    let mut bench = Bench::start(program, scenario.job(program), options)?;
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

/// A program with its backend and its clients.
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
    options: Options,
}

impl Bench {
    /// Starts backend and program and waits for the link between them.
    pub fn start(program: &Program, job: Job, options: &Options) -> Result<Self, LoadError> {
        Self::start_limited(program, job, options, None)
    }

    /// The same, with a limit of open descriptors for the program.
    pub fn start_limited(
        program: &Program,
        job: Job,
        options: &Options,
        max_descriptors: Option<u64>,
    ) -> Result<Self, LoadError> {
        let clock = Clock::start();
        let backend = Backend::start(job, clock)?;
        let launch = Launch {
            backend: backend.address,
            config: options.config.clone(),
            cpus: options.program_cpus.clone(),
            max_descriptors,
        };
        let running = Running::start(program, &launch)?;
        let speech = if program.is_plain() {
            Speech::Plain
        } else {
            Speech::V2
        };
        let fleet = Fleet::new(running.address, speech, options.sources, clock)?;
        let bench = Self {
            clock,
            fleet,
            running,
            backend,
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

    /// The process under test, where there is one.
    pub fn pid(&self) -> Option<u32> {
        self.running.pid()
    }

    /// Adds clients and waits until all are ready.
    pub fn connect(&mut self, clients: usize) -> Result<(), LoadError> {
        self.fleet.add(clients);
        self.await_ready()
    }

    /// Waits until all clients are ready.
    pub fn await_ready(&mut self) -> Result<(), LoadError> {
        let all = self.fleet.clients.len();
        let within = Duration::from_secs(10) + Duration::from_millis(all as u64);
        let until = self.clock.now() + within;
        let mut ready = self.fleet.ready();
        while ready < all && self.clock.now() < until {
            self.fleet.turn(until, &mut |_, event| match event {
                Event::Ready => ready += 1,
                Event::Closed => ready = ready.saturating_sub(1),
                Event::Packet(_) => {}
            })?;
        }
        if ready < all {
            Err(LoadError::NotReady {
                ready,
                clients: all,
                within,
            })
        } else {
            Ok(())
        }
    }

    /// Turns the fleet for that long.
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

    /// Warms up, then measures what `on` puts into the meter.
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
        Ok(Outcome::between(
            start,
            Snapshot::take(self.clock, self.pid())?,
            meter,
        ))
    }
}
