//! The edge server on smol: `voltlane-smol --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    voltlane_app::main::<voltlane_smol::Smol>("voltlane-smol")
}
