//! What an edge saves at an orderly end, sealed (SPEC 39.3): the file, and what is in it. What each machine adds is in `lifecycle/saving.rs`.

mod placed;

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use zeroize::Zeroizing;

use crate::edge::sessions::ends::{End, MOST};
use crate::edge::sessions::ids::ClientIds;
use crate::edge::sessions::saved::SavedSession;
use crate::edge::trunk::counts::SavedTrunk;
#[cfg(feature = "upgrade")]
use crate::edge::uplink::moved::MovedLink;
use crate::edge::uplink::version::SavedVersion;
use crate::id::{ClientId, ShardId};
use crate::keys::KeyPair;
use crate::protocol::Master;
use crate::wire::saved::{Saved, put_bytes, put_count};

pub(super) use self::placed::{Grid, id_of};

/// The format that is written. Format 1 is read as well.
pub const SNAPSHOT_FORMAT: u32 = 2;
/// The longest snapshot, in bytes.
pub const MAX_SNAPSHOT_BYTES: usize = 1 << 30;

/// The oldest format that is read: of one backend.
const OLDEST: u32 = 1;
/// The longest name of a backend, in bytes.
const MAX_NAME_BYTES: usize = 1_024;

const MAGIC: [u8; 8] = *b"VLSNAPSH";
const NAME_BYTES: usize = 32;
/// Magic, format, name, time of writing, and the length of what is sealed.
const HEADER_BYTES: usize = MAGIC.len() + 4 + NAME_BYTES + 8 + 8;
const TAG_BYTES: usize = 16;

/// Why a snapshot is not written, or not used. The edge then begins without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is something else.
    #[error("this is no snapshot of an edge")]
    Foreign,
    /// A later edge wrote it.
    #[error("snapshot in format {format}, {OLDEST} to {SNAPSHOT_FORMAT} are known")]
    Newer {
        /// The format that it names.
        format: u32,
    },
    /// Its end is missing, or there is something behind it.
    #[error("snapshot of {length} bytes, it says {expected}")]
    Torn {
        /// Its length in bytes.
        length: usize,
        /// What it should be.
        expected: u64,
    },
    /// It does not open: it was changed, or an edge with another key wrote it.
    #[error("the snapshot does not open with the edge's key")]
    Sealed,
    /// It would be, or is, longer than [`MAX_SNAPSHOT_BYTES`].
    #[error("snapshot of {bytes} bytes, {MAX_SNAPSHOT_BYTES} at most")]
    TooLarge {
        /// Its length in bytes.
        bytes: u64,
    },
    /// It opens, and no edge can be in such a state.
    #[error("the snapshot opens and is malformed")]
    Malformed,
    /// An edge of several backends wrote it, and this program is built without them.
    #[error("the snapshot is of several backends, and this program is built without them")]
    Backends,
}

/// What one machine adds to a snapshot: the edge, or one of its shards. It is wiped when it is dropped.
pub struct Part(pub(super) Zeroizing<Vec<u8>>);

impl Part {
    /// Returns its length in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Part {
    /// Shows its length: the bytes are keys and packets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// What an edge has saved, opened. It is wiped when it is dropped.
///
/// Whoever uses it makes sure that no snapshot is used twice (SPEC 39.3(d)): two processes with the same numbers would give two packets one
/// number.
pub struct Snapshot {
    name: [u8; NAME_BYTES],
    written_at: u64,
    run: [u8; 8],
    sessions: usize,
    /// The backends of the edge that goes on with it, in order.
    backends: Vec<String>,
    plain: Zeroizing<Vec<u8>>,
}

impl Snapshot {
    /// Seals the parts of all machines of a process, whose run is `run` and whose key is `keys`. `name` must come from the operating system for
    /// this snapshot. `written_at` is in milliseconds since 1970.
    ///
    /// # Errors
    /// [`SnapshotError::TooLarge`]
    pub fn seal(
        (run, parts): ([u8; 8], &[Part]),
        keys: &KeyPair,
        written_at: u64,
        name: [u8; NAME_BYTES],
    ) -> Result<Vec<u8>, SnapshotError> {
        Self::seal_in(SNAPSHOT_FORMAT, (run, parts), keys, written_at, name)
    }

