use zeroize::ZeroizeOnDrop;

use super::super::code::Code;
use super::super::items::{Item, Resumed};
use super::super::packets::{Extensions, Hello, Packet};
use super::super::record::{Opener, Sealer};
use super::super::watch;
use super::*;

const ID: ClientId = ClientId::from_u64(0x0102_0304_0506_0708);

fn pair(byte: u8) -> KeyPair {
    KeyPair::from_bytes(&[byte; 32]).unwrap()
}

fn hello(ephemeral: &KeyPair) -> Vec<u8> {
    let point = ephemeral.public();
    Packet::Hello(Hello {
        features: 0,
        key_hint: KeyHint::NONE,
        point: point.as_bytes(),
        extensions: Extensions::NONE,
    })
    .body()
}

fn joins() -> (Join, Join) {
    let (edge, edge_ephemeral, ephemeral) = (pair(0x11), pair(0x22), pair(0x33));
    let hello = hello(&ephemeral);
    (
        Join::of_client(&hello, &ephemeral, &edge_ephemeral.public(), &edge.public()),
        Join::of_edge(&hello, &ephemeral.public(), &edge_ephemeral, &edge),
    )
}

fn settings(master: &Master) -> Settings {
    Settings {
        id: ID,
        claim_key: master.claim_key(ID),
        handle: master.mask(ID, [1; 8]),
        run: [2; 8],
        features: 0,
        longest_packet_up: 1 << 20,
        ring_packets: 8_192,
        ring_bytes: 1 << 20,
        window_secs: 300,
        ack_delay_ms: 250,
        keep_alive_secs: 20,
    }
}

fn head(master: &Master, nonce: u8) -> ClaimHead<'static> {
    ClaimHead {
        key_hint: master.hint(),
        handle: master.mask(ID, [3; 8]),
        nonce: [nonce; 24],
        extensions: Extensions::NONE,
    }
}

const POSITION: Position = Position {
    counter: 1,
    run: [2; 8],
    first_up: 1,
    received_down: 0,
};

fn verdict(master: &Master) -> Verdict {
    Verdict {
        code: Code::TAKEN_UP,
        highest: 1,
        wait_ms: 0,
        jitter_ms: 0,
        run: [2; 8],
        handle: master.mask(ID, [4; 8]),
        acknowledged_up: 0,
        acknowledged_down: 0,
    }
}

/// Calls `check` with every value that differs from `bytes` in one bit.
fn flipped(bytes: &[u8], mut check: impl FnMut(&[u8], usize)) {
    let mut bytes = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        check(&bytes, bit);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn both_ends_of_a_join_have_the_same_keys_and_each_key_is_another() {
    let (client, edge) = joins();
    let keys = |join: &Join| {
        [
            join.welcome.0,
            join.up.0,
            join.down.0,
            join.resume.secret.0,
            *join.exporter,
        ]
    };
    assert_eq!(keys(&client), keys(&edge));
    let mut all = keys(&client).to_vec();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 5);
    assert_eq!(client.resume.counter(), 1);
}

#[test]
fn a_welcome_opens_only_as_sealed_for_this_hello() {
    let (client, edge) = joins();
    let master = Master::new(&pair(0x11));
    let sealed = edge.seal_welcome(&settings(&master));
    let (point, key) = (
        *pair(0x22).public().as_bytes(),
        *pair(0x11).public().as_bytes(),
    );
    let open = |join: &Join, sealed: &[u8]| {
        join.open_welcome(&Welcome {
            point: &point,
            edge_key: &key,
            sealed,
        })
        .map(|settings| settings.id)
    };
    assert_eq!(open(&client, &sealed), Ok(ID));
    flipped(&sealed, |sealed, bit| {
        assert_eq!(open(&client, sealed), Err(WelcomeError::Foreign), "{bit}");
    });
    for end in 0..sealed.len() {
        assert_eq!(open(&client, &sealed[..end]), Err(WelcomeError::Foreign));
    }
    // A bit of the Hello, or another key in either place: other keys.
    let ephemeral = pair(0x33);
    let [edge_ephemeral, edge_key, other] = [0x22, 0x11, 0x44].map(|byte| pair(byte).public());
    flipped(&hello(&ephemeral), |hello, bit| {
        let join = Join::of_client(hello, &ephemeral, &edge_ephemeral, &edge_key);
        assert_eq!(open(&join, &sealed), Err(WelcomeError::Foreign), "{bit}");
    });
    let hello = hello(&ephemeral);
    for (edge_ephemeral, edge_key) in [
        (other, edge_key),
        (edge_ephemeral, other),
        (edge_key, edge_ephemeral),
    ] {
        let join = Join::of_client(&hello, &ephemeral, &edge_ephemeral, &edge_key);
        assert_eq!(open(&join, &sealed), Err(WelcomeError::Foreign));
    }
}

