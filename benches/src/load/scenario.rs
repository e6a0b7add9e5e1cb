//! The kinds of load.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::backend::{Job, check};
use super::carriage::Carriage;
use super::fleet::{Client, Event, Next};
use super::meter::{Churned, Meter, Outcome, Snapshot};
use super::payload::Head;
use super::program::Program;
use super::{Bench, LoadError, process};

/// How long memory may take to settle before it is read.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a client of version 3 may take to acknowledge its last packet, which the edge keeps until then: eight times the default of
/// `ack_delay`.
const ACKNOWLEDGED: Duration = Duration::from_secs(2);
const ECHO_WITHIN: Duration = Duration::from_secs(10);

/// A kind of load with its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Closed loop: each client always has a fixed number of packets in flight.
    Echo {
        /// Clients.
        clients: usize,
        /// Packets in flight per client.
        in_flight: usize,
        /// Bytes of a packet.
        size: usize,
    },
    /// Packets at a fixed rate, spread over the clients, whether or not earlier ones came back.
    Rate {
        /// Clients.
        clients: usize,
        /// Packets a second, over all clients.
        per_second: u64,
        /// Bytes of a packet.
        size: usize,
        /// Others, which all join when the measurement begins, and are silent.
        joins: usize,
    },
    /// The backend writes to the clients in turn, or to all at once on a link of version 3.
    FanOut {
        /// Clients.
        clients: usize,
        /// Maximum number of packets in flight per client.
        in_flight: usize,
        /// Bytes of a packet.
        size: usize,
    },
    /// Clients join, leave and join as new ones.
    Joins {
        /// Clients at the same time.
        clients: usize,
    },
    /// Clients close and resume as the same ones.
    Reconnects {
        /// Clients that take turns.
        clients: usize,
    },
    /// Clients open TLS and WebSocket, say nothing, and begin again.
    Handshakes {
        /// Clients at the same time.
        clients: usize,
    },
    /// Clients that sent one packet and are silent since.
    Idle {
        /// Clients.
        clients: usize,
    },
    /// An echo of clients that lose their connection again and again, in every way, and come back.
    Churn {
        /// Clients.
        clients: usize,
        /// Packets in flight per client.
        in_flight: usize,
        /// Bytes of a packet.
        size: usize,
    },
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo {
                clients,
                in_flight,
                size,
            } => {
                write!(
                    f,
                    "echo: {clients} clients, {in_flight} in flight each, {size} bytes"
                )
            }
            Self::Rate {
                clients,
                per_second,
                size,
                joins,
            } => {
                write!(
                    f,
                    "rate: {per_second} packets/s over {clients} clients, {size} bytes"
                )?;
                match joins {
                    0 => Ok(()),
                    _ => write!(f, ", while {joins} join"),
                }
            }
            Self::FanOut {
                clients,
                in_flight,
                size,
            } => {
                write!(
                    f,
                    "fan-out: to {clients} clients in turn, {in_flight} in flight each, {size} bytes"
                )
            }
            Self::Joins { clients } => write!(f, "joins: {clients} at a time"),
            Self::Reconnects { clients } => write!(f, "reconnects: {clients} clients in turn"),
            Self::Handshakes { clients } => write!(f, "handshakes: {clients} at a time"),
            Self::Idle { clients } => write!(f, "idle: {clients} clients"),
            Self::Churn {
                clients,
                in_flight,
                size,
            } => write!(
                f,
                "churn: {clients} clients, {in_flight} in flight each, {size} bytes"
            ),
        }
    }
}

impl Scenario {
    /// Returns whether the program has what this scenario measures.
    pub fn suits(&self, program: &Program) -> bool {
        match self {
            Self::Echo { .. } | Self::Rate { .. } => true,
            Self::FanOut { .. } | Self::Joins { .. } => !program.is_plain(),
            Self::Idle { .. } | Self::Handshakes { .. } => *program != Program::Direct,
            Self::Reconnects { .. } | Self::Churn { .. } => program.resumes(),
        }
    }

    /// Returns the minimum number of loopback addresses. When connections come and go, one address has too few ports: the load would wait
    /// for those in TIME_WAIT.
    pub(super) fn min_sources(&self) -> u32 {
        match self {
            Self::Joins { .. }
            | Self::Reconnects { .. }
            | Self::Handshakes { .. }
            | Self::Churn { .. } => 8,
            Self::Rate { joins, .. } if *joins > 0 => 8,
            Self::Echo { .. } | Self::Rate { .. } | Self::FanOut { .. } | Self::Idle { .. } => 1,
        }
    }

    /// Returns whether its clients speak the protocol.
    pub(super) fn has_sessions(&self) -> bool {
        !matches!(self, Self::Handshakes { .. })
    }

