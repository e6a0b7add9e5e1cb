//! Listens, and serves each connection in a thread of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::socket_peercred;
use voltlane_driver::SocketOptions;
use voltlane_driver::unix::{PeerUids, UnixFile};

use super::calls::{Answer, answer, tell_refused};
use super::desk::Desk;
use super::guard::{Caller, Guard};
use super::request::{self, MAX_BODY_BYTES, Refusal, Request, STEP_TIMEOUT};
use super::status::status;
use super::stream::Stream;
use super::token;
use crate::config::{Admin, Place};
use crate::http::{EVENT_EVERY, EVENTS, MAX_WATCHERS, WATCH_AT_MOST};
use crate::listen;
use crate::logging::happenings::Follower;
use crate::{logging, page};

/// The maximum number of connections, watchers included. For one beyond, the one that has said nothing for longest is closed.
pub(crate) const MAX_CONNECTIONS: usize = 16;
/// Memory of a thread's stack.
const STACK_BYTES: usize = 256 * 1024;
/// How often the server looks after what is due.
const TICK: Duration = Duration::from_secs(1);
const BACKLOG: u32 = 16;
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

enum Listener {
    Net(TcpListener),
    Unix(UnixListener),
}

/// The admin interface, which serves until it is dropped.
pub(crate) struct AdminServer {
    places: Vec<String>,
    addresses: Vec<SocketAddr>,
    /// Closed to end the thread.
    alive: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    /// The file of a Unix socket.
    _file: Option<UnixFile>,
}

/// The error of a place that the configuration refuses here.
fn only_for_listeners(place: &Place) -> io::Error {
    let says = format!("{place} is for listeners alone");
    io::Error::new(io::ErrorKind::Unsupported, says)
}

impl AdminServer {
    /// Listens as `config` says. Its address is set.
    ///
    /// # Errors
    /// When it cannot listen there, the token cannot be read, or no thread can be started.
    pub(crate) fn start(config: &Admin, place: &Place, desk: Desk) -> io::Result<AdminServer> {
        let options = SocketOptions::default().with_backlog(BACKLOG);
        let token = match (place, &config.token_file) {
            (Place::Unix(_), _) => None,
            (Place::Net(_), Some(path)) => {
                let named = |error: io::Error| {
                    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
                };
                Some(token::read(path).map_err(named)?)
            }
            (Place::Passed(_), _) => return Err(only_for_listeners(place)),
            (Place::Net(_), None) => return Err(io::Error::other("admin.token_file is empty")),
        };
        let mut file = None;
        let mut addresses = Vec::new();
        let listeners: Vec<Listener> = match place {
            Place::Unix(unix) => {
                let listening = unix.listen(&options, config.socket_mode.0)?;
                file = listening.file;
                let socket = UnixListener::from(OwnedFd::from(listening.listener));
                vec![Listener::Unix(socket)]
            }
            Place::Net(address) => {
                let bound = listen::bind(address, options)?.listen(1)?;
                let bound = bound.into_iter().next().unwrap_or_default();
                addresses = listen::local_addrs(&bound)?;
                bound.into_iter().map(Listener::Net).collect()
            }
            Place::Passed(_) => return Err(only_for_listeners(place)),
        };
        let places = match place {
            Place::Unix(unix) => vec![unix.to_string()],
            Place::Net(_) | Place::Passed(_) => addresses.iter().map(ToString::to_string).collect(),
        };
        let (alive, ending) = UnixStream::pair()?;
        let shared = Arc::new(Shared {
            guard: Guard::new(token, config.read_only),
            peers: config.peer_uids.peers(),
            desk,
            callers: Mutex::default(),
            watchers: AtomicUsize::new(0),
            ends: AtomicBool::new(false),
        });
        let thread = thread::Builder::new()
            .name("admin".into())
            .spawn(move || accept(&listeners, &ending, &shared))?;
        Ok(AdminServer {
            places,
            addresses,
            alive: Some(alive),
            thread: Some(thread),
            _file: file,
        })
    }

