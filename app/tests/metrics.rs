//! The metrics page against the rules of its format, and the HTTP server over real sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use voltlane_app::http::Server;
use voltlane_app::metrics::{self, Backend, Exchange, Shard, Snapshot, encode};
use voltlane_app::process::Process;
use voltlane_core::edge::{CloseReason, EndReason, Histogram, Rejected};

/// Returns a histogram with this many counts, all within its second bound but one beyond the last.
fn times(count: u64) -> Histogram {
    let mut times = Histogram::default();
    times.record(Duration::from_secs(32));
    (1..count).for_each(|_| times.record(Duration::from_micros(250)));
    times
}

/// Returns figures that are all different, so that none can take another's place.
fn distinct() -> Snapshot {
    let mut next = 0;
    let mut one = || {
        next += 1;
        next
    };
    let mut snapshot = Snapshot::default();
    let counters = &mut snapshot.counters;
    counters.accepted = one();
    counters.rejected = counters.rejected.map(|_| one());
    counters.closed = counters.closed.map(|_| one());
    counters.joined = one();
    counters.ended = counters.ended.map(|_| one());
    for counter in [
        &mut counters.challenges,
        &mut counters.resumed,
        &mut counters.takeovers,
        &mut counters.handed_over,
        &mut counters.moved,
        &mut counters.agreements,
        &mut counters.went_away,
        &mut counters.client_bytes_in,
        &mut counters.client_bytes_out,
        &mut counters.paced,
        &mut counters.joins_paced,
        &mut counters.handshakes_paced,
        &mut counters.packets_up,
        &mut counters.packets_down,
        &mut counters.unknown_client,
        &mut counters.malformed_down,
        &mut counters.memory_over,
        &mut counters.link_up,
        &mut counters.link_down,
        &mut counters.link_violations,
        &mut counters.link_bytes_in,
        &mut counters.link_bytes_out,
    ] {
        *counter = one();
    }
    snapshot.accepts = vec![("main".into(), one()), ("web".into(), one())];
    snapshot.expiries = vec![("web".into(), 2_000_000_000)];
    snapshot.list_expiries = vec![("web".into(), 2_000_000_002)];
    snapshot.config_read.at = 1_800_000_000;
    snapshot.config_read.was_refused = true;
    snapshot.handshakes = vec![
        ("web".into(), "full", times(10_001)),
        ("web".into(), "left", times(11_001)),
    ];
    snapshot.refusals = vec![
        ("web".into(), "origin", one()),
        ("web".into(), "path", one()),
    ];
    snapshot.log_lines_lost = one();
    snapshot.file_errors = vec![("record", one()), ("snapshot", one())];
    snapshot.recording = Some(true);
    snapshot.counters.join_time = times(5_001);
    snapshot.counters.resume_time = times(6_001);
    snapshot.turn_times = times(7_001);
    snapshot.link_waits = times(9_001);
    let shard = |number: u64| Shard {
        connections: 8_001 + number,
        sessions: 8_011 + number,
        packets: 8_021 + number,
        held_bytes: 8_031 + number,
    };
    snapshot.shards = vec![shard(0), shard(1)];
    snapshot.process = Process {
        resident_bytes: 9_001,
        cpu_millis: 9_002_250,
        descriptors: 9_003,
        max_descriptors: 9_004,
    };
    let gauges = &mut snapshot.gauges;
    gauges.half_open = 1_001;
    gauges.connections = gauges.half_open + 1_002;
    gauges.sources = 1_003;
    gauges.away = 1_004;
    gauges.ending = 1_010;
    gauges.sessions = gauges.away + gauges.ending + 1_005;
    gauges.waiting = 1_006;
    gauges.link_packets = 1_007;
    gauges.link_bytes = 1_008;
    gauges.held_bytes = 1_009;
    gauges.link_is_up = true;
    snapshot
}

