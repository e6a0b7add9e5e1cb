//! Partners of an upgrade that stall, lie or die.

use std::env;
use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use conformance::{Client, ClientV3, Edge, Signal};
use rustix::event::{PollFd, PollFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, kill_process, pidfd_open};

use super::*;

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
        self.say(&[b"HVLTAKE", &3_u32.to_le_bytes()[..], key].concat());
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
        "format" => return fake.say(&[b"HVLTAKE", &99_u32.to_le_bytes()[..], &key].concat()),
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
    // No process listens at the upgrade socket.
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
