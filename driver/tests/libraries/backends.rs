//! The backend library, as its application sees it.

use voltlane_driver::backend;
use voltlane_driver::client::{Code, Event, Versions};

use super::{CUT, Setup, connected, healing, options, packet};

#[test]
fn a_kick_ends_a_client_for_good() {
    for (versions, code) in [(Versions::V2, Code::GONE), (Versions::V3, Code::KICKED)] {
        let mut setup = Setup::with(CUT, healing());
        let mut backend = setup.backend();
        let mut client = setup.client_with(1, options(versions), CUT);
        setup.world.spawn(async move {
            while let Some(event) = backend.recv().await {
                match event {
                    backend::Event::Packet { id, data, .. } if data == b"end me" => {
                        backend.send(id, b"as you wish").await.expect("sent");
                        backend.kick(id, 401, "").await.expect("a kick");
                    }
                    backend::Event::Ended { end, .. } => assert_eq!(end.code, Code::KICKED),
                    backend::Event::Packet { .. } | backend::Event::Resumed { .. } => {
                        panic!("it is gone")
                    }
                    _ => {}
                }
            }
        });
        setup.world.run(async {
            connected(&mut client).await;
            client.send(b"end me").await.expect("sent");
            assert_eq!(packet(&mut client).await, b"as you wish");
            let mut drops = 0;
            let end = loop {
                match client.recv().await {
                    Some(Event::Dropped { .. }) => drops += 1,
                    Some(Event::Ended { end, .. }) => break end,
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(end.code, code);
            // In version 2, challenges that cannot be met look like an edge under attack at first, so the client retries a few times.
            match versions {
                Versions::V2 => assert!((1..10).contains(&drops), "dropped {drops} times"),
                _ => assert_eq!(drops, 0),
            }
        });
    }
}
