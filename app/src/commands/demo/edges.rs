//! `demo --edges`: several edges, each a process, at one backend or several. One after the other is killed, and its clients go on at the
//! others. So is a backend now and then, and its sessions go to another one.

mod backends;
mod process;

use std::future::{Future, poll_fn};
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use voltlane_core::Time;
use voltlane_driver::client::{
    Client, ClientConfig, ConnectError, Means as ClientMeans, Options as ClientOptions,
};
use voltlane_driver::{BoxedConnector, Connect, Connector, Runtime, SocketOptions, Timer};

pub(crate) use self::process::ends_with_its_demo;

use self::backends::Backends;
use self::process::{Edge, End, Place};
use super::figures::{CLEAR_LINE, Figures, lock};
use super::player::{LONGEST_PAUSE, PACE, Role, play};
use super::tasks::Tasks;
use super::{REFRESH_PIPE, REFRESH_TERMINAL, say, while_running};
use crate::cli::DemoArgs;
use crate::commands::signals::{self, Stop};
use crate::logging::FLUSH_WITHIN;
use crate::outlet::Outlet;

const CLIENTS_PER_EDGE: usize = 4;
/// The shortest time between two packets of all clients together.
const ONE_EVERY: Duration = Duration::from_micros(400);
/// The time between the first connections of two clients. An edge takes 2,000 in a second, and 1,000 that have not proven themselves.
const BEGIN_EVERY: Duration = Duration::from_millis(1);
/// Seconds from one kill to the next, if the arguments do not say.
const KILL_EVERY: u32 = 5;
/// The time after which an edge that was killed is started again. Its term is greater then: it is made of seconds.
const DOWN_FOR: Duration = Duration::from_secs(1);
/// The time for which a killed backend is down: long enough for its edges to give it up.
const BACKEND_DOWN_FOR: Duration = Duration::from_secs(3);
/// How long the edges may take until each has a link.
const START_WITHIN: Duration = Duration::from_secs(30);
/// How long the clients of the last edge that was killed may take at the end.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// How often the processes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Returns true if everything went as it should.
pub(super) async fn show<R: Runtime>(args: DemoArgs, edges: u8) -> io::Result<bool> {
    let stop = signals::stop()?;
    // From here on there is something to be taken away at the end.
    stop.serves();
    let (backends, tasks) = Backends::start::<R>(backends_of(args), edges).await?;
    let mut tasks = Tasks::from(tasks);
    let addresses = backends.slots.iter().map(|slot| slot.address);
    let mut place = Place::make(addresses.collect())?;
    #[cfg(feature = "engine")]
    if let Some(engine) = args.engine {
        place.start_engine(engine)?;
    }
    let edges = (1..=u16::from(edges)).map(|home| place.start_edge(home));
    let edges: Vec<Edge> = edges.collect::<io::Result<_>>()?;
    let addresses: Vec<SocketAddr> = edges.iter().map(|edge| edge.address).collect();
    let out = Outlet::start("stdout", io::stdout(), |_| String::new())?;
    let mut show = Show {
        edges,
        place,
        backends,
        turn: Turn::Edge,
        clients: Vec::new(),
        figures: Arc::default(),
        out,
        timer: R::Timer::default(),
        stop,
        is_terminal: io::stdout().is_terminal(),
    };
    if !while_running(&mut tasks, show.begin()).await? {
        return Ok(true);
    }
    let few = addresses.len() * CLIENTS_PER_EDGE;
    let clients = args.clients.map_or(few, usize::from);
    let times =
        |every: Duration, clients| every.saturating_mul(u32::try_from(clients).unwrap_or(u32::MAX));
    let (pace, longest_pause) = (
        PACE.max(times(ONE_EVERY, clients)),
        LONGEST_PAUSE.max(times(ONE_EVERY, clients)),
    );
    for number in 0..clients {
        let at = Arc::new(AtomicUsize::new(usize::MAX));
        let role = Role {
            client: client::<R>(&addresses, number, longest_pause, &at),
            at: Arc::clone(&at),
            begins_after: times(BEGIN_EVERY, number),
            pace,
            first_cut: None,
        };
        show.clients.push(at);
        tasks.push(Box::pin(play::<R>(role, Arc::clone(&show.figures))));
    }
    let every = Duration::from_secs(args.kill_every.unwrap_or(KILL_EVERY).into());
    while_running(&mut tasks, show.go_on(every, args.secs)).await
}

