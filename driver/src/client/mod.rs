//! The client library: a client of an edge that reconnects by itself.
//!
//! The application receives one stream of [events](Event), in order. A lost connection is one of them and not an error: the client
//! reconnects by itself, as the same client. In version 3 nothing is lost with a connection, in either direction.
//!
//! There is no background task. The calls that wait do the work: [`recv`](Client::recv), [`send`](ClientSender::send),
//! [`room`](ClientSender::room), [`acknowledged`](ClientSender::acknowledged), [`flush`](ClientSender::flush) and
//! [`close`](ClientSender::close), in any task, drive the client while they wait. The one that was polled last is woken for all I/O. The
//! others are woken only for their own condition, so many of them cost nothing. While no call waits, nothing happens: the edge drops the
//! client after a while, and the client resumes with the next call that waits.
//!
//! [`Means`] is what a client needs of its runtime. The libraries of the runtimes build it from an address.

mod core;
mod error;
mod event;
mod heard;
mod options;
mod rejoins;
mod store;
mod token;
mod transport;

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use voltlane_core::ClientId;

pub use voltlane_core::keys::PublicKey;
pub use voltlane_core::protocol::Version;

#[cfg(debug_assertions)]
pub use voltlane_core::client::KeyLog;
pub use voltlane_core::client::{
    Breach, Class, ClientConfig, Code, DropCause as Why, End, Gap, Ledger, Ledgers, Refusal,
    SavedClientError, SavedSession, SavedSessionError, Saving, SendError, State, TokenError,
    Versions, Violation,
};

pub use self::error::ConnectError;
pub use self::event::{DropCause, Event, Sent};
pub use self::options::{GIVE_UP_AFTER, Means, Options};
pub use self::store::{SUSPEND_WITHIN, SessionStore, Suspended};

use self::core::Core;
use crate::driven::{Reads as _, Shared};
use crate::waiters::For;

/// A client of an edge, and the one reader of its events. It has all that its [`ClientSender`] has.
///
/// It sends and receives while one of its calls is awaited. When it and its senders are dropped, the connection ends as if the network had
/// failed, and the edge keeps the session for a while. [`close`](ClientSender::close) ends the session.
pub struct Client {
    sender: ClientSender,
}

/// The handle of a client with which any task can send.
#[derive(Clone)]
pub struct ClientSender {
    shared: Arc<Shared<Core>>,
}

impl Deref for Client {
    type Target = ClientSender;

    fn deref(&self) -> &ClientSender {
        &self.sender
    }
}

impl Client {
    /// Begins a client, and waits until its first session has begun.
    ///
    /// # Errors
    /// [`ConnectError::Config`] if an option cannot be. [`ConnectError::Unreachable`] after [`give_up_after`](Options::give_up_after).
    /// [`ConnectError::Ended`] if the edge does not want the session, or is not the one that is expected.
    ///
    /// # Cancel safety
    /// A client that is dropped before it has begun leaves nothing behind but a connection that the edge ends.
    pub async fn connect(options: Options, means: Means) -> Result<Client, ConnectError> {
        let client = Client::begin(options, means)?;
        let has_begun = client
            .shared
            .wait(For::Session, |core, _| core.has_begun())
            .await;
        has_begun.map(|()| client)
    }

    /// Begins a client that connects while it is waited for.
    ///
    /// # Errors
    /// [`ConnectError::Config`] if an option cannot be.
    pub fn begin(options: Options, means: Means) -> Result<Client, ConnectError> {
        let shared = Shared::try_new(|waiters| Core::new(options, means, waiters))?;
        let sender = ClientSender { shared };
        Ok(Client { sender })
    }

    /// Waits for the next event. `None`: the session is over, and every event was returned.
    ///
    /// A packet counts as acknowledged when the application comes back for the next event.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped, as in a `select!`.
    pub async fn recv(&mut self) -> Option<Event> {
        let reading = self.sender.shared.reading();
        poll_fn(|cx| {
            let shared = reading.shared;
            shared.with(|core, io| core.poll_recv(cx.waker(), io))
        })
        .await
    }

