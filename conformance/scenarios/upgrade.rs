//! A new process takes over from one that serves. (SPEC 41)
#![cfg(target_os = "linux")]

use std::cell::RefCell;
use std::env;
use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use conformance::{Backend, Client, ClientV3, Directory, Edge, Frames, Link, Signal};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, kill_process, pidfd_open};

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
        let socket = self.socket();
        let config = format!(
            "{HEALING}general.key_file = \"edge.key\"\ngeneral.shards = {shards}\n\
             general.upgrade_socket = {socket:?}\nlimits.handshake_timeout_secs = 20\n"
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

/// Clients of both versions on threads of their own. All have joined when this returns.
fn talkers(address: SocketAddr, count: usize, ends: &Arc<AtomicBool>) -> Vec<Talker> {
    let all_joined = Arc::new(Barrier::new(count + 1));
    let start = |number: usize| {
        let (ends, joined) = (Arc::clone(ends), Arc::clone(&all_joined));
        thread::spawn(move || match number % 4 {
            0 => {
                let client = RefCell::new(ClientV3::join(address));
                joined.wait();
                let send = |bytes: &[u8]| {
                    client.borrow_mut().send(bytes);
                };
                talk(send, |bytes| client.borrow_mut().expect(bytes), &ends)
            }
            _ => {
                let client = RefCell::new(Client::join(address));
                joined.wait();
                let send = |bytes: &[u8]| client.borrow_mut().send(bytes);
                talk(send, |bytes| client.borrow_mut().expect(bytes), &ends)
            }
        })
    };
    let talkers = (0..count).map(start).collect();
    all_joined.wait();
    talkers
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
    let ends = Arc::new(AtomicBool::new(false));
    let talkers = talkers(edge.address(), count, &ends);
    let mut successor = Successor(None);
    for _ in 0..times {
        successor.replace(place);
    }
    ends.store(true, Ordering::Relaxed);
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

/// The backend of the program asks for version 3 of the link, which each process opens anew, and goes on behind its counts.
#[test]
fn a_link_of_version_3_goes_on_behind_its_counts_with_shards_and_without() {
    for shards in [1, 2] {
        let mut place = Place::new(shards);
        let arguments = ["echo", "--listen", "127.0.0.1:0"];
        let echo = Edge::spawn(super::PROGRAM.command(&place.directory, &arguments));
        place.master = echo.address();
        let edge = Edge::spawn(place.command(&[]));
        upgrades(&place, &edge, 24, 3);
        edge.expect_end(Some(0));
        echo.stop();
    }
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

// ---- partners that fail

/// A partner that says so many right messages, and then something else.
struct Fake {
    socket: OwnedFd,
}

fn seqpacket() -> OwnedFd {
    let kind = SocketType::SEQPACKET;
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .expect("a socket")
}

impl Fake {
    fn connect(path: &str) -> Fake {
        let socket = seqpacket();
        let address = SocketAddrUnix::new(path).expect("a path");
        rustix::net::connect(&socket, &address).expect("it listens");
        Fake { socket }
    }

    fn say(&self, message: &[u8]) {
        self.say_with(message, &[]);
    }

    fn say_with(&self, message: &[u8], descriptors: &[OwnedFd]) {
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(OwnedFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        let sent = rustix::net::sendmsg(
            &self.socket,
            &[IoSlice::new(message)],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        sent.expect("it listens");
    }

    /// Returns the next message, empty at the end. What it has of descriptors is closed.
    fn hear(&self) -> Vec<u8> {
        self.hear_all().0
    }

    /// Returns the next message, empty at the end, and its descriptors.
    fn hear_all(&self) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut bytes = [0; 8_192];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let heard = rustix::net::recvmsg(
            &self.socket,
            &mut parts,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        );
        let length = heard.map_or(0, |heard| heard.bytes);
        let descriptors = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
            _ => Vec::new(),
        });
        let descriptors = descriptors.collect();
        (bytes[..length].to_vec(), descriptors)
    }

    fn hello(&self, key: &[u8]) {
        self.say(&[b"HVLTAKE", &2_u32.to_le_bytes()[..], key].concat());
    }
}

/// Returns a command that runs this test of this module as a process.
fn helper(name: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    let (_, module) = module_path!()
        .split_once("::")
        .expect("the crate comes first");
    command.args(["--ignored", "--exact", &format!("{module}::{name}")]);
    command
}

/// Not a test: a process that this program starts, since the edge ends the process at the other end of its socket.
#[test]
#[ignore = "it is a process that another test starts"]
fn a_partner() {
    let (Ok(mode), Ok(path), Ok(key)) = (
        env::var("VL_PARTNER"),
        env::var("VL_PATH"),
        env::var("VL_KEY"),
    ) else {
        return;
    };
    let digits = |at: usize| u8::from_str_radix(&key[at..at + 2], 16).expect("digits");
    let key: Vec<u8> = (0..key.len()).step_by(2).map(digits).collect();
    let fake = Fake::connect(&path);
    match mode.as_str() {
        "magic" => return fake.say(b"HNOTVLT 0123456789"),
        "format" => return fake.say(&[b"HVLTAKE", &3_u32.to_le_bytes()[..], &key].concat()),
        "key" => fake.hello(&[2; 33]),
        "long" => return fake.say(&[b'H'; 5_000]),
        _ => fake.hello(&key),
    }
    while !matches!(fake.hear().first(), Some(b'E') | None) {}
    if mode == "early" {
        fake.say(&[b'T'; 37]);
        return drop(fake.hear());
    }
    if mode == "before" {
        return;
    }
    fake.say(b"R");
    assert_eq!(fake.hear().first(), Some(&b'S'));
    match mode.as_str() {
        "gone" => {}
        "no" => fake.say(b"Nthere is no room"),
        "wrong" => fake.say(&[b'T'; 37]),
        "garbage" => fake.say(b"?"),
        // It closes its socket, and is still there.
        "shut" => drop(fake),
        "stall" => {}
        other => panic!("{other}"),
    }
    if mode != "gone" {
        loop {
            thread::park();
        }
    }
}

#[test]
fn a_partner_that_stalls_lies_or_dies_changes_nothing() {
    let place = Place::new(1);
    let (mut edge, mut link) = place.start();
    let mut old = Client::join(edge.address());
    let mut new = ClientV3::join(edge.address());
    exchange(&mut old, &mut link, b"before");
    let key = old.session.edge_key.as_bytes().iter();
    let key: String = key.map(|byte| format!("{byte:02x}")).collect();
    let pid = edge.id();
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", pid))
            .expect("it runs")
            .count()
    };
    let open = descriptors();
    for (mode, says) in [
        ("magic", "no edge"),
        ("format", "format"),
        ("key", "different keys"),
        ("long", "too long"),
        ("before", "gone"),
        ("early", "before READY"),
        ("gone", "gone"),
        ("no", "there is no room"),
        ("wrong", "something else"),
        ("garbage", "in place of TOOK"),
        ("shut", "gone"),
        ("stall", "in time"),
    ] {
        let mut child = helper("a_partner");
        child
            .env("VL_PARTNER", mode)
            .env("VL_PATH", place.socket())
            .env("VL_KEY", &key);
        let begun = Instant::now();
        let finished = conformance::Process::start(child);
        let line = edge.next_log("over");
        assert!(line.contains(says), "{mode}: {line}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{mode}");
        finished.wait_for_end();
        exchange(&mut old, &mut link, mode.as_bytes());
        new.send(mode.as_bytes());
        link.expect_data(new.id(), mode.as_bytes());
        link.send(new.id(), b"down");
        new.expect(b"down");
    }
    assert_eq!(descriptors(), open, "no descriptor stays open");
    // A right one still can.
    let edge = place.replace(edge);
    exchange(&mut old, &mut link, b"after");
    edge.stop();
}

#[test]
fn a_new_process_that_cannot_take_over_ends_and_says_why() {
    let place = Place::new(1);
    // Nobody is there.
    let finished = conformance::Process::start(place.command(&["take-over"])).end();
    assert_eq!(finished.code, Some(1));
    assert!(
        finished.stderr.contains("no process is taken over"),
        "{}",
        finished.stderr
    );
    let finished = conformance::Process::start(place.command(&["upgrade"])).end();
    assert_eq!(finished.code, Some(1));
    // One that is there, and says what it should not, or nothing more.
    let listener = seqpacket();
    let address = SocketAddrUnix::new(place.socket()).expect("a path");
    rustix::net::bind(&listener, &address).expect("a free path");
    rustix::net::listen(&listener, 4).expect("it can");
    let numbers = [[0; 4]; 2].concat();
    let state = [&b"S"[..], &5_u64.to_le_bytes(), &numbers].concat();
    let answers: [(&[&[u8]], &str); 6] = [
        (&[b"Nnot you"], "not you"),
        (&[b"?"], "between listeners"),
        (&[], "gone"),
        (&[b"E", b"S"], "STATE"),
        (&[b"E", &state], "lost on the way"),
        // It is there, and has closed its socket.
        (&[b"E"], "gone"),
    ];
    for (answers, says) in answers {
        let process = conformance::Process::start(place.command(&["take-over"]));
        let socket = rustix::net::accept(&listener).expect("it connects");
        let fake = Fake { socket };
        assert_eq!(fake.hear().first(), Some(&b'H'));
        for answer in answers {
            match *answer {
                b"E" => {
                    let own = pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
                    fake.say_with(answer, &[own.expect("a descriptor"), seqpacket()]);
                }
                _ => fake.say(answer),
            }
        }
        if answers.first() == Some(&&b"E"[..]) {
            assert_eq!(fake.hear(), b"R");
        }
        drop(fake);
        let finished = process.end();
        assert_eq!(finished.code, Some(1), "{says}");
        assert!(
            finished.stderr.contains(says),
            "{says}: {}",
            finished.stderr
        );
    }
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

fn wait_for_end_of(process: Pid) {
    // It is there until somebody has heard of its end.
    let Ok(process) = pidfd_open(process, PidfdFlags::empty()) else {
        return;
    };
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    rustix::event::poll(&mut ended, None).expect("it ends");
}

/// Not a test: a process between an old one and a new one, which passes on what they say up to a message of one of them. Then it stops or
/// ends one of the two, and ends: so the other one has the same end of its partner as without it.
#[test]
#[ignore = "it is a process that another test starts"]
fn a_relay() {
    let variable = |name| env::var(name).ok();
    let (Some(at), Some(does), Some(path), Some(own), Some(old)) = (
        variable("VL_AT"),
        variable("VL_DOES"),
        variable("VL_PATH"),
        variable("VL_OWN"),
        variable("VL_OLD"),
    ) else {
        return;
    };
    let old_pid = old.parse().ok().and_then(Pid::from_raw).expect("a number");
    let listener = seqpacket();
    let address = SocketAddrUnix::new(own.as_str()).expect("a path");
    rustix::net::bind(&listener, &address).expect("a free path");
    rustix::net::listen(&listener, 4).expect("it can");
    println!("listening");
    let socket = rustix::net::accept(&listener).expect("it connects");
    let new_pid = rustix::net::sockopt::socket_peercred(&socket)
        .expect("it is there")
        .pid;
    let new = Fake { socket };
    let old = Fake::connect(&path);
    let (at, is_after) = match at.strip_prefix("after ") {
        Some(at) => (at.as_bytes()[0], true),
        None => (at.as_bytes()[0], false),
    };
    let act = || {
        let killed = match does.as_str() {
            "kills the new one" => new_pid,
            _ => old_pid,
        };
        let _ = kill_process(killed, Signal::KILL);
        wait_for_end_of(killed);
    };
    // Each kind of message, and whether the new process says it.
    let mut steps = b"HLERSKT".iter().copied().peekable();
    while let Some(kind) = steps.peek().copied() {
        let is_of_new = matches!(kind, b'H' | b'R' | b'T');
        let (from, to) = if is_of_new {
            (&new, &old)
        } else {
            (&old, &new)
        };
        let (message, descriptors) = from.hear_all();
        let heard = *message.first().expect("nobody ends by itself");
        while steps.peek().is_some_and(|next| *next != heard) {
            steps.next();
        }
        if heard == at && !is_after {
            return act();
        }
        if heard == at && does.starts_with("stops") {
            kill_process(old_pid, Signal::STOP).expect("it runs");
        } else if heard == at && does == "kills the new one" {
            // The old one is to hear of it and of the end at once.
            kill_process(old_pid, Signal::STOP).expect("it runs");
        }
        to.say_with(&message, &descriptors);
        if heard == at {
            if !does.starts_with("stops") {
                act();
            } else {
                // It is there until the new process has ended the old one.
                wait_for_end_of(old_pid);
            }
            return;
        }
        // There may be several listeners.
        if heard != b'L' {
            steps.next();
        }
    }
}

impl Place {
    /// Starts a process between the old one and a new one, and returns it with the command that starts the new one.
    fn relay(&self, old: &Edge, at: &str, does: &str) -> (conformance::Process, Command) {
        let own = self.directory.file("relay.sock");
        let _ = fs::remove_file(&own);
        let text = fs::read_to_string(self.directory.file("connserver.toml")).expect("written");
        let text = text.replace("upgrade.sock", "relay.sock");
        self.directory.write("relay.toml", text);
        let mut relay = helper("a_relay");
        relay
            .arg("--nocapture")
            .env("VL_AT", at)
            .env("VL_DOES", does)
            .env("VL_PATH", self.socket())
            .env("VL_OWN", own)
            .env("VL_OLD", old.id().to_string());
        let mut relay = conformance::Process::start(relay);
        relay.stdout("listening");
        (
            relay,
            self.command(&["take-over", "--config", "relay.toml"]),
        )
    }
}

#[test]
fn a_new_process_that_dies_at_any_step_leaves_the_old_one_with_all_clients() {
    for shards in [1, 2] {
        the_new_process_dies(shards);
    }
}

fn the_new_process_dies(shards: u8) {
    let place = Place::new(shards);
    let (mut edge, mut link) = place.start();
    let mut old = Client::join(edge.address());
    let mut new = ClientV3::join(edge.address());
    for at in ["L", "E", "R", "S", "K", "T", "after T"] {
        exchange(&mut old, &mut link, at.as_bytes());
        let (relay, command) = place.relay(&edge, at, "kills the new one");
        let process = conformance::Process::start(command);
        // Its end, and not that of its output alone: it is what the old process sees as the new one.
        relay.end();
        edge.signal(Signal::CONT);
        assert_eq!(process.end().code, None, "{at}");
        edge.next_log("this one serves on");
        exchange(&mut old, &mut link, at.as_bytes());
        new.send(at.as_bytes());
        link.expect_data(new.id(), at.as_bytes());
        link.send(new.id(), b"down");
        new.expect(b"down");
    }
    let edge = place.replace(edge);
    exchange(&mut old, &mut link, b"after");
    edge.stop();
}

#[test]
fn an_old_process_that_dies_at_any_step_leaves_a_new_one_that_serves() {
    for shards in [1, 2] {
        the_old_process_dies(shards);
    }
}

fn the_old_process_dies(shards: u8) {
    for (at, does) in [
        ("R", "kills the old one"),
        ("S", "kills the old one"),
        ("K", "kills the old one"),
        ("T", "kills the old one"),
        ("after T", "stops the old one"),
    ] {
        let place = Place::new(shards);
        let (edge, mut link) = place.start();
        let mut old = Client::join(edge.address());
        let mut new = ClientV3::join(edge.address());
        exchange(&mut old, &mut link, b"before");
        let address = edge.address();
        let (relay, command) = place.relay(&edge, at, does);
        let next = Edge::spawn(command);
        relay.end();
        if at.ends_with('T') {
            next.expect_log("took over from the process before");
            exchange(&mut old, &mut link, b"after");
            new.send(b"after");
            link.expect_data(new.id(), b"after");
            link.send(new.id(), b"down");
            new.expect(b"down");
        } else {
            next.expect_log("serves without them");
            let mut link = place.backend.accept();
            let mut newcomer = Client::join(address);
            exchange(&mut newcomer, &mut link, b"new");
        }
        edge.expect_end(None);
        next.stop();
    }
}
