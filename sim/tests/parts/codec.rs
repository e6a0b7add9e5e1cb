//! The simulator's own codec.

use sim::codec::{Frames, Hello, LENGTH_BYTES, TooLong, frame};

#[test]
fn every_packet_reads_back_and_nothing_but_its_exact_form_does() {
    let edge_values = [
        0,
        250,
        251,
        0xffff,
        0x1_0000,
        0xffff_ffff,
        0x1_0000_0000,
        u64::MAX,
    ];
    let mut all = vec![
        Hello::Ping,
        Hello::Version(2),
        Hello::PublicKey(vec![2; 33]),
        Hello::Challenge(vec![7; 300]),
    ];
    all.extend(edge_values.map(Hello::Id));
    for hello in all {
        let bytes = hello.to_frame();
        let body = &bytes[LENGTH_BYTES..];
        assert_eq!(Hello::read(body).as_ref(), Some(&hello));
        for cut in 0..body.len() {
            assert_eq!(Hello::read(&body[..cut]), None, "{hello:?} cut at {cut}");
        }
        assert_eq!(
            Hello::read(&[body, &[0]].concat()),
            None,
            "{hello:?} with a byte more"
        );
    }
    assert_eq!(
        Hello::read(&[3, 251, 250, 0]),
        None,
        "longer than it must be"
    );
    assert_eq!(Hello::read(&[6]), None);
}

#[test]
fn frames_come_out_whole_at_every_split() {
    let stream = [frame(b""), frame(b"abc"), frame(&[9; 300])].concat();
    for step in 1..stream.len() {
        let (mut frames, mut bodies) = (Frames::default(), Vec::new());
        for part in stream.chunks(step) {
            frames.push(part);
            while let Some(body) = frames.next_body(300).expect("none is too long") {
                bodies.push(body);
            }
        }
        assert_eq!(bodies, [b"".to_vec(), b"abc".to_vec(), vec![9; 300]]);
        assert_eq!(frames.held(), 0);
    }
    let mut frames = Frames::default();
    frames.push(&[45, 1, 0, 0]);
    assert_eq!(
        frames.next_body(300),
        Err(TooLong {
            length: 301,
            max: 300
        })
    );
}
