//! The driver of an edge: one future that owns the machine and all of its streams.

mod alive;
mod clients;
mod errands;
mod lingering;
mod neighbours;
mod openings;
mod table;
mod wakers;
mod work;

use std::future::Future;
#[cfg(all(feature = "upgrade", unix))]
use std::io;
use std::net::SocketAddr;
#[cfg(all(feature = "upgrade", unix))]
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tracing::{debug, error, warn};
use voltlane_core::Time;
use voltlane_core::edge::{ConnKey, Edge, EdgeConfig, GoAwayCode, Histogram, Part};
#[cfg(all(feature = "upgrade", unix))]
use voltlane_core::edge::{Moving, Snapshot, trunk::Downward};

pub use self::errands::{Errands, MAX_ERRANDS, Peers};
pub use self::neighbours::Neighbours;
pub use self::openings::Openings;

use self::clients::{Clients, HANDSHAKES_PER_TURN};
use self::openings::{Change, Changes};
use self::work::{ERRANDS, LINGERING, LISTENER, MAILBOX, Work};
use crate::accept::Acceptors;
use crate::handle::Handle;
use crate::turn::{LINK, Side, Turns};
#[cfg(all(feature = "upgrade", unix))]
use crate::uplink::Carrier as _;
use crate::uplink::Uplink;
use crate::waker::{ReadyList, SourceWaker, Token};
use crate::{Listener, Stream, Timer};

/// Clients read per turn, before the backend is written to.
const CLIENTS_PER_TURN: usize = 512;
/// The number of bytes after which no further client is read in a turn: they are passed on while they are in the processor's cache.
const CLIENT_BYTES_PER_TURN: usize = 64 * 1024;
/// Clients written to per turn.
const WRITES_PER_TURN: usize = 1_024;
/// Connections accepted per poll: existing work comes before new work.
const ACCEPTS_PER_POLL: usize = 64;
/// The same while clients have traffic: each newcomer costs as much as a score of their packets, which wait meanwhile.
const ACCEPTS_BESIDE_TRAFFIC: usize = 6;
/// How long a packet counts as traffic: a poll with little else to do would let a crowd in just before the next one.
const TRAFFIC: Duration = Duration::from_millis(10);
/// Connections taken over from other shards per turn.
const HANDOVERS_PER_TURN: usize = 64;

/// Drives an [`Edge`]: accepts clients from a listener, keeps the link to the backend, and moves the bytes.
///
/// It is a future to be run as one task, and ends after [`EdgeHandle::shutdown`]. It decides nothing: it asks the [`Edge`] which clients to
/// admit and read, what to write, and when to close. Each poll takes turns with a fixed order:
///
/// 1. Every client that was woken is read once (up to 512 and 64 KiB as the sockets give them, the others wait for the next turn). Then
///    up to 16 costly handshakes are made that transports have postponed.
/// 2. The link is read.
/// 3. Time is handled, half a second later if the process was suspended.
/// 4. New clients are accepted, and those handed over by other shards are taken (up to 64). One [errand](Errands) is done.
/// 5. The link is dialled or dropped, and written to, once for everything that arrived.
/// 6. Every client with output is written to, once, or closed.
///
/// So the cost of a turn depends on which clients are ready, not on how many are connected, and one client's flood delays the others by one
/// read. An idle client costs its stream and about 100 bytes.
///
/// Its streams must not be throttled per task, as tokio's cooperative budget does: a task that serves a thousand streams would starve. See
/// `voltlane_tokio::serve`.
pub struct EdgeDriver<L: Listener, C: Uplink, T: Timer>(Turns<Clientele<L>, C::Carrier, T>);

/// Asks an [`EdgeDriver`] to shut down or to change its configuration.
pub type EdgeHandle = Handle<EdgeConfig>;

impl<L: Listener, C: Uplink, T: Timer> EdgeDriver<L, C, T> {
    /// Creates a driver of `edge` for the clients of `listener` and the backend at the other end of `uplink`.
    pub fn new(edge: Edge, listener: L, uplink: C, timer: T) -> Self {
        let ready = Arc::<ReadyList>::default();
        let own = listener.place();
        let clientele = Clientele::new(edge, listener, &ready);
        let link = uplink.carrier(LINK, &ready);
        EdgeDriver(Turns::new(clientele, ready, link, timer)).refusing(own)
    }

