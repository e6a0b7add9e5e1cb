//! Several edges at one backend (SPEC 40), between the machines of both ends.

use super::*;
use crate::backend::BackendError;
use crate::backend::fleet::{Fleet, LinkId};
use crate::backend::host::{Event, GrantError, HostConfig, LinkSecret, Mark};
use crate::edge::sessions::ids::ClientIds;
use crate::id::{ClientId, ShardId};

/// What was heard, in short.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Joined(ClientId),
    Packet(ClientId, Vec<u8>),
    Ended(ClientId, u16),
    Other,
}

pub(super) struct Several {
    pub(super) fleet: Fleet,
    pub(super) edges: Vec<World>,
    pub(super) links: Vec<Option<LinkId>>,
    /// Whether the application comes back from no packet, and those that it is to come back from.
    pub(super) is_busy: bool,
    lent: Vec<Mark>,
    heard: Vec<Heard>,
}

pub(super) fn edge_at(home: u16, term: u32, run: u8, secret: Option<u8>) -> World {
    let mut world = world(|config| {
        config.master.protocol = LinkProtocol::V3;
        config.home = home;
        config.master.secret = secret.map(secret_of);
        // Longer than pauses between links.
        config.clients.write_timeout = Duration::from_secs(3_600);
    });
    // The worlds of tests have one seed.
    world.edge.ids = ClientIds::new(ShardId::new(0), [run; 16]).at_home(home);
    world.edge.run = [run; 8];
    world.edge.set_term(term);
    world
}

fn secret_of(byte: u8) -> LinkSecret {
    LinkSecret::new(&[byte; 32]).expect("long enough")
}

impl Several {
    /// Three edges, of the homes 1 to 3, which have granted.
    pub(super) fn granted(secret: Option<u8>) -> Several {
        let config = HostConfig::default().asking(BOOT).with_edges(3).unwrap();
        let config = match secret {
            Some(byte) => config.proving(secret_of(byte), [byte; 32]),
            None => config,
        };
        let mut several = Several {
            fleet: Fleet::new(config),
            edges: (1..=3)
                .map(|home| edge_at(home, 10, home as u8, secret))
                .collect(),
            links: vec![None; 3],
            is_busy: false,
            lent: Vec::new(),
            heard: Vec::new(),
        };
        for edge in 0..3 {
            several.connect(edge);
            several.exchange();
        }
        assert_eq!(several.fleet.edges().len(), 3);
        several
    }

    pub(super) fn connect(&mut self, edge: usize) {
        self.links[edge] = Some(self.fleet.handle_connected(self.edges[edge].now));
    }

    /// The edge loses its link, and dials again. The backend may not have noticed.
    pub(super) fn dial(&mut self, edge: usize, is_seen: bool) {
        let world = &mut self.edges[edge];
        if world.edge.gauges().link_is_up || world.edge.link_wants_close() {
            world.edge.handle_link_closed(world.now, Closed::Error);
        }
        world.wait(Duration::from_secs(40));
        world.backend_comes();
        if is_seen && let Some(link) = self.links[edge] {
            self.fleet.handle_closed(link);
        }
        self.connect(edge);
    }

    /// Moves everything. Returns why links end.
    pub(super) fn exchange(&mut self) -> Vec<BackendError> {
        let mut errors = Vec::new();
        let mut moved = true;
        while moved {
            moved = false;
            for edge in 0..self.edges.len() {
                moved |= self.exchange_with(edge, &mut errors);
            }
        }
        errors
    }

    pub(super) fn exchange_with(&mut self, edge: usize, errors: &mut Vec<BackendError>) -> bool {
        let Some(link) = self.links[edge] else {
            return false;
        };
        let world = &mut self.edges[edge];
        let now = world.now;
        let down = self.fleet.output(link).to_vec();
        self.fleet.handle_written(link, down.len());
        world.edge.handle_link_bytes(now, &down);
        let up = world.edge.link_output().concat();
        world.edge.handle_link_written(now, up.len());
        self.tell(edge, link, &up, errors);
        !down.is_empty() || !up.is_empty()
    }

