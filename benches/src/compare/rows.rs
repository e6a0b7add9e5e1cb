//! The rows of the comparison: the load, the figure that counts, and our goals.

use std::fmt;
use std::time::Duration;

use crate::load::Scenario;
use crate::load::carriage::Carriage;
use crate::load::meter::Outcome;
use crate::load::process::Placement;
use crate::load::program::Program;

/// The figure of a run that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// CPU microseconds of the program for one packet.
    CpuPerPacket,
    /// CPU microseconds of the program for one session, or one handshake.
    CpuPerSession,
    /// Resident bytes for each silent client.
    IdleBytes,
    /// The 99th percentile of the latency, from the time at which a packet was due.
    P99,
}

impl Metric {
    /// Returns the figure, if the run has it.
    pub fn of(self, outcome: &Outcome) -> Option<f64> {
        match self {
            Self::CpuPerPacket | Self::CpuPerSession => outcome.cpu_micros(),
            Self::IdleBytes => outcome.idle_bytes,
            Self::P99 => Some(outcome.latency_millis(0.99)),
        }
    }

    /// Returns how often it is measured at least, and `rounds` times otherwise. Single figures of a p99 differ by a factor of ten.
    pub fn rounds(self, rounds: usize) -> usize {
        match self {
            Self::P99 => rounds.max(P99_ROUNDS),
            _ => rounds.max(1),
        }
    }

    /// Returns how long a measurement takes, given how long most of them take.
    pub fn measure(self, most: Duration) -> Duration {
        match self {
            Self::P99 => most.min(P99_MEASURE),
            _ => most,
        }
    }

    /// Returns the unit of the figure.
    pub fn unit(self) -> &'static str {
        match self {
            Self::CpuPerPacket => "CPU µs/packet",
            Self::CpuPerSession => "CPU µs",
            Self::IdleBytes => "bytes/client",
            Self::P99 => "p99 ms",
        }
    }
}

/// The least number of measurements of a p99.
pub const P99_ROUNDS: usize = 9;
/// The longest measurement of a p99: many short ones tell more than few long ones.
pub const P99_MEASURE: Duration = Duration::from_secs(1);

/// A goal for our programs.
#[derive(Clone, Debug, PartialEq)]
pub enum Goal {
    /// At most this many times the program's own figure without TLS and WebSocket.
    TimesPlain(f64),
    /// At most this many times another program.
    TimesOf(Program, f64),
    /// At most this figure.
    AtMost(f64),
    /// Less than another program.
    Under(Program),
    /// In no more than three quarters of all pairs of rounds later than another program.
    NoLater(Program),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimesPlain(times) => write!(f, "≤ {times} × own tcp"),
            Self::TimesOf(program, times) => write!(f, "≤ {times} × {program}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::Under(program) => write!(f, "< {program}"),
            Self::NoLater(program) => write!(f, "no later than {program}"),
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// The heading of the row.
    pub title: &'static str,
    /// The load.
    pub scenario: Scenario,
    /// How the clients are carried.
    pub carriage: Carriage,
    /// The figure.
    pub metric: Metric,
    /// The CPUs of load and program.
    pub placement: Placement,
    tokio: Vec<Goal>,
    smol: Vec<Goal>,
}

impl Row {
    /// Returns the goals of a program in this row.
    pub fn goals(&self, program: &Program) -> &[Goal] {
        match program {
            Program::Voltlane => &self.tokio,
            Program::VoltlaneSmol => &self.smol,
            _ => &[],
        }
    }

    /// Returns whether this is the row `other` without TLS and WebSocket.
    pub fn is_plain_of(&self, other: &Row) -> bool {
        self.carriage == Carriage::Tcp
            && self.metric == other.metric
            && self.scenario == other.scenario
            && self.placement == other.placement
    }