    /// Polls for the next event, like [`recv`](Self::recv). Once polled, the client counts on this call: poll it until it is ready, or poll
    /// another call of this client.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.shared.with(|core, io| core.poll_recv(cx.waker(), io))
    }

    /// Returns the next event if there is one now. It looks at the connection, and waits for nothing.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.shared.with(Core::try_recv)
    }

    /// Ends the connection and keeps the session, with which another client goes on: from the store, if there is one, or from what is
    /// returned. The application's packets that it has not come back from come again. The client is over, and so are its senders: it is no end
    /// of the session, of which the edge hears nothing but that the connection is gone.
    ///
    /// What was sent is kept with the session. In version 2 packets are not: they are sent first, for at most [`SUSPEND_WITHIN`], and those
    /// that the transport has not taken by then are lost. `None`: no session has begun, or it has ended.
    ///
    /// # Errors
    /// Those of the store. Then too the client is over, and the session goes on from what was stored last.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, the client is dropped as if the network had failed.
    pub async fn suspend(self) -> std::io::Result<Option<Suspended>> {
        self.shared.with(|core, _| core.suspend());
        let check = |core: &mut Core, _: &mut Context<'_>| core.leave();
        self.shared.wait(For::Number(u64::MAX), check).await
    }

    /// Returns a handle for other tasks.
    #[must_use]
    pub fn sender(&self) -> ClientSender {
        self.sender.clone()
    }
}

impl ClientSender {
    /// Sends a packet once, in order. It is kept until it is acknowledged, over any number of connections. Waits for room while too much is
    /// unacknowledged.
    ///
    /// In version 2 a packet is kept until the transport has taken it.
    ///
    /// # Errors
    /// [`SendError::TooLong`], and [`SendError::Ended`] once the session is over or a goodbye is said.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing was sent.
    pub async fn send(&self, data: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        let data = data.as_ref();
        let what = For::Room(data.len());
        self.shared.wait(what, |core, io| core.send(io, data)).await
    }

    /// Sends a packet if there is room. The call that waits for this client, or the next one that does, writes it. So many packets can be
    /// written at once.
    ///
    /// # Errors
    /// Those of [`send`](Self::send), and [`SendError::NoRoom`].
    pub fn try_send(&self, data: impl AsRef<[u8]>) -> Result<Sent, SendError> {
        self.shared.with(|core, _| core.try_send(data.as_ref()))
    }

