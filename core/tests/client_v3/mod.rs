//! The client machine in version 3, against an edge made of the edge's half. (SPEC sections 22 to 26)

mod bad;
mod drops;
mod edge;
mod ends;
mod refusals;
mod time;
mod worlds;

use std::time::Duration;

use voltlane_core::client::{
    Client, ClientConfig, Closed, DropCause, End, Event, Gap, State, Versions,
};
use voltlane_core::{ClientId, Time};

use self::edge::Edge;

/// An [`Event`] that owns its packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Connected(ClientId),
    Packet(Vec<u8>, u64),
    Dropped(DropCause, Duration),
    Resumed(u64, Duration),
    CaughtUp,
    Gap(Gap),
    Skipped(u64),
    Ended(End),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Connected { id } => Seen::Connected(id),
            Event::Packet { data, number } => Seen::Packet(data.to_vec(), number),
            Event::Dropped { cause, retry_in } => Seen::Dropped(cause, retry_in),
            Event::Resumed { missed, away, .. } => Seen::Resumed(missed, away),
            Event::CaughtUp => Seen::CaughtUp,
            Event::Gap(gap) => Seen::Gap(gap),
            Event::Skipped { count } => Seen::Skipped(count),
            Event::Ended(end) => Seen::Ended(end),
            Event::Refused(refusal) => panic!("{refusal} in version 3"),
        }
    }
}

/// A client, an edge, and what is between them.
pub(crate) struct Link {
    pub(crate) client: Client,
    pub(crate) edge: Edge,
    pub(crate) now: Time,
    pub(crate) seen: Vec<Seen>,
    /// Whether the application takes packets at once.
    pub(crate) takes: bool,
    is_up: bool,
    randoms: u8,
}

pub(crate) fn config() -> ClientConfig {
    ClientConfig::default().with_versions(Versions::V3)
}

impl Link {
    pub(crate) fn new() -> Self {
        Self::with(config())
    }

    pub(crate) fn with(config: ClientConfig) -> Self {
        Link {
            client: Client::new(config, [1; 32]),
            edge: Edge::new(),
            now: Time::from_millis(1),
            seen: Vec::new(),
            takes: true,
            is_up: false,
            randoms: 100,
        }
    }

    /// A client that has joined.
    pub(crate) fn joined() -> Self {
        let mut link = Self::new();
        link.connect();
        link.run();
        link.assert_state(State::Established);
        assert!(matches!(link.seen().as_slice(), [Seen::Connected(_)]));
        link
    }

    #[track_caller]
    pub(crate) fn assert_state(&self, state: State) {
        assert_eq!(self.client.state(), state, "{:?}", self.seen);
    }

    /// Returns what was seen since the last call.
    pub(crate) fn seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// Lets the client's pause end, and opens its transport.
    pub(crate) fn connect(&mut self) {
        while !self.client.wants_connect(self.now) {
            let at = self.client.poll_timeout().expect("it pauses");
            self.now = self.now.max(at);
            self.client.handle_timeout(self.now);
        }
        self.randoms += 1;
        self.client.handle_connected(self.now, [self.randoms; 32]);
        self.edge.accept();
        self.is_up = true;
    }

    /// Ends the transport.
    pub(crate) fn lose(&mut self, closed: Closed) {
        self.is_up = false;
        self.edge.lose();
        self.client.handle_closed(self.now, closed);
        self.poll();
    }

    pub(crate) fn poll(&mut self) {
        if self.client.wants_close() {
            self.is_up = false;
            self.edge.lose();
            self.client.handle_closed(self.now, Closed::Error);
        }
        while let Some(event) = self.client.poll_event() {
            self.seen.push(event.into());
        }
    }

    /// Moves bytes up. Returns whether there were any.
    pub(crate) fn up(&mut self, most: usize) -> usize {
        let output = self.client.output();
        let bytes = output[..output.len().min(most)].to_vec();
        self.client.handle_written(self.now, bytes.len());
        self.edge.feed(&bytes);
        bytes.len()
    }

