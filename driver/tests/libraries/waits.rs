//! Who waits drives the client, however many wait, and whoever stops to.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use voltlane_driver::backend::{self, BackendConfig};
use voltlane_driver::client::{
    Client, ClientConfig, ClientSender, Code, Event, SendError, Versions,
};

use super::{BOTH, CUT, Count, Setup, any_packet, connected, options, packet};
use crate::support::Chaos;

#[test]
fn handles_go_anywhere() {
    fn goes<T: Send + Sync + 'static>() {}
    fn is_sent<T: Send>(_: &T) {}
    goes::<Client>();
    goes::<ClientSender>();
    let setup = Setup::new(Chaos::NONE);
    let mut client = setup.client(1, Versions::V3);
    let sender = client.sender();
    let sent = sender.try_send(b"x").expect("there is room");
    is_sent(&client.recv());
    is_sent(&sender.send(b"x"));
    is_sent(&sender.acknowledged(sent));
    is_sent(&sender.flush());
    is_sent(&sender.room());
    is_sent(&sender.close());
}

#[test]
fn a_send_waits_for_room_and_what_comes_meanwhile_is_kept() {
    const PACKETS: u32 = 2_000;
    for versions in BOTH {
        let mut setup = Setup::new(CUT);
        let config = BackendConfig::default().with_queue_bytes(3_000);
        let backend = setup.backend_with(config.expect("a queue"));
        setup.world.spawn(super::echo(backend));
        let mut client = setup.client_with(1, narrow(versions), CUT);
        setup.world.run(async {
            connected(&mut client).await;
            // Nothing is received until everything is sent: echoes accumulate in the inbox.
            for number in 0..PACKETS {
                let data = [&number.to_le_bytes()[..], &[0; 300]].concat();
                client.send(data).await.expect("sent");
            }
            for number in 0..PACKETS {
                assert_eq!(packet(&mut client).await[..4], number.to_le_bytes());
            }
        });
    }
}

/// A client with room for four packets.
fn narrow(versions: Versions) -> voltlane_driver::client::Options {
    let mut options = options(versions);
    options.config = ClientConfig::default()
        .with_versions(versions)
        .with_queue_packets(4)
        .and_then(|config| config.with_queue_bytes(2_000))
        .expect("a queue");
    options
}

/// A handler that answers each packet with three, and waits in `send`, while the other side sends on.
#[test]
fn a_handler_that_waits_in_send_does_not_lock_itself() {
    const PACKETS: usize = 20_000;
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend();
    let mut client = setup.client_with(1, narrow(Versions::V3), Chaos::NONE);
    let answers = Count::default();
    let counts = answers.clone();
    setup.world.spawn(async move {
        let mut sent = 0;
        while let Some(event) = backend.recv().await {
            match event {
                backend::Event::Packet { id, data, .. } if data == b"begin" => {
                    while sent < PACKETS {
                        sent += 1;
                        let last = backend.send(id, &[7; 100]).await.expect("sent");
                        // As much as an edge holds for a client, and no more.
                        if sent % 8_000 == 0 {
                            backend.acknowledged(last).await.expect("taken");
                            break;
                        }
                    }
                }
                backend::Event::Packet { id, data, .. } => {
                    assert_eq!(data.len(), 400);
                    counts.add();
                    if counts.get() % 3 == 0 && sent < PACKETS {
                        sent += 1;
                        backend.send(id, &[7; 100]).await.expect("sent");
                    }
                }
                _ => {}
            }
        }
    });
    setup.world.run(async {
        connected(&mut client).await;
        client.send(b"begin").await.expect("sent");
        for _ in 0..PACKETS {
            assert_eq!(any_packet(&mut client).await, [7; 100]);
            for _ in 0..3 {
                client.send([8; 400]).await.expect("sent");
            }
        }
        client.flush().await.expect("the edge has it");
    });
}

