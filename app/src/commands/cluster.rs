//! `cluster status`: what the engine of a cluster knows of homes, and what its edges see of backends. (SPEC 43.3)

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use voltlane_cluster::bans::count;
use voltlane_cluster::{Call, ClusterName, Entry, Record, Reply, ask as call};

use crate::commands::random;
use crate::config::Settings;
use crate::engine;

/// How long the engine may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A home, as its record has it.
struct Home {
    home: u16,
    revision: u64,
    /// `None`: it was deleted.
    record: Option<Result<Record, String>>,
}

/// A backend, as the edges in front of it see it.
#[derive(Default)]
struct Backend {
    edges: u32,
    linked: u32,
}

/// Asks the engine, and returns what is to be printed.
pub(crate) fn ask(settings: &Settings, as_json: bool) -> Result<String, String> {
    let servers = &settings.cluster.engine;
    if servers.servers.is_empty() {
        return Err("cluster.engine is \"none\", so there is nobody to ask".to_owned());
    }
    let drawn = random();
    let seed = drawn
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let name = engine::name(settings)?;
    let mut engine = engine::engine(settings, seed)?;
    let tries = 2 * servers.servers.len();
    let entries = match call(&mut engine, &Call::List, tries, PATIENCE) {
        Ok(Reply::List(entries)) => entries,
        Ok(_) => return Err(format!("{servers} answers another question")),
        Err(error) => return Err(format!("{servers}: {error}")),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let homes: Vec<Home> = entries.iter().map(|entry| read(entry, &name)).collect();
    let bans = count(&name, now, |page| {
        match call(&mut engine, &page, tries, PATIENCE) {
            Ok(Reply::Read(entry)) => Ok(entry),
            Ok(_) => Err(format!("{servers} answers another question")),
            Err(error) => Err(format!("{servers}: {error}")),
        }
    })?;
    Ok(match as_json {
        true => {
            let mut all = data(&homes, &name, now);
            all["bans"] = json!(bans);
            format!("{all}\n")
        }
        false => format!(
            "{}bans that are shared: {bans}\n",
            table(&homes, &name, now)
        ),
    })
}

fn read(entry: &Entry, name: &ClusterName) -> Home {
    let record = match entry.value.is_empty() {
        true => None,
        false => {
            let read = Record::decode(&entry.value, name, entry.home);
            Some(read.map_err(|error| error.to_string()))
        }
    };
    Home {
        home: entry.home,
        revision: entry.revision,
        record,
    }
}

/// Returns until when a home is held, by the clock of its holder.
fn until(record: &Record) -> u64 {
    record.written.saturating_add(record.lease.as_secs())
}

fn state(home: &Home, now: u64) -> &'static str {
    match &home.record {
        None => "free",
        Some(Err(_)) => "unreadable",
        Some(Ok(record)) if record.holder.is_none() => "free",
        Some(Ok(record)) if until(record) < now => "ran out",
        Some(Ok(_)) => "held",
    }
}

/// Returns the backends of those that hold a home.
fn backends(homes: &[Home], now: u64) -> BTreeMap<&str, Backend> {
    let mut backends: BTreeMap<&str, Backend> = BTreeMap::new();
    for home in homes.iter().filter(|home| state(home, now) == "held") {
        if let Some(Ok(Record {
            holder: Some(holder),
            ..
        })) = &home.record
        {
            // An edge may have several.
            for address in holder.backend.split(',') {
                let backend = backends.entry(address).or_default();
                backend.edges += 1;
                backend.linked += u32::from(holder.is_linked);
            }
        }
    }
    backends
}

fn data(homes: &[Home], name: &ClusterName, now: u64) -> Value {
    let shown = homes.iter().map(|home| {
        let mut shown = json!({
            "home": home.home,
            "revision": home.revision,
            "state": state(home, now),
        });
        match &home.record {
            None => {}
            Some(Err(error)) => shown["error"] = json!(error),
            Some(Ok(record)) => {
                shown["term"] = json!(record.term);
                if let Some(holder) = &record.holder {
                    shown["until"] = json!(until(record));
                    shown["holder"] = json!({
                        "label": holder.label,
                        "run": holder.run.map(|run| format!("{run:016x}")),
                        "backend": holder.backend,
                        "linked": holder.is_linked,
                    });
                }
            }
        }
        shown
    });
    let homes_shown: Vec<_> = shown.collect();
    let backends = backends(homes, now);
    let backends = backends.iter().map(|(address, backend)| {
        json!({ "address": address, "edges": backend.edges, "linked": backend.linked })
    });
    json!({
        "cluster": name.as_str(),
        "now": now,
        "homes": homes_shown,
        "backends": backends.collect::<Vec<_>>(),
    })
}

