//! `cargo run -p conformance --release -- churn --secs 60`: a long churn, with a summary for the record.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use conformance::churn::{self, Plan};
use conformance::{Program, random};

const USAGE: &str = "usage: conformance churn [--secs N] [--clients N] [--seed N] [--edge PATH]

    --secs N      how long clients drop and come back [default: 60]
    --clients N   clients at once [default: 50]
    --seed N      of what happens at random [default: another one each time]
    --edge PATH   the edge [default: voltlane, beside this program]";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() != Some("churn") {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let mut plan = Plan {
        clients: 50,
        duration: Duration::from_secs(60),
        seed: u64::from_le_bytes(random()),
    };
    let mut edge = beside("voltlane");
    while let Some(option) = words.next() {
        let value = words.next();
        let number = value.as_deref().and_then(|value| value.parse::<u64>().ok());
        match (option.as_str(), number, value) {
            ("--secs", Some(secs), _) => plan.duration = Duration::from_secs(secs),
            ("--clients", Some(clients @ 1..=10_000), _) => plan.clients = clients as u32,
            ("--seed", Some(seed), _) => plan.seed = seed,
            ("--edge", _, Some(path)) => edge = path.into(),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let Plan {
        clients,
        duration,
        seed,
    } = plan;
    println!(
        "{}: {clients} clients for {} s, seed {seed}",
        edge.display(),
        duration.as_secs()
    );
    // It runs in a directory of its own.
    let path = match edge.canonicalize() {
        Ok(path) => path
            .into_os_string()
            .into_string()
            .expect("a path in UTF-8"),
        Err(error) => {
            eprintln!(
                "{}: {error}; cargo build --release makes it",
                edge.display()
            );
            return ExitCode::from(2);
        }
    };
    // Leaked for the rest of this process, which is short.
    let report = churn::run(Program::new(path.leak()), plan);
    println!("{report}");
    ExitCode::from(u8::from(!report.violations.is_empty()))
}

/// Returns the path of a program built together with this one.
fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name(name)
}
