//! One accepted connection.

use core::net::IpAddr;
use core::time::Duration;

use crate::edge::door::proxy::ProxyHeader;
use crate::edge::table::list::Node;
use crate::edge::table::slab::Key;
use crate::link::v3::Carriage;
use crate::protocol::{self, Channel, OfferedVersions};
use crate::protocol::{Lent, Progress};
use crate::queue::Outbox;
use crate::wire::frame::FrameReader;

#[cfg(all(feature = "backends", feature = "cluster"))]
use crate::edge::conns::search::Search;
use crate::edge::conns::state::{Claim, Crowd, LastWords, OnlyClaim, Phase, State};
use crate::edge::conns::wait::{Slot, Timers, Wait};
use crate::edge::counters::CloseReason;
use crate::edge::door::limits::Pace;
use crate::edge::door::sources::Admission;
use crate::edge::table::by_size::{Holding, Holds};

/// The maximum number of bytes read from a client that has closed its direction while its session waits for room: what a system holds for
/// one connection, unless it is configured to hold more.
pub const LAST_READ_BYTES: usize = 512 * 1024;

pub(super) const CLAIM: &str = "a claimant claims something";

/// Identifies an accepted connection for the adapter, from `handle_accepted` to `handle_client_closed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnKey(pub(crate) Key);

image!(ConnKey { 0 });

impl ConnKey {
    /// Returns a small dense number, unique among living connections: an index for the adapter's own table.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// What a connection needs until it is established. Stored separately, so that an idle client does not pay for it.
#[derive(Clone, Debug)]
struct Opening {
    /// The opening of its version.
    protocol: protocol::Opening,
    control: Vec<u8>,
    taken_bytes: usize,
    /// The address to which the limits apply: the peer's, or that in its PROXY header.
    source: IpAddr,
    /// Its node among the connections that have not said what they want.
    arrival: Node,
    /// What it claims, if it is a claimant.
    claim: Option<Claim>,
    /// Set if it was accepted for a Claim alone, and has claimed nothing yet.
    only_claim: Option<OnlyClaim>,
    /// The versions that its listener offers.
    versions: OfferedVersions,
    /// How its bytes come.
    carriage: Carriage,
    /// What backends have said of what it claims.
    #[cfg(all(feature = "backends", feature = "cluster"))]
    search: Search,
}

image!(Opening {
    protocol,
    control,
    taken_bytes,
    source,
    arrival,
    claim,
    only_claim,
    versions,
    carriage,
    #[cfg(all(feature = "backends", feature = "cluster"))]
    search,
});

/// One accepted connection.
#[derive(Clone, Debug)]
pub(crate) struct Conn {
    /// Changed only by [`Conns::enter`](crate::edge::conns::Conns::enter).
    pub(super) state: State,
    /// The unfinished frame, and frames that wait for room on the link.
    pub(crate) reader: FrameReader,
    /// Needed until it is established and its last handshake frame is written.
    opening: Option<Box<Opening>>,
    /// The channel that the opening led to, once it is established.
    channel: Channel,
    /// The sources that count it.
    pub(crate) admission: Admission,
    pub(crate) timers: Timers,
    holding: Holding,
    /// Its recent pace, if that is limited.
    pub(crate) pace: Option<Box<Pace>>,
    /// Whether it is in the ready list.
    pub(super) ready: bool,
    /// The number of bytes that may be read from it though its session waits for room, plus 1. 0: it has not closed its direction.
    last_read: u32,
    /// The number of bytes that its transport holds.
    pub(crate) transport_bytes: u32,
    /// Why the edge closed it.
    pub(crate) close_reason: Option<CloseReason>,
    /// What it is counted under, for the limits of its listener.
    pub(crate) account: u16,
}

image!(Conn {
    state,
    reader,
    opening,
    channel,
    admission,
    timers,
    holding,
    pace,
    ready,
    last_read,
    transport_bytes,
    close_reason,
    account,
});

impl Conn {
    pub(crate) fn new(phase: Phase, source: IpAddr, admission: Admission, account: u16) -> Self {
        Conn {
            state: State::Handshake(phase),
            reader: FrameReader::default(),
            opening: Some(Box::new(Opening {
                protocol: protocol::Opening::default(),
                control: Vec::new(),
                taken_bytes: 0,
                source,
                arrival: Node::default(),
                claim: None,
                only_claim: None,
                versions: OfferedVersions::default(),
                carriage: Carriage::Tcp,
                #[cfg(all(feature = "backends", feature = "cluster"))]
                search: Search::default(),
            })),
            channel: Channel::default(),
            admission,
            timers: Timers::default(),
            holding: Holding::default(),
            pace: None,
            ready: false,
            last_read: 0,
            transport_bytes: 0,
            close_reason: None,
            account,
        }
    }