#[test]
fn try_send_says_that_there_is_no_room_and_room_waits_for_it() {
    for versions in BOTH {
        let mut setup = Setup::new(Chaos::NONE);
        let mut client = setup.client_with(1, narrow(versions), Chaos::NONE);
        setup.echoes();
        setup.world.run(async {
            let mut sent = 0_u32;
            let mut waits = 0;
            while sent < 100 {
                match client.try_send([&sent.to_le_bytes()[..], &[1; 700]].concat()) {
                    Ok(_) => sent += 1,
                    Err(SendError::NoRoom) => {
                        waits += 1;
                        assert!(waits < 200, "room() was ready, and there was none");
                        client.room().await.expect("the session lives");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            assert!(waits > 10);
            for number in 0..100_u32 {
                assert_eq!(any_packet(&mut client).await[..4], number.to_le_bytes());
            }
        });
    }
}

#[test]
fn what_try_send_queued_is_written_by_whoever_waits() {
    for versions in BOTH {
        let mut setup = Setup::new(Chaos::NONE);
        let mut client = setup.client(1, versions);
        let sender = client.sender();
        setup.echoes();
        let clock = setup.world.clock.clone();
        setup.world.spawn(async move {
            for number in 0..100_u32 {
                clock.sleep(Duration::from_millis(10)).await;
                sender
                    .try_send(number.to_le_bytes())
                    .expect("there is room");
            }
        });
        let clock = setup.world.clock.clone();
        setup.world.run(async {
            connected(&mut client).await;
            for number in 0..100_u32 {
                assert_eq!(packet(&mut client).await, number.to_le_bytes());
            }
        });
        let waited = clock.now().since(voltlane_core::Time::ZERO);
        assert!(waited < Duration::from_millis(1_100), "{waited:?}");
    }
}

/// Polls a future once and drops it, as in a `select!`. Returns its output if it was ready.
fn once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn a_cancelled_send_or_receive_leaves_nothing_behind_and_loses_nothing() {
    for versions in BOTH {
        let mut setup = Setup::new(CUT);
        let mut options = options(versions);
        options.config = options.config.with_queue_packets(2).expect("a queue");
        let mut client = setup.client_with(1, options, CUT);
        setup.echoes();
        setup.world.run(async {
            connected(&mut client).await;
            let (mut sent, mut received) = (0_u32, 0_u32);
            while received < 500 {
                // A send that was not ready has queued nothing.
                let data = [&sent.to_le_bytes()[..], &[1; 500]].concat();
                if sent < 500 && once(client.send(&data)).is_some() {
                    sent += 1;
                }
                // These only wait.
                let _ = (once(client.flush()), once(client.room()));
                if let Some(event) = once(client.recv()) {
                    let Some(Event::Packet { data, .. }) = event else {
                        panic!("{event:?}")
                    };
                    assert_eq!(data[..4], received.to_le_bytes());
                    received += 1;
                }
                yield_now().await;
            }
        });
    }
}

#[test]
fn a_cancelled_goodbye_goes_on_and_a_cancelled_wait_asks_again() {
    let mut setup = Setup::new(CUT);
    setup.echoes();
    let mut client = setup.client_with(1, options(Versions::V3), CUT);
    setup.world.run(async {
        connected(&mut client).await;
        let sent = client.send(vec![1; 100_000]).await.expect("sent");
        assert!(once(client.acknowledged(sent)).is_none());
        client.acknowledged(sent).await.expect("the edge has it");
        client.send(vec![2; 100_000]).await.expect("sent");
        assert!(once(client.close()).is_none());
        let mut heard = 0;
        let end = loop {
            match client.recv().await {
                Some(Event::Packet { data, .. }) => heard += data.len(),
                Some(Event::Ended { end, .. }) => break end,
                other => panic!("{other:?}"),
            }
        };
        assert!(heard <= 200_000);
        assert_eq!((end.code, end.text.as_str()), (Code::GOODBYE, ""));
        assert_eq!(end.ledgers.up.acknowledged, 2);
    });
}

#[test]
fn a_connect_that_is_dropped_leaves_nothing_behind() {
    let mut setup = Setup::new(Chaos::NONE);
    setup.echoes();
    let mut connecting = Box::pin(Client::connect(
        options(Versions::V3),
        setup.means(1, Chaos::NONE),
    ));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(connecting.as_mut().poll(cx).is_pending());
    drop(connecting);
    let other = Client::connect(options(Versions::V3), setup.means(2, Chaos::NONE));
    assert!(setup.world.run(other).is_ok());
}

/// One task reads, one sends, one flushes. Whichever stops, the others go on.
#[test]
fn when_the_one_that_drives_is_dropped_another_one_does() {
    for versions in BOTH {
        let mut setup = Setup::new(CUT);
        setup.echoes();
        let client = setup.client_with(1, options(versions), CUT);
        let clock = setup.world.clock.clone();
        let (sender, done) = (client.sender(), Count::default());
        for _ in 0..3 {
            let (sender, done) = (client.sender(), done.clone());
            setup.world.spawn(async move {
                for round in 0..20_usize {
                    sender.send(vec![1; round * 200]).await.expect("sent");
                    sender.flush().await.expect("it is there");
                }
                done.add();
            });
        }
        // A reader that polls, is then dropped at once, and does not come back for a long time.
        let reader = Rc::new(Cell::new(Some(client)));
        setup.world.spawn({
            let (clock, reader) = (clock.clone(), Rc::clone(&reader));
            async move {
                let mut client = reader.take().expect("it is there");
                for _ in 0..50 {
                    let mut reading = Box::pin(client.recv());
                    let polled = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await;
                    drop(reading);
                    drop(polled);
                    clock.sleep(Duration::from_millis(20)).await;
                }
                reader.set(Some(client));
            }
        });
        setup.world.run(done.reaches(3, &clock));
        let waited = clock.now().since(voltlane_core::Time::ZERO);
        assert!(waited < Duration::from_secs(5), "{versions:?}: {waited:?}");
        drop(sender);
    }
}

/// Ten thousand tasks wait for their packets. Each is polled for itself, and not for all that happens.
#[test]
fn many_who_wait_are_woken_for_themselves_only() {
    const TASKS: usize = 10_000;
    let mut setup = Setup::new(Chaos::NONE);
    setup.echoes();
    let mut client = setup.client(1, Versions::V3);
    let (polls, done) = (Count::default(), Count::default());
    let clock = setup.world.clock.clone();
    let first = setup.world.run(async {
        connected(&mut client).await;
        client.send(b"first").await.expect("sent")
    });
    let id = first.id;
    let sender = client.sender();
    // Packets in turns, so that acknowledgements come in turns, too.
    let sent: Rc<Cell<u64>> = Rc::default();
    setup.world.spawn({
        let (sender, sent, clock) = (client.sender(), Rc::clone(&sent), clock.clone());
        async move {
            for _ in 0..100 {
                for _ in 0..100 {
                    let number = sender.send([1; 8]).await.expect("sent").number;
                    sent.set(number);
                }
                clock.sleep(Duration::from_millis(1)).await;
            }
        }
    });
    for task in 0..TASKS {
        let (sender, polls, done) = (sender.clone(), polls.clone(), done.clone());
        let number = task as u64 + 2;
        setup.world.spawn(async move {
            let mut sent = first;
            (sent.id, sent.number) = (id, number);
            let mut waiting: Pin<Box<dyn Future<Output = _>>> =
                Box::pin(async move { sender.acknowledged(sent).await });
            let outcome = poll_fn(|cx| {
                polls.add();
                waiting.as_mut().poll(cx)
            });
            outcome.await.expect("it is acknowledged");
            done.add();
        });
    }
    setup.world.run(async {
        let mut heard = 0;
        while heard < TASKS + 1 {
            packet(&mut client).await;
            heard += 1;
        }
        done.reaches(TASKS, &clock).await;
    });
    // Once to begin, once when it is through, and now and then as the one that drives.
    let most = 3 * TASKS;
    assert!(polls.get() <= most, "{} polls for {TASKS}", polls.get());
}

#[test]
fn a_tick_comes_in_time_and_missed_ones_are_left_out() {
    let mut setup = Setup::new(Chaos::NONE);
    setup.echoes();
    let mut with_ticks = options(Versions::V3);
    with_ticks.tick = Some(Duration::from_millis(50));
    let mut client = setup.client_with(1, with_ticks, Chaos::NONE);
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        connected(&mut client).await;
        let at = |ticks: u64| voltlane_core::Time::from_millis(50 * ticks);
        for ticks in 1..=20 {
            match client.recv().await {
                Some(Event::Tick { late, .. }) => assert_eq!(late, Duration::ZERO),
                other => panic!("{other:?}"),
            }
            assert_eq!(clock.now(), at(ticks));
        }
        clock.sleep(Duration::from_millis(130)).await;
        match client.recv().await {
            Some(Event::Tick { late, .. }) => assert_eq!(late, Duration::from_millis(80)),
            other => panic!("{other:?}"),
        }
        // Packets do not hold it up. Only behind another tick one of them is first.
        for _ in 0..1_000 {
            client.send(b"x").await.expect("sent");
        }
        clock.sleep(Duration::from_millis(20)).await;
        packet(&mut client).await;
        assert!(matches!(client.recv().await, Some(Event::Tick { .. })));
        // Somebody else drives while the reader waits for its tick.
        for _ in 0..999 {
            packet(&mut client).await;
        }
        let sender = client.sender();
        let never = far_away(&sender);
        packet(&mut client).await;
        let mut reading = Box::pin(client.recv());
        let start = clock.now();
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(event) = reading.as_mut().poll(cx) {
                return Poll::Ready(event);
            }
            let _ = pin!(sender.acknowledged(never)).poll(cx);
            Poll::Pending
        })
        .await;
        assert!(matches!(outcome, Some(Event::Tick { .. })));
        assert!(clock.now().since(start) <= Duration::from_millis(50));
    });
}

