//! The dashboard for Grafana and the rules for Prometheus in `ops/`, generated from the metrics that the edge has.
//!
//! After a change of the metrics, `VL_BLESS=1 cargo test -p voltlane --test all dashboard::` writes them. Read the diff.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use voltlane_app::metrics::{Description, describe, describe_as_json, describe_as_markdown};

/// Returns the name of the samples of a metric that a panel shows.
fn sample(metric: &Description) -> String {
    match &*metric.kind {
        "histogram" => format!("{}_bucket", metric.name),
        _ => metric.name.clone(),
    }
}

// ---- the dashboard

/// Rows of the dashboard, each with the metrics that begin so, without `voltlane_`. The first row that fits has a metric.
const ROWS: [(&str, &[&str]); 6] = [
    (
        "The backend",
        &["link", "backend", "clients_waiting", "ending"],
    ),
    (
        "Sessions",
        &[
            "sessions",
            "reconnects",
            "takeovers",
            "challenges",
            "hand_overs",
            "sessions_moved",
            "key_agreements",
            "opening",
        ],
    ),
    ("Packets", &["packets", "client", "held", "memory", "paced"]),
    (
        "Connections and limits",
        &[
            "connections",
            "accepts",
            "listener",
            "rejects",
            "closes",
            "joins_paced",
            "handshakes_paced",
            "tls_handshake",
            "sources",
            "websocket_refusals",
        ],
    ),
    ("Shards", &["shard", "turn"]),
    ("The process", &[""]),
];
/// The width of the whole, in the units of Grafana.
const WIDTH: usize = 24;
const PANEL_WIDTH: usize = 8;
const PANEL_HEIGHT: usize = 8;

fn row_of(metric: &Description) -> usize {
    let name = metric.name.trim_start_matches("voltlane_");
    ROWS.iter()
        .position(|(_, begins)| begins.iter().any(|begin| name.starts_with(begin)))
        .expect("the last row takes all")
}

fn panel(metric: &Description, id: usize, place: (usize, usize)) -> Value {
    let sample = sample(metric);
    let selected = format!("{sample}{{instance=~\"$instance\"}}");
    let labels = || metric.labels.iter().map(|label| label.name.as_str());
    let all = || std::iter::once("instance").chain(labels());
    let by = all().collect::<Vec<_>>().join(", ");
    let is_time = metric.name.ends_with("timestamp_seconds");
    let expression = match &*metric.kind {
        "histogram" => {
            format!(
                "histogram_quantile(0.99, sum by ({by}, le) (rate({selected}[$__rate_interval])))"
            )
        }
        "counter" => format!("sum by ({by}) (rate({selected}[$__rate_interval]))"),
        _ if is_time => format!("{selected} - time()"),
        _ => selected,
    };
    let unit = match (&*metric.kind, metric.unit.as_deref().unwrap_or_default()) {
        ("counter", "bytes") => "Bps",
        (_, "bytes") => "bytes",
        (_, "seconds") => "s",
        ("counter", _) => "cps",
        _ => "short",
    };
    let legend = all().map(|label| format!("{{{{{label}}}}}"));
    let legend = legend.collect::<Vec<_>>().join(" ");
    let title = match &*metric.kind {
        "histogram" => format!("{} (99th percentile)", metric.help),
        _ if is_time => format!("{}: time left", metric.help),
        _ => metric.help.clone(),
    };
    json!({
        "id": id,
        "type": "timeseries",
        "title": title,
        "description": format!("`{sample}`"),
        "datasource": {"type": "prometheus", "uid": "$datasource"},
        "gridPos": {"x": place.0, "y": place.1, "w": PANEL_WIDTH, "h": PANEL_HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": if is_time { Value::Null } else { json!(0) }}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [{
            "refId": "A",
            "datasource": {"type": "prometheus", "uid": "$datasource"},
            "expr": expression,
            "legendFormat": legend,
        }],
    })
}

