//! Both programs with programs of others: tools for TLS and HTTP, proxies, WebSocket libraries, a browser, and a suite of WebSocket cases.
//!
//! One that is not installed is named on standard error, and its tests pass. `.ci/programs DIRECTORY` installs all of them. With
//! `VL_PROGRAMS=DIRECTORY`, an absolute path, a missing one is a failure.

use conformance::Program;

const PROGRAMS: [Program; 2] = [
    Program::new(env!("CARGO_BIN_EXE_voltlane")),
    Program::new(env!("CARGO_BIN_EXE_voltlane-smol")),
];

#[path = "../../conformance/programs/mod.rs"]
mod programs;
