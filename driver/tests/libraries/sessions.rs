//! The life of a session, as its application sees it.

use std::rc::Rc;
use std::time::Duration;

use voltlane_core::edge::EdgeConfig;
use voltlane_driver::backend;
use voltlane_driver::client::{
    Client, ClientConfig, Code, ConnectError, Event, Means, SavedSession, SendError, Version,
    Versions, Why,
};

use super::{
    BOTH, CUT, Count, Notes, Setup, any_packet, boxed, connected, connector, entropy, healing,
    means, options, packet, version,
};
use crate::support::{Chaos, Place, World};

#[test]
fn packets_go_round_however_the_streams_cut_and_stall() {
    for versions in BOTH {
        let mut setup = Setup::new(CUT);
        setup.echoes();
        let done = Count::default();
        for seed in 1..=8 {
            let chaos = Chaos {
                seed: u64::from(seed) * 99,
                ..CUT
            };
            let mut client = setup.client_with(seed, options(versions), chaos);
            let done = done.clone();
            setup.world.spawn(async move {
                connected(&mut client).await;
                assert_eq!(client.version(), version(versions));
                for number in 0..60_usize {
                    let data = vec![number as u8 ^ seed; number * number * 11 % 20_000];
                    let sent = client.send(&data).await.expect("sent");
                    assert_eq!(sent.number, number as u64 + 1);
                    assert_eq!(packet(&mut client).await, data);
                }
                let end = client.close().await;
                assert_eq!(end.code, Code::GOODBYE);
                done.add();
            });
        }
        let clock = setup.world.clock.clone();
        setup.world.run(done.reaches(8, &clock));
    }
}

#[test]
fn a_dropped_client_comes_back_as_itself_with_all_that_was_sent() {
    for versions in BOTH {
        let mut setup = Setup::new(Chaos::NONE);
        let mut client = setup.client(1, versions);
        setup.echoes();
        setup.world.run(async {
            let id = connected(&mut client).await;
            for round in 0..10_u8 {
                client.send(&[round]).await.expect("sent");
                assert_eq!(packet(&mut client).await, [round]);
                client.drop_connection();
                client.send(b"while away").await.expect("it is kept");
                match client.recv().await {
                    Some(Event::Dropped { cause, .. }) => assert_eq!(cause.why(), Why::Local),
                    other => panic!("{other:?}"),
                }
                assert!(matches!(client.recv().await, Some(Event::Resumed { .. })));
                assert_eq!(any_packet(&mut client).await, b"while away");
                assert_eq!(client.id(), id);
            }
        });
    }
}

/// What was on its way when a connection was lost arrives once, in both directions.
#[test]
fn nothing_is_lost_or_doubled_in_version_3() {
    const PACKETS: u32 = 2_000;
    let mut setup = Setup::new(CUT);
    let mut client = setup.client_with(1, options(Versions::V3), CUT);
    let sender = client.sender();
    let clock = setup.world.clock.clone();
    setup.echoes();
    setup.world.spawn({
        let (sender, clock) = (client.sender(), clock.clone());
        async move {
            for number in 0..PACKETS {
                sender.send(number.to_le_bytes()).await.expect("sent");
                if number % 10 == 0 {
                    clock.sleep(Duration::from_millis(2)).await;
                }
            }
        }
    });
    setup.world.spawn(async move {
        loop {
            clock.sleep(Duration::from_millis(30)).await;
            sender.drop_connection();
        }
    });
    setup.world.run(async {
        let mut resumed = 0;
        let mut next = 0_u32;
        while next < PACKETS {
            match client.recv().await {
                Some(Event::Packet { data, number, .. }) => {
                    assert_eq!(data, next.to_le_bytes());
                    next += 1;
                    assert_eq!(number, u64::from(next));
                }
                Some(Event::Resumed { .. }) => resumed += 1,
                Some(Event::Ended { end, .. }) => panic!("{end}"),
                Some(_) => {}
                None => panic!("over"),
            }
        }
        assert!(resumed >= 2, "{resumed} resumes");
    });
}

