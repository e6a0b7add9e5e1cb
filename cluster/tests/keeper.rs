//! The thread that keeps a lease, over the engine within the process.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use voltlane_cluster::{
    Change, Event, Keeper, LeaseConfig, MemoryEngine, NotTaken, SharedBan, Standing,
};

const PATIENCE: Duration = Duration::from_secs(60);

fn config(nonce: u64) -> LeaseConfig {
    LeaseConfig {
        cluster: "game".parse().expect("a name"),
        home: 1,
        lease: Duration::from_secs(1),
        nonce,
        label: format!("edge-{nonce}"),
        backend: "b:1".into(),
        seed: nonce,
    }
}

fn start(engine: &MemoryEngine, nonce: u64) -> Keeper {
    Keeper::start(config(nonce), engine.clone(), |_| {}).expect("started")
}

#[test]
fn a_home_is_waited_for_and_given_back() {
    let engine = MemoryEngine::new();
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let tell = move |event: &Event| heard.lock().expect("no panic").push(event.clone());
    let first = Keeper::start(config(1), engine.clone(), tell).expect("started");
    let term = first.wait(Some(PATIENCE)).expect("it is free");
    let second = start(&engine, 2);
    let began = Instant::now();
    // It is renewed, so no wait is long enough.
    let held = NotTaken::Held {
        holder: "edge-1".into(),
    };
    assert_eq!(second.wait(Some(Duration::from_secs(3))), Err(held));
    assert!(began.elapsed() >= Duration::from_secs(3));
    first.watch(Box::new(|| (Some(7), true)));
    assert!(first.give_back());
    assert!(second.wait(Some(PATIENCE)).expect("it is free") > term);
    let events = events.lock().expect("no panic");
    assert_eq!(*events, [Event::Taken { term }, Event::GivenBack]);
}

#[test]
fn whoever_leaves_before_the_home_is_free_does_not_disturb_it() {
    let engine = MemoryEngine::new();
    let first = start(&engine, 1);
    first.wait(Some(PATIENCE)).expect("it is free");
    let second = start(&engine, 2);
    second.wait(Some(Duration::ZERO)).expect_err("it is held");
    assert!(second.give_back());
    assert_eq!(first.standing(), Standing::Held);
}

struct Woken(Mutex<bool>, std::sync::Condvar);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        *self.0.lock().expect("no panic") = true;
        self.1.notify_all();
    }
}

#[test]
fn a_task_is_woken_when_the_home_is_lost() {
    let engine = MemoryEngine::new();
    let first = start(&engine, 1);
    let term = first.wait(Some(PATIENCE)).expect("it is free");
    let woken = Arc::new(Woken(Mutex::new(false), std::sync::Condvar::new()));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert_eq!(first.poll_lost(&mut cx), Poll::Pending);
    // Another has taken it, as after a long pause.
    let thief = voltlane_cluster::Record {
        term: term + 1,
        lease: Duration::from_secs(1),
        written: 0,
        holder: None,
    };
    overwrite(&engine, &thief.encode(&"game".parse().expect("a name"), 1));
    let mut is_woken = woken.0.lock().expect("no panic");
    while !*is_woken {
        let (guard, timeout) = woken.1.wait_timeout(is_woken, PATIENCE).expect("no panic");
        assert!(!timeout.timed_out(), "it is not woken");
        is_woken = guard;
    }
    assert_eq!(first.poll_lost(&mut cx), Poll::Ready(()));
    assert!(!first.give_back());
}

/// Writes the record whatever there is.
fn overwrite(engine: &MemoryEngine, value: &[u8]) {
    use voltlane_cluster::{Call, CallId, Engine as _, Reply, Request};
    let mut engine = engine.clone();
    let mut ask = |call| {
        let id = CallId::new(1);
        engine.call(Duration::ZERO, Request { id, call });
        engine.poll(Duration::ZERO).expect("an answer").1
    };
    loop {
        let Ok(Reply::Read(Some(entry))) = ask(Call::Read { home: 1 }) else {
            panic!("no record");
        };
        let call = Call::Write {
            home: 1,
            expected: entry.revision,
            value: value.to_vec(),
        };
        if ask(call).is_ok() {
            return;
        }
    }
}

#[test]
fn the_thread_shares_bans_and_asks_again_whoever_could_not_do_them() {
    let engine = MemoryEngine::new();
    let keepers = [1, 2].map(|home| {
        let home_of = LeaseConfig {
            home,
            ..config(home.into())
        };
        Keeper::start(home_of, engine.clone(), |_| {}).expect("started")
    });
    let [one, other] = keepers.each_ref().map(Keeper::teller);
    let ban = |network: &str| {
        let network = network.parse().expect("a network");
        SharedBan::new(network, 1_790_000_000, None, 1, "")
    };
    assert!(!one.tell(Change::Ban(ban("203.0.113.7/32"))), "not begun");
    assert_eq!(one.counts(), None);
    one.begin(Vec::new(), Box::new(|_| true), Box::new(|_| {}));
    let (told, hears) = std::sync::mpsc::channel();
    let mut is_first = true;
    let adopt = move |changes: &[Change]| {
        told.send(changes.to_vec()).expect("somebody hears");
        !std::mem::take(&mut is_first)
    };
    other.begin(Vec::new(), Box::new(adopt), Box::new(|_| {}));
    let banned = Change::Ban(ban("203.0.113.7/32"));
    assert!(one.tell(banned.clone()));
    assert!(!one.tell(Change::Ban(ban("0.0.0.0/0"))), "its own machine");
    assert_eq!(one.counts(), Some((1, 0)));
    let hear = || hears.recv_timeout(PATIENCE).expect("a change");
    assert_eq!(hear(), std::slice::from_ref(&banned));
    assert_eq!(hear(), [banned], "the first time it was not done");
    let lift = Change::Lift("203.0.113.7/32".parse().expect("a network"));
    assert!(one.tell(lift.clone()));
    assert_eq!(hear(), [lift]);
    let [first, second] = keepers;
    assert!(first.give_back() && second.give_back());
    assert!(
        !one.tell(Change::Ban(ban("203.0.113.7/32"))),
        "it has ended"
    );
}