    /// Refuses a link that leads to one of these addresses, at which this process listens. Those of its listeners are refused anyway.
    #[must_use]
    pub fn refusing(mut self, own: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.0.refuse(own);
        self
    }

    /// Adds another listener, as for a name with several addresses. Listeners take turns, and the limits apply to all of them together.
    #[must_use]
    pub fn listening_at(mut self, listener: L) -> Self {
        self.0.refuse(listener.place());
        self.0.side_mut().acceptors.push(listener);
        self
    }

    /// Sets how many streams at most are kept for a second after their orderly end, so that the peer reads everything. They are not among
    /// the edge's connections, but have descriptors. Beyond the bound the oldest is closed early. Default: 256.
    #[must_use]
    pub fn lingering_at_most(mut self, streams: usize) -> Self {
        self.0.side_mut().clients.linger_at_most(streams);
        self
    }

    /// Sets where the entropy of openings comes from, which is the operating system by default. Every call must return other bytes, which
    /// nobody can know or guess: with a generator that can be copied, the edge would seal different values under one key (SPEC 20.6). It is
    /// for simulations.
    #[must_use]
    pub fn drawing_from(mut self, entropy: impl FnMut() -> [u8; 32] + Send + 'static) -> Self {
        self.0.side_mut().clients.draw_from(Box::new(entropy));
        self
    }

    /// Makes this the driver of one of several shards.
    ///
    /// Their machines are created by [`Trunk::with_shards`](voltlane_core::edge::trunk::Trunk::with_shards), and their connectors come from
    /// a [`TrunkDriver`](crate::TrunkDriver). Claims of another shard's sessions are handed over to it.
    #[must_use]
    pub fn with_neighbours(mut self, neighbours: Neighbours<L::Stream>) -> Self {
        self.0.side_mut().meet(neighbours);
        self
    }

    /// Returns a handle to open and close listeners.
    #[must_use]
    pub fn openings(&self) -> Openings<L> {
        let side = self.0.side();
        Openings::new(&side.changes, &side.accept_waker)
    }

    /// Returns a handle by which others look at the machine and change it.
    #[must_use]
    pub fn errands(&self) -> Errands {
        let side = self.0.side();
        Errands::new(&side.errands, &side.errands_waker)
    }

    /// Returns a handle to shut it down.
    #[must_use]
    pub fn handle(&self) -> EdgeHandle {
        self.0.handle()
    }

    /// Saves the sessions of the machine, once this driver has ended (SPEC 39). The machine is to be told
    /// [before it is driven](Edge::keep_sessions).
    pub fn save(&mut self) -> Part {
        let now = self.0.now();
        self.0.side_mut().edge.save(now)
    }

    /// Begins to record the machine as it is, for one that goes on with the connections of another process.
    ///
    /// # Errors
    /// Those of [`Edge::record_on`]
    #[cfg(feature = "record")]
    pub fn record_on(
        &mut self,
        segments: voltlane_core::edge::record::Segments,
        sink: Box<dyn voltlane_core::edge::record::Sink>,
    ) -> Result<(), voltlane_core::edge::record::RecordError> {
        self.0.side_mut().edge.record_on(segments, sink)
    }

    /// Ends the recording of the machine, if there is one, once this driver has ended.
    #[cfg(feature = "record")]
    pub fn end_recording(&mut self) {
        self.0.side_mut().edge.end_recording();
    }

    /// Saves what another process needs to take the place of this driver. `down` is what its trunk
    /// [has](voltlane_core::edge::trunk::MovingTrunk::down) for it. Nothing changes here, but that sessions which other shards have left
    /// are taken, as in the next turn. (SPEC 41)
    #[cfg(all(feature = "upgrade", unix))]
    pub fn save_moving(&mut self, down: &[Downward]) -> Moving {
        let now = self.0.now();
        self.0.side_mut().take_sessions(now);
        let (side, link) = (self.0.side(), self.0.link());
        let mut coming = link.coming();
        coming.extend_from_slice(down);
        let clients = &side.clients;
        let transport = |key, out: &mut Vec<u8>| clients.save(key, out);
        let link_has_socket = link.socket().is_some();
        side.edge
            .save_moving(now, &coming, transport, link_has_socket)
    }

