//! What a client does with a transport that holds bytes, as TLS does: it takes a whole write and keeps what the socket has no room for.

use voltlane_driver::backend;
use voltlane_driver::client::{Client, Versions};

use super::{BOTH, Setup, connected, packet};
use crate::support::{Chaos, HoldingConnector};

fn holding(setup: &Setup, versions: Versions) -> Client {
    let connector = HoldingConnector {
        place: setup.clients.clone(),
        capacity: 128,
    };
    setup.client_over(connector, versions)
}

#[test]
fn what_a_transport_holds_goes_without_another_write() {
    for versions in BOTH {
        let mut setup = Setup::new(Chaos::NONE);
        setup.echoes();
        let mut client = holding(&setup, versions);
        setup.world.run(async {
            connected(&mut client).await;
            for length in [1, 1_000, 50_000] {
                let data = vec![7; length];
                client.send(&data).await.expect("sent");
                assert_eq!(packet(&mut client).await, data);
            }
        });
    }
}

#[test]
fn a_flush_waits_for_what_a_transport_holds() {
    for versions in BOTH {
        let mut setup = Setup::new(Chaos::NONE);
        let mut backend = setup.backend();
        let mut client = holding(&setup, versions);
        setup.world.run(async {
            connected(&mut client).await;
            client.send([7; 50_000]).await.expect("sent");
            client.flush().await.expect("it has gone");
            // What the transport held would go with it.
            drop(client);
            loop {
                if let Some(backend::Event::Packet { data, .. }) = backend.recv().await {
                    assert_eq!(data, [7; 50_000]);
                    break;
                }
            }
        });
    }
}
