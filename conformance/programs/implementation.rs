//! A client of version 3 in Python that was written from SPEC.txt alone: what it does is what the document says.

use std::path::Path;
use std::process::Command;

use conformance::others::{python, script};
use conformance::{Directory, Edge};

use super::start;

/// A Python that has what the client needs, with this file of it.
fn client(file: &str) -> Option<Command> {
    let mut python = python("cryptography")?;
    python.arg(script(file));
    Some(python)
}

#[test]
fn the_cases_of_a_client_hold_for_it() {
    let Some(python) = client("v3cases.py") else {
        return;
    };
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/cases/v3/client.txt");
    let mut python = start(python, &[&cases.display().to_string()]);
    let line = python.stdout(" played, ");
    assert!(line.ends_with(" played, 0 failed"), "{line}");
}

/// It drops its connections with packets under way in both directions, and says goodbye in the end.
#[test]
fn it_loses_nothing_at_an_edge_whose_backend_echoes() {
    for program in crate::PROGRAMS {
        let directory = Directory::new();
        let echo = Edge::spawn(program.command(&directory, &["echo", "--listen", "127.0.0.1:0"]));
        let config = "listener.versions = [2, 3]\n";
        let edge = Edge::start_in(program, &directory, echo.address(), config);
        let Some(python) = client("v3client.py") else {
            return;
        };
        let mut python = start(python, &[&edge.address().to_string()]);
        python.stdout("connected");
        for _ in 0..10 {
            python.stdout("resumed");
        }
        python.stdout("end 0");
        python.stdout("each once and in order");
        edge.stop();
        echo.stop();
    }
}