    /// Returns the sockets that go with what was just [saved](Self::save_moving): that of the link, if it is moved, and those of the
    /// connections.
    #[cfg(all(feature = "upgrade", unix))]
    pub fn sockets<'a>(
        &'a self,
        connections: &'a [ConnKey],
        has_link: bool,
    ) -> impl Iterator<Item = BorrowedFd<'a>> {
        let (clients, link) = (&self.0.side().clients, self.0.link().socket());
        let of_clients = connections.iter();
        let of_clients = of_clients.filter_map(|key| clients.socket(*key));
        link.filter(|_| has_link).into_iter().chain(of_clients)
    }

    /// Closes all connections but those that were moved, in order and at once. The driver is not to be polled any more, and the process ends
    /// next.
    #[cfg(all(feature = "upgrade", unix))]
    pub fn close_all_but(&mut self, moved: &[ConnKey]) {
        let moved = moved.iter().map(|key| key.index()).collect();
        self.0.side_mut().clients.close_all_but(&moved);
    }

    /// Returns the sockets of its listeners, with their numbers.
    #[cfg(all(feature = "upgrade", unix))]
    pub fn listening(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.0.side().acceptors.sockets()
    }

    /// Takes over the connections of another process whose sessions are here, and were [restored](Edge::restore). `socket` gives the socket
    /// of a connection, by its place in the snapshot. Nothing is read or written before this driver is polled. Returns the number of
    /// connections that go on.
    ///
    /// # Errors
    /// When the runtime cannot register a socket.
    #[cfg(all(feature = "upgrade", unix))]
    pub fn take_over(
        &mut self,
        snapshot: &Snapshot,
        mut socket: impl FnMut(usize) -> Option<OwnedFd>,
    ) -> io::Result<usize> {
        let now = self.0.now();
        let side = self.0.side_mut();
        let mut taken = 0;
        let keys = side.edge.take_over(now, snapshot).into_iter();
        for (place, (key, saved)) in keys.zip(snapshot.transports()).enumerate() {
            if let Some(key) = key
                && let Some(socket) = socket(place)
            {
                let stream = L::Stream::from_socket(socket, saved)?;
                let Clientele {
                    edge,
                    clients,
                    work,
                    ..
                } = &mut *side;
                clients.insert_moved((now, key), stream, edge, work);
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Returns the machine, for its counters.
    #[must_use]
    pub fn edge(&self) -> &Edge {
        self.0.side().machine()
    }

    /// Returns how long its turns took that were followed at once by another: what came meanwhile has waited as long.
    #[must_use]
    pub fn turn_times(&self) -> &Histogram {
        self.0.times()
    }

    /// Returns how long packets for the backend waited, each time that the link took less than there was: the oldest of them waited as long.
    /// `None`: it has no link.
    #[cfg(feature = "figures")]
    #[must_use]
    pub fn link_waits(&self) -> Option<&Histogram> {
        self.0.link_waits()
    }
}

impl<L: Listener, C: Uplink, T: Timer> Future for EdgeDriver<L, C, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.get_mut().0.poll(cx)
    }
}

/// An edge and its clients: connected, arriving, and handed over by other shards.
struct Clientele<L: Listener> {
    edge: Edge,
    clients: Clients<L::Stream>,
    acceptors: Acceptors<L>,
    /// Listeners to open and to close.
    changes: Changes<L>,
    /// Those that the next turn opens and closes, once every configuration that was requested before them is in effect.
    due: Vec<Change<L>>,
    accept_source: Arc<SourceWaker>,
    accept_waker: Waker,
    neighbours: Option<Neighbours<L::Stream>>,
    errands: errands::Waiting,
    errands_source: Arc<SourceWaker>,
    errands_waker: Waker,
    /// Whether there is an errand. If not, the errands wait for their waker.
    has_errands: bool,
    mailbox_source: Arc<SourceWaker>,
    /// Whether a neighbour may have left connections. If not, the mailbox waits for its waker.
    has_mail: bool,
    /// Whether it was asked to shut down.
    is_ending: bool,
    /// Whether a listener may have a connection. If not, all listeners wait for their wakers.
    acceptable: bool,
    work: Work,
    /// Whether the edge has more clients to serve than fit in a turn.
    more_to_serve: bool,
    /// The packets of clients so far, and until when they count as traffic.
    packets: u64,
    traffic_until: Time,
}

