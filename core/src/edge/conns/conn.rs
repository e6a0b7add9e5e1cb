//! One accepted connection and what it is in the middle of.

use core::net::IpAddr;

use crate::edge::door::proxy::ProxyHeader;
use crate::edge::table::list::Links;
use crate::edge::table::slab::Key;
use crate::protocol::{self, Channel};
use crate::wire::frame::FrameReader;

use crate::edge::LAST_READ_BYTES;
use crate::edge::conns::claimants::Ticket;
use crate::edge::conns::state::{State, Step};
use crate::edge::conns::wait::{Timers, Wait};
use crate::edge::door::limits::Pace;
use crate::edge::door::sources::Admission;
use crate::edge::table::by_size::{Holding, Holds};

/// Names one accepted connection towards the adapter, from `handle_accepted` to `handle_client_closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnKey(pub(crate) Key);

impl ConnKey {
    /// A small dense number, unique among living connections: the index for the adapter's own table.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// How the adapter is to close a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseKind {
    /// After what was written: FIN.
    Graceful,
    /// Abruptly (SPEC 1.3): RST where the transport has it. What the kernel still holds may be discarded.
    Abort,
}

/// Why a transport connection is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The peer ended its direction in order.
    Eof,
    /// The transport failed: reset, unreachable, timed out, never connected.
    Error,
    /// The adapter closed it because the machine asked.
    ByEdge,
}

/// What a connection needs until it is established: apart from it, so that an idle client does not pay for it.
#[derive(Clone, Debug)]
struct Opening {
    /// The packets of its version.
    protocol: protocol::Opening,
    control: Vec<u8>,
    taken_bytes: usize,
    /// Whom the limits hold for: the peer, or whom its PROXY header names.
    source: IpAddr,
    /// Its place among those that have not said what they want.
    arrival: Links,
    /// Its place among the claimants, if it is one.
    ticket: Option<Ticket>,
}

/// One accepted connection.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    /// [`Conns::enter`](crate::edge::conns::Conns::enter) alone changes it.
    pub(crate) state: State,
    /// The unfinished frame, and frames that wait for room on the link.
    pub(crate) reader: FrameReader,
    /// What matters until it is established, and its last handshake frame written.
    opening: Option<Box<Opening>>,
    /// What the opening has become.
    channel: Option<Channel>,
    /// Where it is counted.
    pub(crate) admission: Admission,
    pub(crate) timers: Timers,
    holding: Holding,
    /// How fast it sent lately, where that is limited.
    pub(crate) pace: Option<Box<Pace>>,
    /// Whether it is in the ready list.
    pub(crate) ready: bool,
    /// What may be read of it though its session waits for room, and 1. 0: it has not ended.
    last_read: u32,
}

impl Conn {
    pub(crate) fn new(step: Step, source: IpAddr, admission: Admission) -> Self {
        Conn {
            state: State::Handshake(step),
            reader: FrameReader::default(),
            opening: Some(Box::new(Opening {
                protocol: protocol::Opening::default(),
                control: Vec::new(),
                taken_bytes: 0,
                source,
                arrival: Links::default(),
                ticket: None,
            })),
            channel: None,
            admission,
            timers: Timers::default(),
            holding: Holding::default(),
            pace: None,
            ready: false,
            last_read: 0,
        }
    }

    /// Its client has ended: what is left of it may be read, once. False if that was said before.
    pub(crate) fn begin_last_read(&mut self) -> bool {
        let is_first = self.last_read == 0;
        if is_first {
            self.last_read = u32::try_from(LAST_READ_BYTES).unwrap_or(u32::MAX - 1) + 1;
        }
        is_first
    }

    /// What may be read of it though its session waits for room.
    pub(crate) fn last_read(&self) -> usize {
        self.last_read.saturating_sub(1) as usize
    }

