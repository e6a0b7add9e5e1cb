//! The driver of an edge: one future that owns the machine and everything it serves.

mod clients;
mod neighbours;
mod work;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tracing::debug;
use voltlane_core::Time;
use voltlane_core::edge::{ConnKey, Edge, EdgeConfig};

pub use self::neighbours::Neighbours;

use self::clients::Clients;
use self::work::{HANDLE, LINK, LISTENER, MAILBOX, TIMER, Work};
use crate::accept::Acceptor;
use crate::alarm::Alarm;
use crate::handle::{Handle, Requests};
use crate::late::CatchUp;
use crate::link::{Link, close_by};
use crate::waker::SourceWaker;
use crate::{Connector, Listener, Stream, Timer};

/// Bytes read at once, into the one buffer that all streams share.
const BUFFER_BYTES: usize = 64 * 1024;
/// Clients read in one turn, before the backend is written to.
const CLIENTS_PER_TURN: usize = 512;
/// Bytes after which no other client is read in one turn: what was read is handed on while it is in the processor's cache.
const CLIENT_BYTES_PER_TURN: usize = 64 * 1024;
/// Clients written to in one turn.
const WRITES_PER_TURN: usize = 1_024;
/// Connections accepted in one poll: old work goes before new.
const ACCEPTS_PER_POLL: usize = 64;
/// Connections taken from other shards in one turn.
const HANDOVERS_PER_TURN: usize = 64;
/// Turns before the task yields to others.
const TURNS_PER_POLL: usize = 4;

/// Serves an [`Edge`]: accepts clients from a listener, keeps the link to the backend, moves the bytes.
///
/// It is a future, to be run as one task, and ends after [`EdgeHandle::shutdown`]. It decides nothing: who is let in,
/// who is read, what is written and when to close is asked of the [`Edge`]. Each poll takes turns of a fixed order:
///
/// 1. every client that was woken is read once (up to 512 and 64 KiB, the others wait for the next turn);
/// 2. the link is read; 3. time is handled, half a second later where the process stood still; 4. new clients are accepted, and those that other shards handed over taken (up to 64);
/// 5. the link is dialled or dropped, and written to, once for all that came in;
/// 6. every client with something to say is written to, once, or closed.
///
/// So the cost of a turn depends on who is ready, not on who is connected, and one client's flood holds the others up
/// by one read. An idle client costs its stream and about 100 bytes.
///
/// Its streams must not be throttled per task, as tokio's cooperative budget does: a task that serves a thousand
/// streams would starve. See `voltlane_tokio::serve`.
pub struct EdgeDriver<L: Listener, C: Connector, T: Timer> {
    edge: Edge,
    clients: Clients<L::Stream>,
    link: Link<C>,
    acceptor: Option<Acceptor<L>>,
    accept_source: Arc<SourceWaker>,
    accept_waker: Waker,
    neighbours: Option<Neighbours<L::Stream>>,
    mailbox_source: Arc<SourceWaker>,
    /// A neighbour may have left connections; else the mailbox waits for its waker.
    has_mail: bool,
    /// The listener may have a connection; else it waits for its waker.
    acceptable: bool,
    alarm: Alarm<T>,
    catch_up: CatchUp,
    work: Work,
    /// The edge has more clients to be served than a turn takes.
    more_to_serve: bool,
    handle: EdgeHandle,
    handle_source: Arc<SourceWaker>,
    /// An end was asked for, which may take until then.
    ends_by: Option<Time>,
    /// The edge is finished; the link is closing until then.
    finishing: Option<Time>,
    buffer: Box<[u8]>,
}

/// Asks an [`EdgeDriver`] to end, or to go on with another configuration.
pub type EdgeHandle = Handle<EdgeConfig>;

