//! What a run counts, and the figures that come of it.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::fleet::Client;
use super::payload::{Clock, Head};
use super::process::{self, CpuTime, Memory};

/// Counts operations and how long each took.
#[derive(Debug)]
pub struct Meter {
    /// Operations that were done while it was recording.
    pub operations: u64,
    /// Packets that were not the one expected: lost, doubled, out of order, or of another client.
    pub wrong: u64,
    /// Nanoseconds that each operation took, from the time at which it was due.
    pub latency: Histogram<u64>,
    /// Operations count only while this is set.
    pub recording: bool,
    clock: Clock,
}

impl Meter {
    /// Records nothing yet.
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

    /// Takes a packet that came to `client`.
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

    /// Takes an operation that was due at `due` and is done now.
    pub fn operation(&mut self, due: Duration) {
        if self.recording {
            self.operations += 1;
            self.latency
                .saturating_record(self.clock.now().saturating_sub(due).as_nanos() as u64);
        }
    }
}

/// The state of the program and the clock at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    at: Duration,
    cpu: Option<CpuTime>,
}

impl Snapshot {
    /// Now.
    pub fn take(clock: Clock, pid: Option<u32>) -> std::io::Result<Self> {
        Ok(Self {
            at: clock.now(),
            cpu: pid.map(process::cpu_time).transpose()?,
        })
    }

    /// Time from this to a later one.
    pub fn time_until(self, later: Self) -> Duration {
        later.at - self.at
    }

    /// CPU time used from this to a later one.
    pub fn cpu_until(self, later: Self) -> Option<CpuTime> {
        self.cpu.zip(later.cpu).map(|(start, end)| end.since(start))
    }
}

/// The result of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Operations while it was measured.
    pub operations: u64,
    /// For how long it was measured.
    pub elapsed: Duration,
    /// CPU time of the program meanwhile; none without a program.
    pub cpu: Option<CpuTime>,
    /// Memory of the program at the end.
    pub memory: Option<Memory>,
    /// Resident bytes for each idle client, where that is what was measured.
    pub idle_bytes: Option<f64>,
    /// See [`Meter::wrong`].
    pub wrong: u64,
    /// Connections that broke and should not have.
    pub broken: u64,
    /// See [`Meter::latency`].
    pub latency: Histogram<u64>,
}

impl Outcome {
    /// The figures between two snapshots.
    pub fn between(start: Snapshot, end: Snapshot, meter: Meter) -> Self {
        Self {
            operations: meter.operations,
            elapsed: start.time_until(end),
            cpu: start.cpu_until(end),
            memory: None,
            idle_bytes: None,
            wrong: meter.wrong,
            broken: 0,
            latency: meter.latency,
        }
    }

    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// CPU microseconds of the program for each operation.
    pub fn cpu_micros(&self) -> Option<f64> {
        self.per_operation(|cpu| cpu.total)
    }

    /// The same in user mode only: split by the kernel's tick, so coarser than the sum.
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

    /// Share of the measured time in which the program was on a CPU; above 1 with several threads.
    pub fn busy(&self) -> Option<f64> {
        self.cpu.map(|cpu| cpu.total.div_duration_f64(self.elapsed))
    }

    /// Latency at a quantile (0 to 1), milliseconds.
    pub fn latency_millis(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }

    fn per_operation(&self, time: impl Fn(CpuTime) -> Duration) -> Option<f64> {
        let cpu = self.cpu?;
        (self.operations > 0).then(|| time(cpu).as_secs_f64() * 1e6 / self.operations as f64)
    }
}
