//! The thread that serves HTTP.
//!
//! It serves up to [`MAX_CONNECTIONS`] connections concurrently, each for at most three [`STEP_TIMEOUT`]; one that watches events stays
//! longer. A new one replaces the oldest one of the source that has the most. A client that asks at once is finished in a round trip; one
//! that is silent on purpose becomes the oldest. So no client waits for another, and neither does the end of the process.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use voltlane_driver::SocketOptions;

use super::connection::{Connection, Wants};
use super::message::{Request, Response};
use crate::config::Address;
use crate::listen;

/// How long a head may take from the accept to its end, then a response until it is written, and then the peer until it closes.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum number of connections. Their descriptors come from the reserve that clients leave.
pub(crate) const MAX_CONNECTIONS: usize = 32;
/// Connections accepted at one address before existing ones have their turn.
const ACCEPTS_AT_ONCE: usize = 16;
/// How long to pause when no connection can be accepted, as for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 128;

/// The maximum number of connections of one server that watch events.
#[cfg(feature = "admin")]
pub(crate) const MAX_WATCHERS: usize = 8;
/// How long one may watch.
#[cfg(feature = "admin")]
pub(crate) const WATCH_AT_MOST: Duration = Duration::from_secs(3_600);
/// The time between two events.
#[cfg(feature = "admin")]
pub(crate) const EVENT_EVERY: Duration = Duration::from_secs(1);

/// The path of events.
#[cfg(feature = "admin")]
pub(crate) const EVENTS: &str = "/events";

/// The pages of a server.
pub(crate) trait Pages: Send + 'static {
    /// Prepares for the requests that are answered together: what a page looks up may be that old.
    fn refresh(&mut self) {}

    /// Returns the answer for a path.
    fn page(&mut self, path: &str) -> Response;

    /// Returns the present event for those that watch `path`, or `None` if there are no events.
    #[cfg(feature = "admin")]
    fn event(&mut self, _path: &str) -> Option<String> {
        None
    }
}

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    /// At least one.
    addresses: Vec<SocketAddr>,
    /// Closed to end the thread.
    alive: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens at every address of `name`, and serves `pages` in a thread of this name.
    ///
    /// # Errors
    /// When an address cannot be bound, or no thread can be started.
    pub(crate) fn start(thread: &str, name: &Address, pages: impl Pages) -> io::Result<Server> {
        let options = SocketOptions::default().with_backlog(BACKLOG);
        let listeners = listen::bind(name, options)?.listen(1)?;
        let listeners = listeners.into_iter().next().unwrap_or_default();
        let addresses = listen::local_addrs(&listeners)?;
        let (alive, ending) = UnixStream::pair()?;
        let round = Round {
            listeners,
            ending,
            pages,
            connections: Vec::new(),
            rests_until: None,
            #[cfg(feature = "admin")]
            event_at: None,
        };
        let thread = thread::Builder::new()
            .name(thread.into())
            .spawn(move || round.serve())?;
        Ok(Server {
            addresses,
            alive: Some(alive),
            thread: Some(thread),
        })
    }

    /// Returns the addresses that it listens at, at least one.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().copied()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // It waits only for the edge's loops, and not for those that are gone. A panic there was reported there.
            let _ = thread.join();
        }
    }
}

/// The state of the thread.
struct Round<P> {
    listeners: Vec<TcpListener>,
    ending: UnixStream,
    pages: P,
    /// The oldest first.
    connections: Vec<Connection>,
    /// Nothing is accepted until then.
    rests_until: Option<Instant>,
    /// When watchers are told the next event, if there are any.
    #[cfg(feature = "admin")]
    event_at: Option<Instant>,
}

impl<P: Pages> Round<P> {
    fn serve(mut self) {
        while let Some(accepts) = self.wait() {
            let now = Instant::now();
            if accepts {
                self.accept(now);
            }
            for connection in &mut self.connections {
                connection.read(now);
            }
            self.answer(now);
            #[cfg(feature = "admin")]
            self.tell_watchers(now);
            self.connections.retain_mut(|one| one.goes_on(now));
        }
    }

