//! Formats metrics as text. Names follow <https://prometheus.io/docs/practices/naming>. Every label exists from the start, and none
//! contains an address or an id.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use voltlane_core::edge::{CloseReason, EndReason, Rejected};

use super::{Backend, Snapshot};

/// The media type of the output of [`encode`].
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Formats `snapshot` in the text format of OpenMetrics 1.0.
#[must_use]
pub fn encode(snapshot: &Snapshot) -> String {
    let mut registry = Registry::with_prefix("voltlane");
    registry.register_collector(Box::new(Edge(snapshot.clone())));
    let mut page = String::with_capacity(16 << 10);
    // Writing into a string does not fail.
    let _ = text::encode(&mut page, &registry);
    page
}

#[derive(Debug)]
struct Edge(Snapshot);

impl Collector for Edge {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let Snapshot {
            counters,
            gauges,
            is_ending,
            log_lines_lost,
            file_errors,
            config_read,
            shared_bans,
            recording,
            accepts,
            expiries,
            list_expiries,
            backends,
            refusals,
            ..
        } = &self.0;
        let mut page = Page(encoder);

        page.tell(
            "build",
            "The program",
            [("version", env!("CARGO_PKG_VERSION"))],
        )?;
        page.count("accepts", "Connections accepted", counters.accepted)?;
        page.count_each(
            "listener_accepts",
            "Connections accepted by each listener, before any limit",
            "listener",
            accepts.iter().map(|(name, count)| (name.as_str(), *count)),
        )?;
        page.count_each(
            "rejects",
            "Connections beyond a limit; accepted all the same if the limit is only reported",
            "reason",
            Rejected::ALL
                .map(Rejected::name)
                .into_iter()
                .zip(counters.rejected),
        )?;
        page.count_each_of_listener(
            "websocket_refusals",
            "Requests for WebSocket that were refused",
            "reason",
            refusals,
        )?;
        page.count_each(
            "closes",
            "Connections closed by the edge",
            "reason",
            CloseReason::ALL
                .map(CloseReason::name)
                .into_iter()
                .zip(counters.closed),
        )?;
        page.count("sessions_started", "Sessions begun", counters.joined)?;
        page.count_each(
            "sessions_ended",
            "Sessions ended for good",
            "reason",
            EndReason::ALL
                .map(EndReason::name)
                .into_iter()
                .zip(counters.ended),
        )?;
        page.count(
            "sessions_went_away",
            "Times that a session lost its connection and was kept",
            counters.went_away,
        )?;
        page.count(
            "challenges",
            "Challenges sent to clients that claimed a session",
            counters.challenges,
        )?;
        page.count_each(
            "reconnects",
            "Attempts to resume a session",
            "result",
            [
                ("resumed", counters.resumed),
                (
                    "refused",
                    counters.closed[CloseReason::BadProof as usize]
                        + counters.closed[CloseReason::ClaimLapsed as usize],
                ),
            ],
        )?;
        page.count(
            "takeovers",
            "Reconnects that took a session from a connection that looked alive",
            counters.takeovers,
        )?;
        page.count(
            "hand_overs",
            "Claims handed to another shard with their connections",
            counters.handed_over,
        )?;
        page.count(
            "sessions_moved",
            "Sessions that went from one backend of the edge to another",
            counters.moved,
        )?;
        page.count(
            "key_agreements",
            "Public-key agreements computed",
            counters.agreements,
        )?;
        page.count(
            "paced",
            "Times that a client exceeded its pace",
            counters.paced,
        )?;
        page.count(
            "joins_paced",
            "Newcomers that waited while many clients came back",
            counters.joins_paced,
        )?;
        page.count(
            "handshakes_paced",
            "Times that a TLS handshake waited because limits.tls_handshake_rate was reached",
            counters.handshakes_paced,
        )?;
        page.count_each(
            "packets",
            "Packets of clients queued for the link (up), and of the backend queued for clients (down)",
            "direction",
            [("up", counters.packets_up), ("down", counters.packets_down)],
        )?;
        page.count_each(
            "packets_dropped",
            "Packets of the backend that were dropped",
            "reason",
            [
                ("unknown_client", counters.unknown_client),
                ("malformed", counters.malformed_down),
            ],
        )?;
        page.count_bytes(
            "client",
            "Bytes read from clients (in) and written to them (out)",
            [
                ("in", counters.client_bytes_in),
                ("out", counters.client_bytes_out),
            ],
        )?;
        page.count_bytes(
            "link",
            "Bytes read from the backend (in) and written to it (out)",
            [
                ("in", counters.link_bytes_in),
                ("out", counters.link_bytes_out),
            ],
        )?;
        page.count_each(
            "link_changes",
            "Times that the backend's link came up, and that it was lost or could not be opened",
            "to",
            [("up", counters.link_up), ("down", counters.link_down)],
        )?;
        page.count(
            "link_violations",
            "Times that the backend's framing was lost",
            counters.link_violations,
        )?;
        page.count(
            "memory_over",
            "Times that more than 95 % of the memory limit was held",
            counters.memory_over,
        )?;
        page.count(
            "log_lines_lost",
            "Lines of the log that were not read in time, or that could not be written",
            *log_lines_lost,
        )?;
        page.count_each(
            "file_errors",
            "Errors of files that the edge keeps, and without which it goes on: the recording, saved sessions, its runs, bans",
            "file",
            file_errors.iter().copied(),
        )?;
        page.show(
            "config_refused",
            "Whether the configuration that was last read is wrong, or not in effect in full; the log says what is",
            config_read.was_refused.into(),
        )?;
        page.show_moment(
            "config_read_timestamp",
            "When the configuration was last read, since 1970",
            config_read.at,
        )?;