impl<L: Listener> Clientele<L> {
    fn new(edge: Edge, listener: L, ready: &Arc<ReadyList>) -> Self {
        let accept_source = SourceWaker::new(LISTENER, ready);
        let errands_source = SourceWaker::new(ERRANDS, ready);
        Clientele {
            edge,
            clients: Clients::new(ready),
            acceptors: Acceptors::new(listener),
            changes: Changes::default(),
            due: Vec::new(),
            accept_waker: Waker::from(Arc::clone(&accept_source)),
            accept_source,
            neighbours: None,
            errands: errands::Waiting::default(),
            errands_waker: Waker::from(Arc::clone(&errands_source)),
            errands_source,
            has_errands: false,
            mailbox_source: SourceWaker::new(MAILBOX, ready),
            has_mail: false,
            is_ending: false,
            acceptable: true,
            work: Work::new(),
            more_to_serve: false,
            packets: 0,
            traffic_until: Time::ZERO,
        }
    }

    fn meet(&mut self, neighbours: Neighbours<L::Stream>) {
        neighbours.listen(&Waker::from(Arc::clone(&self.mailbox_source)));
        self.neighbours = Some(neighbours);
    }

    /// Opens and closes the listeners that it was asked to, unless it accepts no more.
    fn change_listeners(&mut self) {
        for change in std::mem::take(&mut self.due) {
            match change {
                Change::Close(number) => self.acceptors.remove(number),
                Change::Open(_) | Change::Replace(..) if self.is_ending => {}
                Change::Replace(number, make) => match make() {
                    Ok(listeners) => {
                        self.acceptors.remove(number);
                        for listener in listeners {
                            self.acceptors.push(listener);
                        }
                    }
                    Err(error) => {
                        error!(%error, "a listener cannot be opened; the one that it was to replace stays");
                    }
                },
                Change::Open(make) => match make() {
                    Ok(listener) => self.acceptors.push(listener),
                    Err(error) => warn!(%error, "a listener cannot be opened"),
                },
            }
        }
    }

    fn accept(&mut self, now: Time, buffer: &mut [u8]) {
        self.change_listeners();
        let most = self.accepts(now);
        let acceptors = &mut self.acceptors;
        if acceptors.rests_until().is_some_and(|until| until <= now) {
            self.acceptable = true;
        }
        for _ in 0..most {
            if !self.acceptable {
                return;
            }
            match acceptors.poll_accept(&mut Context::from_waker(&self.accept_waker), now) {
                Poll::Pending => {
                    self.acceptable = false;
                    if acceptors.rests_until().is_some() {
                        // The missing resource may be one that lingering streams hold.
                        self.clients.finish(buffer);
                    }
                }
                Poll::Ready((stream, source, listener)) => {
                    let introduced = stream.is_introduced();
                    let ip = source.ip();
                    match self.edge.handle_accepted_at(now, listener, ip, introduced) {
                        Ok(key) => self.clients.insert(now, key, stream, &mut self.work),
                        Err(rejected) => {
                            debug!(%source, listener, ?rejected, "connection turned away");
                            self.clients.refuse(stream, rejected.into(), now);
                        }
                    }
                }
            }
        }
    }

    /// Returns how many connections are accepted now.
    fn accepts(&mut self, now: Time) -> usize {
        let counters = self.edge.counters();
        let packets = counters.packets_up + counters.packets_down;
        if std::mem::replace(&mut self.packets, packets) != packets {
            self.traffic_until = now + TRAFFIC;
        }
        match now < self.traffic_until {
            true => ACCEPTS_BESIDE_TRAFFIC,
            false => ACCEPTS_PER_POLL,
        }
    }

