//! The layer, cut everywhere.

use std::io::Write as _;

use rustls::{AlertDescription, Error};
use voltlane_doors::tls::{MAX_RECORD_BYTES, TlsFault, TlsLayer};

use super::{End, MAX_HANDSHAKE_BYTES, client, client_settings, run, server, server_settings};

fn pair() -> (End, End) {
    let server = server(&server_settings(&["edge"]));
    let client = client(&client_settings("edge.example.com"));
    (End::client(&client), End::server(&server))
}

#[test]
fn every_cut_gives_the_same_stream() {
    for piece in [1, 2, 3, 5, 7, 100, usize::MAX] {
        let (mut client, mut server) = pair();
        run(&mut client, &mut server, piece).expect("a handshake");
        assert!(client.layer.is_open() && server.layer.is_open());
        let long: Vec<u8> = (0..40_000_u32).map(|at| at as u8).collect();
        client.write(b"first");
        client.write(&long);
        server.write(b"answer");
        server.write(&[]);
        run(&mut client, &mut server, piece).expect("data");
        assert_eq!(server.plain, [b"first", &long[..]].concat());
        assert_eq!(client.plain, b"answer");
        client.layer.close(&mut client.out);
        run(&mut client, &mut server, piece).expect("an end");
        assert!(server.layer.has_peer_closed() && !client.layer.has_peer_closed());
        // The other direction goes on.
        server.write(b"last");
        server.layer.close(&mut server.out);
        run(&mut client, &mut server, piece).expect("an end");
        assert_eq!(client.plain, b"answerlast");
        assert!(client.layer.has_peer_closed());
    }
}

/// Each flight of a conversation in two parts, cut at each of its bytes.
#[test]
fn a_cut_at_any_byte_of_a_record_changes_nothing() {
    let parts = |flight: &[u8], cut: usize| {
        let (first, second) = flight.split_at(cut.min(flight.len()));
        [first.to_vec(), second.to_vec()]
    };
    let mut longest = 0;
    for cut in 1.. {
        let (mut client, mut server) = pair();
        let mut round = |client: &mut End, server: &mut End| {
            while !client.out.is_empty() || !server.out.is_empty() {
                let up = std::mem::take(&mut client.out);
                longest = longest.max(up.len());
                for part in parts(&up, cut) {
                    server.take(&part).expect("up");
                }
                let down = std::mem::take(&mut server.out);
                longest = longest.max(down.len());
                for part in parts(&down, cut) {
                    client.take(&part).expect("down");
                }
            }
        };
        round(&mut client, &mut server);
        client.write(&[7; 100]);
        client.write(b"behind");
        server.write(&[8; 100]);
        round(&mut client, &mut server);
        assert_eq!(server.plain, [&[7; 100][..], b"behind"].concat(), "{cut}");
        assert_eq!(client.plain, [8; 100], "{cut}");
        assert_eq!(server.layer.kept_bytes() + client.layer.kept_bytes(), 0);
        if cut > longest {
            break;
        }
    }
    assert!(longest > 500, "a server's first flight");
}

/// The end of the handshake and the first data in one read: a layer above answers when this one has come to rest.
#[test]
fn data_behind_the_end_of_the_handshake_is_answered_in_one_step() {
    let (mut client, mut server) = pair();
    server
        .take(&std::mem::take(&mut client.out))
        .expect("a hello");
    client
        .take(&std::mem::take(&mut server.out))
        .expect("an answer");
    client.write(b"request");
    server.take(&std::mem::take(&mut client.out)).expect("both");
    assert_eq!(server.plain, b"request");
    assert!(server.layer.is_open());
    server.write(b"answer");
    run(&mut client, &mut server, usize::MAX).expect("data");
    assert_eq!(client.plain, b"answer");
}

#[test]
fn data_waits_for_the_handshake_and_nothing_half_made_is_left() {
    let (mut client, mut server) = pair();
    let before = client.out.clone();
    let early = client.layer.write(b"early", &mut client.out);
    assert_eq!(early, Err(TlsFault::NotReady));
    assert_eq!(client.out, before);
    run(&mut client, &mut server, usize::MAX).expect("a handshake");
    server.layer.close(&mut server.out);
    let end = server.out.clone();
    server.layer.close(&mut server.out);
    let late = server.layer.write(b"late", &mut server.out);
    assert_eq!((late, &server.out), (Err(TlsFault::NotReady), &end));
}

#[test]
fn records_have_the_size_that_is_promised() {
    use voltlane_doors::tls::RECORD_OVERHEAD;
    let (mut client, mut server) = pair();
    run(&mut client, &mut server, usize::MAX).expect("a handshake");
    for bytes in [0, 1, 68, MAX_RECORD_BYTES, MAX_RECORD_BYTES + 1] {
        server.out.clear();
        server.write(&vec![1; bytes]);
        let records = bytes.div_ceil(MAX_RECORD_BYTES).max(1);
        assert!(server.out.len() <= bytes + records * RECORD_OVERHEAD);
    }
}

