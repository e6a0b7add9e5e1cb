//! The edge server on tokio: `voltlane --help`.

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
use voltlane_tokio::Tokio as Runtime;
#[cfg(target_os = "linux")]
use voltlane_tokio::TokioEpoll as Runtime;

fn main() -> ExitCode {
    voltlane_app::main::<Runtime>("voltlane")
}