        page.each(
            "certificate_expiry_timestamp",
            "When the first certificate of a listener expires, since 1970",
            Some(&Unit::Seconds),
            "listener",
            expiries.iter().map(|(name, at)| (name.as_str(), *at)),
            MetricType::Gauge,
        )?;
        page.each(
            "revocation_list_expiry_timestamp",
            "When the first list of revoked certificates of a listener is to be replaced, since 1970",
            Some(&Unit::Seconds),
            "listener",
            list_expiries.iter().map(|(name, at)| (name.as_str(), *at)),
            MetricType::Gauge,
        )?;
        page.show_each(
            "connections",
            "Connections",
            "state",
            [
                ("handshake", gauges.half_open),
                (
                    "established",
                    gauges.connections.saturating_sub(gauges.half_open),
                ),
            ],
        )?;
        page.show_each(
            "sessions",
            "Sessions: attached, away, and ended with notices that wait for the backend",
            "state",
            [
                (
                    "attached",
                    gauges.sessions.saturating_sub(gauges.away + gauges.ending),
                ),
                ("away", gauges.away),
                ("ending", gauges.ending),
            ],
        )?;
        page.show(
            "sources",
            "Sources of connections that are remembered",
            gauges.sources,
        )?;
        page.show(
            "clients_waiting",
            "Clients that wait for room on the link",
            gauges.waiting,
        )?;
        page.show(
            "link_queue_packets",
            "Packets that wait for the backend",
            gauges.link_packets,
        )?;
        page.show_bytes(
            "link_queue",
            "Bytes that wait for the backend",
            gauges.link_bytes,
        )?;
        page.show_bytes("held", "Bytes that wait anywhere", gauges.held_bytes)?;
        page.show(
            "link_up",
            "Whether there is a backend",
            usize::from(gauges.has_backend()),
        )?;
        page.tell_backends(backends)?;
        page.show(
            "ending",
            "Whether the edge is shutting down",
            usize::from(*is_ending),
        )?;
        page.show(
            "draining",
            "Whether an operator wants no more sessions",
            usize::from(gauges.is_draining),
        )?;
        page.show("bans", "Networks that an operator has banned", gauges.bans)?;
        if let Some((shared, refused)) = shared_bans {
            page.show(
                "shared_bans",
                "Bans that the edges of the cluster share",
                *shared,
            )?;
            page.count(
                "shared_bans_refused",
                "Shared bans, and pages of them, that made no sense or had no room; the log says which",
                *refused,
            )?;
        }
        if let Some(goes_on) = recording {
            page.show(
                "recording",
                "Whether the edge is recorded still, if it was to be",
                usize::from(*goes_on),
            )?;
        }