/// What a client hears that needs 25 ms for each event, has a tick each 10 ms, and sends a packet before it asks for the next.
fn heard_by_the_slow(versions: Versions, waits: bool) -> Vec<&'static str> {
    let mut setup = Setup::new(Chaos::NONE);
    setup.echoes();
    let mut with_ticks = options(versions);
    with_ticks.tick = Some(Duration::from_millis(10));
    let mut client = setup.client_with(1, with_ticks, Chaos::NONE);
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        let mut heard = Vec::new();
        while heard.len() < 200 {
            client.try_send(b"x").expect("there is room");
            let event = match waits {
                true => client.recv().await,
                false => client.try_recv(),
            };
            heard.push(match event {
                Some(Event::Connected { .. }) => "connected",
                Some(Event::Packet { .. }) => "packet",
                Some(Event::Tick { .. }) => "tick",
                None if !waits => "nothing",
                other => panic!("{other:?}"),
            });
            clock.sleep(Duration::from_millis(25)).await;
        }
        // Ticks end with the session, or it would never be over for whoever is slow.
        client.sender().close().await;
        for _ in 0..400 {
            match client.recv().await {
                Some(Event::Packet { .. } | Event::Tick { .. }) => {}
                Some(Event::Ended { .. }) => {
                    clock.sleep(Duration::from_millis(25)).await;
                    assert!(client.recv().await.is_none());
                    return heard;
                }
                other => panic!("{other:?}"),
            }
            clock.sleep(Duration::from_millis(25)).await;
        }
        panic!("it is never over");
    })
}

