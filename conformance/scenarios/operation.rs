//! The environment of a running edge: its configuration, its log, the name of its backend, a silent backend. (BAD-INPUT G1 to G6, G9, G10,
//! K11)

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use conformance::{
    Backend, Client, Directory, Edge, Finished, Frames, Link, Process, Signal, own_host,
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// The numbered cases of the loader's tests, here through `check` of the program.
const CONFIGURATIONS: [&str; 4] = [
    include_str!("../../app/tests/cases/keys.txt"),
    include_str!("../../app/tests/cases/contradictions.txt"),
    include_str!("../../app/tests/cases/variables.txt"),
    include_str!("../../app/tests/cases/addresses.txt"),
];

/// A case of those files: its number, its parts by name, and the expected messages.
struct Configuration {
    number: String,
    parts: Vec<(String, Vec<u8>)>,
    says: Vec<String>,
}

fn configurations(text: &str) -> Vec<Configuration> {
    let one = |text: &str| {
        let mut parts = text.split("\n-- ");
        let title = parts.next().expect("a title");
        let mut case = Configuration {
            number: title.split(' ').next().unwrap_or_default().to_owned(),
            parts: Vec::new(),
            says: Vec::new(),
        };
        for part in parts {
            let (name, text) = part.split_once('\n').unwrap_or((part, ""));
            if name == "says" {
                let lines = text.lines().filter(|line| !line.is_empty());
                case.says = lines.map(str::to_owned).collect();
            } else if text.is_empty() {
                case.parts.push((name.to_owned(), Vec::new()));
            } else {
                case.parts
                    .push((name.to_owned(), bytes(&format!("{text}\n"))));
            }
        }
        case
    };
    text.split("\n== ")
        .map(|text| one(text.trim_start_matches("== ")))
        .collect()
}

/// Replaces `\xFF` in a case by that byte.
fn bytes(text: &str) -> Vec<u8> {
    let mut pieces = text.split("\\x");
    let mut out = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        out.push(u8::from_str_radix(digits, 16).expect("two digits"));
        out.extend_from_slice(rest.as_bytes());
    }
    out
}

impl Configuration {
    /// Runs `check` with these arguments.
    fn run(&self, arguments: &[&str]) -> Finished {
        let directory = Directory::new();
        let mut command = super::PROGRAM.command(&directory, arguments);
        // The files that a case with TLS names: `check` reads them.
        for (name, from) in [
            ("own.pem", "edge.pem"),
            ("own.key", "edge.key"),
            ("players.pem", "authority.pem"),
        ] {
            let contents = std::fs::read(conformance::shim::certificate_file(from))
                .expect("a certificate of the tests");
            directory.write(name, &contents);
        }
        for (name, contents) in &self.parts {
            let lines = contents.split(|&byte| byte == b'\n');
            let pairs = lines.filter_map(|line| {
                let at = line.iter().position(|&byte| byte == b'=')?;
                Some((&line[..at], &line[at + 1..]))
            });
            let os = OsStr::from_bytes;
            match name.as_str() {
                "file" => directory.write("connserver.toml", contents),
                ".env" => directory.write(".env", contents),
                "env" => {
                    command.envs(pairs.map(|(name, value)| (os(name), os(value))));
                }
                _ => {
                    command.args(pairs.flat_map(|(name, value)| [os(name), os(value)]));
                }
            }
        }
        Process::start(command).end()
    }

    /// Returns how the output of `check` differs from the case.
    fn check(&self) -> Result<(), String> {
        let checked = self.run(&["check"]);
        let is_good = self.says[0] == "good";
        let said: Vec<String> = match is_good {
            true => checked.stdout.lines().map(one_blank).collect(),
            false => checked.stderr.lines().skip(1).map(str::to_owned).collect(),
        };
        let as_said = match is_good {
            true => self.says[1..]
                .iter()
                .all(|line| said.iter().any(|said| said.starts_with(&one_blank(line)))),
            false => said == self.says,
        };
        let code = if is_good { 0 } else { 2 };
        if checked.code == Some(code) && as_said {
            return Ok(());
        }
        Err(format!("{}: {checked:?}", self.number))
    }

