//! The file of a recording (SPEC 42.3): a header, and sealed chunks.

use core::fmt;

use zeroize::Zeroizing;

use crate::edge::record::call::{Call, NO_CONN};
use crate::edge::record::replay::ReplayError;
use crate::keys::KeyPair;
use crate::protocol::Master;
use crate::time::Time;
use crate::wire::saved::{Saved, put_count};

/// The format that is written, and the only one that is read.
pub const RECORDING_FORMAT: u32 = 3;

const MAGIC: [u8; 8] = *b"VLRECORD";
const NAME_BYTES: usize = 32;
const HEADER_BYTES: usize = MAGIC.len() + 4 + NAME_BYTES;
const LENGTH_BYTES: usize = 4;
const TAG_BYTES: usize = 16;
/// What a file has beside each sealed chunk.
pub const AROUND_CHUNK_BYTES: usize = LENGTH_BYTES + TAG_BYTES;

/// Why a recording is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// It is something else.
    #[error("this is no recording of an edge")]
    Foreign,
    /// Another version of the program wrote it.
    #[error("recording in format {format}, {RECORDING_FORMAT} is known")]
    Format {
        /// The format that it names.
        format: u32,
    },
    /// The first chunk does not open: it was changed, or an edge with another key wrote it.
    #[error("the recording does not open with this key")]
    Sealed,
    /// A later chunk does not open.
    #[error("chunk {chunk} of the recording was changed")]
    Changed {
        /// Its number. The first one is 0.
        chunk: u64,
    },
    /// Not even its first chunk is whole.
    #[error("the recording has no whole chunk")]
    Empty,
}

/// Seals the chunks of a recording for its file.
pub struct Sealer {
    key: Zeroizing<[u8; 32]>,
    header: [u8; HEADER_BYTES],
    chunks: u64,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer")
            .field("chunks", &self.chunks)
            .finish_non_exhaustive()
    }
}

impl Sealer {
    /// Creates it for a recording of the edge with these keys. `name` must come from the operating system for this recording.
    #[must_use]
    pub fn new(keys: &KeyPair, name: [u8; NAME_BYTES]) -> Self {
        let mut header = [0; HEADER_BYTES];
        let parts = [&MAGIC[..], &RECORDING_FORMAT.to_le_bytes(), &name];
        for (to, from) in header.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        Sealer {
            key: Master::new(keys).recording_key(&name),
            header,
            chunks: 0,
        }
    }

    /// Returns the bytes with which the file begins.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Seals the next chunk in its place. Returns what is written before it and after it.
    ///
    /// # Panics
    /// For 4 GiB, which no call has.
    pub fn seal(&mut self, chunk: &mut [u8]) -> ([u8; LENGTH_BYTES], [u8; TAG_BYTES]) {
        let length = u32::try_from(chunk.len()).expect("no call has 4 GiB");
        let tag = Master::seal_chunk(&self.key, self.chunks, chunk);
        self.chunks += 1;
        (length.to_le_bytes(), tag)
    }

    /// Seals the next chunk, and appends it to `out`.
    pub fn append(&mut self, mut chunk: Vec<u8>, out: &mut Vec<u8>) {
        let (_, tag) = self.seal(&mut chunk);
        put_count(out, chunk.len());
        out.extend_from_slice(&chunk);
        out.extend_from_slice(&tag);
    }
}

/// A recording, opened. It is wiped when it is dropped.
pub struct Recording {
    pub(super) plain: Zeroizing<Vec<u8>>,
    chunks: u64,
    torn_bytes: usize,
}

impl fmt::Debug for Recording {
    /// Shows only numbers: the bytes are keys and packets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording")
            .field("chunks", &self.chunks)
            .field("bytes", &self.plain.len())
            .finish_non_exhaustive()
    }
}

impl Recording {
    /// Opens what was written by the edge with these keys. What is behind the last whole chunk is left out: an edge that is killed does not
    /// write the end.
    ///
    /// # Errors
    /// [`RecordingError`]
    pub fn open(bytes: &[u8], keys: &KeyPair) -> Result<Recording, RecordingError> {
        let mut fields = Saved::new(bytes);
        if fields.array() != Some(MAGIC) {
            return Err(RecordingError::Foreign);
        }
        let format = fields.u32().ok_or(RecordingError::Empty)?;
        if format != RECORDING_FORMAT {
            return Err(RecordingError::Format { format });
        }
        let name = fields.array().ok_or(RecordingError::Empty)?;
        let key = Master::new(keys).recording_key(&name);
        let mut recording = Recording {
            // It does not grow, so no key is left in memory that it grew out of.
            plain: Zeroizing::new(Vec::with_capacity(bytes.len())),
            chunks: 0,
            torn_bytes: bytes.len().saturating_sub(HEADER_BYTES),
        };
        let mut read = || Some((fields.bytes()?, fields.array::<TAG_BYTES>()?));
        while let Some((sealed, tag)) = read() {
            let plain = &mut recording.plain;
            let from = plain.len();
            plain.extend_from_slice(sealed);
            let chunk = plain.get_mut(from..).unwrap_or_default();
            Master::open_chunk(&key, recording.chunks, chunk, &tag).map_err(|_| match recording
                .chunks
            {
                0 => RecordingError::Sealed,
                chunk => RecordingError::Changed { chunk },
            })?;
            recording.chunks += 1;
            recording.torn_bytes -= LENGTH_BYTES + sealed.len() + TAG_BYTES;
        }
        match recording.chunks {
            0 => Err(RecordingError::Empty),
            _ => Ok(recording),
        }
    }

    /// Returns the times of the first call and of the last one, without running anything.
    ///
    /// # Errors
    /// [`ReplayError::Malformed`]
    pub fn times(&self) -> Result<(Time, Time), ReplayError> {
        let mut rest = &**self.plain;
        let (mut first, mut at, mut record) = (None, Time::ZERO, 0);
        while !rest.is_empty() {
            let decoded = Call::decode(&mut rest, NO_CONN);
            let (_, later, _) = decoded.ok_or(ReplayError::Malformed { record })?;
            at = at + later;
            if at > Time::ZERO {
                first.get_or_insert(at);
            }
            record += 1;
        }
        Ok((first.unwrap_or(at), at))
    }

    /// Returns how many chunks it has.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// Returns the length of its records in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.plain.len()
    }

    /// Returns how many bytes behind the last whole chunk were left out.
    #[must_use]
    pub fn torn_bytes(&self) -> usize {
        self.torn_bytes
    }
}
