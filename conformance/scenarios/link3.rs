//! Version 3 of the backend link, which a backend asks for. (SPEC 33 to 38)

use conformance::metrics::get;
use conformance::v3::Heard;
use conformance::{Backend, Client, ClientV3, Directory, Edge, Incoming, Link, Session, Signal};
use voltlane_core::ClientId;
use voltlane_core::code::Code;
use voltlane_core::link::v3::{
    Ask, Challenge, Delivery, Feature, Grant, GroupId, GroupSend, Ids, Kick, LinkAck, LinkSecret,
    Proof, ToBackend, ToEdge, flag, is_counted,
};

use super::{HEALING, METRICS};

const DEMANDED: &str = "master.protocol = \"3\"\n";

/// Numbers of shards with which a script is run.
const SHARDS: [u8; 2] = [1, 3];

/// A backend of version 3, as simple as can be.
struct Asking {
    link: Link,
    grant: Grant,
    /// The counted frames that came and went.
    received: u64,
    sent: u64,
}

impl Asking {
    /// Asks on a link, as a boot that knows a run, or none.
    fn ask(mut link: Link, boot: u8, known: Option<([u8; 8], u64, u64)>) -> Asking {
        let (run, received, sent) = known.unwrap_or_default();
        let ask = Ask {
            features: Feature::ALL.into_iter().collect(),
            boot: [boot; 16],
            run: known.map(|_| run),
            received,
            acknowledged: received,
            sent,
            longest_body: u32::MAX,
        };
        let mut bytes = Vec::new();
        ask.encode(&mut bytes);
        link.frames.write(&bytes);
        let grant = Grant::of(&link.frames.body())
            .expect("GRANT is the first frame of the edge")
            .expect("it is well formed");
        let (received, sent) = if known.is_some_and(|(run, ..)| run == grant.run) {
            (received, grant.received)
        } else {
            (0, 0)
        };
        Asking {
            link,
            grant,
            received,
            sent,
        }
    }

    fn send(&mut self, order: &ToEdge<'_>) {
        let mut bytes = Vec::new();
        order.encode(&mut bytes);
        self.sent += u64::from(is_counted(&bytes[4..]));
        self.link.frames.write(&bytes);
    }

    /// Returns the next frame that counts in words, but for SETTLED.
    fn hear(&mut self) -> String {
        loop {
            let body = self.link.frames.body();
            self.received += u64::from(is_counted(&body));
            return match ToBackend::decode(&body, self.grant.features).expect("a frame") {
                ToBackend::LinkAck(_) | ToBackend::Settled(_) => continue,
                ToBackend::Data { packet, .. } => String::from_utf8_lossy(packet).into_owned(),
                ToBackend::Joined { joined, .. } => {
                    let address = joined.peer.address.expect("an address").ip();
                    assert!(address.is_loopback());
                    format!("JOINED {}", joined.version)
                }
                ToBackend::Away { .. } => "AWAY".to_owned(),
                ToBackend::Resumed { resumed, .. } => format!("RESUMED {}", resumed.counter),
                ToBackend::Ended { ended, .. } => {
                    format!("ENDED {} {}", ended.code.to_u16(), ended.text)
                }
                ToBackend::Own { own, .. } => format!("OWN {:?} {}", own.state, own.next_up),
                other => format!("{other:?}"),
            };
        }
    }
}

fn start(config: &str) -> (Edge, Backend) {
    let backend = Backend::bind();
    let edge = Edge::start(super::PROGRAM, backend.address(), config);
    (edge, backend)
}

fn packet(id: ClientId, packet: &[u8]) -> ToEdge<'_> {
    ToEdge::Packet {
        id,
        delivery: Delivery::Ordinary,
        packet,
    }
}

#[test]
fn a_backend_that_asks_hears_of_everything_that_happens_to_its_clients() {
    SHARDS.into_iter().for_each(hears_of_everything);
}

fn hears_of_everything(shards: u8) {
    let automatic = format!("general.shards = {shards}\nmaster.protocol = \"auto\"\n");
    let (edge, backend) = start(&format!("{automatic}{HEALING}"));
    let mut backend = Asking::ask(backend.accept(), 1, None);
    let mut one = Client::join(edge.address());
    assert_eq!(backend.hear(), "JOINED 2");
    one.send(b"hello");
    assert_eq!(backend.hear(), "hello");
    backend.send(&packet(one.id(), b"welcome"));
    one.expect(b"welcome");
    let (id, session): (_, Session) = (one.id(), one.leave());
    assert_eq!(backend.hear(), "AWAY");
    backend.send(&packet(id, b"missed"));
    let mut one = session.resume(edge.address());
    one.expect(b"missed");
    assert_eq!(backend.hear(), "RESUMED 1");
    let group = GroupId(1);
    let ids = [id];
    let add = Ids::from(&ids[..]);
    backend.send(&ToEdge::GroupAdd { group, ids: add });
    let send = GroupSend {
        delivery: Delivery::Ordinary,
        left_out: Ids::from(&[][..]),
        packet: b"to all",
    };
    backend.send(&ToEdge::GroupSend { group, send });
    one.expect(b"to all");
    let kick = Kick {
        code: Code::from_u16(600).expect("a code"),
        wait_ms: 0,
        text: "banned",
    };
    backend.send(&ToEdge::Kick { id, kick });
    assert_eq!(backend.hear(), "ENDED 600 banned");
    edge.stop();
}

