//! Around a running edge: its configuration's table, its log, its backend's name, a backend that is silent.
//! (BAD-INPUT G1 to G6, G9, G10, K11)

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use conformance::{Backend, Client, Directory, Edge, Frames, Link, Process, Signal, own_host};
use socket2::{Domain, Socket, Type};

/// The numbered cases that the loader is held to, here through `check` of the binary.
const CONFIGURATIONS: [&str; 4] = [
    include_str!("../../app/tests/cases/keys.txt"),
    include_str!("../../app/tests/cases/contradictions.txt"),
    include_str!("../../app/tests/cases/variables.txt"),
    include_str!("../../app/tests/cases/addresses.txt"),
];

/// A case of those files: its number, its parts by name, and what is said.
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

/// `\xFF` in a case is that byte.
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
    /// Runs `check` on it; what is not as the case says.
    fn check(&self) -> Result<(), String> {
        let directory = Directory::new();
        let mut command = crate::PROGRAM.command(&directory, &["check"]);
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
        let checked = Process::start(command).end();
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
    let failures: Vec<_> = cases.iter().filter_map(|case| case.check().err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A place to listen at that no other test has.
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
        let program = crate::PROGRAM.command(&directory, &arguments);
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
        // A configuration that is wrong is told, to nobody; then one that is right is taken.
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

/// An edge that finds its backend by a name in a file of hosts of its own; `None` where the system gives nobody such a view.
fn edge_with_hosts(directory: &Directory, master: &str) -> Option<Edge> {
    let unshare = ["--user", "--map-root-user", "--mount"];
    let may = Command::new("unshare")
        .args(unshare)
        .args(["mount", "--bind", "/etc/hosts", "/etc/hosts"])
        .stderr(Stdio::null())
        .status();
    if !may.is_ok_and(|status| status.success()) {
        return None;
    }
    let arguments = ["--listen", "127.0.0.1:0", "--master", master];
    let program = crate::PROGRAM.command(directory, &arguments);
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
    Some(Edge::spawn(command))
}

/// SPEC 7.6(f). The name means another address from one attempt to the next: what waited goes there.
#[test]
fn a_name_that_changes_is_resolved_anew_at_every_attempt() {
    let first = Backend::bind_to((Ipv4Addr::LOCALHOST, 0).into());
    let directory = Directory::new();
    let port = first.address().port();
    let second = Backend::bind_to((Ipv4Addr::new(127, 0, 0, 2), port).into());
    let hosts = |address: &str| directory.write("hosts", format!("{address} backend.test\n"));
    hosts("127.0.0.1");
    let Some(edge) = edge_with_hosts(&directory, &format!("backend.test:{port}")) else {
        eprintln!("not shown: no namespaces for users here");
        return;
    };
    let mut link = first.accept();
    let mut client = Client::join(edge.address());
    client.send(b"one");
    link.expect_data(client.id(), b"one");
    hosts("127.0.0.2");
    // The link that is up stays where it is.
    client.send(b"two");
    link.expect_data(client.id(), b"two");
    link.frames.finish();
    assert_eq!(link.try_recv(), None);
    client.send(b"three");
    let mut link = second.accept();
    link.expect_data(client.id(), b"three");
    // A name that means nothing for a while is an outage like any other.
    hosts("# nobody");
    link.frames.finish();
    assert_eq!(link.try_recv(), None);
    edge.expect_log("the backend cannot be reached, trying on");
    client.send(b"four");
    hosts("127.0.0.1");
    first.accept().expect_data(client.id(), b"four");
    edge.stop();
}

/// K11: it is there and says nothing, for as long as it likes. There is nothing to wait for: clients join and talk.
#[test]
fn a_backend_that_accepts_and_never_says_a_word_gets_all_there_is() {
    let backend = Backend::bind();
    let edge = Edge::start(crate::PROGRAM, backend.address(), "");
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

/// K11: the attempt to connect hangs. It is given up after its 5 seconds, told once, and tried again.
#[test]
fn an_attempt_that_hangs_is_given_up_and_tried_again() {
    let (listener, fillers, place) = mute_backend();
    let edge = Edge::start(crate::PROGRAM, place, "");
    // Clients are served meanwhile.
    let mut client = Client::join(edge.address());
    client.send(b"waited");
    edge.expect_log("the backend cannot be reached, trying on error=no answer in time");
    drop(fillers);
    let listener = TcpListener::from(listener);
    // What filled the places comes first, and has nothing to say.
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