    pub(super) fn job(&self, program: &Program, carriage: Carriage) -> Job {
        match *self {
            Self::FanOut {
                clients,
                in_flight,
                size,
            } => Job::FanOut {
                size,
                window: (clients * in_flight) as u64,
            },
            Self::Churn { .. } => Job::EchoChecked,
            _ if program.is_plain() && carriage.has_websocket() => Job::EchoMessages,
            _ if program.is_plain() => Job::EchoPlain,
            _ => Job::Echo,
        }
    }

    pub(super) fn run(&self, bench: &mut Bench) -> Result<Outcome, LoadError> {
        match *self {
            Self::Echo {
                clients,
                in_flight,
                size,
            } => echo(bench, clients, in_flight, size),
            Self::Rate {
                clients,
                per_second,
                size,
                joins,
            } => rate(bench, clients, per_second, size, joins),
            Self::FanOut { clients, size, .. } => fan_out(bench, clients, size),
            Self::Joins { clients } | Self::Handshakes { clients } => joins(bench, clients),
            Self::Reconnects { clients } => reconnects(bench, clients),
            Self::Idle { clients } => idle(bench, clients),
            Self::Churn {
                clients,
                in_flight,
                size,
            } => churn(bench, clients, in_flight, size),
        }
    }
}

fn echo(
    bench: &mut Bench,
    clients: usize,
    in_flight: usize,
    size: usize,
) -> Result<Outcome, LoadError> {
    bench.connect(clients)?;
    let clock = bench.clock;
    for index in 0..clients {
        let client = &mut bench.fleet.clients[index];
        (0..in_flight).for_each(|_| send(client, clock.now(), size));
        bench.fleet.flush(index, &mut |_, _| {});
    }
    bench.measure(&mut |meter, client, event| {
        if let Event::Packet(packet) = event {
            meter.packet(client, packet);
            send(client, clock.now(), size);
        }
    })
}

fn rate(
    bench: &mut Bench,
    clients: usize,
    per_second: u64,
    size: usize,
    joins: usize,
) -> Result<Outcome, LoadError> {
    bench.connect(clients)?;
    let mut meter = Meter::new(bench.clock);
    let every = Duration::from_secs(1) / u32::try_from(per_second.max(1)).unwrap_or(u32::MAX);
    let begin = bench.clock.now();
    let record_from = begin + bench.options.warm_up;
    let end = record_from + bench.options.measure;
    let mut start = None;
    let mut due = begin;
    let mut turn = 0;
    while bench.clock.now() < end {
        if start.is_none() && bench.clock.now() >= record_from {
            start = Some(Snapshot::take(bench.clock, bench.pid())?);
            meter.recording = true;
            bench.fleet.add(joins);
        }
        while due <= bench.clock.now() {
            send(&mut bench.fleet.clients[turn], due, size);
            bench.fleet.flush(turn, &mut |_, _| {});
            turn = (turn + 1) % clients;
            due += every;
        }
        bench.fleet.turn(due.min(end), &mut |client, event| {
            if let Event::Packet(packet) = event {
                meter.packet(client, packet);
            }
        })?;
    }
    let end = Snapshot::take(bench.clock, bench.pid())?;
    Ok(Outcome::between(start.unwrap_or(end), end, meter))
}

fn fan_out(bench: &mut Bench, clients: usize, size: usize) -> Result<Outcome, LoadError> {
    bench.connect(clients)?;
    let clock = bench.clock;
    for index in 0..clients {
        send(&mut bench.fleet.clients[index], clock.now(), size);
        bench.fleet.flush(index, &mut |_, _| {});
    }
    let until = clock.now() + ECHO_WITHIN;
    let shared = std::sync::Arc::clone(&bench.backend.shared);
    while shared.introduced.load(Relaxed) < clients {
        if clock.now() > until {
            let ready = shared.introduced.load(Relaxed);
            return Err(LoadError::NotReady {
                phase: "introducing",
                ready,
                clients,
                within: ECHO_WITHIN,
            });
        }
        bench.turn_for(Duration::from_millis(10), &mut |_, _| {})?;
    }
    shared.set_fan_out(true);
    let outcome = bench.measure(&mut |meter, client, event| {
        if let Event::Packet(packet) = event {
            meter.packet(client, packet);
            shared.add_taken(1);
        }
    });
    shared.set_fan_out(false);
    outcome
}

fn joins(bench: &mut Bench, clients: usize) -> Result<Outcome, LoadError> {
    bench.fleet.add(clients);
    bench.measure(&mut |meter, client, event| {
        if event == Event::Ready {
            meter.operation(client.begun);
            client.next = Next::Rejoin;
        }
    })
}

fn reconnects(bench: &mut Bench, clients: usize) -> Result<Outcome, LoadError> {
    bench.connect(clients)?;
    for index in 0..clients {
        bench.fleet.clients[index].next = Next::Resume;
        bench.fleet.flush(index, &mut |_, _| {});
    }
    bench.measure(&mut |meter, client, event| {
        if event == Event::Ready {
            meter.operation(client.begun);
            client.next = Next::Resume;
        }
    })
}

