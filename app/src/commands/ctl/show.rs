//! Formats answers of the edge for people.

use std::fmt::Write as _;

use serde_json::Value;

/// Returns a value as a word.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Returns each field on a line.
pub(super) fn fields(value: &Value) -> String {
    let mut out = String::new();
    add_fields(&mut out, "", value);
    out
}

fn add_fields(out: &mut String, above: &str, value: &Value) {
    let Some(fields) = value.as_object() else {
        return;
    };
    for (name, value) in fields {
        let name = match above {
            "" => name.clone(),
            above => format!("{above}.{name}"),
        };
        match value {
            Value::Object(_) => add_fields(out, &name, value),
            value => {
                // Writing into a string does not fail.
                let _ = writeln!(out, "{name:<28} {}", word(value));
            }
        }
    }
}

pub(super) fn status(value: &Value) -> String {
    let mut out = totals(value);
    let backends = value["backends"].as_array().into_iter().flatten();
    for (number, backend) in backends.enumerate() {
        let state = match (&backend["up"], &backend["draining"]) {
            (Value::Bool(true), Value::Bool(true)) => "up, draining",
            (Value::Bool(true), _) => "up",
            (_, Value::Bool(true)) => "down, draining",
            _ => "down",
        };
        let of = |name: &str| word(&backend[name]);
        // Writing into a string does not fail.
        let _ = writeln!(
            out,
            "backend {number} at {}: {state}, {} sessions, {} packets and {} bytes wait",
            of("address"),
            of("sessions"),
            of("queue_packets"),
            of("queue_bytes"),
        );
    }
    out
}

fn totals(value: &Value) -> String {
    let mut out = String::new();
    let ready = match value["ready"].as_bool() {
        Some(true) => "ready".to_owned(),
        _ => format!("not ready: {}", word(&value["why"])),
    };
    let of = |path: &str| word(value.pointer(path).unwrap_or(&Value::Null));
    let _ = writeln!(
        out,
        "voltlane {}, {} s up, {ready}\n\
         link to {}: {}, {} packets and {} bytes wait\n\
         connections: {} established, {} in their handshake\n\
         sessions: {} attached, {} away, {} wait for the link\n\
         packets: {} up, {} down; bytes: {} in, {} out; {} held\n\
         joined {}, resumed {}, went away {}; {} networks are banned",
        of("/version"),
        of("/uptime_secs"),
        of("/link/address"),
        if value["link"]["up"] == true {
            "up"
        } else {
            "down"
        },
        of("/link/queue_packets"),
        of("/link/queue_bytes"),
        of("/connections/established"),
        of("/connections/handshake"),
        of("/sessions/attached"),
        of("/sessions/away"),
        of("/sessions/waiting"),
        of("/packets/up"),
        of("/packets/down"),
        of("/bytes/in"),
        of("/bytes/out"),
        of("/held_bytes"),
        of("/joined"),
        of("/resumed"),
        of("/went_away"),
        of("/bans"),
    );
    if let Some(cluster) = value["cluster"].as_object() {
        let of = |key| word(cluster.get(key).unwrap_or(&Value::Null));
        // If another process has the home, the line with `ready` says so.
        let engine = match of("engine").as_str() {
            "none" => "without an engine".to_owned(),
            engine => format!("by {engine}"),
        };
        let _ = writeln!(
            out,
            "home {} of the cluster {}, {engine}",
            of("home"),
            of("name")
        );
    }
    for (what, key) in [
        ("rejected", "rejects"),
        ("closed", "closes"),
        ("ended", "ends"),
    ] {
        let counts = value[key].as_object().into_iter().flatten();
        let counts = counts.filter(|(_, count)| **count != 0);
        let counts: Vec<_> = counts
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if !counts.is_empty() {
            let _ = writeln!(out, "{what}: {}", counts.join(", "));
        }
    }
    out
}

/// Returns an event on a line.
pub(super) fn line(name: &str, value: &Value) -> String {
    match name {
        "status" | "error" => status_line(value),
        other => {
            let fields = value.as_object().into_iter().flatten();
            let shown = fields.filter(|(key, _)| !matches!(&***key, "level" | "target" | "event"));
            let pairs: Vec<_> = shown
                .map(|(key, value)| format!("{key}={}", word(value)))
                .collect();
            format!("{other} {}\n", pairs.join(" "))
        }
    }
}