    /// Returns where it listens.
    pub(crate) fn places(&self) -> &[String] {
        &self.places
    }

    /// Returns the addresses that it listens at, if any.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported there. Connections end by themselves.
            let _ = thread.join();
        }
    }
}

struct Shared {
    guard: Guard,
    peers: PeerUids,
    desk: Desk,
    callers: Mutex<Callers>,
    watchers: AtomicUsize,
    ends: AtomicBool,
}

/// A place among a bounded number.
struct Seat<'a>(&'a AtomicUsize);

impl<'a> Seat<'a> {
    fn take(count: &'a AtomicUsize, most: usize) -> Option<Seat<'a>> {
        if count.fetch_add(1, Ordering::AcqRel) >= most {
            count.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Seat(count))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn accept(listeners: &[Listener], ending: &UnixStream, shared: &Arc<Shared>) {
    let tick = Timespec::try_from(TICK).ok();
    let mut has_bans = false;
    loop {
        if !has_bans && shared.desk.shards() > 0 {
            has_bans = true;
            shared.desk.load_bans();
        }
        let mut waits = vec![PollFd::new(ending, PollFlags::IN)];
        waits.extend(listeners.iter().map(|listener| match listener {
            Listener::Net(listener) => PollFd::new(listener, PollFlags::IN),
            Listener::Unix(listener) => PollFd::new(listener, PollFlags::IN),
        }));
        // A wait that fails or is interrupted is a round with nothing to do.
        let _ = poll(&mut waits, tick.as_ref());
        if waits
            .first()
            .is_none_or(|first| !first.revents().is_empty())
        {
            shared.ends.store(true, Ordering::Release);
            return;
        }
        logging::look_at_level();
        for listener in listeners {
            match accept_one(listener) {
                Ok(stream) => begin(shared, stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a caller of the admin interface");
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

fn accept_one(listener: &Listener) -> io::Result<Stream> {
    Ok(match listener {
        Listener::Net(listener) => {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(false)?;
            Stream::Net(stream)
        }
        Listener::Unix(listener) => {
            let (stream, _) = listener.accept()?;
            stream.set_nonblocking(false)?;
            Stream::Unix(stream)
        }
    })
}

/// The connections, oldest first.
#[derive(Default)]
struct Callers {
    next: u64,
    all: Vec<OneCaller>,
    /// The number of threads: those of connections that were just closed have not ended yet.
    threads: usize,
}

struct OneCaller {
    number: u64,
    /// Its address, if it has one.
    source: Option<IpAddr>,
    stream: Arc<Stream>,
    /// Whether its request was let in, and is being answered.
    is_served: bool,
}

impl Callers {
    /// Takes a place for a caller. Returns its number, or `None` if none is free and none can be made free.
    fn enter(&mut self, source: Option<IpAddr>, stream: Arc<Stream>) -> Option<u64> {
        if self.threads >= 2 * MAX_CONNECTIONS || self.all.len() >= MAX_CONNECTIONS && !self.evict()
        {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.threads += 1;
        self.all.push(OneCaller {
            number,
            source,
            stream,
            is_served: false,
        });
        Some(number)
    }

    /// Closes the oldest connection that is not served, of the source that has the most of these.
    fn evict(&mut self) -> bool {
        let unserved = || self.all.iter().filter(|one| !one.is_served);
        let count = |source| unserved().filter(|other| other.source == source).count();
        // Among several `max_by_key` takes the last.
        let oldest_last = self.all.iter().enumerate().rev();
        let most = oldest_last
            .filter(|(_, one)| !one.is_served)
            .max_by_key(|(_, one)| count(one.source));
        let Some(at) = most.map(|(at, _)| at) else {
            return false;
        };
        self.all.remove(at).stream.close();
        true
    }

    /// Notes whether a caller is served. Returns false if its place went to another.
    fn serves(&mut self, number: u64, is_served: bool) -> bool {
        let mut all = self.all.iter_mut();
        let found = all.find(|one| one.number == number);
        found.map(|one| one.is_served = is_served).is_some()
    }

    fn leave(&mut self, number: u64) {
        self.all.retain(|one| one.number != number);
        self.threads -= 1;
    }
}

/// A place of a caller, until its thread ends.
struct Entry {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.callers().leave(self.number);
    }
}

impl Shared {
    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts a thread for a connection, if there is a place for it.
fn begin(shared: &Arc<Shared>, stream: Stream) {
    let stream = Arc::new(stream);
    let number = shared.callers().enter(stream.source(), Arc::clone(&stream));
    let Some(number) = number else {
        tracing::debug!("too many callers of the admin interface");
        return;
    };
    let entry = Entry {
        shared: Arc::clone(shared),
        number,
    };
    let started = thread::Builder::new()
        .name("admin-call".into())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            if let Err(error) = serve(&entry, &stream) {
                tracing::debug!(%error, "a call of the admin interface failed");
            }
        });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread for a call of the admin interface");
    }
}

fn serve(entry: &Entry, stream: &Stream) -> io::Result<()> {
    let shared = &*entry.shared;
    let caller = match stream {
        Stream::Net(stream) => Caller::Token(stream.peer_addr()?.ip()),
        Stream::Unix(stream) => {
            let user = socket_peercred(stream)?.uid.as_raw();
            shared.peers.admit(|| Ok(user))?;
            Caller::User(user)
        }
    };
    stream.set_timeouts(STEP_TIMEOUT, STEP_TIMEOUT)?;
    let Some(read) = request::read(&mut &*stream, |left| stream.set_read_timeout(left))? else {
        return Ok(());
    };
    let checked = read.and_then(|request| {
        let checked = shared.guard.check(&caller, &request);
        checked.inspect_err(|refusal| tell_refused(&caller, &request, refusal))?;
        Ok(request)
    });
    match checked {
        Err(refusal) => respond(stream, Err(refusal))?,
        Ok(request) => {
            if !shared.callers().serves(entry.number, true) {
                return Ok(());
            }
            match (&*request.method, &*request.path) {
                ("GET", "/v1/events" | EVENTS) => return watch(shared, stream, &request),
                ("GET", "/") => match request.only(&[]).and_then(|()| status(&shared.desk)) {
                    Ok(totals) => respond_with_page(stream, &page::render(&totals))?,
                    Err(refusal) => respond(stream, Err(refusal))?,
                },
                _ => respond(stream, answer(&shared.desk, &caller, &request))?,
            }
            // Whoever reads no further holds no place against others.
            shared.callers().serves(entry.number, false);
        }
    }
    end(stream);
    Ok(())
}

/// Ends in order: unread bytes would turn the end into a reset, which would discard the answer.
fn end(mut stream: &Stream) {
    let is_shut = stream.end_output();
    let until = Instant::now() + STEP_TIMEOUT;
    let (mut piece, mut left) = ([0; 4096], 2 * MAX_BODY_BYTES);
    while is_shut.is_ok() && left > 0 && Instant::now() < until {
        match stream.read(&mut piece) {
            Ok(length) if length > 0 => left = left.saturating_sub(length),
            _ => return,
        }
    }
}

fn respond(mut stream: &Stream, answer: Answer) -> io::Result<()> {
    let (status, value) = answer.unwrap_or_else(|refusal| (refusal.status, refusal.to_json()));
    let mut text = value.to_string();
    text.push('\n');
    let mut out = Vec::with_capacity(text.len() + 256);
    request::write_head(&mut out, status, JSON, Some(text.len()), "")?;
    out.extend_from_slice(text.as_bytes());
    stream.write_all(&out)
}

/// Sends the status page.
fn respond_with_page(mut stream: &Stream, page: &str) -> io::Result<()> {
    let mut out = Vec::with_capacity(page.len() + 512);
    let policy = format!("Content-Security-Policy: {}\r\n", page::POLICY);
    request::write_head(&mut out, 200, HTML, Some(page.len()), &policy)?;
    out.extend_from_slice(page.as_bytes());
    stream.write_all(&out)
}

/// Sends the status each second, and what has happened since. A watcher that takes nothing for a step is dropped.
fn watch(shared: &Shared, mut stream: &Stream, request: &Request) -> io::Result<()> {
    let seat = request
        .only(&[])
        .map(|()| Seat::take(&shared.watchers, MAX_WATCHERS));
    let _seat = match seat {
        Ok(Some(seat)) => seat,
        Ok(None) => return respond(stream, Err(Refusal::new(503, "too many watch"))),
        Err(refusal) => return respond(stream, Err(refusal)),
    };
    let mut out = Vec::new();
    request::write_head(&mut out, 200, "text/event-stream", None, "")?;
    out.extend_from_slice(b"retry: 2000\n\n");
    let until = Instant::now() + WATCH_AT_MOST;
    let mut follower = Follower::new();
    for number in 0_u64.. {
        match status(&shared.desk) {
            Ok(value) => write!(out, "id: {number}\nevent: status\ndata: {value}\n\n")?,
            Err(refusal) => write!(out, "event: error\ndata: {}\n\n", refusal.to_json())?,
        }
        out.extend_from_slice(follower.take().as_bytes());
        stream.write_all(&out)?;
        out.clear();
        // The wait ends early when the watcher leaves.
        stream.set_timeouts(EVENT_EVERY, STEP_TIMEOUT)?;
        let next = Instant::now() + EVENT_EVERY;
        match stream.read(&mut [0; 64]) {
            Ok(0) => return Ok(()),
            Ok(_) => thread::sleep(next.saturating_duration_since(Instant::now())),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
        if shared.ends.load(Ordering::Acquire) || Instant::now() >= until {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enters a caller. Returns its number and its end of the stream.
    fn caller(callers: &mut Callers, source: Option<IpAddr>) -> Option<(u64, UnixStream)> {
        let (own, peer) = UnixStream::pair().expect("a pair");
        let number = callers.enter(source, Arc::new(Stream::Unix(own)))?;
        Some((number, peer))
    }

    fn is_closed(peer: &UnixStream) -> bool {
        peer.set_nonblocking(true).expect("ours");
        matches!((&mut &*peer).read(&mut [0]), Ok(0))
    }

    #[test]
    fn a_silent_caller_makes_room_the_oldest_of_the_most_crowded_source_first() {
        let mut callers = Callers::default();
        let source = |last| Some(IpAddr::from([192, 0, 2, last]));
        let (alone, first) = caller(&mut callers, source(1)).expect("room");
        let others: Vec<_> = (1..MAX_CONNECTIONS)
            .map(|_| caller(&mut callers, source(2)).expect("room"))
            .collect();
        assert!(callers.serves(others[0].0, true));
        let newcomer = caller(&mut callers, source(3)).expect("room is made");
        assert!(!is_closed(&first) && !is_closed(&others[0].1));
        assert!(is_closed(&others[1].1), "the oldest that is not served");
        assert!(!is_closed(&others[2].1));
        assert!(!callers.serves(others[1].0, true), "its place is gone");
        assert!(callers.serves(alone, true) && callers.serves(newcomer.0, true));
        assert_eq!(callers.all.len(), MAX_CONNECTIONS);
    }

    #[test]
    fn one_beyond_those_that_are_served_and_those_that_end_has_no_place() {
        let mut callers = Callers::default();
        let all: Vec<_> = (0..MAX_CONNECTIONS)
            .map(|_| caller(&mut callers, None).expect("room"))
            .collect();
        for (number, _) in &all {
            assert!(callers.serves(*number, true));
        }
        assert!(caller(&mut callers, None).is_none(), "all are served");
        assert!(callers.serves(all[0].0, false));
        for _ in 0..MAX_CONNECTIONS {
            caller(&mut callers, None).expect("one makes room");
        }
        assert!(caller(&mut callers, None).is_none(), "too many threads");
        callers.leave(all[0].0);
        caller(&mut callers, None).expect("a thread has ended");
    }
}
