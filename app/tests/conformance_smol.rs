//! The conformance suite against `voltlane-smol`.

use conformance::Program;

pub(crate) const PROGRAM: Program = Program::new(env!("CARGO_BIN_EXE_voltlane-smol"));

#[path = "../../conformance/scenarios/mod.rs"]
mod scenarios;
