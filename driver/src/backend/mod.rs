//! The backend library: the one program behind an edge, which sees all its clients.
//!
//! What happens is one stream of [events](Event), in order, each with the id of its client. A link that is lost is one of them and not an
//! error: the edge keeps its clients, and comes back by itself.
//!
//! There is no background task. Whatever is waited for does the work: [`recv`](Backend::recv), [`send`](BackendHandle::send),
//! [`room`](BackendHandle::room), [`acknowledged`](BackendHandle::acknowledged), [`kick`](BackendHandle::kick) and
//! [`close`](BackendHandle::close), in any task, drive one backend while they wait. The one that was polled last has the wakes of all I/O.
//! The others wake for their own condition only, so many of them cost nothing. While nobody waits for a backend, nothing is read or
//! accepted: its clients wait, and lose nothing.
//!
//! A send waits for the link, never for a client: who is slow, or away, delays nobody else. A send to a client that has ended is no error,
//! since the application can learn of the end only later: [`Event::Ended`] was told, or comes next.
//!
//! # What a link of version 2 does not tell
//!
//! The link to the edge has version 2 (SPEC 7), unless the backend [asks](Builder::ask_for_version_3) for version 3 and the edge grants it
//! (SPEC 33). In version 2 a client is known by its first packet, so that is when it [joins](Event::Joined). No
//! event tells that it is away. A packet for a group crosses the link once for each member. [`acknowledged`](BackendHandle::acknowledged)
//! means that the stream to the edge has taken a packet. An edge that began again does not tell which sessions it has lost: each ends when
//! something is sent to it.
//!
//! [`Means`] is what a backend needs of its runtime. [`Builder`] makes it of an address.

mod builder;
mod core;
mod error;
mod event;
mod gate;
mod link;
mod links;
mod options;
mod target;
mod verify;

use std::fmt;
use std::future::poll_fn;
use std::hash::Hasher as _;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::backend::host::GroupId;

pub use voltlane_core::backend::BackendConfig;
pub use voltlane_core::backend::host::{
    Carriage, Direction, EdgeId, GroupError, HostConfig, LinkSecret, MAX_EDGES, MAX_GROUPS,
    MAX_GROUPS_OF_SESSION, MAX_SESSIONS, MAX_TEXT_BYTES, Overflow, Peer,
};
pub use voltlane_core::code::{Class, Code};
pub use voltlane_core::end::{End, Gap, Ledgers};
pub use voltlane_core::ledger::Ledger;

pub use self::builder::{Builder, MAX_ADDRESSES};
pub use self::core::CLOSE_WITHIN;
pub use self::error::{ListenError, SendError};
pub use self::event::{ClientInfo, EdgeInfo, Event, Joined, Sent};
pub use self::gate::{MAX_HELD, MAX_HELD_BYTES, MAX_HELD_BYTES_OF_ALL};
pub use self::options::{Means, Options};
pub use self::target::{Everyone, Group, MAX_WITHOUT, Target, Without};
pub use self::verify::{MAX_VERIFYING, Refuse};

use self::core::{Core, Key};
use self::target::Aim;
use self::verify::Verifier;
use crate::driven::{Reads as _, Shared};
use crate::waiters::For;

/// The backend of one edge, or of [several](Builder::edges), and the one reader of its events. It has all that its [`BackendHandle`] has.
///
/// Unless it takes several, one edge is served at a time. An edge that connects while a link is up replaces that link: an edge dials again only after it has given
/// up its last link, whether or not the backend has noticed. What had arrived on the old link is delivered first. So only the edge should
/// be able to reach a backend's port. The log names the replaced and the new edge, and warns if replacements continue: then there are two
/// edges. (SPEC 7.8)
///
/// When it and its handles are dropped, the link ends as if the network had failed, and the edge keeps its clients.
pub struct Backend {
    handle: BackendHandle,
    verifier: Option<Verifier>,
}

/// The handle of a backend with which any task can send.
#[derive(Clone)]
pub struct BackendHandle {
    shared: Arc<Shared<Core>>,
    /// What the numbers of groups are made with.
    names: Names,
}

impl Deref for Backend {
    type Target = BackendHandle;

    fn deref(&self) -> &BackendHandle {
        &self.handle
    }
}

impl Backend {
    /// Begins a backend, which waits for its edge while it is waited for.
    ///
    /// # Errors
    /// [`ListenError::Config`] if an option cannot be.
    pub fn begin(options: Options, means: Means) -> Result<Backend, ListenError> {
        let names = Names::new(&means.seed);
        let mut means = means;
        let verifier = means.verify.take().map(Verifier::new);
        let mut options = options;
        if verifier.is_some() {
            options.config = options.config.admitting();
        }
        let shared = Shared::try_new(|waiters| Core::new(options, means, waiters))?;
        if verifier.is_some() {
            shared.with(|core, _| core.verify());
        }
        let handle = BackendHandle { shared, names };
        Ok(Backend { handle, verifier })
    }