    /// Seals them in this format.
    pub(super) fn seal_in(
        format: u32,
        (run, parts): ([u8; 8], &[Part]),
        keys: &KeyPair,
        written_at: u64,
        name: [u8; NAME_BYTES],
    ) -> Result<Vec<u8>, SnapshotError> {
        let parts_bytes: usize = parts.iter().map(|part| 4 + part.bytes()).sum();
        let plain_bytes = run.len() + 4 + parts_bytes;
        let bytes = HEADER_BYTES + plain_bytes + TAG_BYTES;
        check_length(bytes)?;
        // It does not grow, so what is not sealed yet is in this place alone.
        let mut out = Vec::with_capacity(bytes);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&format.to_le_bytes());
        out.extend_from_slice(&name);
        out.extend_from_slice(&written_at.to_le_bytes());
        out.extend_from_slice(&(plain_bytes as u64).to_le_bytes());
        out.extend_from_slice(&run);
        put_count(&mut out, parts.len());
        for part in parts {
            put_bytes(&mut out, &part.0);
        }
        let (header, plain) = out.split_at_mut(HEADER_BYTES);
        let tag = Master::new(keys).seal_saved(&name, header, plain);
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Opens what was [sealed](Self::seal) with the same key.
    ///
    /// # Errors
    /// [`SnapshotError`]. What is refused has changed nothing.
    pub fn open(mut bytes: Vec<u8>, keys: &KeyPair) -> Result<Snapshot, SnapshotError> {
        let header = Header::read(&bytes)?;
        let body = bytes.split_off(HEADER_BYTES);
        let mut plain = Zeroizing::new(body);
        let sealed_bytes = plain.len().saturating_sub(TAG_BYTES);
        let (sealed, tag) = plain
            .split_at_mut_checked(sealed_bytes)
            .ok_or(SnapshotError::Sealed)?;
        let tag: [u8; TAG_BYTES] = (&*tag).try_into().map_err(|_| SnapshotError::Sealed)?;
        Master::new(keys)
            .open_saved(&header.name, &bytes, sealed, &tag)
            .map_err(|_| SnapshotError::Sealed)?;
        plain.truncate(sealed_bytes);
        let contents = Contents::read(&plain).ok_or(SnapshotError::Malformed)?;
        let sessions = contents.check().ok_or(SnapshotError::Malformed)?;
        if cfg!(not(feature = "backends")) && contents.is_of_several() {
            return Err(SnapshotError::Backends);
        }
        let run = contents.run;
        Ok(Snapshot {
            name: header.name,
            written_at: header.written_at,
            run,
            sessions,
            backends: Vec::new(),
            plain,
        })
    }

    /// Returns its name, which no other snapshot has.
    #[must_use]
    pub fn name(&self) -> [u8; NAME_BYTES] {
        self.name
    }

    /// Returns when it was written, in milliseconds since 1970.
    #[must_use]
    pub fn written_at(&self) -> u64 {
        self.written_at
    }

    /// Returns the run that an edge continues with it.
    #[must_use]
    pub fn run(&self) -> [u8; 8] {
        self.run
    }

    /// Returns the number of sessions in it.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions
    }

    /// Names the backends of the edge that goes on with it, in order: a session goes on at the one that has the name of its own (SPEC 39.5).
    /// To be called before a machine is restored. Without this, sessions of an edge of several backends are of none that is there.
    pub fn name_backends(&mut self, names: impl IntoIterator<Item = String>) {
        self.backends = names.into_iter().collect();
    }

    /// Returns the names of the backends of its sessions that are none of [those that are there](Self::name_backends).
    #[must_use]
    pub fn missing_backends(&self) -> Vec<String> {
        let contents = self.contents();
        contents.missing().into_iter().map(str::to_owned).collect()
    }

    /// Returns what is in it, for a recording.
    #[cfg(feature = "record")]
    pub(super) fn plain(&self) -> &[u8] {
        &self.plain
    }

    /// Makes one of [what was in it](Self::plain), for a replay. `None`: it is malformed.
    #[cfg(feature = "record")]
    pub(super) fn of_recording(plain: &[u8]) -> Option<Snapshot> {
        let contents = Contents::read(plain)?;
        let sessions = contents.check()?;
        Some(Snapshot {
            name: [0; NAME_BYTES],
            written_at: 0,
            run: contents.run,
            sessions,
            backends: Vec::new(),
            plain: Zeroizing::new(plain.to_vec()),
        })
    }

