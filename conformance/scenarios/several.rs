//! Several edges at one backend (SPEC 40), each a process.

use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use conformance::metrics::get;
use conformance::several::{Library, Serving, close, serve_several};
use conformance::{ClientV3, Edge, Signal};
use voltlane_core::ClientId;
use voltlane_driver::backend::{BackendHandle, Event};

use super::METRICS;

/// An event of the application, without what differs from run to run.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Edge(u16),
    Lost(u16),
    CaughtUp,
    Joined(ClientId),
    Packet(ClientId, Vec<u8>),
    Ended(ClientId, u16),
    Other(String),
}

/// A backend of one of the libraries, on a thread.
struct Application {
    address: SocketAddr,
    handle: BackendHandle,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
}

fn heard_of(event: Event) -> Heard {
    match event {
        Event::EdgeConnected { edge, .. } => Heard::Edge(edge.map_or(0, |edge| edge.home)),
        Event::EdgeLost { edge, .. } => Heard::Lost(edge.map_or(0, |edge| edge.home)),
        Event::CaughtUp { .. } => Heard::CaughtUp,
        Event::Joined(joined) => Heard::Joined(joined.id),
        Event::Packet { id, data, .. } => Heard::Packet(id, data),
        Event::Ended { id, end, .. } => Heard::Ended(id, end.code.to_u16()),
        other => Heard::Other(format!("{other:?}")),
    }
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
        }
    }

    fn next(&self) -> Heard {
        let within = conformance::PATIENCE;
        heard_of(self.events.recv_timeout(within).expect("an event"))
    }

    fn expect(&self, expected: &Heard) {
        assert_eq!(self.next(), *expected);
    }

    /// Starts an edge of this home, and waits until the application knows it. No session of the edge that had the home before ends: its client
    /// may come back at another one.
    fn edge(&self, home: u16, shards: u8) -> Edge {
        let config = format!(
            "{METRICS}general.shards = {shards}\nmaster.protocol = \"3\"\ncluster.home = {home}\n"
        );
        let edge = Edge::start(super::PROGRAM, self.address, &config);
        self.expect(&Heard::Edge(home));
        self.expect(&Heard::CaughtUp);
        edge
    }

    /// A client whose first packet the application has, and that has the answer.
    fn client(&self, edge: &Edge) -> ClientV3 {
        let mut client = ClientV3::join(edge.address());
        self.expect(&Heard::Joined(client.id()));
        self.speak(&mut client, b"hello");
        client
    }

    fn speak(&self, client: &mut ClientV3, says: &[u8]) {
        client.send(says);
        self.expect(&Heard::Packet(client.id(), says.to_vec()));
        let answer = [says, b", too"].concat();
        self.handle.try_send(client.id(), &answer).expect("room");
        client.expect(&answer);
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

/// The seconds since 1970, of which an edge makes its term.
fn seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

#[test]
fn an_edge_dies_and_another_sleeps_and_wakes_and_the_application_has_one_stream() {
    for (library, shards) in [(Library::Tokio, [1, 2, 1]), (Library::Smol, [2, 1, 2])] {
        let application = Application::serve(library);
        let edges: Vec<Edge> = (1..=3)
            .zip(shards)
            .map(|(home, shards)| application.edge(home, shards))
            .collect();
        let began = seconds();
        let mut clients: Vec<ClientV3> = Vec::new();
        for edge in edges.iter().chain(&edges) {
            clients.push(application.client(edge));
        }
        let ids: Vec<ClientId> = clients.iter().map(ClientV3::id).collect();
        let homes: Vec<u16> = ids.iter().map(|id| id.home()).collect();
        assert_eq!(homes, [1, 2, 3, 1, 2, 3]);

        // The first one dies. Nobody's session ends, and the others go on.
        let [first, second, third] = <[Edge; 3]>::try_from(edges).expect("three");
        first.signal(Signal::KILL);
        first.expect_end(None);
        application.expect(&Heard::Lost(1));
        assert_eq!(application.handle.clients().len(), 6);
        application.handle.try_send(ids[0], b"waits").expect("room");
        for client in [1, 2, 4, 5] {
            application.speak(&mut clients[client], b"still here");
        }

        // The second one sleeps, and another process serves its home.
        second.suspend();
        clients[1].send(b"too late");
        while seconds() <= began {
            std::thread::yield_now();
        }
        let later = application.edge(2, 1);
        let mut fresh = application.client(&later);
        assert_eq!(fresh.id().home(), 2);

        // It wakes, and does no harm: it learns who has its home.
        second.signal(Signal::CONT);
        second.expect_log("another edge has the home of this one");
        let (status, says) = get(second.metrics_address(), "/readyz");
        assert_eq!(
            (status, says.trim_end()),
            (503, "another edge has the home of this one (cluster.home)")
        );
        application.speak(&mut fresh, b"and I");
        application.speak(&mut clients[2], b"so am I");

        // The first one is started again, and begins anew.
        let first_again = application.edge(1, 1);
        application.client(&first_again);
        assert_eq!(application.handle.edges().len(), 3);
        drop((second, third, later));
    }
}
