//! The counters of a run, and the figures derived from them.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::fleet::Client;
use super::payload::{Clock, Head};
use super::process::{self, CpuTime, Memory};

/// Counts operations and how long each took.
#[derive(Debug)]
pub struct Meter {
    /// Operations completed while recording.
    pub operations: u64,
    /// Packets other than the one expected: lost, duplicated, out of order, or of another client.
    pub wrong: u64,
    /// The duration of each operation in nanoseconds, from the time at which it was due.
    pub latency: Histogram<u64>,
    /// Whether operations count.
    pub recording: bool,
    clock: Clock,
}

impl Meter {
    /// Creates a meter that is not recording.
    pub fn new(clock: Clock) -> Self {
        let minute = 60_000_000_000;
        let latency = Histogram::new_with_max(minute, 3)
            .expect("a minute at three digits is within its bounds");
        Self {
            operations: 0,
            wrong: 0,
            latency,
            recording: false,
            clock,
        }
    }

    /// Records a packet that arrived at `client`.
    pub fn packet(&mut self, client: &mut Client, packet: &[u8]) {
        match Head::read(packet) {
            Some(head) if head.number == client.expects => {
                client.expects += 1;
                self.operation(head.due);
            }
            other => {
                self.wrong += 1;
                client.expects = other.map_or(client.expects, |head| head.number + 1);
            }
        }
    }

    /// Records an operation that was due at `due` and is complete now.
    pub fn operation(&mut self, due: Duration) {
        if self.recording {
            self.operations += 1;
            self.latency
                .saturating_record(self.clock.now().saturating_sub(due).as_nanos() as u64);
        }
    }
}

/// What became of the packets of clients that lost their connections.
#[derive(Clone, Copy, Debug, Default)]
pub struct Churned {
    /// Drops of connections.
    pub drops: u64,
    /// Packets that came to the backend.
    pub up: u64,
    /// Packets to the backend that never came.
    pub lost_up: u64,
    /// Packets to the backend that came again.
    pub doubled_up: u64,
    /// Packets that came to the clients.
    pub down: u64,
    /// Packets to the clients that never came. Those that the backend did not get are among them.
    pub lost_down: u64,
    /// Packets to the clients that came again.
    pub doubled_down: u64,
}

impl Churned {
    /// Returns whether each packet came once.
    pub fn is_whole(&self) -> bool {
        [
            self.lost_up,
            self.doubled_up,
            self.lost_down,
            self.doubled_down,
        ] == [0; 4]
    }
}

/// The state of the program and the clock at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    at: Duration,
    cpu: Option<CpuTime>,
}

impl Snapshot {
    /// Takes a snapshot now.
    pub fn take(clock: Clock, pid: Option<u32>) -> std::io::Result<Self> {
        Ok(Self {
            at: clock.now(),
            cpu: pid.map(process::cpu_time).transpose()?,
        })
    }

    /// Returns the time from this snapshot to a later one.
    pub fn time_until(self, later: Self) -> Duration {
        later.at - self.at
    }

    /// Returns the CPU time used from this snapshot to a later one.
    pub fn cpu_until(self, later: Self) -> Option<CpuTime> {
        self.cpu.zip(later.cpu).map(|(start, end)| end.since(start))
    }
}

/// The result of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Operations during the measurement.
    pub operations: u64,
    /// The duration of the measurement.
    pub elapsed: Duration,
    /// CPU time of the program during the measurement; `None` without a program.
    pub cpu: Option<CpuTime>,
    /// Memory of the program at the end.
    pub memory: Option<Memory>,
    /// Resident bytes per idle client, in runs that measure it.
    pub idle_bytes: Option<f64>,
    /// What became of the packets, in a churn.
    pub churned: Option<Churned>,
    /// See [`Meter::wrong`].
    pub wrong: u64,
    /// Connections that broke unexpectedly.
    pub broken: u64,
    /// See [`Meter::latency`].
    pub latency: Histogram<u64>,
}

impl Outcome {
    /// Computes the figures between two snapshots.
    pub fn between(start: Snapshot, end: Snapshot, meter: Meter) -> Self {
        Self {
            operations: meter.operations,
            elapsed: start.time_until(end),
            cpu: start.cpu_until(end),
            memory: None,
            idle_bytes: None,
            churned: None,
            wrong: meter.wrong,
            broken: 0,
            latency: meter.latency,
        }
    }

    /// Returns operations per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the program's CPU microseconds per operation.
    pub fn cpu_micros(&self) -> Option<f64> {
        self.per_operation(|cpu| cpu.total)
    }

    /// Returns the same in user mode only. The kernel splits it by its tick, so it is coarser than the total.
    pub fn user_micros(&self) -> Option<f64> {
        let share = |cpu: CpuTime| {
            let ticks = cpu.user + cpu.system;
            if ticks.is_zero() {
                Duration::ZERO
            } else {
                cpu.total.mul_f64(cpu.user.div_duration_f64(ticks))
            }
        };
        self.per_operation(share)
    }

    /// Returns the share of the measured time in which the program was on a CPU, above 1 with several threads.
    pub fn busy(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.total.div_duration_f64(self.elapsed))
    }

    /// Returns the latency at a quantile (0 to 1) in milliseconds.
    pub fn latency_millis(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }

    fn per_operation(&self, time: impl Fn(CpuTime) -> Duration) -> Option<f64> {
        let cpu = self.cpu?;
        (self.operations > 0).then(|| time(cpu).as_secs_f64() * 1e6 / self.operations as f64)
    }
}