    /// Returns how the output of `check --json` differs from the case.
    fn check_as_data(&self) -> Result<(), String> {
        let checked = self.run(&["check", "--json"]);
        let failed = |what: &str| Err(format!("{}: {what}: {checked:?}", self.number));
        let Ok(report) = serde_json::from_str::<Value>(&checked.stdout) else {
            return failed("no JSON");
        };
        let is_good = self.says[0] == "good";
        let code = if is_good { 0 } else { 2 };
        let errors = report["errors"].as_array().expect("a list");
        let texts = errors.iter().map(|error| error["text"].as_str());
        let says = self.says.iter().filter(|_| !is_good).map(String::as_str);
        if report["good"] != is_good || checked.code != Some(code) {
            return failed("another verdict");
        }
        if !texts.eq(says.map(Some)) {
            return failed("other errors");
        }
        // `check --json` has the same message in parts.
        for error in errors {
            let place = &error["place"];
            let has_place = match place["source"].as_str() {
                // No line if the encoding of the whole is wrong, no column if that of a line is.
                Some("file") => {
                    let is_placed = place["line"].is_u64() && place["column"].is_u64();
                    let is_encoding = error["what"]
                        .as_str()
                        .is_some_and(|what| what.contains("UTF"));
                    place["file"] == "connserver.toml" && (is_placed || is_encoding)
                }
                Some("dotenv") => place["line"].is_u64() || error["written"].is_null(),
                Some("environment") => place["variable"].is_string(),
                Some("argument") => place["option"].is_string(),
                _ => false,
            };
            let what = error["what"].as_str().unwrap_or_default();
            let text = error["text"].as_str().unwrap_or_default();
            let remedy = error["remedy"].as_str().unwrap_or_default();
            if !has_place || what.is_empty() || !text.ends_with(remedy) {
                return failed("a part is missing");
            }
        }
        let values = report["values"].as_object();
        if values.is_some() != is_good {
            return failed("values");
        }
        for line in self.says[1..].iter().filter(|_| is_good) {
            let (path, _) = line.split_once(" = ").expect("a value");
            let source = report["values"][path]["place"]["source"].as_str();
            if source.is_none_or(|source| source == "default") {
                return failed(path);
            }
        }
        Ok(())
    }
}

