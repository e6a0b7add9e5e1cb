//! Tasks that wait for one backend.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

#[test]
fn a_send_waits_for_room_and_what_comes_meanwhile_is_kept() {
    const PACKETS: u32 = 500;
    let mut setup = Setup::new(CUT);
    let mut backend = setup.backend_with(small_queue(3_000));
    let mut client = setup.client(1);
    let got = Rc::new(Cell::new(0));
    let gets = Rc::clone(&got);
    setup.world.spawn(async move {
        for number in 0..PACKETS {
            client.send(&number.to_le_bytes()).await.expect("sent");
        }
        while let Some(event) = client.recv().await {
            if let client::Event::Packet { data, .. } = event {
                assert_eq!(data[..4], (gets.get() as u32).to_le_bytes());
                gets.set(gets.get() + 1);
            }
        }
    });
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        let (id, _) = speaks(&mut backend).await;
        // Nothing is received until everything is sent.
        for number in 0..PACKETS {
            let data = [&number.to_le_bytes()[..], &[0; 700]].concat();
            backend.send(id, data).await.expect("sent");
        }
        for number in 1..PACKETS {
            assert_eq!(packet(&mut backend).await.1, number.to_le_bytes());
        }
        let _ = backend.try_recv();
        reaches(&got, PACKETS as usize, &clock).await;
    });
}

#[test]
fn a_cancelled_send_or_receive_leaves_nothing_behind_and_loses_nothing() {
    let mut setup = Setup::new(CUT);
    let mut backend = setup.backend_with(small_queue(1_200));
    let mut client = setup.client(1);
    let got = Rc::new(Cell::new(0));
    let gets = Rc::clone(&got);
    setup.world.spawn(async move {
        for number in 0..300_u32 {
            client.send(&number.to_le_bytes()).await.expect("sent");
        }
        while let Some(event) = client.recv().await {
            if let client::Event::Packet { data, .. } = event {
                assert_eq!(data[..4], (gets.get() as u32).to_le_bytes());
                gets.set(gets.get() + 1);
            }
        }
    });
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        let (id, _) = speaks(&mut backend).await;
        let (mut sent, mut received) = (0_u32, 1_u32);
        while received < 300 || sent < 300 {
            // Each is polled once and dropped, as in a select!. A send that was not ready has queued nothing.
            let cx = &mut Context::from_waker(Waker::noop());
            let data = [&sent.to_le_bytes()[..], &[1; 500]].concat();
            if sent < 300
                && let Poll::Ready(done) = pin!(backend.send(id, &data)).poll(cx)
            {
                sent += 1;
                assert_eq!(done.expect("sent").number, u64::from(sent));
            }
            if let Poll::Ready(event) = pin!(backend.recv()).poll(cx) {
                let Some(Event::Packet { data, number, .. }) = event else {
                    panic!("{event:?}")
                };
                assert_eq!(data, received.to_le_bytes());
                received += 1;
                assert_eq!(number, u64::from(received));
            }
            clock.sleep(Duration::from_micros(10)).await;
        }
        let _ = backend.try_recv();
        reaches(&got, 300, &clock).await;
    });
}

/// Whoever waits does the work, for all others as well.
#[test]
fn many_tasks_wait_for_what_they_have_sent_while_nobody_receives() {
    const TASKS: usize = 100;
    let mut setup = Setup::new(CUT);
    let mut backend = setup.backend_with(small_queue(2_000));
    let heard = setup.speaker(1, &[b"here"]);
    let clock = setup.world.clock.clone();
    let (done, found) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
    for task in 0..TASKS {
        let (handle, done, found) = (backend.handle(), Rc::clone(&done), Rc::clone(&found));
        let clock = setup.world.clock.clone();
        setup.world.spawn(async move {
            while found.get().is_none() {
                clock.sleep(Duration::from_millis(1)).await;
            }
            let id = found.get().expect("it is there");
            let sent = handle.send(id, vec![task as u8; 300]).await.expect("sent");
            handle.acknowledged(sent).await.expect("taken");
            done.set(done.get() + 1);
        });
    }
    setup.world.run(async {
        let (id, _) = speaks(&mut backend).await;
        found.set(Some(id));
        reaches(&done, TASKS, &clock).await;
        while heard.borrow().len() < TASKS {
            clock.sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_program_that_only_sends_is_heard() {
    let mut setup = Setup::new(Chaos::NONE);
    let backend = setup.backend();
    let mut client = setup.client(1);
    let found = Rc::new(Cell::new(None));
    let finds = Rc::clone(&found);
    let got = Rc::new(Cell::new(0));
    let gets = Rc::clone(&got);
    setup.world.spawn(async move {
        while let Some(event) = client.recv().await {
            match event {
                client::Event::Connected { id, .. } => finds.set(Some(id)),
                client::Event::Packet { .. } => gets.set(gets.get() + 1),
                _ => {}
            }
        }
    });
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        while found.get().is_none() {
            clock.sleep(Duration::from_millis(1)).await;
        }
        let id = found.get().expect("it has joined");
        // The first wait accepts the edge.
        let sent = backend.send(id, "first").await.expect("sent");
        backend.acknowledged(sent).await.expect("taken");
        for count in 2..20 {
            backend.send(id, "next").await.expect("sent");
            clock.sleep(Duration::from_millis(5)).await;
            assert_eq!(got.get(), count);
        }
    });
}

#[test]
fn what_another_task_sends_leaves_while_the_reader_waits() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend();
    let heard = setup.speaker(1, &[b"here"]);
    let clock = setup.world.clock.clone();
    let found = Rc::new(Cell::new(None));
    let finds = Rc::clone(&found);
    let handle = backend.handle();
    setup.world.spawn(async move {
        loop {
            if let Event::Packet { id, .. } = next(&mut backend).await {
                finds.set(Some(id));
            }
        }
    });
    setup.world.run(async {
        while found.get().is_none() {
            clock.sleep(Duration::from_millis(1)).await;
        }
        let id = found.get().expect("it is there");
        for count in 1..10 {
            handle.try_send(id, "now").expect("room");
            clock.sleep(Duration::from_millis(5)).await;
            assert_eq!(heard.borrow().len(), count);
        }
    });
}

#[test]
fn room_is_what_a_packet_needs_that_found_none() {
    let mut setup = Setup::new(Chaos::NONE);
    let backend = setup.backend_with(small_queue(1_000));
    let id = ClientId::from_u64(7);
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        assert_eq!(backend.max_packet(), 987);
        let beyond = backend.try_send(id, [0; 988]);
        let (length, max) = (988, 987);
        assert_eq!(beyond, Err(SendError::TooLong { length, max }));
        backend.try_send(id, [0; 500]).expect("room");
        assert_eq!(backend.try_send(id, [0; 500]), Err(SendError::NoRoom));
        backend.try_send(id, [0; 474]).expect("room for so much");
        assert_eq!(backend.queued(), 2);
        // The edge comes while somebody waits for room.
        backend.room(id).await.expect("room");
        backend.try_send(id, [0; 500]).expect("room");
        let _ = clock;
    });
}
