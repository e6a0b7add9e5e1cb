//! The binary `voltlane-smol` as a process.

const BINARY: &str = env!("CARGO_BIN_EXE_voltlane-smol");

#[path = "../../app/tests/binary/mod.rs"]
mod binary;
