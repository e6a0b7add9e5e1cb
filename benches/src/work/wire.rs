//! The parts: framing, tagging, queueing, handshake packets, keys.

use std::hint::black_box;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use voltlane_core::keys::{CHALLENGE_BYTES, KeyPair, NONCE_BYTES};
use voltlane_core::link::tagged::{Flag, TAG_BYTES, Tagged};
use voltlane_core::v2::packets::Handshake;
use voltlane_core::wire::frame::{FrameReader, encode_frame};
use voltlane_core::{ClientId, FrameQueue};

use super::{Kind, SIZES, Work};

/// Bytes per step: half a read of a driver, so that a queue of it stays within the capacity that a queue keeps.
const BATCH_BYTES: usize = 32 * 1024;
const MAX_BODY: u32 = 1 << 20;
const ID: ClientId = ClientId::from_u64(0x0123_4567_89ab_cdef);

pub(super) fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for size in SIZES {
        kinds.push(Kind::new("decode", size, decode));
        kinds.push(Kind::new("tag", size, tag));
        kinds.push(Kind::new("untag", size, untag));
        kinds.push(Kind::new("queue", size, queue));
    }
    kinds.push(Kind::new("queue-cut", 64, queue_cut));
    kinds.push(Kind::new("handshake-decode", 33, handshake_decode));
    kinds.push(Kind::new("key-agreement", 32, key_agreement));
    kinds.push(Kind::allocating(
        "seal-and-open",
        CHALLENGE_BYTES,
        1,
        seal_and_open,
    ));
    kinds
}

fn batch(size: usize) -> usize {
    (BATCH_BYTES / (size + 4)).max(1)
}

fn decode(size: usize) -> Work {
    let count = batch(size);
    let mut stream = Vec::new();
    (0..count).for_each(|_| encode_frame(&vec![7; size], &mut stream));
    let mut reader = FrameReader::default();
    Work::new(count, move || {
        let mut input = black_box(&stream[..]);
        while let Ok(Some(body)) = reader.next_frame(&mut input, MAX_BODY) {
            black_box(body);
        }
        assert!(input.is_empty());
    })
}

fn tag(size: usize) -> Work {
    let count = batch(size);
    let data = vec![7; size];
    let mut out = Vec::new();
    Work::new(count, move || {
        out.clear();
        for _ in 0..count {
            Tagged {
                id: ID,
                flag: Flag::Data,
                data: black_box(&data),
            }
            .encode(&mut out);
        }
        black_box(&out);
    })
}

fn untag(size: usize) -> Work {
    let count = batch(size);
    let mut stream = Vec::new();
    let data = vec![7; size];
    (0..count).for_each(|_| {
        Tagged {
            id: ID,
            flag: Flag::Data,
            data: &data,
        }
        .encode(&mut stream)
    });
    let mut reader = FrameReader::default();
    Work::new(count, move || {
        let mut input = black_box(&stream[..]);
        while let Ok(Some(body)) = reader.next_frame(&mut input, MAX_BODY + TAG_BYTES as u32) {
            black_box(Tagged::decode(body)).expect("it is what was encoded");
        }
        assert!(input.is_empty());
    })
}

fn queue(size: usize) -> Work {
    let count = batch(size);
    let data = vec![7; size];
    let header = (size as u32).to_le_bytes();
    let mut queue = FrameQueue::new();
    Work::new(count, move || {
        (0..count).for_each(|_| queue.push_frame(&header, black_box(&data)));
        queue.advance(black_box(queue.output()).len());
    })
}

/// Like [`queue`], but written in pieces that end inside frames.
fn queue_cut(size: usize) -> Work {
    let count = batch(size);
    let data = vec![7; size];
    let header = (size as u32).to_le_bytes();
    let mut queue = FrameQueue::new();
    Work::new(count, move || {
        (0..count).for_each(|_| queue.push_frame(&header, black_box(&data)));
        while !queue.is_empty() {
            queue.advance(black_box(queue.output()).len().min(1461));
        }
    })
}

fn handshake_decode(_: usize) -> Work {
    let key = KeyPair::generate(&mut rng()).public();
    let mut frame = Vec::new();
    Handshake::PubKey(key.as_bytes()).encode(&mut frame);
    Work::new(1, move || {
        black_box(Handshake::decode(black_box(&frame[4..]))).expect("it is what was encoded");
    })
}

fn key_agreement(_: usize) -> Work {
    let mut rng = rng();
    let pair = KeyPair::generate(&mut rng);
    let peer = KeyPair::generate(&mut rng).public();
    Work::new(1, move || {
        black_box(pair.agree(black_box(&peer)));
    })
}

fn seal_and_open(size: usize) -> Work {
    let mut rng = rng();
    let pair = KeyPair::generate(&mut rng);
    let key = pair.agree(&KeyPair::generate(&mut rng).public());
    let plain = vec![7; size];
    let mut sealed = Vec::new();
    Work::new(1, move || {
        sealed.clear();
        key.seal_with_nonce(black_box(&plain), &[9; NONCE_BYTES], &mut sealed);
        black_box(key.open(&sealed)).expect("it was sealed with this key");
    })
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::from_seed([5; 32])
}
