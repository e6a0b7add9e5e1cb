//! The backend goes away and comes back. (SPEC 7.6, 7.7, 8.4, 10.4)

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use conformance::{
    Backend, Client, Directory, Edge, Frames, Incoming, Packet, Rig, bytes_of, closed_port,
};
use voltlane_core::link::tagged::{Flag, Tagged};

use super::{HEALING, rig};

/// The ways in which a backend goes away.
#[derive(Clone, Copy, Debug)]
enum Gone {
    Fin,
    Reset,
    /// It ends the link in the middle of a frame of its own.
    FinInAFrame,
    /// Its process is gone: nobody listens for a while.
    Restart,
}

const WAYS: [Gone; 4] = [Gone::Fin, Gone::Reset, Gone::FinInAFrame, Gone::Restart];

/// Ends the link in this way, and runs `meanwhile` once the edge knows of it and before there is a backend again. What the edge writes
/// before it knows is lost with the link. (SPEC 7.6(d))
fn lose_link(rig: Rig, how: Gone, meanwhile: impl FnOnce(SocketAddr)) -> Rig {
    const GONE: &str = "the backend is gone";
    let Rig {
        mut edge,
        backend,
        mut link,
    } = rig;
    let address = edge.address();
    match how {
        Gone::Fin => link.frames.finish(),
        Gone::Reset => link.frames.reset(),
        Gone::FinInAFrame => {
            link.frames
                .write(&[200, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 9, 9]);
            link.frames.finish();
        }
        Gone::Restart => {
            let place = backend.address();
            drop((link, backend));
            let _ = edge.next_log(GONE);
            meanwhile(address);
            let backend = Backend::bind_to(place);
            let link = backend.accept();
            return Rig {
                edge,
                backend,
                link,
            };
        }
    }
    let _ = edge.next_log(GONE);
    meanwhile(address);
    let link = backend.accept();
    Rig {
        edge,
        backend,
        link,
    }
}

#[test]
fn clients_stay_join_and_come_back_and_their_packets_wait_in_order() {
    for how in WAYS {
        let mut rig = rig(HEALING);
        let mut stays = rig.join();
        let away = rig.join().leave();
        let back = rig.join().leave();
        let (mut joined, mut resumed) = (None, None);
        rig.fence();
        let mut rig = lose_link(rig, how, |address| {
            let mut client = Client::join(address);
            client.send(b"new");
            joined = Some(client);
            let mut client = back.clone().resume(address);
            client.send(b"back");
            resumed = Some(client);
        });
        let (mut joined, mut resumed) = (joined.expect("joined"), resumed.expect("resumed"));
        for n in 0..100 {
            stays.send(&bytes_of(n, 100));
        }
        let mut expected = 0;
        let mut others = Vec::new();
        while expected < 100 || others.len() < 3 {
            let packet = rig.link.recv();
            if packet.id == stays.id() {
                assert_eq!(packet.data, bytes_of(expected, 100), "{how:?} {expected}");
                expected += 1;
            } else {
                others.push((packet.id, packet.flag, packet.data));
            }
        }
        // Packets of one client are in order; there is no order between clients at different shards.
        others.sort_by_key(|(id, ..)| *id != joined.id());
        let others_expected = [
            (joined.id(), Flag::Data, b"new".to_vec()),
            (resumed.id(), Flag::Resumed, vec![]),
            (resumed.id(), Flag::Data, b"back".to_vec()),
        ];
        assert_eq!(others, others_expected, "{how:?}");
        for client in [&mut stays, &mut joined, &mut resumed] {
            rig.round_trip(client, b"as before");
        }
        let mut away = rig.resume(away);
        rig.round_trip(&mut away, b"as before");
        rig.fence();
        rig.stop();
    }
}

#[test]
fn a_link_that_flaps_is_opened_again_each_time() {
    let mut rig = rig("");
    let mut client = rig.join();
    for n in 0..4 {
        rig = lose_link(rig, WAYS[n % 2], |_| {});
        client.send(b"here");
        rig.link.expect_data(client.id(), b"here");
        rig.link.send(client.id(), b"there");
        client.expect(b"there");
    }
}

/// More packets wait than the link queue holds. The rest stays with the clients, and nothing is lost.
#[test]
fn a_full_link_queue_slows_clients_and_drops_nothing() {
    const CLIENTS: u64 = 5;
    const PACKETS: u64 = 2_000;
    let rig = rig("master.channel_capacity = 10\nmaster.channel_bytes = 4_096\n");
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::join(rig.address())).collect();
    let ids: Vec<_> = clients.iter().map(Client::id).collect();
    let mut senders = Vec::new();
    let mut rig = lose_link(rig, Gone::Restart, |_| {
        senders = (0..)
            .zip(clients)
            .map(|(seed, mut client)| {
                thread::spawn(move || {
                    for n in 0..PACKETS {
                        client.send(&bytes_of(seed << 32 | n, 500));
                    }
                    client
                })
            })
            .collect();
    });
    let mut next = vec![0; ids.len()];
    for _ in 0..CLIENTS * PACKETS {
        let packet = rig.link.recv();
        let client = ids.iter().position(|&id| id == packet.id).expect("known");
        let data = bytes_of((client as u64) << 32 | next[client], 500);
        assert!(packet.data == data, "{} of {client}", next[client]);
        next[client] += 1;
    }
    for sender in senders {
        let mut client = sender.join().expect("all was taken");
        rig.round_trip(&mut client, b"and on it goes");
    }
}