/// Returns how many backends there are to be.
#[cfg_attr(
    not(feature = "backends"),
    expect(clippy::needless_pass_by_value, unused_variables)
)]
fn backends_of(args: DemoArgs) -> u8 {
    #[cfg(feature = "backends")]
    let backends = args.backends.unwrap_or(1);
    #[cfg(not(feature = "backends"))]
    let backends = 1;
    backends
}

/// Whether an edge or a backend is killed next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Edge,
    Backend,
}

/// A client that knows all edges. Its first one, and the one that it tries after that, depend on its number, so that the clients of an edge
/// that is killed go to all of the others.
fn client<R: Runtime>(
    addresses: &[SocketAddr],
    number: usize,
    longest_pause: Duration,
    at: &Arc<AtomicUsize>,
) -> Result<Client, ConnectError> {
    let config = ClientConfig::default()
        .with_backoff(LONGEST_PAUSE, longest_pause)
        .expect("the first pause is no longer than the longest")
        .with_trust_first_use(true);
    let mut options = ClientOptions::default();
    (options.config, options.start_over) = (config, true);
    let mut ways = order(addresses.len(), number).into_iter().map(|edge| {
        BoxedConnector::new(Way::<R> {
            connector: R::connector(addresses[edge].to_string(), SocketOptions::default()),
            edge,
            at: Arc::clone(at),
        })
    });
    let first = ways.next().expect("there are edges");
    let means = ClientMeans::boxed(first, Box::new(R::Timer::default()), Box::new(R::random));
    Client::begin(options, ways.fold(means, ClientMeans::or))
}

/// The order in which a client with this number knows the edges.
fn order(edges: usize, number: usize) -> Vec<usize> {
    let (first, step) = (number % edges, number / edges);
    let mut others: Vec<usize> = (1..edges).map(|next| (first + next) % edges).collect();
    others.rotate_left(step % (edges - 1));
    std::iter::once(first).chain(others).collect()
}

/// The way to one edge. It notes that it was taken.
struct Way<R: Runtime> {
    connector: R::Connector,
    edge: usize,
    at: Arc<AtomicUsize>,
}

impl<R: Runtime> Connector for Way<R> {
    type Stream = <R::Connector as Connector>::Stream;

    fn connect(&mut self) -> Connect<Self::Stream> {
        self.at.store(self.edge, Ordering::Relaxed);
        self.connector.connect()
    }
}

/// The edges, and what is shown of them.
struct Show<T> {
    /// They are killed before their directory is removed.
    edges: Vec<Edge>,
    place: Place,
    backends: Backends,
    turn: Turn,
    /// The edge that each client is at, or tries.
    clients: Vec<Arc<AtomicUsize>>,
    figures: Arc<Mutex<Figures>>,
    out: Outlet,
    timer: T,
    stop: Stop,
    is_terminal: bool,
}

impl<T: Timer> Show<T> {
    /// Waits until every edge has a link. Returns false if the demo is to end.
    async fn begin(&mut self) -> io::Result<bool> {
        let began = self.timer.now();
        while let Some(edge) = (0..self.edges.len()).find(|edge| !self.is_linked(*edge)) {
            let now = self.timer.now();
            if self.wait(now + LOOK_EVERY).await {
                return Ok(false);
            }
            self.look(now)?;
            if now.since(began) > START_WITHIN {
                let edge = &self.edges[edge];
                return Err(io::Error::other(format!(
                    "{edge} has no link after {} s: {}",
                    START_WITHIN.as_secs(),
                    self.place.last_line(&edge.name())
                )));
            }
        }
        Ok(true)
    }

    fn introduce(&self, every: Duration) -> io::Result<()> {
        let (edges, clients) = (self.edges.len(), self.clients.len());
        let engine = self.place.engine();
        let agree = engine.map_or_else(String::new, |engine| {
            format!(" They agree on who is who by {engine}.")
        });
        let every = every.as_secs();
        let mut text = match self.backends.slots.len() {
            1 => format!(
                "{edges} edges, each a process of its own, one backend that echoes, and {clients} clients that talk.{agree}\n\
                 Every {every} s the edge that has most of them is killed, and started again a second later.\n\n"
            ),
            backends => format!(
                "{edges} edges, each a process of its own, {backends} backends that echo, and {clients} clients that talk.{agree}\n\
                 Every {every} s one is killed: the edge that has most clients, or by turns the backend that has most sessions.\n\
                 An edge is started again after {} s, and a backend after {} s, with nothing of what it knew.\n\n",
                DOWN_FOR.as_secs(),
                BACKEND_DOWN_FOR.as_secs()
            ),
        };
        for edge in &self.edges {
            text.push_str(&format!("    {edge}, at {}\n", edge.address));
        }
        for slot in self.backends.slots.iter().filter(|_| self.has_several()) {
            text.push_str(&format!("    {slot}, at {}\n", slot.address));
        }
        text.push_str("\nYou may kill an edge as well: kill -9 and its process.\n\n");
        say(&self.out, &text)
    }

