//! A new process takes over from one that serves. (SPEC 41)
#![cfg(target_os = "linux")]

mod link3;
mod partners;
mod signal;
mod websocket;

use std::cell::RefCell;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use conformance::{Backend, Client, ClientV3, Directory, Edge, Frames, Link, Signal};
use rustix::process::{Pid, kill_process};

use super::HEALING;

/// An edge that can be taken over, with its directory and its backend.
struct Place {
    directory: Directory,
    backend: Backend,
    /// Where the edge finds its backend.
    master: SocketAddr,
    listen: String,
}

impl Place {
    fn new(shards: u8) -> Place {
        let backend = Backend::bind();
        let place = Place {
            directory: Directory::new(),
            master: backend.address(),
            backend,
            listen: format!("{}:0", conformance::own_host()),
        };
        place.set_shards(shards);
        place
    }

    /// Has the next process begin with so many shards.
    fn set_shards(&self, shards: u8) {
        self.configure(shards, "");
    }

    /// Has the next process begin with so many shards, and more lines of configuration.
    fn configure(&self, shards: u8, more: &str) {
        let socket = self.socket();
        // Of the edges of all tests only one would have the usual address.
        let metrics = if more.contains("metrics") {
            ""
        } else {
            "metrics.address = \"\"\n"
        };
        let config = format!(
            "{metrics}{HEALING}general.key_file = \"edge.key\"\ngeneral.shards = {shards}\n\
             general.upgrade_socket = {socket:?}\nlimits.handshake_timeout_secs = 20\n{more}"
        );
        self.directory.write("connserver.toml", config);
    }

    fn command(&self, first: &[&str]) -> Command {
        let master = self.master.to_string();
        let options = ["--listen", &self.listen, "--master", &master];
        let arguments: Vec<_> = first.iter().chain(&options).copied().collect();
        super::PROGRAM.command(&self.directory, &arguments)
    }

    fn start(&self) -> (Edge, Link) {
        let edge = Edge::spawn(self.command(&[]));
        let link = self.backend.accept();
        (edge, link)
    }

    /// Starts a process that takes over from `before`, which ends.
    fn replace(&self, before: Edge) -> Edge {
        let next = Edge::spawn(self.command(&["take-over"]));
        next.expect_log("took over from the process before");
        before.expect_log("a new process has taken over");
        before.expect_end(Some(0));
        next
    }

    fn socket(&self) -> PathBuf {
        self.directory.file("upgrade.sock")
    }
}

/// Sends a packet in each direction.
fn exchange(client: &mut Client, link: &mut Link, text: &[u8]) {
    client.send(text);
    link.expect_data(client.id(), text);
    link.send(client.id(), text);
    client.expect(text);
}

#[test]
fn clients_and_the_link_stay_connected_over_several_processes() {
    let place = Place::new(1);
    let (mut edge, mut link) = place.start();
    let mode = fs::metadata(place.socket())
        .expect("it listens")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let mut old = Client::join(edge.address());
    let mut new = ClientV3::join(edge.address());
    let away = {
        let mut client = Client::join(edge.address());
        exchange(&mut client, &mut link, b"here");
        client.leave()
    };
    let address = edge.address();
    for round in 0..3_u8 {
        exchange(&mut old, &mut link, &[round; 100]);
        // Within a frame of each direction.
        let frame = [&7_u32.to_le_bytes()[..], b"cut up!"].concat();
        old.frames.write(&frame[..6]);
        new.send_cut(b"cut up, too", 9);
        link.send(away.id, &[round]);
        edge = place.replace(edge);
        assert_eq!(edge.address(), address, "the listener is the same");
        old.frames.write(&frame[6..]);
        link.expect_data(old.id(), b"cut up!");
        new.flush_all();
        link.expect_data(new.id(), b"cut up, too");
        link.send(new.id(), &[round]);
        new.expect(&[round]);
        let mut newcomer = Client::join(address);
        exchange(&mut newcomer, &mut link, b"new");
    }
    let mut back = away.resume(address);
    link.expect_resumed(back.id());
    for round in 0..3 {
        back.expect(&[round]);
    }
    edge.stop();
}

/// The successor of a process, of which the test is not the parent. Killed when dropped.
struct Successor(Option<Pid>);

