//! Conformance cases as data: what goes in and what must come out (`sim/cases/*.txt`).
//!
//! A case reads like SPEC.txt. One interpreter ([`run`]) plays it on any [`Stage`]: on the core with virtual time (`sim/tests/cases.rs`),
//! and on a program through real sockets (`conformance/scenarios/cases.rs`). The peers decode with this crate's own codec.
//!
//! ```text
//! case F2.3 "a length of max + 1 is refused at its fourth byte"
//!   spec 2.2(b)
//!   row F2
//!   config clients.max_frame_bytes = 1024
//!   a joins
//!   a sends len:1025
//!   a is closed
//! ```
//!
//! | line | meaning |
//! | --- | --- |
//! | `spec S, S`, `row R` | what the case covers: sections of SPEC.txt, rows of BAD-INPUT |
//! | `core` | only for the core, though sockets could play it |
//! | `uncut` | only with every write in one read |
//! | `each v = 1 2 3` | runs once for each value, `$v` in the lines below |
//! | `config KEY = VALUE` | as in `connserver.toml`; after the first event it is a new configuration (SPEC 10.8) |
//! | `a joins`, `a connects`, `… from ADDRESS` | a new connection, as a client or silent |
//! | `a is turned away`, `a from ADDRESS is …` | a new connection that is refused before any byte |
//! | `b claims a`, `b returns as a`, `a returns` | a connection that claims the session of `a`, up to the Challenge or up to the Ping |
//! | `a sends ITEM …` | bytes; the result must not depend on how they are cut |
//! | `a ends`, `a breaks` | the end of its stream, a failure |
//! | `a stops reading`, `a takes N bytes`, `a reads` | stops reading, reads exactly these bytes, reads everything again |
//! | `a hears ITEM …`, `a hears nothing` | bodies, one for each item: `key`, `id`, `challenge`, `ping` or bytes |
//! | `… hears … ITEM N times`, `backend sends a ITEM N times` | repeated N times |
//! | `a differs from b` | their challenges and nonces differ |
//! | `a is open`, `a is closed`, `a is cut` | neither end nor failure; closed by the edge, in order or not; abruptly |
//! | `backend hears a ITEM`, `… a ends "REASON"`, `… a returns`, `… nothing` | the next packet on the link |
//! | `backend sends a ITEM …`, `backend kicks a`, `backend sends raw ITEM …` | packets, bytes |
//! | `backend ends`, `breaks`, `comes`, `stops reading`, `takes N bytes`, `reads`, `is dropped` | the link |
//! | `edge counts NAME N` | a counter or a gauge: `closed.bad_key`, `ended.kicked`, `rejected.too_fast`, `held_bytes` |
//! | `edge shuts down within 5s` | an orderly end (SPEC 9.8); `finished` counts 1 when it is over |
//! | `wait 5s` | lets time pass; `us`, `ms`, `s`, `h` |
//!
//! Items are `[hex]` (with blanks and `_` between its bytes) and `"text"`, either with `*N`; `len:N` and `id:a` (little-endian);
//! `frame:ITEM`; and whole handshake packets: `version:N`, `key` (own), `key:edge`, `key:uncompressed`, `key:ITEM`, `claim:a`, `claim:N`,
//! `challenge`, `response`, `response:zeros`, `response:echo`, `response:again`, `response:as:b` (with the key of session `b`),
//! `response:to:x` (to the challenge of connection `x`), each with `/flip=BIT`, `/cut=BYTES`, `/pad=BYTES`; `ping`. Output that no line
//! expects must not occur.

mod item;
mod link3;
mod parse;
mod run;
pub mod v3;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use item::{plain, spoil};
pub use parse::parse;
pub use run::{Incoming, Played, Stage, run};

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Its number.
    pub id: String,
    /// Its title.
    pub title: String,
    /// The file and line.
    pub place: String,
    /// Sections of SPEC.txt.
    pub spec: Vec<String>,
    /// Rows of BAD-INPUT.
    pub rows: Vec<String>,
    /// Lines of the initial configuration.
    pub config: String,
    /// Whether it is for the core alone.
    pub core_only: bool,
    /// Whether it depends on how its bytes are cut into reads.
    pub uncut: bool,
    /// Whether it is one of version 3.
    pub of_3: bool,
    /// A variable and its values, with one run for each value.
    pub each: Option<(String, Vec<String>)>,
    /// The events and what each must lead to.
    pub steps: Vec<Step>,
}

