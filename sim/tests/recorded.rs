//! What an edge was told is recorded, and the same machine does the same again. (SPEC 42)

use std::collections::{BTreeSet, HashSet};

use sim::plan::generate;
use sim::recorded::{self, Addresses, Timeline};
use sim::{block, engine, link3, v3};
use voltlane_core::edge::record::{Call, Recording, RecordingError, Replay, Sealer};
use voltlane_core::keys::KeyPair;

const FEW: u64 = 12;
const FULL: u64 = 200;

/// Runs each recording again, and returns how many records there were.
fn run_again(files: &[Vec<u8>], seed: u64) -> u64 {
    assert!(!files.is_empty(), "seed {seed} has no machine");
    let each = files.iter().map(|file| {
        let recording = recorded::open(file);
        assert_eq!(recording.torn_bytes(), 0);
        let mut replay = Replay::new(&recording).expect("a machine");
        let (records, _, difference) = replay.run().expect("good records");
        assert_eq!(difference, None, "seed {seed}");
        records
    });
    each.sum()
}

#[test]
fn machines_of_every_engine_do_the_same_again() {
    let (mut records, mut alone) = (0, 0);
    for seed in 0..block::seeds(FEW, FULL) {
        let plan = generate(seed);
        let files = recorded::of(|| drop(engine::run(&plan)));
        records += run_again(&files, seed);
        run_again(&recorded::of(|| drop(v3::run(seed))), seed);
        let of_link3 = recorded::of(|| drop(link3::run(seed)));
        // An edge of several shards is not recorded (SPEC 42.1).
        if !of_link3.is_empty() {
            alone += run_again(&of_link3, seed);
        }
    }
    assert!(records > 200 && alone > 200, "{records} {alone}");
}

/// Runs each segment again. Each begins with an image and ends with a digest of one, so the whole machine is compared. Returns how many there
/// were.
fn run_segments_again(machines: &[Vec<Vec<u8>>], seed: u64) -> usize {
    for segments in machines {
        run_again(segments, seed);
    }
    machines.iter().map(Vec::len).sum()
}

#[test]
fn a_machine_that_is_made_of_an_image_goes_on_as_the_first_one_did() {
    const SEGMENT_BYTES: usize = 24 * 1024;
    let mut segments = 0;
    for seed in 0..block::seeds(FEW, FULL) {
        let plan = generate(seed);
        let of_engine = recorded::segments_of(SEGMENT_BYTES, || drop(engine::run(&plan)));
        segments += run_segments_again(&of_engine, seed);
        let of_v3 = recorded::segments_of(SEGMENT_BYTES, || drop(v3::run(seed)));
        segments += run_segments_again(&of_v3, seed);
        let of_link3 = recorded::segments_of(SEGMENT_BYTES, || drop(link3::run(seed)));
        segments += run_segments_again(&of_link3, seed);
    }
    assert!(segments as u64 > 5 * FEW, "{segments}");
}

#[test]
fn a_run_that_is_recorded_is_the_same_run() {
    for seed in 0..FEW {
        let plan = generate(seed);
        let mut hash = 0;
        recorded::segments_of(1 << 16, || hash = engine::run(&plan).hash);
        assert_eq!(hash, engine::run(&plan).hash);
        recorded::segments_of(1 << 16, || hash = v3::run(seed).hash);
        assert_eq!(hash, v3::run(seed).hash);
    }
}

/// Returns a short recording.
fn file() -> Vec<u8> {
    let plan = generate(3);
    recorded::of(|| drop(engine::run(&plan))).swap_remove(0)
}

#[test]
fn every_torn_file_gives_what_is_whole_of_it() {
    let file = file();
    let whole = recorded::open(&file).chunks();
    let mut seen = 0;
    for cut in (0..file.len()).step_by(997) {
        let torn = &file[..cut];
        match Recording::open(torn, &edge_key()) {
            Ok(recording) => {
                assert!(recording.chunks() >= seen && recording.chunks() <= whole);
                seen = recording.chunks();
                let mut replay = Replay::new(&recording).expect("a machine");
                assert!(replay.run().expect("whole records").2.is_none());
            }
            Err(error) => {
                assert_eq!(seen, 0);
                let expected = match cut < 8 {
                    true => RecordingError::Foreign,
                    false => RecordingError::Empty,
                };
                assert_eq!(error, expected);
            }
        }
    }
}

