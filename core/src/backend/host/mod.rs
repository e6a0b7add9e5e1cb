//! The backend's end of the link, with the sessions at its edge.

mod book;
mod event;

use crate::code::Code;
use crate::config::at_least;
use crate::end::{End, Ledgers};
use crate::link::tagged::HEADER_BYTES;
use crate::{ClientId, ConfigError};

use super::{Backend, BackendConfig, BackendError, SendError};

use book::Book;
pub use book::{GroupError, GroupId, MAX_ENDED, MAX_GROUPS, MAX_GROUPS_OF_SESSION};
pub use event::Event;

/// The longest text of a kick in bytes. (SPEC 33.4(d))
pub const MAX_TEXT_BYTES: usize = 256;
/// Sessions that a host knows unless its configuration says otherwise.
pub const MAX_SESSIONS: usize = 1_048_576;

/// The bounds of a [`Host`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    link: BackendConfig,
    max_sessions: usize,
}

impl Default for HostConfig {
    fn default() -> Self {
        HostConfig {
            link: BackendConfig::default(),
            max_sessions: MAX_SESSIONS,
        }
    }
}

impl HostConfig {
    /// Sets the bounds of the link.
    #[must_use]
    pub fn with_link(mut self, link: BackendConfig) -> Self {
        self.link = link;
        self
    }

    /// Sets how many sessions are known at a time, at least 1. Default: [`MAX_SESSIONS`].
    ///
    /// An edge has fewer. But in version 2 an edge that began again does not tell which sessions it has lost (SPEC 9.10(c)), so a host that
    /// lives longer than its edges would know more and more. Beyond this bound, the sixteenth of which nothing was heard for longest ends
    /// with the code 301.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] for 0.
    pub fn with_max_sessions(mut self, sessions: usize) -> Result<Self, ConfigError> {
        self.max_sessions = at_least("max_sessions", sessions, 1)?;
        Ok(self)
    }

    /// Returns the bounds of the link.
    #[must_use]
    pub fn link(&self) -> &BackendConfig {
        &self.link
    }
}

impl From<BackendConfig> for HostConfig {
    fn from(link: BackendConfig) -> Self {
        HostConfig::default().with_link(link)
    }
}

/// Why an order was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KickError {
    /// The queue is full. Try again once some of it was written.
    #[error("the send queue is full")]
    QueueFull,
    /// A kick has another code.
    #[error("a kick with the code {code}; it has 401, 405, or 500 to 699")]
    Code {
        /// The code given.
        code: u16,
    },
    /// The text is too long.
    #[error("a text of {length} bytes, {MAX_TEXT_BYTES} allowed")]
    TextTooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// A backend's end of the link, with the sessions at its edge: who is there, and one end of each.
///
/// The contract is that of [`Backend`], whose link it has. In addition, [`poll_event`](Self::poll_event) is to be called until it returns
/// `None`, after each call that hears of a session or sends to one.
///
/// Over a link of version 2 a session is known by its first packet, by a resume or by an announcement. What is learned there:
/// its packets, its resumes, its end.
#[derive(Debug)]
pub struct Host {
    link: Backend,
    book: Book,
    /// Frames that were queued.
    queued: u64,
}

impl Host {
    /// Creates a host that knows no session yet.
    #[must_use]
    pub fn new(config: HostConfig) -> Self {
        Host {
            link: Backend::new(config.link),
            book: Book::new(config.max_sessions),
            queued: 0,
        }
    }

