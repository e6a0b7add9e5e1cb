//! A backend and an edge that have version 3 of their link.

use voltlane_core::edge::LinkProtocol;
use voltlane_core::protocol::OfferedVersions;

use super::*;

const BOTH: [Versions; 2] = [Versions::V2, Versions::V3];

impl Setup {
    pub(super) fn granting(chaos: Chaos) -> Setup {
        Setup::granting_with(chaos, |_| {})
    }

    pub(super) fn granting_with(chaos: Chaos, set: impl FnOnce(&mut EdgeConfig)) -> Setup {
        let mut config = EdgeConfig::default();
        config.clients.missed_packets_buffer_size = 1_000;
        config.master.protocol = LinkProtocol::Auto;
        config.listener.versions = OfferedVersions::new(&[2, 3]).expect("versions");
        set(&mut config);
        Setup::with(chaos, config)
    }

    fn asking(&self) -> Backend {
        let mut options = Options::default();
        options.asks = true;
        self.backend_with(options)
    }

    pub(super) fn client_of(&self, seed: u8, versions: Versions) -> Client {
        let connector = MemoryConnector {
            place: self.clients.clone(),
            capacity: CAPACITY,
            chaos: Chaos::NONE,
        };
        let mut drawn = 0_u64;
        let entropy = move || {
            drawn += 1;
            let mut bytes = [seed; 32];
            bytes[..8].copy_from_slice(&drawn.to_le_bytes());
            bytes
        };
        let means = client::Means::new(connector, self.world.clock.timer(), entropy);
        let mut options = client::Options::default();
        options.config = ClientConfig::default().with_versions(versions);
        Client::begin(options, means).expect("options that can be")
    }
}

