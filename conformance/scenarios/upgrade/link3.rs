//! An upgrade with a link of version 3, which each process opens anew, and which goes on behind its counts. (SPEC 41.1(e), 37.3)

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use conformance::several::{Library, Serving, close, serve_several, wait_for};
use voltlane_core::ClientId;
use voltlane_driver::backend::{BackendHandle, Event};

use super::*;

const CLIENTS: usize = 24;
const UPGRADES: usize = 3;
const TO_ALL: &[u8] = b"to all of them";

/// What a backend has seen when it is closed.
#[derive(Default)]
struct Seen {
    /// The next number of each client.
    next: BTreeMap<ClientId, u64>,
    links: usize,
    /// What happened otherwise, until the clients were sent the last packet.
    others: Vec<String>,
}

/// Sends each packet back, and has each client in a group. Each packet must have the next number of its client.
fn answer(handle: &BackendHandle, events: &Receiver<Event>, has_ended: &AtomicBool) -> Seen {
    let group = handle.group("all");
    let mut seen = Seen::default();
    for event in events {
        match event {
            Event::Packet { id, data, .. } => {
                let number = u64::from_le_bytes(data[..].try_into().expect("a number"));
                let next = seen.next.entry(id).or_default();
                assert_eq!(number, *next, "the next packet of {id}");
                *next += 1;
                handle.try_send(id, &data).expect("room");
            }
            Event::Joined(new) => {
                wait_for(handle.add(group, new.id)).expect("room");
            }
            Event::EdgeConnected { .. } => seen.links += 1,
            Event::EdgeLost { .. } => {}
            // The clients leave.
            Event::Away { .. } if has_ended.load(Ordering::Relaxed) => {}
            other => seen.others.push(format!("{other:?}")),
        }
    }
    seen
}

fn upgrades_with_a_link_of_version_3(library: Library, shards: u8, protocol: &str) {
    let Serving {
        address,
        handle,
        events,
        thread,
    } = serve_several(library, 1);
    let (own, has_ended) = (handle.clone(), Arc::new(AtomicBool::new(false)));
    let answering: JoinHandle<Seen> = {
        let has_ended = Arc::clone(&has_ended);
        thread::spawn(move || answer(&own, &events, &has_ended))
    };
    let mut place = Place::new(shards);
    place.master = address;
    place.configure(shards, &format!("master.protocol = \"{protocol}\"\n"));
    let edge = Edge::spawn(place.command(&[]));
    let to_all = || {
        let group = handle.group("all");
        assert_eq!(handle.members(group).len(), CLIENTS);
        has_ended.store(true, Ordering::Relaxed);
        wait_for(handle.send(group, TO_ALL)).expect("room");
    };
    let packets = upgrades_and_then(&place, &edge, (CLIENTS, UPGRADES), &[TO_ALL], to_all);
    let asked = edge.log();
    let asked = asked.lines();
    let asked = asked.filter(|line| line.contains("the backend asked for version 3 of the link"));
    let asked: Vec<&str> = asked.collect();
    assert_eq!(asked.len(), 1 + UPGRADES, "{asked:#?}");
    for goes_on in &asked[1..] {
        assert!(
            goes_on.contains("GoesOn") || goes_on.contains("goes_on=true"),
            "{goes_on}"
        );
    }
    edge.expect_end(Some(0));
    close(&handle);
    let seen = answering.join().expect("each number is the next one");
    thread.join().expect("the backend ends");
    // Of the first link alone: no session was told anew, and nobody was away.
    assert_eq!(seen.others, ["CaughtUp"], "{library:?}");
    assert_eq!(seen.links, 1 + UPGRADES);
    assert_eq!(seen.next.len(), CLIENTS);
    assert_eq!(seen.next.values().sum::<u64>(), packets);
}

#[test]
fn a_link_of_version_3_goes_on_behind_its_counts_with_a_backend_on_tokio() {
    upgrades_with_a_link_of_version_3(Library::Tokio, 1, "3");
    upgrades_with_a_link_of_version_3(Library::Tokio, 2, "auto");
}

#[test]
fn a_link_of_version_3_goes_on_behind_its_counts_with_a_backend_on_smol() {
    upgrades_with_a_link_of_version_3(Library::Smol, 1, "auto");
    upgrades_with_a_link_of_version_3(Library::Smol, 2, "3");
}