    /// Waits until there is something to do. Returns whether that is to accept, or `None` at the end.
    fn wait(&mut self) -> Option<bool> {
        let now = Instant::now();
        if self.rests_until.is_some_and(|until| until <= now) {
            self.rests_until = None;
        }
        let mut waits = vec![PollFd::new(&self.ending, PollFlags::IN)];
        for connection in &self.connections {
            let flags = match connection.wants() {
                Wants::Read => PollFlags::IN,
                Wants::Write => PollFlags::OUT,
            };
            waits.push(PollFd::new(connection.stream(), flags));
        }
        let others = waits.len();
        if self.rests_until.is_none() {
            let listeners = self.listeners.iter();
            waits.extend(listeners.map(|listener| PollFd::new(listener, PollFlags::IN)));
        }
        let deadlines = self.connections.iter().map(Connection::deadline);
        #[cfg(feature = "admin")]
        let deadlines = deadlines.chain(self.event_at);
        let next = deadlines.chain(self.rests_until).min();
        let left = next.map(|next| next.saturating_duration_since(now));
        // A wait that fails or is interrupted is a round with nothing to do.
        let _ = poll(&mut waits, left.and_then(rounded_up).as_ref());
        let mut listeners = waits.iter().skip(others);
        let accepts = listeners.any(|listener| !listener.revents().is_empty());
        let ends = waits
            .first()
            .is_none_or(|first| !first.revents().is_empty());
        (!ends).then_some(accepts)
    }

    fn accept(&mut self, now: Instant) {
        for at in 0..self.listeners.len() {
            self.accept_at(at, now);
        }
    }

    fn accept_at(&mut self, listener: usize, now: Instant) {
        for _ in 0..ACCEPTS_AT_ONCE {
            match self.listeners[listener].accept() {
                Ok((stream, peer)) => {
                    if self.connections.len() >= MAX_CONNECTIONS {
                        self.make_room();
                    }
                    match Connection::new(stream, peer, now) {
                        Ok(connection) => self.connections.push(connection),
                        Err(error) => tracing::debug!(%peer, %error, "a client of HTTP is gone"),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept HTTP requests for the moment");
                    // This connection may hold the resource that is missing.
                    self.make_room();
                    self.rests_until = Some(now + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    /// Ends the oldest connection of the source that has the most.
    fn make_room(&mut self) {
        let count = |one: &Connection| {
            let same = self.connections.iter();
            same.filter(|other| other.source() == one.source()).count()
        };
        // Among several most crowded sources `max_by_key` takes the last.
        let oldest_first = self.connections.iter().enumerate();
        let victim = oldest_first.rev().max_by_key(|(_, one)| count(one));
        if let Some(victim) = victim.map(|(at, _)| at) {
            self.connections.remove(victim);
        }
    }

    /// Answers every complete request.
    fn answer(&mut self, now: Instant) {
        self.pages.refresh();
        #[cfg(feature = "admin")]
        let mut watchers = self
            .connections
            .iter()
            .filter(|one| one.is_watching())
            .count();
        for connection in &mut self.connections {
            let Some(request) = connection.request() else {
                continue;
            };
            #[cfg(feature = "admin")]
            if let Request::Get(path) = request
                && let Some(event) = self.pages.event(path)
            {
                if watchers >= MAX_WATCHERS {
                    let says = "too many watch already";
                    connection.answer(Response::text("503 Service Unavailable", says), now);
                    continue;
                }
                watchers += 1;
                connection.watch(now, WATCH_AT_MOST);
                connection.tell(&event);
                self.event_at.get_or_insert(now + EVENT_EVERY);
                continue;
            }
            let response = respond(request, &mut self.pages);
            connection.answer(response, now);
        }
    }

    /// Tells everybody who watches what there is to tell, each second.
    #[cfg(feature = "admin")]
    fn tell_watchers(&mut self, now: Instant) {
        if self.event_at.is_none_or(|at| at > now) {
            return;
        }
        let connections = self.connections.iter_mut();
        let mut watchers = connections.filter(|one| one.is_watching()).peekable();
        self.event_at = watchers.peek().is_some().then(|| now + EVENT_EVERY);
        if self.event_at.is_some()
            && let Some(event) = self.pages.event(EVENTS)
        {
            watchers.for_each(|one| one.tell(&event));
        }
    }
}

/// Rounds a time up: a wait that is too short would be followed by others.
fn rounded_up(left: Duration) -> Option<Timespec> {
    Timespec::try_from(left + Duration::from_millis(1)).ok()
}

fn respond(request: Request<'_>, pages: &mut impl Pages) -> Response {
    let (path, is_head) = match request {
        Request::Get(path) => (path, false),
        Request::Head(path) => (path, true),
        Request::OtherMethod => {
            return Response::text("405 Method Not Allowed", "only GET and HEAD");
        }
        Request::Malformed => return Response::text("400 Bad Request", "no HTTP/1.1 request"),
    };
    let response = pages.page(path);
    if is_head {
        response.without_body()
    } else {
        response
    }
}