fn one_blank(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_configuration_of_the_table_is_told_by_check_as_by_the_loader() {
    let cases: Vec<_> = CONFIGURATIONS
        .into_iter()
        .flat_map(configurations)
        .collect();
    assert!(cases.len() > 150, "{}", cases.len());
    let failures: Vec<_> = cases
        .iter()
        .flat_map(|case| [case.check().err(), case.check_as_data().err()])
        .flatten()
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A program can read the place, the error and the remedy without parsing text.
#[test]
fn check_prints_everything_as_data() {
    let directory = Directory::new();
    let config = "[clients]\nchannel_capacity = 100\nchanel_bytes = 5\n  max_stale_clients = -1\n";
    directory.write("connserver.toml", config);
    let report = |arguments: &[&str], code| {
        let mut command = super::PROGRAM.command(&directory, arguments);
        command.env("VOLTLANE_MASTER_CHANNEL_CAPACITY", "55");
        let checked = Process::start(command).end();
        assert_eq!(checked.code, Some(code), "{checked:?}");
        assert_eq!(checked.stderr, "", "all of it is the answer");
        serde_json::from_str::<Value>(&checked.stdout).expect("JSON")
    };
    let wrong = report(&["check", "--json"], 2);
    assert_eq!(
        (&wrong["good"], &wrong["values"]),
        (&json!(false), &json!(null))
    );
    assert_eq!(wrong["program"], super::PROGRAM.name());
    assert_eq!(wrong["file"], "connserver.toml");
    let range = "must be a whole number from 0 to 16777216";
    let unknown = "unknown key; did you mean clients.channel_bytes?";
    assert_eq!(
        wrong["errors"],
        json!([
            {
                "key": null,
                "place": {"source": "file", "file": "connserver.toml", "line": 3, "column": 1},
                "written": "clients.chanel_bytes",
                "value": "5",
                "what": "unknown key",
                "remedy": "did you mean clients.channel_bytes?",
                "text": format!("connserver.toml:3: clients.chanel_bytes = 5: {unknown}"),
            },
            {
                "key": "clients.max_stale_clients",
                "place": {"source": "file", "file": "connserver.toml", "line": 4, "column": 3},
                "written": "clients.max_stale_clients",
                "value": "-1",
                "what": "the value is not allowed",
                "remedy": range,
                "text": format!("connserver.toml:4: clients.max_stale_clients = -1: {range}"),
            },
        ])
    );

    directory.write("connserver.toml", "[clients]\nchannel_capacity = 100\n");
    let good = report(&["check", "--json", "--master", "[::1]:9"], 0);
    assert_eq!((&good["good"], &good["errors"]), (&json!(true), &json!([])));
    let (values, capacity) = (&good["values"], "clients.channel_capacity");
    let place = json!({"source": "file", "file": "connserver.toml", "line": 2, "column": 1});
    assert_eq!(
        values[capacity],
        json!({"value": 100, "default": 8192, "unit": null, "place": place, "is_lowered": false})
    );
    let missed = &values["clients.missed_packets_buffer_size"];
    assert_eq!(
        (&missed["value"], &missed["is_lowered"]),
        (&json!(50), &json!(true))
    );
    assert_eq!(values["master.address"]["value"], "[::1]:9");
    assert_eq!(
        values["master.address"]["place"],
        json!({"source": "argument", "option": "--master"})
    );
    let variable = json!({"source": "environment", "variable": "VOLTLANE_MASTER_CHANNEL_CAPACITY"});
    assert_eq!(values["master.channel_capacity"]["place"], variable);
    assert_eq!(values["listener.keep_alive_secs"]["unit"], "seconds");
    assert_eq!(
        values["limits.exempt"]["value"],
        json!(["127.0.0.0/8", "::1/128"])
    );
    assert_eq!(values["metrics.address"]["value"], "auto");
    assert!(good["worst_case_bytes"]["link"].is_u64(), "{good}");
}

/// Returns an address to listen at that no other test has.
pub(super) fn free_place() -> SocketAddr {
    let listener = TcpListener::bind((own_host(), 0));
    listener
        .and_then(|bound| bound.local_addr())
        .expect("bound")
}

/// G10: every line of the log fails, from the first on. The service starts, serves, and ends in order.
#[test]
fn a_full_disk_under_the_log_and_a_closed_one_stop_nothing() {
    for log in ["/dev/full", "&-"] {
        let (backend, directory, place) = (Backend::bind(), Directory::new(), free_place());
        directory.write("connserver.toml", "general.log_level = \"Trace\"\n");
        let (listen, master) = (place.to_string(), backend.address().to_string());
        let arguments = ["--listen", &listen, "--master", &master];
        let program = super::PROGRAM.command(&directory, &arguments);
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("exec \"$0\" \"$@\" 2>{log}")])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(directory.path())
            .stdin(Stdio::null());
        let edge = Process::start(shell);
        let mut link = backend.accept();
        for _ in 0..20 {
            let mut client = Client::join(place);
            client.send(b"here");
            link.expect_data(client.id(), b"here");
            link.send(client.id(), b"there");
            client.expect(b"there");
            client.leave();
        }
        // An error in the configuration is logged in vain. Then a correct one takes effect.
        directory.write("connserver.toml", "nonsense\n");
        edge.signal(Signal::HUP);
        let mut client = Client::join(place);
        client.send(b"still");
        link.expect_data(client.id(), b"still");
        edge.signal(Signal::TERM);
        drop((link, backend));
        let finished = edge.end();
        assert_eq!(finished.code, Some(0), "{log}: {finished:?}");
    }
}

#[test]
fn lines_about_a_client_name_its_connection_and_its_session() {
    let (backend, directory) = (Backend::bind(), Directory::new());
    directory.write(
        "connserver.toml",
        "general.log_level = \"Debug\"\ngeneral.shards = 1\n",
    );
    let master = backend.address().to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--master", &master];
    let edge = Edge::spawn(super::PROGRAM.command(&directory, &arguments));
    let _link = backend.accept();
    let client = Client::join(edge.address());
    let id = client.id();
    client.leave();
    let line = edge.expect_log("connection closed");
    let span = format!("client{{conn=0 session={id}}}: ");
    assert!(line.contains(&span), "{line}");
    edge.stop();
}

