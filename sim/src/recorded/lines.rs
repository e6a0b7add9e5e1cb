//! A recording as lines of text, without what must not be shared: packets, keys, entropy, words, and addresses.
//!
//! Each line is a call: the seconds, its name, the number of its connection, how many bytes it had, and what the machine answered. Nothing can
//! be run again from it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;

use voltlane_core::edge::Rejected;
use voltlane_core::edge::record::{Call, Recording, Replay};

/// Runs a recording again, and writes a line for each call.
///
/// # Errors
/// When nothing can be written, or a record is malformed.
pub fn write_lines(recording: &Recording, out: &mut impl Write) -> io::Result<()> {
    let malformed = io::Error::other;
    let mut replay = Replay::new(recording).map_err(malformed)?;
    let mut sources: BTreeMap<IpAddr, usize> = BTreeMap::new();
    writeln!(
        out,
        "# {} bytes of records; bytes are told by their number",
        recording.bytes()
    )?;
    while let Some(step) = replay.step().map_err(malformed)? {
        let seconds = step.at.as_nanos() as f64 / 1e9;
        write!(out, "{seconds:.9} {}", step.call.name())?;
        match step.call {
            Call::Accepted { listener, peer, .. } => {
                let next = sources.len() + 1;
                let source = sources.entry(peer).or_insert(next);
                write!(out, " listener {listener} source {source}")?;
                let answer = step.answer.unwrap_or_default();
                match Rejected::ALL.get((answer >> 1) as usize) {
                    Some(reason) if answer & 1 == 1 => write!(out, " refused {}", reason.name())?,
                    _ => write!(out, " conn {}", answer >> 1)?,
                }
            }
            Call::ClientBytes { conn, bytes } => {
                write!(out, " conn {} bytes {}", conn.index(), bytes.len())?;
            }
            Call::ClientClosed { conn, cause } => write!(out, " conn {} {cause:?}", conn.index())?,
            Call::ClientEnding { conn }
            | Call::ClientDuty { conn }
            | Call::Entropy { conn, .. } => {
                write!(out, " conn {}", conn.index())?;
            }
            Call::ClientWritten { conn, bytes }
            | Call::Overhead { conn, bytes }
            | Call::Held { conn, bytes } => write!(out, " conn {} bytes {bytes}", conn.index())?,
            Call::PollClient => match step.answer {
                None | Some(0) => {}
                Some(next) => write!(out, " conn {}", next - 1)?,
            },
            Call::LinkBytes(bytes) | Call::Restore(bytes) | Call::EarlierRuns(bytes) => {
                write!(out, " bytes {}", bytes.len())?;
            }
            Call::LinkWritten { bytes } => write!(out, " bytes {bytes}")?,
            Call::LinkClosed(cause) => write!(out, " {cause:?}")?,
            Call::Kick { id, code, .. } => {
                write!(out, " session {:016x} code {code}", id.as_u64())?
            }
            Call::Leaving { within, .. } | Call::Shutdown { within } => {
                write!(out, " within {within:?}")?;
            }
            Call::Drain(within) => write!(out, " within {within:?}")?,
            Call::AdmitHandshake => write!(out, " {}", step.answer == Some(1))?,
            _ => {}
        }
        if let Some(difference) = step.difference {
            return writeln!(out, " DIFFERENT {difference}");
        }
        writeln!(out)?;
    }
    Ok(())
}
