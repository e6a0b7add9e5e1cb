//! The fuzz targets, as functions of bytes that panic when a rule is broken.
//!
//! `fuzz/` runs them under libFuzzer; `cargo test -p fuzz-targets` replays `fuzz/corpus` without it. A target is one entry of [`TARGETS`],
//! one function here, one file in `fuzz/fuzz_targets` and one directory in `fuzz/corpus`. A test keeps them in step.
#![forbid(unsafe_code)]

mod admin;
mod backend;
mod bytes;
mod client;
mod config;
mod doors;
pub mod edge;
mod keys;
mod link;
mod nats;
mod proxy;
mod redis;
mod v3;
mod v3_client;
pub mod v3_edge;
mod wire;

pub use admin::admin_request;
pub use backend::backend_machine;
pub use client::client_machine;
pub use config::config_file;
pub use doors::{door_stack, forwarded, http_head, ws_decode};
pub use edge::edge_machine;
pub use keys::{public_key, saved_session, sealed_value};
pub use link::link_frame;
pub use nats::nats_wire;
pub use proxy::proxy_header;
pub use redis::redis_wire;
pub use v3::{v3_items, v3_packet, v3_record};
pub use v3_client::v3_client;
pub use v3_edge::v3_edge;
pub use wire::{frame_reader, handshake_packet, tagged_packet};

/// A fuzz target.
#[derive(Debug)]
pub struct Target {
    /// The name of the target, as `cargo fuzz run` takes it.
    pub name: &'static str,
    /// Runs the target on one input. Panics when a rule is broken.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        /// All targets.
        pub const TARGETS: &[Target] = &[ $( Target { name: stringify!($name), run: $name } ),+ ];
    };
}

targets![
    admin_request,
    backend_machine,
    client_machine,
    config_file,
    door_stack,
    edge_machine,
    forwarded,
    frame_reader,
    handshake_packet,
    http_head,
    link_frame,
    nats_wire,
    proxy_header,
    public_key,
    redis_wire,
    saved_session,
    sealed_value,
    tagged_packet,
    v3_client,
    v3_edge,
    v3_items,
    v3_packet,
    v3_record,
    ws_decode,
];