#[test]
fn a_longer_welcome_and_a_longer_answer_open_and_their_first_part_counts() {
    let (client, edge) = joins();
    let master = Master::new(&pair(0x11));
    let mut plain = [7; SETTINGS_BYTES + 5];
    settings(&master).write(plain.first_chunk_mut().unwrap());
    let tag = aead::seal(&edge.welcome.0, &[0; 24], &edge.transcript, &mut plain);
    let sealed = [&plain[..], &tag].concat();
    let (point, key) = (
        *pair(0x22).public().as_bytes(),
        *pair(0x11).public().as_bytes(),
    );
    let welcome = Welcome {
        point: &point,
        edge_key: &key,
        sealed: &sealed,
    };
    assert_eq!(client.open_welcome(&welcome).unwrap().id, ID);

    let (key, attempt) = (master.claim_key(ID), Attempt::new(b"claim"));
    let mut plain = [7; VERDICT_BYTES + 5];
    verdict(&master).write(plain.first_chunk_mut().unwrap());
    plain[60..128].fill(0);
    let associated = Answer::clear_bytes(&[5; 24]);
    let tag = aead::seal(&attempt.answer_key(&key), &[5; 24], &associated, &mut plain);
    let sealed = [&plain[..], &tag].concat();
    let answer = Answer {
        nonce: [5; 24],
        sealed: &sealed,
    };
    assert_eq!(attempt.open_answer(&key, &answer), Ok(verdict(&master)));
}

#[test]
fn a_handle_hides_its_id_and_another_masters_claim_keys_differ() {
    let (master, other) = (Master::new(&pair(0x11)), Master::new(&pair(0x12)));
    let handles = [[1; 8], [2; 8], [0; 8], [0xff; 8]].map(|random| master.mask(ID, random));
    for handle in handles {
        assert_eq!(master.unmask(handle), ID);
        assert_ne!(other.unmask(handle), ID);
        assert_ne!(handle.halves().1, ID.as_u64().to_le_bytes());
    }
    assert_ne!(handles[0].halves().1, handles[1].halves().1);
    let next = ClientId::from_u64(ID.as_u64() + 1);
    let keys = [
        master.claim_key(ID),
        other.claim_key(ID),
        master.claim_key(next),
    ];
    assert!(keys[0].as_bytes() != keys[1].as_bytes() && keys[0].as_bytes() != keys[2].as_bytes());
    assert_ne!(master.hint(), other.hint());
}

#[test]
fn a_claim_opens_only_with_every_bit_as_sealed() {
    let master = Master::new(&pair(0x11));
    let key = master.claim_key(ID);
    let mut extensions = Vec::new();
    Extensions::push(200, b"abc", &mut extensions);
    let head = ClaimHead {
        extensions: Extensions::new(&extensions).unwrap(),
        ..head(&master, 5)
    };
    let body = Packet::Claim(key.seal_claim(head, &POSITION)).body();
    let open = |body: &[u8]| {
        let Ok(Packet::Claim(claim)) = Packet::decode(body) else {
            return Err(ClaimError::Foreign);
        };
        key.open_claim(&claim)
    };
    assert_eq!(open(&body), Ok(POSITION));
    flipped(&body, |body, bit| {
        assert_eq!(open(body), Err(ClaimError::Foreign), "{bit}");
    });
    for end in 0..body.len() {
        assert_eq!(open(&body[..end]), Err(ClaimError::Foreign));
    }
    let Ok(Packet::Claim(claim)) = Packet::decode(&body) else {
        panic!("no claim")
    };
    let other = master.claim_key(ClientId::from_u64(1));
    assert_eq!(other.open_claim(&claim), Err(ClaimError::Foreign));
}