/// The backend does not read: clients wait, but packets down keep flowing.
#[test]
fn a_backend_that_does_not_read_does_not_hold_up_what_it_sends() {
    let mut rig = rig("master.channel_bytes = 65_536\n");
    let mut listener = rig.join();
    let address = rig.address();
    let mut loud = Client::join(address);
    let sender = thread::spawn(move || {
        for n in 0..40 {
            loud.send(&bytes_of(n, 1 << 20));
        }
        loud
    });
    for n in 0..1_000 {
        rig.link.send(listener.id(), &bytes_of(n, 1_000));
        listener.expect(&bytes_of(n, 1_000));
    }
    for n in 0..40 {
        assert!(rig.link.recv().data == bytes_of(n, 1 << 20), "{n}");
    }
    let mut loud = sender.join().expect("all was taken");
    rig.round_trip(&mut loud, b"and on it goes");
}

/// The link breaks within a packet. The next one begins with that packet in full, and continues in order.
#[test]
fn a_packet_cut_with_the_link_is_sent_again_whole() {
    const PACKETS: u64 = 40;
    let backend = Backend::bind();
    backend.narrow(4_096);
    let edge = Edge::start(super::PROGRAM, backend.address(), "");
    let mut link = backend.accept();
    let mut client = Client::join(edge.address());
    let id = client.id();
    let sender = thread::spawn(move || {
        for n in 0..PACKETS {
            client.send(&bytes_of(n, 1 << 20));
        }
        client
    });
    let mut next = 0;
    for _ in 0..3 {
        // Two whole packets and a part of the third have been read.
        for _ in 0..2 {
            let packet = link.recv();
            let got = (next..PACKETS).find(|&n| packet.data == bytes_of(n, 1 << 20));
            next = got.expect("a whole packet, in order") + 1;
        }
        link.frames.reset();
        link = backend.accept();
    }
    let first = link.recv();
    let got = (next..PACKETS).find(|&n| first.data == bytes_of(n, 1 << 20));
    for n in got.expect("a whole packet, in order") + 1..PACKETS {
        let data = bytes_of(n, 1 << 20);
        assert!(
            link.recv()
                == Packet {
                    id,
                    flag: Flag::Data,
                    data
                },
            "{n}"
        );
    }
    let client = sender.join().expect("all was taken");
    client.leave();
}

#[test]
fn at_the_first_start_an_edge_serves_without_a_backend() {
    let backend = Backend::bind();
    let place = backend.address();
    drop(backend);
    let edge = Edge::start(super::PROGRAM, place, "");
    let mut client = Client::join(edge.address());
    client.send(b"early");
    let backend = Backend::bind_to(place);
    let mut link = backend.accept();
    link.expect_data(client.id(), b"early");
    link.send(client.id(), b"welcome");
    client.expect(b"welcome");
}

#[test]
fn an_edge_that_needs_its_backend_at_the_start_ends_without() {
    let (_bound, place) = closed_port();
    let directory = Directory::new();
    directory.write("connserver.toml", "master.required_at_start = true\n");
    let place = place.to_string();
    let arguments = ["--listen", "127.0.0.1:0", "--master", &place];
    let finished = super::PROGRAM.run(&directory, &arguments);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let says = format!("the backend {place} cannot be reached: Connection refused");
    assert!(finished.stderr.contains(&says), "{finished:?}");
}

/// The connection that showed that the backend is there is the first link, and not an additional one.
#[test]
fn a_backend_that_is_needed_and_there_is_connected_to_once() {
    let mut rig = rig("master.required_at_start = true\n");
    let mut client = rig.join();
    rig.round_trip(&mut client, b"over the first link");
    rig.stop();
}

#[test]
fn with_announce_all_a_new_link_begins_with_attached_sessions_then_ended_ones() {
    // A second shard may learn of the first link when a client has already joined it, and then announces that one as well.
    let config = "general.shards = 1\nmaster.announce = \"all\"\nclients.stale_timeout_secs = 0\n";
    let mut rig = rig(config);
    let stays = [rig.join(), rig.join(), rig.join()];
    let silent = Client::join(rig.address());
    let goes = rig.join();
    let ended = goes.id();
    let mut rig = lose_link(rig, Gone::Restart, |_| {
        goes.leave();
    });
    let mut announced: Vec<_> = (0..4)
        .map(|_| {
            let packet = rig.link.recv();
            assert_eq!((packet.flag, &packet.data[..]), (Flag::Resumed, &b""[..]));
            packet.id
        })
        .collect();
    announced.sort_unstable();
    let mut connected: Vec<_> = stays.iter().chain([&silent]).map(Client::id).collect();
    connected.sort_unstable();
    assert_eq!(announced, connected);
    rig.link.expect_failure(ended, "expired");
    rig.fence();
}