impl Successor {
    fn replace(&mut self, place: &Place) {
        let command = place.command(&["upgrade"]);
        let finished = conformance::Process::start(command).end();
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        let words: Vec<_> = finished.stdout.split(' ').collect();
        assert_eq!(words[0], "process", "{}", finished.stdout);
        self.0 = words[1].parse().ok().and_then(Pid::from_raw);
        assert!(self.0.is_some());
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// Numbered traffic both ways, window by window, until `ends`. Returns the packets, and the longest time for one to come back.
fn talk(
    mut send: impl FnMut(&[u8]),
    mut expect: impl FnMut(&[u8]),
    ends: &AtomicBool,
) -> (u64, Duration) {
    const WINDOW: u64 = 4;
    let (mut sent, mut longest) = (0_u64, Duration::ZERO);
    while !ends.load(Ordering::Relaxed) {
        let begun = Instant::now();
        for number in sent..sent + WINDOW {
            send(&number.to_le_bytes());
        }
        for number in sent..sent + WINDOW {
            expect(&number.to_le_bytes());
        }
        sent += WINDOW;
        longest = longest.max(begun.elapsed());
        thread::yield_now();
    }
    (sent, longest)
}

type Talker = thread::JoinHandle<(u64, Duration)>;

/// Clients of both versions on threads of their own. All have joined when this returns. Each says when it is quiet, and then expects `last`.
fn talkers(
    address: SocketAddr,
    count: usize,
    ends: &Arc<AtomicBool>,
    last: &'static [&'static [u8]],
) -> (Vec<Talker>, mpsc::Receiver<()>) {
    let all_joined = Arc::new(Barrier::new(count + 1));
    let (is_quiet, quiet) = mpsc::channel();
    let start = |number: usize| {
        let (ends, joined) = (Arc::clone(ends), Arc::clone(&all_joined));
        let is_quiet = is_quiet.clone();
        let run = move |send: &mut dyn FnMut(&[u8]), expect: &mut dyn FnMut(&[u8])| {
            joined.wait();
            let talked = talk(send, &mut *expect, &ends);
            is_quiet.send(()).expect("the test waits");
            last.iter().for_each(|packet| expect(packet));
            talked
        };
        thread::spawn(move || match number % 4 {
            0 => {
                let client = RefCell::new(ClientV3::join(address));
                let mut send = |bytes: &[u8]| {
                    client.borrow_mut().send(bytes);
                };
                run(&mut send, &mut |bytes| client.borrow_mut().expect(bytes))
            }
            _ => {
                let client = RefCell::new(Client::join(address));
                let mut send = |bytes: &[u8]| client.borrow_mut().send(bytes);
                run(&mut send, &mut |bytes| client.borrow_mut().expect(bytes))
            }
        })
    };
    let talkers = (0..count).map(start).collect();
    all_joined.wait();
    (talkers, quiet)
}

/// `voltlane upgrade` under numbered traffic of `count` clients: none is dropped, and no packet is lost or there twice.
fn upgrade_under_traffic(shards: u8, count: usize, times: usize) {
    let place = Place::new(shards);
    let (edge, link) = place.start();
    let echo = thread::spawn(move || link.echo());
    let packets = upgrades(&place, &edge, count, times);
    // Each client has heard all of its numbers in order, and the backend no other packet.
    assert_eq!(echo.join().expect("no packet is malformed"), packets);
    edge.expect_end(Some(0));
}

/// Upgrades under the traffic of clients whose packets come back. Returns their number.
fn upgrades(place: &Place, edge: &Edge, count: usize, times: usize) -> u64 {
    upgrades_and_then(place, edge, (count, times), &[], || {})
}

/// Like [`upgrades`]. Once all clients are quiet, `send` sends `last` to each of them.
fn upgrades_and_then(
    place: &Place,
    edge: &Edge,
    (count, times): (usize, usize),
    last: &'static [&'static [u8]],
    send: impl FnOnce(),
) -> u64 {
    let ends = Arc::new(AtomicBool::new(false));
    let (talkers, quiet) = talkers(edge.address(), count, &ends, last);
    let mut successor = Successor(None);
    for _ in 0..times {
        successor.replace(place);
    }
    ends.store(true, Ordering::Relaxed);
    for _ in 0..count {
        let quiet = quiet.recv_timeout(conformance::PATIENCE);
        quiet.expect("no client is dropped");
    }
    send();
    let talked: Vec<_> = talkers
        .into_iter()
        .map(|it| it.join().expect("no client is dropped"))
        .collect();
    let packets: u64 = talked.iter().map(|(packets, _)| packets).sum();
    // The last one may not have logged it yet.
    let until = Instant::now() + conformance::PATIENCE;
    let paused = loop {
        let log = edge.log();
        let took = |line: &&str| line.contains("took over from the process before");
        let paused: Vec<_> = log.lines().filter(took).map(pause_of).collect();
        if paused.len() == times {
            break paused;
        }
        assert!(Instant::now() < until, "{log}");
        thread::yield_now();
    };
    let longest = talked.iter().map(|it| it.1).collect();
    println!(
        "{count} clients, {packets} packets up and down, {times} upgrades\n\
         pause: {}\nlongest wait of a client for four packets: {}",
        percentiles(paused),
        percentiles(longest),
    );
    drop(successor);
    packets
}

