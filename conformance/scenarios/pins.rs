//! Sessions go from one backend of an edge to another one (SPEC 45.6).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::Instant;

use conformance::several::{Library, Serving, client_of, close, serve_echo};
use conformance::{Directory, Edge, PATIENCE};
use voltlane_core::ClientId;
use voltlane_driver::backend::{BackendHandle, Event};
use voltlane_driver::client::{ClientSender, Event as ClientEvent};

use super::{METRICS, PROGRAM};

pub(super) const CLIENTS: usize = 6;
pub(super) const BURST: u64 = 50;

/// A backend that sends each packet back, and notes it.
pub(super) struct Application {
    pub(super) address: SocketAddr,
    handle: BackendHandle,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
    pub(super) heard: BTreeMap<ClientId, Vec<u64>>,
    /// The codes with which sessions ended here.
    pub(super) ended: Vec<u16>,
    /// Sessions that went on here.
    pub(super) came: usize,
}

impl Application {
    pub(super) fn serve(library: Library) -> Application {
        let Serving {
            address,
            handle,
            events,
            thread,
        } = serve_echo(library);
        Application {
            address,
            handle,
            events,
            thread: Some(thread),
            heard: BTreeMap::new(),
            ended: Vec::new(),
            came: 0,
        }
    }

    pub(super) fn hear(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Packet { id, data, .. } => {
                    self.heard.entry(id).or_default().push(number(&data));
                }
                Event::Joined(joined) => self.came += usize::from(joined.again),
                Event::Ended { end, .. } => self.ended.push(end.code.to_u16()),
                _ => {}
            }
        }
    }

    /// Ends it with its listener.
    pub(super) fn stop(&mut self) {
        close(&self.handle);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "it ends");
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        self.stop();
    }
}

fn number(data: &[u8]) -> u64 {
    u64::from_le_bytes(data.try_into().expect("a number"))
}

/// A client of a library, on a thread, with what it has got.
pub(super) struct One {
    sender: ClientSender,
    events: Receiver<ClientEvent>,
    sent: u64,
    got: Vec<u64>,
    pub(super) resumed: usize,
    ended: Option<String>,
}

impl One {
    pub(super) fn begin(library: Library, address: SocketAddr) -> One {
        let (sender, events) = client_of(library, vec![address.to_string()]);
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

    pub(super) fn hear(&mut self) {
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

pub(super) fn say(clients: &mut [One], last: u64) {
    clients.iter_mut().for_each(|one| one.say(last));
}

/// Waits until all clients have got all up to `last`. Nothing was lost then, and nothing came twice: neither to a client, nor to the backends
/// of a session.
pub(super) fn until(backends: &mut [Application], clients: &mut [One], last: u64) {
    let began = Instant::now();
    let expected: Vec<u64> = (1..=last).collect();
    let lacks = |backends: &[Application], clients: &[One]| {
        // An application answers before it says what it has heard.
        let heard = backends.iter().flat_map(|one| one.heard.values());
        heard.map(Vec::len).sum::<usize>() < CLIENTS * expected.len()
            || clients.iter().any(|one| one.got.len() < expected.len())
    };
    while lacks(backends, clients) && began.elapsed() < PATIENCE {
        backends.iter_mut().for_each(Application::hear);
        clients.iter_mut().for_each(One::hear);
        std::thread::yield_now();
    }
    for one in clients.iter() {
        assert_eq!(one.ended, None);
        assert_eq!(one.got, expected, "down, after {} resumes", one.resumed);
    }
    let mut heard: BTreeMap<ClientId, Vec<u64>> = BTreeMap::new();
    for backend in backends.iter() {
        for (id, numbers) in &backend.heard {
            assert!(numbers.is_sorted(), "up, at one backend");
            heard.entry(*id).or_default().extend(numbers);
        }
    }
    assert_eq!(heard.len(), CLIENTS);
    for mut numbers in heard.into_values() {
        numbers.sort_unstable();
        assert_eq!(numbers, expected, "up");
    }
}

/// Waits until a number of the edge is this.
pub(super) fn await_value(edge: &Edge, name: &str, value: u64) {
    let began = Instant::now();
    while edge.metrics().value(name) != value {
        assert!(began.elapsed() < PATIENCE, "{name}: {}", edge.log());
        std::thread::yield_now();
    }
}

#[test]
fn sessions_go_to_another_backend_by_order_and_when_theirs_is_down_and_nothing_is_lost() {
    for library in [Library::Tokio, Library::Smol] {
        let mut backends = [(); 2].map(|()| Application::serve(library));
        let folder = Directory::new();
        let socket = folder.path().join("admin.sock");
        let admin = format!("admin.address = \"unix:{}\"\n", socket.display());
        folder.write("connserver.toml", &admin);
        let config = format!(
            "{METRICS}general.shards = 4\nmaster.protocol = \"3\"\nmaster.repin_secs = 1\n{admin}"
        );
        let addresses = backends.each_ref().map(|backend| backend.address);
        let edge = Edge::start_with_backends(PROGRAM, &addresses, &config);
        for at in 0..2 {
            await_value(
                &edge,
                &format!("voltlane_backend_up{{backend=\"{at}\"}}"),
                1,
            );
        }
        let ctl = |call: &str| {
            let call: Vec<&str> = call.split_whitespace().collect();
            let output = PROGRAM.command(&folder, &call).output().expect("it runs");
            assert!(output.status.success(), "{output:?}");
        };
        let mut clients: Vec<One> = (0..CLIENTS)
            .map(|_| One::begin(library, edge.address()))
            .collect();
        say(&mut clients, BURST);
        until(&mut backends, &mut clients, BURST);
        let first: Vec<ClientId> = backends[0].heard.keys().copied().collect();
        let of_first = first.len();
        assert!((1..CLIENTS).contains(&of_first), "{of_first}");

        // By order, with packets on their way in both directions.
        say(&mut clients, 2 * BURST);
        ctl("ctl drain --backend 0 --move");
        say(&mut clients, 3 * BURST);
        until(&mut backends, &mut clients, 3 * BURST);
        let moved = u64::try_from(of_first).expect("a few");
        await_value(&edge, "voltlane_sessions_moved_total", moved);
        assert_eq!(backends[0].ended, vec![205; of_first]);
        assert_eq!(backends[1].came, of_first);
        for id in first {
            ctl(&format!("ctl session {id}"));
        }
        assert!(clients.iter().filter(|one| one.resumed > 0).count() >= of_first);
        ctl("ctl drain --backend 0 --undo");

        // One dies that has acknowledged all, and its clients go on sending.
        await_value(&edge, "voltlane_backend_queue_packets{backend=\"1\"}", 0);
        backends[1].stop();
        say(&mut clients, 4 * BURST);
        until(&mut backends, &mut clients, 4 * BURST);
        let moved = moved + u64::try_from(CLIENTS).expect("a few");
        await_value(&edge, "voltlane_sessions_moved_total", moved);
        assert_eq!(backends[0].came, CLIENTS);
        drop(clients);
        edge.stop();
    }
}