#[test]
fn by_default_a_new_link_begins_with_what_waited_and_nothing_else() {
    let mut rig = rig("");
    let mut client = rig.join();
    let mut rig = lose_link(rig, Gone::Fin, |_| {});
    client.send(b"only this");
    rig.link.expect_data(client.id(), b"only this");
    rig.fence();
}

/// A packet that was cut in the edge's own output does not break the framing of the next link.
#[test]
fn a_half_packet_of_a_lost_link_reaches_no_client() {
    let mut rig = rig("");
    let mut client = rig.join();
    let mut bytes = Vec::new();
    let packet = Tagged {
        id: client.id(),
        flag: Flag::Data,
        data: &bytes_of(1, 1_000),
    };
    packet.encode(&mut bytes);
    rig.link.frames.write(&bytes[..500]);
    let mut rig = lose_link(rig, Gone::Fin, |_| {});
    rig.link.send(client.id(), b"whole");
    client.expect(b"whole");
    rig.round_trip(&mut client, b"and on");
}

/// The backend takes nothing for longer than the user timeout, while the system probes it many times.
#[test]
fn a_backend_that_rests_loses_nothing() {
    const PACKETS: u64 = 200;
    let mut rig = rig("master.user_timeout_secs = 1\nlimits.handshake_timeout_secs = 3\n");
    let mut client = rig.join();
    for number in 0..PACKETS {
        client.send(&bytes_of(number, 65_536));
    }
    // The pause is as long as a handshake may take.
    Frames::connect(rig.address()).expect_closed();
    for number in 0..PACKETS {
        rig.link.expect_data(client.id(), &bytes_of(number, 65_536));
    }
    rig.round_trip(&mut client, b"over the same link");
    rig.stop();
}

#[test]
fn a_name_is_as_good_as_an_address() {
    let backend = Backend::bind_to((Ipv4Addr::LOCALHOST, 0).into());
    let directory = Directory::new();
    let place = format!("localhost:{}", backend.address().port());
    let arguments = ["--listen", "localhost:0", "--master", &place];
    let edge = Edge::spawn(super::PROGRAM.command(&directory, &arguments));
    let mut link = backend.accept();
    let mut client = Client::join_over(Frames::connect(edge.address()));
    client.send(b"here");
    link.expect_data(client.id(), b"here");
    client.frames.finish();
    assert_eq!(client.frames.incoming(), Incoming::Fin { unfinished: 0 });
}

/// SPEC 7.6(j), 7.8(g).
#[test]
fn two_edges_at_one_backend_are_named_by_the_edge_and_by_the_backend_library() {
    let mut rig = rig("");
    for _ in 0..5 {
        rig.link.frames.finish();
        rig.link = rig.backend.accept();
    }
    let _ = rig
        .edge
        .expect_log("another edge is likely at this backend");

    let directory = Directory::new();
    let backend =
        Edge::spawn(super::PROGRAM.command(&directory, &["echo", "--listen", "127.0.0.1:0"]));
    let edges = [0; 2].map(|_| Edge::start(super::PROGRAM, backend.address(), ""));
    let line = backend.expect_log("two edges are likely at this backend");
    assert!(
        line.contains(" by=") && line.contains(" address="),
        "{line}"
    );
    for edge in edges {
        edge.stop();
    }
    backend.stop();
}

/// SPEC 7.8(h).
#[test]
fn a_stranger_at_the_backends_port_is_named_and_the_edge_comes_back() {
    let directory = Directory::new();
    let backend =
        Edge::spawn(super::PROGRAM.command(&directory, &["echo", "--listen", "127.0.0.1:0"]));
    let mut edge = Edge::start(super::PROGRAM, backend.address(), "");
    let mut client = Client::join(edge.address());
    let _ = edge.next_log("the backend is there");
    for (says, name) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "the peer speaks HTTP"),
        (
            &[2, 0, 0, 0, 1, 2],
            "the peer speaks the protocol of Voltlane's clients",
        ),
    ] {
        let mut stranger = Frames::connect(backend.address());
        stranger.write(says);
        stranger.expect_closed();
        let line = backend.expect_log(name);
        assert!(!line.contains("GET"), "{line}");
        let _ = edge.next_log("the backend is gone");
        let _ = edge.next_log("the backend is there");
        client.send(b"as before");
        client.expect(b"as before");
    }
    edge.stop();
    backend.stop();
}