impl<L: Listener, C: Connector, T: Timer> EdgeDriver<L, C, T> {
    /// A driver of `edge` for the clients of `listener` and the backend at the other end of `connector`.
    pub fn new(edge: Edge, listener: L, connector: C, timer: T) -> Self {
        let work = Work::new();
        let accept_source = SourceWaker::new(LISTENER, work.ready());
        let handle_source = SourceWaker::new(HANDLE, work.ready());
        let mailbox_source = SourceWaker::new(MAILBOX, work.ready());
        EdgeDriver {
            edge,
            clients: Clients::new(),
            link: Link::new(connector, LINK, work.ready()),
            acceptor: Some(Acceptor::new(listener)),
            accept_waker: Waker::from(Arc::clone(&accept_source)),
            accept_source,
            neighbours: None,
            mailbox_source,
            has_mail: false,
            acceptable: true,
            alarm: Alarm::new(timer, TIMER, work.ready()),
            catch_up: CatchUp::default(),
            work,
            more_to_serve: false,
            handle: Handle::new(Waker::from(Arc::clone(&handle_source))),
            handle_source,
            ends_by: None,
            finishing: None,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        }
    }

    /// The same for one of several shards, whose machines are made by
    /// [`Trunk::with_shards`](voltlane_core::trunk::Trunk::with_shards) and whose connectors come from a
    /// [`TrunkDriver`](crate::TrunkDriver): claims of another shard's sessions go there.
    #[must_use]
    pub fn beside(self, neighbours: Neighbours<L::Stream>) -> Self {
        neighbours.listen(&Waker::from(Arc::clone(&self.mailbox_source)));
        EdgeDriver {
            neighbours: Some(neighbours),
            ..self
        }
    }

    /// The way to end it.
    #[must_use]
    pub fn handle(&self) -> EdgeHandle {
        self.handle.clone()
    }

    /// The machine, for its counters.
    #[must_use]
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// One turn. Clients are accepted in the first one of a poll only: between two polls the runtime finds out who of
    /// them has spoken, and that counts before those who are yet to come.
    fn turn(&mut self, now: Time, accepts: bool) {
        self.catch_up.notice(now, self.next_timeout());
        let mut taken = 0;
        for _ in 0..self.work.waiting().min(CLIENTS_PER_TURN) {
            if taken >= CLIENT_BYTES_PER_TURN {
                break;
            }
            let Some(token) = self.work.next_client() else {
                break;
            };
            taken += self.clients.handle_ready(
                token,
                &mut self.edge,
                now,
                &mut self.buffer,
                &mut self.work,
            );
        }
        self.link.read(&mut self.edge, now, &mut self.buffer);
        self.link.handle_time(&mut self.edge, now);
        if self.next_timeout().is_some_and(|at| at <= now)
            && self.catch_up.is_over(now, !self.work.is_empty())
        {
            self.edge.handle_timeout(now);
        }
        self.clients.handle_time(&mut self.edge, now);
        if accepts {
            self.accept(now);
        }
        self.take_mail(now);
        self.link.drive(&mut self.edge, now);
        self.link.write(&mut self.edge, now);
        self.serve_clients(now);
    }

    /// When the edge wants to be told the time.
    fn next_timeout(&self) -> Option<Time> {
        self.edge.poll_timeout().map(|deadline| deadline.at)
    }

    /// Takes note of what was woken.
    fn collect(&mut self, now: Time) {
        let (mut link, mut listener, mut timer, mut handle) = (false, false, false, false);
        let has_mail = &mut self.has_mail;
        self.work.collect(|token| match token {
            MAILBOX => *has_mail = true,
            LINK => link = true,
            LISTENER => listener = true,
            TIMER => timer = true,
            _ => handle = true,
        });
        if link {
            self.link.handle_woken();
        }
        if listener {
            self.accept_source.serve();
            self.acceptable = true;
        }
        if timer {
            self.alarm.handle_woken();
        }
        if handle {
            self.handle_source.serve();
            let Requests { config, shutdown } = self.handle.take();
            if let Some(config) = config {
                self.edge.handle_config(now, *config);
            }
            if let Some(within) = shutdown {
                self.acceptor = None;
                self.ends_by.get_or_insert(now + within);
                self.edge.handle_shutdown(now, within);
            }
            self.handle.done();
        }
    }