    /// Returns how many connections of clients are in it, and whether the link is.
    #[cfg(feature = "upgrade")]
    #[must_use]
    pub fn connections(&self) -> (usize, bool) {
        let moved = self.contents().moved;
        (moved.clients.len(), moved.link.is_some())
    }

    pub(super) fn contents(&self) -> Contents<'_> {
        let contents = Contents::read(&self.plain).expect("it was read when it was opened");
        contents.placed_at(&self.backends)
    }
}

impl fmt::Debug for Snapshot {
    /// Shows only numbers: the bytes are keys and packets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("written_at", &self.written_at)
            .field("sessions", &self.sessions)
            .field("bytes", &self.plain.len())
            .finish_non_exhaustive()
    }
}

fn check_length(bytes: usize) -> Result<(), SnapshotError> {
    let too_large = SnapshotError::TooLarge {
        bytes: bytes as u64,
    };
    (bytes <= MAX_SNAPSHOT_BYTES).then_some(()).ok_or(too_large)
}

struct Header {
    name: [u8; NAME_BYTES],
    written_at: u64,
}

impl Header {
    /// Reads the header of a snapshot whose length is right.
    fn read(bytes: &[u8]) -> Result<Header, SnapshotError> {
        let length = bytes.len();
        let torn = SnapshotError::Torn {
            length,
            expected: HEADER_BYTES as u64,
        };
        let known = MAGIC.get(..length.min(MAGIC.len()));
        if length == 0 || known != bytes.get(..length.min(MAGIC.len())) {
            return Err(SnapshotError::Foreign);
        }
        check_length(length)?;
        let mut fields = Saved::new(bytes.get(MAGIC.len()..).unwrap_or_default());
        let format = fields.u32().ok_or(torn)?;
        if !(OLDEST..=SNAPSHOT_FORMAT).contains(&format) {
            return Err(SnapshotError::Newer { format });
        }
        let name = fields.array().ok_or(torn)?;
        let written_at = fields.u64().ok_or(torn)?;
        let plain_bytes = fields.u64().ok_or(torn)?;
        let around = (HEADER_BYTES + TAG_BYTES) as u64;
        let expected = plain_bytes.saturating_add(around);
        if length as u64 != expected {
            return Err(SnapshotError::Torn { length, expected });
        }
        Ok(Header { name, written_at })
    }
}

/// The first byte of the part of an edge or a shard, and of that of a trunk.
pub(super) const OF_MACHINE: u8 = 0;
pub(super) const OF_TRUNK: u8 = 1;
/// That of connections, which are not in a file.
#[cfg(feature = "upgrade")]
pub(super) const OF_CONNECTIONS: u8 = 2;
/// That of the backends of an edge that has several, and that of the trunk of another one than the first, whose number follows.
pub(super) const OF_BACKENDS: u8 = 3;
pub(super) const OF_ANOTHER_TRUNK: u8 = 4;

/// What is in a snapshot.
pub(super) struct Contents<'a> {
    pub(super) run: [u8; 8],
    pub(super) parts: Vec<Contribution<'a>>,
    /// Those of the trunks, each with the number of its backend.
    pub(super) trunks: Vec<(u8, OfTrunk<'a>)>,
    /// The backends of an edge that had several.
    pub(super) backends: Vec<SavedBackend<'a>>,
    /// The backends of the edge that goes on with it, and the numbers that the saved ones have among them.
    names: &'a [String],
    placed: Vec<Option<u8>>,
    #[cfg(feature = "upgrade")]
    pub(super) moved: OfConnections<'a>,
}

/// What is in the parts of connections.
#[cfg(feature = "upgrade")]
#[derive(Default)]
pub(super) struct OfConnections<'a> {
    /// The link, if its socket was moved.
    pub(super) link: Option<MovedLink>,
    /// Those of clients, in the order of their sockets.
    pub(super) clients: Vec<&'a [u8]>,
}