    /// Records that its client has closed its direction, so that the rest may be read, once. Returns false if that was recorded before.
    pub(crate) fn begin_last_read(&mut self) -> bool {
        let is_first = self.last_read == 0;
        if is_first {
            self.last_read = u32::try_from(LAST_READ_BYTES).unwrap_or(u32::MAX - 1) + 1;
        }
        is_first
    }

    /// Returns the number of bytes that may be read from it though its session waits for room.
    pub(crate) fn last_read(&self) -> usize {
        self.last_read.saturating_sub(1) as usize
    }

    /// Returns whether its client has closed its direction, and the rest is being read.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.last_read > 0
    }

    /// Counts bytes read from a connection that [has ended](Self::has_ended).
    pub(crate) fn count_last_read(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.last_read = self.last_read.saturating_sub(bytes).max(1);
    }

    /// Returns whether it waits for this.
    #[inline]
    pub(crate) fn waits_for(&self, wait: Wait) -> bool {
        self.timers.is_armed(wait)
    }

    /// Returns whether its client is listed for writing. If `timed`, it must take something before its write deadline.
    #[inline(always)]
    pub(crate) fn is_offered(&self, timed: bool) -> bool {
        self.ready && (self.waits_for(Wait::Write) || !timed)
    }

    /// Returns the bytes that wait in this connection.
    #[inline(always)]
    pub(crate) fn held_bytes(&self) -> usize {
        let read = self.reader.buffered_bytes() + self.transport_bytes as usize;
        // Most often it is established, and has nothing else.
        if self.is_established() && self.opening.is_none() && !self.is_numbered() {
            read
        } else {
            read + self.made_bytes()
        }
    }

    /// Returns the bytes that were made for its client, and those of its state.
    #[inline(never)]
    fn made_bytes(&self) -> usize {
        let of_state = match &self.state {
            State::Established { .. } => 0,
            State::Draining(draining) => draining.outbox.counted_bytes(),
            State::Handshake(Phase::Proxy(header)) => header.held_bytes(),
            _ => 0,
        };
        self.control().len() + of_state + self.channel.held_bytes()
    }

    /// Returns the bytes that waited in it when they were last counted.
    #[cfg(any(test, feature = "testkit"))]
    pub(super) fn counted_bytes(&self) -> usize {
        self.holding.bytes()
    }

    /// Returns the handshake frames that are not written yet. They go before the session's queue.
    #[inline]
    pub(crate) fn control(&self) -> &[u8] {
        self.opening
            .as_deref()
            .map_or(&[], |opening| &opening.control)
    }

    /// Returns the opening, and the buffer to which its output is appended.
    ///
    /// # Panics
    /// When it is not half-open.
    pub(crate) fn opening(&mut self) -> (&mut protocol::Opening, &mut Vec<u8>) {
        let opening = self.opening.as_deref_mut();
        let opening = opening.expect("what is half open has an opening");
        (&mut opening.protocol, &mut opening.control)
    }

    /// Offers these versions to its client, whose bytes come over this.
    pub(crate) fn offer(&mut self, versions: OfferedVersions, carriage: Carriage) {
        if let Some(opening) = &mut self.opening {
            (opening.versions, opening.carriage) = (versions, carriage);
        }
    }

    /// Returns how its bytes come, while its opening is there.
    pub(crate) fn carriage(&self) -> Carriage {
        let opening = self.opening.as_deref();
        opening.map_or(Carriage::Tcp, |opening| opening.carriage)
    }

    /// Returns the versions that are offered to its client, while it is half-open.
    pub(crate) fn versions(&self) -> OfferedVersions {
        let opening = self.opening.as_deref();
        opening.map_or_else(OfferedVersions::default, |opening| opening.versions)
    }

    /// Sets the channel that its opening led to.
    pub(crate) fn set_channel(&mut self, channel: Channel) {
        self.channel = channel;
    }

