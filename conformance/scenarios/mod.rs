//! The scenarios, by concern. They run against `crate::PROGRAM`.

mod behind_proxy;
mod joining;
mod metrics;
mod reconnect;

use conformance::Rig;

/// A client that comes back finds everything.
const HEALING: &str = "clients.missed_packets_buffer_size = 4096\n";

/// An edge with its backend, with this configuration.
fn rig(config: &str) -> Rig {
    Rig::start(crate::PROGRAM, config)
}
