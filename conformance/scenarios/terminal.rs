//! An edge started from a terminal that is then closed.

use std::process::Command;

use conformance::{Client, Directory, Edge, PATIENCE, Signal, Terminal};

const AGAIN: &str = "the configuration was read again";

/// Starts an edge in a terminal of its own, which is closed when dropped. `before` precedes its command line.
///
/// A process that ignores SIGHUP outlives its terminal, and the tests themselves may have been started that way, as under `nohup`. A shell
/// cannot take that back for its children, `env` can.
fn in_terminal(before: &str) -> (Edge, Terminal, Directory) {
    let terminal = Terminal::new();
    let directory = Directory::new();
    let handshake = PATIENCE.as_secs();
    directory.write(
        "connserver.toml",
        format!("general.shards = 2\nlimits.handshake_timeout_secs = {handshake}\n"),
    );
    let program = super::PROGRAM.command(&directory, &["--listen", "127.0.0.1:0"]);
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            &format!(
                "exec env --default-signal=HUP setsid --ctty {before} \"$0\" \"$@\" <{}",
                terminal.path()
            ),
        ])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(directory.path());
    (Edge::spawn(shell), terminal, directory)
}

#[test]
fn with_its_terminal_it_ends_in_order() {
    let (edge, terminal, _directory) = in_terminal("");
    edge.signal(Signal::HUP);
    edge.expect_log(AGAIN);
    let mut client = Client::join(edge.address());
    drop(terminal);
    client.frames.expect_closed();
    edge.expect_log("the terminal was closed");
    edge.expect_end(Some(0));
}

#[test]
fn under_nohup_it_outlives_its_terminal_and_sighup_is_for_the_configuration() {
    let (edge, terminal, _directory) = in_terminal("nohup");
    // The system sends SIGHUP for this one, too.
    drop(terminal);
    edge.expect_log(AGAIN);
    edge.signal(Signal::HUP);
    drop(Client::join(edge.address()));
    edge.stop();
}