    fn tell(&mut self, edge: usize, link: LinkId, up: &[u8], errors: &mut Vec<BackendError>) {
        let now = self.edges[edge].now;
        let mut input = up;
        loop {
            let heard = match self.fleet.handle_bytes(link, now, &mut input) {
                Ok(Some(event)) => heard_of(&event),
                Ok(None) => break,
                Err(error) => {
                    errors.push(error);
                    self.fleet.handle_closed(link);
                    self.links[edge] = None;
                    break;
                }
            };
            let is_packet = matches!(heard, Heard::Packet(..));
            self.heard.push(heard);
            while let Some((_, event)) = self.fleet.poll_event() {
                self.heard.push(heard_of(&event));
            }
            let mark = self.fleet.mark(link);
            match self.is_busy && is_packet {
                true => self.lent.push(mark),
                false => self.fleet.taken_up(now, mark),
            }
        }
        while let Some((_, event)) = self.fleet.poll_event() {
            self.heard.push(heard_of(&event));
        }
    }

    /// The application comes back from all but the last `but` packets that it has.
    pub(super) fn come_back(&mut self, but: usize) {
        let now = self.edges[0].now;
        let count = self.lent.len() - but;
        for mark in self.lent.drain(..count) {
            self.fleet.taken_up(now, mark);
        }
    }

    pub(super) fn take(&mut self) -> Vec<Heard> {
        let heard = core::mem::take(&mut self.heard);
        heard
            .into_iter()
            .filter(|heard| *heard != Heard::Other)
            .collect()
    }
}

pub(super) fn heard_of(event: &Event<'_>) -> Heard {
    match event {
        Event::Joined(joined) => Heard::Joined(joined.id),
        Event::Packet { id, data, .. } => Heard::Packet(*id, data.to_vec()),
        Event::Ended { id, end } => Heard::Ended(*id, end.code.to_u16()),
        _ => Heard::Other,
    }
}

#[test]
fn sessions_of_several_edges_are_in_one_book_and_a_send_finds_its_link() {
    for secret in [None, Some(1)] {
        let mut several = Several::granted(secret);
        let ones: Vec<_> = several.edges.iter_mut().map(World::join).collect();
        for (home, one) in (1..).zip(&ones) {
            assert_eq!(one.id.home(), home);
        }
        assert!(several.exchange().is_empty());
        several.take();
        let mut ids: Vec<_> = ones.iter().map(|one| one.id).collect();
        ids.sort_unstable();
        assert_eq!(several.fleet.sessions(), ids);
        several.fleet.add(GROUP, ones[0].id).unwrap();
        several.fleet.add(GROUP, ones[2].id).unwrap();
        several.fleet.send(ones[1].id, b"for one").unwrap();
        several
            .fleet
            .send_to_many(Some(GROUP), &[], None, b"for two")
            .unwrap();
        several
            .fleet
            .send_to_many(None, &[ones[0].id], None, b"for others")
            .unwrap();
        assert!(several.exchange().is_empty());
        let numbered = |id| several.fleet.ledgers(id).unwrap().down.numbered;
        assert_eq!(
            ones.iter().map(|one| numbered(one.id)).collect::<Vec<_>>(),
            [1, 2, 2]
        );
        for (edge, count) in [(0, 1), (1, 2), (2, 2)] {
            let entry = several.edges[edge]
                .edge
                .sessions
                .lookup(ones[edge].id)
                .unwrap();
            let entry = several.edges[edge].edge.sessions.live(entry);
            assert_eq!(entry.numbered_down(), count, "edge {edge}");
        }
    }
}