    /// Handles bytes that were read, like [`Backend::handle_bytes`].
    ///
    /// # Errors
    /// Those of [`Backend::handle_bytes`].
    #[inline]
    pub fn handle_bytes<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<Event<'a>>, BackendError> {
        let event = self.link.handle_bytes(input)?;
        Ok(event.map(|event| hear(&mut self.book, event)))
    }

    /// Returns what happened without a frame: sessions for which there was no room.
    pub fn poll_event(&mut self) -> Option<Event<'static>> {
        let (id, end) = self.book.pop_forgotten()?;
        Some(Event::Ended { id, end })
    }

    /// Handles that the stream is gone, like [`Backend::handle_closed`].
    pub fn handle_closed(&mut self) {
        self.link.handle_closed();
    }

    /// Queues a packet for a client. Returns its number among the packets to this client, from 1. For a session that has ended nothing is
    /// queued, and the number is 0.
    ///
    /// # Errors
    /// [`SendError`]. Nothing is queued then.
    #[inline]
    pub fn send(&mut self, id: ClientId, data: &[u8]) -> Result<u64, SendError> {
        let Ok(entry) = self.book.address(id) else {
            let (length, max) = (data.len(), self.max_packet_bytes());
            return match length > max {
                true => Err(SendError::TooLong { length, max }),
                false => Ok(0),
            };
        };
        self.link.send(id, data)?;
        self.queued += 1;
        entry.down += 1;
        Ok(entry.down)
    }

    /// Queues a packet for many sessions: for the members of a group, or for everybody who is there, but for `without`. All of them get it
    /// or, if there is no room, none.
    ///
    /// A link of version 2 carries it once for each of them. If all these copies are more than the queue can ever hold, they wait for an empty
    /// queue and exceed its bound.
    ///
    /// # Errors
    /// [`SendError`]. Nothing is queued then.
    pub fn send_to_many(
        &mut self,
        to: Option<GroupId>,
        without: &[ClientId],
        data: &[u8],
    ) -> Result<(), SendError> {
        let (length, max) = (data.len(), self.max_packet_bytes());
        if length > max {
            return Err(SendError::TooLong { length, max });
        }
        let mut receivers = self.receivers(to);
        receivers.retain(|id| !without.contains(id));
        if !self.has_room_for(receivers.len(), length) {
            return Err(SendError::QueueFull);
        }
        for id in receivers {
            self.link.push_data(id, data);
            self.queued += 1;
            self.book.count_down(id);
        }
        Ok(())
    }

    /// Returns the members of a group, or everybody who is there, in the order of their ids.
    #[must_use]
    pub fn receivers(&self, to: Option<GroupId>) -> Vec<ClientId> {
        match to {
            Some(group) => self.book.members(group).collect(),
            None => self.book.ids(),
        }
    }

    /// Returns whether as many packets of this length can be queued now.
    #[must_use]
    pub fn has_room_for(&self, packets: usize, length: usize) -> bool {
        let bytes = packets.saturating_mul(length.saturating_add(HEADER_BYTES));
        self.link.queued_packets() == 0 || self.link.has_room(bytes.saturating_sub(HEADER_BYTES))
    }

    /// Makes a session a member of a group. One that has ended, or that nobody has heard of, is passed over.
    ///
    /// # Errors
    /// [`GroupError`]. Nothing happens then.
    pub fn add(&mut self, group: GroupId, id: ClientId) -> Result<(), GroupError> {
        self.book.add(group, id).map(drop)
    }

    /// Ends a membership, if there is one.
    pub fn remove(&mut self, group: GroupId, id: ClientId) {
        self.book.remove(group, id);
    }

    /// Ends a session. Its end is an event, with this code and this text, unless it ends otherwise before. For one that has ended it does
    /// nothing.
    ///
    /// A link of version 2 does not carry the code and the text to the client: it sees 401, or in version 2 of its own link nothing.
    ///
    /// # Errors
    /// [`KickError`]. Nothing happens then.
    pub fn kick(&mut self, id: ClientId, code: u16, text: &str) -> Result<(), KickError> {
        let code = match Code::from_u16(code) {
            Some(known)
                if matches!(known, Code::KICKED | Code::TOKEN) || known.is_of_application() =>
            {
                known
            }
            _ => return Err(KickError::Code { code }),
        };
        let length = text.len();
        if length > MAX_TEXT_BYTES {
            return Err(KickError::TextTooLong { length });
        }
        let Ok(entry) = self.book.address(id) else {
            return Ok(());
        };
        self.link.kick(id).map_err(|_| KickError::QueueFull)?;
        self.queued += 1;
        entry.kick = Some(Box::new((code, text.to_owned())));
        Ok(())
    }

    /// Returns whether a packet of this length can be queued now.
    #[must_use]
    pub fn has_room(&self, length: usize) -> bool {
        self.link.has_room(length)
    }

    /// Returns the number of frames that were queued so far.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// Returns the number of frames that streams have taken whole.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.queued - self.link.queued_packets() as u64
    }

    /// Returns how a session ended, if it has and that is remembered: of the last [`MAX_ENDED`].
    #[must_use]
    pub fn ended(&self, id: ClientId) -> Option<Code> {
        self.book.ended(id)
    }

    /// Returns the sessions that are there, as far as is known, in the order of their ids.
    #[must_use]
    pub fn sessions(&self) -> Vec<ClientId> {
        self.book.ids()
    }

    /// Returns what is known of the packets of a session that is there.
    #[must_use]
    pub fn ledgers(&self, id: ClientId) -> Option<Ledgers> {
        let entry = self.book.get(id).filter(|entry| entry.is_told);
        entry.map(book::Entry::ledgers)
    }

    /// Returns the maximum length of a packet in bytes.
    #[must_use]
    pub fn max_packet_bytes(&self) -> usize {
        self.link.max_packet_bytes()
    }

    /// Returns the number of frames to write, including a half-written one.
    #[must_use]
    pub fn queued_packets(&self) -> usize {
        self.link.queued_packets()
    }

    /// Returns the number of bytes to write, including 13 per packet for length, id and flag.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.link.queued_bytes()
    }

    /// Returns the bytes to write now. They stay until [`handle_written`](Self::handle_written).
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.link.output()
    }

    /// Handles that the stream took the first `n` bytes of [`output`](Self::output).
    ///
    /// # Panics
    /// If `n` is more than was offered.
    pub fn handle_written(&mut self, n: usize) {
        self.link.handle_written(n);
    }
}

/// Returns what the application hears of an event of the link.
fn hear<'a>(book: &mut Book, event: super::Event<'a>) -> Event<'a> {
    match event {
        super::Event::Packet { id, data } => match book.hear(id) {
            Some(entry) => {
                entry.up += 1;
                Event::Packet {
                    id,
                    data,
                    number: entry.up,
                    is_first: !core::mem::replace(&mut entry.is_told, true),
                }
            }
            None => Event::Stale { id },
        },
        super::Event::Resumed { id } => match book.hear(id) {
            Some(entry) if entry.is_told => Event::Resumed { id },
            Some(entry) => {
                entry.is_told = true;
                Event::Joined { id }
            }
            None => Event::Stale { id },
        },
        super::Event::Failed { id, reason } => {
            let code = event::code_of(&reason);
            let Some(mut entry) = book.end(id, code) else {
                return Event::Stale { id };
            };
            let end = match entry.kick.take() {
                Some(kick) if code == Code::KICKED => End::new(kick.0, kick.1, entry.ledgers()),
                _ => End::new(code, reason, entry.ledgers()),
            };
            Event::Ended { id, end }
        }
        super::Event::Fault(fault) => Event::Fault(fault),
    }
}