fn status_line(value: &Value) -> String {
    let of = |path: &str| word(value.pointer(path).unwrap_or(&Value::Null));
    if let Some(error) = value["error"].as_str() {
        return format!("{error}\n");
    }
    format!(
        "up_secs={} ready={} link={} attached={} away={} up={} down={} held_bytes={}\n",
        of("/uptime_secs"),
        of("/ready"),
        of("/link/up"),
        of("/sessions/attached"),
        of("/sessions/away"),
        of("/packets/up"),
        of("/packets/down"),
        of("/held_bytes"),
    )
}

pub(super) fn config(value: &Value) -> String {
    let mut out = String::new();
    let listeners = value["listeners"].as_array().into_iter().flatten();
    let all = std::iter::once(&value["values"]).chain(listeners);
    for (key, entry) in all.filter_map(Value::as_object).flatten() {
        let _ = writeln!(out, "{key} = {}{}", entry["value"], origin(entry));
    }
    out
}

/// Returns where a value comes from, as `check` shows it. An edge of an earlier version does not tell.
fn origin(entry: &Value) -> String {
    let place = &entry["place"];
    let of = |name: &str| word(&place[name]);
    match place["source"].as_str() {
        Some("file") => format!("  # from {}:{}", of("file"), of("line")),
        Some("dotenv") => format!("  # from .env:{} {}", of("line"), of("variable")),
        Some("environment") => format!("  # from env {}", of("variable")),
        Some("argument") => format!("  # from {}", of("option")),
        _ if entry["is_default"] == true => String::new(),
        _ => "  # not the default".to_owned(),
    }
}

pub(super) fn sessions(value: &Value) -> String {
    let columns = [
        ("id", 16),
        ("state", 8),
        ("version", 7),
        ("source", 24),
        ("listener", 10),
        ("queue_packets", 13),
        ("queue_bytes", 11),
        ("resumes", 7),
        ("away_secs", 9),
    ];
    let mut out = table(value, "sessions", &columns);
    if value["whole"] == false {
        out.push_str("there are more than could be looked at in a second\n");
    }
    out
}

pub(super) fn bans(value: &Value) -> String {
    table(
        value,
        "bans",
        &[("network", 24), ("left_secs", 10), ("home", 4), ("note", 1)],
    )
}

/// Returns a row for each element of a list. The next page is named below.
fn table(value: &Value, list: &str, columns: &[(&str, usize)]) -> String {
    let mut out = String::new();
    let row = |cells: Vec<String>| {
        let cells = cells.iter().zip(columns);
        let cells: Vec<_> = cells
            .map(|(cell, (_, width))| format!("{cell:<width$}"))
            .collect();
        format!("{}\n", cells.join(" ").trim_end())
    };
    out.push_str(&row(columns
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect()));
    for entry in value[list].as_array().into_iter().flatten() {
        out.push_str(&row(columns
            .iter()
            .map(|(name, _)| word(&entry[*name]))
            .collect()));
    }
    if let Some(next) = value["next"].as_str() {
        let _ = writeln!(out, "more: --after {next}");
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_value_is_shown_with_where_it_comes_from() {
        let shown = config(&json!({
            "values": {
                "a": {"value": 1, "is_default": true, "place": {"source": "default"}},
                "b": {"value": "x", "is_default": true, "place": {"source": "file", "file": "a.toml", "line": 7, "column": 3}},
                "c": {"value": 2, "is_default": false, "place": {"source": "default"}},
                "d": {"value": 3, "is_default": false},
            },
            "listeners": [
                {"e": {"value": 4, "is_default": false, "place": {"source": "dotenv", "variable": "E", "line": 2}}},
                {"f": {"value": 5, "is_default": false, "place": {"source": "environment", "variable": "F"}}},
                {"g": {"value": 6, "is_default": false, "place": {"source": "argument", "option": "--g"}}},
            ],
        }));
        let expected = "a = 1\nb = \"x\"  # from a.toml:7\nc = 2  # not the default\nd = 3  # not the default\n\
            e = 4  # from .env:2 E\nf = 5  # from env F\ng = 6  # from --g\n";
        assert_eq!(shown, expected);
    }
}