#[test]
fn a_link_that_is_lost_goes_on_and_a_new_boot_is_told_of_who_is_there() {
    SHARDS.into_iter().for_each(goes_on);
}

fn goes_on(shards: u8) {
    let (edge, listener) = start(&format!("general.shards = {shards}\n{DEMANDED}"));
    let mut backend = Asking::ask(listener.accept(), 1, None);
    let run = backend.grant.run;
    let mut one = Client::join(edge.address());
    assert_eq!(backend.hear(), "JOINED 2");
    one.send(b"1");
    one.send(b"2");
    assert_eq!(backend.hear(), "1");
    let known = Some((run, backend.received, backend.sent));
    // Whether the second packet was on its way or not, it comes once.
    drop(backend);
    one.send(b"3");
    let mut backend = Asking::ask(listener.accept(), 1, known);
    assert_eq!((backend.hear(), backend.hear()), ("2".into(), "3".into()));
    let acknowledged = backend.received;
    backend.send(&ToEdge::LinkAck(LinkAck {
        acknowledged,
        sent: 0,
    }));
    // The acknowledgement is heard before the answer to what follows.
    backend.send(&packet(one.id(), b"down"));
    one.expect(b"down");
    drop(backend);
    one.send(b"4");
    let mut backend = Asking::ask(listener.accept(), 2, None);
    assert_eq!(backend.grant.sessions, 1);
    assert_eq!(backend.hear(), "OWN Attached 4");
    assert_eq!(backend.hear(), "4");
    edge.stop();
}

/// SPEC 39.4(d).
#[test]
fn a_link_goes_on_over_a_restart_of_the_edge() {
    SHARDS.into_iter().for_each(goes_on_over_a_restart);
}

fn goes_on_over_a_restart(shards: u8) {
    let (listener, directory) = (Backend::bind(), Directory::new());
    let config = format!(
        "general.shards = {shards}\ngeneral.key_file = \"edge.key\"\ngeneral.snapshot_file = \"sessions\"\n{DEMANDED}{HEALING}"
    );
    let start = || Edge::start_in(super::PROGRAM, &directory, listener.address(), &config);
    let edge = start();
    let mut backend = Asking::ask(listener.accept(), 1, None);
    let run = backend.grant.run;
    let mut clients: Vec<ClientV3> = (0..6).map(|_| ClientV3::join(edge.address())).collect();
    let ids: Vec<ClientId> = clients.iter().map(ClientV3::id).collect();
    for _ in &ids {
        assert_eq!(backend.hear(), "JOINED 3");
    }
    let (group, add) = (GroupId(1), Ids::from(&ids[..]));
    backend.send(&ToEdge::GroupAdd { group, ids: add });
    for client in &mut clients {
        client.send(b"1");
    }
    assert_eq!(backend.hear(), "1");
    // The edge has passed on the others, and this backend forgets them. What it sends until the edge has closed the link is not lost.
    let known = (run, backend.received);
    for _ in 1..ids.len() {
        assert_eq!(backend.hear(), "1");
    }
    edge.signal(Signal::TERM);
    let send = |text| GroupSend {
        delivery: Delivery::Ordinary,
        left_out: Ids::from(&[][..]),
        packet: text,
    };
    let to_group = |text| ToEdge::GroupSend {
        group,
        send: send(text),
    };
    backend.send(&to_group(b"to all 1"));
    backend.send(&packet(ids[2], b"to one"));
    while let Incoming::Body(_) = backend.link.frames.incoming() {}
    let sent = backend.sent;
    drop(backend);
    edge.expect_log("the sessions are saved");
    edge.expect_end(Some(0));

    let edge = start();
    edge.expect_log("the sessions of the last process go on sessions=6");
    let mut backend = Asking::ask(listener.accept(), 1, Some((known.0, known.1, sent)));
    assert_eq!(backend.grant.run, run);
    assert_eq!(backend.sent, sent, "the edge has what was sent to it");
    let mut heard: Vec<String> = (0..11).map(|_| backend.hear()).collect();
    heard.sort_unstable();
    let expected = [["1"; 5].as_slice(), &["AWAY"; 6]].concat();
    assert_eq!(heard, expected, "no OWN, and each frame once");
    backend.send(&to_group(b"to all 2"));
    for (number, client) in clients.iter_mut().enumerate() {
        // What came before the edge had ended.
        let mut packets = Vec::new();
        loop {
            match client.hear() {
                Heard::Packet(_, data) => packets.push(data),
                Heard::Dropped(_) => break,
                _ => {}
            }
        }
        client.come_back(edge.address());
        assert!(backend.hear().starts_with("RESUMED"));
        let mut expected = vec![&b"to all 1"[..], b"to all 2"];
        if number == 2 {
            expected.insert(1, b"to one");
        }
        while packets.len() < expected.len() {
            packets.push(client.recv().1);
        }
        assert_eq!(packets, expected, "{shards} shards");
        client.send(b"2");
        assert_eq!(backend.hear(), "2");
    }
    edge.stop();
}

