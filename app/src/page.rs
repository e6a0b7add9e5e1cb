//! The status page, at the root of the metrics' address: totals, a picture of the flow, and what was refused. One file, which asks nobody else.
//!
//! The page follows `/events`, on which the numbers come each second. Without scripts it is a table.

use std::time::Duration;

use serde_json::{Map, Value, json};
use voltlane_core::edge::{CloseReason, EndReason, Histogram, Rejected};

use crate::metrics::{Backend, Snapshot, backends_of, readiness, shards_of};

/// The page, with a mark where the table belongs.
const PAGE: &str = include_str!("page/page.html");
const MARK: &str = "<!--table-->";

/// The Content-Security-Policy of the page: its own script and style, and requests to its own address. A test compares the hashes.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'sha256-TVdi9a5F0MxyrrXzD8GTBAi80IjFcHud6xyLkQ0Yfmc='; \
     style-src 'sha256-7NwPi65hWtXibFAJIXRPUmbRWTkLOz4PE+aQkWBv734='; img-src data:; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// Returns the page, with the totals for browsers without scripts.
pub(crate) fn render(totals: &Value) -> String {
    let mut table = String::from(
        "<table><caption>Totals</caption><thead><tr><th scope=\"col\">what</th><th scope=\"col\">value</th></tr></thead><tbody>",
    );
    add_rows(&mut table, "", totals);
    table.push_str("</tbody></table>");
    PAGE.replacen(MARK, &table, 1)
}

fn add_rows(table: &mut String, above: &str, value: &Value) {
    let Some(fields) = value.as_object() else {
        return;
    };
    for (name, value) in fields {
        let name = match above {
            "" => name.clone(),
            above => format!("{above} {name}"),
        };
        match value {
            Value::Object(_) => add_rows(table, &name, value),
            Value::Array(_) | Value::Null => {}
            value => {
                let text = value.as_str().map_or(value.to_string(), str::to_owned);
                table.push_str(&format!(
                    "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
                    escaped(&name),
                    escaped(&text)
                ));
            }
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

fn named<const N: usize>(names: [&'static str; N], counts: [u64; N]) -> Map<String, Value> {
    let pairs = names.into_iter().zip(counts);
    pairs
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect()
}

/// Returns the totals, and the numbers of each shard. There is no id and no address among them.
pub(crate) fn totals(loops: &[Snapshot], uptime: Duration) -> Value {
    let mut all = Snapshot::default();
    for one in loops {
        all.add(one);
    }
    let shards = shards_of(loops);
    let why = readiness(&all);
    let (gauges, counters) = (&all.gauges, &all.counters);
    let listeners: Vec<Value> = all
        .accepts
        .iter()
        .map(|(name, accepts)| {
            let of = |list: &[(String, u64)]| {
                let found = list.iter().find(|(of, _)| of == name);
                found.map(|(_, at)| *at)
            };
            json!({
                "name": name, "accepts": accepts,
                "certificate_expires": of(&all.expiries),
            })
        })
        .collect();
    let mut totals = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_secs": uptime.as_secs(),
        "ready": why.is_none(),
        "why": why,
        "draining": gauges.is_draining,
        "ending": all.is_ending,
        "link": {
            "up": gauges.has_backend(),
            "queue_packets": gauges.link_packets, "queue_bytes": gauges.link_bytes,
            "came_up": counters.link_up, "went_down": counters.link_down,
            "bytes_in": counters.link_bytes_in, "bytes_out": counters.link_bytes_out,
        },
        "connections": {
            "handshake": gauges.half_open,
            "established": gauges.connections.saturating_sub(gauges.half_open),
        },
        "sessions": {
            "attached": gauges.sessions.saturating_sub(gauges.away + gauges.ending),
            "away": gauges.away, "ending": gauges.ending, "waiting": gauges.waiting,
        },
        "packets": { "up": counters.packets_up, "down": counters.packets_down },
        "bytes": { "in": counters.client_bytes_in, "out": counters.client_bytes_out },
        "held_bytes": gauges.held_bytes,
        "sources": gauges.sources,
        "bans": gauges.bans,
        "accepted": counters.accepted,
        "joined": counters.joined,
        "resumed": counters.resumed,
        "went_away": counters.went_away,
        "rejects": named(Rejected::ALL.map(Rejected::name), counters.rejected),
        "closes": named(CloseReason::ALL.map(CloseReason::name), counters.closed),
        "ends": named(EndReason::ALL.map(EndReason::name), counters.ended),
        "log_lines_lost": all.log_lines_lost,
        "config": { "read_at": all.config_read.at, "refused": all.config_read.was_refused },
        "turns": {
            "bounds_ms": Histogram::BOUNDS.map(|bound| bound.as_secs_f64() * 1_000.0),
            "counts": all.turn_times.counts(),
        },
        "listeners": listeners,
        "shards": shards.iter().map(of_shard).collect::<Vec<_>>(),
    });
    let backends = backends_of(loops);
    if !backends.is_empty() {
        totals["backends"] = backends.iter().map(of_backend).collect();
    }
    totals
}

fn of_backend(backend: &Backend) -> Value {
    json!({
        "up": backend.is_up,
        "draining": backend.is_draining,
        "sessions": backend.sessions,
        "queue_packets": backend.queue_packets,
        "queue_bytes": backend.queue_bytes,
    })
}

fn of_shard(shard: &Snapshot) -> Value {
    let (gauges, counters) = (&shard.gauges, &shard.counters);
    json!({
        "connections": gauges.connections,
        "attached": gauges.sessions.saturating_sub(gauges.away + gauges.ending),
        "away": gauges.away,
        "waiting": gauges.waiting,
        "held_bytes": gauges.held_bytes,
        "packets_up": counters.packets_up,
        "packets_down": counters.packets_down,
    })
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn between<'a>(open: &str, close: &str) -> &'a str {
        let (_, rest) = PAGE.split_once(open).expect("it is there");
        rest.split_once(close).expect("it ends").0
    }

    #[test]
    fn the_policy_permits_this_script_and_this_style() {
        for (kind, text) in [
            ("script-src", between("<script>", "</script>")),
            ("style-src", between("<style>", "</style>")),
        ] {
            let hash = BASE64.encode(&Sha256::digest(text));
            let permits = format!("{kind} 'sha256-{hash}'");
            assert!(POLICY.contains(&permits), "{permits}");
        }
    }

    #[test]
    fn the_page_is_small_has_one_mark_and_asks_nobody_else() {
        assert!(PAGE.len() <= 40 * 1024, "{} bytes", PAGE.len());
        assert_eq!(PAGE.matches(MARK).count(), 1);
        for outside in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }

    #[test]
    fn without_scripts_there_is_a_table_and_text_is_text() {
        let mut totals = totals(&[Snapshot::default()], Duration::from_secs(7));
        totals["why"] = "<b>&\"".into();
        let page = render(&totals);
        assert!(page.contains("<th scope=\"row\">uptime_secs</th><td>7</td>"));
        assert!(page.contains("<td>&lt;b>&amp;&quot;</td>"));
        assert!(page.contains("<th scope=\"row\">sessions attached</th><td>0</td>"));
        assert!(page.contains("<th scope=\"row\">config refused</th><td>false</td>"));
    }
}
