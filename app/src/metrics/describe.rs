//! Every metric that an edge can have, as its page of `/metrics` shows it: the dashboard, the rules, and the list for people follow from it.

use std::fmt::Write as _;

use serde::Serialize;
use voltlane_core::edge::Histogram;

use super::{Backend, Shard, Snapshot, encode};
use crate::file_errors;

/// A metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Description {
    /// The name, as a query has it. That of a histogram is without `_bucket`, `_sum` and `_count`.
    pub name: String,
    /// Counter, gauge, histogram or info.
    #[serde(rename = "type")]
    pub kind: String,
    /// The unit, if it has one.
    pub unit: Option<String>,
    /// Its labels, without those that Prometheus adds, and without the bounds of a histogram.
    pub labels: Vec<Label>,
    /// What it tells.
    pub help: String,
}

/// A label of a metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Label {
    /// Its name.
    pub name: String,
    /// All of its values. None, where they follow from the configuration or from the build.
    pub values: Vec<String>,
}

/// Labels whose values are not the same for each edge.
const OWN_VALUES: [&str; 4] = ["listener", "backend", "shard", "version"];

/// Returns all metrics, in the order of the page. Some of them are there only where an edge has what they are about: a listener with a
/// certificate, several backends, a recording.
#[must_use]
pub fn describe() -> Vec<Description> {
    let page = encode(&with_everything());
    let mut all: Vec<Description> = Vec::new();
    for line in page.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match (words.as_slice(), all.last_mut()) {
            (["#", "HELP", name, help], _) => all.push(Description {
                name: (*name).to_owned(),
                kind: String::new(),
                unit: None,
                labels: Vec::new(),
                // The encoder ends each with a full stop.
                help: help.trim_end_matches('.').to_owned(),
            }),
            (["#", "TYPE", _, kind], Some(last)) => {
                last.kind = (*kind).to_owned();
                match *kind {
                    "counter" => last.name.push_str("_total"),
                    "info" => last.name.push_str("_info"),
                    _ => {}
                }
            }
            (["#", "UNIT", _, unit], Some(last)) => last.unit = Some((*unit).to_owned()),
            (["#", ..] | [], _) | (_, None) => {}
            (_, Some(last)) => last.add_labels(line),
        }
    }
    all
}

/// Returns figures of an edge that has everything of which there are metrics.
fn with_everything() -> Snapshot {
    let listener = || vec![("main".to_owned(), 0)];
    Snapshot {
        accepts: listener(),
        expiries: listener(),
        list_expiries: listener(),
        handshakes: handshake_ends()
            .into_iter()
            .map(|end| ("main".to_owned(), end, Histogram::default()))
            .collect(),
        refusals: upgrade_refusals()
            .into_iter()
            .map(|reason| ("main".to_owned(), reason, 0))
            .collect(),
        file_errors: file_errors::counts(),
        shared_bans: Some((0, 0)),
        recording: Some(true),
        shards: vec![Shard::default()],
        backends: vec![Backend::default()],
        ..Snapshot::default()
    }
}

/// Returns how handshakes of TLS end, in a build that has it.
fn handshake_ends() -> Vec<&'static str> {
    #[cfg(feature = "tls")]
    let ends = voltlane_doors::HandshakeEnd::ALL.map(voltlane_doors::HandshakeEnd::name);
    #[cfg(not(feature = "tls"))]
    let ends = [];
    ends.into()
}

/// Returns why requests for WebSocket are refused, in a build that has it.
fn upgrade_refusals() -> Vec<&'static str> {
    #[cfg(feature = "websocket")]
    let reasons = {
        use voltlane_doors::websocket::http::Refusal;
        Refusal::ALL.map(Refusal::name)
    };
    #[cfg(not(feature = "websocket"))]
    let reasons = [];
    reasons.into()
}

impl Description {
    fn add_labels(&mut self, sample: &str) {
        let Some((_, rest)) = sample.split_once('{') else {
            return;
        };
        let labels = rest.split_once('}').map_or("", |(labels, _)| labels);
        let labels = labels.split(',').filter_map(|pair| pair.split_once('='));
        for (name, value) in labels.filter(|(name, _)| *name != "le") {
            let place = self.labels.iter().position(|label| label.name == name);
            let place = place.unwrap_or_else(|| {
                self.labels.push(Label {
                    name: name.to_owned(),
                    values: Vec::new(),
                });
                self.labels.len() - 1
            });
            let value = value.trim_matches('"');
            let values = &mut self.labels[place].values;
            if !OWN_VALUES.contains(&name) && values.iter().all(|known| known != value) {
                values.push(value.to_owned());
            }
        }
    }

    /// Returns its labels with their values, for people.
    fn labels_in_words(&self) -> String {
        let labels = self.labels.iter().map(|label| match &*label.values {
            [] => label.name.clone(),
            values => format!("{} ({})", label.name, values.join(", ")),
        });
        labels.collect::<Vec<_>>().join("; ")
    }
}

/// Returns the metrics for people: one after the other, each with what it tells.
#[must_use]
pub fn describe_as_text() -> String {
    let mut out = String::new();
    for metric in describe() {
        let unit = metric.unit.as_deref().map(|unit| format!(" in {unit}"));
        let unit = unit.unwrap_or_default();
        // Writing into a string does not fail.
        let _ = writeln!(
            out,
            "{} ({}{unit})\n  {}",
            metric.name, metric.kind, metric.help
        );
        let labels = metric.labels_in_words();
        if !labels.is_empty() {
            let _ = writeln!(out, "  labels: {labels}");
        }
    }
    out
}

/// Returns the metrics as a list of JSON, on several lines.
///
/// # Panics
/// Never: text can be serialized.
#[must_use]
pub fn describe_as_json() -> String {
    let json = serde_json::to_string_pretty(&describe()).expect("a list is JSON");
    format!("{json}\n")
}

/// Returns the metrics as a table of Markdown.
#[must_use]
pub fn describe_as_markdown() -> String {
    let mut out = String::from(
        "| metric | type | unit | labels | what it tells |\n| --- | --- | --- | --- | --- |\n",
    );
    let cell = |text: &str| match text {
        "" => String::new(),
        text => format!("{text} "),
    };
    for metric in describe() {
        let unit = cell(metric.unit.as_deref().unwrap_or_default());
        let labels = cell(&metric.labels_in_words());
        let _ = writeln!(
            out,
            "| `{}` | {} | {unit}| {labels}| {} |",
            metric.name, metric.kind, metric.help
        );
    }
    out
}
