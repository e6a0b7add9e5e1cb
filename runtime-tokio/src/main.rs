//! The edge server on tokio: `voltlane --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    voltlane_app::main::<voltlane_tokio::Tokio>("voltlane")
}
