//! What stands in an engine: one line of JSON for each home, which people can read. (SPEC 43.3)

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::MAX_VALUE_BYTES;

/// The form of records that this crate writes and reads.
const FORM: u32 = 1;
/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_secs(1);
/// The longest lease. A record with a longer one is nonsense, since its home would be lost with its edge.
pub const MAX_LEASE: Duration = Duration::from_secs(300);
/// The most bytes of the name of an edge for people.
pub const MAX_LABEL_BYTES: usize = 64;
/// The most bytes of the address of a backend in a record.
pub const MAX_BACKEND_BYTES: usize = 256;
/// The greatest home.
pub const MAX_HOME: u16 = 4_095;

/// The name of a cluster: 1 to 32 letters, digits, `-` and `_`. Clusters of different names share nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterName(String);

impl ClusterName {
    /// The most bytes of a name.
    pub const MAX_BYTES: usize = 32;

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ClusterName {
    fn default() -> Self {
        ClusterName("voltlane".to_owned())
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no name of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a name has 1 to {max} letters of ASCII, digits, \"-\" and \"_\"", max = ClusterName::MAX_BYTES)]
#[non_exhaustive]
pub struct BadName;

impl FromStr for ClusterName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<ClusterName, BadName> {
        let is_permitted = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_name =
            (1..=ClusterName::MAX_BYTES).contains(&text.len()) && text.bytes().all(is_permitted);
        is_name.then(|| ClusterName(text.to_owned())).ok_or(BadName)
    }
}

/// Who has a home.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "tests make it")]
pub struct Holder {
    /// Drawn by each process, so that it knows its own writes. Two processes with the same run have different ones.
    pub nonce: u64,
    /// The run of the edge, once it has begun.
    pub run: Option<u64>,
    /// Its machine and process, for people.
    pub label: String,
    /// The address of its backend.
    pub backend: String,
    /// Whether it has a link to its backend.
    pub is_linked: bool,
}

/// The record of a home.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "tests make it")]
pub struct Record {
    /// The last term of the home.
    pub term: u32,
    /// How long the holder has the home after each write.
    pub lease: Duration,
    /// When it was written, in seconds since 1970 by the clock of who wrote it. For people: nothing is decided by it.
    pub written: u64,
    /// `None`: the home was given back.
    pub holder: Option<Holder>,
}

/// Why a value is no record of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The value is of another cluster.
    #[error("the record is of the cluster \"{0}\"")]
    Foreign(String),
    /// The value has a form that a later version writes.
    #[error("the record has form {0}, of a later version")]
    Later(u32),
    /// The value is none of ours.
    #[error("the record makes no sense: {0}")]
    Nonsense(&'static str),
}

#[derive(Serialize, Deserialize)]
struct Text {
    form: u32,
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    home: u16,
    #[serde(default)]
    term: u32,
    #[serde(default)]
    lease_ms: u64,
    #[serde(default)]
    written: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    holder: Option<TextHolder>,
}

#[derive(Serialize, Deserialize)]
struct TextHolder {
    nonce: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<String>,
    label: String,
    #[serde(default)]
    backend: String,
    #[serde(default)]
    linked: bool,
}

fn hex(number: u64) -> String {
    format!("{number:016x}")
}

fn number(digits: &str) -> Result<u64, RecordError> {
    let is_number = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let read = u64::from_str_radix(digits, 16).ok();
    read.filter(|_| is_number).ok_or(RecordError::Nonsense(
        "a nonce or a run is not 16 hexadecimal digits",
    ))
}

/// Cuts a text to so many bytes, between two characters. Replaces what JSON would take for more than text, and what is not shown.
pub(crate) fn plain(text: &str, most: usize, is_shown: impl Fn(char) -> bool) -> String {
    let mut plain = String::new();
    for c in text.chars() {
        let c = match c {
            '"' | '\\' => '?',
            c if is_shown(c) => c,
            _ => '?',
        };
        if plain.len() + c.len_utf8() > most {
            break;
        }
        plain.push(c);
    }
    plain
}

fn is_ascii_text(c: char) -> bool {
    c.is_ascii_graphic() || c == ' '
}