fn idle(bench: &mut Bench, clients: usize) -> Result<Outcome, LoadError> {
    let Some(pid) = bench.pid() else {
        return Err(LoadError::NotApplicable(Program::Direct));
    };
    let mut meter = Meter::new(bench.clock);
    // For the first client the program loads what it has once for all: its code, its tables of numbers, its first buffers.
    bench.connect(1)?;
    say_in_turn(bench, 0..1, &mut meter)?;
    bench.turn_for(ACKNOWLEDGED + SETTLE, &mut |_, _| {})?;
    let before = process::memory(pid)?.resident;
    let start = Snapshot::take(bench.clock, Some(pid))?;
    bench.connect(clients)?;
    meter.recording = true;
    say_in_turn(bench, 1..clients + 1, &mut meter)?;
    bench.turn_for(ACKNOWLEDGED + SETTLE, &mut |_, _| {})?;
    let grown = process::memory(pid)?.resident.saturating_sub(before);
    let mut outcome = Outcome::between(start, Snapshot::take(bench.clock, Some(pid))?, meter);
    outcome.idle_bytes = Some(grown as f64 / clients as f64);
    Ok(outcome)
}

/// Has each of these clients send one packet and wait for it.
fn say_in_turn(
    bench: &mut Bench,
    clients: Range<usize>,
    meter: &mut Meter,
) -> Result<(), LoadError> {
    let until = bench.clock.now() + ECHO_WITHIN + Duration::from_millis(clients.len() as u64);
    for index in clients {
        send(&mut bench.fleet.clients[index], bench.clock.now(), 64);
        bench.fleet.flush(index, &mut |_, _| {});
        // One at a time, to measure what a silent client holds and not what a burst of all leaves behind.
        while bench.fleet.clients[index].expects == 0 && bench.clock.now() < until {
            bench.fleet.turn(until, &mut |client, event| {
                if let Event::Packet(packet) = event {
                    meter.packet(client, packet);
                }
            })?;
        }
    }
    Ok(())
}

/// The packets of a client between two drops, on average.
const BETWEEN_DROPS: u64 = 150;

fn churn(
    bench: &mut Bench,
    clients: usize,
    in_flight: usize,
    size: usize,
) -> Result<Outcome, LoadError> {
    bench.connect(clients)?;
    let clock = bench.clock;
    for index in 0..clients {
        let client = &mut bench.fleet.clients[index];
        (0..in_flight).for_each(|_| send(client, clock.now(), size));
        bench.fleet.flush(index, &mut |_, _| {});
    }
    let mut churned = Churned::default();
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut on = |churned: &mut Churned, client: &mut Client, event: Event<'_>, goes_on: bool| {
        match event {
            Event::Ready => {}
            // A refusal, such as that of a takeover too many.
            Event::Closed => client.next = Next::Resume,
            Event::Packet(packet) => {
                let number = Head::read(packet).map_or(u64::MAX, |head| head.number);
                let (lost, doubled) = check(&mut client.expects, number);
                churned.down += 1;
                churned.lost_down += lost;
                churned.doubled_down += doubled;
                if !goes_on {
                    return;
                }
                send(client, clock.now(), size);
                // Xorshift.
                dice ^= dice << 13;
                dice ^= dice >> 7;
                dice ^= dice << 17;
                if dice.is_multiple_of(BETWEEN_DROPS) && client.next == Next::Stay {
                    churned.drops += 1;
                    client.next = match churned.drops % 4 {
                        0 => Next::Resume,
                        1 => Next::Reset,
                        2 => Next::Cut,
                        _ => Next::TakeOver,
                    };
                }
            }
        }
    };
    let mut outcome = bench.measure(&mut |meter, client, event| {
        if let Event::Packet(packet) = event
            && let Some(head) = Head::read(packet)
        {
            meter.operation(head.due);
        }
        on(&mut churned, client, event, true);
    })?;
    // What is under way arrives.
    let until = clock.now() + ECHO_WITHIN;
    let is_settled = |client: &Client| client.expects == client.sends && client.is_settled();
    while clock.now() < until && !bench.fleet.clients.iter().all(is_settled) {
        bench.turn_for(Duration::from_millis(20), &mut |client, event| {
            on(&mut churned, client, event, false);
        })?;
    }
    let missing = |client: &Client| client.sends.saturating_sub(client.expects);
    churned.lost_down += bench.fleet.clients.iter().map(missing).sum::<u64>();
    let shared = &bench.backend.shared;
    churned.up = shared.checked.load(Relaxed);
    churned.lost_up = shared.lost.load(Relaxed);
    churned.doubled_up = shared.doubled.load(Relaxed);
    outcome.churned = Some(churned);
    Ok(outcome)
}

/// Appends the client's next packet to its output.
pub(crate) fn send(client: &mut Client, due: Duration, size: usize) {
    Head {
        number: client.sends,
        due,
    }
    .put_frame(&mut client.out, size);
    client.sends += 1;
}