pub(super) async fn granted(backend: &mut Backend, sessions: u32) {
    match next(backend).await {
        Event::EdgeConnected {
            edge, sessions: n, ..
        } => {
            assert_eq!((edge.is_some(), n), (true, Some(sessions)));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_comes_goes_and_is_back_is_told_without_a_packet() {
    for versions in BOTH {
        let mut setup = Setup::granting(CUT);
        let mut backend = setup.asking();
        let mut client = setup.client_of(1, versions);
        let (clock, place) = (setup.world.clock.clone(), setup.clients.clone());
        let stage = Rc::new(Cell::new(0));
        let stages = Rc::clone(&stage);
        setup.world.spawn(async move {
            let mut dropped = false;
            loop {
                if stages.get() == 1 && !dropped && client.is_connected() {
                    dropped = true;
                    place.refuse(true);
                    client.drop_connection();
                }
                if stages.get() == 2 {
                    place.refuse(false);
                }
                let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
                let _ = client.poll_recv(cx);
                clock.sleep(Duration::from_millis(1)).await;
            }
        });
        setup.world.run(async {
            granted(&mut backend, 0).await;
            assert!(matches!(next(&mut backend).await, Event::CaughtUp { .. }));
            let id = joins(&mut backend).await;
            let info = backend.client(id).expect("it is there");
            assert!(info.is_connected);
            stage.set(1);
            match next(&mut backend).await {
                Event::Away {
                    id: away,
                    expires_in,
                    ..
                } => assert!(away == id && expires_in > Duration::from_secs(200)),
                other => panic!("{other:?}"),
            }
            assert!(!backend.client(id).expect("it is kept").is_connected);
            backend.send(id, "while away").await.expect("sent");
            stage.set(2);
            match next(&mut backend).await {
                Event::Resumed { id: back, .. } => assert_eq!(back, id),
                other => panic!("{other:?}"),
            }
            backend.kick(id, 600, "no manners").await.expect("a kick");
            match next(&mut backend).await {
                Event::Ended { id: ended, end, .. } => {
                    assert_eq!((ended, end.code.to_u16()), (id, 600));
                    assert_eq!(end.text, "no manners");
                }
                other => panic!("{other:?}"),
            }
        });
    }
}

/// Both directions, over links that are cut anywhere.
#[test]
fn nothing_is_lost_and_nothing_comes_twice_over_cut_links() {
    const PACKETS: u64 = 2_000;
    const CUTS: u64 = 6;
    for versions in BOTH {
        let mut setup = Setup::granting(CUT);
        let mut backend = setup.asking();
        let mut client = setup.client_of(1, versions);
        let heard = Rc::new(Cell::new(0_u64));
        let hears = Rc::clone(&heard);
        let sleeper = setup.world.clock.clone();
        setup.world.spawn(async move {
            for number in 1..=PACKETS {
                client.send(number.to_le_bytes()).await.expect("sent");
                sleeper.sleep(Duration::from_millis(1)).await;
            }
            while let Some(event) = client.recv().await {
                if let client::Event::Packet { data, .. } = event {
                    hears.set(hears.get() + 1);
                    assert_eq!(data, hears.get().to_le_bytes());
                }
            }
        });
        let (clock, place) = (setup.world.clock.clone(), setup.backend.clone());
        let cuts = Rc::new(Cell::new(0_u64));
        let counts = Rc::clone(&cuts);
        let cutter = clock.clone();
        setup.world.spawn(async move {
            // Each is another connection in the place of the link, which ends it wherever it is.
            for pause in 1..=CUTS {
                cutter.sleep(Duration::from_millis(300 + pause * 7)).await;
                drop(place.dial(CAPACITY, Chaos::NONE));
                counts.set(counts.get() + 1);
            }
        });
        setup.world.run(async {
            let (mut up, mut last, mut lost) = (0, None, 0);
            while up < PACKETS {
                match next(&mut backend).await {
                    Event::Packet {
                        id, data, number, ..
                    } => {
                        up += 1;
                        assert_eq!((number, &data[..]), (up, &up.to_le_bytes()[..]));
                        last = Some(backend.send(id, data).await.expect("sent"));
                    }
                    Event::EdgeLost { .. } => lost += 1,
                    Event::Ended { end, .. } => panic!("{end}"),
                    _ => {}
                }
            }
            let last = last.expect("some were sent");
            assert_eq!(last.number, PACKETS);
            backend.acknowledged(last).await.expect("settled");
            assert_eq!(heard.get(), PACKETS);
            assert!(lost > 2, "{lost} links were lost");
            while cuts.get() < CUTS {
                clock.sleep(Duration::from_millis(10)).await;
            }
        });
    }
}

#[test]
fn a_backend_that_begins_again_gets_the_picture_with_its_notes_and_a_mark() {
    let mut setup = Setup::granting(Chaos::NONE);
    let mut first = setup.asking();
    for seed in 1..=3 {
        let mut client = setup.client_of(seed, BOTH[usize::from(seed) % 2]);
        setup.world.spawn(async move {
            client.send([seed]).await.expect("sent");
            while client.recv().await.is_some() {}
        });
    }
    let listener = MemoryListener(setup.backend.clone());
    let timer = setup.world.clock.timer();
    let clock = setup.world.clock.clone();
    setup.world.run(async {
        let mut ids = Vec::new();
        while ids.len() < 3 {
            let (id, data) = speaks(&mut first).await;
            first.set_note(id, &format!("user {}", data[0]));
            ids.push((id, format!("user {}", data[0])));
        }
        // What was told is acknowledged, and what was noted has left.
        for _ in 0..5 {
            assert!(first.try_recv().is_none());
            clock.sleep(Duration::from_millis(20)).await;
        }
        drop(first);
        let means = Means::new(listener, timer, [6; 32]);
        let mut options = Options::default();
        options.asks = true;
        let mut second = Backend::begin(options, means).expect("options");
        granted(&mut second, 3).await;
        let mut again = Vec::new();
        for _ in 0..3 {
            match next(&mut second).await {
                Event::Joined(joined) => {
                    assert!(joined.again);
                    again.push((joined.id, joined.note));
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(next(&mut second).await, Event::CaughtUp { .. }));
        again.sort();
        ids.sort();
        assert_eq!(again, ids);
        let id = ids[0].0;
        let sent = second.send(id, "hello again").await.expect("sent");
        second.acknowledged(sent).await.expect("settled");
    });
}

#[test]
fn groups_and_classes_work_for_clients_of_both_versions() {
    let mut setup = Setup::granting(CUT);
    let mut backend = setup.asking();
    let heard: Vec<Heard> = (1..=4)
        .map(|seed| {
            let mut client = setup.client_of(seed, BOTH[usize::from(seed) % 2]);
            let heard = Heard::default();
            let hears = Heard::clone(&heard);
            setup.world.spawn(async move {
                client.send([seed]).await.expect("sent");
                while let Some(event) = client.recv().await {
                    if let client::Event::Packet { data, .. } = event {
                        hears.borrow_mut().push(data);
                    }
                }
            });
            heard
        })
        .collect();
    setup.world.run(async {
        let red = backend.group("red");
        let mut ids = [None; 4];
        for _ in 0..4 {
            let (id, data) = speaks(&mut backend).await;
            ids[usize::from(data[0]) - 1] = Some(id);
        }
        let ids = ids.map(|id| id.expect("it has spoken"));
        for &id in &ids[..3] {
            backend.add(red, id).await.expect("a member");
        }
        backend
            .send(red.without(ids[0]), "to two")
            .await
            .expect("sent");
        backend
            .send_latest(voltlane_driver::backend::Everyone, 1, "state")
            .await
            .expect("sent");
        backend.remove(red, ids[1]).await.expect("removed");
        backend.send(red, "to the others").await.expect("sent");
        for id in ids {
            let last = backend.send(id, "end").await.expect("sent");
            backend.acknowledged(last).await.expect("settled");
        }
        let all: [&[&[u8]]; 4] = [
            &[b"state", b"to the others", b"end"],
            &[b"to two", b"state", b"end"],
            &[b"to two", b"state", b"to the others", b"end"],
            &[b"state", b"end"],
        ];
        for (heard, expected) in heard.iter().zip(all) {
            assert_eq!(*heard.borrow(), expected);
        }
    });
}

/// The edge tells what is settled at most every 20 ms, and the end of the session at once.
#[test]
fn what_was_acknowledged_right_before_the_end_counts() {
    for versions in BOTH {
        let mut setup = Setup::granting(Chaos::NONE);
        let mut backend = setup.asking();
        let mut client = setup.client_of(1, versions);
        setup.world.spawn(async move {
            while let Some(event) = client.recv().await {
                if let client::Event::Packet { data, .. } = event
                    && data == b"done"
                {
                    client.send("done").await.expect("sent");
                }
            }
        });
        setup.world.run(async {
            granted(&mut backend, 0).await;
            assert!(matches!(next(&mut backend).await, Event::CaughtUp { .. }));
            let id = joins(&mut backend).await;
            let first = backend.send(id, "a").await.expect("sent");
            let last = backend.send(id, "done").await.expect("sent");
            assert!(matches!(next(&mut backend).await, Event::Packet { .. }));
            let handle = backend.handle();
            assert_eq!(backend.settled(id), 0, "it was not told yet");
            backend.kick(id, 600, "").await.expect("a kick");
            let end = match next(&mut backend).await {
                Event::Ended { end, .. } => end,
                other => panic!("{other:?}"),
            };
            assert_eq!(backend.settled(id), end.ledgers.down.settled());
            handle.acknowledged(first).await.expect("the end told it");
            // The client answered before it came back from this one.
            let is_certain = end.ledgers.down.acknowledged == last.number;
            assert_eq!(handle.acknowledged(last).await.is_ok(), is_certain);
            let late = backend.send(id, "x").await.expect("no error");
            handle
                .acknowledged(late)
                .await
                .expect_err("nothing was sent");
        });
    }
}