    /// Waits for the next event. `None`: the backend was [closed](BackendHandle::close), and everything was told.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped, as in a `select!`.
    pub async fn recv(&mut self) -> Option<Event> {
        let reading = self.handle.shared.reading();
        let verifier = &mut self.verifier;
        poll_fn(|cx| poll_next(reading.shared, verifier, cx)).await
    }

    /// Polls for the next event, like [`recv`](Self::recv). Whoever has polled it goes on until it is ready, or polls something else of
    /// this backend.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        poll_next(&self.handle.shared, &mut self.verifier, cx)
    }

    /// Returns the next event if there is one now. It looks at the link, and waits for nothing.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.handle.shared.with(Core::try_recv)
    }

    /// Returns a handle for other tasks.
    #[must_use]
    pub fn handle(&self) -> BackendHandle {
        self.handle.clone()
    }
}

/// Polls for the next event, and goes on with verifying clients, which is done while somebody waits for events.
fn poll_next(
    shared: &Shared<Core>,
    verifier: &mut Option<Verifier>,
    cx: &mut Context<'_>,
) -> Poll<Option<Event>> {
    loop {
        if let Some(verifier) = verifier {
            // Without the lock, since a check may use the backend.
            for (id, verdict) in verifier.poll(cx) {
                shared.with(|core, _| core.judge(id, verdict));
            }
        }
        let polled = shared.with(|core, io| core.poll_recv(cx.waker(), io));
        let Some(verifier) = verifier else {
            return polled;
        };
        let mut has_begun = false;
        while let Some(joined) = shared.with(|core, _| core.next_to_verify()) {
            verifier.begin(joined);
            has_begun = true;
        }
        if !has_begun || polled.is_ready() {
            return polled;
        }
    }
}

impl BackendHandle {
    /// Sends a packet to a client, to a [group](Self::group) or to [`Everyone`]: once, in order. Waits for room while too much waits for the
    /// link, never for a client.
    ///
    /// Whoever waits for this backend, or waits next, writes the packet, so that many leave in one write. A send writes by itself what
    /// exceeds 64 KiB, and in a program that never calls [`recv`](Backend::recv). Without an edge, packets wait for the next one. For a
    /// client that is away, the edge keeps them as it is configured to. To one that has ended nothing is sent, and that is no error.
    ///
    /// # Errors
    /// [`SendError::TooLong`], [`SendError::TooManyLeftOut`], and [`SendError::Closed`] after [`close`](Self::close).
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing was sent.
    pub async fn send<T: Target>(
        &self,
        to: T,
        data: impl AsRef<[u8]>,
    ) -> Result<T::Sent, SendError> {
        let (aim, data) = (to.aim(), data.as_ref());
        let sent = self.send_as(aim, None, data).await;
        sent.map(T::sent)
    }

    async fn send_as(
        &self,
        aim: Aim<'_>,
        key: Option<u64>,
        data: &[u8],
    ) -> Result<Sent, SendError> {
        let sent = self.shared.with(|core, io| core.send(io, aim, key, data));
        if let Some(sent) = sent {
            return sent;
        }
        let bytes = self.shared.with(|core, _| core.bytes_of(aim, data.len()));
        let check = |core: &mut Core, io: &mut Context<'_>| core.send(io, aim, key, data);
        self.shared.wait(For::Room(bytes), check).await
    }

    /// Sends a packet in place of an older one that waits under the same `key`: of state that is sent again and again, only the newest
    /// matters.
    ///
    /// A link of version 2 has no keys: the packet is sent like any other. So are those of further keys when 64 keys of all receivers together
    /// are in use.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing was sent.
    pub async fn send_latest<T: Target>(
        &self,
        to: T,
        key: u64,
        data: impl AsRef<[u8]>,
    ) -> Result<T::Sent, SendError> {
        let sent = self.send_as(to.aim(), Some(key), data.as_ref()).await;
        sent.map(T::sent)
    }

