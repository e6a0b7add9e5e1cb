//! The backends of the demo, within its process. One may be killed: it is dropped in the middle of whatever it does, with all that it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use voltlane_core::{ClientId, Time};
use voltlane_driver::backend::{Backend, BackendHandle, Event, Means, Options};
use voltlane_driver::{Listener, Runtime, SocketOptions, Task, Timer};

use super::LOOK_EVERY;
use super::process::Port;
use crate::commands::echo::echo;

/// A backend, as the demo sees it.
#[derive(Debug, Default)]
struct Seen {
    runs: bool,
    /// The homes of the edges that have a link.
    links: BTreeSet<u16>,
}

/// All backends, as the demo sees them.
#[derive(Debug, Default)]
struct All {
    seen: Vec<Seen>,
    /// The backend of each session.
    sessions: BTreeMap<ClientId, usize>,
    /// How many sessions went to another backend.
    moved: u64,
}

/// A backend, whether it runs or not.
pub(super) struct Slot {
    number: usize,
    pub(super) address: SocketAddr,
    /// When it is to be started.
    pub(super) start_at: Option<Time>,
    /// Keeps its port from others while it is down.
    _port: Port,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend {}", self.number + 1)
    }
}

/// The backends.
pub(super) struct Backends {
    pub(super) slots: Vec<Slot>,
    all: Arc<Mutex<All>>,
}

fn lock(all: &Mutex<All>) -> MutexGuard<'_, All> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Backends {
    /// Starts so many backends for so many edges. Returns them, and the tasks that they are.
    pub(super) async fn start<R: Runtime>(
        backends: u8,
        edges: u8,
    ) -> io::Result<(Backends, Vec<Task>)> {
        let all = Arc::new(Mutex::new(All::default()));
        let (mut slots, mut tasks): (_, Vec<Task>) = (Vec::new(), Vec::new());
        for number in 0..usize::from(backends) {
            let port = Port::reserve()?;
            let address = port.address();
            let listener = listen::<R>(address).await?;
            lock(&all).seen.push(Seen {
                runs: true,
                links: BTreeSet::new(),
            });
            let part = Part {
                number,
                address,
                edges,
                all: Arc::clone(&all),
            };
            tasks.push(Box::pin(part.serve::<R>(listener)));
            slots.push(Slot {
                number,
                address,
                start_at: None,
                _port: port,
            });
        }
        Ok((Backends { slots, all }, tasks))
    }

    pub(super) fn runs(&self, number: usize) -> bool {
        lock(&self.all).seen[number].runs
    }

    /// Returns whether the edge of this home has a link to a backend.
    pub(super) fn link_one(&self, home: u16) -> bool {
        let all = lock(&self.all);
        all.seen.iter().any(|seen| seen.links.contains(&home))
    }

    /// Returns whether the edge of this home has a link to each backend that runs, and one runs.
    pub(super) fn link_all(&self, home: u16) -> bool {
        let all = lock(&self.all);
        let mut running = all.seen.iter().filter(|seen| seen.runs).peekable();
        running.peek().is_some() && running.all(|seen| seen.links.contains(&home))
    }

    /// Returns how many sessions a backend has.
    pub(super) fn sessions(&self, number: usize) -> usize {
        let all = lock(&self.all);
        all.sessions.values().filter(|at| **at == number).count()
    }

    /// Returns how often a session went to another backend.
    pub(super) fn moved(&self) -> u64 {
        lock(&self.all).moved
    }

    /// Notes that an edge is gone.
    pub(super) fn forget(&self, home: u16) {
        for seen in &mut lock(&self.all).seen {
            seen.links.remove(&home);
        }
    }

    /// Has a backend be dropped.
    pub(super) fn kill(&self, number: usize) {
        let seen = &mut lock(&self.all).seen[number];
        seen.runs = false;
        seen.links.clear();
    }

    /// Has a backend be started again.
    pub(super) fn start_again(&mut self, number: usize) {
        self.slots[number].start_at = None;
        lock(&self.all).seen[number].runs = true;
    }
}

async fn listen<R: Runtime>(address: SocketAddr) -> io::Result<impl Listener> {
    let (listener, _) = R::bind(address.to_string(), SocketOptions::default()).await?;
    Ok(listener)
}

/// The task of a backend.
struct Part {
    number: usize,
    address: SocketAddr,
    edges: u8,
    all: Arc<Mutex<All>>,
}

impl Part {
    async fn serve<R: Runtime>(self, listener: impl Listener) {
        let mut first = Some(listener);
        let mut timer = R::Timer::default();
        loop {
            // Its port is its own, so it can listen again.
            let means = match first.take() {
                Some(listener) => Means::on::<R>(listener),
                None => match listen::<R>(self.address).await {
                    Ok(listener) => Means::on::<R>(listener),
                    Err(_) => return,
                },
            };
            let mut options = Options::default();
            options.asks = true;
            options.edges = Some(self.edges.into());
            let Ok(mut backend) = Backend::begin(options, means) else {
                return;
            };
            while let Some(event) = self.next(&mut backend, &mut timer).await {
                self.note(&event);
                answer(&backend, event).await;
            }
            drop(backend);
            while !self.runs() {
                let until = timer.now() + LOOK_EVERY;
                poll_fn(|cx| timer.poll_until(cx, until)).await;
            }
        }
    }

    fn runs(&self) -> bool {
        lock(&self.all).seen[self.number].runs
    }

    /// Returns the next event, until it is killed, which is noticed when it is looked for.
    async fn next(&self, backend: &mut Backend, timer: &mut impl Timer) -> Option<Event> {
        let mut look_at = timer.now();
        poll_fn(|cx| {
            if !self.runs() {
                return Poll::Ready(None);
            }
            while timer.poll_until(cx, look_at).is_ready() {
                look_at = timer.now() + LOOK_EVERY;
            }
            backend.poll_recv(cx)
        })
        .await
    }

    fn note(&self, event: &Event) {
        let mut all = lock(&self.all);
        let number = self.number;
        match event {
            Event::EdgeConnected {
                edge: Some(edge), ..
            } => drop(all.seen[number].links.insert(edge.home)),
            Event::EdgeLost {
                edge: Some(edge), ..
            } => drop(all.seen[number].links.remove(&edge.home)),
            Event::Joined(joined) => {
                let before = all.sessions.insert(joined.id, number);
                all.moved += u64::from(before.is_some_and(|before| before != number));
            }
            Event::Ended { id, .. } if all.sessions.get(id) == Some(&number) => {
                all.sessions.remove(id);
            }
            _ => {}
        }
    }
}

/// Echoes a packet once, whatever happens to backends. The number of the last packet that was echoed is the note of the session, which its
/// edge keeps, and gives to the backend that has the session next: that may get a packet again which the one before had answered.
async fn answer(backend: &BackendHandle, event: Event) {
    let Event::Packet { id, data, .. } = event else {
        return echo(backend, event).await;
    };
    let number = data.first_chunk().map(|number| u64::from_le_bytes(*number));
    let Some(number) = number else {
        return;
    };
    let last: u64 = backend.note(id).parse().unwrap_or(0);
    if number > last && backend.send(id, data).await.is_ok() {
        backend.set_note(id, &number.to_string());
    }
}