#[test]
fn a_resume_tells_what_was_missed_and_when_it_has_come() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut client = setup.client(1, Versions::V3);
    let mut backend = setup.backend();
    let (clock, place) = (setup.world.clock.clone(), setup.clients.clone());
    let answers_at = clock.clone();
    setup.world.spawn(async move {
        loop {
            if let Some(backend::Event::Packet { id, .. }) = backend.recv().await {
                // The client is away by then.
                answers_at.sleep(Duration::from_millis(20)).await;
                for number in 0..3 {
                    backend.send(id, &[number]).await.expect("sent");
                }
            }
        }
    });
    setup.world.run(async {
        connected(&mut client).await;
        client.send(b"go").await.expect("sent");
        clock.sleep(Duration::from_millis(5)).await;
        place.refuse(true);
        client.drop_connection();
        assert!(matches!(client.recv().await, Some(Event::Dropped { .. })));
        clock.sleep(Duration::from_millis(50)).await;
        place.refuse(false);
        let mut heard = Vec::new();
        let (mut missed, mut at) = (None, None);
        while heard.len() < 3 || at.is_none() {
            match client.recv().await {
                Some(Event::Dropped { .. }) => {}
                Some(Event::Resumed { missed: told, .. }) => missed = Some(told),
                Some(Event::Packet { data, .. }) => heard.extend(data),
                Some(Event::CaughtUp { .. }) => at = Some(heard.len()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(heard, [0, 1, 2]);
        assert_eq!((missed, at), (Some(3), Some(3)));
    });
}

#[test]
fn a_goodbye_says_that_everything_arrived() {
    let mut setup = Setup::new(CUT);
    let mut client = setup.client_with(1, options(Versions::V3), CUT);
    let mut backend = setup.backend();
    let heard: Notes<Vec<u8>> = Rc::default();
    let (hears, clock) = (Rc::clone(&heard), setup.world.clock.clone());
    setup.world.spawn(async move {
        loop {
            if let Some(backend::Event::Packet { data, .. }) = backend.recv().await {
                hears.borrow_mut().push(data);
            }
        }
    });
    setup.world.run(async {
        connected(&mut client).await;
        for number in 0..500_u32 {
            client.send(number.to_le_bytes()).await.expect("sent");
        }
        let end = client.close().await;
        assert_eq!((end.code, end.text.as_str()), (Code::GOODBYE, ""));
        let up = end.ledgers.up;
        assert_eq!((up.numbered, up.acknowledged), (500, 500));
        // They are in the edge's queue for the backend, at least.
        while heard.borrow().len() < 500 {
            clock.sleep(Duration::from_millis(1)).await;
        }
        // Over is over.
        assert!(matches!(client.send(b"x").await, Err(SendError::Ended(_))));
        assert_eq!(client.flush().await, Ok(()));
        assert_eq!(client.close().await.code, Code::GOODBYE);
    });
}

#[test]
fn a_session_ends_once_with_its_code() {
    for (versions, code) in [(Versions::V2, Code::GONE), (Versions::V3, Code::KICKED)] {
        let mut setup = Setup::new(Chaos::NONE);
        let mut client = setup.client(1, versions);
        let mut backend = setup.backend();
        setup.world.spawn(async move {
            loop {
                if let Some(backend::Event::Packet { id, .. }) = backend.recv().await {
                    backend.kick(id, 401, "").await.expect("a kick");
                }
            }
        });
        setup.world.run(async {
            let id = connected(&mut client).await;
            let sent = client.send(b"kick").await.expect("sent");
            let end = loop {
                match client.recv().await {
                    Some(Event::Dropped { .. }) => {}
                    Some(Event::Ended { end, .. }) => break end,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(end.code, code);
            assert!(client.recv().await.is_none());
            assert!(client.recv().await.is_none());
            assert_eq!(client.send(b"x").await, Err(SendError::Ended(end.clone())));
            assert_eq!(client.room().await, Err(end.clone()));
            // The backend has it, and the end tells so.
            client.acknowledged(sent).await.expect("it arrived");
            assert_eq!(client.settled(), sent.number);
            client.flush().await.expect("so did all");
            // A kick tells a client to stop. Version 2 cannot tell that from an expiry.
            assert_eq!(client.start_over(), versions == Versions::V2);
            if versions == Versions::V2 {
                assert_ne!(connected(&mut client).await, id);
                assert!(client.acknowledged(sent).await.is_ok());
            }
        });
    }
}

#[test]
fn a_saved_session_is_resumed_by_another_process() {
    let mut setup = Setup::new(Chaos::NONE);
    let mut backend = setup.backend();
    let mut first = setup.client(1, Versions::V2);
    let means = setup.means(2, Chaos::NONE);
    let heard: Notes<String> = Rc::default();
    let hears = Rc::clone(&heard);
    setup.world.spawn(async move {
        while let Some(event) = backend.recv().await {
            let heard = match event {
                backend::Event::Packet { id, data, .. } => {
                    format!("{id} says {}", String::from_utf8_lossy(&data))
                }
                backend::Event::Joined(new) => format!("{} is here", new.id),
                backend::Event::Resumed { id, .. } => format!("{id} is back"),
                other => format!("{other:?}"),
            };
            hears.borrow_mut().push(heard);
        }
    });
    setup.world.run(async {
        let id = connected(&mut first).await;
        first.send(b"one").await.expect("sent");
        let mut options = options(Versions::V2);
        options.saved = first.saved_session();
        assert!(options.saved.is_some(), "there is a session");
        first.close().await;
        let mut second = Client::begin(options, means).expect("options that can be");
        assert!(matches!(second.recv().await, Some(Event::Resumed { .. })));
        assert_eq!(second.id(), id);
        second.send(b"two").await.expect("sent");
        second.close().await;
        let expected = ["is here", "says one", "is back", "says two"];
        let expected = expected.map(|what| format!("{id} {what}"));
        assert_eq!(heard.borrow()[1..], expected);
    });
}

#[test]
fn a_client_starts_over_by_itself_if_it_may() {
    for versions in BOTH {
        let mut config = healing();
        config.clients.stale_timeout = Duration::from_secs(1);
        config.clients.stale_reap_interval = Duration::ZERO;
        let mut setup = Setup::with(Chaos::NONE, config);
        let mut options = options(versions);
        options.start_over = true;
        let mut client = setup.client_with(1, options, Chaos::NONE);
        setup.echoes();
        let (clock, place) = (setup.world.clock.clone(), setup.clients.clone());
        setup.world.run(async {
            let id = connected(&mut client).await;
            let before = client.send(b"before").await.expect("sent");
            assert_eq!(packet(&mut client).await, b"before");
            place.refuse(true);
            client.drop_connection();
            let lost = client.send(b"lost").await.expect("it is kept");
            assert!(matches!(client.recv().await, Some(Event::Dropped { .. })));
            clock.sleep(Duration::from_secs(2)).await;
            place.refuse(false);
            let end = loop {
                match client.recv().await {
                    Some(Event::Dropped { .. }) => {}
                    Some(Event::Ended { end, .. }) => break end,
                    other => panic!("{other:?}"),
                }
            };
            assert!(end.code == Code::GONE || end.code == Code::EXPIRED, "{end}");
            assert_ne!(connected(&mut client).await, id);
            let again = client.send(b"again").await.expect("sent");
            assert_eq!((again.session, again.number), (2, 1));
            assert_eq!(packet(&mut client).await, b"again");
            assert_eq!(client.acknowledged(before).await, Ok(()));
            assert_eq!(client.acknowledged(lost).await, Err(end));
            assert_eq!(client.acknowledged(again).await, Ok(()));
        });
    }
}

#[test]
fn a_goodbye_begins_no_other_session_whatever_the_edge_answers() {
    for versions in BOTH {
        let mut config = healing();
        config.clients.stale_timeout = Duration::from_secs(1);
        config.clients.stale_reap_interval = Duration::ZERO;
        let mut setup = Setup::with(Chaos::NONE, config);
        let mut options = options(versions);
        options.start_over = true;
        let mut client = setup.client_with(1, options, Chaos::NONE);
        setup.echoes();
        let (clock, place) = (setup.world.clock.clone(), setup.clients.clone());
        setup.world.run(async {
            let id = connected(&mut client).await;
            place.refuse(true);
            client.drop_connection();
            assert!(matches!(client.recv().await, Some(Event::Dropped { .. })));
            // The edge forgets the session.
            clock.sleep(Duration::from_secs(2)).await;
            place.refuse(false);
            client.close().await;
            while let Some(event) = client.recv().await {
                assert!(!matches!(event, Event::Connected { .. }), "{event:?}");
            }
            assert_eq!(client.id(), id);
            assert!(client.send(b"more").await.is_err());
        });
    }
}

#[test]
fn who_reaches_no_edge_is_told_why_after_a_while() {
    for versions in BOTH {
        let mut world = World::default();
        let place = Place::default();
        place.refuse(true);
        let clock = world.clock.clone();
        let mut options = options(versions);
        options.give_up_after = Some(Duration::from_secs(30));
        let means = means(&place, &clock, 1, Chaos::NONE);
        let error = world
            .run(Client::connect(options, means))
            .expect_err("nobody is there");
        match error {
            ConnectError::Unreachable { last, .. } => {
                assert_eq!(last.why(), Why::ConnectFailed);
                let why = last.io_error().expect("the system says why").kind();
                assert_eq!(why, std::io::ErrorKind::ConnectionRefused);
            }
            other => panic!("{other:?}"),
        }
        let waited = clock.now().since(voltlane_core::Time::ZERO);
        assert!(waited >= Duration::from_secs(30) && waited < Duration::from_secs(36));
    }
}

#[test]
fn an_option_that_cannot_be_is_refused_at_once() {
    let world = World::default();
    let place = Place::default();
    let config = |change: fn(&mut voltlane_driver::client::Options)| {
        let mut options = options(Versions::V3);
        change(&mut options);
        let means = means(&place, &world.clock, 1, Chaos::NONE);
        match Client::begin(options, means) {
            Err(ConnectError::Config(says)) => says,
            other => panic!("{other:?}"),
        }
    };
    let says = config(|options| options.token = Some(b"ticket".to_vec()));
    assert!(says.contains("pin its key"), "{says}");
    let says = config(|options| {
        options.config = options.config.clone().with_trust_first_use(true);
        options.token = Some(vec![0; 4_097]);
    });
    assert!(says.contains("4097 bytes, 4096 allowed"), "{says}");
    let says = config(|options| options.tick = Some(Duration::ZERO));
    assert!(says.contains("every 0 s"), "{says}");
    let says = config(|options| options.saved = Some(saved()));
    assert!(says.contains("one of version 2"), "{says}");
}

/// The base point of secp256k1, compressed. (SEC 2, 2.4.1)
const GENERATOR: [u8; 33] = [
    0x02, 0x79, 0xbe, 0x66, 0x7e, 0xf9, 0xdc, 0xbb, 0xac, 0x55, 0xa0, 0x62, 0x95, 0xce, 0x87, 0x0b,
    0x07, 0x02, 0x9b, 0xfc, 0xdb, 0x2d, 0xce, 0x28, 0xd9, 0x59, 0xf2, 0x81, 0x5b, 0x16, 0xf8, 0x17,
    0x98,
];

/// A saved session as its file has it: of nobody, under the private key 1.
fn saved() -> SavedSession {
    let mut bytes = [0; 74];
    (bytes[0], bytes[40]) = (1, 1);
    bytes[41..].copy_from_slice(&GENERATOR);
    SavedSession::from_bytes(&bytes).expect("a session")
}

#[test]
fn a_config_that_names_no_version_leaves_version_3_first() {
    let mut setup = Setup::with(Chaos::NONE, healing());
    let mut options = options(Versions::V2);
    options.config = ClientConfig::default().with_padding(true);
    let mut client = setup.client_with(1, options, Chaos::NONE);
    setup.echoes();
    setup.world.run(async {
        connected(&mut client).await;
        assert_eq!(client.version(), Version::V3);
    });
}

#[test]
fn another_address_is_tried_where_one_leads_nowhere() {
    let mut setup = Setup::new(Chaos::NONE);
    let nowhere = Place::default();
    nowhere.refuse(true);
    let timer = setup.world.clock.timer();
    let means = Means::new(connector(&nowhere, Chaos::NONE), timer, entropy(1));
    let means = means.or(boxed(&setup.clients)).or(boxed(&nowhere));
    let connecting = Client::connect(options(Versions::V3), means);
    let mut client = setup.world.run(connecting).expect("one of them is right");
    setup.world.run(async {
        assert!(matches!(client.recv().await, Some(Event::Dropped { .. })));
        connected(&mut client).await;
        // An address that leads somewhere is kept.
        client.drop_connection();
        assert!(matches!(client.recv().await, Some(Event::Dropped { .. })));
        assert!(matches!(client.recv().await, Some(Event::Resumed { .. })));
    });
}

#[test]
fn a_volatile_packet_goes_now_or_not_at_all() {
    for versions in BOTH {
        let mut setup = Setup::new(Chaos::NONE);
        let mut client = setup.client(1, versions);
        setup.echoes();
        setup.world.run(async {
            assert_eq!(client.send_volatile(b"too early"), Ok(false));
            connected(&mut client).await;
            assert_eq!(client.send_volatile(b"now"), Ok(true));
            assert_eq!(packet(&mut client).await, b"now");
            client.drop_connection();
            assert_eq!(client.send_volatile(b"too late"), Ok(false));
            let length = client.max_packet() + 1;
            let too_long = client.send_volatile(vec![0; length]);
            assert!(matches!(too_long, Err(SendError::TooLong { .. })));
        });
    }
}

#[test]
fn a_token_and_a_pinned_key_are_of_no_hindrance_and_another_key_is() {
    let mut setup = Setup::new(Chaos::NONE);
    setup.echoes();
    let first = setup.client(1, Versions::V3);
    let key = setup.world.run(async {
        first.send(b"x").await.expect("sent");
        first.flush().await.expect("the edge has it");
        first.edge_key().expect("it has proven one")
    });
    let pinned = |key| {
        let mut options = options(Versions::V3OrV2);
        options.config = options.config.with_edge_key(key);
        options.token = Some(b"ticket 7".to_vec());
        options
    };
    let second = Client::connect(pinned(key), setup.means(2, Chaos::NONE));
    let second = setup.world.run(second).expect("the key is right");
    assert!(second.is_connected());
    let other = voltlane_core::keys::KeyPair::from_bytes(&[5; 32]).expect("a key");
    let third = Client::connect(pinned(other.public()), setup.means(3, Chaos::NONE));
    match setup.world.run(third) {
        Err(ConnectError::Ended(end)) => assert_eq!(end.code, Code::OTHER_EDGE),
        other => panic!("{other:?}"),
    }
}

/// An edge of before version 3 closes without a byte when that is named.
#[test]
fn a_client_of_both_versions_comes_to_an_edge_of_either() {
    for (offered, expected) in [(&[2][..], Versions::V2), (&[2, 3], Versions::V3)] {
        let mut config = EdgeConfig::default();
        config.listener.versions =
            voltlane_core::protocol::OfferedVersions::new(offered).expect("versions");
        let mut setup = Setup::with(Chaos::NONE, config);
        let connecting = Client::connect(options(Versions::V3OrV2), setup.means(1, Chaos::NONE));
        let client = setup.world.run(connecting).expect("they agree");
        assert_eq!(client.version(), version(expected));
    }
}

/// The process was suspended, or the application computed for long and polled nothing. What came meanwhile counts.
#[test]
fn a_client_that_stood_still_keeps_a_connection_that_brought_something() {
    for versions in BOTH {
        let mut setup = Setup::new(Chaos::NONE);
        let clock = setup.world.clock.clone();
        let mut client = setup.client(1, versions);
        setup.echoes();
        setup.world.run(async {
            connected(&mut client).await;
            for round in 0..3 {
                client.send(&[round]).await.expect("sent");
                // The echo arrives before the silence begins that is longer than any connection of version 3 may have.
                clock.sleep(Duration::from_millis(10)).await;
                clock.stand_still(Duration::from_secs(180));
                // No event says that the connection was dropped.
                assert_eq!(packet(&mut client).await, [round], "{versions:?}");
            }
        });
    }
}

/// The application has a packet of a session that is over, and comes back for more when another one has begun.
#[test]
fn a_packet_of_a_former_session_acknowledges_none_of_the_next() {
    let mut config = healing();
    config.clients.stale_timeout = Duration::from_secs(1);
    config.clients.stale_reap_interval = Duration::ZERO;
    let mut setup = Setup::with(Chaos::NONE, config);
    let mut options = options(Versions::V3);
    options.start_over = true;
    let mut client = setup.client_with(1, options, Chaos::NONE);
    setup.echoes();
    let (clock, place) = (setup.world.clock.clone(), setup.clients.clone());
    setup.world.run(async {
        connected(&mut client).await;
        for n in 0..3 {
            client.send([n]).await.expect("sent");
            assert_eq!(packet(&mut client).await, [n]);
        }
        // The third one is lent now.
        place.refuse(true);
        client.drop_connection();
        let lost = client.send(b"lost").await.expect("it is kept");
        clock.sleep(Duration::from_secs(2)).await;
        place.refuse(false);
        client.acknowledged(lost).await.expect_err("it is over");
        // Packets of the next session come while nobody receives.
        while client.ledger().down.numbered < 3 {
            match client.send(b"again").await {
                Ok(_) => client.flush().await.expect("it goes on"),
                Err(_) => clock.sleep(Duration::from_millis(50)).await,
            }
        }
        let first = client.recv().await;
        assert!(matches!(first, Some(Event::Ended { .. })), "{first:?}");
        assert_eq!(client.ledger().down.acknowledged, 0);
        while !matches!(client.recv().await, Some(Event::Connected { .. })) {}
        assert_eq!(packet(&mut client).await, b"again");
        assert_eq!(client.ledger().down.acknowledged, 0);
        assert_eq!(packet(&mut client).await, b"again");
        assert_eq!(client.ledger().down.acknowledged, 1);
    });
}

#[test]
fn a_token_is_asked_for_before_each_attempt_to_join_and_not_to_come_back() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    let mut setup = Setup::new(Chaos::NONE);
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let means = setup.means(1, Chaos::NONE).with_token(move || {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        async move { format!("ticket {number}").into_bytes() }
    });
    let mut options = options(Versions::V3);
    options.config = options.config.with_trust_first_use(true);
    setup.echoes();
    let (place, clock) = (setup.clients.clone(), setup.world.clock.clone());
    place.refuse(true);
    let mut client = Client::begin(options.clone(), means).expect("options that can be");
    setup.world.run(async {
        for _ in 0..3 {
            assert!(matches!(client.recv().await, Some(Event::Dropped { .. })));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        place.refuse(false);
        connected(&mut client).await;
        assert_eq!(asked.load(Ordering::Relaxed), 4);
        client.send(b"joined").await.expect("sent");
        assert_eq!(packet(&mut client).await, b"joined");
        client.drop_connection();
        client.send(b"back").await.expect("sent");
        assert_eq!(any_packet(&mut client).await, b"back");
        assert_eq!(asked.load(Ordering::Relaxed), 4, "it came back");
    });
    // To an edge that nobody knows goes no token, whoever makes it.
    let mut unknown = options;
    unknown.config = unknown.config.with_trust_first_use(false);
    let to_unknown = super::means(&place, &clock, 1, Chaos::NONE);
    let refused = Client::begin(unknown, to_unknown.with_token(|| async { Vec::new() }));
    assert!(matches!(refused, Err(ConnectError::Config(_))));
}

#[test]
fn nothing_is_connected_while_a_token_is_asked_for() {
    let mut setup = Setup::new(Chaos::NONE);
    setup.echoes();
    let clock = setup.world.clock.clone();
    let means = setup.means(1, Chaos::NONE).with_token(move || {
        let clock = clock.clone();
        async move {
            clock.sleep(Duration::from_secs(30)).await;
            b"at last".to_vec()
        }
    });
    let mut options = options(Versions::V3);
    options.config = options.config.with_trust_first_use(true);
    options.give_up_after = None;
    let clock = setup.world.clock.clone();
    let mut client = Client::begin(options, means).expect("options that can be");
    setup.world.run(async {
        let begun = clock.now();
        // The attempt is given up in its time, and the question stays.
        assert!(matches!(client.recv().await, Some(Event::Dropped { .. })));
        while !matches!(client.recv().await, Some(Event::Connected { .. })) {}
        let took = clock.now().since(begun);
        assert!(took >= Duration::from_secs(30) && took < Duration::from_secs(40));
        client.send(b"x").await.expect("sent");
        assert_eq!(packet(&mut client).await, b"x");
    });
}
