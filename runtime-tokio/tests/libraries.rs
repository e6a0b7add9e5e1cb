//! The client and the backend library through the real binary, over loopback.

use std::collections::HashSet;
use std::time::Duration;

use voltlane_tokio::backend::Event as BackendEvent;
use voltlane_tokio::client::Event;
use voltlane_tokio::{Backend, Client, ClientId, TcpListener};

const BINARY: &str = env!("CARGO_BIN_EXE_voltlane");

#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../app/tests/binary/process.rs"]
mod process;

#[allow(dead_code, reason = "its main is for people")]
#[path = "../examples/chat.rs"]
mod chat;

use process::{Directory, Process};

/// Longer than anything here takes, so that a hang is a failure.
const BOUND: Duration = Duration::from_secs(120);

/// An edge as a process, in front of a backend in this one.
async fn edge(directory: &Directory) -> (Process, String, Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let backend = listener.local_addr().expect("bound").to_string();
    let (edge, address) = Process::edge(directory, &backend);
    (edge, address, Backend::new(listener))
}

/// An edge that more strangers knock at than it has places for sends some away; those come back by themselves.
async fn connected(client: &mut Client) -> ClientId {
    loop {
        match client.recv().await {
            Some(Event::Connected { id }) => return id,
            Some(Event::Dropped { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn packet(client: &mut Client) -> Vec<u8> {
    match client.recv().await {
        Some(Event::Packet(data)) => data,
        other => panic!("{other:?}"),
    }
}

async fn heard(client: &mut Client) -> String {
    String::from_utf8(packet(client).await).expect("text")
}

async fn echo(mut backend: Backend) {
    loop {
        if let BackendEvent::Packet { id, data } = backend.recv().await {
            backend.send(id, &data).await.expect("not too long");
        }
    }
}

#[tokio::test]
async fn three_people_chat() {
    let directory = Directory::new();
    let (_edge, address, backend) = edge(&directory).await;
    tokio::spawn(chat::chat(backend));
    let talk = async {
        let mut people = Vec::new();
        for name in ["Ada", "Brian", "Claude"] {
            let mut person = Client::connect(&*address);
            connected(&mut person).await;
            person.send(name.as_bytes()).await.expect("sent");
            for earlier in &mut people {
                assert_eq!(heard(earlier).await, format!("* {name} joined"));
            }
            people.push(person);
        }
        let names = ["Ada", "Brian", "Claude"];
        for round in 0..30 {
            let speaker = round % 3;
            people[speaker]
                .send(format!("line {round}").as_bytes())
                .await
                .expect("sent");
            for (at, listener) in people.iter_mut().enumerate() {
                if at != speaker {
                    assert_eq!(
                        heard(listener).await,
                        format!("{}: line {round}", names[speaker])
                    );
                }
            }
        }
        // One loses its connection, comes back, and goes on.
        let id = people[1].id().expect("joined");
        people[1].drop_connection();
        assert!(matches!(
            people[1].recv().await,
            Some(Event::Dropped { .. })
        ));
        assert_eq!(people[1].recv().await, Some(Event::Resumed { id }));
        people[1].send(b"sorry").await.expect("sent");
        for at in [0, 2] {
            assert_eq!(heard(&mut people[at]).await, "* Brian is back");
            assert_eq!(heard(&mut people[at]).await, "Brian: sorry");
        }
    };
    tokio::time::timeout(BOUND, talk).await.expect("in time");
}

/// Bytes that no other client and no other packet has.
fn payload(client: usize, packet: usize) -> Vec<u8> {
    let length = (client * 7_919 + packet * 104_729) % 3_000;
    let mut seed = (client as u64) << 32 | packet as u64 | 1 << 63;
    let mut bytes = format!("{client}/{packet} ").into_bytes();
    bytes.extend(
        std::iter::repeat_with(|| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        })
        .take(length),
    );
    bytes
}

#[tokio::test]
async fn a_thousand_clients_get_their_own_bytes_and_no_others() {
    const CLIENTS: usize = 1_000;
    const PACKETS: usize = 10;
    let _ = voltlane_app::Resources::raise_and_measure();
    let directory = Directory::new();
    let (_edge, address, backend) = edge(&directory).await;
    tokio::spawn(echo(backend));
    let mut talks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let address = address.clone();
        talks.spawn(async move {
            let mut own = Client::connect(address);
            let id = connected(&mut own).await;
            for packet in 0..PACKETS {
                own.send(&payload(client, packet)).await.expect("sent");
            }
            for number in 0..PACKETS {
                assert!(
                    packet(&mut own).await == payload(client, number),
                    "client {client}, packet {number}"
                );
            }
            // Stays until all are done, so that all of them are there at once.
            (own, id)
        });
    }
    let run = async {
        let mut ids = HashSet::new();
        let mut stay = Vec::new();
        while let Some(talk) = talks.join_next().await {
            let (client, id) = talk.expect("every client got its bytes");
            assert!(ids.insert(id), "{id} was given out twice");
            stay.push(client);
        }
        assert_eq!(ids.len(), CLIENTS);
    };
    tokio::time::timeout(BOUND, run).await.expect("in time");
}

#[tokio::test]
async fn every_size_from_nothing_to_the_largest_comes_back() {
    let directory = Directory::new();
    let (_edge, address, backend) = edge(&directory).await;
    tokio::spawn(echo(backend));
    let run = async {
        let mut client = Client::connect(address);
        connected(&mut client).await;
        for length in [
            0,
            1,
            2,
            63,
            64,
            1_000,
            65_535,
            65_536,
            65_537,
            500_000,
            1 << 20,
        ] {
            let mut data = payload(length, 0);
            data.resize(length, 0xa5);
            client.send(&data).await.expect("sent");
            assert!(packet(&mut client).await == data, "{length} bytes");
        }
        client
            .send(&vec![0; (1 << 20) + 1])
            .await
            .expect_err("too long");
        client.close(Duration::from_secs(5)).await;
    };
    tokio::time::timeout(BOUND, run).await.expect("in time");
}