/// What strangers send to a port with TLS.
#[test]
fn what_is_not_tls_is_answered_with_an_alert() {
    let ssl_2 = [0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10];
    let frames = [0, 0, 0, 5, 0, 0, 0, 0, 2];
    let tls_1_0 = {
        let mut hello = vec![0x16, 3, 1, 0, 47, 1, 0, 0, 43, 3, 1];
        hello.extend_from_slice(&[7; 32]);
        hello.extend_from_slice(&[0, 0, 4, 0, 0x35, 0, 0x2f, 1, 0]);
        hello
    };
    let zeros = [0; 64];
    let inputs: [&[u8]; 5] = [b"GET / HTTP/1.1\r\n\r\n", &ssl_2, &frames, &tls_1_0, &zeros];
    for input in inputs {
        for piece in [1, usize::MAX] {
            let mut server = pair().1;
            let chunks = input.chunks(piece.min(input.len()));
            let faults: Vec<_> = chunks
                .filter_map(|chunk| server.take(chunk).err())
                .collect();
            assert!(
                matches!(faults.first(), Some(TlsFault::Peer(_))),
                "{input:?}"
            );
            assert_eq!(server.out.first(), Some(&21), "an alert: {:?}", server.out);
            assert!(server.out.len() <= 7, "and nothing else");
            assert!(!server.layer.is_open());
        }
    }
}

#[test]
fn a_damaged_record_ends_the_connection() {
    let (mut client, mut server) = pair();
    run(&mut client, &mut server, usize::MAX).expect("a handshake");
    client.write(b"data");
    client.out[7] ^= 1;
    let fault = server.take(&client.out).expect_err("it is damaged");
    assert_eq!(fault, TlsFault::Peer(Error::DecryptError));
    assert!(server.plain.is_empty());
    assert!(!server.out.is_empty(), "an alert");
    let alert = client.take(&server.out).expect_err("it says so");
    let expected = Error::AlertReceived(AlertDescription::BadRecordMac);
    assert_eq!(alert, TlsFault::Peer(expected));
}

#[test]
fn the_bytes_of_a_handshake_are_bounded() {
    let tls = server(&server_settings(&["edge"]));
    let hello = std::mem::take(&mut pair().0.out);
    // At the bound, and one below what is needed.
    let mut server = End::new(TlsLayer::server(&tls, hello.len()));
    server.take(&hello).expect("it fits");
    let mut server = End::new(TlsLayer::server(&tls, hello.len() - 1));
    let fault = server.take(&hello).expect_err("it does not");
    assert_eq!(fault, TlsFault::LongHandshake(hello.len() - 1));
    // A hello of 16 KiB that never ends, in records of one byte.
    let mut server = End::server(&tls);
    let mut sent = 0;
    let fault = loop {
        let byte = [1, 0, 0x3f, 0xff].get(sent / 6).copied().unwrap_or(3);
        if let Err(fault) = server.take(&[0x16, 3, 1, 0, 1, byte]) {
            break fault;
        }
        sent += 6;
        assert!(sent <= MAX_HANDSHAKE_BYTES, "it ends");
    };
    assert!(matches!(
        fault,
        TlsFault::LongHandshake(_) | TlsFault::Peer(_)
    ));
}

/// A server after its handshake with a client of rustls's own.
fn met() -> (End, rustls::ClientConnection) {
    let mut config = (*client(&client_settings("edge.example.com")).config()).clone();
    config.enable_secret_extraction = true;
    let name = "edge.example.com".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(config.into(), name).expect("a client");
    let mut server = pair().1;
    while client.is_handshaking() || client.wants_write() {
        server.take(&sent(&mut client)).expect("a handshake");
        receive(&mut client, &std::mem::take(&mut server.out));
    }
    (server, client)
}

/// Returns what the client has to send.
fn sent(client: &mut rustls::ClientConnection) -> Vec<u8> {
    let mut up = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut up).expect("memory");
    }
    up
}

fn receive(client: &mut rustls::ClientConnection, mut down: &[u8]) {
    while !down.is_empty() {
        client.read_tls(&mut down).expect("memory");
        client.process_new_packets().expect("nothing is wrong");
    }
}

