//! The link to the backend.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use voltlane_core::edge::EdgeConfig;
use voltlane_core::link::tagged::Flag;
use voltlane_driver::Stream as _;

use super::{CUT, Setup, join, setup};
use crate::support::{BackendPeer, Chaos, ClientPeer};

#[test]
fn clients_wait_for_a_backend_that_is_not_there_and_nothing_is_lost() {
    let mut config = EdgeConfig::default();
    config.master.channel_capacity = 4;
    let Setup {
        mut world,
        clients,
        mut listener,
        clock,
        ..
    } = setup(config, CUT);
    let backend = listener.0.clone();
    backend.refuse(true);
    let sent = Rc::new(Cell::new(0_u32));
    for seed in 1..=3 {
        let stream = clients.dial(500, Chaos { seed, ..CUT });
        let sent = Rc::clone(&sent);
        world.spawn(async move {
            let mut client = ClientPeer::join(stream).await.expect("joined");
            for number in 0..50_u32 {
                client
                    .send(&[&number.to_le_bytes()[..], &[0; 100]].concat())
                    .await
                    .expect("sent");
                sent.set(sent.get() + 1);
            }
            // Stays: an end of the connection would be another story.
            std::future::pending::<()>().await;
        });
    }
    world.run(async {
        clock.sleep(Duration::from_secs(8)).await;
        assert!(
            sent.get() < 60,
            "{} packets went nowhere: clients are read though the link is full",
            sent.get()
        );
        backend.refuse(false);
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut next = std::collections::BTreeMap::new();
        for _ in 0..150 {
            let (id, flag, data) = link.recv().await.expect("received").expect("a packet");
            assert_eq!(flag, Flag::Data);
            let expected: &mut u32 = next.entry(id).or_default();
            assert_eq!(data[..4], expected.to_le_bytes(), "in order, once");
            *expected += 1;
        }
        assert_eq!(next.into_values().collect::<Vec<_>>(), [50, 50, 50]);
    });
}

#[cfg(feature = "figures")]
#[test]
fn the_time_for_which_packets_wait_for_the_link_is_counted() {
    let Setup {
        mut world,
        clients,
        mut listener,
        clock,
        waits,
        ..
    } = super::start(EdgeConfig::default(), Chaos::NONE, 2_000, &[]);
    world.run(async {
        let mut link = BackendPeer::accept(&mut listener).await;
        let mut client = join(&clients).await;
        client.send(b"at once").await.expect("sent");
        link.recv().await.expect("received");
        super::settle(&clock).await;
        assert_eq!(waits.borrow().count(), 0);
        for _ in 0..10 {
            client.send(&[7; 1_000]).await.expect("sent");
        }
        clock.sleep(Duration::from_millis(300)).await;
        assert_eq!(waits.borrow().count(), 0, "they wait still");
        for _ in 0..10 {
            link.recv().await.expect("received");
        }
        super::settle(&clock).await;
        let waits = waits.borrow();
        assert_eq!(waits.count(), 1);
        let millis = waits.sum().as_millis();
        assert!((299..=302).contains(&millis), "{millis} ms");
    });
}

#[test]
fn a_lost_link_is_dialled_again_and_clients_stay() {
    let Setup {
        mut world,
        clients,
        mut listener,
        ..
    } = setup(EdgeConfig::default(), Chaos::NONE);
    world.run(async {
        let mut client = None;
        for round in 0..5_u8 {
            let mut link = BackendPeer::accept(&mut listener).await;
            let client = match &mut client {
                Some(client) => client,
                empty => empty.insert(join(&clients).await),
            };
            client.send(&[round]).await.expect("sent");
            assert_eq!(
                link.recv().await.expect("received"),
                Some((client.id, Flag::Data, vec![round]))
            );
            // By turns in order and by force.
            if round % 2 == 0 {
                drop(link)
            } else {
                link.frames.stream.abort()
            }
        }
    });
}