    /// Sends a packet now or not at all. It never waits.
    ///
    /// Over a link of version 2 it is left out if there is no edge, or if more than 256 KiB wait for the link. The edge treats it like any
    /// other packet.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn send_volatile<T: Target>(&self, to: T, data: impl AsRef<[u8]>) -> Result<(), SendError> {
        self.shared
            .with(|core, io| core.send_volatile(io, to.aim(), data.as_ref()))
    }

    /// Sends a packet to a client if there is room.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), and [`SendError::NoRoom`].
    pub fn try_send(&self, to: ClientId, data: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        self.shared
            .with(|core, io| core.try_send(io, to, data.as_ref()))
    }

    /// Waits for room for a client: fewer than 8,192 packets to it are unsettled, and the link has room for the packet that
    /// [`try_send`](Self::try_send) had none for last. A link of version 2 does not tell what is settled.
    ///
    /// # Errors
    /// How the session ended, if it did, and how the backend did.
    ///
    /// # Cancel safety
    /// It only waits.
    pub async fn room(&self, id: ClientId) -> Result<(), End> {
        let bytes = self.shared.with(|core, _| core.refused());
        let check = |core: &mut Core, _: &mut Context<'_>| {
            if core.is_over() || core.machine().ended(id).is_some() {
                return Some(Err(core.end_of(id)));
            }
            let has_room = core.machine().has_room_to(id, bytes) && core.machine().has_room_of(id);
            has_room.then_some(Ok(()))
        };
        let has_room = self.shared.with(|core, _| core.machine().has_room_of(id));
        let what = if has_room {
            For::Room(bytes)
        } else {
            For::Number(Key::Room(id))
        };
        self.shared.wait(what, check).await
    }

    /// Waits until a packet, and with it all before, is settled: its client has acknowledged it, or was told of a gap. Over a link of version 2:
    /// until the stream to the edge has taken it. For a client of version 2: until its transport has taken it.
    ///
    /// # Errors
    /// How the session ended, if it did before that.
    ///
    /// # Cancel safety
    /// It only waits.
    pub async fn acknowledged(&self, sent: Sent) -> Result<(), End> {
        let check = |core: &mut Core, _: &mut Context<'_>| core.is_acknowledged(sent);
        let key = match sent.place {
            Some(place) => Key::Place(place),
            None => Key::Settled(sent.id, sent.number),
        };
        self.shared.wait(For::Number(key), check).await
    }

    /// Returns the group of this name, which exists while it has members. The same name always gives the same group.
    #[must_use]
    pub fn group(&self, name: impl AsRef<str>) -> Group {
        Group(self.names.number_of(name.as_ref()))
    }

    /// Makes a client a member of a group. One that has ended, or that nobody has heard of, is passed over. Who ends leaves its groups.
    ///
    /// # Errors
    /// [`SendError::Group`] beyond [`MAX_GROUPS_OF_SESSION`] groups of a client, or [`MAX_GROUPS`] in all. Nothing happens then.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has happened.
    pub async fn add(&self, group: Group, id: ClientId) -> Result<(), SendError> {
        let added = self
            .shared
            .with(|core, _| core.machine_mut().add(group.0, id));
        Ok(added?)
    }

    /// Ends a membership, if there is one.
    ///
    /// # Errors
    /// None yet.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing has happened.
    pub async fn remove(&self, group: Group, id: ClientId) -> Result<(), SendError> {
        self.shared
            .with(|core, _| core.machine_mut().remove(group.0, id));
        Ok(())
    }

    /// Returns the members of a group, in the order of their ids.
    #[must_use]
    pub fn members(&self, group: Group) -> Vec<ClientId> {
        self.shared
            .with(|core, _| core.machine().receivers(Some(group.0)))
    }

    /// Ends a session, with a code (401, 405, or 500 to 699) and a text of at most [`MAX_TEXT_BYTES`]. [`Event::Ended`] has both, unless the
    /// session ends otherwise before. One that has ended is passed over. (SPEC 9.5)
    ///
    /// What is queued for the client may still reach it. Then its connection ends, and it cannot come back. A link of version 2 carries
    /// neither code nor text: a client of version 3 sees 401.
    ///
    /// # Errors
    /// [`SendError::Code`], [`SendError::TooLong`], [`SendError::Closed`].
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing was sent.
    pub async fn kick(&self, id: ClientId, code: u16, text: &str) -> Result<(), SendError> {
        let check = |core: &mut Core, io: &mut Context<'_>| core.kick(io, id, code, text);
        self.shared.wait(For::Room(0), check).await
    }

    /// Reads no more packets of a client, until [`unpause`](Self::unpause). What the edge has read comes, and the client waits. A link of version
    /// 2 cannot tell it, and reads on.
    pub fn pause(&self, id: ClientId) {
        self.shared.with(|core, io| core.pause(io, id, true));
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn unpause(&self, id: ClientId) {
        self.shared.with(|core, io| core.pause(io, id, false));
    }

    /// Asks a client to leave and to come back, or all of them (`None`): each does so at a random time within `within`, such as to get to
    /// another edge. One that is still there then is closed, and so is one of version 2, which cannot be asked. The session goes on, and
    /// nothing is lost. A link of version 2 cannot carry it, and nothing happens.
    pub fn ask_to_leave(&self, id: Option<ClientId>, within: Duration) {
        self.shared
            .with(|core, io| core.ask_to_leave(io, id, within));
    }

    /// Returns what is noted of a client, or nothing.
    #[must_use]
    pub fn note(&self, id: ClientId) -> String {
        self.shared.with(|core, _| {
            let note = core.machine().note(id);
            note.map_or(String::new(), |(note, _)| note.to_owned())
        })
    }

    /// Notes something of a client, in at most 64 bytes, such as who its user is. A longer note is cut. The edge keeps it with the session, so
    /// that a backend that begins again knows it: see [`Joined::note`]. Over a link of version 2, only this process knows it.
    pub fn set_note(&self, id: ClientId, note: &str) {
        self.shared
            .with(|core, _| core.machine_mut().set_note(id, note));
    }

    /// Returns the edges that have granted version 3 of the link, in the order in which they came first.
    #[must_use]
    pub fn edges(&self) -> Vec<EdgeInfo> {
        self.shared.with(|core, _| core.edges())
    }

    /// Returns how many frames were dropped that came from an edge whose home another one has taken. Such an edge was paused or cut off, and
    /// its clients came to the other. (SPEC 40.4(e))
    #[must_use]
    pub fn fenced_frames(&self) -> u64 {
        self.shared.with(|core, _| core.machine().fenced_frames())
    }

    /// Gives up the edge of a home, of [several](Builder::edges), that has no link and will not come back: its sessions end with 301. If it comes
    /// back all the same, it is refused until it was restarted. Returns whether there was such an edge. (SPEC 40.6)
    pub fn give_up(&self, home: u16) -> bool {
        self.shared.with(|core, _| core.give_up(home))
    }

    /// Returns the edge's life, if its link has version 3: of several that of the first.
    #[must_use]
    pub fn edge(&self) -> Option<EdgeId> {
        self.shared.with(|core, _| core.edge())
    }

    /// Returns what is known of a client, if it is there, and was let in if somebody [verifies](Builder::verify) clients.
    #[must_use]
    pub fn client(&self, id: ClientId) -> Option<ClientInfo> {
        self.shared.with(|core, _| core.client(id))
    }

    /// Returns what is known of all clients that are there, in the order of their ids. Where somebody [verifies](Builder::verify) clients, these are
    /// those who were let in.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientInfo> {
        self.shared.with(|core, _| {
            let ids = core.machine().sessions().into_iter();
            ids.filter_map(|id| core.client(id)).collect()
        })
    }

    /// Returns the maximum length of a packet to a client, in bytes. The edge has a bound of its own: `master.max_frame_bytes`.
    #[must_use]
    pub fn max_packet(&self) -> usize {
        self.shared
            .with(|core, _| core.machine().max_packet_bytes())
    }

    /// Returns the number up to which every packet to this client is settled: acknowledged, or given up. Of one of the last 65,536 that have ended
    /// it is what the end told. 0 for any other, and over a link of version 2, where nobody tells. To wait for a number, see [`acknowledged`](Self::acknowledged).
    #[must_use]
    pub fn settled(&self, id: ClientId) -> u64 {
        self.shared.with(|core, _| core.machine().settled(id))
    }

    /// Returns whether an edge is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.with(|core, _| core.is_connected())
    }

    /// Returns the number of frames that wait to be written.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.with(|core, _| core.machine().queued_packets())
    }

    /// Ends the backend: writes what waits, if there is an edge, and closes the link in order, within [`CLOSE_WITHIN`]. The edge keeps its
    /// clients. [`recv`](Backend::recv) gives what has come before, and then `None`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the end goes on while somebody waits for this backend.
    pub async fn close(&self) {
        self.shared.with(|core, _| core.close());
        let check = |core: &mut Core, _: &mut Context<'_>| core.is_over().then_some(());
        self.shared.wait(For::Number(Key::Over), check).await;
    }
}

/// Makes numbers of the names of groups. Nobody who does not know the key can find two names with one number.
#[derive(Clone)]
struct Names([u64; 2]);

impl Names {
    fn new(seed: &[u8; 32]) -> Self {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| seed[at + i]));
        Names([word(0), word(8)])
    }

    fn number_of(&self, name: &str) -> GroupId {
        let [first, second] = self.0;
        let mut hasher = siphasher::sip::SipHasher13::new_with_keys(first, second);
        hasher.write(name.as_bytes());
        // The greatest number is that of everybody.
        GroupId(hasher.finish().min(u64::MAX - 1))
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").finish_non_exhaustive()
    }
}

impl fmt::Debug for BackendHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendHandle").finish_non_exhaustive()
    }
}
