//! Errands to the machine of a running driver.

use std::sync::mpsc;

use voltlane_core::edge::EdgeConfig;
use voltlane_driver::MAX_ERRANDS;

use super::{Setup, join, settle, setup};
use crate::support::Chaos;

/// The turns of one poll of the driver.
const TURNS_PER_POLL: usize = 4;

#[test]
fn one_errand_is_done_in_a_turn_and_a_bounded_number_waits() {
    let Setup {
        mut world,
        clock,
        clients,
        listener: _listener,
        errands,
        polls,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.run(async {
        let _client = join(&clients).await;
        settle(&clock).await;
        let (tell, told) = mpsc::channel();
        for number in 0..MAX_ERRANDS {
            let tell = tell.clone();
            let is_sent = errands.send(move |edge, now| {
                let connections = edge.gauges().connections;
                tell.send((number, connections, now)).expect("it listens");
            });
            assert!(is_sent, "errand {number}");
        }
        assert!(!errands.send(|_, _| panic!("it is one beyond the bound")));
        assert!(told.try_recv().is_err(), "no turn was taken");
        let (before, begun) = (polls.get(), clock.now());
        settle(&clock).await;
        let done: Vec<_> = told.try_iter().collect();
        let expected: Vec<_> = (0..MAX_ERRANDS).map(|number| (number, 1, begun)).collect();
        assert_eq!(done, expected, "in order, in the wake of the first");
        let polled = polls.get() - before;
        assert!(polled >= MAX_ERRANDS / TURNS_PER_POLL, "{polled} polls");
        assert!(errands.send(|_, _| {}), "there is room again");
    });
}