fn table(homes: &[Home], name: &ClusterName, now: u64) -> String {
    if homes.is_empty() {
        return format!("cluster {name}: no home was ever taken\n");
    }
    let mut rows = vec![["home", "term", "held by", "until", "backend", "link"].map(String::from)];
    for home in homes {
        let number = home.home.to_string();
        let none = String::new;
        rows.push(match &home.record {
            None => [
                number,
                none(),
                "nobody: deleted".into(),
                none(),
                none(),
                none(),
            ],
            Some(Err(error)) => [number, none(), error.clone(), none(), none(), none()],
            Some(Ok(record)) => {
                let term = record.term.to_string();
                match &record.holder {
                    None => [
                        number,
                        term,
                        "nobody: given back".into(),
                        none(),
                        none(),
                        none(),
                    ],
                    Some(holder) => [
                        number,
                        term,
                        holder.label.clone(),
                        when(until(record), now),
                        holder.backend.clone(),
                        if holder.is_linked { "up" } else { "down" }.into(),
                    ],
                }
            }
        });
    }
    let mut text = format!("cluster {name}\n");
    aligned(&rows, &mut text);
    for (address, backend) in backends(homes, now) {
        let (linked, edges) = (backend.linked, backend.edges);
        text.push_str(&format!(
            "backend {address}: {linked} of {edges} edges have a link\n"
        ));
    }
    text
}

fn when(until: u64, now: u64) -> String {
    match until.checked_sub(now) {
        Some(left) => format!("in {left} s"),
        None => format!("ran out {} s ago", now - until),
    }
}

fn aligned(rows: &[[String; 6]], text: &mut String) {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in rows {
        let cells: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use voltlane_cluster::Holder;

    fn home(home: u16, record: Option<Result<Record, String>>) -> Home {
        Home {
            home,
            revision: 5,
            record,
        }
    }

    fn held(written: u64, is_linked: bool) -> Record {
        Record {
            term: 7,
            lease: Duration::from_secs(10),
            written,
            holder: Some(Holder {
                nonce: 1,
                run: Some(0xab),
                label: "edge/7".into(),
                backend: "b:1".into(),
                is_linked,
            }),
        }
    }

    #[test]
    fn several_backends_of_an_edge_are_shown_one_by_one() {
        let of = |backend: &str| {
            let mut record = held(100, true);
            let holder = record.holder.as_mut().expect("it is held");
            holder.backend = backend.to_owned();
            home(1, Some(Ok(record)))
        };
        let homes = [of("b:1,b:2"), of("b:2,b:3")];
        let seen = backends(&homes, 104);
        let seen: Vec<_> = seen.iter().map(|(name, of)| (*name, of.edges)).collect();
        assert_eq!(seen, [("b:1", 1), ("b:2", 2), ("b:3", 1)]);
    }

    #[test]
    fn homes_and_backends_are_shown_in_columns_and_as_data() {
        let free = Record {
            holder: None,
            ..held(1, false)
        };
        let homes = [
            home(1, Some(Ok(held(100, true)))),
            home(2, Some(Ok(held(95, false)))),
            home(3, Some(Ok(held(50, true)))),
            home(4, Some(Ok(free))),
            home(5, Some(Err("the record is of the cluster \"x\"".into()))),
            home(6, None),
        ];
        let name = ClusterName::default();
        let expected = "\
cluster voltlane
home  term  held by                           until             backend  link
1     7     edge/7                            in 6 s            b:1      up
2     7     edge/7                            in 1 s            b:1      down
3     7     edge/7                            ran out 44 s ago  b:1      up
4     7     nobody: given back
5           the record is of the cluster \"x\"
6           nobody: deleted
backend b:1: 1 of 2 edges have a link
";
        assert_eq!(table(&homes, &name, 104), expected);
        let shown = data(&homes, &name, 104);
        let states: Vec<_> = (0..6)
            .map(|at| shown["homes"][at]["state"].as_str())
            .collect();
        let expected = ["held", "held", "ran out", "free", "unreadable", "free"];
        assert_eq!(states, expected.map(Some));
        assert_eq!(shown["homes"][0]["until"], 110);
        assert_eq!(shown["homes"][0]["holder"]["run"], "00000000000000ab");
        assert_eq!(
            shown["backends"],
            json!([{ "address": "b:1", "edges": 2, "linked": 1 }])
        );
        assert!(table(&[], &name, 1).contains("no home was ever taken"));
    }
}