    /// Kills and starts edges, and prints figures, until the end. Then it prints their sum.
    async fn go_on(&mut self, every: Duration, secs: Option<u32>) -> io::Result<bool> {
        self.introduce(every)?;
        let start = self.timer.now();
        let refresh = match self.is_terminal {
            true => REFRESH_TERMINAL,
            false => REFRESH_PIPE,
        };
        let end = secs.map_or(Time::MAX, |secs| start + Duration::from_secs(secs.into()));
        let (mut tell_at, mut kill_at, mut told) = (start + refresh, start + every, (start, 0));
        let mut ends_by = None;
        loop {
            let next = tell_at.min(kill_at).min(self.timer.now() + LOOK_EVERY);
            let asked = self.wait(next).await && ends_by.is_none();
            let now = self.timer.now();
            self.look(now)?;
            if ends_by.is_none() && now >= kill_at {
                self.kill_next(now)?;
                kill_at = kill_at + every;
            }
            let is_back = lock(&self.figures).connected as usize == self.clients.len();
            let is_end = ends_by.is_some_and(|by| is_back || now >= by);
            if ends_by.is_none() && (asked || now >= end) {
                // The clients of an edge that was killed a moment ago come back first. They have not noticed it yet.
                (ends_by, kill_at) = (Some(now + BACK_WITHIN), Time::MAX);
            }
            if now >= tell_at || is_end {
                self.tell(now.since(start), now.since(told.0), told.1, is_end)?;
                told = (now, lock(&self.figures).packets);
                tell_at = now + refresh;
            }
            if is_end {
                return self.sum_up(now.since(start), is_back);
            }
        }
    }

    /// Waits until then. Returns true if the demo is to end.
    async fn wait(&mut self, until: Time) -> bool {
        let (stop, timer) = (&mut self.stop, &mut self.timer);
        // Once it is asked for, it stays so.
        let mut asked = false;
        poll_fn(|cx| {
            asked = pin!(&mut *stop).poll(cx).is_ready();
            timer.poll_until(cx, until)
        })
        .await;
        asked
    }

    fn has_several(&self) -> bool {
        self.backends.slots.len() > 1
    }

    /// Returns whether an edge has a link to a backend.
    fn serves(&self, edge: usize) -> bool {
        self.edges[edge].is_running() && self.backends.link_one(self.edges[edge].home)
    }

    /// Returns whether an edge has a link to each backend that runs.
    fn is_linked(&self, edge: usize) -> bool {
        self.edges[edge].is_running() && self.backends.link_all(self.edges[edge].home)
    }

    /// Looks at the processes, and starts those again that are down for long enough.
    fn look(&mut self, now: Time) -> io::Result<()> {
        self.place.look()?;
        for at in 0..self.edges.len() {
            match self.edges[at].look()? {
                Some(End::Killed) => {
                    self.happens(&format!("{} was killed by somebody else", self.edges[at]))?;
                    self.is_down(at, now);
                }
                Some(End::ByItself(why)) => {
                    let line = self.place.last_line(&self.edges[at].name());
                    return Err(io::Error::other(format!("{why}: {line}")));
                }
                None => {}
            }
            if self.edges[at].start_at.is_some_and(|at| at <= now) {
                self.place.start(&mut self.edges[at])?;
                self.happens(&format!("{} is started again", self.edges[at]))?;
            }
        }
        for number in 0..self.backends.slots.len() {
            let start_at = self.backends.slots[number].start_at;
            if start_at.is_some_and(|at| at <= now) {
                self.backends.start_again(number);
                let slot = &self.backends.slots[number];
                self.happens(&format!("{slot} is started again"))?;
            }
        }
        Ok(())
    }

    fn is_down(&mut self, edge: usize, now: Time) {
        self.edges[edge].start_at = Some(now + DOWN_FOR);
        lock(&self.figures).killed += 1;
        self.backends.forget(self.edges[edge].home);
    }

