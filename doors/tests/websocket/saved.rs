//! A decoder of another process (SPEC 41.1(c)).

use voltlane_doors::websocket::{Decoder, Event, Role};

const MASK: [u8; 4] = [0x5a, 0xa5, 0x0f, 0xf1];

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    let payload = payload.iter().zip(MASK.iter().cycle());
    frame.extend(payload.map(|(byte, mask)| byte ^ mask));
    frame
}

/// Every kind of frame. The stream ends with one that may follow no other message than a fragmented one.
fn stream() -> Vec<u8> {
    let frames = [
        masked(0x82, b"a message"),
        masked(0x89, b"ping"),
        masked(0x02, &[7; 130]),
        masked(0x8a, b""),
        masked(0x00, b""),
        masked(0x80, b"the end of it"),
        masked(0x88, &[0x03, 0xe8, b'!']),
    ];
    frames.concat()
}

/// Adds what this decoder finds in the bytes, without how data is cut.
fn decode(decoder: &mut Decoder, bytes: &[u8], found: &mut String) {
    let mut bytes = bytes.to_vec();
    let mut input = &mut bytes[..];
    loop {
        let event = decoder.decode(&mut input).expect("a stream in order");
        match event {
            None => return,
            Some(Event::Data(data)) => found.push_str(&String::from_utf8_lossy(data)),
            Some(Event::Ping) => {
                let payload = String::from_utf8_lossy(decoder.control()).into_owned();
                found.push_str(&format!("<ping {payload}>"));
            }
            Some(other) => found.push_str(&format!("<{other:?}>")),
        }
    }
}

#[test]
fn a_decoder_goes_on_in_another_process_from_any_byte() {
    let stream = stream();
    let mut expected = String::new();
    decode(&mut Decoder::new(Role::Server, 200), &stream, &mut expected);
    for cut in 0..=stream.len() {
        let (first, rest) = stream.split_at(cut);
        let mut found = String::new();
        let mut decoder = Decoder::new(Role::Server, 200);
        decode(&mut decoder, first, &mut found);
        let mut saved = Vec::new();
        let is_open = decoder.save(&mut saved);
        assert_eq!(is_open, cut < stream.len(), "nothing comes after a CLOSE");
        if is_open {
            let mut decoder = Decoder::load(Role::Server, &saved).expect("it was saved");
            let mut again = Vec::new();
            assert!(decoder.save(&mut again));
            assert_eq!(again, saved, "at {cut}");
            decode(&mut decoder, rest, &mut found);
        }
        assert_eq!(found, expected, "at {cut}");
    }
}

#[test]
fn a_bound_on_messages_holds_over_processes() {
    let mut decoder = Decoder::new(Role::Server, 20);
    let mut saved = Vec::new();
    decode(&mut decoder, &masked(0x02, &[7; 15]), &mut String::new());
    assert!(decoder.save(&mut saved));
    for (more, fits) in [(5, true), (6, false)] {
        let mut decoder = Decoder::load(Role::Server, &saved).unwrap();
        let mut bytes = masked(0x80, &vec![7; more]);
        assert_eq!(decoder.decode(&mut &mut bytes[..]).is_ok(), fits);
    }
}

/// Any byte that is changed, and any cut: no panic, and what is loaded is sound.
#[test]
fn changed_bytes_are_refused_or_cause_no_panic() {
    let stream = stream();
    for cut in 0..stream.len() {
        let mut decoder = Decoder::new(Role::Server, 0);
        decode(&mut decoder, &stream[..cut], &mut String::new());
        let mut saved = Vec::new();
        assert!(decoder.save(&mut saved));
        for at in 0..saved.len() {
            assert!(Decoder::load(Role::Server, &saved[..at]).is_none());
            for change in [1, 0x80, 0xff] {
                let mut changed = saved.clone();
                changed[at] ^= change;
                let loaded = Decoder::load(Role::Server, &changed);
                let Some(mut decoder) = loaded else { continue };
                let mut rest = stream[cut..].to_vec();
                let mut input = &mut rest[..];
                while let Ok(Some(_)) = decoder.decode(&mut input) {}
            }
        }
        saved.push(0);
        assert!(Decoder::load(Role::Server, &saved).is_none(), "too long");
    }
}
