//! The scenarios, by topic. They run against `super::PROGRAM`.

mod abuse;
mod admin;
mod attacks;
mod backend_input;
mod behind_proxy;
mod cases;
mod churn;
mod client_input;
mod client_tls;
mod commands;
mod crowd;
mod door_attacks;
mod door_floods;
mod door_words;
mod doors;
mod ends;
mod examples;
mod full_disk;
mod joining;
mod keeping;
mod keys;
mod link;
mod link3;
mod link_tls;
mod listeners;
mod log;
mod metrics;
mod missed;
mod moves;
mod names;
mod operation;
mod own_address;
mod pairings;
mod pins;
mod pins_kept;
mod production;
mod program;
mod published;
mod reconnect;
mod recording;
mod reload;
mod several;
mod several_backends;
mod start;
mod status_page;
mod supervisor;
mod terminal;
mod unix;
mod upgrade;
mod v3;

use conformance::Rig;

use super::PROGRAM;

/// Keeps everything that a client may miss.
const HEALING: &str = "clients.missed_packets_buffer_size = 4096\n";

/// Serves metrics over HTTP on a free port.
const METRICS: &str = "metrics.address = \"127.0.0.1:0\"\n";

/// Starts an edge with its backend and this configuration.
fn rig(config: &str) -> Rig {
    Rig::start(PROGRAM, config)
}
