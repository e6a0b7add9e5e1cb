//! The conformance suite against `voltlane`.

use conformance::Program;

pub(crate) const PROGRAM: Program = Program::new(env!("CARGO_BIN_EXE_voltlane"));

#[path = "../../conformance/scenarios/mod.rs"]
mod scenarios;