/// One line of a case.
#[derive(Clone, Debug)]
pub struct Step {
    /// The line number in the file.
    pub line: usize,
    /// Its words, split at blanks outside of quotes and brackets.
    pub words: Vec<String>,
}

impl Case {
    /// Sets the versions that the edge offers, if the case does not.
    fn offer(&mut self, versions: &str) {
        if !self.config.contains("listener.versions") {
            let line = format!("listener.versions = {versions}\n");
            self.config.insert_str(0, &line);
        }
    }

    /// Expands the case into one for each of its values.
    #[must_use]
    pub fn expanded(&self) -> Vec<Case> {
        let Some((name, values)) = &self.each else {
            return vec![self.clone()];
        };
        let one = |value: &String| {
            let mut case = self.clone();
            case.each = None;
            case.id = format!("{} {name}={value}", self.id);
            let put = |text: &mut String| *text = text.replace(&format!("${name}"), value);
            put(&mut case.config);
            case.steps
                .iter_mut()
                .flat_map(|step| &mut step.words)
                .for_each(put);
            case
        };
        values.iter().map(one).collect()
    }

    /// Returns whether real sockets can play the case. Cases that need virtual time, a network of addresses, a peer that does not read or a
    /// look inside the edge are for the core.
    #[must_use]
    pub fn is_for_sockets(&self) -> bool {
        let plain = |step: &Step| {
            let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
            match words.as_slice() {
                ["wait", time] => *time == "1ms",
                ["config", ..]
                | ["edge", "shuts", ..]
                | [_, "stops" | "takes" | "reads", ..]
                | [.., "from", _] => false,
                [.., "is", "turned", "away"] => false,
                _ => true,
            }
        };
        !self.core_only && !self.uncut && self.steps.iter().all(plain)
    }
}

/// Parses a duration such as `5s`, `20ms` or `2h`.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "h" => Some(Duration::from_secs(number * 3_600)),
        _ => None,
    }
}

/// Returns every case of an edge, sorted by file name. Those of version 3 are last. If they do not say another thing, their edge offers both
/// versions, and that of the others version 2 alone.
///
/// # Panics
/// When a file cannot be read or is malformed. The message names the place.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut cases = of_files(&directory(), &|name| name != "client.txt");
    cases.iter_mut().for_each(|case| case.offer("[2]"));
    let mut of_3 = of_files(&directory().join(V3), &|name| !name.starts_with(OF_CLIENTS));
    for case in &mut of_3 {
        case.of_3 = true;
        case.offer("[2, 3]");
    }
    cases.append(&mut of_3);
    let mut of_link = of_files(&directory().join(LINK3), &|_| true);
    for case in &mut of_link {
        // The fence of the sockets' stage has version 2, and such a link has one shard.
        case.core_only = true;
        case.of_3 = true;
        case.offer("[2, 3]");
        case.config.insert_str(0, "general.shards = 1\n");
    }
    cases.append(&mut of_link);
    cases
}

/// Returns every case of a client of version 2 that reconnects by itself (SPEC 8.5). These have lines of their own.
///
/// # Panics
/// Like [`all`].
#[must_use]
pub fn of_clients() -> Vec<Case> {
    of_files(&directory(), &|name| name == "client.txt")
}

/// Returns every case of a client of version 3 (SPEC 26.3). These have lines of their own.
///
/// # Panics
/// Like [`all`].
#[must_use]
pub fn of_clients_of_3() -> Vec<Case> {
    of_files(&directory().join(V3), &|name| name.starts_with(OF_CLIENTS))
}

const V3: &str = "v3";
/// Cases of version 3 of the backend link.
const LINK3: &str = "link3";
const OF_CLIENTS: &str = "client";

fn of_files(directory: &Path, takes: &dyn Fn(&str) -> bool) -> Vec<Case> {
    let entries = fs::read_dir(directory).expect("the cases");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    files.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".txt") && takes(&name)
    });
    files.sort();
    files.iter().flat_map(|path| read(path)).collect()
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

fn read(path: &Path) -> Vec<Case> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parse(&name, &fs::read_to_string(path).expect("text"))
}
