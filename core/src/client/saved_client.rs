//! What a client saves, as the content of a file. (SPEC 46.3)

use core::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::ClientId;
use crate::protocol::client::{Restored, load_packets, load_session, save_packets};
use crate::queue::Outbox;
use crate::wire::varint::Fields;

use super::SavedSession;

/// The most bytes of an application's own state.
pub const MAX_STATE_BYTES: usize = 65_536;

const MAGIC: &[u8; 8] = b"VLSAVED\n";
const FORMAT: u8 = 2;
const CHECK_BYTES: usize = 8;
/// There is no session. Packets may wait for one.
const NONE: u8 = 0;
/// A session of version 2. It is also the first byte of a [`SavedSession`].
const V2: u8 = 1;
/// A session of version 3.
const V3: u8 = 3;

/// What a client has saved: its session, the packets that wait, and the application's own state.
///
/// Whoever has its bytes *is* this client. The same session may not be used by two clients, and only what was saved last may be restored:
/// with an older state a client is taken for somebody who has stolen it.
pub struct SavedClient {
    state: Vec<u8>,
    pub(super) content: Content,
}

/// The session, if there is one.
pub(super) enum Content {
    /// None, and packets that wait for one.
    None(Outbox),
    V2(SavedSession),
    V3(Box<Restored>),
}

/// Why bytes are not what a client has saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SavedClientError {
    /// Something else wrote them.
    #[error("this is no saved session of Voltlane")]
    Foreign,
    /// A library from before this format wrote them.
    #[error(
        "this saved session was written by an older library, in a format that is not read any more"
    )]
    Older,
    /// A later library wrote them.
    #[error(
        "this saved session has format {format}, and {FORMAT} is known: a newer library wrote it"
    )]
    Newer {
        /// The format.
        format: u8,
    },
    /// They end too early, or are damaged.
    #[error("this saved session is cut off or damaged")]
    Torn,
    /// They are whole, and say what cannot be.
    #[error("this saved session says what cannot be")]
    Impossible,
}

impl SavedClient {
    /// Decodes what [`Client::to_save`](super::Client::to_save) gave.
    ///
    /// # Errors
    /// [`SavedClientError`]
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SavedClientError> {
        let (format, rest) = match bytes.strip_prefix(MAGIC) {
            Some([format, rest @ ..]) => (*format, rest),
            Some([]) => return Err(SavedClientError::Torn),
            None if MAGIC.starts_with(bytes) => return Err(SavedClientError::Torn),
            None if is_older(bytes) => return Err(SavedClientError::Older),
            None => return Err(SavedClientError::Foreign),
        };
        match format {
            FORMAT => {}
            ..FORMAT => return Err(SavedClientError::Older),
            format => return Err(SavedClientError::Newer { format }),
        }
        let (fields, check) = rest
            .split_last_chunk::<CHECK_BYTES>()
            .ok_or(SavedClientError::Torn)?;
        let checked = bytes.len().saturating_sub(CHECK_BYTES);
        if check_of(bytes.get(..checked).unwrap_or_default()) != *check {
            return Err(SavedClientError::Torn);
        }
        read(fields).ok_or(SavedClientError::Impossible)
    }

    /// Returns the application's state. Empty: none was saved.
    #[must_use]
    pub fn state(&self) -> &[u8] {
        &self.state
    }

    /// Returns the id of the session, if there is one.
    #[must_use]
    pub fn id(&self) -> Option<ClientId> {
        match &self.content {
            Content::None(_) => None,
            Content::V2(session) => Some(session.id()),
            Content::V3(restored) => restored.session.id(),
        }
    }
}

impl fmt::Debug for SavedClient {
    /// Shows neither keys nor payloads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedClient")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

/// Returns whether an older library wrote it. The one for Python wrote a bare session of version 2. The one for JavaScript wrote a byte `V`
/// and the length of a state.
fn is_older(bytes: &[u8]) -> bool {
    match bytes {
        [V2, ..] => bytes.len() == super::SAVED_SESSION_BYTES,
        [0x56, a, b, c, d, ..] => u32::from_le_bytes([*a, *b, *c, *d]) as usize <= MAX_STATE_BYTES,
        _ => false,
    }
}

fn check_of(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::digest(bytes).into();
    [a, b, c, d, e, f, g, h]
}

/// Encodes a state and what `write` appends: a session, and what waits.
pub(super) fn encode(state: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> Zeroizing<Vec<u8>> {
    let mut out = Vec::with_capacity(1_024_usize.saturating_add(state.len()));
    out.extend_from_slice(MAGIC);
    out.push(FORMAT);
    let length = u32::try_from(state.len()).expect("a state has a bound far below");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(state);
    write(&mut out);
    let check = check_of(&out);
    out.extend_from_slice(&check);
    Zeroizing::new(out)
}

/// Appends that there is no session, and what waits for one.
pub(super) fn write_none(outbox: &Outbox, out: &mut Vec<u8>) {
    out.push(NONE);
    save_packets(outbox, out);
}

/// Appends the byte before a session of version 3.
pub(super) fn write_v3(out: &mut Vec<u8>) {
    out.push(V3);
}

fn read(fields: &[u8]) -> Option<SavedClient> {
    let mut fields = Fields::new(fields);
    let length = u32::from_le_bytes(fields.read_array().ok()?);
    if length as usize > MAX_STATE_BYTES {
        return None;
    }
    let state = fields.read_slice(length.into()).ok()?.to_vec();
    let (kind, _) = fields.rest().split_first()?;
    let content = match *kind {
        // Its first byte is the kind.
        V2 => Content::V2(SavedSession::from_bytes(fields.take_rest()).ok()?),
        NONE | V3 => {
            let [_] = fields.read_array().ok()?;
            match *kind {
                NONE => Content::None(load_packets(&mut fields, 0)?),
                _ => Content::V3(Box::new(load_session(&mut fields)?)),
            }
        }
        _ => return None,
    };
    fields.finish().ok()?;
    Some(SavedClient { state, content })
}
