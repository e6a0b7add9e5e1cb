//! What every engine must do. (SPEC 43.2)

use std::time::Duration;

use crate::bans::MAX_PAGES;
use crate::engine::{
    Answer, CALL_TIMEOUT, Call, CallId, Engine, EngineError, MAX_CALLS, MAX_VALUE_BYTES, Reply,
    Request,
};
use crate::lease::{Event, Lease, LeaseConfig, Moment, Standing};
use crate::record::MAX_HOME;

/// The time of a test, virtual or real.
pub trait Clock {
    /// Returns the time since the start.
    fn now(&self) -> Duration;

    /// Waits until the engine may have an answer, or until this time.
    fn rest(&self, engine: &dyn Engine, until: Duration);
}

/// Makes engines over one store, which has no records at the beginning.
pub trait Bench {
    /// Returns another engine over the store.
    fn engine(&self) -> Box<dyn Engine>;

    /// Returns the time of the test.
    fn clock(&self) -> &dyn Clock;
}

/// A user of an engine that waits for each answer.
struct Caller<'a> {
    engine: Box<dyn Engine>,
    clock: &'a dyn Clock,
    calls: u64,
}

impl<'a> Caller<'a> {
    fn new(bench: &'a dyn Bench) -> Caller<'a> {
        Caller {
            engine: bench.engine(),
            clock: bench.clock(),
            calls: 0,
        }
    }

    fn begin(&mut self, call: Call) -> CallId {
        self.calls += 1;
        let id = CallId::new(self.calls);
        let now = self.clock.now();
        self.engine.call(now, Request { id, call });
        id
    }

    /// Returns the next answer.
    fn next(&mut self) -> (CallId, Answer) {
        let until = self.clock.now() + 5 * CALL_TIMEOUT;
        loop {
            let now = self.clock.now();
            if let Some(answer) = self.engine.poll(now) {
                return answer;
            }
            assert!(now < until, "no answer");
            let due = self.engine.poll_timeout().unwrap_or(until);
            self.clock.rest(&*self.engine, due.min(until));
        }
    }

    fn ask(&mut self, call: Call) -> Answer {
        let id = self.begin(call);
        let (answered, answer) = self.next();
        assert_eq!(answered, id);
        answer
    }

    fn read(&mut self, home: u16) -> Option<(u64, Vec<u8>)> {
        match self.ask(Call::Read { home }) {
            Ok(Reply::Read(entry)) => entry.map(|entry| {
                assert_eq!(entry.home, home);
                (entry.revision, entry.value)
            }),
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, home: u16, expected: u64, value: &[u8]) -> Result<u64, EngineError> {
        let call = Call::Write {
            home,
            expected,
            value: value.to_vec(),
        };
        match self.ask(call)? {
            Reply::Written(revision) => Ok(revision),
            other => panic!("{other:?}"),
        }
    }
}

/// Checks everything that an engine must do.
///
/// # Panics
/// When it does not.
pub fn conforms(bench: &dyn Bench) {
    a_record_is_written_at_its_revision_alone(bench);
    one_of_many_writers_wins(bench);
    values_have_a_bound(bench);
    all_homes_are_listed(bench);
    several_calls_wait_for_their_answers(bench);
    a_home_goes_from_one_edge_to_the_next(bench);
    pages_of_bans_are_apart_from_homes(bench);
}

fn a_record_is_written_at_its_revision_alone(bench: &dyn Bench) {
    let mut one = Caller::new(bench);
    let mut other = Caller::new(bench);
    assert_eq!(one.read(1), None);
    assert_eq!(one.write(1, 9, b"x"), Err(EngineError::Refused));
    let first = one.write(1, 0, b"first").expect("written");
    assert!(first > 0);
    assert_eq!(other.read(1), Some((first, b"first".to_vec())));
    assert_eq!(other.write(1, 0, b"again"), Err(EngineError::Refused));
    let second = other.write(1, first, b"second").expect("written");
    assert!(second > first);
    assert_eq!(one.write(1, first, b"late"), Err(EngineError::Refused));
    assert_eq!(one.read(1), Some((second, b"second".to_vec())));
    // What was deleted has a revision.
    let deleted = one.write(1, second, b"").expect("written");
    assert_eq!(other.read(1), Some((deleted, Vec::new())));
    assert_eq!(other.write(1, 0, b"x"), Err(EngineError::Refused));
    other.write(1, deleted, b"third").expect("written");
}

fn one_of_many_writers_wins(bench: &dyn Bench) {
    let mut callers: Vec<_> = (0..8).map(|_| Caller::new(bench)).collect();
    // Each has its connection before they race.
    for caller in &mut callers {
        assert_eq!(caller.read(2), None);
    }
    for (number, caller) in (0_u8..).zip(&mut callers) {
        caller.begin(Call::Write {
            home: 2,
            expected: 0,
            value: vec![b'a' + number],
        });
    }
    let answers: Vec<_> = callers.iter_mut().map(|caller| caller.next().1).collect();
    let won: Vec<_> = answers
        .iter()
        .enumerate()
        .filter(|(_, answer)| answer.is_ok())
        .collect();
    let refused = |answer: &&Answer| **answer == Err(EngineError::Refused);
    assert_eq!(answers.iter().filter(refused).count(), 7, "{answers:?}");
    let (winner, Ok(Reply::Written(revision))) = won[0] else {
        panic!("{answers:?}")
    };
    let value = vec![b'a' + u8::try_from(winner).expect("of eight")];
    assert_eq!(callers[0].read(2), Some((*revision, value)));
}

fn values_have_a_bound(bench: &dyn Bench) {
    let mut caller = Caller::new(bench);
    let mut largest = vec![b'v'; MAX_VALUE_BYTES];
    let revision = caller.write(3, 0, &largest).expect("at the bound");
    assert_eq!(caller.read(3), Some((revision, largest.clone())));
    largest.push(b'v');
    let beyond = EngineError::TooLarge(MAX_VALUE_BYTES + 1);
    assert_eq!(caller.write(3, revision, &largest), Err(beyond));
    assert_eq!(caller.read(3).map(|(revision, _)| revision), Some(revision));
    // Any bytes come back as they were.
    let bytes: Vec<u8> = (0..=255).collect();
    let revision = caller.write(3, revision, &bytes).expect("written");
    assert_eq!(caller.read(3), Some((revision, bytes)));
}

fn all_homes_are_listed(bench: &dyn Bench) {
    let mut caller = Caller::new(bench);
    caller.write(4_095, 0, b"last").expect("written");
    caller.write(100, 0, b"middle").expect("written");
    let Ok(Reply::List(entries)) = caller.ask(Call::List) else {
        panic!("no list");
    };
    let homes: Vec<_> = entries.iter().map(|entry| entry.home).collect();
    assert_eq!(homes, [1, 2, 3, 100, 4_095]);
    for entry in entries {
        assert_eq!(caller.read(entry.home), Some((entry.revision, entry.value)));
    }
}

fn pages_of_bans_are_apart_from_homes(bench: &dyn Bench) {
    let mut one = Caller::new(bench);
    let mut other = Caller::new(bench);
    for page in [MAX_HOME + 1, MAX_HOME + MAX_PAGES] {
        assert_eq!(one.read(page), None);
        let first = one.write(page, 0, b"page").expect("written");
        assert_eq!(other.read(page), Some((first, b"page".to_vec())));
        assert_eq!(other.write(page, 0, b"again"), Err(EngineError::Refused));
        let second = other.write(page, first, b"more").expect("written");
        assert!(second > first);
        let largest = vec![b'v'; MAX_VALUE_BYTES];
        one.write(page, second, &largest).expect("at the bound");
    }
    let Ok(Reply::List(entries)) = one.ask(Call::List) else {
        panic!("no list");
    };
    assert!(entries.iter().all(|entry| entry.home <= MAX_HOME));
}

fn several_calls_wait_for_their_answers(bench: &dyn Bench) {
    let mut caller = Caller::new(bench);
    let mut waits: Vec<_> = (0..MAX_CALLS)
        .map(|_| caller.begin(Call::Read { home: 100 }))
        .collect();
    while !waits.is_empty() {
        let (id, answer) = caller.next();
        assert!(matches!(answer, Ok(Reply::Read(Some(_)))), "{answer:?}");
        waits.retain(|waiting| *waiting != id);
    }
}

/// An edge's part: a lease over an engine.
struct Edge {
    lease: Lease,
    engine: Box<dyn Engine>,
}

impl Edge {
    fn new(bench: &dyn Bench, nonce: u64) -> Edge {
        let config = LeaseConfig {
            cluster: "game".parse().expect("a name"),
            home: 7,
            lease: Duration::from_secs(1),
            nonce,
            label: format!("edge-{nonce}"),
            backend: "127.0.0.1:42001".into(),
            seed: nonce,
        };
        Edge {
            lease: Lease::new(moment(bench.clock().now()), config),
            engine: bench.engine(),
        }
    }

    /// Goes on until this is so.
    fn until(&mut self, clock: &dyn Clock, is_so: impl Fn(&Lease) -> bool) -> Vec<Event> {
        let end = clock.now() + Duration::from_secs(10);
        let mut events = Vec::new();
        loop {
            let now = clock.now();
            while let Some((id, answer)) = self.engine.poll(now) {
                self.lease.handle_answer(moment(now), id, answer);
            }
            if let Some(request) = self.lease.poll_call(moment(now)) {
                self.engine.call(now, request);
                continue;
            }
            events.extend(std::iter::from_fn(|| self.lease.poll_event()));
            if is_so(&self.lease) {
                return events;
            }
            assert!(now < end, "it is {:?}: {events:?}", self.lease.standing());
            let due = [self.lease.poll_timeout(), self.engine.poll_timeout()];
            let due = due.into_iter().flatten().min().unwrap_or(end);
            clock.rest(&*self.engine, due.min(end));
        }
    }
}

fn moment(at: Duration) -> Moment {
    Moment {
        at,
        unix: 1_790_000_000,
    }
}

fn a_home_goes_from_one_edge_to_the_next(bench: &dyn Bench) {
    let clock = bench.clock();
    let is_held = |lease: &Lease| lease.standing() == Standing::Held;
    let mut first = Edge::new(bench, 1);
    let mut second = Edge::new(bench, 2);
    let term = 1_790_000_000;
    let taken = |more| Event::Taken { term: term + more };
    assert_eq!(first.until(clock, is_held), [taken(0)]);
    // Given back in order, the home is free at once.
    first.lease.give_back(moment(clock.now()));
    let is_over = |lease: &Lease| lease.standing() == Standing::GivenBack;
    assert_eq!(first.until(clock, is_over), [Event::GivenBack]);
    assert_eq!(second.until(clock, is_held), [taken(1)]);
    // The second one stops without a word, and the third waits for as long as its lease.
    let mut third = Edge::new(bench, 3);
    let began = clock.now();
    let events = third.until(clock, is_held);
    assert!(clock.now() - began >= Duration::from_secs(1));
    assert!(matches!(&events[0], Event::Waits { term: of, .. } if *of == term + 1));
    assert_eq!(events[1..], [taken(2)]);
    // The second one wakes, and learns that it has lost the home.
    let events = second.until(clock, |lease| lease.standing() == Standing::Lost);
    assert_eq!(events[0], Event::RanOut);
    let lost = |event: &Event| matches!(event, Event::Lost { term: of, .. } if *of == term + 2);
    assert!(events[1..].iter().any(lost), "{events:?}");
    third.lease.give_back(moment(clock.now()));
    third.until(clock, is_over);
}
