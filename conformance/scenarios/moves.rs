//! Clients come back at any of several edges, each a process (SPEC 44).

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Instant;

use conformance::several::{Library, Serving, client_of, close, flush, serve_several};
use conformance::{Directory, Edge, Signal};
use voltlane_core::ClientId;
use voltlane_driver::backend::{BackendHandle, Event};
use voltlane_driver::client::{ClientSender, Event as ClientEvent};

use super::METRICS;

/// The clients, and what each of them and the application send before, between and after the deaths of edges.
const CLIENTS: usize = 6;
const BURST: u64 = 20;

/// A backend that answers each packet with what it says, and notes each one.
struct Application {
    address: SocketAddr,
    handle: BackendHandle,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
    heard: BTreeMap<ClientId, Vec<u64>>,
    edges: usize,
    resumed: usize,
    ended: usize,
}

impl Application {
    fn serve(library: Library) -> Application {
        let Serving {
            address,
            handle,
            events,
            thread,
        } = serve_several(library, 3);
        Application {
            address,
            handle,
            events,
            thread: Some(thread),
            heard: BTreeMap::new(),
            edges: 0,
            resumed: 0,
            ended: 0,
        }
    }

    fn await_edges(&mut self, count: usize) {
        while self.edges < count {
            let event = self.events.recv_timeout(conformance::PATIENCE);
            self.take(event.expect("an edge"));
        }
    }

    /// Takes what has come.
    fn hear(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Packet { id, data, .. } => {
                self.heard.entry(id).or_default().push(number(&data));
                self.handle.try_send(id, &data).expect("room");
            }
            Event::EdgeConnected { .. } => self.edges += 1,
            Event::Resumed { edge, .. } => {
                assert!(edge.is_some(), "it names the edge");
                self.resumed += 1;
            }
            Event::Ended { .. } => self.ended += 1,
            _ => {}
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        close(&self.handle);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "it ends");
        }
    }
}

fn number(data: &[u8]) -> u64 {
    u64::from_le_bytes(data.try_into().expect("a number"))
}

/// A client of a library, on a thread, with what it has got.
struct One {
    sender: ClientSender,
    events: Receiver<ClientEvent>,
    sent: u64,
    got: Vec<u64>,
    resumed: usize,
    ended: Option<String>,
}

impl One {
    /// A client that knows these addresses, and is at the first one.
    fn begin(library: Library, addresses: &[SocketAddr]) -> One {
        let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
        let (sender, events) = client_of(library, addresses);
        One {
            sender,
            events,
            sent: 0,
            got: Vec::new(),
            resumed: 0,
            ended: None,
        }
    }

    fn say(&mut self, last: u64) {
        for next in self.sent + 1..=last {
            self.sender.try_send(next.to_le_bytes()).expect("room");
        }
        self.sent = last;
    }

    fn hear(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            match event {
                ClientEvent::Packet { data, .. } => self.got.push(number(&data)),
                ClientEvent::Resumed { .. } => self.resumed += 1,
                ClientEvent::Ended { end, .. } => self.ended = Some(format!("{end:?}")),
                _ => {}
            }
        }
    }
}

fn edge(home: u16, shards: u8, key: Option<&[u8]>, backend: SocketAddr) -> (Edge, Directory) {
    let directory = Directory::new();
    if let Some(key) = key {
        let file = directory.path().join("edge.key");
        std::fs::write(&file, key).expect("a directory");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
    }
    let config = format!(
        "{METRICS}general.key_file = \"edge.key\"\ngeneral.shards = {shards}\nmaster.protocol = \"3\"\n\
         cluster.home = {home}\nclients.keep_alive_secs = 1\n"
    );
    let edge = Edge::start_in(super::PROGRAM, &directory, backend, &config);
    (edge, directory)
}

/// Waits until all clients have got all up to `last`. Nothing was lost then, and nothing came twice.
fn until(application: &mut Application, clients: &mut [One], last: u64) {
    let began = Instant::now();
    let expected: Vec<u64> = (1..=last).collect();
    while clients.iter().any(|one| one.got.len() < expected.len())
        && began.elapsed() < conformance::PATIENCE
    {
        application.hear();
        clients.iter_mut().for_each(One::hear);
        std::thread::yield_now();
    }
    for one in clients.iter() {
        assert_eq!(one.ended, None);
        assert_eq!(one.got, expected, "down, after {} resumes", one.resumed);
    }
    assert_eq!(application.heard.len(), CLIENTS);
    for heard in application.heard.values() {
        assert_eq!(*heard, expected, "up");
    }
    assert_eq!(application.ended, 0);
}

