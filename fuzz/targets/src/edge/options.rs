//! A configuration drawn from an input. Its bounds are small, so that all of them are reached.

use std::net::IpAddr;
use std::time::Duration;

use voltlane_core::edge::{EdgeConfig, Enforce};
use voltlane_core::protocol::OfferedVersions;

use crate::bytes::Bytes;

/// The addresses of clients: four of one network, two of one IPv6 /64, one mapped IPv4 address, and one that is exempt by default.
pub(super) const SOURCES: [&str; 8] = [
    "192.0.2.1",
    "192.0.2.2",
    "192.0.2.3",
    "192.0.2.4",
    "2001:db8::1",
    "2001:db8::2",
    "::ffff:192.0.2.1",
    "127.0.0.1",
];
/// The trusted proxies, for configurations that require some.
const PROXIES: &str = "192.0.2.0/24";

pub(super) fn source(number: usize) -> IpAddr {
    SOURCES[number % SOURCES.len()].parse().expect("an address")
}

pub(super) fn draw(input: &mut Bytes<'_>) -> EdgeConfig {
    let mut config = EdgeConfig::default();
    // Clients of version 3 are in `v3_edge`.
    config.listener.versions = OfferedVersions::new(&[2]).expect("it is one");
    let seconds = Duration::from_secs;
    let flags = input.byte();

    let clients = &mut config.clients;
    clients.channel_capacity = 1 + input.below(16);
    clients.channel_bytes = 64 << input.below(8);
    clients.stale_timeout = seconds(input.one_of(&[10, 0, 1, 300]));
    clients.stale_reap_interval = seconds(input.one_of(&[0, 1, 15]));
    clients.max_stale_clients = input.one_of(&[8, 0, 1, 2]);
    clients.missed_packets_buffer_size = input.one_of(&[8, 0, 1, 3]);
    clients.missed_packets_buffer_bytes = 32 << input.below(6);
    clients.max_frame_bytes = 16 << input.below(8);
    clients.write_timeout = seconds(input.one_of(&[0, 1, 10]));
    clients.frame_timeout = seconds(input.one_of(&[0, 1, 10]));
    clients.idle_timeout = seconds(input.one_of(&[0, 0, 5]));
    clients.pace.frames = input.one_of(&[0, 0, 5, 100]);
    clients.pace.frames_burst = 3;
    clients.pace.bytes = input.one_of(&[0, 0, 100, 10_000]);
    clients.pace.bytes_burst = 64;
    clients.pace.patience = seconds(input.one_of(&[5, 0, 1]));
    clients.enforce_pace = enforce(input);

    let master = &mut config.master;
    master.channel_capacity = input.below(16);
    master.channel_bytes = 64 << input.below(8);
    master.max_frame_bytes = 16 << input.below(8);
    master.announce_all = flags & 1 != 0;

    let limits = &mut config.limits;
    limits.max_connections = input.one_of(&[1000, 16, 4, 1]);
    limits.max_half_open = input.one_of(&[0, 16, 4, 2]);
    limits.accept_rate = input.one_of(&[0, 2000, 10, 1]);
    limits.accept_burst = 1 + u32::from(input.byte());
    limits.enforce_accepts = enforce(input);
    limits.sources.connections = input.one_of(&[0, 8, 2, 1]);
    limits.sources.wide_connections = input.one_of(&[0, 3]);
    limits.sources.stale_sessions = input.one_of(&[0, 2, 1]);
    limits.sources.rate = input.one_of(&[0, 50, 1]);
    limits.sources.burst = 1 + u32::from(input.byte());
    limits.sources.wide_stale_sessions = if flags & 8 == 0 { 0 } else { 3 };
    limits.sources.wide_rate = if flags & 16 == 0 { 0 } else { 5 };
    limits.sources.wide_burst = 4;
    limits.sources.penalties = flags & 2 == 0;
    limits.sources.table_size = input.one_of(&[1000, 4, 1, 0]);
    limits.enforce_sources = enforce(input);
    if flags & 4 != 0 {
        limits.exempt.clear();
    }
    limits.max_memory_bytes = input.one_of(&[0, 65_536, 4_096, 1_024]);
    limits.enforce_memory = enforce(input);
    limits.max_sessions = input.one_of(&[1000, 8, 2]);
    limits.handshake_timeout = seconds(input.one_of(&[5, 0, 1]));
    limits.handshake_max_bytes = input.one_of(&[512, 512, 128, 64]);
    // Inputs of the corpus have a byte here, for an option that no longer exists.
    let _ = input.byte();

    config.listener.proxy_required = flags & 0x18 == 0x18;
    config.listener.trusted_proxies = vec![PROXIES.parse().expect("a network")];
    config
}

fn enforce(input: &mut Bytes<'_>) -> Enforce {
    input.one_of(&[Enforce::On, Enforce::On, Enforce::Report, Enforce::Off])
}