    /// Gives the client bytes of the edge.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while let Some(event) = self.client.handle_bytes(self.now, &mut input) {
            let seen = Seen::from(event);
            if let (Seen::Packet(_, number), true) = (&seen, self.takes) {
                self.client.taken(self.now, *number);
            }
            self.seen.push(seen);
        }
        assert!(input.is_empty(), "None means that nothing is left");
    }

    pub(crate) fn down(&mut self) -> usize {
        let bytes = self.edge.output();
        self.feed(&bytes);
        bytes.len()
    }

    /// Moves bytes until there are none.
    pub(crate) fn run(&mut self) {
        while self.is_up && self.up(usize::MAX) + self.down() > 0 {
            self.poll();
        }
        self.poll();
    }

    /// Comes back on a new connection.
    pub(crate) fn come_back(&mut self) {
        self.connect();
        self.run();
    }

    /// Lets time pass up to the client's next deadline.
    pub(crate) fn wait(&mut self) {
        let at = self.client.poll_timeout().expect("it waits for something");
        self.now = self.now.max(at);
        self.client.handle_timeout(self.now);
        assert!(self.client.poll_timeout().is_none_or(|at| at > self.now));
        self.poll();
    }

    /// Returns the packets that were seen since the last call.
    pub(crate) fn packets(&mut self) -> Vec<Vec<u8>> {
        let packet = |seen| match seen {
            Seen::Packet(data, _) => Some(data),
            _ => None,
        };
        self.seen().into_iter().filter_map(packet).collect()
    }
}

#[test]
fn a_client_joins_in_one_round_trip_and_both_sides_talk() {
    let mut link = Link::new();
    assert_eq!(link.client.send(b"first"), Ok(1));
    link.connect();
    link.assert_state(State::AwaitWelcome);
    assert_eq!(link.client.id(), None);
    // Version and Hello leave together.
    assert_eq!(link.client.output()[..6], [2, 0, 0, 0, 1, 3]);
    assert!(link.client.output().len() > 6 + 4 + 42);
    link.up(usize::MAX);
    link.down();
    link.assert_state(State::Established);
    assert!(matches!(link.seen().as_slice(), [Seen::Connected(_)]));
    assert!(link.client.id().is_some());
    assert!(link.client.saved_session().is_none());
    assert_eq!(link.client.send(b""), Ok(2));
    link.up(usize::MAX);
    let session = link.edge.session.as_ref().expect("the record came");
    assert_eq!(session.received, [&b"first"[..], b""]);
    assert_eq!(link.client.acknowledged(), 0);
    link.edge.send(b"down");
    link.edge.send(b"");
    link.run();
    let seen = [
        Seen::Packet(b"down".to_vec(), 1),
        Seen::Packet(Vec::new(), 2),
    ];
    assert_eq!(link.seen(), seen);
    assert_eq!(link.client.acknowledged(), 2);
    assert_eq!(link.client.queued_packets(), 0);
}

#[test]
fn after_the_end_only_that_is_acknowledged_which_it_told() {
    let mut link = Link::joined();
    for packet in [&b"arrives"[..], b"arrives too"] {
        link.client.send(packet).expect("there is room");
    }
    link.run();
    assert_eq!(link.client.acknowledged(), 2);
    link.lose(Closed::Error);
    link.client.send(b"never leaves").expect("there is room");
    link.client.close(link.now);
    let until = link.client.poll_timeout().expect("it tries again");
    link.client.handle_timeout(until);
    // Nobody can be reached until the goodbye has no more time.
    while !link.client.state().is_over() {
        let at = link.client.poll_timeout().expect("there is a deadline");
        link.client.handle_timeout(at);
        if link.client.wants_connect(at) {
            link.client.handle_connect_failed(at);
        }
        if link.client.wants_close() {
            link.client.handle_closed(at, Closed::Error);
        }
    }
    let up = link.client.end().expect("it is over").ledgers.up;
    assert_eq!((up.numbered, up.acknowledged, up.open_unsent), (3, 2, 1));
    assert_eq!(link.client.acknowledged(), 2);
}

#[test]
fn what_the_application_took_is_acknowledged_and_nothing_else() {
    let mut link = Link::joined();
    link.takes = false;
    for _ in 0..3 {
        link.edge.send(b"down");
    }
    link.run();
    assert_eq!(link.seen().len(), 3);
    let acked = |link: &Link| link.edge.session.as_ref().expect("it lives").outbox.acked();
    link.client.send(b"carries an ACK").expect("there is room");
    link.run();
    assert_eq!(acked(&link), 0);
    link.client.taken(link.now, 2);
    link.client.send(b"carries an ACK").expect("there is room");
    link.run();
    assert_eq!(acked(&link), 2);
    // More than was received is not acknowledged.
    link.client.taken(link.now, 9);
    link.client.send(b"carries an ACK").expect("there is room");
    link.run();
    assert_eq!(acked(&link), 3);
}

