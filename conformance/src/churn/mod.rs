//! Churn: clients that drop and come back at random, with numbered packets both ways, through a real edge.
//!
//! Every packet names its client, the connection it was sent on, and its number, and the rest of it is derived from these. So a packet that
//! was misdelivered, altered or duplicated shows by itself. Afterwards what each side sent is compared with what the other one received,
//! connection by connection (`verify`).

mod backend;
mod client;
mod packet;
mod verify;

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

pub use verify::{Lost, Violation};

use crate::{Backend, Edge, PATIENCE, Program};

/// The parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The number of clients.
    pub clients: u32,
    /// How long they drop and resume.
    pub duration: Duration,
    /// The seed of everything random.
    pub seed: u64,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Drop {
    /// By a FIN, and read to its end: nothing may be lost.
    Orderly,
    /// By a RST: data in the kernels may be lost.
    Reset,
    /// By a RST in the middle of a frame.
    ResetInAFrame,
    /// By a new connection of the same client while this one was open.
    TakenOver,
}

impl Drop {
    /// All variants.
    pub const ALL: [Drop; 4] = [
        Drop::Orderly,
        Drop::Reset,
        Drop::ResetInAFrame,
        Drop::TakenOver,
    ];
}

/// One connection of a client, as the client saw it.
#[derive(Debug)]
struct Connection {
    /// The range of numbers of the packets that it sent whole on this connection, the end excluded.
    sent: (u64, u64),
    /// The numbers of the packets that it received on this connection, in order of arrival.
    received: Vec<u64>,
    ended: Drop,
}

/// The results of a run.
#[derive(Debug, Default)]
pub struct Report {
    /// Connections that ended in each way, in the order of [`Drop::ALL`].
    pub drops: [u64; 4],
    /// Attempts abandoned after the challenge.
    pub abandoned: u64,
    /// Packets from clients.
    pub up: u64,
    /// Packets to clients.
    pub down: u64,
    /// Packets that did not arrive.
    pub lost: Lost,
    /// Violations, which must not happen.
    pub violations: Vec<Violation>,
}

/// Makes the edge keep everything that a client may miss.
const CONFIG: &str = "clients.missed_packets_buffer_size = 1_000_000\n\
                      clients.missed_packets_buffer_bytes = 1_000_000_000\n\
                      clients.channel_capacity = 2_000_000\n\
                      clients.channel_bytes = 1_000_000_000\n\
                      limits.accept_rate = 0\n\
                      metrics.address = \"127.0.0.1:0\"\n";

/// Runs the plan against a program.
///
/// # Panics
/// When a party cannot continue: an owner's attempt was refused, the edge ended, or nothing arrived for too long.
#[must_use]
pub fn run(program: Program, plan: Plan) -> Report {
    let listener = Backend::bind();
    let edge = Edge::start(program, listener.address(), CONFIG);
    let link = listener.accept();
    let address = edge.address();
    let until = Instant::now() + plan.duration;
    let (heard, clients) = thread::scope(|scope| {
        let clients: Vec<_> = (0..plan.clients)
            .map(|number| scope.spawn(move || client::play(address, number, plan.seed, until)))
            .collect();
        let backend = scope.spawn(move || backend::serve(link, plan.clients, plan.seed));
        let clients: Vec<_> = clients
            .into_iter()
            .map(|client| client.join().expect("a client goes on"))
            .collect();
        (backend.join().expect("the backend goes on"), clients)
    });
    let metrics = edge.metrics();
    edge.stop();
    verify::verify(&heard, &clients, &metrics)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [orderly, reset, in_a_frame, taken_over] = self.drops;
        writeln!(
            f,
            "connections ended: {orderly} in order, {reset} by a reset, {in_a_frame} by a reset in a frame, \
             {taken_over} taken over; {} attempts abandoned",
            self.abandoned
        )?;
        let Lost { up, down } = self.lost;
        writeln!(
            f,
            "packets up:   {}, lost with a connection that was reset: {up}",
            self.up
        )?;
        writeln!(
            f,
            "packets down: {}, lost with a connection that was reset: {down}",
            self.down
        )?;
        match &self.violations[..] {
            [] => write!(
                f,
                "nobody saw another's packets, order held, nothing came twice; the edge had handed over all that was lost"
            ),
            violations => {
                writeln!(f, "{} violations:", violations.len())?;
                for violation in violations.iter().take(20) {
                    writeln!(f, "  {violation}")?;
                }
                Ok(())
            }
        }
    }
}

/// Returns a plan that is short enough for a test.
#[must_use]
pub fn short(seed: u64) -> Plan {
    Plan {
        clients: 50,
        duration: PATIENCE / 8,
        seed,
    }
}