#[test]
fn the_picture_and_the_groups_of_a_backend_span_all_shards() {
    let (edge, listener) = start(&format!("general.shards = 3\n{DEMANDED}"));
    let backend = Asking::ask(listener.accept(), 1, None);
    let mut clients: Vec<Client> = (0..12).map(|_| Client::join(edge.address())).collect();
    drop(backend);
    let mut backend = Asking::ask(listener.accept(), 2, None);
    assert_eq!(backend.grant.sessions, 12);
    for _ in 0..12 {
        assert!(backend.hear().starts_with("OWN Attached"), "OWN go first");
    }
    for _ in 0..12 {
        assert_eq!(backend.hear(), "JOINED 2");
    }
    let ids: Vec<ClientId> = clients.iter().map(Client::id).collect();
    let group = GroupId(9);
    let add = Ids::from(&ids[..]);
    backend.send(&ToEdge::GroupAdd { group, ids: add });
    let send = GroupSend {
        delivery: Delivery::Ordinary,
        left_out: Ids::from(&ids[3..4]),
        packet: b"to all but one",
    };
    backend.send(&ToEdge::GroupSend { group, send });
    for id in &ids {
        backend.send(&packet(*id, b"to each"));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        if number != 3 {
            client.expect(b"to all but one");
        }
        client.expect(b"to each");
    }
    edge.stop();
}

#[test]
fn a_backend_that_does_not_ask_is_named_where_version_3_is_demanded() {
    let (edge, backend) = start(&format!("{DEMANDED}{METRICS}"));
    let mut link = backend.accept();
    link.send(ClientId::from_u64(7), b"of version 2");
    assert!(matches!(
        link.frames.incoming(),
        Incoming::Fin { .. } | Incoming::Reset
    ));
    edge.expect_log("does not ask for version 3 of the link");
    let expected = "the backend does not ask for version 3 of the link\n";
    assert_eq!(
        get(edge.metrics_address(), "/readyz"),
        (503, expected.to_owned())
    );
    // The next one does.
    let _asking = Asking::ask(backend.accept(), 1, None);
    assert_eq!(
        get(edge.metrics_address(), "/readyz"),
        (200, "ok\n".to_owned())
    );
    edge.stop();
}

#[test]
fn a_backend_that_does_not_share_the_secret_is_named() {
    let secret = "5e".repeat(32);
    let directory = Directory::new();
    directory.write("link.secret", format!("{secret}\n"));
    let path = directory.path().join("link.secret");
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, permissions).expect("it is ours");
    let config = format!("{DEMANDED}{METRICS}master.token_file = \"link.secret\"\n");
    let backend = Backend::bind();
    let edge = Edge::start_in(super::PROGRAM, &directory, backend.address(), &config);
    let mut link = backend.accept();
    let mut client = Client::join(edge.address());
    client.send(b"for the backend alone");
    let ask = Ask {
        features: Feature::ALL.into_iter().collect(),
        boot: [1; 16],
        run: None,
        received: 0,
        acknowledged: 0,
        sent: 0,
        longest_body: u32::MAX,
    };
    let mut bytes = Vec::new();
    ask.encode(&mut bytes);
    link.frames.write(&bytes);
    let refused = link.frames.body();
    assert_eq!(refused[8..], [flag::REFUSED, flag::ASK, 4]);
    edge.expect_log("the backend has no secret for the link");
    let expected = "the backend does not share the secret of the link (master.token_file)\n";
    assert_eq!(
        get(edge.metrics_address(), "/readyz"),
        (503, expected.to_owned())
    );
    drop(link);
    // The next one has it.
    let mut link = backend.accept();
    let (mut asked, mut proven) = (Vec::new(), Vec::new());
    ask.encode_with_nonce(&[7; 32], &mut asked);
    link.frames.write(&asked);
    let secret = LinkSecret::new(secret.as_bytes()).expect("long enough");
    let challenge = Challenge::of(&link.frames.body()).expect("CHALLENGE");
    let Challenge { nonce, proof } = challenge.expect("it is well formed");
    assert!(secret.is_proven(&proof, flag::CHALLENGE, &nonce, &asked[4..]));
    let own = secret.proof(flag::PROOF, &nonce, &asked[4..]);
    Proof(Some(own)).encode(&mut proven);
    link.frames.write(&proven);
    assert!(Grant::of(&link.frames.body()).is_some());
    assert_eq!(
        get(edge.metrics_address(), "/readyz"),
        (200, "ok\n".to_owned())
    );
    edge.stop();
}