impl Record {
    /// Returns it as the value of a home. It has at most [`MAX_VALUE_BYTES`].
    #[must_use]
    pub fn encode(&self, cluster: &ClusterName, home: u16) -> Vec<u8> {
        let text = Text {
            form: FORM,
            cluster: cluster.to_string(),
            home,
            term: self.term,
            lease_ms: u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX),
            written: self.written,
            holder: self.holder.as_ref().map(|holder| TextHolder {
                nonce: hex(holder.nonce),
                run: holder.run.map(hex),
                label: plain(&holder.label, MAX_LABEL_BYTES, is_ascii_text),
                backend: plain(&holder.backend, MAX_BACKEND_BYTES, is_ascii_text),
                linked: holder.is_linked,
            }),
        };
        let value = serde_json::to_vec(&text).unwrap_or_default();
        debug_assert!(
            value.len() <= MAX_VALUE_BYTES,
            "its texts and numbers are bounded"
        );
        value
    }

    /// Reads the value of a home.
    ///
    /// # Errors
    /// When it is of another cluster or home, of a later version, or no record at all.
    pub fn decode(value: &[u8], cluster: &ClusterName, home: u16) -> Result<Record, RecordError> {
        use RecordError::{Foreign, Later, Nonsense};
        if value.len() > MAX_VALUE_BYTES {
            return Err(Nonsense("it is too long"));
        }
        let text: Text = serde_json::from_slice(value).map_err(|_| Nonsense("it is no record"))?;
        // A record of a later form may have all else elsewhere.
        if text.form > FORM {
            return Err(Later(text.form));
        }
        if text.cluster != cluster.as_str() {
            return Err(Foreign(plain(
                &text.cluster,
                ClusterName::MAX_BYTES,
                is_ascii_text,
            )));
        }
        let lease = Duration::from_millis(text.lease_ms);
        let wrong = match () {
            () if text.form != FORM => Some("there is no such form"),
            () if text.home != home => Some("it is of another home"),
            () if text.term == 0 => Some("its term is 0"),
            () if !(MIN_LEASE..=MAX_LEASE).contains(&lease) => Some("its lease is out of bounds"),
            () => None,
        };
        if let Some(wrong) = wrong {
            return Err(Nonsense(wrong));
        }
        let holder = match text.holder {
            None => None,
            Some(holder) => Some(Holder {
                nonce: number(&holder.nonce)?,
                run: holder.run.as_deref().map(number).transpose()?,
                label: plain(&holder.label, MAX_LABEL_BYTES, is_ascii_text),
                backend: plain(&holder.backend, MAX_BACKEND_BYTES, is_ascii_text),
                is_linked: holder.linked,
            }),
        };
        Ok(Record {
            term: text.term,
            lease,
            written: text.written,
            holder,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            term: 7,
            lease: Duration::from_secs(10),
            written: 1_790_000_000,
            holder: Some(Holder {
                nonce: 0xab,
                run: Some(u64::MAX),
                label: "edge-1/77".into(),
                backend: "10.0.0.1:42001".into(),
                is_linked: true,
            }),
        }
    }

    fn name(text: &str) -> ClusterName {
        text.parse().expect("a name")
    }

    #[test]
    fn a_record_is_a_line_that_people_can_read() {
        let game = name("game");
        let value = record().encode(&game, 3);
        assert_eq!(
            std::str::from_utf8(&value).expect("text"),
            "{\"form\":1,\"cluster\":\"game\",\"home\":3,\"term\":7,\"lease_ms\":10000,\"written\":1790000000,\"holder\":{\
             \"nonce\":\"00000000000000ab\",\"run\":\"ffffffffffffffff\",\"label\":\"edge-1/77\",\"backend\":\"10.0.0.1:42001\",\
             \"linked\":true}}"
        );
        assert_eq!(Record::decode(&value, &game, 3), Ok(record()));
        let free = Record {
            holder: None,
            ..record()
        };
        let value = free.encode(&game, 3);
        assert_eq!(Record::decode(&value, &game, 3), Ok(free));
    }

    #[test]
    fn the_longest_record_fits_and_has_nothing_that_steers_a_terminal() {
        let mut longest = record();
        longest.term = u32::MAX;
        longest.written = u64::MAX;
        longest.lease = MAX_LEASE;
        let holder = longest.holder.as_mut().expect("held");
        holder.label = "\u{1b}[2J\"\\\n".repeat(100);
        holder.backend = "\0".repeat(10_000);
        let cluster = name(&"c".repeat(ClusterName::MAX_BYTES));
        let value = longest.encode(&cluster, MAX_HOME);
        assert!(value.len() <= MAX_VALUE_BYTES, "{}", value.len());
        let read = Record::decode(&value, &cluster, MAX_HOME).expect("read");
        let read = read.holder.expect("held");
        assert_eq!(read.backend, "?".repeat(MAX_BACKEND_BYTES));
        assert!(read.label.starts_with("?[2J???"), "{}", read.label);
    }

    #[test]
    fn what_is_no_record_of_this_cluster_is_told_apart() {
        use RecordError::{Foreign, Later, Nonsense};
        let game = name("game");
        let good = String::from_utf8(record().encode(&game, 3)).expect("text");
        let read = |text: &str| Record::decode(text.as_bytes(), &game, 3);
        let replaced = |from: &str, to: &str| {
            assert!(good.contains(from), "{from}");
            read(&good.replace(from, to))
        };
        assert_eq!(
            replaced("\"game\"", "\"other\""),
            Err(Foreign("other".into()))
        );
        assert_eq!(read("{\"form\":2,\"new\":[]}"), Err(Later(2)));
        for (from, to) in [
            ("\"form\":1", "\"form\":0"),
            ("\"home\":3", "\"home\":4"),
            ("\"term\":7", "\"term\":0"),
            ("\"term\":7", "\"term\":4294967296"),
            ("\"lease_ms\":10000", "\"lease_ms\":0"),
            ("\"lease_ms\":10000", "\"lease_ms\":300001"),
            ("00000000000000ab", "ab"),
            ("00000000000000ab", "+0000000000000ab"),
            ("\"label\"", "\"lable\""),
        ] {
            let outcome = replaced(from, to);
            assert!(matches!(outcome, Err(Nonsense(_))), "{to}: {outcome:?}");
        }
        for bytes in [
            &b""[..],
            b"{}",
            b"null",
            b"\xff",
            &[b'['; 1_000],
            &[b' '; 1_025],
        ] {
            let outcome = Record::decode(bytes, &game, 3);
            assert!(matches!(outcome, Err(Nonsense(_))), "{outcome:?}");
        }
        assert_eq!(
            replaced("\"written\"", "\"more\":1,\"written\""),
            Ok(record())
        );
    }

    #[test]
    fn a_name_goes_into_subjects_and_has_a_bound() {
        for good in ["a", "Game-1_x", &"n".repeat(32)] {
            assert_eq!(
                good.parse().map(|name: ClusterName| name.0),
                Ok(good.to_owned())
            );
        }
        for bad in ["", "a.b", "a b", "*", ">", "\u{fc}", &"n".repeat(33)] {
            assert_eq!(bad.parse::<ClusterName>(), Err(BadName), "{bad}");
        }
    }
}
