//! A client comes back at any of several edges, and nothing is lost (SPEC 44), between the machines of all three ends.

use super::several::{Heard, Several, edge_at};
use super::*;
use crate::client::{Client, ClientConfig, Event, State, Versions};

/// A client that knows all edges.
struct Roamer {
    client: Client,
    at: Option<(usize, ConnKey)>,
    /// The numbers and packets that came.
    got: Vec<(u64, Vec<u8>)>,
    ended: Option<u16>,
    rng: ChaCha20Rng,
}

impl Roamer {
    fn new(seed: u8) -> Roamer {
        let config = ClientConfig::default()
            .with_versions(Versions::V3)
            .with_tickets(true);
        Roamer {
            client: Client::new(config, [seed; 32]),
            at: None,
            got: Vec::new(),
            ended: None,
            rng: ChaCha20Rng::from_seed([seed; 32]),
        }
    }

    fn id(&self) -> ClientId {
        self.client.id().expect("it has joined")
    }

    fn lose(&mut self, several: &mut Several) {
        if let Some((edge, _)) = self.at.take() {
            let now = several.edges[edge].now;
            self.client.handle_closed(now, crate::client::Closed::Error);
        }
    }

    /// Connects to this edge, whatever it was at.
    fn come(&mut self, several: &mut Several, edge: usize) {
        self.lose(several);
        let now = later(several);
        self.client.handle_timeout(now);
        assert!(self.client.wants_connect(now), "{:?}", self.client.state());
        let conn = several.edges[edge].accept();
        let mut random = [0; 32];
        self.rng.fill_bytes(&mut random);
        self.client.handle_connected(now, random);
        self.at = Some((edge, conn));
        self.exchange(several);
    }

    /// Does so at once, as nobody waits for longer than an acknowledgement of the link takes.
    fn hop(&mut self, several: &mut Several, edge: usize) {
        self.lose(several);
        let now = several.edges[edge].now;
        let conn = several.edges[edge].accept();
        let mut random = [0; 32];
        self.rng.fill_bytes(&mut random);
        self.client.handle_connected(now, random);
        self.at = Some((edge, conn));
        self.exchange(several);
    }

    fn is_there(&self) -> bool {
        self.client.state() == State::Established
    }

    /// Begins to come to this edge, whose link takes nothing meanwhile.
    fn ask(&mut self, several: &mut Several, edge: usize) {
        self.lose(several);
        let now = later(several);
        self.client.handle_timeout(now);
        let conn = several.edges[edge].accept();
        let mut random = [0; 32];
        self.rng.fill_bytes(&mut random);
        self.client.handle_connected(now, random);
        self.at = Some((edge, conn));
        for _ in 0..8 {
            let world = &mut several.edges[edge];
            let up = self.client.output().to_vec();
            world.write(conn, &up);
            self.client.handle_written(now, up.len());
            world.give_entropy(conn);
            let down = world.hear_bytes(conn);
            self.read(now, &down);
        }
    }

