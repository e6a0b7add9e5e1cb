//! Network namespaces for tests: ports, routes and losses that no other test shares.

use std::env;
use std::process::{Command, Stdio};
use std::thread;

/// Tells a test that it is running again in a namespace of its own.
const ALONE: &str = "VL_ALONE_IN_A_NETWORK";

/// Runs `test` in a network namespace, and a mount namespace, of its own.
///
/// It has loopback and what the shell commands of `set_up` create. The calling test is run again by its name, as another process. If the
/// system does not permit namespaces, the test is skipped with a message.
///
/// # Panics
/// When the test fails there.
/// When the test fails there.
pub fn alone_in_a_network(set_up: &str, test: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        return test();
    }
    let script = format!("ip link set lo up && {set_up} && exec \"$0\" \"$@\"");
    let in_network = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount"]);
        command.args(["sh", "-c", &script]);
        command
    };
    let may = in_network().arg("true").stderr(Stdio::null()).status();
    let this = thread::current();
    let (true, Some(name)) = (may.is_ok_and(|status| status.success()), this.name()) else {
        eprintln!("not shown: no networks for users here");
        return;
    };
    let again = in_network()
        .arg(env::current_exe().expect("this is a program"))
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "yes")
        .output()
        .expect("it ran before");
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(
        again.status.success() && said.contains("1 passed"),
        "alone in a network:\n{said}{}",
        String::from_utf8_lossy(&again.stderr)
    );
}