#[test]
fn a_claim_that_opens_and_says_nonsense_is_told_from_one_that_does_not() {
    let master = Master::new(&pair(0x11));
    let key = master.claim_key(ID);
    let nonsense = Position {
        counter: 0,
        ..POSITION
    };
    let claim = key.seal_claim(head(&master, 5), &nonsense);
    assert!(matches!(
        key.open_claim(&claim),
        Err(ClaimError::Malformed(PacketError::OutOfRange {
            field: "counter",
            ..
        }))
    ));
}

#[test]
fn an_answer_opens_only_for_its_claim_and_with_every_bit_as_sealed() {
    let master = Master::new(&pair(0x11));
    let key = master.claim_key(ID);
    let claim = |nonce| Packet::Claim(key.seal_claim(head(&master, nonce), &POSITION)).body();
    let attempt = Attempt::new(&claim(5));
    let sealed = attempt.seal_answer(&key, [6; 24], &verdict(&master));
    let answer = Packet::Answer(Answer {
        nonce: [6; 24],
        sealed: &sealed,
    })
    .body();
    let open = |attempt: &Attempt, key: &ClaimKey, body: &[u8]| {
        let Ok(Packet::Answer(answer)) = Packet::decode(body) else {
            return Err(AnswerError::Foreign);
        };
        attempt.open_answer(key, &answer)
    };
    assert_eq!(open(&attempt, &key, &answer), Ok(verdict(&master)));
    flipped(&answer, |body, bit| {
        assert_eq!(
            open(&attempt, &key, body),
            Err(AnswerError::Foreign),
            "{bit}"
        );
    });
    for end in 0..answer.len() {
        assert_eq!(
            open(&attempt, &key, &answer[..end]),
            Err(AnswerError::Foreign)
        );
    }
    let other = Attempt::new(&claim(7));
    assert_eq!(open(&other, &key, &answer), Err(AnswerError::Foreign));
    let stranger = master.claim_key(ClientId::from_u64(1));
    assert_eq!(
        open(&attempt, &stranger, &answer),
        Err(AnswerError::Foreign)
    );
    assert_ne!(attempt.mark(), other.mark());
}

#[test]
fn the_chain_goes_forward_by_a_bounded_number_of_links() {
    let (client, _) = joins();
    let first = client.resume;
    let secret = |link: &ResumeSecret| link.secret.0;
    assert_eq!(secret(&first.at(1, 0).unwrap()), secret(&first));
    let far = first.at(1 + MAX_AHEAD, MAX_AHEAD).unwrap();
    let by_hand = (2..=1 + MAX_AHEAD).fold(first.clone(), |link, c| link.at(c, 1).unwrap());
    assert_eq!(secret(&far), secret(&by_hand));
    assert_eq!(far.counter(), 65);
    assert_eq!(
        far.at(64, MAX_AHEAD).unwrap_err(),
        ChainError::Behind {
            counter: 64,
            least: 65
        }
    );
    for counter in [66, u64::MAX] {
        assert_eq!(
            first.at(counter, MAX_AHEAD).unwrap_err(),
            ChainError::Ahead {
                counter,
                least: 1,
                max: MAX_AHEAD
            }
        );
    }
}

#[test]
fn records_of_a_resume_depend_on_the_claim_the_answer_the_link_and_the_direction() {
    let (client, _) = joins();
    let (first, second) = (client.resume.clone(), client.resume.at(2, 1).unwrap());
    let (one, other) = (Attempt::new(b"one claim"), Attempt::new(b"another"));
    let mut keys = Vec::new();
    for link in [&first, &second] {
        for attempt in [&one, &other] {
            keys.push(attempt.early(link).0);
            for answer in [b"one answer".as_slice(), b"another"] {
                let (up, down) = attempt.established(link, answer);
                keys.extend([up.0, down.0]);
            }
        }
    }
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!((keys.len(), count), (20, 20));
}