fn dashboard() -> String {
    let metrics = describe();
    let mut panels = Vec::new();
    let (mut id, mut y) = (1, 0);
    for (row, (title, _)) in ROWS.iter().enumerate() {
        panels.push(json!({
            "id": id, "type": "row", "title": title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
        }));
        (id, y) = (id + 1, y + 1);
        let mut x = 0;
        let of_row = metrics.iter().filter(|metric| row_of(metric) == row);
        for metric in of_row.filter(|metric| metric.kind != "info") {
            if x == WIDTH {
                (x, y) = (0, y + PANEL_HEIGHT);
            }
            panels.push(panel(metric, id, (x, y)));
            (id, x) = (id + 1, x + PANEL_WIDTH);
        }
        y += PANEL_HEIGHT;
    }
    let dashboard = json!({
        "uid": "voltlane",
        "title": "Voltlane",
        "tags": ["voltlane"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
            {
                "name": "instance", "type": "query", "label": "Edge", "multi": true, "includeAll": true,
                "datasource": {"type": "prometheus", "uid": "$datasource"},
                "query": "label_values(voltlane_build_info, instance)", "refresh": 2,
                "current": {"text": "All", "value": "$__all"},
            },
        ]},
        "annotations": {"list": []},
        "panels": panels,
    });
    let text = serde_json::to_string_pretty(&dashboard).expect("it is data");
    format!("{text}\n")
}

// ---- the rules

