//! The direct engine: the edge machine, simulated clients and a simulated backend on one virtual clock.
//!
//! There is no async code, thread or real time. A heap of events and byte-granular pipes play the adapter's part exactly as the contract of
//! [`Edge`](voltlane_core::edge::Edge) requires. The model is told of each event before the edge, and compares after it.

mod adapter;
mod backend;
mod clients;
mod closing;
mod floods;
pub(crate) mod host;
pub(crate) mod identity;
pub(crate) mod peer;
pub mod pipe;
mod proxied;
mod stopping;
mod trace;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

pub use trace::{Lane, Mark, Note};

use crate::hash::TraceHash;
use crate::model::{Model, Reach, Violation};
use crate::panics::panic_of;
use crate::plan::{Action, Drop, Join, Plan};
use crate::rng::Rng;

use backend::Backend;
use clients::Client;
use closing::Closing;
use floods::{Herd, Visit};
use host::Host;
use peer::{Peer, Role};
use pipe::{End, Pipe};

/// The maximum number of events per run. More means that the run goes in circles.
const MAX_EVENTS: u64 = 4_000_000;

/// A scheduled event. The order of declaration has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// An operation of the plan.
    Op(usize),
    /// A connection arrives at the edge's listener.
    Accept(u32),
    /// Bytes or an end arrive at the edge.
    ToEdge(u32),
    /// A client's transport accepts bytes again.
    Writable(u32),
    /// Bytes or an end arrive at the client.
    ToClient(u32),
    /// A slow client sends its next byte.
    Drip(u32),
    /// The network gives up a silent connection.
    GiveUp(u32),
    /// An attempt to reach the backend succeeds or fails.
    LinkDialed(u32),
    LinkToEdge(u32),
    LinkWritable(u32),
    LinkToBackend(u32),
    LinkGiveUp(u32),
    /// Check whether everything has recovered.
    Closing,
    /// The edge is asked to shut down within these nanoseconds.
    Shutdown(u64),
    /// The next connection of a flood: its operation, and its number there.
    Flood(usize, u64),
    /// Check whether a visitor was admitted.
    Visit(usize),
    /// Check whether the herd is back.
    Herd,
}

/// An action of the adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// The edge named a connection, or its transport accepts bytes again: close it, write to it, read it.
    Serve(u32),
    /// A connection is readable. Nothing indicates that there is something to write.
    Read(u32),
    /// Serve the link.
    Link,
}

/// One simulated client connection, both ends.
struct Conn {
    peer: Peer,
    /// From the client to the edge, and back.
    up: Pipe,
    down: Pipe,
    /// Whether the edge has it.
    open: bool,
    /// Whether the adapter waits for the transport to accept bytes.
    blocked: bool,
    rng: Rng,
}

/// The backend link's transport.
struct LinkConn {
    generation: u32,
    up: Pipe,
    down: Pipe,
    blocked: bool,
    silent: bool,
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first rule broken, if one was.
    pub violation: Option<Violation>,
    /// The hash of everything that went in and came out.
    pub hash: u64,
    /// Virtual time of the whole run.
    pub nanos: u64,
    /// The number of calls into the edge.
    pub steps: u64,
    /// What was reached on the way.
    pub reach: Reach,
    /// What happened, if it was traced.
    pub notes: Vec<Note>,
}

/// Runs a plan.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    run_with(plan, false)
}

/// Runs a plan and records what happened.
#[must_use]
pub fn run_traced(plan: &Plan) -> Outcome {
    run_with(plan, true)
}

fn run_with(plan: &Plan, traced: bool) -> Outcome {
    let mut world = World::new(plan, traced);
    if let Some(text) = panic_of(|| world.run()) {
        world.model.fail("H1", "-", text);
    }
    world.into_outcome()
}

/// The whole state of a run.
struct World<'p> {
    plan: &'p Plan,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    event_count: u64,
    steps: u64,
    /// Bytes that the adapter moved, in either direction.
    moved_bytes: usize,
    host: Host,
    model: Model,
    conns: Vec<Conn>,
    clients: Vec<Client>,
    backend: Backend,
    link: Option<LinkConn>,
    dialing: bool,
    generation: u32,
    /// What the adapter still has to do at this instant.
    ready: VecDeque<Work>,
    /// The connection being written to. The adapter returns to it by itself.
    writing: Option<u32>,
    paused_until: u64,
    /// The total time for which the edge was paused, including the rest of the current pause.
    paused: u64,
    visits: Vec<Visit>,
    herd: Option<Herd>,
    next_identity: usize,
    closing: Option<Closing>,
    /// Whether the faults are over.
    healed: bool,
    hash: TraceHash,
    notes: Option<Vec<Note>>,
    rng: Rng,
    done: bool,
    /// The deadline of the edge, as of the call with this number. Only a call can change it.
    asked: (u64, u64),
}