/// Returns how long nobody was served, of a line of the log: from the last step of the old process to the end of it, when the new one goes
/// on.
fn pause_of(line: &str) -> Duration {
    let (_, paused) = line.split_once("paused=").expect("it says so");
    let unit = paused.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = paused.split_at(unit.expect("a unit"));
    let number: f64 = number.parse().expect("a number");
    let seconds = match unit.trim() {
        "s" => number,
        "ms" => number / 1e3,
        _ => number / 1e6,
    };
    Duration::from_secs_f64(seconds)
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    format!(
        "p50 {:?}, p99 {:?}, longest {:?}",
        at(50),
        at(99),
        times[times.len() - 1]
    )
}

#[test]
fn an_upgrade_under_traffic_drops_and_loses_nothing() {
    upgrade_under_traffic(1, 24, 3);
}

#[test]
fn an_upgrade_of_several_shards_under_traffic_drops_and_loses_nothing() {
    upgrade_under_traffic(2, 24, 3);
}

/// A thousand with `VL_FULL=1`, as many as an ordinary run has time for without.
#[test]
fn ten_upgrades_under_the_traffic_of_many_clients() {
    upgrade_under_traffic(1, many(), 10);
}

#[test]
fn ten_upgrades_of_two_shards_under_the_traffic_of_many_clients() {
    upgrade_under_traffic(2, many(), 10);
}

fn many() -> usize {
    match env::var_os("VL_FULL") {
        Some(_) => 1_000,
        None => 100,
    }
}

#[test]
fn an_opening_is_waited_for_and_silence_is_not() {
    let place = Place::new(1);
    let (mut edge, mut link) = place.start();
    let address = edge.address();
    let (mut silent, opening) = (Frames::connect(address), Frames::connect(address));
    let next = Edge::spawn(place.command(&["take-over"]));
    edge.next_log("openings are waited for");
    // What is left of it.
    let mut client = Client::join_over(opening);
    next.expect_log("took over from the process before");
    edge.expect_end(Some(0));
    exchange(&mut client, &mut link, b"moved");
    silent.expect_closed();
    next.stop();
}

#[test]
fn shards_and_their_link_go_on_in_processes_with_more_and_fewer_of_them() {
    let place = Place::new(2);
    let (mut edge, mut link) = place.start();
    let address = edge.address();
    let mut old: Vec<_> = (0..6).map(|_| Client::join(address)).collect();
    let mut new: Vec<_> = (0..6).map(|_| ClientV3::join(address)).collect();
    let shards = old
        .iter()
        .map(Client::id)
        .chain(new.iter().map(ClientV3::id));
    let mut shards: Vec<_> = shards.map(|id| id.shard().as_u8()).collect();
    shards.sort_unstable();
    shards.dedup();
    println!("clients are at shards {shards:?}");
    for (round, shards) in [2, 3, 1, 2].into_iter().enumerate() {
        let text = [&b"round "[..], &[u8::try_from(round).unwrap()]].concat();
        let cut = [&7_u32.to_le_bytes()[..], b"cut up!"].concat();
        for client in &mut old {
            exchange(client, &mut link, &text);
            client.frames.write(&cut[..6]);
        }
        for client in &mut new {
            client.send_cut(b"cut up, too", 9);
        }
        place.set_shards(shards);
        edge = place.replace(edge);
        assert_eq!(edge.address(), address, "the listener is the same");
        for client in &mut old {
            client.frames.write(&cut[6..]);
            link.expect_data(client.id(), b"cut up!");
            exchange(client, &mut link, &text);
        }
        for client in &mut new {
            client.flush();
            link.expect_data(client.id(), b"cut up, too");
            link.send(client.id(), &text);
            client.expect(&text);
        }
        let mut newcomer = Client::join(address);
        exchange(&mut newcomer, &mut link, b"new");
    }
    edge.stop();
}

#[test]
fn a_program_that_does_not_start_changes_nothing() {
    let place = Place::new(1);
    let (edge, mut link) = place.start();
    let mut client = Client::join(edge.address());
    let command = place.command(&["upgrade", "--program", "/bin/false"]);
    let finished = conformance::Process::start(command).end();
    assert_eq!(finished.code, Some(1), "{}", finished.stdout);
    assert!(finished.stderr.contains("has ended"), "{}", finished.stderr);
    let command = place.command(&["upgrade", "--program", "/no/such/program"]);
    let finished = conformance::Process::start(command).end();
    assert_eq!(finished.code, Some(1));
    assert!(
        finished.stderr.contains("cannot be started"),
        "{}",
        finished.stderr
    );
    exchange(&mut client, &mut link, b"still here");
    edge.stop();
}

// ---- a partner that dies at each step