    /// Moves everything between all three ends.
    fn exchange(&mut self, several: &mut Several) {
        for _ in 0..1_000 {
            let errors = several.exchange();
            assert!(errors.is_empty(), "{errors:?}");
            let Some((edge, conn)) = self.at else {
                return;
            };
            let world = &mut several.edges[edge];
            let now = world.now;
            let up = self.client.output().to_vec();
            world.write(conn, &up);
            self.client.handle_written(now, up.len());
            world.give_entropy(conn);
            let down = world.hear_bytes(conn);
            self.read(now, &down);
            if self.client.wants_close() {
                self.lose(several);
            }
            if up.is_empty() && down.is_empty() && self.at.is_some() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn read(&mut self, now: Time, bytes: &[u8]) {
        let mut input = bytes;
        let mut taken = 0;
        while let Some(event) = self.client.handle_bytes(now, &mut input) {
            match event {
                Event::Packet { data, number } => {
                    self.got.push((number, data.to_vec()));
                    taken = number;
                }
                Event::Ended(end) => self.ended = Some(end.code.to_u16()),
                _ => {}
            }
        }
        if taken > 0 {
            self.client.taken(now, taken);
        }
        while let Some(event) = self.client.poll_event() {
            if let Event::Ended(end) = event {
                self.ended = Some(end.code.to_u16());
            }
        }
    }

    /// Lets time pass, in which acknowledgements are sent.
    fn rest(&mut self, several: &mut Several) {
        for _ in 0..2 {
            let now = later(several);
            self.client.handle_timeout(now);
            self.exchange(several);
            several.exchange();
        }
    }
}

/// Lets time pass at all edges, and at the backend.
fn later(several: &mut Several) -> Time {
    let latest = several.edges.iter().map(|world| world.now).max();
    let now = latest.expect("there are edges") + Duration::from_millis(6_000);
    for world in &mut several.edges {
        world.wait(now.since(world.now));
    }
    several.fleet.handle_timeout(now);
    several.exchange();
    now
}

/// A backend of three edges, and a client at the first one that has a ticket.
fn joined() -> (Several, Roamer) {
    joined_at(Several::granted(None))
}

fn joined_at(mut several: Several) -> (Several, Roamer) {
    for (seed, world) in (50..).zip(&mut several.edges) {
        world.rng = ChaCha20Rng::from_seed([seed; 32]);
    }
    let mut one = Roamer::new(1);
    one.come(&mut several, 0);
    assert!(one.is_there());
    one.rest(&mut several);
    let heard = several.take();
    assert_eq!(heard, [Heard::Joined(one.id())]);
    (several, one)
}

/// The edge is gone: nothing of it is heard any more, and nobody takes its place.
fn kill(several: &mut Several, edge: usize) {
    if let Some(link) = several.links[edge].take() {
        several.fleet.handle_closed(link);
    }
}

fn up(client: &mut Client, numbers: core::ops::RangeInclusive<u64>) {
    for number in numbers {
        client.send(&number.to_le_bytes()).expect("room");
    }
}

fn down(several: &mut Several, id: ClientId, numbers: core::ops::RangeInclusive<u64>) {
    for number in numbers {
        let given = several.fleet.send(id, &number.to_le_bytes());
        assert_eq!(given, Ok(number));
    }
}

/// What the application has heard is the packets 1 to `last`, once each and in order, and so has the client.
fn all_came(several: &mut Several, one: &Roamer, heard: &mut Vec<u64>, last: u64) {
    let number = |data: &[u8]| u64::from_le_bytes(data.try_into().expect("a number"));
    heard.extend(several.take().into_iter().map(|heard| match heard {
        Heard::Packet(id, data) if id == one.id() => number(&data),
        other => panic!("{other:?}"),
    }));
    assert_eq!(*heard, (1..=last).collect::<Vec<_>>(), "up");
    let got: Vec<_> = one
        .got
        .iter()
        .map(|(at, data)| (*at, number(data)))
        .collect();
    assert_eq!(
        got,
        (1..=last).map(|at| (at, at)).collect::<Vec<_>>(),
        "down"
    );
}

#[test]
fn a_client_comes_back_at_another_edge_and_nothing_is_lost_or_comes_twice() {
    let (mut several, mut one) = joined();
    let (id, mut heard) = (one.id(), Vec::new());
    up(&mut one.client, 1..=3);
    down(&mut several, id, 1..=3);
    one.exchange(&mut several);
    // The edge dies before these have crossed.
    up(&mut one.client, 4..=6);
    down(&mut several, id, 4..=6);
    kill(&mut several, 0);
    down(&mut several, id, 7..=8);
    one.come(&mut several, 2);
    assert!(one.is_there(), "{:?}", one.ended);
    up(&mut one.client, 7..=8);
    one.exchange(&mut several);
    all_came(&mut several, &one, &mut heard, 8);
    assert_eq!(several.fleet.home_of(id), Some(3));
    // And so on, to an edge that has never had it, and back to one that has an old copy.
    one.rest(&mut several);
    for (edge, last) in [(1, 10), (2, 12), (1, 14)] {
        up(&mut one.client, last - 1..=last);
        down(&mut several, id, last - 1..=last);
        one.come(&mut several, edge);
        assert!(one.is_there(), "edge {edge}: {:?}", one.ended);
        one.exchange(&mut several);
        all_came(&mut several, &one, &mut heard, last);
        one.rest(&mut several);
        assert_eq!(one.client.acknowledged(), last, "at edge {edge}");
    }
}

#[test]
fn an_edge_that_begins_again_finds_the_sessions_of_the_run_before_at_the_backend() {
    let (mut several, mut one) = joined();
    let (id, mut heard) = (one.id(), Vec::new());
    up(&mut one.client, 1..=2);
    one.exchange(&mut several);
    down(&mut several, id, 1..=2);
    kill(&mut several, 0);
    several.edges[0] = edge_at(1, 11, 31, None);
    several.edges[0].rng = ChaCha20Rng::from_seed([61; 32]);
    several.connect(0);
    several.exchange();
    heard.extend([1, 2]);
    several.take();
    assert_eq!(several.fleet.sessions(), [id], "it may come back");
    one.come(&mut several, 0);
    assert!(one.is_there(), "{:?}", one.ended);
    one.exchange(&mut several);
    all_came(&mut several, &one, &mut heard, 2);
}

#[test]
fn a_session_whose_edge_is_gone_and_that_comes_to_no_other_expires() {
    let (mut several, one) = joined();
    kill(&mut several, 0);
    several.edges[0] = edge_at(1, 11, 31, None);
    several.connect(0);
    several.exchange();
    let bound = several.edges[1].now + crate::backend::fleet::LEFT_BEHIND;
    several
        .fleet
        .handle_timeout(bound + Duration::from_secs(3_600));
    several.exchange();
    assert_eq!(several.take(), [Heard::Ended(one.id(), 302)]);
}

#[test]
fn an_edge_that_slept_learns_that_it_has_the_session_no_longer_and_does_no_harm() {
    let (mut several, mut one) = joined();
    let (id, mut heard) = (one.id(), Vec::new());
    // The edge sleeps, and its link is given up.
    kill(&mut several, 0);
    up(&mut one.client, 1..=2);
    one.come(&mut several, 1);
    one.exchange(&mut several);
    down(&mut several, id, 1..=2);
    one.exchange(&mut several);
    all_came(&mut several, &one, &mut heard, 2);
    // It wakes, dials again, and drops its copy.
    several.dial(0, false);
    let errors = several.exchange();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(several.edges[0].edge.sessions.lookup(id).is_none());
    up(&mut one.client, 3..=4);
    down(&mut several, id, 3..=4);
    one.exchange(&mut several);
    all_came(&mut several, &one, &mut heard, 4);
    assert_eq!(several.fleet.sessions(), [id]);
}

/// SPEC 44.6(b): the words for an attempt before it open nothing and end nothing, and it takes no packet before its own.
#[test]
fn an_attempt_that_the_backend_was_asked_of_hears_its_own_answer_alone() {
    let (mut several, mut one) = joined();
    let id = one.id();
    kill(&mut several, 0);
    down(&mut several, id, 1..=1);
    one.ask(&mut several, 1);
    let world = &mut several.edges[1];
    let now = world.now;
    // The first attempt has the counter 1.
    let adopted = |counter| crate::link::v3::Adopted {
        counter,
        next_up: 1,
        numbered_down: 0,
        until: 0,
    };
    let disowned = |asked, known| crate::link::v3::Disowned {
        asked,
        known,
        code: crate::code::Code::TAKEN_OVER,
    };
    for counter in [0, 2] {
        world.edge.hear_adopted(now, id, &adopted(counter));
        assert!(world.edge.sessions.lookup(id).is_none(), "{counter}");
    }
    world.edge.hear_disowned(now, id, disowned(0, 0));
    world.edge.hear_disowned(now, id, disowned(2, 0));
    one.exchange(&mut several);
    assert!(one.is_there(), "{:?}", one.ended);
    let first = (1, 1_u64.to_le_bytes().to_vec());
    assert_eq!(one.got, [first], "what waited comes once");
}

/// SPEC 44.6(d).
#[test]
fn an_acknowledgement_of_an_old_copy_is_none_of_the_present_one() {
    let (mut several, mut one) = joined();
    up(&mut one.client, 1..=2);
    one.exchange(&mut several);
    // The application has them, and its link has not said so when their client is at another edge, and here again.
    one.hop(&mut several, 1);
    one.hop(&mut several, 0);
    assert!(one.is_there(), "{:?}", one.ended);
    several.is_busy = true;
    up(&mut one.client, 3..=4);
    one.exchange(&mut several);
    one.rest(&mut several);
    assert_eq!(one.client.acknowledged(), 2);
    several.come_back(0);
    one.rest(&mut several);
    assert_eq!(one.client.acknowledged(), 4);
}

/// SPEC 44.5(d): an edge that gets a session acknowledges what the backend has of it, so the application has to come back from that first.
#[test]
fn a_session_goes_on_elsewhere_when_the_application_came_back_from_its_packets() {
    let (mut several, mut one) = joined();
    let mut heard = Vec::new();
    several.is_busy = true;
    up(&mut one.client, 1..=2);
    one.exchange(&mut several);
    kill(&mut several, 0);
    one.come(&mut several, 1);
    assert!(!one.is_there(), "it has come back from none");
    several.come_back(1);
    one.come(&mut several, 2);
    assert!(!one.is_there(), "it has come back from the first one");
    assert_eq!((one.ended, one.client.acknowledged()), (None, 0));
    several.come_back(0);
    one.come(&mut several, 1);
    assert!(one.is_there(), "{:?}", one.ended);
    assert_eq!(one.client.acknowledged(), 2);
    down(&mut several, one.id(), 1..=2);
    one.exchange(&mut several);
    all_came(&mut several, &one, &mut heard, 2);
}

/// SPEC 44.6(f): its old edge has a copy, and counts again, so nothing that waited for it tells it that it has the session no longer.
#[test]
fn a_session_that_has_ended_elsewhere_does_not_come_back_with_an_old_copy() {
    let mut several = Several::granted(None);
    kill(&mut several, 0);
    several.edges[0] = edge_at(1, 11, 31, None);
    several.connect(0);
    let lost = several.fleet.handle_connected(several.edges[0].now);
    several.exchange();
    // Nobody knows what the edge has said on this one (SPEC 40.3(e)).
    several.fleet.handle_closed(lost);
    let (mut several, mut one) = joined_at(several);
    let id = one.id();
    kill(&mut several, 0);
    one.come(&mut several, 1);
    assert!(one.is_there(), "{:?}", one.ended);
    several.fleet.kick(id, 401, "out").expect("allowed");
    one.exchange(&mut several);
    assert_eq!(several.take(), [Heard::Ended(id, 401)]);
    several.dial(0, false);
    let errors = several.exchange();
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(several.take(), []);
    assert!(several.fleet.sessions().is_empty());
    assert!(several.edges[0].edge.sessions.lookup(id).is_none());
}

/// SPEC 44.5(h).
#[test]
fn an_attempt_that_the_backend_was_asked_of_keeps_its_places() {
    let (mut several, mut one) = joined();
    let id = one.id();
    kill(&mut several, 0);
    several.edges[1].reconfigure(|config| {
        (config.limits.max_sessions, config.limits.max_connections) = (1, 1);
    });
    // Why no newcomer may begin, and whether a session that is away finds a place.
    let places = |several: &Several| {
        let edge = &several.edges[1].edge;
        (edge.refuses_newcomer(), edge.has_place_for_return())
    };
    let full = Some(CloseReason::TooManySessions);
    assert_eq!(places(&several), (None, true));
    one.ask(&mut several, 1);
    assert_eq!(places(&several), (full, false));
    let (_, conn) = one.at.expect("it is there");
    several.edges[1].leave(conn);
    assert_eq!(places(&several), (full, true), "the attempt stands");
    let now = several.edges[1].now;
    let refused = crate::link::v3::Disowned {
        asked: 1,
        known: 0,
        code: crate::code::Code::GONE,
    };
    several.edges[1].edge.hear_disowned(now, id, refused);
    assert_eq!(places(&several), (None, true));
    // Whoever is adopted takes what was kept.
    one.ask(&mut several, 1);
    one.exchange(&mut several);
    assert!(one.is_there(), "{:?}", one.ended);
    assert_eq!(places(&several), (full, false));
}