    /// Whether its client has ended, and what is left is being read.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.last_read > 0
    }

    /// Bytes of one that [has ended](Self::has_ended) were read.
    pub(crate) fn count_last_read(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.last_read = self.last_read.saturating_sub(bytes).max(1);
    }

    /// Whether it waits for this.
    #[inline]
    pub(crate) fn waits_for(&self, wait: Wait) -> bool {
        self.timers.is_armed(wait)
    }

    /// Bytes that wait in this connection.
    pub(crate) fn held_bytes(&self) -> usize {
        let of_state = match &self.state {
            State::Established { .. } => 0,
            State::Draining(queue) => queue.held_bytes(),
            State::Handshake(Step::Proxy(header)) => header.held_bytes(),
            _ => 0,
        };
        self.reader.buffered_bytes() + self.control().len() + of_state
    }

    /// Bytes that waited in it when they were counted last.
    pub(crate) fn counted_bytes(&self) -> usize {
        self.holding.bytes()
    }

    /// Handshake frames not yet written; they go before the session's queue.
    #[inline]
    pub(crate) fn control(&self) -> &[u8] {
        self.opening
            .as_deref()
            .map_or(&[], |opening| &opening.control)
    }

    /// The opening, and where what it says is appended.
    ///
    /// # Panics
    /// When it is not half open.
    pub(crate) fn opening(&mut self) -> (&mut protocol::Opening, &mut Vec<u8>) {
        let opening = self.opening.as_deref_mut();
        let opening = opening.expect("what is half open has an opening");
        (&mut opening.protocol, &mut opening.control)
    }

    /// Its opening has become this.
    pub(crate) fn set_channel(&mut self, channel: Channel) {
        self.channel = Some(channel);
    }

    /// How its packets come.
    ///
    /// # Panics
    /// When it was never established.
    #[inline]
    pub(crate) fn channel(&self) -> Channel {
        self.channel.expect("what is established has a channel")
    }

    /// The transport took the first `bytes` bytes of [`control`](Self::control).
    #[inline]
    pub(crate) fn control_written(&mut self, bytes: usize) {
        let Some(opening) = &mut self.opening else {
            return;
        };
        opening.control.drain(..bytes.min(opening.control.len()));
        // Its few bytes of room stay until then for the next frame.
        if opening.control.is_empty() && !self.is_half_open() {
            self.opening = None;
        }
    }

    /// Nothing of the handshake matters any more.
    pub(crate) fn forget_opening(&mut self) {
        self.opening = None;
    }

    /// Counts bytes taken before it is established; how many there were so far.
    pub(crate) fn count_taken(&mut self, bytes: usize) -> usize {
        let Some(opening) = &mut self.opening else {
            return 0;
        };
        opening.taken_bytes = opening.taken_bytes.saturating_add(bytes);
        opening.taken_bytes
    }

    /// The opening and the handshake frames not yet written, which go to another shard with it.
    pub(crate) fn take_opening(&mut self) -> (protocol::Opening, Vec<u8>) {
        let (protocol, control) = self.opening();
        (core::mem::take(protocol), core::mem::take(control))
    }

    /// Takes over the opening from another shard, what that had still to write, and what it counted.
    pub(crate) fn resume_opening(
        &mut self,
        protocol: protocol::Opening,
        control: Vec<u8>,
        taken_bytes: usize,
    ) {
        if let Some(opening) = &mut self.opening {
            opening.protocol = protocol;
            opening.control = control;
            opening.taken_bytes = taken_bytes;
        }
    }

    /// Bytes taken before it was established.
    pub(crate) fn taken_bytes(&self) -> usize {
        self.opening
            .as_deref()
            .map_or(0, |opening| opening.taken_bytes)
    }

    /// Whether it is the connection of a session, all that it says from now on being data.
    #[inline]
    pub(crate) fn is_established(&self) -> bool {
        matches!(self.state, State::Established { .. })
    }

    /// Whether it is not established, and not ended.
    #[inline]
    pub(crate) fn is_half_open(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// What it is in the middle of.
    #[inline]
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// The PROXY header that it waits for, if it does.
    pub(crate) fn header(&mut self) -> Option<&mut ProxyHeader> {
        match &mut self.state {
            State::Handshake(Step::Proxy(header)) => Some(header),
            _ => None,
        }
    }

    /// Its client took `bytes` bytes of what it is to take before it closes; whether that was all.
    pub(crate) fn drain(&mut self, bytes: usize) -> bool {
        let State::Draining(queue) = &mut self.state else {
            return true;
        };
        queue.advance(bytes.min(queue.bytes()));
        queue.is_empty()
    }

    /// Its place among those that have not said what they want.
    ///
    /// # Panics
    /// When it is not half open.
    pub(crate) fn arrival(&mut self) -> &mut Links {
        let opening = self.opening.as_deref_mut();
        &mut opening.expect("what is half open has an opening").arrival
    }

    /// Its place among the claimants, if it is one.
    ///
    /// # Panics
    /// When it is not half open.
    pub(crate) fn ticket(&mut self) -> &mut Option<Ticket> {
        let opening = self.opening.as_deref_mut();
        &mut opening.expect("what is half open has an opening").ticket
    }

    /// Where it comes from, while it is not established.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        self.opening.as_deref().map(|opening| opening.source)
    }

    /// Its PROXY header says where it comes from.
    pub(crate) fn set_source(&mut self, source: IpAddr) {
        if let Some(opening) = &mut self.opening {
            opening.source = source;
        }
    }

    /// The session that this connection is the connection of.
    pub(crate) fn session(&self) -> Option<u32> {
        match self.state {
            State::Established { session } | State::Handshake(Step::Ping { session }) => {
                Some(session)
            }
            _ => None,
        }
    }
}

impl Holds for Conn {
    #[inline]
    fn holding(&mut self) -> &mut Holding {
        &mut self.holding
    }
}