/// With one backend there are no such lines: what the page says of the link is of that one.
#[test]
fn each_of_several_backends_is_shown() {
    let backend = |number: u64| Backend {
        is_up: number == 0,
        is_draining: number == 1,
        sessions: 11 + number,
        queue_packets: 21 + number,
        queue_bytes: 31 + number,
    };
    let mut snapshot = distinct();
    assert!(!encode(&snapshot).contains("voltlane_backend_"));
    snapshot.backends = vec![backend(0), backend(1)];
    let page = encode(&snapshot);
    for (name, values) in [
        ("up", [1, 0]),
        ("draining", [0, 1]),
        ("sessions", [11, 12]),
        ("queue_packets", [21, 22]),
        ("queue_bytes", [31, 32]),
    ] {
        for (number, value) in values.iter().enumerate() {
            let line = format!("voltlane_backend_{name}{{backend=\"{number}\"}} {value}");
            assert!(page.lines().any(|one| one == line), "{line}");
        }
    }
}

/// `BLESS=1 cargo test -p voltlane --test all metrics::` rewrites the page; read the diff.
#[test]
fn the_page_is_as_reviewed() {
    let page = encode(&distinct());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/metrics.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &page).expect("it can be written");
    }
    let reviewed = std::fs::read_to_string(path).expect("it is there");
    for (line, expected) in page.lines().zip(reviewed.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(page, reviewed);
}

#[test]
fn the_page_follows_the_rules_of_its_format_and_shows_every_number() {
    let page = encode(&distinct());
    let Some(body) = page.strip_suffix("# EOF\n") else {
        panic!("it does not end with # EOF")
    };
    let (mut kinds, mut samples, mut values) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    let mut family = ("", "");
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (Some(what), Some(name), Some(rest)) = (words.next(), words.next(), words.next())
            else {
                panic!("{line}")
            };
            match what {
                "HELP" => assert!(!rest.is_empty(), "{line}"),
                "TYPE" => {
                    let known = ["counter", "gauge", "info", "histogram"];
                    assert!(known.contains(&rest), "{line}");
                    assert_eq!(kinds.insert(name, rest), None, "{name} has two types");
                    family = (name, rest);
                }
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        assert!(
            samples.insert(line.rsplit_once(' ').expect(line).0),
            "twice: {line}"
        );
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let (family_name, kind) = family;
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let is_of_family = match kind {
            "histogram" => ["_sum", "_count", "_bucket"]
                .iter()
                .any(|suffix| name.strip_suffix(suffix) == Some(family_name)),
            _ => name == format!("{family_name}{suffix}"),
        };
        assert!(is_of_family, "it follows the lines of its family: {line}");
        assert!(name.starts_with("voltlane_"), "{line}");
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{line}"
        );
        for label in labels
            .strip_suffix('}')
            .expect(line)
            .split(',')
            .filter(|label| !label.is_empty())
        {
            let (key, text) = label.split_once('=').expect(line);
            assert!(
                [
                    "reason",
                    "result",
                    "direction",
                    "state",
                    "to",
                    "version",
                    "listener",
                    "shard",
                    "file",
                    "le"
                ]
                .contains(&key),
                "{line}"
            );
            let text = text
                .strip_prefix('"')
                .and_then(|text| text.strip_suffix('"'))
                .expect(line);
            assert!(
                ["version", "shard", "le"].contains(&key)
                    || text
                        .bytes()
                        .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{line}"
            );
        }
        values.push(value.parse::<f64>().expect(line));
    }
    // Refused responses are a sum of closes, which equals another number.
    let closed = distinct().counters.closed;
    let refused =
        closed[CloseReason::BadProof as usize] + closed[CloseReason::ClaimLapsed as usize];
    let counted = 24 + Rejected::ALL.len() + CloseReason::ALL.len() + EndReason::ALL.len() + 1;
    for number in (1..=counted as u64).chain(1_001..=1_009) {
        let times = values.iter().filter(|&&value| value == number as f64);
        let times = times.count();
        let expected = match number {
            // The build, the link, the recording and a refused configuration are 1 as well.
            1 => 5,
            _ if number == refused => 2,
            _ => 1,
        };
        assert_eq!(times, expected, "{number}");
    }
}