struct Rule {
    name: &'static str,
    expression: &'static str,
    /// How long it must hold.
    held: &'static str,
    severity: &'static str,
    summary: &'static str,
    remedy: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        name: "VoltlaneBackendDown",
        expression: "voltlane_link_up == 0 and voltlane_ending == 0",
        held: "30s",
        severity: "critical",
        summary: "The edge {{ $labels.instance }} has no backend",
        remedy: "Clients stay connected and are read no further. See whether the backend listens at master.address.",
    },
    Rule {
        name: "VoltlaneLinkFlaps",
        expression: "increase(voltlane_link_changes_total{to=\"down\"}[10m]) > 5 and increase(voltlane_link_changes_total{to=\"up\"}[10m]) > 3",
        held: "0s",
        severity: "warning",
        summary: "The backend of {{ $labels.instance }} comes and goes",
        remedy: "The logs of both sides say who ended the link.",
    },
    Rule {
        name: "VoltlaneFramingLost",
        expression: "increase(voltlane_link_violations_total[10m]) > 0",
        held: "0s",
        severity: "critical",
        summary: "The backend of {{ $labels.instance }} sends what is no frame",
        remedy: "Another program may listen at master.address, or the backend sends packets above master.max_frame_bytes.",
    },
    Rule {
        name: "VoltlaneResumesFail",
        expression: "sum without (result) (rate(voltlane_reconnects_total{result=\"refused\"}[10m])) / sum without (result) (rate(voltlane_reconnects_total[10m])) > 0.05 and sum without (result) (increase(voltlane_reconnects_total[10m])) > 20",
        held: "0s",
        severity: "warning",
        summary: "{{ $value | humanizePercentage }} of the resumes at {{ $labels.instance }} are refused",
        remedy: "Somebody claims sessions without their keys, or clients keep sessions that the edge does not have.",
    },
    Rule {
        name: "VoltlaneSessionsLost",
        expression: "sum without (reason) (rate(voltlane_sessions_ended_total{reason=~\"missed_packets_full|send_queue_full|write_timed_out|too_many_stale|memory_limit\"}[10m])) > 0.2",
        held: "5m",
        severity: "warning",
        summary: "Sessions at {{ $labels.instance }} end for want of room",
        remedy: "voltlane_sessions_ended_total says why. The keys of [clients] bound what waits for one client.",
    },
    Rule {
        name: "VoltlaneRejects",
        expression: "rate(voltlane_rejects_total{reason!=\"shutdown\"}[5m]) > 5",
        held: "5m",
        severity: "warning",
        summary: "{{ $labels.instance }} refuses {{ $value | humanize }} connections a second: {{ $labels.reason }}",
        remedy: "The log names the key of the limit. It is abuse, or the limit is too low for the clients that you have.",
    },
    Rule {
        name: "VoltlaneOriginsRefused",
        expression: "rate(voltlane_websocket_refusals_total{reason=\"origin\"}[5m]) > 0.2",
        held: "5m",
        severity: "warning",
        summary: "The listener {{ $labels.listener }} of {{ $labels.instance }} refuses pages: {{ $value | humanize }} requests a second",
        remedy: "Pages of another site try to connect. If they are yours, their origins are missing in listener.origins.",
    },
    Rule {
        name: "VoltlaneMemory",
        expression: "increase(voltlane_memory_over_total[10m]) > 0",
        held: "0s",
        severity: "critical",
        summary: "{{ $labels.instance }} holds more than 95 % of limits.max_memory_bytes",
        remedy: "The sessions with the largest queues end. See who is slow: voltlane_held_bytes, voltlane_link_queue_bytes.",
    },
    Rule {
        name: "VoltlaneClientsWait",
        expression: "voltlane_clients_waiting > 0",
        held: "5m",
        severity: "warning",
        summary: "Clients of {{ $labels.instance }} wait for the backend",
        remedy: "The backend takes packets more slowly than clients send them.",
    },
    Rule {
        name: "VoltlaneCertificateExpires",
        expression: "voltlane_certificate_expiry_timestamp_seconds - time() < 14 * 86400",
        held: "0s",
        severity: "warning",
        summary: "A certificate of the listener {{ $labels.listener }} of {{ $labels.instance }} expires in {{ $value | humanizeDuration }}",
        remedy: "Renew it. The edge reads the files again by itself (general.watch_secs), or on SIGHUP.",
    },
    Rule {
        name: "VoltlaneRevocationListExpires",
        expression: "voltlane_revocation_list_expiry_timestamp_seconds - time() < 86400",
        held: "0s",
        severity: "warning",
        summary: "A revocation list of the listener {{ $labels.listener }} of {{ $labels.instance }} is out of date in {{ $value | humanizeDuration }}",
        remedy: "Fetch a new one. One that is out of date still counts.",
    },
    Rule {
        name: "VoltlaneSlow",
        expression: "histogram_quantile(0.99, sum without (shard) (rate(voltlane_turn_seconds_bucket[5m]))) > 0.1",
        held: "5m",
        severity: "warning",
        summary: "Packets wait {{ $value | humanizeDuration }} within {{ $labels.instance }}",
        remedy: "Its processors are busy: see voltlane_process_cpu_seconds_total and voltlane_shard_packets_total, and give it more of them.",
    },
    Rule {
        name: "VoltlaneBackendSlow",
        expression: "histogram_quantile(0.99, sum without (shard) (rate(voltlane_link_wait_seconds_bucket[5m]))) > 0.5",
        held: "5m",
        severity: "warning",
        summary: "Packets wait {{ $value | humanizeDuration }} for a backend of {{ $labels.instance }}",
        remedy: "The backend reads too slowly, or its network does: clients wait for room when master.channel_capacity is reached.",
    },
    Rule {
        name: "VoltlaneDescriptors",
        expression: "voltlane_process_open_descriptors / voltlane_process_max_descriptors > 0.8",
        held: "5m",
        severity: "warning",
        summary: "{{ $labels.instance }} has {{ $value | humanizePercentage }} of its descriptors open",
        remedy: "Raise its limit (ulimit -n, LimitNOFILE), or lower limits.max_connections.",
    },
    Rule {
        name: "VoltlaneRecordingEnded",
        expression: "voltlane_recording == 0",
        held: "0s",
        severity: "warning",
        summary: "{{ $labels.instance }} is recorded no more",
        remedy: "Its log says why. What was written until then can be replayed. Another recording begins when it is started again.",
    },
    Rule {
        name: "VoltlaneConfigRefused",
        expression: "voltlane_config_refused > 0",
        held: "5m",
        severity: "warning",
        summary: "The configuration of {{ $labels.instance }} is not in effect",
        remedy: "Its log and `voltlane check` say what is wrong. The one before serves until a restart, which would fail.",
    },
    Rule {
        name: "VoltlaneFileError",
        expression: "increase(voltlane_file_errors_total[10m]) > 0",
        held: "0s",
        severity: "warning",
        summary: "{{ $labels.instance }} cannot use a file that it keeps: {{ $labels.file }}",
        remedy: "It goes on without it, and its log says why: see whether its disk is full, and who may write there.",
    },
    Rule {
        name: "VoltlaneLogLost",
        expression: "increase(voltlane_log_lines_lost_total[10m]) > 0",
        held: "0s",
        severity: "warning",
        summary: "{{ $labels.instance }} loses lines of its log",
        remedy: "Whoever reads its standard error is too slow.",
    },
];

