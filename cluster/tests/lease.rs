//! The lease of a home, step by step. (SPEC 43.4, 43.5)

use std::time::Duration;

use voltlane_cluster::engine::CALL_TIMEOUT;
use voltlane_cluster::lease::Trouble;
use voltlane_cluster::testkit::{Faults, SimEngine, SimStore};
use voltlane_cluster::{
    Answer, Call, CallId, ClusterName, Engine, EngineError, Event, Holder, Lease, LeaseConfig,
    Moment, Record, RecordError, Reply, Request, Standing,
};

const HOME: u16 = 3;
const LEASE: Duration = Duration::from_secs(9);
const UNIX: u64 = 1_790_000_000;
const FIRST_TERM: u32 = 1_790_000_000;

fn game() -> ClusterName {
    "game".parse().expect("a name")
}

fn record(term: u32, nonce: Option<u64>) -> Record {
    Record {
        term,
        lease: LEASE,
        written: UNIX,
        holder: nonce.map(|nonce| Holder {
            nonce,
            run: None,
            label: format!("edge-{nonce}"),
            backend: "b:1".into(),
            is_linked: false,
        }),
    }
}

/// An edge with a lease over a store, and its time.
struct Edge {
    lease: Lease,
    engine: SimEngine,
    store: SimStore,
    now: Duration,
    unix: u64,
}

impl Edge {
    fn at(store: &SimStore, nonce: u64, now: Duration) -> Edge {
        Edge::with_clock(store, nonce, now, UNIX)
    }

    fn with_clock(store: &SimStore, nonce: u64, now: Duration, unix: u64) -> Edge {
        let config = LeaseConfig {
            cluster: game(),
            home: HOME,
            lease: LEASE,
            nonce,
            label: format!("edge-{nonce}"),
            backend: "b:1".into(),
            seed: nonce,
        };
        Edge {
            lease: Lease::new(Moment { at: now, unix }, config),
            engine: store.engine(),
            store: store.clone(),
            now,
            unix,
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            at: self.now,
            unix: self.unix,
        }
    }

    /// Makes the calls that are due by now.
    fn step(&mut self) {
        loop {
            while let Some((id, answer)) = self.engine.poll(self.now) {
                let moment = self.moment();
                self.lease.handle_answer(moment, id, answer);
            }
            let moment = self.moment();
            match self.lease.poll_call(moment) {
                Some(request) => self.engine.call(self.now, request),
                None if self.engine.poll_timeout().is_none_or(|at| at > self.now) => return,
                None => {}
            }
        }
    }

    /// Goes on for a time, in which all that is due happens.
    fn go(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            self.step();
            let due = [self.lease.poll_timeout(), self.engine.poll_timeout()];
            match due.into_iter().flatten().min().filter(|at| *at <= end) {
                Some(at) => self.now = self.now.max(at),
                None => break,
            }
        }
        self.now = end;
        self.step();
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.lease.poll_event()).collect()
    }

    fn stored(&self) -> Record {
        let entry = self.store.entry(HOME).expect("a record");
        Record::decode(&entry.value, &game(), HOME).expect("ours")
    }
}