/// A key update costs a derivation of keys and an answer, and gives nothing. A byte of data pays for those before it.
#[test]
fn key_updates_are_bounded_until_there_is_data() {
    /// As many as rustls takes.
    const IN_A_ROW: usize = 32;
    let (mut server, mut client) = met();
    let updates = |client: &mut rustls::ClientConnection, count| {
        for _ in 0..count {
            client.refresh_traffic_keys().expect("TLS 1.3");
        }
    };
    for _ in 0..3 {
        updates(&mut client, IN_A_ROW);
        client.writer().write_all(b"pays").expect("memory");
        server.take(&sent(&mut client)).expect("at the bound");
        assert!(server.out.len() <= IN_A_ROW * 32, "answers are bounded");
        receive(&mut client, &std::mem::take(&mut server.out));
    }
    assert_eq!(server.plain, b"payspayspays");
    assert_eq!(server.layer.footprint_bytes(), 0);
    server.write(b"still here");
    receive(&mut client, &std::mem::take(&mut server.out));
    updates(&mut client, IN_A_ROW + 1);
    let fault = server.take(&sent(&mut client)).expect_err("one beyond");
    let too_many = rustls::PeerMisbehaved::TooManyKeyUpdateRequests;
    assert_eq!(fault, TlsFault::Peer(too_many.into()));
    assert!(!server.layer.is_open());
}

/// A server after its handshake, and what makes records for it that hold handshake messages, which no client sends so.
fn sealing() -> (End, impl FnMut(&[u8]) -> Vec<u8>) {
    let (server, client) = met();
    let secrets = client.dangerous_extract_secrets().expect("they are known");
    let (mut sequence, secrets) = secrets.tx;
    let rustls::ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
        panic!("the first choice of the provider");
    };
    let key = ring::aead::UnboundKey::new(&ring::aead::AES_256_GCM, key.as_ref());
    let key = ring::aead::LessSafeKey::new(key.expect("a key"));
    let record = move |content: &[u8]| {
        let mut nonce: [u8; 12] = iv.as_ref().try_into().expect("12 bytes");
        for (byte, of) in nonce[4..].iter_mut().zip(sequence.to_be_bytes()) {
            *byte ^= of;
        }
        sequence += 1;
        // A handshake message within an encrypted record.
        let mut sealed = [content, &[22]].concat();
        let length = (sealed.len() as u16 + 16).to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce, ring::aead::Aad::from(header), &mut sealed)
            .expect("it seals");
        [&header[..], &sealed].concat()
    };
    (server, record)
}

/// rustls remembers places in the bytes that it was given, and panics if they are gone at the next call. A peer chooses where a handshake
/// message is cut, so writing between the two parts must not depend on it.
#[test]
fn data_can_be_sent_between_the_parts_of_a_handshake_message() {
    let (mut server, mut record) = sealing();
    // A KeyUpdate that asks for none in return.
    server.take(&record(&[24, 0, 0])).expect("a part");
    server.write(b"between");
    assert!(server.layer.footprint_bytes() > 0);
    server.take(&record(&[1, 0])).expect("the rest");
    server.write(b"behind");
    assert_eq!(server.layer.footprint_bytes(), 0);
}

/// A message of nearly 64 KiB would have to be kept whole. It is no fault of a handshake.
#[test]
fn a_long_message_after_the_handshake_is_refused() {
    let (mut server, mut record) = sealing();
    server.take(&record(&[24, 0, 0xff, 0xf0])).expect("a part");
    let fault = (0..5).find_map(|_| server.take(&record(&[0; 8_000])).err());
    assert!(matches!(fault, Some(TlsFault::LongRecord(_))), "{fault:?}");
}

/// An edge lets a few key exchanges happen at a time. Those that wait cost it a hello in memory.
#[test]
fn a_metered_key_exchange_waits_to_be_permitted() {
    for piece in [1, 100, usize::MAX] {
        let (mut client, mut server) = pair();
        server.layer.meter();
        let hello = std::mem::take(&mut client.out);
        for part in hello.chunks(piece.min(hello.len())) {
            assert!(!server.layer.is_due());
            server.take(part).expect("a part of a hello");
        }
        assert!(server.layer.is_due() && server.out.is_empty());
        assert_eq!(server.layer.kept_bytes(), hello.len());
        server.take(&[]).expect("it waits");
        assert!(server.out.is_empty(), "no answer yet");
        server.layer.permit();
        server.take(&[]).expect("the exchange");
        assert!(!server.layer.is_due() && !server.out.is_empty());
        server.layer.meter();
        run(&mut client, &mut server, piece).expect("the rest is not metered");
        client.write(b"data");
        run(&mut client, &mut server, piece).expect("data");
        assert_eq!(server.plain, b"data");
    }
}

#[test]
fn what_is_no_hello_needs_no_permit_and_what_waits_is_bounded() {
    for wrong in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 64]] {
        let mut server = pair().1;
        server.layer.meter();
        assert!(matches!(server.take(wrong), Err(TlsFault::Peer(_))));
        assert!(!server.layer.is_due());
    }
    let mut server = pair().1;
    server.layer.meter();
    server
        .take(&[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc])
        .expect("a part of a hello");
    server
        .take(&vec![0; MAX_HANDSHAKE_BYTES - 9])
        .expect("at the bound");
    let fault = server.take(&[0]).expect_err("one beyond");
    assert_eq!(fault, TlsFault::LongHandshake(MAX_HANDSHAKE_BYTES));
    assert_eq!(server.layer.kept_bytes(), 0);
}
