//! The other commands: `echo`, `connect`, `demo`.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use conformance::{Backend, Directory, Edge, Program, finish};

const PROGRAM: Program = crate::PROGRAM;

/// An echo backend, and an edge in front of it.
struct Echo {
    echo: Edge,
    edge: Edge,
    directory: Directory,
}

impl Echo {
    fn start() -> Echo {
        let directory = Directory::new();
        // It names its address like an edge does.
        let echo = Edge::spawn(PROGRAM.command(&directory, &["echo", "--listen", "127.0.0.1:0"]));
        let edge = Edge::start_in(
            PROGRAM,
            &directory,
            echo.address(),
            "clients.missed_packets_buffer_size = 100\n",
        );
        Echo {
            echo,
            edge,
            directory,
        }
    }

    fn stop(self) {
        self.edge.stop();
        self.echo.stop();
    }
}

#[test]
fn lines_go_out_as_packets_and_come_back_as_lines() {
    let echo = Echo::start();
    let address = echo.edge.address().to_string();
    let connect = PROGRAM.command(&echo.directory, &["connect", &address]);
    let finished = finish(connect, b"one\n\ntwo words\r\nlast, without an end");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stdout, "one\n\ntwo words\nlast, without an end\n");
    assert!(finished.stderr.contains("Connected as "), "{finished:?}");
    echo.stop();
}

#[test]
fn a_long_pipe_comes_back_whole() {
    let echo = Echo::start();
    let address = echo.edge.address().to_string();
    let lines: String = (0..5_000).map(|n| format!("line {n}\n")).collect();
    let connect = PROGRAM.command(&echo.directory, &["connect", &address]);
    let finished = finish(connect, lines.as_bytes());
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stdout == lines, "{} bytes", finished.stdout.len());
    echo.stop();
}

#[test]
fn drop_cuts_the_connection_and_the_client_comes_back_as_itself() {
    let echo = Echo::start();
    let address = echo.edge.address().to_string();
    let mut command = PROGRAM.command(&echo.directory, &["connect", &address]);
    let mut connect = command.stdin(Stdio::piped()).spawn().expect("starts");
    let mut input = connect.stdin.take().expect("piped");
    let mut output = BufReader::new(connect.stdout.take().expect("piped"));
    let mut errors = BufReader::new(connect.stderr.take().expect("piped"));

    let connected = line(&mut errors);
    let id = connected
        .strip_prefix("Connected as ")
        .expect("first of all");
    for round in 0..3 {
        writeln!(input, "round {round}").expect("it reads");
        assert_eq!(line(&mut output), format!("round {round}"));
        writeln!(input, "/drop").expect("it reads");
        assert!(line(&mut errors).starts_with("Dropped: "));
        assert_eq!(line(&mut errors), format!("Resumed as {id}"));
    }
    writeln!(input, "after all").expect("it reads");
    assert_eq!(line(&mut output), "after all");
    drop(input);
    assert!(connect.wait().expect("our child").success());
    echo.stop();

    fn line(from: &mut impl BufRead) -> String {
        let mut line = String::new();
        from.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }
}

/// With nobody there it tries on, says so, and admits at the end that the packets are lost.
#[test]
fn without_an_edge_connect_ends_with_an_error() {
    let nobody = Backend::bind();
    let address = nobody.address().to_string();
    drop(nobody);
    let directory = Directory::new();
    let finished = finish(
        PROGRAM.command(&directory, &["connect", &address]),
        b"hello\n",
    );
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.stdout, "");
    assert!(finished.stderr.contains("Dropped: "), "{finished:?}");
    assert!(finished.stderr.contains("1 packet"), "{finished:?}");
}

#[test]
fn the_demo_shows_packets_flowing_and_clients_coming_back() {
    let directory = Directory::new();
    let finished = PROGRAM.run(&directory, &["demo", "--secs", "2"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let connect = format!("{} connect 127.0.0.1:", PROGRAM.name());
    assert!(
        finished.stdout.matches(&connect).count() == 2,
        "{finished:?}"
    );
    let last = finished.stdout.lines().last().expect("a summary");
    let number_before = |word: &str| {
        let before = last.split(word).next().expect("text");
        let number = before.split_whitespace().next_back().expect("a number");
        number.replace(',', "").parse::<u64>().expect("a number")
    };
    assert!(number_before(" packets echoed") > 50, "{last}");
    assert!(number_before(" connections dropped") > 0, "{last}");
    assert!(
        !finished.stdout.contains('\u{1b}'),
        "a pipe gets plain lines"
    );
    // It needs no configuration and leaves none.
    assert!(!directory.file("connserver.toml").exists());
}
