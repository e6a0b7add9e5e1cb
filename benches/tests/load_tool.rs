//! The load tool against the bare forwarder, as a user starts it: a second of load, and every packet accounted for.

use std::process::{Command, Output};

use serde_json::Value;

fn benches(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_benches"))
        .args(args)
        .output()
        .expect("the binary of this package was built")
}

/// The maximum number of runs, one of which must be undisturbed.
const MOST_RUNS: u32 = 10;

/// Returns the figures of the measured program.
fn load(scenario: &[&str]) -> Value {
    let mut args = vec![
        "load",
        "--program",
        "bare",
        "--seconds",
        "1",
        "--no-pin",
        "--json",
    ];
    args.extend(scenario);
    let output = benches(&args);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let json: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    json["programs"][0].clone()
}

/// Like [`load`], repeated if a thread was suspended for so long that the second is meaningless.
fn load_until(scenario: &[&str], is_measured: impl Fn(u64) -> bool) -> Value {
    let mut runs = 0;
    loop {
        let figures = load(scenario);
        runs += 1;
        if figures["operations"].as_u64().is_some_and(&is_measured) || runs == MOST_RUNS {
            return figures;
        }
    }
}

fn assert_moved(figures: &Value) {
    assert!(figures["operations"].as_u64() > Some(0), "{figures}");
    assert!(
        figures["cpu_micros_per_operation"].as_f64() > Some(0.0),
        "{figures}"
    );
    assert_eq!(figures["wrong_packets"], 0, "{figures}");
    assert_eq!(figures["broken_connections"], 0, "{figures}");
}

#[test]
fn echo_comes_back_whole_and_in_order() {
    let echo = [
        "echo",
        "--clients",
        "20",
        "--in-flight",
        "4",
        "--size",
        "3000",
    ];
    assert_moved(&load_until(&echo, |operations| operations > 0));
}

#[test]
fn a_fixed_rate_is_kept() {
    let is_kept = |operations| (250..=750).contains(&operations);
    let rate = ["rate", "--clients", "10", "--per-second", "500"];
    let figures = load_until(&rate, is_kept);
    assert_moved(&figures);
    let operations = figures["operations"].as_u64().expect("a count");
    assert!(is_kept(operations), "{figures}");
}

#[test]
fn the_backend_reaches_all_clients_in_turn() {
    let fan_out = ["fan-out", "--clients", "20"];
    assert_moved(&load_until(&fan_out, |operations| operations > 0));
}

#[test]
fn clients_join_one_after_the_other() {
    let joins = ["joins", "--clients", "4"];
    assert_moved(&load_until(&joins, |operations| operations > 0));
}

#[test]
fn silent_clients_are_cut_and_come_back_beside_active_ones() {
    let output = benches(&[
        "scale",
        "--program",
        "bare",
        "--seconds",
        "1",
        "--no-pin",
        "--json",
        "--clients",
        "200",
        "--active",
        "10",
    ]);
    let progress = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{progress}");
    assert!(
        progress.contains("bare: all are cut and come back: 200 of 200 after"),
        "{progress}"
    );
    let json: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let figures = &json[0];
    assert!(
        figures["beside_all_to_alone"].as_f64() > Some(0.0),
        "{figures}"
    );
    for nothing in ["wrong_packets", "sessions_lost", "connections_broken"] {
        assert_eq!(figures[nothing], 0, "{figures}");
    }
}

#[test]
fn a_missing_program_is_reported_and_the_others_are_measured() {
    let programs = "/nowhere/voltlane,bare";
    let args = [
        "load",
        "--program",
        programs,
        "--seconds",
        "1",
        "--no-pin",
        "echo",
        "--clients",
        "2",
    ];
    let output = benches(&args);
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    assert!(
        printed.contains("/nowhere/voltlane is not installed"),
        "{printed}"
    );
    assert!(
        printed.lines().any(|line| line.starts_with("bare ")),
        "{printed}"
    );
}
