//! Sessions of several backends go on in another process, and moves under way are completed there (SPEC 39.5).

use std::net::SocketAddr;

use conformance::several::Library;
use conformance::{Directory, Edge, Signal};

use super::pins::{Application, BURST, CLIENTS, One, await_value, say, until};
use super::{METRICS, PROGRAM};

/// An edge of several backends, whose processes follow one another.
struct Place {
    directory: Directory,
    listen: String,
}

impl Place {
    fn configure(&self, backends: &[SocketAddr], shards: usize) {
        let backends: Vec<String> = backends.iter().map(SocketAddr::to_string).collect();
        let (admin, upgrade) = (
            self.directory.file("admin.sock"),
            self.directory.file("upgrade.sock"),
        );
        let config = format!(
            "master.addresses = {backends:?}\n{METRICS}general.key_file = \"edge.key\"\n\
             general.snapshot_file = \"sessions\"\ngeneral.upgrade_socket = {upgrade:?}\n\
             general.shards = {shards}\nmaster.protocol = \"3\"\nmaster.repin_secs = 1\n\
             limits.handshake_timeout_secs = 20\nadmin.address = \"unix:{}\"\n",
            admin.display()
        );
        self.directory.write("connserver.toml", config);
    }

    fn begin(&self, first: &[&str]) -> Edge {
        let arguments = [first, &["--listen", &self.listen]].concat();
        Edge::spawn(PROGRAM.command(&self.directory, &arguments))
    }

    /// Ends a process in order, after which another one goes on.
    fn restart(&self, before: Edge) -> Edge {
        before.signal(Signal::TERM);
        before.expect_log("the sessions are saved");
        before.expect_end(Some(0));
        let next = self.begin(&[]);
        next.expect_log("the sessions of the last process go on");
        next
    }

    /// Has another process take over.
    fn upgrade(&self, before: Edge) -> Edge {
        let next = self.begin(&["take-over"]);
        next.expect_log("took over from the process before");
        before.expect_end(Some(0));
        next
    }

    fn next(&self, before: Edge, upgrades: bool) -> Edge {
        match upgrades {
            true => self.upgrade(before),
            false => self.restart(before),
        }
    }

    fn ctl(&self, call: &str) {
        let call: Vec<&str> = call.split_whitespace().collect();
        let output = PROGRAM.command(&self.directory, &call).output();
        let output = output.expect("it runs");
        assert!(output.status.success(), "{output:?}");
    }
}

fn await_backends(edge: &Edge, count: usize) {
    for at in 0..count {
        let name = format!("voltlane_backend_up{{backend=\"{at}\"}}");
        await_value(edge, &name, 1);
    }
}

#[test]
fn sessions_of_several_backends_go_on_in_another_process_and_nothing_is_lost() {
    for library in [Library::Tokio, Library::Smol] {
        for upgrades in [false, true] {
            go_on(library, upgrades);
        }
    }
}

fn go_on(library: Library, upgrades: bool) {
    let mut backends = [(); 2].map(|()| Application::serve(library));
    let addresses = backends.each_ref().map(|backend| backend.address);
    let mut place = Place {
        directory: Directory::new(),
        listen: format!("{}:0", conformance::own_host()),
    };
    place.configure(&addresses, 4);
    let mut edge = place.begin(&[]);
    if !upgrades {
        // A listener that moves has the same address in both configurations.
        place.listen = edge.address().to_string();
    }
    await_backends(&edge, 2);
    let mut clients: Vec<One> = (0..CLIENTS)
        .map(|_| One::begin(library, edge.address()))
        .collect();
    let mut last = BURST;
    say(&mut clients, last);
    until(&mut backends, &mut clients, last);
    let of_first = backends[0].heard.len();
    assert!((1..CLIENTS).contains(&of_first), "{of_first}");

    // With packets on their way in both directions, to as many shards or to others, in the same order or another one.
    for (order, shards) in [([0, 1], 4), ([1, 0], 4), ([0, 1], 6)] {
        place.configure(&order.map(|at| addresses[at]), shards);
        last += BURST;
        say(&mut clients, last);
        edge = place.next(edge, upgrades);
        last += BURST;
        say(&mut clients, last);
        until(&mut backends, &mut clients, last);
    }
    assert_eq!((backends[0].ended.len(), backends[1].ended.len()), (0, 0));

    // While a backend is emptied: the order holds in the next process.
    await_backends(&edge, 2);
    last += BURST;
    say(&mut clients, last);
    place.ctl("ctl drain --backend 0 --move");
    edge = place.next(edge, upgrades);
    last += BURST;
    say(&mut clients, last);
    until(&mut backends, &mut clients, last);
    while backends[0].ended.len() < of_first || backends[1].came < of_first {
        last += 1;
        say(&mut clients, last);
        until(&mut backends, &mut clients, last);
    }
    assert_eq!(backends[0].ended, vec![205; of_first]);
    assert_eq!(backends[1].came, of_first);

    // Those that moved go on where they are.
    edge = place.next(edge, upgrades);
    last += BURST;
    say(&mut clients, last);
    until(&mut backends, &mut clients, last);

    // A backend that has acknowledged all is not configured any more.
    await_value(&edge, "voltlane_backend_queue_packets{backend=\"1\"}", 0);
    place.configure(&addresses[..1], 4);
    edge = place.next(edge, upgrades);
    edge.expect_log("of a backend that is not configured any more");
    last += BURST;
    say(&mut clients, last);
    until(&mut backends, &mut clients, last);
    assert_eq!(backends[0].came, CLIENTS);
    drop(clients);
    edge.stop();
}