    /// Kills an edge, or a backend where there are several, by turns.
    fn kill_next(&mut self, now: Time) -> io::Result<()> {
        let turn = self.turn;
        if turn == Turn::Backend {
            self.turn = Turn::Edge;
            return self.kill_backend(now);
        }
        if self.has_several() {
            self.turn = Turn::Backend;
        }
        self.kill(now)
    }

    /// Kills the backend that has most sessions, if another one serves all edges.
    fn kill_backend(&mut self, now: Time) -> io::Result<()> {
        let all = 0..self.backends.slots.len();
        let running = all.filter(|number| self.backends.runs(*number));
        let running: Vec<usize> = running.collect();
        let edges = 0..self.edges.len();
        let are_linked = edges.clone().all(|edge| self.is_linked(edge));
        let most = running
            .iter()
            .copied()
            .max_by_key(|number| self.backends.sessions(*number));
        let Some(number) = most.filter(|_| running.len() > 1 && are_linked) else {
            return self.happens("no backend is killed: another one would have to serve");
        };
        let sessions = self.backends.sessions(number);
        self.backends.kill(number);
        lock(&self.figures).backends_killed += 1;
        let slot = &mut self.backends.slots[number];
        slot.start_at = Some(now + BACKEND_DOWN_FOR);
        let what = format!("{slot} is killed, with {sessions} sessions");
        self.happens(&what)
    }

    /// Kills the edge that has most clients, if another one serves.
    fn kill(&mut self, now: Time) -> io::Result<()> {
        let serving = (0..self.edges.len()).filter(|edge| self.serves(*edge));
        let serving: Vec<usize> = serving.collect();
        let at = |client: &Arc<AtomicUsize>| client.load(Ordering::Relaxed);
        let has = |edge: usize| self.clients.iter().filter(|one| at(one) == edge).count();
        let most = serving.iter().copied().max_by_key(|edge| has(*edge));
        let Some(edge) = most.filter(|_| serving.len() > 1) else {
            return self.happens("no edge is killed: another one would have to serve");
        };
        let what = format!("{} is killed, with {} clients", self.edges[edge], has(edge));
        self.edges[edge].kill();
        self.is_down(edge, now);
        self.happens(&what)
    }

    /// Prints something that happens now.
    fn happens(&self, what: &str) -> io::Result<()> {
        let lead = if self.is_terminal { CLEAR_LINE } else { "" };
        say(&self.out, &format!("{lead}         {what}\n"))
    }

    fn tell(&self, elapsed: Duration, since: Duration, before: u64, last: bool) -> io::Result<()> {
        let figures = lock(&self.figures);
        let packets = figures.packets.saturating_sub(before) as f64;
        let line = figures.line_of_edges(elapsed, packets / since.as_secs_f64().max(0.001));
        if !self.is_terminal {
            say(&self.out, &format!("{line}\n"))
        } else if last || self.out.is_idle() {
            // A terminal that accepts nothing gets only the latest line later.
            say(&self.out, &Figures::refreshed(&line))
        } else {
            Ok(())
        }
    }

    /// Prints the figures of the whole run. Returns whether they are good.
    fn sum_up(&self, elapsed: Duration, is_back: bool) -> io::Result<bool> {
        let figures = lock(&self.figures);
        let lead = if self.is_terminal { "\n\n" } else { "\n" };
        let clients = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        let moved = self.has_several().then(|| self.backends.moved());
        let summary = figures.summary_of_edges(clients, elapsed, moved);
        let mut text = format!("{lead}{summary}\n");
        if !is_back {
            let away = clients.saturating_sub(figures.connected);
            text.push_str(&format!("{away} of them are away.\n"));
        }
        say(&self.out, &text)?;
        self.out.flush(FLUSH_WITHIN);
        let is_good = figures.is_good() && is_back;
        self.out.failure().map_or(Ok(is_good), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_of_an_edge_go_to_all_others() {
        assert_eq!(order(3, 0), [0, 1, 2]);
        assert_eq!(order(3, 3), [0, 2, 1]);
        assert_eq!(order(3, 4), [1, 0, 2]);
        assert_eq!(order(2, 5), [1, 0]);
        for edges in 2..=8 {
            for number in 0..edges * CLIENTS_PER_EDGE {
                let mut all = order(edges, number);
                all.sort_unstable();
                assert!(all.into_iter().eq(0..edges), "{edges} {number}");
            }
        }
    }
}
