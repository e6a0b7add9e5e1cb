//! Several edges, each with several backends: a client comes back at any edge, wherever its session is (SPEC 45.9).

use super::several::{Heard, heard_of};
use super::*;
use crate::backend::fleet::{Fleet, LinkId, UNKNOWN_WITHIN};
use crate::backend::host::HostConfig;
use crate::client::{Client, ClientConfig, DropCause, Event, State, Versions};
use crate::edge::shares::Bound;
use crate::edge::trunk::Trunk;
use core::num::NonZeroU8;

/// How long a backend may be down.
const REPIN: Duration = Duration::from_secs(3);

/// An edge with two backends, and one shard for each.
struct Node {
    trunks: Vec<Trunk>,
    worlds: Vec<World>,
    links: [Option<LinkId>; 2],
}

impl Node {
    fn new(home: u16, term: u32, seed: u8) -> Node {
        Node::with(home, term, seed, |_| {})
    }

    fn with(home: u16, term: u32, seed: u8, change: impl FnOnce(&mut EdgeConfig)) -> Node {
        // A client proves at each of them who it is.
        let keys = KeyPair::generate(&mut ChaCha20Rng::from_seed([7; 32]));
        let mut config = EdgeConfig {
            backends: 2,
            home,
            ..EdgeConfig::default()
        };
        config.listener.versions = OfferedVersions::new(&[2, 3]).unwrap();
        config.master.protocol = LinkProtocol::V3;
        config.master.repin_after = REPIN;
        change(&mut config);
        let (trunks, edges) = Trunk::with_backends(&config, &keys, NonZeroU8::MIN, [seed; 32]);
        let worlds = edges.into_iter().map(|mut edge| {
            edge.set_term(term);
            World {
                edge,
                edge_keys: keys.clone(),
                now: Time::ZERO,
                rng: ChaCha20Rng::from_seed([seed.wrapping_mul(7); 32]),
                header: b"",
            }
        });
        Node {
            trunks,
            worlds: worlds.collect(),
            links: [None; 2],
        }
    }

    fn wait(&mut self, now: Time) {
        for trunk in &mut self.trunks {
            trunk.handle_timeout(now);
        }
        for world in &mut self.worlds {
            world.wait(now.since(world.now));
        }
    }

    /// Moves everything within the process.
    fn pump(&mut self, now: Time) {
        let first = ShardId::default();
        for _ in 0..20 {
            for (world, trunk) in self.worlds.iter_mut().zip(&mut self.trunks) {
                if trunk.branch_accepts(first) {
                    if world.edge.link_wants_connect(now) {
                        world.edge.link_up(now);
                    }
                    trunk.handle_branch_opened(now, first);
                }
                while let Some(input) = trunk.take_branch_output(now, first, &mut Batch::new()) {
                    world.edge.handle_branch_input(now, &input);
                    world.edge.audit();
                }
                while trunk.branch_takes(first)
                    && let Some(output) = world.hands_up()
                {
                    trunk.handle_branch_input(now, first, output);
                }
                if !world.edge.branch_has_output() {
                    trunk.handle_branch_idle(now, first);
                }
                if trunk.branch_wants_close(first) {
                    trunk.handle_branch_closed(now, first);
                    world.edge.handle_link_closed(now, Closed::Eof);
                }
            }
            for place in 0..self.worlds.len() {
                while let Some(to) = self.worlds[place].edge.departing_to() {
                    let departing = self.worlds[place].edge.take_departing(now).unwrap();
                    let there = &mut self.worlds[usize::from(to.as_u8())].edge;
                    there.handle_arriving(now, departing);
                    there.audit();
                }
            }
        }
    }
}

/// Edges of the homes 1 and 2, in front of two backends.
struct Grid {
    nodes: Vec<Option<Node>>,
    fleets: Vec<Fleet>,
    heard: [Vec<Heard>; 2],
    now: Time,
}