/// What is in the part of a trunk.
#[derive(Default)]
pub(super) struct OfTrunk<'a> {
    /// The bodies of frames for the backend, which the shards do not have any more.
    pub(super) frames: Vec<&'a [u8]>,
    /// Those of frames of the backend that came when their shard had ended. Its own shards count from 0.
    pub(super) late: Vec<(ShardId, &'a [u8])>,
    /// What it had counted, if its link had version 3.
    pub(super) counts: Option<SavedTrunk>,
}

/// What is in the part of the backends, of one of them.
pub(super) struct SavedBackend<'a> {
    pub(super) name: &'a str,
    #[cfg_attr(not(feature = "backends"), expect(dead_code, reason = "there is one"))]
    pub(super) is_draining: bool,
}

/// What is in the part of one machine.
pub(super) struct Contribution<'a> {
    pub(super) shard: ShardId,
    /// The ids of this shard, and those that it kept for others.
    pub(super) ids: Vec<ClientIds>,
    pub(super) version: SavedVersion,
    pub(super) ends: Vec<(ClientId, End)>,
    /// The bodies of frames for the backend.
    pub(super) frames: Vec<&'a [u8]>,
    pub(super) sessions: Vec<&'a [u8]>,
    pub(super) departures: SavedDepartures<'a>,
}

/// The sessions of a machine that leave for another backend.
#[derive(Default)]
pub(super) struct SavedDepartures<'a> {
    /// Whether an operator wants all to leave.
    #[cfg_attr(not(feature = "backends"), expect(dead_code, reason = "nobody leaves"))]
    pub(super) is_ordered: bool,
    pub(super) leaving: BTreeMap<u64, SavedLeaving<'a>>,
}

/// How far a session has left.
#[cfg_attr(not(feature = "backends"), expect(dead_code, reason = "nobody leaves"))]
pub(super) enum SavedLeaving<'a> {
    /// Its backend was told, and has not acknowledged it.
    Told,
    /// It has left, and waits for another one with these bodies of frames.
    Left(Vec<&'a [u8]>),
    /// Its backend, of this name, is none of those that are there. `goes`: another one may have it.
    Gone {
        name: &'a str,
        goes: bool,
        frames: Vec<&'a [u8]>,
    },
}

/// The first byte of each.
pub(super) const TOLD: u8 = 0;
pub(super) const LEFT: u8 = 1;
pub(super) const GONE: u8 = 2;

impl<'a> Contents<'a> {
    fn read(plain: &'a [u8]) -> Option<Self> {
        let saved = &mut Saved::new(plain);
        let (run, parts) = (saved.array()?, saved.count(4)?);
        let mut contents = Contents {
            run,
            parts: Vec::new(),
            trunks: Vec::new(),
            backends: Vec::new(),
            names: &[],
            placed: Vec::new(),
            #[cfg(feature = "upgrade")]
            moved: OfConnections::default(),
        };
        for _ in 0..parts {
            let part = &mut Saved::new(saved.bytes()?);
            match part.u8()? {
                OF_MACHINE => contents.parts.push(Contribution::read(part)?),
                OF_TRUNK => contents.trunks.push((0, OfTrunk::read(part)?)),
                OF_ANOTHER_TRUNK => {
                    let backend = part.u8()?;
                    contents.trunks.push((backend, OfTrunk::read(part)?));
                }
                OF_BACKENDS if contents.backends.is_empty() => {
                    contents.backends = part.list(5, SavedBackend::read)?;
                    (part.is_empty() && contents.backends.len() > 1).then_some(())?;
                }
                #[cfg(feature = "upgrade")]
                OF_CONNECTIONS => contents.moved.add(OfConnections::read(part)?)?,
                _ => return None,
            }
        }
        saved.is_empty().then_some(contents)
    }

    /// Returns whether the link was moved, and all machines took it for one of version 2: then it can go on.
    #[cfg(feature = "upgrade")]
    pub(super) fn has_link_of_version_2(&self) -> bool {
        let mut versions = self.parts.iter().map(|part| &part.version);
        let all = versions.all(|version| matches!(version, SavedVersion::Version2));
        self.moved.link.is_some() && all
    }