#[test]
fn every_label_is_there_from_the_start() {
    let series = |page: String| -> Vec<String> {
        page.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit_once(' ').expect("a value").0.to_owned())
            .collect()
    };
    let fresh = Snapshot {
        file_errors: vec![("record", 0), ("snapshot", 0)],
        recording: Some(true),
        // Listeners are there before anybody connects.
        accepts: vec![("main".into(), 0), ("web".into(), 0)],
        expiries: vec![("web".into(), 2_000_000_001)],
        list_expiries: vec![("web".into(), 2_000_000_003)],
        handshakes: ["full", "left"]
            .map(|end| ("web".into(), end, Histogram::default()))
            .into(),
        refusals: ["origin", "path"].map(|of| ("web".into(), of, 0)).into(),
        shards: vec![Shard::default(); 2],
        ..Snapshot::default()
    };
    assert_eq!(series(encode(&fresh)), series(encode(&distinct())));
}

/// Longer than anything here takes, so a hang is reported as a failure.
const BOUND: Duration = Duration::from_secs(30);

/// The response when the loop did not answer in time.
const STUCK: &str = "the edge does not answer\n";

/// A server, and a loop that answers it until told to stop.
struct Served {
    server: Server,
    is_stuck: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
    edge: Option<JoinHandle<()>>,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn start(address: &str, exchange: Exchange) -> io::Result<Server> {
    metrics::serve(&address.parse().expect("an address"), exchange)
}

fn address(server: &Server) -> SocketAddr {
    server.addresses().next().expect("at least one")
}

fn serve(snapshot: Snapshot) -> Served {
    let (exchange, mut asked) = Exchange::new();
    let [is_stuck, ends] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
    let (stuck, end) = (Arc::clone(&is_stuck), Arc::clone(&ends));
    let edge = thread::spawn(move || {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        while !end.load(Ordering::SeqCst) {
            if !stuck.load(Ordering::SeqCst) {
                asked.answer(&waker, || snapshot.clone());
            }
            thread::park();
        }
    });
    Served {
        server: start("127.0.0.1:0", exchange).expect("a free port"),
        is_stuck,
        ends,
        edge: Some(edge),
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        if let Some(edge) = self.edge.take() {
            edge.thread().unpark();
            edge.join().expect("no panic");
        }
    }
}

impl Served {
    fn connect(&self) -> TcpStream {
        connect(address(&self.server))
    }

    fn get(&self, path: &str) -> (String, String) {
        self.request(request_for(path).as_bytes())
    }

    /// Returns the status and the body of the response to these bytes.
    fn request(&self, bytes: &[u8]) -> (String, String) {
        unless_held_up(|| self.request_once(bytes))
    }

