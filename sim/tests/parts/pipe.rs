//! Simulated connections.

use sim::engine::pipe::{End, Pipe};
use sim::rng::Rng;

#[test]
fn bytes_arrive_in_order_within_the_delay_and_the_capacity() {
    let mut pipe = Pipe::new(1_000, 5_000, Rng::new(3));
    let sent: Vec<u8> = (0..=255).cycle().take(1_000).collect();
    let mut arrivals = Vec::new();
    for piece in sent.chunks(90) {
        pipe.write(0, piece, &mut arrivals);
    }
    assert_eq!(pipe.room(), 0);
    assert!(arrivals.iter().all(|&at| at < 5_000_000));
    let mut got = Vec::new();
    for at in arrivals {
        pipe.advance(at);
        got.extend(pipe.read(37));
    }
    got.extend(pipe.read(1_000));
    assert_eq!(got, sent);
    assert_eq!(pipe.room(), 1_000);
}

#[test]
fn a_reset_loses_what_was_not_read_and_a_fin_does_not() {
    for (end, left) in [(End::Fin, 3), (End::Rst, 0)] {
        let mut pipe = Pipe::new(10, 0, Rng::new(3));
        pipe.write(0, b"abc", &mut Vec::new());
        pipe.advance(1);
        let at = pipe.end(1, end).expect("the first end");
        pipe.advance(at);
        assert_eq!(pipe.readable(), left);
        pipe.read(10);
        assert_eq!(pipe.ended(at), Some(end));
    }
}

#[test]
fn a_silent_host_takes_bytes_until_its_peer_is_full() {
    let mut pipe = Pipe::new(4, 0, Rng::new(3));
    pipe.go_silent();
    pipe.write(0, b"abcd", &mut Vec::new());
    pipe.advance(u64::MAX - 1);
    assert_eq!((pipe.room(), pipe.readable()), (0, 0));
    assert_eq!(pipe.end(9, End::Fin), None);
}