    /// Takes the connections that other shards handed over.
    fn take_mail(&mut self, now: Time) {
        let Some(neighbours) = self.neighbours.as_ref().filter(|_| self.has_mail) else {
            return;
        };
        self.mailbox_source.serve();
        // They come before claims of them.
        #[cfg(feature = "backends")]
        for left in (0..HANDOVERS_PER_TURN).rev() {
            let Some(session) = neighbours.receive_session() else {
                break;
            };
            self.edge.handle_arriving(now, session);
            if left == 0 {
                // There may be more, for the next turn.
                return;
            }
        }
        for _ in 0..HANDOVERS_PER_TURN {
            let Some((handover, parcel)) = neighbours.receive() else {
                self.has_mail = false;
                return;
            };
            match L::Stream::unpack(parcel) {
                Ok(stream) => match self.edge.handle_handover(now, handover) {
                    Ok(key) => self.clients.insert(now, key, stream, &mut self.work),
                    Err(rejected) => debug!(?rejected, "a hand-over turned away"),
                },
                Err(error) => {
                    debug!(%error, "a hand-over failed");
                    self.edge.discard_handover(now, handover);
                }
            }
        }
    }

    /// Takes all sessions that other shards have left here, whose drivers stand still.
    #[cfg(all(feature = "upgrade", unix))]
    fn take_sessions(&mut self, _now: Time) {
        #[cfg(feature = "backends")]
        if let Some(neighbours) = &self.neighbours {
            while let Some(session) = neighbours.receive_session() {
                self.edge.handle_arriving(_now, session);
            }
        }
    }

    /// Leaves sessions that go to other backends for their shards. Those for which there is no room are left for later.
    #[cfg(feature = "backends")]
    fn send_sessions(&mut self, now: Time) {
        let Some(neighbours) = &self.neighbours else {
            return;
        };
        let edge = &mut self.edge;
        while let Some(shard) = edge.departing_to() {
            if !neighbours.send_session(shard, || edge.take_departing(now)) {
                return;
            }
        }
    }

    #[cfg(not(feature = "backends"))]
    #[expect(clippy::unused_self, reason = "as if there could be another backend")]
    fn send_sessions(&mut self, _: Time) {}

    /// Does one errand.
    fn do_errand(&mut self, now: Time) {
        if !self.has_errands {
            return;
        }
        self.errands_source.serve();
        let (errand, has_more) = errands::next(&self.errands);
        self.has_errands = has_more;
        if let Some(errand) = errand {
            errand(&mut self.edge, now, &self.clients);
        }
    }

    /// Hands a client over to the shard that has its session.
    fn hand_over(&mut self, key: ConnKey, now: Time) {
        let Some(handover) = self.edge.take_handover(now, key) else {
            return;
        };
        let packed = self.clients.depart(key).map(Stream::pack);
        let sent = match (packed, &self.neighbours) {
            (Some(Ok(parcel)), Some(neighbours)) => {
                let sent = neighbours.send(handover, parcel);
                sent.inspect_err(|_| debug!("a hand-over finds no room, or its shard has ended"))
            }
            (Some(Err(error)), _) => {
                debug!(%error, "a hand-over failed");
                Err(handover)
            }
            _ => Err(handover),
        };
        if let Err(handover) = sent {
            self.edge.discard_handover(now, handover);
        }
    }

    /// Serves one client.
    fn serve(&mut self, key: ConnKey, now: Time) {
        let (edge, work) = (&mut self.edge, &mut self.work);
        if self.clients.serve(key, edge, now, work) {
            self.hand_over(key, now);
        }
    }

    /// Serves each client that the edge lists, and those whose blocked writes may proceed.
    fn serve_clients(&mut self, now: Time) {
        // Served clients may be put back. Those wait for the next turn.
        let unblocked = self.work.unblocked.len();
        for at in 0..unblocked {
            let key = self.work.unblocked[at];
            self.serve(key, now);
        }
        self.work.unblocked.drain(..unblocked);
        self.more_to_serve = false;
        for served in 0.. {
            if served == WRITES_PER_TURN {
                self.more_to_serve = true;
                return;
            }
            let Some(key) = self.edge.poll_client() else {
                return;
            };
            self.serve(key, now);
        }
    }
}

