//! Listens, and serves each connection in a thread of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
use crate::http::{EVENT_EVERY, MAX_WATCHERS, WATCH_AT_MOST};
use crate::listen;

/// The maximum number of connections, watchers included. One beyond is closed.
pub(crate) const MAX_CONNECTIONS: usize = 16;
/// Memory of a thread's stack.
const STACK_BYTES: usize = 256 * 1024;
/// How often the server looks after what is due.
const TICK: Duration = Duration::from_secs(1);
const BACKLOG: u32 = 16;
const JSON: &str = "application/json";

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
        };
        let places = match place {
            Place::Unix(unix) => vec![unix.to_string()],
            Place::Net(_) => addresses.iter().map(ToString::to_string).collect(),
        };
        let (alive, ending) = UnixStream::pair()?;
        let shared = Arc::new(Shared {
            guard: Guard::new(token, config.read_only),
            peers: config.peer_uids.peers(),
            desk,
            connections: AtomicUsize::new(0),
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
    connections: AtomicUsize,
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
    loop {
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
        shared.desk.look_at_level();
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

/// Starts a thread for a connection, if there is a place for it.
fn begin(shared: &Arc<Shared>, stream: Stream) {
    if shared.connections.load(Ordering::Acquire) >= MAX_CONNECTIONS {
        tracing::debug!("too many callers of the admin interface");
        return;
    }
    let shared = Arc::clone(shared);
    let started = thread::Builder::new()
        .name("admin-call".into())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            let Some(_seat) = Seat::take(&shared.connections, MAX_CONNECTIONS) else {
                return;
            };
            if let Err(error) = serve(&shared, &stream) {
                tracing::debug!(%error, "a call of the admin interface failed");
            }
        });
    if let Err(error) = started {
        tracing::warn!(%error, "no thread for a call of the admin interface");
    }
}

fn serve(shared: &Shared, stream: &Stream) -> io::Result<()> {
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
    let answer = match checked {
        Ok(request) if request.method == "GET" && request.path == "/v1/events" => {
            return watch(shared, stream, &request);
        }
        Ok(request) => answer(&shared.desk, &caller, &request),
        Err(refusal) => Err(refusal),
    };
    respond(stream, answer)?;
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
    request::write_head(&mut out, status, JSON, Some(text.len()))?;
    out.extend_from_slice(text.as_bytes());
    stream.write_all(&out)
}

/// Sends the status each second. A watcher that takes nothing for a step is dropped.
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
    request::write_head(&mut out, 200, "text/event-stream", None)?;
    out.extend_from_slice(b"retry: 2000\n\n");
    let until = Instant::now() + WATCH_AT_MOST;
    for number in 0_u64.. {
        match status(&shared.desk) {
            Ok(value) => write!(out, "id: {number}\nevent: status\ndata: {value}\n\n")?,
            Err(refusal) => write!(out, "event: error\ndata: {}\n\n", refusal.to_json())?,
        }
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