fn rules() -> String {
    let mut text = String::from(
        "# Rules for Prometheus. They are generated from app/tests/dashboard.rs, which checks that each metric exists.\n\
         groups:\n  - name: voltlane\n    rules:\n",
    );
    for rule in RULES {
        // A string of JSON is one of YAML.
        let quoted = |text: &str| serde_json::to_string(text).expect("it is text");
        let added = write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels:\n          severity: {}\n        annotations:\n          summary: {}\n          description: {}\n",
            rule.name,
            quoted(rule.expression),
            rule.held,
            rule.severity,
            quoted(rule.summary),
            quoted(rule.remedy),
        );
        added.expect("a string takes all");
    }
    text
}

fn list() -> String {
    format!(
        "# Metrics\n\n\
        Each metric of `/metrics` at `metrics.address`. `voltlane metrics --describe` prints the same, and `--json` has it as data.\n\
        Those of TLS, of WebSocket, of several backends and of a recording are there only where the edge has what they are about. A label\n\
        without values has those of the edge: the names of its listeners, the numbers of its shards and backends.\n\
        This file is generated from the metrics (`app/tests/dashboard.rs`).\n\n{}",
        describe_as_markdown()
    )
}

#[test]
fn dashboard_and_rules_are_what_the_metrics_give() {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops");
    for (name, text) in [
        ("grafana.json", dashboard()),
        ("alerts.yml", rules()),
        ("METRICS.md", list()),
    ] {
        let path = ops.join(name);
        if std::env::var_os("VL_BLESS").is_some() {
            fs::write(&path, &text).expect("a file");
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == text,
            "ops/{name} is not what the metrics give; VL_BLESS=1 cargo test -p voltlane --test all dashboard:: writes it"
        );
    }
}

#[test]
fn rules_name_only_metrics_that_there_are() {
    let samples: Vec<_> = describe().iter().map(sample).collect();
    for rule in RULES {
        let is_of_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let words = rule.expression.split(|character| !is_of_name(character));
        let mut named = words
            .filter(|word| word.starts_with("voltlane_"))
            .peekable();
        assert!(named.peek().is_some(), "{}", rule.name);
        for name in named {
            let is_there = samples.iter().any(|sample| sample == name);
            assert!(is_there, "{}: there is no {name}", rule.name);
        }
    }
}

#[test]
fn every_metric_has_a_panel_of_its_own() {
    let text = dashboard();
    let read: Value = serde_json::from_str(&text).expect("it is JSON");
    let panels = read["panels"].as_array().expect("a list");
    let mut ids: Vec<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "each has an id of its own");
    for metric in describe().iter().filter(|metric| metric.kind != "info") {
        let description = format!("`{}`", sample(metric));
        let has = panels
            .iter()
            .any(|panel| panel["description"] == *description);
        assert!(has, "{description}");
    }
}

#[test]
fn each_metric_is_described_whole() {
    let all = describe();
    assert!(all.len() > 50);
    for metric in &all {
        assert!(metric.name.starts_with("voltlane_"), "{metric:?}");
        let kinds = ["counter", "gauge", "histogram", "info"];
        assert!(kinds.contains(&&*metric.kind), "{metric:?}");
        assert!(!metric.help.is_empty(), "{metric:?}");
        if let Some(unit) = &metric.unit {
            assert!(metric.name.contains(unit.as_str()), "{metric:?}");
        }
    }
    let named = |name: &str| all.iter().find(|metric| metric.name == name);
    let refusals = named("voltlane_websocket_refusals_total").expect("there");
    let labels: Vec<_> = refusals.labels.iter().map(|label| &*label.name).collect();
    assert_eq!(labels, ["listener", "reason"]);
    assert_eq!(refusals.labels[0].values, Vec::<String>::new());
    assert_eq!(refusals.labels[1].values.len(), 12);
    let times = named("voltlane_turn_seconds").expect("there");
    assert_eq!((&*times.kind, times.labels.len()), ("histogram", 0));
    let read: Value = serde_json::from_str(&describe_as_json()).expect("it is JSON");
    assert_eq!(read.as_array().map(Vec::len), Some(all.len()));
}