#[test]
fn a_dropped_client_is_back_in_one_flight_with_its_packets() {
    let mut link = Link::joined();
    link.edge.send(b"one");
    link.run();
    link.seen();
    link.lose(Closed::Error);
    let dropped = link.seen();
    assert!(
        matches!(dropped.as_slice(), [Seen::Dropped(DropCause::Transport, pause)] if *pause <= Duration::from_millis(100))
    );
    assert_eq!(link.client.send(b"early"), Ok(1));
    link.edge.send(b"two");
    link.edge.send(b"three");
    link.connect();
    link.assert_state(State::AwaitAnswer);
    link.up(usize::MAX);
    // The first flight is all that the edge needs.
    let session = link.edge.session.as_ref().expect("it lives");
    assert_eq!(session.received, [b"early"]);
    assert_eq!(link.edge.early, 1);
    link.down();
    let seen = [
        Seen::Resumed(2, Duration::from_millis(1_234)),
        Seen::Packet(b"two".to_vec(), 2),
        Seen::Packet(b"three".to_vec(), 3),
        Seen::CaughtUp,
    ];
    assert_eq!(link.seen(), seen);
    link.assert_state(State::Established);
    link.client.send(b"later").expect("there is room");
    link.edge.send(b"four");
    link.run();
    let session = link.edge.session.as_ref().expect("it lives");
    assert_eq!(session.received, [&b"early"[..], b"later"]);
    assert_eq!(link.seen(), [Seen::Packet(b"four".to_vec(), 4)]);
}

#[test]
fn a_replay_of_nothing_is_told_too() {
    let mut link = Link::joined();
    for _ in 0..5 {
        link.lose(Closed::Eof);
        link.seen();
        link.come_back();
        let seen = [
            Seen::Resumed(0, Duration::from_millis(1_234)),
            Seen::CaughtUp,
        ];
        assert_eq!(link.seen(), seen);
    }
    let counters: Vec<_> = link.edge.claims.iter().map(|claim| claim.counter).collect();
    assert_eq!(counters, [1, 2, 3, 4, 5]);
}

#[test]
fn a_long_packet_goes_both_ways_and_a_cut_one_begins_again() {
    let mut link = Link::joined();
    let long: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    link.client.send(&long).expect("there is room");
    link.edge.send(&long);
    link.up(100_000);
    link.lose(Closed::Error);
    link.come_back();
    link.run();
    let session = link.edge.session.as_ref().expect("it lives");
    assert_eq!(session.received.as_slice(), std::slice::from_ref(&long));
    assert_eq!(link.packets(), [long]);
}

#[test]
fn a_ring_that_is_full_holds_packets_back_until_there_is_an_ack() {
    let mut link = Link::new();
    link.edge.settings = |settings| settings.ring_packets = 4;
    link.connect();
    link.up(usize::MAX);
    link.down();
    for n in 0..10_u8 {
        link.client.send(&[n]).expect("there is room");
    }
    link.up(usize::MAX);
    let received = |link: &Link| link.edge.session.as_ref().map(|s| s.received.len());
    assert_eq!(received(&link), Some(4));
    assert_eq!(link.up(usize::MAX), 0, "the ring is full");
    link.run();
    assert_eq!(received(&link), Some(10));
}

#[test]
fn padded_records_hide_lengths_and_lose_nothing() {
    let mut link = Link::with(config().with_padding(true));
    link.connect();
    link.run();
    let long = vec![1; 20_000];
    for packet in [&b""[..], b"short", &[0; 31], &[0; 300], &long] {
        link.client.send(packet).expect("room");
        let output = link.client.output();
        let items = output.len() - 20;
        assert!(items >= 32 && items.is_power_of_two(), "{items}");
        link.up(usize::MAX);
    }
    // All of them are acknowledged.
    link.run();
    // Early records as well.
    for (bytes, padded) in [(5, 32), (60, 64), (100, 128)] {
        link.lose(Closed::Error);
        link.client.send(&vec![2; bytes]).expect("room");
        link.connect();
        // The version, the Claim, and the record.
        let flight = link.client.output().len();
        assert_eq!(flight - (4 + 2) - (4 + 109) - (4 + 16), padded);
        link.run();
    }
    let session = link.edge.session.as_ref().expect("it lives");
    assert_eq!(session.received.len(), 8);
    assert_eq!(link.client.queued_packets(), 0);
}