    /// Returns the number of sessions, if each can be and none is there twice, and each part is in its place.
    fn check(&self) -> Option<usize> {
        let mut ids = BTreeSet::new();
        for part in &self.parts {
            let mut of_part = BTreeSet::new();
            for session in &part.sessions {
                let id = SavedSession::load(session)?.id.as_u64();
                if !ids.insert(id) {
                    return None;
                }
                of_part.insert(id);
            }
            let mut leaving = part.departures.leaving.keys();
            leaving.all(|id| of_part.contains(id)).then_some(())?;
        }
        let mut shards = BTreeSet::new();
        let are_different = self.parts.iter().all(|part| shards.insert(part.shard));
        (are_different && self.is_whole()).then_some(ids.len())
    }
}

#[cfg(feature = "upgrade")]
impl<'a> OfConnections<'a> {
    fn read(saved: &mut Saved<'a>) -> Option<Self> {
        let link = match saved.flag()? {
            true => Some(MovedLink::load(saved)?),
            false => None,
        };
        let clients = saved.list(4, Saved::bytes)?;
        saved.is_empty().then_some(OfConnections { link, clients })
    }

    /// Adds those of another machine. `None`: there is one link, and its socket is the first.
    fn add(&mut self, more: OfConnections<'a>) -> Option<()> {
        if more.link.is_some() && (self.link.is_some() || !self.clients.is_empty()) {
            return None;
        }
        self.link = self.link.take().or(more.link);
        self.clients.extend(more.clients);
        Some(())
    }
}

impl<'a> OfTrunk<'a> {
    fn read(saved: &mut Saved<'a>) -> Option<Self> {
        let of_trunk = OfTrunk {
            frames: saved.list(4, Saved::bytes)?,
            late: saved.list(5, |saved| Some((ShardId::new(saved.u8()?), saved.bytes()?)))?,
            counts: match saved.is_empty() {
                true => None,
                false => Some(SavedTrunk::load(saved)?),
            },
        };
        saved.is_empty().then_some(of_trunk)
    }
}

impl<'a> SavedBackend<'a> {
    fn read(saved: &mut Saved<'a>) -> Option<Self> {
        Some(SavedBackend {
            name: name_in(saved)?,
            is_draining: saved.flag()?,
        })
    }
}

impl<'a> Contribution<'a> {
    fn read(saved: &mut Saved<'a>) -> Option<Self> {
        let part = Contribution {
            shard: ShardId::new(saved.u8()?),
            ids: saved.list(25, ClientIds::load)?,
            version: SavedVersion::load(saved)?,
            ends: saved.list(34, End::load)?,
            frames: saved.list(4, Saved::bytes)?,
            sessions: saved.list(4, Saved::bytes)?,
            departures: match saved.is_empty() {
                true => SavedDepartures::default(),
                false => SavedDepartures::read(saved)?,
            },
        };
        (saved.is_empty() && part.ends.len() <= MOST).then_some(part)
    }
}

impl<'a> SavedDepartures<'a> {
    fn read(saved: &mut Saved<'a>) -> Option<Self> {
        let is_ordered = saved.flag()?;
        let mut leaving = BTreeMap::new();
        for _ in 0..saved.count(9)? {
            let id = saved.u64()?;
            let standing = match saved.u8()? {
                TOLD => SavedLeaving::Told,
                LEFT => SavedLeaving::Left(saved.list(4, Saved::bytes)?),
                GONE => SavedLeaving::Gone {
                    name: name_in(saved)?,
                    goes: saved.flag()?,
                    frames: saved.list(4, Saved::bytes)?,
                },
                _ => return None,
            };
            if leaving.insert(id, standing).is_some() {
                return None;
            }
        }
        Some(SavedDepartures {
            is_ordered,
            leaving,
        })
    }
}

/// Reads the name of a backend.
fn name_in<'a>(saved: &mut Saved<'a>) -> Option<&'a str> {
    let name = saved.bytes()?;
    let name = core::str::from_utf8(name).ok()?;
    (name.len() <= MAX_NAME_BYTES).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_a_bound() {
        assert_eq!(check_length(MAX_SNAPSHOT_BYTES), Ok(()));
        let bytes = MAX_SNAPSHOT_BYTES as u64 + 1;
        let beyond = check_length(MAX_SNAPSHOT_BYTES + 1);
        assert_eq!(beyond, Err(SnapshotError::TooLarge { bytes }));
    }
}