    /// Sends a packet now or not at all: returns false if there is no connection, or other packets wait for it. Once sent it is as any
    /// other packet.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub fn send_volatile(&self, data: impl AsRef<[u8]>) -> Result<bool, SendError> {
        self.shared
            .with(|core, io| core.send_volatile(io, data.as_ref()))
    }

    /// Waits until a packet, and with it all before, is acknowledged. In version 2: taken by the transport.
    ///
    /// # Errors
    /// How the session ended, if it did before that.
    ///
    /// # Cancel safety
    /// It only waits.
    pub async fn acknowledged(&self, sent: Sent) -> Result<(), End> {
        self.until(sent.session, sent.number).await
    }

    /// Waits until everything that was sent so far is acknowledged. In version 2: taken by the transport.
    ///
    /// # Errors
    /// How the session ended, if it did before that.
    ///
    /// # Cancel safety
    /// It only waits.
    pub async fn flush(&self) -> Result<(), End> {
        let (session, number) = self.shared.with(|core, _| core.last_sent());
        self.until(session, number).await
    }

    async fn until(&self, session: u64, number: u64) -> Result<(), End> {
        let check = |core: &mut Core, _: &mut Context<'_>| core.is_acknowledged(session, number);
        self.shared.wait(For::Number(number), check).await
    }

    /// Waits until there is room for the packet that [`try_send`](Self::try_send) refused last.
    ///
    /// # Errors
    /// How the session ended, if it did.
    ///
    /// # Cancel safety
    /// It only waits.
    pub async fn room(&self) -> Result<(), End> {
        let length = self.shared.with(|core, _| core.refused());
        let check = |core: &mut Core, _: &mut Context<'_>| match core.end() {
            Some(end) => Some(Err(end)),
            None => core.machine().has_room(length).then_some(Ok(())),
        };
        self.shared.wait(For::Room(length), check).await
    }

    /// Says goodbye: sends what waits, ends the session, and waits until the edge has answered. The returned end says whether everything
    /// arrived.
    ///
    /// It takes no longer than [`ClientConfig::with_goodbye_timeout`] and two seconds. Version 2 has no goodbye: the edge keeps the session
    /// until it expires.
    ///
    /// # Cancel safety
    /// If the future is dropped, the goodbye goes on while somebody waits for this client.
    pub async fn close(&self) -> End {
        self.shared.with(|core, _| core.close());
        let check = |core: &mut Core, _: &mut Context<'_>| core.end();
        self.shared.wait(For::Number(u64::MAX), check).await
    }

    /// Sets the token that the client presents when it joins. In a session it is sent again, at once. Version 2 has no tokens.
    ///
    /// # Errors
    /// [`TokenError`]. Nothing is set then.
    pub fn set_token(&self, token: impl AsRef<[u8]>) -> Result<(), TokenError> {
        self.shared.with(|core, _| core.set_token(token.as_ref()))
    }

    /// Saves up to 64 KiB of the application's own in one step with the session. With [`Saving::Saved`], the packets that came so far are
    /// acknowledged with it, and those that were sent so far leave behind it. It waits for the disk.
    ///
    /// # Errors
    /// Those of the store, `ErrorKind::InvalidInput` for a state that is too long, and `ErrorKind::Unsupported` without a store.
    pub fn save(&self, state: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.shared.with(|core, _| core.save_state(state.as_ref()))
    }

    /// Returns the application's own state: what [`save`](Self::save) was given last, by this process or by one before it.
    #[must_use]
    pub fn saved_state(&self) -> Vec<u8> {
        self.shared
            .with(|core, _| core.machine().saved_state().to_vec())
    }

    /// After an end, forgets the session and what waits, and begins a new one with the next wait. Returns false, and does nothing, if the
    /// session is not over, or its end tells the client to stop.
    pub fn start_over(&self) -> bool {
        self.shared
            .with(|core, _| core.is_over() && core.start_over())
    }

    /// Drops the connection as if the network had failed. The client comes back by itself. Useful for tests, or to try again early.
    pub fn drop_connection(&self) {
        self.shared.with(|core, _| core.drop_connection());
    }

    /// Returns the id of the client: that of the latest session that has begun, or 0 before the first.
    #[must_use]
    pub fn id(&self) -> ClientId {
        let id = self.shared.with(|core, _| core.id());
        id.unwrap_or(ClientId::from_u64(0))
    }

    /// Returns whether there is a connection on which packets go, as far as is known.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state() == State::Established
    }

    /// Returns the state of the client.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.with(|core, _| core.machine().state())
    }

    /// Returns the round-trip time to the edge that was measured last, if one was. (Version 3)
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.shared.with(|core, _| core.machine().rtt())
    }

    /// Returns what became of the packets so far, as far as this client knows.
    #[must_use]
    pub fn ledger(&self) -> Ledgers {
        self.shared.with(|core, _| core.machine().ledgers())
    }

    /// Returns the maximum length of a packet to the edge, in bytes.
    #[must_use]
    pub fn max_packet(&self) -> usize {
        self.shared
            .with(|core, _| core.machine().max_packet_bytes())
    }

    /// Returns the number up to which every packet of the session is acknowledged. In version 2: taken by the transport. To wait for a packet,
    /// see [`acknowledged`](Self::acknowledged).
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.shared.with(|core, _| core.settled())
    }

    /// Returns the number of packets that are kept: not sent, or not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.shared.with(|core, _| core.machine().queued_packets())
    }

    /// Returns the version of the protocol that the session has. Version 3 is encrypted.
    #[must_use]
    pub fn version(&self) -> Version {
        self.shared.with(|core, _| core.machine().version())
    }

    /// Returns the key that the edge has proven. A client that pins it accepts no other edge from then on. (Version 3)
    #[must_use]
    pub fn edge_key(&self) -> Option<PublicKey> {
        self.shared
            .with(|core, _| core.machine().edge_key().copied())
    }

    /// Returns what [`Options::saved`] takes, as long as there is a session of version 2 that may be resumed.
    #[must_use]
    pub fn saved_session(&self) -> Option<SavedSession> {
        self.shared.with(|core, _| core.machine().saved_session())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSender")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}