impl<'p> World<'p> {
    fn new(plan: &'p Plan, traced: bool) -> World<'p> {
        let options = &plan.options;
        let edge_key = identity::edge_pair().public();
        let mut world = World {
            plan,
            now: 0,
            events: BinaryHeap::new(),
            event_count: 0,
            steps: 0,
            moved_bytes: 0,
            host: Host::new(options),
            model: Model::new(options, edge_key.as_bytes()),
            conns: Vec::new(),
            // The last one is the visitor.
            clients: (0..=options.clients).map(|_| Client::default()).collect(),
            backend: Backend::default(),
            link: None,
            dialing: false,
            generation: 0,
            ready: VecDeque::new(),
            writing: None,
            paused_until: 0,
            paused: 0,
            visits: Vec::new(),
            herd: None,
            next_identity: 0,
            closing: None,
            healed: false,
            hash: TraceHash::default(),
            notes: traced.then(Vec::new),
            rng: Rng::fork(options.seed, "world", 0),
            done: false,
            asked: (u64::MAX, 0),
        };
        for (number, op) in plan.ops.iter().enumerate() {
            world.at(op.at_us * 1_000, Event::Op(number));
        }
        let last = plan.ops.last().map_or(0, |op| op.at_us * 1_000);
        world.at(last + 1_000_000, Event::Closing);
        world
    }

    fn into_outcome(mut self) -> Outcome {
        let violation = self.model.violation().cloned();
        if let Some(violation) = &violation {
            let text = violation.to_string();
            self.note(Lane::Edge, Lane::Edge, Mark::Violation, || text);
        }
        Outcome {
            violation,
            hash: self.hash.value(),
            nanos: self.now,
            steps: self.steps,
            reach: self.model.reach().clone(),
            notes: self.notes.unwrap_or_default(),
        }
    }

    fn note(&mut self, from: Lane, to: Lane, mark: Mark, text: impl FnOnce() -> String) {
        let at_nanos = self.now;
        if let Some(notes) = &mut self.notes {
            notes.push(Note {
                at_nanos,
                from,
                to,
                mark,
                text: text(),
            });
        }
    }

    fn at(&mut self, nanos: u64, event: Event) {
        if nanos == u64::MAX {
            return;
        }
        self.event_count += 1;
        self.events.push(Reverse((nanos, self.event_count, event)));
    }

    fn is_over(&self) -> bool {
        self.done || self.model.is_lost() || self.model.violation().is_some()
    }

    fn run(&mut self) {
        self.look_at_link();
        while !self.is_over() {
            let next_event = self
                .events
                .peek()
                .map_or(u64::MAX, |Reverse((at, _, _))| *at);
            let due = self.next_timeout();
            if due <= next_event {
                if due == u64::MAX {
                    return self.model.fail(
                        "A2",
                        "-",
                        "nothing is left to happen before the end".to_string(),
                    );
                }
                self.now = self.now.max(due);
                self.tell_time();
                self.serve_all();
                self.check_served();
            } else if let Some(Reverse((at, _, event))) = self.events.pop() {
                self.now = self.now.max(at);
                self.handle(event);
            }
            self.serve_all();
            self.look_whether_finished();
            if self.event_count > MAX_EVENTS {
                self.model
                    .fail("A2", "-", "more events than any run needs".to_string());
            }
        }
    }

    /// Returns how long the edge has been paused so far.
    fn paused_so_far(&self) -> u64 {
        self.paused - self.paused_until.saturating_sub(self.now)
    }

    /// Returns the edge's deadline, compared with the model's once after every call.
    fn deadline(&mut self) -> u64 {
        if self.asked.0 != self.steps {
            self.model.check_deadline(&self.host);
            let due = crate::model::View::deadline(&self.host).unwrap_or(u64::MAX);
            self.asked = (self.steps, due);
        }
        self.asked.1
    }

    /// Returns when the edge is next told the time.
    fn next_timeout(&mut self) -> u64 {
        let due = self.deadline();
        let tick = self.plan.options.tick_us * 1_000;
        let ticked = match due.checked_rem(tick) {
            None | Some(0) => due,
            Some(past) => due.saturating_add(tick - past),
        };
        ticked.max(self.paused_until)
    }

    fn handle(&mut self, event: Event) {
        let for_the_edge = !matches!(
            event,
            Event::Op(_)
                | Event::ToClient(_)
                | Event::Drip(_)
                | Event::LinkToBackend(_)
                | Event::Closing
                | Event::Flood(..)
                | Event::Visit(_)
                | Event::Herd
        );
        if for_the_edge {
            if self.now < self.paused_until {
                return self.at(self.paused_until, event);
            }
            if self.deadline() <= self.now {
                self.tell_time();
                self.serve_all();
            }
        }
        match event {
            Event::Op(number) => self.operate(number),
            Event::Accept(conn) => self.accept(conn),
            Event::ToEdge(conn) => self.ready.push_back(Work::Read(conn)),
            Event::Writable(conn) => {
                self.conns[conn as usize].blocked = false;
                self.ready.push_back(Work::Serve(conn));
            }
            Event::ToClient(conn) => self.reach_client(conn),
            Event::Drip(conn) => self.drip(conn),
            Event::GiveUp(conn) => self.give_up(conn),
            Event::LinkDialed(generation) => self.link_dialed(generation),
            Event::LinkToEdge(generation) | Event::LinkWritable(generation) => {
                if let Some(link) = self
                    .link
                    .as_mut()
                    .filter(|link| link.generation == generation)
                {
                    link.blocked &= !matches!(event, Event::LinkWritable(_));
                    self.ready.push_back(Work::Link);
                }
            }
            Event::LinkToBackend(generation) => self.reach_backend(generation),
            Event::LinkGiveUp(generation) => self.link_give_up(generation),
            Event::Closing => self.look_whether_well(),
            Event::Shutdown(within) => self.shut_down(within),
            Event::Flood(op, number) => self.flood(op, number),
            Event::Visit(number) => self.look_at_visit(number),
            Event::Herd => self.look_at_herd(),
        }
    }

    fn operate(&mut self, number: usize) {
        let op = &self.plan.ops[number];
        let lane = match op.action {
            Action::Connect { client, .. }
            | Action::Send { client, .. }
            | Action::Drop { client, .. }
            | Action::Stall { client }
            | Action::Unstall { client }
            | Action::Resume { client }
            | Action::Attempt { client, .. }
            | Action::Half { client }
            | Action::TooLong { client } => Lane::Client(client as u32),
            Action::Pause { .. } | Action::Shutdown { .. } => Lane::Edge,
            _ => Lane::Backend,
        };
        self.note(lane, lane, Mark::Fault, || op.action.to_string());
        let known = |client: usize| client < self.plan.options.clients as usize;
        match op.action {
            Action::Connect { client, join } if known(client) => self.connect(client, join),
            Action::Send {
                client,
                count,
                bytes,
            } if known(client) => self.client_sends(client, count, bytes as usize),
            Action::Drop { client, how } if known(client) => self.client_drops(client, how),
            Action::Stall { client } if known(client) => self.clients[client].stalled = true,
            Action::Unstall { client } if known(client) => self.unstall(client),
            Action::Resume { client } if known(client) => self.resume(client),
            Action::Attempt { client, how } if known(client) => self.attempt(client, how),
            Action::Half { client } if known(client) => self.client_half(client),
            Action::TooLong { client } if known(client) => self.client_too_long(client),
            Action::Pause { ms } => {
                let until = self.paused_until.max(self.now + ms * 1_000_000);
                self.paused = self.paused_so_far() + until - self.now;
                self.paused_until = until;
            }
            Action::Flood { .. } => self.flood(number, 0),
            Action::Visit {} => self.visit(),
            Action::SendAll { count, bytes } => self.send_all(count, bytes),
            Action::Herd { how } => self.scatter(how),
            Action::Shutdown { ms } => self.at(self.now, Event::Shutdown(ms * 1_000_000)),
            ref other => self.backend_operates(other),
        }
    }
}