#[test]
fn who_is_slower_than_its_ticks_hears_everything_else_as_well() {
    for versions in BOTH {
        for waits in [true, false] {
            let heard = heard_by_the_slow(versions, waits);
            let connects = heard.iter().position(|event| *event == "connected");
            let connects = connects.unwrap_or_else(|| panic!("{versions:?}, {waits}: {heard:?}"));
            assert!(connects < 20, "{versions:?}, {waits}: {heard:?}");
            // Before the first echo there is nothing but ticks.
            let mut rest = heard[connects + 10..].iter();
            assert!(
                rest.all(|event| matches!(*event, "packet" | "tick")),
                "{versions:?}, {waits}: {heard:?}"
            );
            for two in heard[connects + 10..].windows(2) {
                assert_ne!(two[0], two[1], "{versions:?}, {waits}: {heard:?}");
            }
        }
    }
}

/// Returns a packet that was not sent yet.
fn far_away(sender: &ClientSender) -> voltlane_driver::client::Sent {
    let mut sent = sender.try_send(b"x").expect("there is room");
    sent.number += 1_000_000;
    sent
}

#[test]
fn what_there_is_can_be_taken_without_a_wait() {
    let mut setup = Setup::new(Chaos::NONE);
    setup.echoes();
    let mut client = setup.client(1, Versions::V3);
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        let mut heard = 0;
        client.try_send(b"x").expect("there is room");
        for _ in 0..1_000 {
            while let Some(event) = client.try_recv() {
                match event {
                    Event::Packet { .. } => {
                        heard += 1;
                        client.try_send(b"x").expect("there is room");
                    }
                    Event::Connected { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
            clock.sleep(Duration::from_millis(1)).await;
        }
        assert!(heard > 300, "{heard}");
    });
}

async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
