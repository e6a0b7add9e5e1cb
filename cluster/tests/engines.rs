//! The engines without a server do what every engine must.

use std::cell::Cell;
use std::time::Duration;

use voltlane_cluster::testkit::{Bench, Clock, Faults, SimStore, conforms};
use voltlane_cluster::{Engine, MemoryEngine};

/// Time that goes on when somebody waits.
#[derive(Default)]
struct Virtual(Cell<Duration>);

impl Clock for Virtual {
    fn now(&self) -> Duration {
        self.0.get()
    }

    fn rest(&self, _: &dyn Engine, until: Duration) {
        self.0.set(self.0.get().max(until));
    }
}

struct Engines<F>(F, Virtual);

impl<F: Fn() -> Box<dyn Engine>> Bench for Engines<F> {
    fn engine(&self) -> Box<dyn Engine> {
        (self.0)()
    }

    fn clock(&self) -> &dyn Clock {
        &self.1
    }
}

#[test]
fn memory_conforms() {
    let memory = MemoryEngine::new();
    let make = move || -> Box<dyn Engine> { Box::new(memory.clone()) };
    conforms(&Engines(make, Virtual::default()));
}

#[test]
fn the_engine_of_the_simulator_conforms_without_faults() {
    let store = SimStore::new(1, Faults::default());
    let make = move || -> Box<dyn Engine> { Box::new(store.engine()) };
    conforms(&Engines(make, Virtual::default()));
}

#[test]
fn late_answers_come_in_their_time() {
    let faults = Faults {
        late: 500,
        ..Faults::default()
    };
    let store = SimStore::new(2, faults);
    let make = move || -> Box<dyn Engine> { Box::new(store.engine()) };
    let clock = Virtual::default();
    let bench = Engines(make, clock);
    // Not conforms(): it has bounds of time that such answers exceed.
    let mut engine = bench.engine();
    let id = voltlane_cluster::CallId::new(1);
    let call = voltlane_cluster::Call::List;
    engine.call(Duration::ZERO, voltlane_cluster::Request { id, call });
    let due = engine.poll_timeout().expect("an answer is under way");
    assert!(engine.poll(due).is_some());
}
