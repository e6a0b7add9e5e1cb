//! The program's own work after each poll of a driver: it gives back memory, warns about limits, and answers the metrics.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use voltlane_core::edge::{Counters, Edge, Gauges, Histogram};
use voltlane_driver::{Connector, EdgeDriver, Listener, Timer, TrunkDriver, Uplink};

use crate::memory::Trimmer;
use crate::metrics::{Asked, Backend, Snapshot};
use crate::refusals::Refusals;

/// A driver whose machine can be watched.
pub(super) trait Watched: Future<Output = ()> {
    fn counters(&self) -> &Counters;
    fn gauges(&self) -> Gauges;
    fn turn_times(&self) -> &Histogram;
    /// Returns how many bytes the machine holds.
    fn footprint_bytes(&self) -> usize;
    /// Returns how many of them are those of packets that wait.
    fn held_bytes(&self) -> usize;

    /// Returns how long packets for the backend waited, if it has the link and tells.
    fn link_waits(&self) -> Option<&Histogram> {
        None
    }

    /// Returns whether the machine is recorded.
    fn is_recorded(&self) -> bool {
        false
    }
}

/// Returns whether the machine is recorded.
pub(super) fn is_recorded(_edge: &Edge) -> bool {
    #[cfg(feature = "record")]
    return _edge.is_recorded();
    #[cfg(not(feature = "record"))]
    false
}

impl<L: Listener, C: Uplink, T: Timer> Watched for EdgeDriver<L, C, T> {
    fn counters(&self) -> &Counters {
        self.edge().counters()
    }

    fn gauges(&self) -> Gauges {
        self.edge().gauges()
    }

    fn turn_times(&self) -> &Histogram {
        self.turn_times()
    }

    #[cfg(feature = "figures")]
    fn link_waits(&self) -> Option<&Histogram> {
        self.link_waits()
    }

    fn footprint_bytes(&self) -> usize {
        self.edge().footprint_bytes()
    }

    fn held_bytes(&self) -> usize {
        self.edge().held_bytes()
    }

    fn is_recorded(&self) -> bool {
        is_recorded(self.edge())
    }
}

impl<C: Connector, T: Timer> Watched for TrunkDriver<C, T> {
    fn counters(&self) -> &Counters {
        self.trunk().counters()
    }

    fn gauges(&self) -> Gauges {
        self.trunk().gauges()
    }

    fn turn_times(&self) -> &Histogram {
        self.turn_times()
    }

    #[cfg(feature = "figures")]
    fn link_waits(&self) -> Option<&Histogram> {
        self.link_waits()
    }

    /// The shards give back memory, the trunk's too.
    fn footprint_bytes(&self) -> usize {
        0
    }

    fn held_bytes(&self) -> usize {
        0
    }
}

/// Tells whether a backend gets no more sessions.
pub(super) type Drains = Box<dyn Fn() -> bool + Send>;

/// The watch over one machine.
pub(super) struct Watch {
    asked: Option<Asked>,
    refusals: Refusals,
    trimmer: Trimmer,
    /// Tells whether its backend drains, if it is over the trunk of one of several backends.
    drains: Option<Drains>,
    /// Whether the machine was recorded from its beginning.
    expects_recording: bool,
}

impl Watch {
    pub(super) fn new(asked: Option<Asked>, refusals: Refusals) -> Self {
        Watch {
            asked,
            refusals,
            trimmer: Trimmer::default(),
            drains: None,
            expects_recording: false,
        }
    }

    /// Has the metrics tell whether the machine is recorded still, if it was at its beginning.
    pub(super) fn expects_recording(&mut self, expects: bool) {
        self.expects_recording = expects;
    }

    /// Tells that it is over the trunk of one of several backends, if there is something that tells whether that drains.
    pub(super) fn of_backend(mut self, drains: Option<Drains>) -> Self {
        self.drains = drains;
        self
    }

    /// Polls `driver` once. `process` returns the numbers of the process that this machine answers for.
    pub(super) fn poll<D: Watched>(
        &mut self,
        mut driver: Pin<&mut D>,
        cx: &mut Context<'_>,
        process: impl FnOnce() -> Snapshot,
    ) -> Poll<()> {
        let polled = driver.as_mut().poll(cx);
        self.trimmer
            .watch(driver.footprint_bytes(), driver.held_bytes());
        self.refusals.watch(driver.counters());
        let drains = &self.drains;
        let expects_recording = self.expects_recording;
        if let Some(asked) = &mut self.asked {
            asked.answer(cx.waker(), || Snapshot {
                counters: driver.counters().clone(),
                gauges: driver.gauges(),
                turn_times: Watched::turn_times(&*driver).clone(),
                link_waits: Watched::link_waits(&*driver).cloned().unwrap_or_default(),
                backends: drains
                    .iter()
                    .map(|drains| Backend::of(&driver.gauges(), drains()))
                    .collect(),
                recording: expects_recording.then(|| driver.is_recorded()),
                ..process()
            });
        }
        polled
    }

    /// Polls `driver` to its end.
    #[cfg_attr(
        all(feature = "upgrade", target_os = "linux"),
        expect(dead_code, reason = "a station polls it")
    )]
    pub(super) async fn run<D: Watched>(mut self, mut driver: Pin<&mut D>) {
        poll_fn(|cx| self.poll(driver.as_mut(), cx, Snapshot::default)).await;
    }
}