    /// Returns whether the row has a figure of this program.
    pub fn suits(&self, program: &Program) -> bool {
        match program {
            // Where there is one CPU for the program, the default is one shard.
            Program::OneShard => self.placement == Placement::Shared,
            // Only its latency says something.
            Program::Direct => self.metric == Metric::P99,
            _ => true,
        }
    }
}

/// What our programs may cost with a shard for each processor, as a factor on one shard.
const MANY_SHARDS: f64 = 1.15;

/// All rows: those of programs in their defaults on all CPUs, then those of programs apart from the load, then both kinds with TLS and
/// WebSocket.
pub fn all() -> Vec<Row> {
    [shared(), apart(), carried()].concat()
}

fn echo(clients: usize, in_flight: usize, size: usize) -> Scenario {
    Scenario::Echo {
        clients,
        in_flight,
        size,
    }
}

const fn fan_out() -> Scenario {
    Scenario::FanOut {
        clients: 1000,
        in_flight: 4,
        size: 64,
    }
}

const fn rate(per_second: u64) -> Scenario {
    Scenario::Rate {
        clients: 1000,
        per_second,
        size: 64,
        joins: 0,
    }
}

fn shared() -> Vec<Row> {
    let row = |title, scenario, metric| Row {
        title,
        scenario,
        carriage: Carriage::Tcp,
        metric,
        placement: Placement::Shared,
        tokio: vec![Goal::TimesOf(Program::OneShard, MANY_SHARDS)],
        smol: vec![Goal::TimesOf(Program::Voltlane, 1.2)],
    };
    let cpu = Metric::CpuPerPacket;
    let mut latency = row(
        "20,000 packets/s over 1,000 clients",
        rate(20_000),
        Metric::P99,
    );
    latency.tokio = vec![Goal::NoLater(Program::OneShard)];
    latency.smol = vec![Goal::NoLater(Program::Voltlane)];
    vec![
        row("100 clients, 1 in flight", echo(100, 1, 64), cpu),
        row("1,000 clients, 1 in flight", echo(1000, 1, 64), cpu),
        row("100 clients, 16 in flight", echo(100, 16, 64), cpu),
        row(
            "50 clients, 16 KiB, 4 in flight",
            echo(50, 4, 16 << 10),
            cpu,
        ),
        row("backend to 1,000 clients in turn", fan_out(), cpu),
        row("20,000 packets/s over 1,000 clients", rate(20_000), cpu),
        row("60,000 packets/s over 1,000 clients", rate(60_000), cpu),
        latency,
    ]
}

fn apart() -> Vec<Row> {
    let row = |title, scenario, metric, goal| Row {
        title,
        scenario,
        carriage: Carriage::Tcp,
        metric,
        placement: Placement::Apart,
        tokio: vec![goal],
        smol: vec![Goal::TimesOf(Program::Voltlane, 1.2)],
    };
    let mut batched = row(
        "100 clients, 16 in flight",
        echo(100, 16, 64),
        Metric::CpuPerPacket,
        Goal::TimesOf(Program::Bare, 1.3),
    );
    batched.tokio.push(Goal::Under(Program::Haproxy));
    let mut idle = row(
        "an idle client",
        Scenario::Idle { clients: 9000 },
        Metric::IdleBytes,
        Goal::AtMost(1024.0),
    );
    idle.smol = vec![Goal::AtMost(768.0)];
    let mut latency = row(
        "20,000 packets/s over 1,000 clients",
        rate(20_000),
        Metric::P99,
        Goal::NoLater(Program::Bare),
    );
    latency.smol = vec![Goal::NoLater(Program::Voltlane)];
    vec![
        row(
            "100 clients, 1 in flight",
            echo(100, 1, 64),
            Metric::CpuPerPacket,
            Goal::TimesOf(Program::Bare, 1.15),
        ),
        row(
            "1,000 clients, 1 in flight",
            echo(1000, 1, 64),
            Metric::CpuPerPacket,
            Goal::TimesOf(Program::Bare, 1.15),
        ),
        batched,
        row(
            "50 clients, 16 KiB, 4 in flight",
            echo(50, 4, 16 << 10),
            Metric::CpuPerPacket,
            Goal::TimesOf(Program::Bare, 1.15),
        ),
        row(
            "backend to 1,000 clients in turn",
            fan_out(),
            Metric::CpuPerPacket,
            Goal::TimesOf(Program::Bare, 1.3),
        ),
        row(
            "a new session",
            Scenario::Joins { clients: 64 },
            Metric::CpuPerSession,
            Goal::TimesOf(Program::Bare, 1.2),
        ),
        row(
            "a reconnect",
            Scenario::Reconnects { clients: 1000 },
            Metric::CpuPerSession,
            Goal::AtMost(120.0),
        ),
        idle,
        latency,
    ]
}

/// The rows whose title contains `part`, and those that they are compared with.
pub fn with(part: &str) -> Vec<Row> {
    let mut rows = all();
    let chosen: Vec<_> = rows
        .iter()
        .filter(|row| row.title.contains(part))
        .cloned()
        .collect();
    rows.retain(|row| row.title.contains(part) || chosen.iter().any(|one| row.is_plain_of(one)));
    rows
}

/// The rows with TLS and WebSocket, whose goals are the same for both programs.
fn carried() -> Vec<Row> {
    use Carriage::{Tls, WebSocket as Ws, WebSocketTls as Wss};
    let row = |title, carriage, scenario, metric, goals: &[Goal], placement| Row {
        title,
        scenario,
        carriage,
        metric,
        placement,
        tokio: goals.into(),
        smol: goals.into(),
    };
    let packets = [
        ("TLS: 100 clients, 1 in flight", Tls, 1, 1.3),
        ("TLS: 100 clients, 16 in flight", Tls, 16, 1.3),
        ("WebSocket: 100 clients, 1 in flight", Ws, 1, 1.15),
        ("WebSocket: 100 clients, 16 in flight", Ws, 16, 1.15),
        ("WebSocket in TLS: 100 clients, 1 in flight", Wss, 1, 1.4),
        ("WebSocket in TLS: 100 clients, 16 in flight", Wss, 16, 1.4),
    ];
    let mut rows = Vec::new();
    for placement in [Placement::Shared, Placement::Apart] {
        rows.extend(packets.map(|(title, carriage, in_flight, times)| {
            let goals = [
                Goal::TimesPlain(times),
                Goal::TimesOf(Program::Haproxy, 0.5),
            ];
            let load = echo(100, in_flight, 64);
            row(
                title,
                carriage,
                load,
                Metric::CpuPerPacket,
                &goals,
                placement,
            )
        }));
    }
    let idle = [
        ("TLS: an idle client", Tls, 4500.0),
        ("WebSocket: an idle client", Ws, 800.0),
        ("WebSocket in TLS: an idle client", Wss, 4700.0),
    ];
    rows.extend(idle.map(|(title, carriage, most)| {
        let (load, goals) = (Scenario::Idle { clients: 4000 }, [Goal::AtMost(most)]);
        row(
            title,
            carriage,
            load,
            Metric::IdleBytes,
            &goals,
            Placement::Apart,
        )
    }));
    let (load, goals) = (Scenario::Handshakes { clients: 64 }, [Goal::AtMost(150.0)]);
    let title = "TLS: a full handshake";
    let cpu = Metric::CpuPerSession;
    rows.push(row(title, Tls, load, cpu, &goals, Placement::Apart));
    rows
}