/// SPEC 40.3: each link goes on behind its own counts, though the backend did not know whose it is.
#[test]
fn each_link_goes_on_behind_its_own_counts() {
    for (secret, is_seen) in [
        (None, true),
        (None, false),
        (Some(1), true),
        (Some(1), false),
    ] {
        let mut several = Several::granted(secret);
        let ones: Vec<_> = several.edges.iter_mut().map(World::join).collect();
        several.exchange();
        several.take();
        for edge in [1, 2, 1] {
            several.edges[edge].send(ones[edge].conn, b"before");
            several.exchange();
            several.edges[edge].send(ones[edge].conn, b"meanwhile");
            several.fleet.send(ones[edge].id, b"down").unwrap();
            several.dial(edge, is_seen);
            assert!(several.exchange().is_empty(), "{secret:?} {is_seen}");
            let id = ones[edge].id;
            let packets = [&b"before"[..], b"meanwhile"].map(|data| Heard::Packet(id, data.into()));
            assert_eq!(several.take(), packets);
        }
        assert_eq!(several.fleet.sessions().len(), 3);
        assert_eq!(several.fleet.ledgers(ones[1].id).unwrap().down.numbered, 2);
        assert_eq!(several.fleet.fenced_frames(), 0);
    }
}

/// SPEC 40.4: an edge that wakes after another one took its home does no harm, and learns it.
#[test]
fn an_edge_that_was_displaced_is_not_heard_and_says_so() {
    for secret in [None, Some(1)] {
        let mut several = Several::granted(secret);
        let ones: Vec<_> = several.edges.iter_mut().map(World::join).collect();
        several.exchange();
        several.take();
        // It pauses, and another one takes its home.
        let later = edge_at(2, 11, 22, secret);
        let mut paused = core::mem::replace(&mut several.edges[1], later);
        let old = several.links[1].unwrap();
        several.connect(1);
        assert!(several.exchange().is_empty());
        assert!(several.take().is_empty(), "it may come to another edge");
        let fresh = several.edges[1].join();
        several.exchange();
        assert_eq!(several.take(), [Heard::Joined(fresh.id)]);
        // What it has sent, and sends when it wakes, is dropped and counted.
        assert!(several.fleet.is_fenced(old) && several.fleet.wants_close(old));
        paused.send(ones[1].conn, b"too late");
        let up = paused.edge.link_output().concat();
        let mut errors = Vec::new();
        several.tell(1, old, &up, &mut errors);
        assert!(errors.is_empty() && several.take().is_empty());
        assert_eq!(several.fleet.fenced_frames(), 1);
        several.fleet.handle_closed(old);
        // It dials again, learns it from ASK, and grants nothing.
        several.edges.push(paused);
        several.links.push(None);
        several.dial(3, true);
        let errors = several.exchange();
        assert_eq!(errors, [BackendError::Refused(GrantError::HomeTaken)]);
        let gauges = several.edges[3].edge.gauges();
        assert!(gauges.link_is_displaced && !gauges.link_is_unproven && !gauges.link_is_up);
        assert!(several.take().is_empty());
        // The others go on.
        several.edges[1].send(fresh.conn, b"here");
        several.edges[0].send(ones[0].conn, b"there");
        several.exchange();
        assert_eq!(several.take().len(), 2);
    }
}

/// The backend compares by itself, whatever an edge makes of the list: it may have asked before the other came.
#[test]
fn an_edge_that_was_asked_before_another_took_its_home_is_refused() {
    let mut several = Several::granted(None);
    for edge in [edge_at(2, 12, 22, None), edge_at(2, 11, 23, None)] {
        several.edges.push(edge);
        several.links.push(None);
    }
    several.connect(4);
    several.connect(3);
    let mut errors = Vec::new();
    while several.exchange_with(3, &mut errors) {}
    assert_eq!(
        several
            .fleet
            .edge_of(several.links[3].unwrap())
            .unwrap()
            .term,
        12
    );
    assert!(errors.is_empty());
    several.edges[4].join();
    while several.exchange_with(4, &mut errors) {}
    let [BackendError::Refused(GrantError::HomeOfAnother { known, new })] = errors[..] else {
        panic!("{errors:?}");
    };
    assert_eq!((known.term, new.term), (12, 11));
    assert!(several.fleet.fenced_frames() > 0, "JOINED behind GRANT");
    assert!(several.take().is_empty());
}
