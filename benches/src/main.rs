//! Voltlane's yardstick, load tool and comparison: `benches --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    benches::cli::main()
}
