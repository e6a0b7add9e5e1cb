//! A readable record of a run, kept only on request.

use std::fmt;

use crate::codec::{self, Frames, Hello, Tagged};
use crate::payload;

/// A line of the sequence diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// A simulated client.
    Client(u32),
    /// The edge under test.
    Edge,
    /// The simulated backend.
    Backend,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lane::Client(number) => write!(f, "client {number}"),
            Lane::Edge => f.write_str("edge"),
            Lane::Backend => f.write_str("backend"),
        }
    }
}

/// The kind of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Bytes or packets that arrived.
    Packet,
    /// The beginning or the end of a connection.
    Connection,
    /// An operation of the plan, or a fault.
    Fault,
    /// The time that the edge was told.
    Time,
    /// A rule that was broken.
    Violation,
}

/// One recorded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Virtual nanoseconds since the start.
    pub at_nanos: u64,
    /// The actor that caused it.
    pub from: Lane,
    /// The actor that it concerns, or the same one if there is no other.
    pub to: Lane,
    /// The kind.
    pub mark: Mark,
    /// Its description.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (
            self.at_nanos / 1_000_000_000,
            self.at_nanos / 1_000 % 1_000_000,
        );
        let flag = if self.mark == Mark::Violation {
            "!!"
        } else {
            "  "
        };
        write!(f, "{flag} {seconds:>4}.{micros:06}  ")?;
        if self.from == self.to {
            write!(f, "{:<24}", self.from.to_string())?;
        } else {
            write!(f, "{:<24}", format!("{} -> {}", self.from, self.to))?;
        }
        f.write_str(&self.text)
    }
}

/// Describes bytes between a client and the edge.
pub(super) fn client_bytes(bytes: &[u8]) -> String {
    frames(bytes, |body| {
        match (payload::decode(body), Hello::read(body)) {
            (Ok(label), _) => data(label.seq, body.len()),
            (Err(_), Some(Hello::Ping)) => "Ping".to_string(),
            (Err(_), Some(Hello::Version(number))) => format!("ProtocolVersion {number}"),
            (Err(_), Some(Hello::PublicKey(_))) => "PubKey".to_string(),
            (Err(_), Some(Hello::Id(id))) => format!("ClientId {}", short(id)),
            (Err(_), Some(Hello::Challenge(_))) => "Challenge".to_string(),
            (Err(_), Some(Hello::Response(_))) => "ChallengeResponse".to_string(),
            (Err(_), None) => format!("{} B", body.len()),
        }
    })
}

/// Describes bytes between the edge and the backend.
pub(super) fn link_bytes(bytes: &[u8]) -> String {
    frames(bytes, |body| {
        let Some(packet) = Tagged::read(body) else {
            return format!("{} B", body.len());
        };
        let what = match (packet.flag, payload::decode(packet.data)) {
            (codec::DATA, Ok(label)) => data(label.seq, packet.data.len()),
            (codec::DATA, Err(_)) => format!("{} B", packet.data.len()),
            (codec::FAILURE, _) => format!("ended: {}", String::from_utf8_lossy(packet.data)),
            (codec::KICK, _) => "kick".to_string(),
            (codec::RESUMED, _) => "is back".to_string(),
            (other, _) => format!("flag {other:#04x}"),
        };
        format!("{} {what}", short(packet.id))
    })
}

/// Describes at most three whole frames. Bytes that form no whole frame are described by their number.
fn frames(bytes: &[u8], describe: impl Fn(&[u8]) -> String) -> String {
    let mut frames = Frames::default();
    frames.push(bytes);
    let (mut words, mut more) = (Vec::new(), 0);
    while let Ok(Some(body)) = frames.next_body(u32::MAX) {
        if words.len() < 3 {
            words.push(describe(&body));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        words.push(format!("{more} more"));
    }
    if frames.held() > 0 {
        words.push(format!("{} bytes", frames.held()));
    }
    words.join(", ")
}

fn data(seq: u32, bytes: usize) -> String {
    format!("data #{seq} ({bytes} B)")
}

/// Abbreviates an id, long enough to be unique in a run.
fn short(id: u64) -> String {
    format!("{:06x}", id & 0xff_ffff)
}