/// Returns the command of a program that resolves names with the file `hosts` of its directory, or `None` if the system does not permit
/// such a view.
pub(super) fn with_hosts(directory: &Directory, arguments: &[&str]) -> Option<Command> {
    let unshare = ["--user", "--map-root-user", "--mount"];
    let may = Command::new("unshare")
        .args(unshare)
        .args(["mount", "--bind", "/etc/hosts", "/etc/hosts"])
        .stderr(Stdio::null())
        .status();
    if !may.is_ok_and(|status| status.success()) {
        return None;
    }
    let program = super::PROGRAM.command(directory, arguments);
    let mut command = Command::new("unshare");
    command
        .args(unshare)
        .args([
            "sh",
            "-c",
            "mount --bind hosts /etc/hosts && exec \"$0\" \"$@\"",
        ])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(directory.path());
    Some(command)
}

/// SPEC 7.6(f). The name resolves to another address at the next attempt, and the waiting packets go there.
#[test]
fn a_name_is_resolved_at_every_attempt() {
    let first = Backend::bind_to((Ipv4Addr::LOCALHOST, 0).into());
    let directory = Directory::new();
    let port = first.address().port();
    let second = Backend::bind_to((Ipv4Addr::new(127, 0, 0, 2), port).into());
    let hosts = |address: &str| directory.write("hosts", format!("{address} backend.test\n"));
    hosts("127.0.0.1");
    let master = format!("backend.test:{port}");
    let arguments = ["--listen", "127.0.0.1:0", "--master", &master];
    let Some(command) = with_hosts(&directory, &arguments) else {
        eprintln!("not shown: no namespaces for users here");
        return;
    };
    let edge = Edge::spawn(command);
    let mut link = first.accept();
    let mut client = Client::join(edge.address());
    client.send(b"one");
    link.expect_data(client.id(), b"one");
    hosts("127.0.0.2");
    // The current link stays where it is.
    client.send(b"two");
    link.expect_data(client.id(), b"two");
    link.frames.finish();
    assert_eq!(link.try_recv(), None);
    client.send(b"three");
    let mut link = second.accept();
    link.expect_data(client.id(), b"three");
    // A name that does not resolve for a while is an outage like any other.
    hosts("# nobody");
    link.frames.finish();
    assert_eq!(link.try_recv(), None);
    edge.expect_log("the backend cannot be reached; still trying");
    client.send(b"four");
    hosts("127.0.0.1");
    first.accept().expect_data(client.id(), b"four");
    edge.stop();
}

/// K11: the backend accepts and stays silent for as long as it likes. There is nothing to wait for: clients join and send.
#[test]
fn a_backend_that_accepts_and_stays_silent_receives_everything() {
    let backend = Backend::bind();
    let edge = Edge::start(super::PROGRAM, backend.address(), "");
    let mut link: Link = backend.accept();
    for n in 0..10_u8 {
        let mut client = Client::join(edge.address());
        client.send(&[n]);
        link.expect_data(client.id(), &[n]);
        let session = client.leave();
        let client = session.resume(edge.address());
        link.expect_resumed(client.id());
    }
    edge.stop();
}

/// A listener whose backlog is full, what fills it, and where it is: whoever connects there gets no answer.
pub(super) fn mute_backend() -> (Socket, Vec<Socket>, SocketAddr) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    listener.bind(&any.into()).expect("a free port");
    listener.listen(0).expect("it listens");
    let place = listener.local_addr().expect("bound");
    let fill = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("a socket");
        let _ = socket.connect(&place);
        socket
    };
    let fillers = (0..4).map(|_| fill()).collect();
    (listener, fillers, place.as_socket().expect("an address"))
}

/// K11: the connect attempt hangs. It is given up after 5 seconds, logged once, and repeated.
#[test]
fn an_attempt_that_hangs_is_given_up_and_tried_again() {
    let (listener, fillers, place) = mute_backend();
    let edge = Edge::start(super::PROGRAM, place, "");
    // Clients are served meanwhile.
    let mut client = Client::join(edge.address());
    client.send(b"waited");
    edge.expect_log("the backend cannot be reached; still trying error=no answer in time");
    drop(fillers);
    let listener = TcpListener::from(listener);
    // The connections that filled the backlog come first, and send nothing.
    loop {
        let (stream, _) = listener.accept().expect("the edge tries again");
        let mut frames = Frames::new(stream);
        match frames.incoming() {
            conformance::Incoming::Body(body) => {
                assert_eq!(&body[9..], b"waited");
                break;
            }
            _ => continue,
        }
    }
    edge.signal(Signal::TERM);
    drop(listener);
    edge.expect_end(Some(0));
}
