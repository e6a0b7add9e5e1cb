//! Recordings of an edge (SPEC 42): those of a program are run again and shown, and those of simulated edges are made and compared.
//!
//! | file | contents |
//! | --- | --- |
//! | `mod.rs` | recordings of simulated edges, and the files of programs |
//! | `timeline.rs` | what happened to each connection and session, as a machine that is run again shows it |
//! | `page.rs` | the same as a page for any browser |
//! | `lines.rs` | each call as a line of text, without what must not be shared |

mod lines;
mod page;
mod timeline;

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, Mutex};

use voltlane_core::edge::Edge;
use voltlane_core::edge::record::{CHUNK_BYTES, Recording, Sealer, Segments, Sink};
use voltlane_core::keys::KeyPair;

pub use lines::write_lines;
pub use page::render;
pub use timeline::{Addresses, Timeline};

use crate::engine::identity::edge_pair;

/// The first bytes of a file with a recording.
const MAGIC: &[u8] = b"VLRECORD";

/// The segments of one machine, each with its chunks.
type Tape = Arc<Mutex<Vec<Vec<Vec<u8>>>>>;

/// What a thread that records has.
struct Tapes {
    segments: Segments,
    /// The machines that were made.
    machines: Vec<Tape>,
}

thread_local! {
    static TAPES: RefCell<Option<Tapes>> = const { RefCell::new(None) };
}

struct Keep(Tape);

impl Sink for Keep {
    fn take(&mut self, chunk: Vec<u8>, begins: bool) -> Option<Vec<u8>> {
        let mut segments = self.0.lock().expect("nobody panics here");
        if begins {
            segments.push(Vec::new());
        }
        segments.last_mut().expect("the first begins").push(chunk);
        Some(Vec::new())
    }

    fn give_up(&mut self) {
        panic!("an image of a simulated machine is too large");
    }
}

/// Records a machine that was just made, if this thread [records](of).
pub(crate) fn attach(edge: &mut Edge, seed: &[u8; 32]) {
    TAPES.with_borrow_mut(|tapes| {
        if let Some(tapes) = tapes {
            let tape = Tape::default();
            let sink = Box::new(Keep(Arc::clone(&tape)));
            edge.record(seed, tapes.segments, sink)
                .expect("it is new, and has no shards");
            tapes.machines.push(tape);
        }
    });
}

/// Records each machine of the engines that `run` makes. Returns their files, of one segment each.
pub fn of(run: impl FnOnce()) -> Vec<Vec<u8>> {
    tapes_of(Segments::ONE, run).into_iter().flatten().collect()
}

/// Records each machine of the engines that `run` makes, in segments of about so many bytes beside their images. Returns the files of each.
pub fn segments_of(bytes: usize, run: impl FnOnce()) -> Vec<Vec<Vec<u8>>> {
    let segments = Segments {
        bytes: bytes + CHUNK_BYTES,
        image_bytes: usize::MAX,
    };
    tapes_of(segments, run)
}

fn tapes_of(segments: Segments, run: impl FnOnce()) -> Vec<Vec<Vec<u8>>> {
    TAPES.set(Some(Tapes {
        segments,
        machines: Vec::new(),
    }));
    run();
    let tapes = TAPES.take().map(|tapes| tapes.machines);
    let files = |tape: Tape| {
        let segments = std::mem::take(&mut *tape.lock().expect("nobody panics here"));
        segments.into_iter().map(file_of).collect()
    };
    tapes.unwrap_or_default().into_iter().map(files).collect()
}

fn file_of(chunks: Vec<Vec<u8>>) -> Vec<u8> {
    let mut sealer = Sealer::new(edge_pair(), [7; 32]);
    let mut file = sealer.header().to_vec();
    for chunk in chunks {
        sealer.append(chunk, &mut file);
    }
    file
}

/// Returns the key of simulated edges.
#[must_use]
pub fn edge_key() -> &'static KeyPair {
    edge_pair()
}

/// Opens a recording of a simulated edge.
///
/// # Panics
/// When it does not open.
#[must_use]
pub fn open(file: &[u8]) -> Recording {
    Recording::open(file, edge_pair()).expect("it was just made")
}

/// Returns whether a file is a recording, and not a plan.
#[must_use]
pub fn is_recording(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads the file with an edge's key: lines that begin with `#`, and one with `secp256k1` and 64 hexadecimal digits.
///
/// # Errors
/// When it cannot be read, or has no key. It says nothing of what is in the file.
pub fn read_key(path: &Path) -> Result<KeyPair, String> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    let digits = lines.find_map(|line| line.trim().strip_prefix("secp256k1"));
    let none = || format!("{name}: there is no secp256k1 key in it as an edge writes it");
    let digits = digits.ok_or_else(none)?.trim();
    let mut key = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return Err(none());
    }
    for (at, byte) in key.iter_mut().enumerate() {
        let digits = digits.get(2 * at..2 * at + 2).ok_or_else(none)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| none())?;
    }
    KeyPair::from_bytes(&key).map_err(|_| none())
}
