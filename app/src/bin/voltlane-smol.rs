//! The edge server on smol: `voltlane-smol --help`.

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
use voltlane_smol::Smol as Runtime;
#[cfg(target_os = "linux")]
use voltlane_smol::SmolEpoll as Runtime;

fn main() -> ExitCode {
    voltlane_app::main::<Runtime>("voltlane-smol")
}
