//! The file in which bans outlive a restart.
//!
//! Each line is a ban as JSON: its network, when it ends in seconds since 1970 or null, and its note. The file is written whole at each
//! change, so a power failure leaves the one before. Bans whose time has come meanwhile are left out when it is read.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use voltlane_core::edge::MAX_BANS;

use super::desk::Desk;
use super::request::Refusal;
use crate::config::parse_network;
use crate::disk::{self, Readers};
use crate::file_errors;

/// The maximum length of the file: each note has 256 bytes at most, which JSON makes six times as long at worst.
const MAX_FILE_BYTES: usize = MAX_BANS * 2 * 1024;

/// A line of the file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    network: String,
    /// Seconds since 1970.
    until: Option<u64>,
    note: String,
    /// Left out: it is not shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    home: Option<u16>,
}

/// A ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ban {
    /// Its network.
    pub(crate) network: IpNet,
    /// How long it lasts. `None`: for ever.
    pub(crate) within: Option<Duration>,
    /// Words for people.
    pub(crate) note: String,
    /// The home of the edge that has made it, if it is shared.
    pub(crate) home: Option<u16>,
}

/// Reads the bans of an earlier run. There are none if there is no file.
fn read(path: &Path, now: Duration) -> io::Result<Vec<Ban>> {
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Vec::new();
    match disk::read_at_most(MAX_FILE_BYTES, path, &mut bytes) {
        Ok(true) => {}
        Ok(false) => return Err(wrong(format!("it has more than {MAX_FILE_BYTES} bytes"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let mut bans = Vec::new();
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let bad = |why: String| wrong(format!("line {}: {why}", number + 1));
        let Line {
            network,
            until,
            note,
            home,
        } = serde_json::from_slice(line).map_err(|error| bad(error.to_string()))?;
        let network = parse_network(&network).map_err(|error| bad(error.to_string()))?;
        let within = until.map(|until| Duration::from_secs(until).saturating_sub(now));
        if within.is_none_or(|within| !within.is_zero()) {
            bans.push(Ban {
                network,
                within,
                note,
                home,
            });
        }
    }
    Ok(bans)
}

/// Returns the file with these bans.
fn encode(bans: &[Ban], now: Duration) -> String {
    let mut text = String::new();
    for ban in bans {
        let line = Line {
            network: ban.network.to_string(),
            // Rounded up: no ban becomes shorter by a restart.
            until: ban.within.map(|within| (now + within).as_secs() + 1),
            note: ban.note.clone(),
            home: ban.home,
        };
        text.push_str(&serde_json::to_string(&line).expect("numbers and text have a form in JSON"));
        text.push('\n');
    }
    text
}

fn now() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// Bans what the file says, once the edge serves, and returns it.
pub(super) fn load(desk: &Desk, path: &Path) -> io::Result<Vec<Ban>> {
    let bans = read(path, now())?;
    let count = bans.len();
    for ban in bans.iter().cloned() {
        let done = desk.ask(0, move |edge, now| {
            edge.handle_ban(now, ban.network, ban.within, &ban.note)
        });
        done.map_err(|refusal| io::Error::other(refusal.says))?
            .map_err(io::Error::other)?;
    }
    if count > 0 {
        tracing::info!(bans = count, path = %path.display(), "networks are banned as before");
    }
    Ok(bans)
}

/// Writes the bans that are in effect.
pub(super) fn save(desk: &Desk, path: &Path) -> Result<(), Refusal> {
    // One after the other, so that an older state never replaces a newer one.
    static WRITES: Mutex<()> = Mutex::new(());
    let _turn = WRITES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut bans: Vec<Ban> = Vec::new();
    let mut after = None;
    let homes = desk.homes();
    loop {
        let page = desk.ask(0, move |edge, _| edge.bans(after))?;
        let all = page.bans.into_iter();
        bans.extend(all.map(|(network, within, note)| Ban {
            network,
            within,
            note: note.into(),
            home: homes.get(&network).copied(),
        }));
        after = bans.last().map(|ban| ban.network);
        if !page.has_more {
            break;
        }
    }
    let text = encode(&bans, now());
    disk::replace(path, text.as_bytes(), Readers::Owner).map_err(|error| {
        file_errors::count(file_errors::Kept::Bans);
        tracing::warn!(%error, path = %path.display(), "bans are in effect, and are not kept for a restart");
        Refusal::new(503, format!("in effect until a restart; admin.ban_file: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_come_back_with_the_rest_of_their_time() {
        let name = format!("voltlane-bans-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let at = Duration::from_secs;
        assert_eq!(read(&path, at(0)).expect("no file"), []);
        let network = |text: &str| parse_network(text).expect("a network");
        let note = "a \"note\"\nof two lines";
        let ban = |text, within, note: &str, home| Ban {
            network: network(text),
            within,
            note: note.to_owned(),
            home,
        };
        let bans = [
            ban("10.0.0.0/8", Some(at(100)), note, None),
            ban("2001:db8::/32", None, "", Some(3)),
            ban("192.0.2.1", Some(at(5)), "", None),
        ];
        let write = |text: &str| {
            disk::replace(&path, text.as_bytes(), Readers::Owner).expect("it can be written");
        };
        write("nonsense");
        write(&encode(&bans, at(1_000)));
        let mode = std::fs::metadata(&path).expect("a file").permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o600
        );
        let found = read(&path, at(1_010)).expect("good");
        let left = ban("10.0.0.0/8", Some(at(91)), note, None);
        assert_eq!(found, [left, bans[1].clone()]);
        for (text, says) in [
            ("\nnonsense\n", "line 2: "),
            (
                "{\"network\":\"x\",\"until\":null,\"note\":\"\"}\n",
                "line 1: ",
            ),
            (
                "{\"network\":\"10.0.0.0/8\",\"until\":-1,\"note\":\"\"}",
                "line 1: ",
            ),
            (
                "{\"network\":\"10.0.0.0/8\",\"until\":1,\"note\":\"\",\"x\":1}",
                "line 1: ",
            ),
        ] {
            write(text);
            let error = read(&path, at(0)).expect_err(text).to_string();
            assert!(error.starts_with(says), "{text}: {error}");
        }
        std::fs::remove_file(&path).expect("it is there");
    }
}