    fn request_once(&self, bytes: &[u8]) -> (String, String) {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("it is taken");
        answer(stream)
    }
}

fn request_for(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: edge\r\n\r\n")
}

/// Repeats the request if a thread of this process was suspended for longer than the server waits.
fn unless_held_up(ask: impl Fn() -> (String, String)) -> (String, String) {
    let until = Instant::now() + BOUND;
    loop {
        let (status, says) = ask();
        let held_up = status.starts_with("408") || says == STUCK;
        if !held_up || Instant::now() >= until {
            return (status, says);
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(BOUND)).expect("a timeout");
    stream
}

fn answer(mut stream: TcpStream) -> (String, String) {
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .expect("an answer and its end");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .expect("a length");
    assert_eq!(length.parse(), Ok(body.len()));
    let status = head
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .expect("a status");
    (status.to_owned(), body.to_owned())
}

#[test]
fn a_scraper_gets_the_page() {
    let served = serve(distinct());
    // The server lists its shards and measures the process itself.
    let given = |page: &str| {
        let own = ["voltlane_shard_", "voltlane_process_"];
        let lines = page
            .lines()
            .filter(|line| !own.iter().any(|own| line.contains(own)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let value = |page: &str, series: &str| {
        let mut lines = page.lines();
        let found = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.expect(series).parse::<f64>().expect(series)
    };
    for _ in 0..3 {
        let (status, page) = served.get("/metrics");
        assert_eq!(status, "200 OK");
        assert_eq!(given(&page), given(&encode(&distinct())));
        let gauges = distinct().gauges;
        let connections = value(&page, "voltlane_shard_connections{shard=\"0\"}");
        assert_eq!(connections, gauges.connections as f64);
        assert!(!page.contains("{shard=\"1\"}"), "there is one loop");
        assert!(value(&page, "voltlane_process_resident_memory_bytes") > 65_536.0);
        assert!(value(&page, "voltlane_process_open_descriptors") > 2.0);
    }
    let byte_by_byte = unless_held_up(|| {
        let mut stream = served.connect();
        for byte in b"GET /metrics HTTP/1.1\r\n\r\n" {
            stream.write_all(&[*byte]).expect("it is taken");
        }
        answer(stream)
    });
    assert_eq!(byte_by_byte.0, "200 OK", "byte by byte");
}

#[test]
fn health_is_an_answer_of_the_loop_and_readiness_is_a_backend_too() {
    let up = distinct();
    let mut down = up.clone();
    down.gauges.link_is_up = false;
    let mut doubted = up.clone();
    doubted.gauges.link_is_doubted = true;
    let mut ending = up.clone();
    ending.is_ending = true;
    for (snapshot, ready, says) in [
        (up, "200 OK", "ok\n"),
        (down, "503 Service Unavailable", "there is no backend\n"),
        (
            doubted,
            "503 Service Unavailable",
            "the program at master.address is no backend\n",
        ),
        (
            ending,
            "503 Service Unavailable",
            "the edge is shutting down\n",
        ),
    ] {
        let served = serve(snapshot);
        assert_eq!(
            served.get("/healthz"),
            ("200 OK".to_owned(), "ok\n".to_owned())
        );
        assert_eq!(served.get("/readyz"), (ready.to_owned(), says.to_owned()));
    }
}

#[test]
fn a_loop_that_is_stuck_is_not_well_and_is_well_again_when_it_goes_on() {
    let served = serve(distinct());
    assert_eq!(served.get("/healthz").0, "200 OK");
    served.is_stuck.store(true, Ordering::SeqCst);
    for path in ["/healthz", "/readyz", "/metrics"] {
        let (status, says) = served.request_once(request_for(path).as_bytes());
        assert_eq!(
            (status.as_str(), says.as_str()),
            ("503 Service Unavailable", STUCK)
        );
    }
    served.is_stuck.store(false, Ordering::SeqCst);
    assert_eq!(served.get("/healthz").0, "200 OK");
}

#[test]
fn any_other_request_gets_its_status_and_the_next_one_is_served() {
    let served = serve(distinct());
    let long = format!("GET /metrics HTTP/1.1\r\nA: {}", "x".repeat(9_000));
    let body = format!(
        "POST /metrics HTTP/1.1\r\nContent-Length: 60000\r\n\r\n{}",
        "x".repeat(60_000)
    );
    for (request, status) in [
        ("GET /page HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /metrics/ HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("GET /Metrics HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("DELETE /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("\u{16}\u{3}\u{1}\r\n\r\n", "400 Bad Request"),
        (long.as_str(), "431 Request Header Fields Too Large"),
        (body.as_str(), "405 Method Not Allowed"),
    ] {
        assert_eq!(
            served.request(request.as_bytes()).0,
            status,
            "{:?}",
            &request[..20.min(request.len())]
        );
    }
    for cut in ["", "GET /met"] {
        let mut stream = served.connect();
        stream.write_all(cut.as_bytes()).expect("it is taken");
        stream.shutdown(Shutdown::Write).expect("half of it ends");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("an end");
        assert_eq!(rest, b"", "nobody is there to be answered");
    }
    assert_eq!(served.get("/metrics").0, "200 OK");
}

#[test]
fn half_heads_hold_nobody_up_however_many_they_are() {
    let served = serve(distinct());
    let mut half = Vec::new();
    for _ in 0..8 {
        for _ in 0..100 {
            let mut stream = served.connect();
            // It may have made room already.
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\n");
            half.push(stream);
        }
        // Not a second time, as `get` would: it must be the first one that is answered.
        let mut stream = served.connect();
        let began = Instant::now();
        let request = request_for("/healthz");
        stream.write_all(request.as_bytes()).expect("it is taken");
        assert_eq!(answer(stream).0, "200 OK");
        // One place for all would take two seconds for each of the earlier ones.
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    // The latest ones still have their places, and there are no more than the maximum.
    let mut last = half.pop().expect("many");
    last.write_all(b"\r\n").expect("it is taken");
    let mut open = 0;
    for mut stream in half {
        stream.set_nonblocking(true).expect("ours");
        open += usize::from(
            stream
                .read(&mut [0])
                .is_err_and(|e| e.kind() == ErrorKind::WouldBlock),
        );
    }
    assert!(open <= 32, "{open} are open");
}

#[test]
fn the_end_of_the_process_waits_for_no_connection() {
    let served = serve(distinct());
    let silent: Vec<_> = (0..10).map(|_| served.connect()).collect();
    let mut asking = served.connect();
    served.is_stuck.store(true, Ordering::SeqCst);
    asking
        .write_all(request_for("/healthz").as_bytes())
        .expect("it is taken");
    let began = Instant::now();
    drop(served);
    // A connection may last for two seconds, an unresponsive loop for one.
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    drop(silent);
}

#[test]
fn head_is_the_head_of_get() {
    let served = serve(distinct());
    for path in ["/metrics", "http://edge/healthz", "/nothing"] {
        let ask = |method: &str| {
            let mut stream = served.connect();
            let request = format!("{method} {path} HTTP/1.1\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("it is taken");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("an answer");
            text
        };
        let (head, get) = (ask("HEAD"), ask("GET"));
        let (of_get, body) = get.split_once("\r\n\r\n").expect("a head");
        // Of one answer to the next a figure of the process may get a digit more.
        let stays = |line: &&str| path != "/metrics" || !line.starts_with("Content-Length: ");
        let (head, of_get) = (head.trim_end().lines(), of_get.lines());
        assert!(head.filter(stays).eq(of_get.filter(stays)), "{path}");
        assert!(!body.is_empty());
    }
}

#[test]
fn silent_and_slow_clients_delay_the_others_for_a_bounded_time() {
    let served = serve(distinct());
    let began = Instant::now();
    let silent = served.connect();
    assert_eq!(served.get("/metrics").0, "200 OK");
    assert_eq!(answer(silent).0, "408 Request Timeout");
    assert!(
        began.elapsed() >= Duration::from_secs(2),
        "it was given its time"
    );
    // Each byte arrives within the time of a single read; all of them together do not.
    let mut slow = served.connect();
    let mut writer = slow.try_clone().expect("a second handle");
    let drip = thread::spawn(move || {
        while writer.write_all(b"x").is_ok() && began.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let mut text = [0; 12];
    slow.read_exact(&mut text).expect("an answer");
    assert_eq!(&text, b"HTTP/1.1 408");
    drop(slow);
    drip.join().expect("no panic");
    assert_eq!(served.get("/metrics").0, "200 OK");
}

#[test]
fn a_server_that_is_dropped_leaves_its_address() {
    for host in ["127.0.0.1", "0.0.0.0"] {
        let (exchange, _asked) = Exchange::new();
        let server = start(&format!("{host}:0"), exchange).expect("a free port");
        let address = address(&server);
        drop(server);
        let (exchange, _asked) = Exchange::new();
        start(&address.to_string(), exchange).expect("the port is free again");
    }
}

#[test]
fn an_address_in_use_is_an_error() {
    let served = serve(distinct());
    let (exchange, _asked) = Exchange::new();
    assert!(start(&address(&served.server).to_string(), exchange).is_err());
}