fn quiet() -> SimStore {
    SimStore::new(1, Faults::default())
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn a_free_home_is_taken_renewed_and_given_back() {
    let store = quiet();
    let mut edge = Edge::at(&store, 1, secs(5));
    assert_eq!(edge.lease.standing(), Standing::Waits);
    edge.step();
    assert_eq!(edge.events(), [Event::Taken { term: FIRST_TERM }]);
    assert_eq!(edge.lease.held_until(), Some(secs(5) + LEASE));
    assert_eq!(edge.stored(), record(FIRST_TERM, Some(1)));
    // It is renewed long before its end, and says what the edge has become.
    edge.lease.describe(Some(0xab), true);
    edge.go(secs(100));
    assert_eq!(edge.events(), []);
    let holder = edge.stored().holder.expect("held");
    assert_eq!((holder.run, holder.is_linked), (Some(0xab), true));
    assert!(edge.lease.held_until() > Some(secs(105)));
    let moment = edge.moment();
    edge.lease.give_back(moment);
    edge.step();
    assert_eq!(edge.events(), [Event::GivenBack]);
    assert_eq!(edge.stored(), record(FIRST_TERM, None));
    assert_eq!((edge.lease.term(), edge.lease.poll_timeout()), (None, None));
}

#[test]
fn the_next_edge_has_a_greater_term_whatever_its_clock_says() {
    let store = quiet();
    let mut last = 0;
    for (nonce, unix) in [
        (1, 500),
        (2, 500),
        (3, 0),
        (4, 900),
        (5, u64::from(u32::MAX)),
        (6, u64::MAX),
        (7, 1),
    ] {
        let mut edge = Edge::with_clock(&store, nonce, secs(1), unix);
        edge.step();
        let term = edge.lease.term().expect("taken");
        assert!(term > last, "{term} after {last}");
        assert!(term < 1_000, "a clock beyond all terms counts for nothing");
        last = term;
        let moment = edge.moment();
        edge.lease.give_back(moment);
        edge.step();
    }
    assert_eq!(last, 903);
}

#[test]
fn a_home_without_terms_is_no_home() {
    let store = quiet();
    store.put(HOME, &record(u32::MAX, None).encode(&game(), HOME));
    let mut edge = Edge::at(&store, 1, secs(1));
    edge.go(secs(20));
    assert_eq!(edge.events(), [Event::Troubled(Trouble::NoTerms(HOME))]);
}

#[test]
fn a_home_that_is_held_is_waited_for_until_its_record_has_stayed_as_it_is() {
    let store = quiet();
    let mut first = Edge::at(&store, 1, secs(0));
    first.step();
    assert_eq!(first.events(), [Event::Taken { term: FIRST_TERM }]);
    let mut second = Edge::at(&store, 2, secs(1));
    // The first one renews for a while, and dies.
    for _ in 0..20 {
        first.go(secs(1));
        second.go(secs(1));
    }
    let held_until = first.lease.held_until().expect("held");
    let events = second.events();
    let [
        Event::Waits {
            holder,
            term: FIRST_TERM,
            at_most: LEASE,
        },
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(holder.nonce, 1);
    second.go(held_until - second.now - Duration::from_nanos(1));
    assert_eq!(second.events(), []);
    second.go(secs(5));
    let term = FIRST_TERM + 1;
    assert_eq!(second.events(), [Event::Taken { term }]);
    // The first one wakes: its time is over, and then it learns of the other.
    first.now = second.now;
    first.go(secs(1));
    let events = first.events();
    let [Event::RanOut, Event::Lost { holder, term: of }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((holder.as_ref().map(|by| by.nonce), *of), (Some(2), term));
    assert_eq!(first.lease.standing(), Standing::Lost);
    assert_eq!(first.lease.poll_timeout(), None);
    second.go(secs(60));
    assert_eq!(second.events(), []);
}

#[test]
fn without_an_engine_the_home_stays_held_and_that_is_told_once() {
    let store = quiet();
    let mut edge = Edge::at(&store, 1, secs(0));
    edge.step();
    store.set_down(true);
    edge.go(secs(4));
    let error = EngineError::Unreachable("by plan".into());
    let expected = [
        Event::Taken { term: FIRST_TERM },
        Event::Troubled(Trouble::Engine(error)),
    ];
    assert_eq!(edge.events(), expected);
    assert_eq!(edge.lease.standing(), Standing::Troubled);
    edge.go(secs(60));
    assert_eq!(edge.events(), [Event::RanOut]);
    assert_eq!(edge.lease.standing(), Standing::RanOut);
    assert_eq!(edge.lease.term(), Some(FIRST_TERM));
    store.set_down(false);
    edge.go(secs(4));
    assert_eq!(edge.events(), [Event::Recovered]);
    assert_eq!(edge.lease.standing(), Standing::Held);
    assert_eq!(edge.stored(), record(FIRST_TERM, Some(1)));
}

#[test]
fn retries_are_spread_and_become_fewer() {
    let store = quiet();
    store.set_down(true);
    let mut edge = Edge::at(&store, 1, secs(0));
    let mut times = Vec::new();
    while edge.now < secs(60) {
        let moment = edge.moment();
        match edge.lease.poll_call(moment) {
            Some(request) => {
                times.push(edge.now);
                let error = EngineError::Unreachable(String::new());
                edge.lease.handle_answer(moment, request.id, Err(error));
            }
            None => edge.now = edge.lease.poll_timeout().expect("it goes on"),
        }
    }
    let pauses: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses[0] >= Duration::from_millis(50));
    for (number, pause) in pauses.iter().enumerate().skip(5) {
        let is_within = (LEASE / 6..=LEASE / 3).contains(pause);
        assert!(is_within, "pause {number} is {pause:?}");
    }
    let mut different = pauses[6..].to_vec();
    different.dedup();
    assert!(different.len() > 5);
}

/// A lease without an engine: the test is the engine.
struct Direct(Lease, Duration);

impl Direct {
    fn new() -> Direct {
        Direct(Edge::at(&quiet(), 1, secs(0)).lease, secs(0))
    }

    fn moment(&self) -> Moment {
        Moment {
            at: self.1,
            unix: UNIX,
        }
    }

    fn call(&mut self) -> Request {
        loop {
            if let Some(request) = self.0.poll_call(self.moment()) {
                return request;
            }
            self.1 = self.1.max(self.0.poll_timeout().expect("it goes on"));
        }
    }

    fn answer(&mut self, id: CallId, answer: Answer) {
        self.0.handle_answer(self.moment(), id, answer);
    }

    /// Takes the home at revision 1.
    fn take(&mut self) {
        let read = self.call();
        self.answer(read.id, Ok(Reply::Read(None)));
        let write = self.call();
        self.answer(write.id, Ok(Reply::Written(1)));
        assert_eq!(self.event(), Some(Event::Taken { term: FIRST_TERM }));
    }

    fn event(&mut self) -> Option<Event> {
        self.0.poll_event()
    }
}

#[test]
fn an_answer_that_comes_late_or_twice_or_to_nothing_counts_for_nothing() {
    let mut lease = Direct::new();
    lease.take();
    let renewal = lease.call();
    lease.1 += CALL_TIMEOUT - Duration::from_nanos(1);
    assert_eq!(lease.0.poll_call(lease.moment()), None);
    lease.1 += Duration::from_nanos(1);
    let _ = lease.0.poll_call(lease.moment());
    assert_eq!(
        lease.event(),
        Some(Event::Troubled(Trouble::Engine(EngineError::Late)))
    );
    // Late, and twice.
    for _ in 0..2 {
        lease.answer(renewal.id, Ok(Reply::Written(2)));
    }
    lease.answer(CallId::new(999), Err(EngineError::Refused));
    assert_eq!(lease.0.strays(), 3);
    let again = lease.call();
    let Call::Write { expected, .. } = again.call else {
        panic!("{again:?}")
    };
    assert_eq!(expected, 1);
    assert_eq!(lease.0.standing(), Standing::Troubled);
    // A process that was paused finds an answer that is as old.
    lease.1 += CALL_TIMEOUT;
    lease.answer(again.id, Ok(Reply::Written(2)));
    assert_eq!(lease.0.standing(), Standing::Troubled);
    assert_eq!(lease.0.strays(), 4);
}

#[test]
fn a_take_without_an_answer_is_looked_for() {
    let mut lease = Direct::new();
    let read = lease.call();
    lease.answer(read.id, Ok(Reply::Read(None)));
    let write = lease.call();
    let Call::Write { value, .. } = write.call else {
        panic!("{write:?}")
    };
    lease.answer(write.id, Err(EngineError::Unreachable("cut off".into())));
    assert!(matches!(lease.event(), Some(Event::Troubled(_))));
    let look = lease.call();
    assert_eq!(look.call, Call::Read { home: HOME });
    lease.1 += secs(1);
    let entry = voltlane_cluster::Entry {
        home: HOME,
        revision: 4,
        value,
    };
    lease.answer(look.id, Ok(Reply::Read(Some(entry))));
    // When that was is not known, so it is written again, and counts from then.
    let again = lease.call();
    let Call::Write { expected: 4, .. } = again.call else {
        panic!("{again:?}")
    };
    let began = lease.1;
    lease.1 += secs(1);
    lease.answer(again.id, Ok(Reply::Written(5)));
    assert_eq!(lease.event(), Some(Event::Recovered));
    assert_eq!(lease.event(), Some(Event::Taken { term: FIRST_TERM }));
    assert_eq!(lease.0.held_until(), Some(began + LEASE));
}

#[test]
fn answers_that_make_no_sense_are_told_and_change_nothing() {
    let entry = |home| voltlane_cluster::Entry {
        home,
        revision: 5,
        value: record(9, None).encode(&game(), home),
    };
    let wrong: [Answer; 5] = [
        Ok(Reply::Written(7)),
        Ok(Reply::List(Vec::new())),
        Ok(Reply::Read(Some(entry(HOME + 1)))),
        Err(EngineError::Nonsense("{".into())),
        Err(EngineError::Failed("no space".into())),
    ];
    for answer in wrong {
        let mut lease = Direct::new();
        let read = lease.call();
        lease.answer(read.id, answer);
        assert!(matches!(lease.event(), Some(Event::Troubled(_))));
        assert_eq!(lease.0.standing(), Standing::Waits);
        assert_eq!(lease.call().call, Call::Read { home: HOME });
    }
    let mut lease = Direct::new();
    lease.take();
    let renewal = lease.call();
    lease.answer(renewal.id, Ok(Reply::Read(None)));
    assert!(matches!(lease.event(), Some(Event::Troubled(_))));
    assert_eq!(lease.0.term(), Some(FIRST_TERM));
}

#[test]
fn a_record_of_another_cluster_or_none_at_all_is_left_alone() {
    let other: ClusterName = "other".parse().expect("a name");
    let foreign = record(5, Some(9)).encode(&other, HOME);
    let elsewhere = record(5, None).encode(&game(), HOME + 1);
    let nonsense = |_| RecordError::Nonsense("it is no record");
    for (value, error) in [
        (foreign, RecordError::Foreign("other".into())),
        (elsewhere, RecordError::Nonsense("it is of another home")),
        (b"{\"form\":2}".to_vec(), RecordError::Later(2)),
        (b"hello".to_vec(), nonsense(())),
        (vec![0xff; 1_024], nonsense(())),
    ] {
        let store = quiet();
        store.put(HOME, &value);
        let mut edge = Edge::at(&store, 1, secs(0));
        edge.go(secs(60));
        let trouble = Trouble::Record { home: HOME, error };
        assert_eq!(edge.events(), [Event::Troubled(trouble.clone())]);
        assert_eq!(store.entry(HOME).expect("there").value, value);
        // An edge that holds the home is not disturbed.
        let store = quiet();
        let mut edge = Edge::at(&store, 1, secs(0));
        edge.step();
        store.put(HOME, &value);
        edge.go(secs(4));
        assert_eq!(edge.lease.term(), Some(FIRST_TERM));
        assert_eq!(edge.events()[1..], [Event::Troubled(trouble)]);
        assert_eq!(store.entry(HOME).expect("there").value, value);
    }
}

#[test]
fn a_record_that_nobody_owns_is_taken_after_its_time() {
    // Its edge is gone for ever, and it was long ago: that counts from when it was seen.
    let store = quiet();
    let mut old = record(FIRST_TERM + 50, Some(77));
    old.written = 1;
    store.put(HOME, &old.encode(&game(), HOME));
    let mut edge = Edge::at(&store, 1, secs(0));
    edge.go(LEASE - Duration::from_nanos(1));
    assert_eq!(edge.lease.term(), None);
    edge.go(secs(1));
    assert_eq!(edge.lease.term(), Some(FIRST_TERM + 51));
    // One that was deleted is free at once.
    let store = quiet();
    store.put(HOME, &old.encode(&game(), HOME));
    store.put(HOME, b"");
    let mut edge = Edge::at(&store, 1, secs(0));
    edge.step();
    assert_eq!(edge.lease.term(), Some(FIRST_TERM));
}

#[test]
fn the_same_run_twice_is_not_taken_for_ones_own() {
    let store = quiet();
    let mut first = Edge::at(&store, 1, secs(0));
    first.lease.describe(Some(0xab), true);
    first.step();
    // A copy of its saved sessions has the same run.
    let mut copy = Edge::at(&store, 2, secs(0));
    copy.lease.describe(Some(0xab), false);
    for _ in 0..30 {
        first.go(secs(1));
        copy.go(secs(1));
    }
    assert_eq!(copy.lease.standing(), Standing::Waits);
    assert_eq!(first.lease.standing(), Standing::Held);
}

#[test]
fn an_engine_that_forgets_or_goes_back_is_told_again() {
    let store = quiet();
    let mut edge = Edge::at(&store, 1, secs(0));
    edge.go(secs(30));
    store.forget();
    edge.go(secs(4));
    assert_eq!(edge.stored(), record(FIRST_TERM, Some(1)));
    edge.go(secs(30));
    store.roll_back(5);
    edge.go(secs(4));
    // To a time in which another edge had it.
    store.put(HOME, &record(FIRST_TERM - 3, Some(8)).encode(&game(), HOME));
    edge.go(secs(4));
    store.put(HOME, &record(FIRST_TERM, None).encode(&game(), HOME));
    edge.go(secs(4));
    assert_eq!(edge.stored(), record(FIRST_TERM, Some(1)));
    assert_eq!(edge.events(), [Event::Taken { term: FIRST_TERM }]);
    // A term that two have is held by neither for sure: the one that finds the other leaves.
    store.put(HOME, &record(FIRST_TERM, Some(8)).encode(&game(), HOME));
    edge.go(secs(4));
    assert_eq!(edge.lease.standing(), Standing::Lost);
}

#[test]
fn a_home_is_given_back_at_any_moment() {
    for at in 0..40_u64 {
        let faults = Faults::all(if at % 2 == 0 { 1_001 } else { 10 });
        let store = SimStore::new(at, faults);
        let mut edge = Edge::at(&store, 1, secs(0));
        edge.go(Duration::from_millis(at * 97));
        let moment = edge.moment();
        edge.lease.give_back(moment);
        edge.step();
        store.set_faults(Faults::default());
        edge.go(secs(10));
        assert_eq!(edge.lease.standing(), Standing::GivenBack, "{at}");
        // What a lost answer has left is found by the next one.
        let mut next = Edge::at(&store, 2, edge.now);
        next.go(secs(10));
        assert_eq!(next.lease.standing(), Standing::Held, "{at}");
    }
}