        #[cfg(feature = "figures")]
        page.tell_figures(&self.0)?;
        Ok(())
    }
}

/// The name, the help, the unit and the value of a gauge of each backend.
type GaugeOfBackend<'a> = (&'a str, &'a str, Option<&'a Unit>, fn(&Backend) -> u64);

pub(super) struct Page<'a>(pub(super) DescriptorEncoder<'a>);

impl Page<'_> {
    fn tell(&mut self, name: &str, help: &str, labels: [(&str, &str); 1]) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Info)?;
        metric.encode_info(&labels)
    }

    /// What each of several backends has.
    fn tell_backends(&mut self, backends: &[Backend]) -> fmt::Result {
        if backends.is_empty() {
            return Ok(());
        }
        let numbers: Vec<String> = (0..backends.len()).map(|at| at.to_string()).collect();
        let gauges: [GaugeOfBackend<'_>; 5] = [
            (
                "backend_up",
                "Whether each of several backends is there",
                None,
                |backend| backend.is_up.into(),
            ),
            (
                "backend_draining",
                "Whether an operator wants no more sessions at each of several backends",
                None,
                |backend| backend.is_draining.into(),
            ),
            (
                "backend_sessions",
                "Sessions of each of several backends",
                None,
                |backend| backend.sessions,
            ),
            (
                "backend_queue_packets",
                "Packets that wait for each of several backends",
                None,
                |backend| backend.queue_packets,
            ),
            (
                "backend_queue",
                "Bytes that wait for each of several backends",
                Some(&Unit::Bytes),
                |backend| backend.queue_bytes,
            ),
        ];
        for (name, help, unit, value) in gauges {
            let values = numbers.iter().map(String::as_str);
            let values = values.zip(backends.iter().map(value));
            self.each(name, help, unit, "backend", values, MetricType::Gauge)?;
        }
        Ok(())
    }

    fn count(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    fn count_each<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
    ) -> fmt::Result {
        self.each(name, help, None, label, values, MetricType::Counter)
    }

    /// One value for each listener and each value of another label.
    fn count_each_of_listener(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: &[(String, &'static str, u64)],
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (listener, of, value) in values {
            let labels = [("listener", listener.as_str()), (label, *of)];
            ConstCounter::new(*value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn count_bytes(
        &mut self,
        name: &str,
        help: &str,
        values: [(&'static str, u64); 2],
    ) -> fmt::Result {
        self.each(
            name,
            help,
            Some(&Unit::Bytes),
            "direction",
            values,
            MetricType::Counter,
        )
    }

    pub(super) fn show(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        let metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value as u64).encode(metric)
    }

    fn show_moment(&mut self, name: &str, help: &str, seconds: u64) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let metric = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        ConstGauge::new(seconds).encode(metric)
    }

    pub(super) fn show_bytes(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        let metric = self
            .0
            .encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
        ConstGauge::new(value as u64).encode(metric)
    }

    fn show_each(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, usize)>,
    ) -> fmt::Result {
        let values = values
            .into_iter()
            .map(|(value_of, value)| (value_of, value as u64));
        self.each(name, help, None, label, values, MetricType::Gauge)
    }

    /// One value for each value of a label.
    pub(super) fn each<'v>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        label: &str,
        values: impl IntoIterator<Item = (&'v str, u64)>,
        kind: MetricType,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        for (of, value) in values {
            let labels = [(label, of)];
            let metric = family.encode_family(&labels)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value).encode(metric)?,
                _ => ConstGauge::new(value).encode(metric)?,
            }
        }
        Ok(())
    }
}