fn say(clients: &mut [One], last: u64) {
    clients.iter_mut().for_each(|one| one.say(last));
}

#[test]
fn clients_of_an_edge_that_dies_or_sleeps_come_back_at_another_one_and_nothing_is_lost() {
    for library in [Library::Tokio, Library::Smol] {
        let mut application = Application::serve(library);
        let backend = application.address;
        let (first, directory) = edge(1, 2, None, backend);
        let key = std::fs::read(directory.path().join("edge.key")).expect("the edge has made it");
        let (second, of_second) = edge(2, 1, Some(&key), backend);
        let (third, of_third) = edge(3, 2, Some(&key), backend);
        let addresses = [first.address(), second.address(), third.address()];
        application.await_edges(3);
        let mut clients: Vec<One> = (0..CLIENTS)
            .map(|client| {
                let mut addresses = addresses;
                addresses.rotate_left(client % 3);
                One::begin(library, &addresses)
            })
            .collect();
        say(&mut clients, BURST);
        until(&mut application, &mut clients, BURST);
        // A client whose packets are acknowledged has a ticket (SPEC 44.3(b)). Before that its own edge alone knows it.
        for client in &clients {
            flush(&client.sender);
        }

        // One dies with packets on their way in both directions.
        say(&mut clients, 2 * BURST);
        first.signal(Signal::KILL);
        say(&mut clients, 3 * BURST);
        until(&mut application, &mut clients, 3 * BURST);
        first.expect_end(None);
        assert!(application.resumed >= CLIENTS / 3);

        // Another one sleeps. Its clients take its silence for its end.
        say(&mut clients, 4 * BURST);
        second.suspend();
        say(&mut clients, 5 * BURST);
        until(&mut application, &mut clients, 5 * BURST);
        assert!(clients.iter().filter(|one| one.resumed > 0).count() >= CLIENTS / 3 * 2);

        // It wakes, learns that it has them no longer, and does no harm.
        second.signal(Signal::CONT);
        second.expect_log("another edge has this session");
        say(&mut clients, 6 * BURST);
        until(&mut application, &mut clients, 6 * BURST);
        assert_eq!(application.handle.clients().len(), CLIENTS);
        drop((directory, of_second, of_third, third));
    }
}

/// The only edge of a backend dies and is started again, three times, with packets on their way in both directions. It has a home, and its
/// clients have its address twice (SPEC 44.8), so they have tickets, and the backend sends again what the dead process took with it (SPEC 44.7).
#[test]
fn clients_of_the_only_edge_that_dies_and_starts_again_lose_nothing() {
    for library in [Library::Tokio, Library::Smol] {
        let mut application = Application::serve(library);
        let directory = Directory::new();
        let config = format!(
            "{METRICS}general.key_file = \"edge.key\"\nmaster.protocol = \"3\"\ncluster.home = 1\n"
        );
        let mut edge = Edge::start_in(super::PROGRAM, &directory, application.address, &config);
        let address = edge.address();
        application.await_edges(1);
        let mut clients: Vec<One> = (0..CLIENTS)
            .map(|_| One::begin(library, &[address, address]))
            .collect();
        say(&mut clients, BURST);
        until(&mut application, &mut clients, BURST);
        for client in &clients {
            flush(&client.sender);
        }
        for death in 1..=3 {
            let before = 3 * death - 2;
            say(&mut clients, (before + 1) * BURST);
            edge.signal(Signal::KILL);
            edge.expect_end(None);
            // Its clients find nobody meanwhile.
            say(&mut clients, (before + 2) * BURST);
            edge = Edge::spawn(command_at(&directory, address, application.address));
            say(&mut clients, (before + 3) * BURST);
            until(&mut application, &mut clients, (before + 3) * BURST);
            let resumes = clients.iter().map(|one| one.resumed as u64);
            assert!(resumes.min() >= Some(death), "all have come back");
        }
        assert_eq!(application.handle.clients().len(), CLIENTS);
        drop(edge);
    }
}

/// Returns the command of the edge in this directory, at this address.
fn command_at(directory: &Directory, address: SocketAddr, backend: SocketAddr) -> Command {
    let (address, backend) = (address.to_string(), backend.to_string());
    let arguments = ["--listen", &address, "--master", &backend];
    super::PROGRAM.command(directory, &arguments)
}