    fn accept(&mut self, now: Time) {
        let Some(acceptor) = &mut self.acceptor else {
            return;
        };
        if acceptor.rests_until().is_some_and(|until| until <= now) {
            self.acceptable = true;
        }
        for _ in 0..ACCEPTS_PER_POLL {
            if !self.acceptable {
                return;
            }
            match acceptor.poll_accept(&mut Context::from_waker(&self.accept_waker), now) {
                Poll::Pending => {
                    self.acceptable = false;
                    if acceptor.rests_until().is_some() {
                        // Out of something that they may be holding.
                        self.clients.finish(&mut self.buffer);
                    }
                }
                Poll::Ready((stream, source)) => {
                    match self.edge.handle_accepted(now, source.ip()) {
                        Ok(key) => self.clients.insert(key, stream, &mut self.work),
                        Err(rejected) => debug!(%source, ?rejected, "connection turned away"),
                    }
                }
            }
        }
    }

    /// Takes the connections that other shards handed over.
    fn take_mail(&mut self, now: Time) {
        let Some(neighbours) = self.neighbours.as_ref().filter(|_| self.has_mail) else {
            return;
        };
        self.mailbox_source.serve();
        for _ in 0..HANDOVERS_PER_TURN {
            let Some((handover, parcel)) = neighbours.receive() else {
                self.has_mail = false;
                return;
            };
            match L::Stream::unpack(parcel) {
                Ok(stream) => match self.edge.handle_handover(now, handover) {
                    Ok(key) => self.clients.insert(key, stream, &mut self.work),
                    Err(rejected) => debug!(?rejected, "a hand-over turned away"),
                },
                Err(error) => {
                    debug!(%error, "a hand-over failed");
                    self.edge.discard_handover(now, handover);
                }
            }
        }
    }

    /// Brings a client to the shard that has its session.
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
        if self.neighbours.is_some() && self.edge.client_handover(key).is_some() {
            self.hand_over(key, now);
        } else {
            self.clients.serve(key, &mut self.edge, now, &mut self.work);
        }
    }

    /// Serves each client that the edge lists, and those whose blocked writes may get on.
    fn serve_clients(&mut self, now: Time) {
        // Served clients may be put back: those wait for the next turn.
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

    /// Whether another turn would get on without being woken, apart from accepting.
    fn has_work(&self, now: Time) -> bool {
        if self.finishing.is_some() {
            return false;
        }
        !self.work.is_empty()
            || self.more_to_serve
            || self.has_mail
            || self.link.has_work(&self.edge, now)
    }

    /// Sets the alarm; ready if its time has come already.
    fn poll_alarm(&mut self) -> Poll<()> {
        let deadlines = [
            self.catch_up.put_off(self.next_timeout()),
            self.acceptor.as_ref().and_then(Acceptor::rests_until),
            self.clients.next_deadline(),
            self.link.next_deadline(),
        ];
        // Once it is finished the edge is asked nothing more, so what it would want in time does not count.
        self.alarm.poll_set(
            self.finishing
                .or_else(|| deadlines.into_iter().flatten().min()),
        )
    }

    /// Closes everything once the edge is finished; ready when the backend has closed too, or has taken too long.
    fn poll_finish(&mut self, now: Time) -> Poll<()> {
        let until = match self.finishing {
            Some(until) => until,
            None => {
                self.clients.close_all(&mut self.edge, now);
                self.neighbours = None;
                *self.finishing.insert(close_by(now, self.ends_by))
            }
        };
        if self.link.poll_finish(&mut self.buffer).is_pending() && now < until {
            return Poll::Pending;
        }
        self.clients.finish(&mut self.buffer);
        Poll::Ready(())
    }
}

impl<L: Listener, C: Connector, T: Timer> Future for EdgeDriver<L, C, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.work.register(cx.waker());
        for turn in 0..TURNS_PER_POLL {
            let now = this.alarm.now();
            this.collect(now);
            if this.finishing.is_none() {
                this.turn(now, turn == 0);
            }
            // What its connections leave behind when they are closed may be words for the backend: they make nothing unfinished again.
            let finishes = this.finishing.is_some() || this.edge.is_finished();
            if finishes && this.poll_finish(now).is_ready() {
                return Poll::Ready(());
            }
            if !this.has_work(now) {
                if this.acceptable && this.acceptor.is_some() {
                    break;
                }
                if this.poll_alarm().is_pending() {
                    return Poll::Pending;
                }
            }
        }
        // There is more to do, but others want their turn as well.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