impl Grid {
    fn new() -> Grid {
        crate::v3::watch::begin();
        let mut grid = Grid {
            nodes: vec![Some(Node::new(1, 10, 21)), Some(Node::new(2, 10, 22))],
            fleets: [BOOT, [2; 16]].map(Grid::fleet).into(),
            heard: [Vec::new(), Vec::new()],
            now: Time::ZERO,
        };
        for (node, backend) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            grid.connect(node, backend);
        }
        // What is unknown is certain.
        grid.wait(UNKNOWN_WITHIN + Duration::from_secs(1));
        grid
    }

    fn fleet(boot: [u8; 16]) -> Fleet {
        Fleet::new(HostConfig::default().asking(boot).with_edges(2).unwrap())
    }

    fn node(&mut self, node: usize) -> &mut Node {
        self.nodes[node].as_mut().expect("it lives")
    }

    fn connect(&mut self, node: usize, backend: usize) {
        while !self.nodes[node].as_ref().unwrap().trunks[backend].link_wants_connect(self.now) {
            self.wait(Duration::from_millis(100));
        }
        let now = self.now;
        let link = self.fleets[backend].handle_connected(now);
        let node = self.node(node);
        node.trunks[backend].handle_link_connecting(now);
        node.trunks[backend].handle_link_connected(now);
        node.links[backend] = Some(link);
        self.exchange();
    }

    /// An edge loses its link to a backend.
    fn cut(&mut self, node: usize, backend: usize) {
        let now = self.now;
        let node = self.node(node);
        let link = node.links[backend].take();
        node.trunks[backend].handle_link_closed(now, Closed::Error);
        node.pump(now);
        let fleet = &mut self.fleets[backend];
        link.into_iter().for_each(|link| fleet.handle_closed(link));
    }

    /// The process of a backend ends.
    fn kill_backend(&mut self, backend: usize, boot: u8) {
        let now = self.now;
        for node in self.nodes.iter_mut().flatten() {
            node.links[backend] = None;
            node.trunks[backend].handle_link_closed(now, Closed::Error);
            node.pump(now);
        }
        self.fleets[backend] = Grid::fleet([boot; 16]);
    }

    fn kill_edge(&mut self, node: usize) {
        let gone = self.nodes[node].take().expect("it lives");
        for (fleet, link) in self.fleets.iter_mut().zip(gone.links) {
            link.into_iter().for_each(|link| fleet.handle_closed(link));
        }
    }

    fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
        let now = self.now;
        self.nodes
            .iter_mut()
            .flatten()
            .for_each(|node| node.wait(now));
        for fleet in &mut self.fleets {
            fleet.handle_timeout(now);
        }
        self.exchange();
    }

    fn exchange(&mut self) {
        let now = self.now;
        for _ in 0..1_000 {
            let mut went = false;
            for node in self.nodes.iter_mut().flatten() {
                node.pump(now);
                let links = node.links.into_iter().enumerate();
                for (backend, link) in links.filter_map(|(at, link)| Some((at, link?))) {
                    let fleet = &mut self.fleets[backend];
                    let down = fleet.output(link).to_vec();
                    fleet.handle_written(link, down.len());
                    node.trunks[backend].handle_link_bytes(now, &down);
                    node.pump(now);
                    let up = node.trunks[backend].link_output().concat();
                    node.trunks[backend].handle_link_written(now, up.len());
                    hear(fleet, link, now, &up, &mut self.heard[backend]);
                    went |= !down.is_empty() || !up.is_empty();
                }
            }
            if !went {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn take(&mut self, backend: usize) -> Vec<Heard> {
        let heard = core::mem::take(&mut self.heard[backend]).into_iter();
        heard.filter(|heard| *heard != Heard::Other).collect()
    }

    /// Has all sessions of a backend go to the other one.
    fn leave(&mut self, node: usize, backend: u8) {
        let now = self.now;
        let worlds = &mut self.node(node).worlds;
        worlds
            .iter_mut()
            .for_each(|world| world.edge.handle_move(now, backend, true));
        for _ in 0..4 {
            self.wait(Duration::from_millis(20));
        }
        let worlds = &mut self.node(node).worlds;
        worlds
            .iter_mut()
            .for_each(|world| world.edge.handle_move(now, backend, false));
    }
}

fn hear(fleet: &mut Fleet, link: LinkId, now: Time, up: &[u8], heard: &mut Vec<Heard>) {
    let mut input = up;
    while let Some(event) = fleet.handle_bytes(link, now, &mut input).expect("good") {
        heard.push(heard_of(&event));
        while let Some((_, event)) = fleet.poll_event() {
            heard.push(heard_of(&event));
        }
        let mark = fleet.mark(link);
        fleet.taken_up(now, mark);
    }
    while let Some((_, event)) = fleet.poll_event() {
        heard.push(heard_of(&event));
    }
}

/// A client that knows both edges.
struct Roamer {
    client: Client,
    at: Option<(usize, usize, ConnKey)>,
    got: Vec<u64>,
    ended: Option<u16>,
    /// Why its last attempt failed.
    dropped: Option<DropCause>,
    /// The backend that goes down while the connection is between shards.
    cuts: Option<usize>,
    rng: ChaCha20Rng,
}

impl Roamer {
    /// Joins at the first edge, at this backend.
    fn join(grid: &mut Grid, backend: u8) -> Roamer {
        let config = ClientConfig::default()
            .with_versions(Versions::V3)
            .with_tickets(true);
        let mut one = Roamer {
            client: Client::new(config, [9; 32]),
            at: None,
            got: Vec::new(),
            ended: None,
            dropped: None,
            cuts: None,
            rng: ChaCha20Rng::from_seed([9; 32]),
        };
        let control = grid.node(0).worlds[0].edge.backends();
        assert!(control.drain(1 - backend, true));
        one.come(grid, 0);
        assert!(control.drain(1 - backend, false));
        assert!(one.is_there());
        one.rest(grid);
        let id = one.id();
        assert_eq!(grid.take(backend.into()), [Heard::Joined(id)]);
        one
    }

    fn id(&self) -> ClientId {
        self.client.id().expect("it has joined")
    }

    fn is_there(&self) -> bool {
        self.client.state() == State::Established
    }

    fn lose(&mut self, grid: &Grid) {
        if self.at.take().is_some() {
            let closed = crate::client::Closed::Error;
            self.client.handle_closed(grid.now, closed);
            self.hear_events();
        }
    }

    fn come(&mut self, grid: &mut Grid, node: usize) {
        self.lose(grid);
        self.dropped = None;
        grid.wait(Duration::from_secs(2));
        let now = grid.now;
        self.client.handle_timeout(now);
        assert!(self.client.wants_connect(now), "{:?}", self.client.state());
        let conn = grid.node(node).worlds[0].accept();
        let mut random = [0; 32];
        self.rng.fill_bytes(&mut random);
        self.client.handle_connected(now, random);
        self.at = Some((node, 0, conn));
        self.exchange(grid);
    }

    /// Moves everything between all ends, and its connection between shards.
    fn exchange(&mut self, grid: &mut Grid) {
        let now = grid.now;
        for _ in 0..1_000 {
            grid.exchange();
            let Some((node, shard, conn)) = self.at else {
                return;
            };
            let worlds = &mut grid.node(node).worlds;
            if let Some(to) = worlds[shard].edge.client_handover(conn) {
                let handover = worlds[shard].edge.take_handover(now, conn).unwrap();
                let to = usize::from(to.as_u8());
                if let Some(backend) = self.cuts.take() {
                    grid.cut(node, backend);
                }
                let worlds = &mut grid.node(node).worlds;
                let conn = worlds[to].edge.handle_handover(now, handover).unwrap();
                worlds[to].edge.audit();
                self.at = Some((node, to, conn));
                continue;
            }
            let world = &mut worlds[shard];
            let up = self.client.output().to_vec();
            world.write(conn, &up);
            self.client.handle_written(now, up.len());
            world.give_entropy(conn);
            let down = world.hear_bytes(conn);
            self.read(now, &down);
            if self.client.wants_close() || world.is_closed(conn) {
                self.lose(grid);
            }
            let is_handed = self.at.is_some_and(|(node, shard, conn)| {
                let edge = &mut grid.node(node).worlds[shard].edge;
                edge.client_handover(conn).is_some()
            });
            if up.is_empty() && down.is_empty() && !is_handed {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn read(&mut self, now: Time, bytes: &[u8]) {
        let (mut input, mut taken) = (bytes, 0);
        while let Some(event) = self.client.handle_bytes(now, &mut input) {
            match event {
                Event::Packet { data, number } => {
                    self.got.push(u64::from_le_bytes(data.try_into().unwrap()));
                    taken = number;
                }
                Event::Ended(end) => self.ended = Some(end.code.to_u16()),
                _ => {}
            }
        }
        if taken > 0 {
            self.client.taken(now, taken);
        }
        self.hear_events();
    }

    fn hear_events(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Ended(end) => self.ended = Some(end.code.to_u16()),
                Event::Dropped { cause, .. } => self.dropped = Some(cause),
                _ => {}
            }
        }
    }

    /// Lets time pass, in which acknowledgements are sent.
    fn rest(&mut self, grid: &mut Grid) {
        for _ in 0..3 {
            grid.wait(Duration::from_secs(1));
            self.client.handle_timeout(grid.now);
            self.exchange(grid);
        }
    }

    /// Sends so many packets, and has this backend send as many. All of them come, once each and in order.
    fn talk(&mut self, grid: &mut Grid, backend: usize, heard: &mut u64) {
        for _ in 0..3 {
            *heard += 1;
            self.client.send(&heard.to_le_bytes()).expect("room");
            let sent = grid.fleets[backend].send(self.id(), &heard.to_le_bytes());
            assert_eq!(sent, Ok(*heard), "its number goes on");
        }
        self.exchange(grid);
        let id = self.id();
        let packets = *heard - 2..=*heard;
        let packets = packets.map(|number| Heard::Packet(id, number.to_le_bytes().into()));
        assert_eq!(grid.take(backend), packets.collect::<Vec<_>>());
        assert_eq!(self.got, (1..=*heard).collect::<Vec<_>>());
        self.rest(grid);
    }
}

#[test]
fn a_client_comes_back_at_another_edge_at_whichever_backend_its_session_is() {
    for backend in [0, 1] {
        let mut grid = Grid::new();
        let mut one = Roamer::join(&mut grid, backend);
        let mut heard = 0;
        one.talk(&mut grid, backend.into(), &mut heard);
        // The shard in its id tells no more which backend that is.
        let other = usize::from(1 - backend);
        grid.leave(0, backend);
        let ended = |heard: &Heard| matches!(heard, Heard::Ended(_, 205));
        assert!(grid.take(backend.into()).iter().all(ended));
        one.come(&mut grid, 0);
        assert!(one.is_there());
        assert_eq!(grid.take(other), [Heard::Joined(one.id())]);
        one.talk(&mut grid, other, &mut heard);
        // It has a new ticket each time, so that its client knows the attempt that the ticket names.
        one.come(&mut grid, 0);
        one.talk(&mut grid, other, &mut heard);
        one.come(&mut grid, 0);
        one.talk(&mut grid, other, &mut heard);
        grid.kill_edge(0);
        one.come(&mut grid, 1);
        assert!(one.is_there(), "{:?} {:?}", one.ended, one.client.state());
        one.talk(&mut grid, other, &mut heard);
        // Its edge knows now where it is.
        one.come(&mut grid, 1);
        assert!(one.is_there(), "{:?} {:?}", one.ended, one.client.state());
        one.talk(&mut grid, other, &mut heard);
        // It goes back, and to an edge that began again.
        grid.leave(1, 1 - backend);
        one.come(&mut grid, 1);
        grid.take(0);
        grid.take(1);
        one.talk(&mut grid, backend.into(), &mut heard);
        grid.nodes[0] = Some(Node::new(1, 11, 23));
        grid.connect(0, 0);
        grid.connect(0, 1);
        grid.kill_edge(1);
        one.come(&mut grid, 0);
        assert!(one.is_there(), "{:?} {:?}", one.ended, one.client.state());
        one.talk(&mut grid, backend.into(), &mut heard);
    }
}

#[test]
fn what_the_backend_of_its_id_cannot_say_another_one_does() {
    let mut grid = Grid::new();
    let mut one = Roamer::join(&mut grid, 0);
    let mut heard = 0;
    one.talk(&mut grid, 0, &mut heard);
    // Its backend dies, and its session goes to the other one.
    grid.kill_backend(0, 3);
    grid.wait(REPIN + Duration::from_secs(1));
    grid.wait(Duration::from_secs(1));
    one.come(&mut grid, 0);
    assert!(one.is_there());
    grid.take(1);
    one.talk(&mut grid, 1, &mut heard);
    // Its edge dies, too, while the first backend is down.
    grid.kill_edge(0);
    one.come(&mut grid, 1);
    assert!(one.is_there(), "{:?} {:?}", one.ended, one.client.state());
    one.talk(&mut grid, 1, &mut heard);
    // The same once a new boot of that is there, which has not heard of all yet.
    grid.nodes[0] = Some(Node::new(1, 11, 23));
    for (node, backend) in [(0, 0), (0, 1), (1, 0)] {
        grid.connect(node, backend);
    }
    grid.kill_edge(1);
    one.come(&mut grid, 0);
    assert!(one.is_there(), "{:?} {:?}", one.ended, one.client.state());
    one.talk(&mut grid, 1, &mut heard);
    // And so on: an edge that has it by a ticket gives a backend up, and dies.
    grid.kill_backend(1, 4);
    grid.wait(REPIN + Duration::from_secs(1));
    grid.wait(Duration::from_secs(1));
    one.come(&mut grid, 0);
    assert!(one.is_there(), "{:?} {:?}", one.ended, one.client.state());
    grid.take(0);
    one.talk(&mut grid, 0, &mut heard);
    grid.nodes[1] = Some(Node::new(2, 11, 24));
    for (node, backend) in [(0, 1), (1, 0), (1, 1)] {
        grid.connect(node, backend);
    }
    grid.kill_edge(0);
    one.come(&mut grid, 1);
    assert!(one.is_there(), "{:?} {:?}", one.ended, one.client.state());
    one.talk(&mut grid, 0, &mut heard);
}

#[test]
fn only_when_none_of_them_has_it_a_session_is_told_to_have_ended() {
    let mut grid = Grid::new();
    let mut one = Roamer::join(&mut grid, 1);
    let mut heard = 0;
    one.talk(&mut grid, 1, &mut heard);
    // Both ends that have it are gone, and a new boot has nothing.
    grid.kill_edge(0);
    grid.kill_backend(1, 3);
    one.come(&mut grid, 1);
    assert_eq!((one.is_there(), one.ended), (false, None), "it is down");
    grid.connect(1, 1);
    one.come(&mut grid, 1);
    assert_eq!((one.is_there(), one.ended), (false, None), "it is young");
    grid.wait(UNKNOWN_WITHIN + Duration::from_secs(1));
    one.come(&mut grid, 1);
    assert_eq!((one.is_there(), one.ended), (false, Some(301)));
}

/// A client whose session has moved from the backend of the shard in its id to the other one.
fn at_the_other(grid: &mut Grid, heard: &mut u64) -> Roamer {
    let mut one = Roamer::join(grid, 0);
    one.talk(grid, 0, heard);
    grid.leave(0, 0);
    one.come(grid, 0);
    grid.take(0);
    grid.take(1);
    one.talk(grid, 1, heard);
    one
}

/// An edge forgets that a session has left it, and that it has ended for it, once the session is back (SPEC 45.8).
#[test]
fn a_session_that_comes_back_while_its_first_edge_lives_is_known_there_again() {
    let (mut grid, mut heard) = (Grid::new(), 0);
    let mut one = at_the_other(&mut grid, &mut heard);
    let living = |grid: &mut Grid| {
        let shares = &grid.node(0).worlds[0].edge.shares;
        shares.change_pins(|pins| [pins.len(), pins.living()])
    };
    for _ in 0..2 {
        assert_eq!(living(&mut grid), [1, 1]);
        one.come(&mut grid, 1);
        assert!(one.is_there(), "{:?}", one.dropped);
        one.talk(&mut grid, 1, &mut heard);
        assert_eq!(living(&mut grid), [1, 0], "it has left");
        one.come(&mut grid, 0);
        assert!(one.is_there(), "{:?}", one.dropped);
        one.talk(&mut grid, 1, &mut heard);
    }
}

/// SPEC 44.4(a), where the next backend is asked.
#[test]
fn a_shard_takes_no_more_sessions_of_other_edges_than_it_has_room_for() {
    for (left, comes) in [(1, true), (0, false)] {
        let (mut grid, mut heard) = (Grid::new(), 0);
        let few = |config: &mut EdgeConfig| config.limits.max_sessions = 8;
        grid.kill_edge(1);
        grid.nodes[1] = Some(Node::with(2, 11, 24, few));
        grid.connect(1, 0);
        grid.connect(1, 1);
        let mut one = at_the_other(&mut grid, &mut heard);
        let node = grid.node(1);
        let control = node.worlds[0].edge.backends();
        assert!(control.drain(0, true));
        let room = |world: &World| {
            let most = world.edge.shares.most(Bound::Sessions);
            most - world.edge.sessions.len()
        };
        while room(&node.worlds[1]) > left {
            node.worlds[1].join3();
        }
        assert!(control.drain(0, false));
        assert!(room(&node.worlds[0]) > 0, "the first shard has room");
        grid.exchange();
        grid.take(1);
        grid.kill_edge(0);
        one.come(&mut grid, 1);
        assert_eq!(one.is_there(), comes, "{left}: {:?}", one.dropped);
        assert_eq!(one.ended, None, "{left}");
        let told = (!comes).then_some(DropCause::Told(Code::BUSY));
        assert_eq!(one.dropped, told, "{left}");
    }
}

/// SPEC 45.9(d).
#[test]
fn a_client_is_told_to_come_back_if_the_next_backend_goes_down_on_the_way() {
    let (mut grid, mut heard) = (Grid::new(), 0);
    let mut one = at_the_other(&mut grid, &mut heard);
    grid.kill_edge(0);
    one.cuts = Some(1);
    one.come(&mut grid, 1);
    assert_eq!((one.cuts, one.is_there(), one.ended), (None, false, None));
    assert_eq!(one.dropped, Some(DropCause::Told(Code::BUSY)));
    grid.connect(1, 1);
    one.come(&mut grid, 1);
    assert!(one.is_there(), "{:?}", one.dropped);
    one.talk(&mut grid, 1, &mut heard);
}
