//! The binary `voltlane` as a process.

const BINARY: &str = env!("CARGO_BIN_EXE_voltlane");

#[path = "../../app/tests/binary/mod.rs"]
mod binary;