    /// Returns its channel, and the reader that the channel reads from.
    #[inline]
    pub(crate) fn input(&mut self) -> (&mut Channel, &mut FrameReader) {
        (&mut self.channel, &mut self.reader)
    }

    /// Makes output, and returns what the transport is to take next, in this order. `lent` is what its session lends to its channel, if it
    /// is established.
    #[inline]
    pub(crate) fn output<'a>(&'a mut self, lent: Option<Lent<'a>>) -> [&'a [u8]; 2] {
        let lent = match &mut self.state {
            State::Draining(draining) => Some(Lent {
                outbox: &mut draining.outbox,
                numbers: None,
            }),
            _ => lent,
        };
        let queued = match lent {
            Some(lent) => self.channel.fill(lent),
            None => &[],
        };
        let control = self.opening.as_deref();
        let control = control.map_or(&[][..], |opening| &opening.control);
        [control, queued]
    }

    /// Returns whether its read timer may have to change after a read. Most often it has no unfinished frame, no running timer, and no limit
    /// on its silence.
    #[inline(always)]
    pub(crate) fn may_be_late(&self, idle_timeout: Duration) -> bool {
        self.reader.buffered_bytes() > 0
            || self.timers.is_any_armed(Slot::Read)
            || !idle_timeout.is_zero()
    }

    /// Returns its channel.
    #[inline]
    pub(crate) fn channel(&mut self) -> &mut Channel {
        &mut self.channel
    }

    /// Returns whether its client was given a part of a numbered packet, whose rest comes next.
    pub(crate) fn is_mid_packet(&self) -> bool {
        self.channel.is_mid_packet()
    }

    /// Returns whether its client has something of its session to take.
    #[inline]
    pub(crate) fn has_output(&self, outbox: &Outbox, numbers: Option<&Progress>) -> bool {
        self.channel.has_output(outbox, numbers)
    }

    /// Handles that the transport took the first `bytes` bytes of [`control`](Self::control).
    #[inline]
    pub(crate) fn control_written(&mut self, bytes: usize) {
        let Some(opening) = &mut self.opening else {
            return;
        };
        opening.control.drain(..bytes.min(opening.control.len()));
        // Its small buffer is kept until then for the next frame.
        if opening.control.is_empty() && !self.is_half_open() {
            self.opening = None;
        }
    }

    /// Drops the state of the handshake, which is no longer needed.
    pub(crate) fn forget_opening(&mut self) {
        self.opening = None;
    }

    /// Counts bytes taken before it is established. Returns how many there were so far.
    pub(crate) fn count_taken(&mut self, bytes: usize) -> usize {
        let Some(opening) = &mut self.opening else {
            return 0;
        };
        opening.taken_bytes = opening.taken_bytes.saturating_add(bytes);
        opening.taken_bytes
    }

    /// Takes out the opening and the unwritten handshake frames, which go to another shard with it.
    pub(crate) fn take_opening(&mut self) -> (protocol::Opening, Vec<u8>) {
        let (protocol, control) = self.opening();
        (core::mem::take(protocol), core::mem::take(control))
    }

    /// Installs the opening from another shard, with its unwritten output and its count.
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

    /// Returns how many bytes its opening takes beyond the limit for strangers.
    pub(crate) fn further_bytes(&self) -> usize {
        let opening = self.opening.as_deref();
        opening.map_or(0, |opening| opening.protocol.further_bytes())
    }

    /// Returns the number of bytes taken before it was established.
    pub(crate) fn taken_bytes(&self) -> usize {
        self.opening
            .as_deref()
            .map_or(0, |opening| opening.taken_bytes)
    }

    /// Returns whether its packets are numbered.
    #[inline]
    pub(crate) fn is_numbered(&self) -> bool {
        self.channel.numbered().is_some()
    }

    /// Returns whether it is attached to a session, so that everything it sends is data.
    #[inline]
    pub(crate) fn is_established(&self) -> bool {
        matches!(self.state, State::Established { .. })
    }

    /// Returns whether it is neither established nor ended.
    #[inline]
    pub(crate) fn is_half_open(&self) -> bool {
        matches!(self.state, State::Handshake(_))
    }

    /// Returns its state.
    #[inline]
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Returns the PROXY header that it waits for, if it does.
    pub(crate) fn header(&mut self) -> Option<&mut ProxyHeader> {
        match &mut self.state {
            State::Handshake(Phase::Proxy(header)) => Some(header),
            _ => None,
        }
    }

    /// Handles that its client took `bytes` bytes of what it must take before it closes. Returns whether that was everything.
    pub(crate) fn drain(&mut self, bytes: usize) -> bool {
        let State::Draining(draining) = &mut self.state else {
            return true;
        };
        let outbox = &mut draining.outbox;
        self.channel.written(outbox, bytes);
        !self.channel.has_output(outbox, None)
    }

    /// Returns what it must take before it closes, if it is to take something.
    #[cfg(any(test, feature = "testkit", feature = "upgrade"))]
    pub(crate) fn draining(&mut self) -> Option<&mut Outbox> {
        match &mut self.state {
            State::Draining(draining) => Some(&mut draining.outbox),
            _ => None,
        }
    }

    /// Returns the end that its client has a moment for, if it is told why it ends.
    pub(crate) fn last_words(&mut self) -> Option<&mut LastWords> {
        match &mut self.state {
            State::Draining(draining) => draining.last_words.as_mut(),
            State::Handshake(Phase::Last(last)) => Some(&mut last.1),
            _ => None,
        }
    }

    /// Returns whether everything that it must take before it closes is written.
    pub(crate) fn has_drained(&self) -> bool {
        let queued = match &self.state {
            State::Draining(draining) => self.channel.has_output(&draining.outbox, None),
            _ => false,
        };
        !queued && self.control().is_empty()
    }

    /// Takes over what its channel has to say as a part of its opening, whose output goes out before it closes.
    pub(crate) fn say_in_opening(&mut self, words: &[u8]) {
        self.opening().1.extend_from_slice(words);
    }

    /// Returns its node among the connections that have not said what they want.
    ///
    /// # Panics
    /// When it is not half-open.
    pub(super) fn arrival(&mut self) -> &mut Node {
        let opening = self.opening.as_deref_mut();
        &mut opening.expect("what is half open has an opening").arrival
    }

    /// Returns what it claims.
    ///
    /// # Panics
    /// When it is no claimant.
    pub(crate) fn claim(&self) -> Claim {
        let opening = self.opening.as_deref();
        opening.and_then(|opening| opening.claim).expect(CLAIM)
    }

    /// Returns the place for what it claims.
    ///
    /// # Panics
    /// When it is not half-open.
    pub(super) fn claim_mut(&mut self) -> &mut Option<Claim> {
        let opening = self.opening.as_deref_mut();
        &mut opening.expect("what is half open has an opening").claim
    }

    /// Returns what backends have said of what it claims.
    ///
    /// # Panics
    /// When it is not half-open.
    #[cfg(all(feature = "backends", feature = "cluster"))]
    pub(crate) fn search(&mut self) -> &mut Search {
        let opening = self.opening.as_deref_mut();
        &mut opening.expect("what is half open has an opening").search
    }

    /// Returns the limit beyond which it was accepted, if that was for a Claim alone and it has claimed nothing yet.
    pub(crate) fn only_claim(&self) -> Option<OnlyClaim> {
        self.opening.as_deref()?.only_claim
    }

    /// Returns the place for what it was accepted for.
    ///
    /// # Panics
    /// When it is not half-open.
    pub(super) fn only_claim_mut(&mut self) -> &mut Option<OnlyClaim> {
        let opening = self.opening.as_deref_mut();
        &mut opening
            .expect("what is half open has an opening")
            .only_claim
    }

    /// Returns the group in which it is counted.
    pub(super) fn crowd(&self) -> Crowd {
        match self.state.crowd() {
            Crowd::Strangers if self.only_claim().is_some() => Crowd::Unopened,
            crowd => crowd,
        }
    }

    /// Returns the address that it comes from, while it is not established.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        self.opening.as_deref().map(|opening| opening.source)
    }

    /// Sets the address that its PROXY header names.
    pub(crate) fn set_source(&mut self, source: IpAddr) {
        if let Some(opening) = &mut self.opening {
            opening.source = source;
        }
    }

    /// Returns the session that it is attached to.
    pub(crate) fn session(&self) -> Option<u32> {
        match self.state {
            State::Established { session } | State::Handshake(Phase::Ping { session }) => {
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