impl<L: Listener> Side for Clientele<L> {
    type Machine = Edge;
    type Config = EdgeConfig;

    fn machine(&self) -> &Edge {
        &self.edge
    }

    fn machine_mut(&mut self) -> &mut Edge {
        &mut self.edge
    }

    fn handle_woken(&mut self, token: Token) {
        match token {
            MAILBOX => self.has_mail = true,
            ERRANDS => self.has_errands = true,
            LINGERING => self.clients.handle_room(),
            LISTENER => {
                self.accept_source.serve();
                self.acceptable = true;
                self.due.append(&mut openings::lock(&self.changes));
            }
            client => self.work.push(client),
        }
    }

    fn needs_config(&self) -> bool {
        !self.due.is_empty()
    }

    fn handle_config(&mut self, now: Time, config: EdgeConfig) {
        self.edge.handle_config(now, config);
    }

    fn handle_leaving(&mut self, now: Time, within: Duration) {
        self.is_ending = true;
        self.acceptors.close();
        self.edge.handle_leaving(now, GoAwayCode::Restart, within);
    }

    fn handle_shutdown(&mut self, now: Time, within: Duration) {
        self.is_ending = true;
        self.acceptors.close();
        self.edge.handle_shutdown(now, within);
    }

    fn next_timeout(&self) -> Option<Time> {
        self.edge.poll_timeout().map(|deadline| deadline.at)
    }

    fn handle_timeout(&mut self, now: Time) {
        self.edge.handle_timeout(now);
    }

    fn next_deadline(&self) -> Option<Time> {
        let rests_until = self.acceptors.rests_until();
        let deadlines = [rests_until, self.clients.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    fn read(&mut self, now: Time, buffer: &mut [u8]) {
        let mut taken = 0;
        for _ in 0..self.work.waiting().min(CLIENTS_PER_TURN) {
            if taken >= CLIENT_BYTES_PER_TURN {
                break;
            }
            let Some(token) = self.work.next_client() else {
                break;
            };
            taken += self
                .clients
                .handle_ready(token, &mut self.edge, now, buffer, &mut self.work);
        }
        // After the established clients, so that a flood of strangers delays nobody for long.
        for _ in 0..HANDSHAKES_PER_TURN {
            let Some(token) = self.clients.next_handshake(&mut self.edge, now) else {
                break;
            };
            self.clients
                .handle_ready(token, &mut self.edge, now, buffer, &mut self.work);
        }
    }

    /// Clients are accepted only in the first turn of a poll. Between two polls the runtime finds out which of them have sent something,
    /// and these come before new ones.
    fn admit(&mut self, now: Time, first: bool, buffer: &mut [u8]) {
        self.clients.handle_time(&mut self.edge, now);
        if first {
            self.accept(now, buffer);
        }
        self.take_mail(now);
        self.do_errand(now);
        self.send_sessions(now);
    }

    fn write(&mut self, now: Time) {
        self.send_sessions(now);
        self.serve_clients(now);
    }

    fn is_busy(&self) -> bool {
        !self.work.is_empty()
    }

    fn has_work(&self) -> bool {
        !self.work.is_empty()
            || self.more_to_serve
            || self.has_mail
            || self.has_errands
            || self.clients.has_handshakes()
    }

    fn has_newcomers(&self) -> bool {
        self.acceptable && !self.acceptors.is_closed()
    }

    fn is_finished(&self) -> bool {
        self.edge.is_finished()
    }

    fn close(&mut self, now: Time) {
        self.clients.close_all(&mut self.edge, now);
        let neighbours = self.neighbours.take();
        #[cfg(feature = "backends")]
        if let Some(neighbours) = &neighbours {
            for session in neighbours.end() {
                self.edge.handle_arriving(now, session);
            }
        }
        drop(neighbours);
    }

    #[cfg(feature = "snapshot")]
    fn keeps(&self) -> bool {
        self.edge.keeps_sessions()
    }

    fn holds(&self) -> bool {
        self.clients.holds()
    }

    fn finish(&mut self, buffer: &mut [u8]) {
        self.clients.finish(buffer);
    }
}