#[test]
fn what_is_no_recording_of_this_edge_is_refused() {
    let file = file();
    let refused = |bytes: &[u8]| Recording::open(bytes, &edge_key()).expect_err("refused");
    assert_eq!(refused(b"#!/bin/sh"), RecordingError::Foreign);
    let mut other = file.clone();
    for format in [1, 2, 4] {
        other[8] = format;
        let format = u32::from(format);
        assert_eq!(refused(&other), RecordingError::Format { format });
    }
    for at in [12, 43, 48, 100] {
        let mut other = file.clone();
        other[at] ^= 1;
        assert_eq!(refused(&other), RecordingError::Sealed, "{at}");
    }
    let key = KeyPair::from_bytes(&[77; 32]).expect("below the order");
    let error = Recording::open(&file, &key).expect_err("another key");
    assert_eq!(error, RecordingError::Sealed);
    // A later chunk.
    let mut sealer = Sealer::new(&edge_key(), [1; 32]);
    let mut two = sealer.header().to_vec();
    sealer.append(vec![1; 10], &mut two);
    sealer.append(vec![2; 10], &mut two);
    let last = two.len() - 1;
    two[last] ^= 1;
    assert_eq!(refused(&two), RecordingError::Changed { chunk: 1 });
}

/// The key of simulated edges, as a recording has it.
fn edge_key() -> KeyPair {
    recorded::edge_key().clone()
}

#[test]
fn lines_have_every_call_and_nothing_of_packets() {
    let file = file();
    let recording = recorded::open(&file);
    let mut lines = Vec::new();
    recorded::write_lines(&recording, &mut lines).expect("a buffer takes all");
    let lines = String::from_utf8(lines).expect("text");
    let records = Replay::new(&recording)
        .expect("a machine")
        .run()
        .expect("good");
    assert_eq!(lines.lines().count() as u64, records.0 + 1);
    assert!(
        lines.contains("handle_accepted_at listener 0 source 1 conn 0"),
        "{lines}"
    );
    assert!(!lines.contains("DIFFERENT"));
}

/// Returns what of a recording must not be shared: addresses as text, and the ends of all that the machine was told, as they are and in
/// hexadecimal digits.
fn secrets_of(recording: &Recording) -> BTreeSet<Vec<u8>> {
    let mut secrets = BTreeSet::new();
    let mut add = |bytes: &[u8]| {
        for part in [bytes.first_chunk::<12>(), bytes.last_chunk::<12>()] {
            let Some(part) = part else { continue };
            let digits: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            secrets.extend([part.to_vec(), digits.into_bytes()]);
        }
    };
    let mut peers = BTreeSet::new();
    let mut replay = Replay::new(recording).expect("a machine");
    while let Some(step) = replay.step().expect("good records") {
        match step.call {
            Call::Accepted { peer, .. } => drop(peers.insert(peer.to_string().into_bytes())),
            Call::ClientBytes { bytes, .. } | Call::LinkBytes(bytes) => add(bytes),
            Call::Entropy { random, .. } => add(random),
            _ => {}
        }
    }
    add(&*edge_key().to_bytes());
    secrets.append(&mut peers);
    secrets
}

#[test]
fn what_is_redacted_has_no_packet_no_key_and_no_address() {
    let mut secrets = 0;
    for seed in 0..FEW / 3 {
        let plan = generate(seed);
        let mut files = recorded::of(|| drop(engine::run(&plan)));
        files.extend(recorded::of(|| drop(v3::run(seed))));
        files.extend(recorded::of(|| drop(link3::run(seed))));
        for file in files {
            let recording = recorded::open(&file);
            let mut shared = Vec::new();
            recorded::write_lines(&recording, &mut shared).expect("a buffer takes all");
            let timeline = Timeline::of(&recording, Addresses::Numbered).expect("good records");
            shared.extend(recorded::render("edge.record", &timeline).bytes());
            let hidden = secrets_of(&recording);
            let all: HashSet<&[u8]> = hidden.iter().map(Vec::as_slice).collect();
            let lengths: BTreeSet<usize> = hidden.iter().map(Vec::len).collect();
            for length in lengths {
                let shown = shared.windows(length).find(|window| all.contains(window));
                assert_eq!(shown, None, "seed {seed}");
            }
            secrets += hidden.len();
        }
    }
    assert!(secrets > 1000, "{secrets}");
}

#[test]
fn a_page_says_what_happened_and_nothing_of_packets() {
    let file = file();
    let recording = recorded::open(&file);
    let timeline = Timeline::of(&recording, Addresses::Numbered).expect("good records");
    assert!(timeline.is_same());
    let page = recorded::render("edge.record", &timeline);
    for says in [
        "event for event the same",
        "sessions begun",
        "source 1",
        "handle_client_bytes",
    ] {
        assert!(page.contains(says), "{says}");
    }
    assert!(timeline.summary().contains("event for event the same"));
}
