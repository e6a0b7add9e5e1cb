//! Metrics of times, of each shard, and of the process.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Unit;
use voltlane_core::edge::Histogram;

use super::Snapshot;
use super::text::Page;

impl Page<'_> {
    pub(super) fn tell_figures(&mut self, snapshot: &Snapshot) -> fmt::Result {
        let Snapshot {
            counters,
            handshakes,
            turn_times,
            link_waits,
            shards,
            process,
            ..
        } = snapshot;
        self.time(
            "opening",
            "Time from the accept of a client to its session, or until that is resumed; within limits.handshake_timeout_secs",
            &[
                (&[("result", "joined")], &counters.join_time),
                (&[("result", "resumed")], &counters.resume_time),
            ],
        )?;
        let labels: Vec<_> = handshakes
            .iter()
            .map(|(listener, end, _)| [("listener", listener.as_str()), ("result", *end)])
            .collect();
        let times = handshakes.iter().map(|(_, _, times)| times);
        let times = labels.iter().map(|labels| &labels[..]).zip(times);
        self.time(
            "tls_handshake",
            "Time from the accept of a client to the end of its TLS handshake; left: the connection ended before",
            &times.collect::<Vec<_>>(),
        )?;
        self.time(
            "turn",
            "Time of a turn of a loop that another followed at once; what came meanwhile has waited as long",
            &[(&[], turn_times)],
        )?;
        self.time(
            "link_wait",
            "Time that packets for a backend waited, each time that its link took less than there was; the oldest of them waited as long",
            &[(&[], link_waits)],
        )?;
        let numbers: Vec<String> = (0..shards.len()).map(|number| number.to_string()).collect();
        let numbers = || numbers.iter().map(String::as_str);
        let connections = shards.iter().map(|shard| shard.connections);
        self.each(
            "shard_connections",
            "Connections of each shard",
            None,
            "shard",
            numbers().zip(connections),
            MetricType::Gauge,
        )?;
        let sessions = shards.iter().map(|shard| shard.sessions);
        self.each(
            "shard_sessions",
            "Sessions of each shard",
            None,
            "shard",
            numbers().zip(sessions),
            MetricType::Gauge,
        )?;
        let packets = shards.iter().map(|shard| shard.packets);
        self.each(
            "shard_packets",
            "Packets of each shard, in both directions",
            None,
            "shard",
            numbers().zip(packets),
            MetricType::Counter,
        )?;
        let held = shards.iter().map(|shard| shard.held_bytes);
        self.each(
            "shard_held",
            "Bytes that wait in each shard",
            Some(&Unit::Bytes),
            "shard",
            numbers().zip(held),
            MetricType::Gauge,
        )?;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        self.show_bytes(
            "process_resident_memory",
            "Resident memory of the process",
            size(process.resident_bytes),
        )?;
        self.count_seconds(
            "process_cpu",
            "Time of processors that the process has taken",
            Duration::from_millis(process.cpu_millis),
        )?;
        self.show(
            "process_open_descriptors",
            "Open descriptors of the process",
            size(process.descriptors),
        )?;
        self.show(
            "process_max_descriptors",
            "Descriptors that the process may have",
            size(process.max_descriptors),
        )
    }

    fn count_seconds(&mut self, name: &str, help: &str, value: Duration) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let metric = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Counter)?;
        ConstCounter::new(value.as_secs_f64()).encode(metric)
    }

    /// A histogram for each of these labels, or one without any.
    fn time(
        &mut self,
        name: &str,
        help: &str,
        times: &[(&[(&str, &str)], &Histogram)],
    ) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let mut family = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Histogram)?;
        for (labels, times) in times {
            let bounds = Histogram::BOUNDS.map(|bound| bound.as_secs_f64());
            let bounds = bounds.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(times.counts().iter().copied()).collect();
            let (sum, count) = (times.sum().as_secs_f64(), times.count());
            match *labels {
                [] => family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?,
                labels => family
                    .encode_family(&labels)?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?,
            }
        }
        Ok(())
    }
}