/// Sends `items` from one end to the other.
fn send(sealer: &mut Sealer, opener: &mut Opener, number: u64, items: &[Item<'_>]) {
    let mut out = vec![0; 4];
    items.iter().for_each(|item| item.encode(&mut out));
    let plain = out[4..].to_vec();
    sealer.seal(number, &mut out, 0).unwrap();
    let body = &mut out[4..];
    assert_eq!(opener.open(number, body).unwrap(), plain);
}

/// A join, then resumes of which some attempts are lost or refused. All that is sealed on either side is watched.
#[test]
fn no_key_is_used_with_one_nonce_twice() {
    let sealed = watch::over(|| {
        let (mut client, edge) = joins();
        let master = Master::new(&pair(0x11));
        let key = master.claim_key(ID);
        let _ = edge.seal_welcome(&settings(&master));
        let mut lanes =
            [&edge.up, &edge.down].map(|secret| (Sealer::new(secret), Opener::new(secret)));
        let mut nonces = 1..;
        let mut counter = 0;
        for connection in 0..12_u64 {
            for (sealer, opener) in &mut lanes {
                for number in 1..40 {
                    send(sealer, opener, number, &[Item::Packet(b"data")]);
                    // The number takes no part in the nonce, so a record of no packets needs another one as well.
                    send(sealer, opener, number, &[Item::AckNow]);
                }
            }
            counter += 1 + connection % 3;
            let link = client.resume.at(counter, MAX_AHEAD).unwrap();
            let position = Position {
                counter,
                ..POSITION
            };
            let claim =
                Packet::Claim(key.seal_claim(head(&master, nonces.next().unwrap()), &position))
                    .body();
            let attempt = Attempt::new(&claim);
            let early = attempt.early(&link);
            let (mut sealer, mut opener) = (Sealer::new(&early), Opener::new(&early));
            send(&mut sealer, &mut opener, 1, &[Item::Packet(b"early")]);
            send(&mut sealer, &mut opener, 2, &[Item::EarlyEnd]);
            let nonce = [nonces.next().unwrap(); 24];
            let sealed = attempt.seal_answer(&key, nonce, &verdict(&master));
            let answer = Packet::Answer(Answer {
                nonce,
                sealed: &sealed,
            })
            .body();
            let (up, down) = attempt.established(&link, &answer);
            lanes = [&up, &down].map(|secret| (Sealer::new(secret), Opener::new(secret)));
            let resumed = Resumed {
                until: 0,
                received_up: 1,
                away_ms: 0,
                cause: Code::GOODBYE,
            };
            send(
                &mut lanes[1].0,
                &mut lanes[1].1,
                1,
                &[Item::Resumed(resumed, &[attempt.mark()])],
            );
            client.resume = link;
        }
    });
    assert_eq!(sealed, 1 + 12 * (2 * 39 * 2 + 1 + 2 + 1 + 1));
}

#[test]
#[should_panic(expected = "a key with one nonce twice")]
fn the_watch_sees_a_nonce_that_is_used_twice() {
    watch::over(|| {
        let (_, edge) = joins();
        let settings = settings(&Master::new(&pair(0x11)));
        let _ = edge.seal_welcome(&settings);
        let _ = edge.seal_welcome(&settings);
    });
}

#[test]
fn secrets_are_wiped_and_not_shown() {
    fn wiped_on_drop<T: ZeroizeOnDrop>() {}
    wiped_on_drop::<Secret>();
    wiped_on_drop::<Zeroizing<[u8; 32]>>();
    let (mut client, _) = joins();
    let master = Master::new(&pair(0x11));
    let shown = format!("{:?} {client:?}", client.up);
    assert!(shown.contains("Secret(..)"));
    let of_bytes = |bytes: &[u8]| format!("{bytes:?}");
    for secret in [client.up.0, client.resume.secret.0] {
        assert!(!shown.contains(&of_bytes(&secret)));
    }
    let shown = format!("{master:?} {:?}", master.claim_key(ID));
    assert!(!shown.contains(&of_bytes(&master.secret.0)));
    assert!(!shown.contains(&of_bytes(master.mask_key.as_slice())));
    client.up.zeroize();
    assert_eq!(client.up.0, [0; 32]);
}
