//! Sockets that are polled, for the drivers: those of one handle, behind one descriptor.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use polling::{Event, Events, PollMode, Poller};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use voltlane_core::Time;
use voltlane_driver::address::{HostPort, NEXT_ADDRESS_AFTER, first_to_answer, listen};
use voltlane_driver::unix::{UNIX_PEER, UnixFile, UnixPlace, is_unix};
use voltlane_driver::{Connect, Connector, Listener, Runtime, SocketOptions, Stream, Timer};

const READ: usize = 0;
const WRITE: usize = 1;

/// Set when there is something to do.
#[derive(Debug, Default)]
pub(crate) struct Signal(AtomicBool);

impl Signal {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// One direction of a socket.
#[derive(Default)]
struct Direction {
    /// Whether an attempt may succeed.
    is_ready: bool,
    waker: Option<Waker>,
}

#[derive(Default)]
struct State {
    /// Each socket at its key.
    sources: Vec<Option<[Direction; 2]>>,
    /// The timers that are set, by their numbers.
    alarms: BTreeMap<u64, (Time, Waker)>,
    /// The number of the timer that was made last.
    timers: u64,
}

/// What the sockets and timers of one handle wait for.
pub(crate) struct Net {
    poller: Poller,
    began: Instant,
    state: Mutex<State>,
    /// Set by `wake`, from any thread.
    woken: AtomicBool,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}

thread_local! {
    /// The net of the handle that is being made.
    static MAKING: RefCell<Option<Arc<Net>>> = const { RefCell::new(None) };
}

impl Net {
    pub(crate) fn new() -> io::Result<Arc<Net>> {
        Ok(Arc::new(Net {
            poller: Poller::new()?,
            began: Instant::now(),
            state: Mutex::default(),
            woken: AtomicBool::new(false),
        }))
    }

    /// Runs what makes connectors, listeners and timers for this net.
    pub(crate) fn make<T>(self: &Arc<Self>, make: impl FnOnce() -> T) -> T {
        let outer = MAKING.replace(Some(Arc::clone(self)));
        let made = make();
        MAKING.set(outer);
        made
    }

    fn of_this_handle() -> Arc<Net> {
        MAKING.with_borrow(|net| Arc::clone(net.as_ref().expect("it is made within Net::make")))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn descriptor(&self) -> i32 {
        self.poller.as_raw_fd()
    }

    /// Ends a wait, or the next one.
    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        // If it fails, the wait ends in its time.
        let _ = self.poller.notify();
    }

    pub(crate) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    fn now(&self) -> Time {
        let since = self.began.elapsed().as_nanos();
        Time::from_nanos(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// Returns the time until the next alarm.
    pub(crate) fn next(&self) -> Option<Duration> {
        let now = self.now();
        let state = self.state();
        let alarms = state.alarms.values();
        alarms.map(|(at, _)| at.since(now)).min()
    }

    /// Waits for something to happen, no longer than `most`, and wakes those that it concerns.
    pub(crate) fn wait(&self, most: Option<Duration>) -> io::Result<()> {
        let timeout = [most, self.next()].into_iter().flatten().min();
        let mut events = Events::new();
        match self.poller.wait(&mut events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let now = self.now();
        let mut woken = Vec::new();
        let mut state = self.state();
        for event in events.iter() {
            let Some(Some(source)) = state.sources.get_mut(event.key) else {
                continue;
            };
            let has_ended = event.is_interrupt() || event.is_err() == Some(true);
            for (direction, is_ready) in [(READ, event.readable), (WRITE, event.writable)] {
                if is_ready || has_ended {
                    source[direction].is_ready = true;
                    woken.extend(source[direction].waker.take());
                }
            }
        }
        let due = state.alarms.extract_if(.., |_, (at, _)| *at <= now);
        woken.extend(due.map(|(_, (_, waker))| waker));
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        Ok(())
    }
}

/// A socket that a net watches.
#[derive(Debug)]
struct Source<T: AsFd> {
    net: Arc<Net>,
    key: usize,
    socket: T,
}

impl<T: AsFd> Source<T> {
    /// Registers a socket, which is not blocking. `is_ready`: an attempt may succeed before anything happens.
    fn new(net: &Arc<Net>, socket: T, is_ready: bool) -> io::Result<Source<T>> {
        let mut state = net.state();
        let free = state.sources.iter().position(Option::is_none);
        let key = free.unwrap_or_else(|| {
            state.sources.push(None);
            state.sources.len() - 1
        });
        // SAFETY: `drop` takes it out of the poller before the socket is closed.
        unsafe {
            net.poller
                .add_with_mode(&socket.as_fd(), Event::all(key), PollMode::Edge)?;
        }
        let direction = || Direction {
            is_ready,
            waker: None,
        };
        state.sources[key] = Some([direction(), direction()]);
        drop(state);
        let net = Arc::clone(net);
        Ok(Source { net, key, socket })
    }

    /// Ready if an attempt may succeed. Otherwise the waker is registered.
    fn poll_ready(&self, direction: usize, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.net.state();
        let Some(source) = &mut state.sources[self.key] else {
            return Poll::Ready(());
        };
        if source[direction].is_ready {
            return Poll::Ready(());
        }
        source[direction].waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll<V>(
        &self,
        direction: usize,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&T) -> io::Result<V>,
    ) -> Poll<io::Result<V>> {
        while self.poll_ready(direction, cx).is_ready() {
            match attempt(&self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if let Some(source) = &mut self.net.state().sources[self.key] {
                        source[direction].is_ready = false;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
        Poll::Pending
    }
}

impl<T: AsFd> Drop for Source<T> {
    fn drop(&mut self) {
        // If this fails, closing the socket takes it out as well.
        let _ = self.net.poller.delete(self.socket.as_fd());
        self.net.state().sources[self.key] = None;
    }
}

/// A connection, over TCP or a Unix socket.
#[derive(Debug)]
pub(crate) struct NetStream(Source<TcpStream>);

impl NetStream {
    async fn open(net: &Arc<Net>, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if is_in_progress(&error) => {
                let opening = Source::new(net, socket.try_clone()?, false)?;
                poll_fn(|cx| opening.poll_ready(WRITE, cx)).await;
                if let Some(error) = opening.socket.take_error()? {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(socket.into())
    }
}

/// Returns whether a connection is being opened, which std has no kind of error for.
fn is_in_progress(error: &io::Error) -> bool {
    const OF_LINUX: i32 = 115;
    const OF_BSD: i32 = 36;
    error.kind() == ErrorKind::WouldBlock || matches!(error.raw_os_error(), Some(OF_LINUX | OF_BSD))
}

impl Stream for NetStream {
    type Parcel = Infallible;

    fn pack(self) -> io::Result<Infallible> {
        Err(ErrorKind::Unsupported.into())
    }

    fn unpack(parcel: Infallible) -> io::Result<Self> {
        match parcel {}
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll(READ, cx, |mut socket| socket.read(buf))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // Rust's `write` to a socket sends with MSG_NOSIGNAL only for one slice, and a C program has SIGPIPE as it was.
        let first = bufs.iter().find(|buf| !buf.is_empty());
        let first = first.map_or(&[][..], |buf| buf);
        self.0.poll(WRITE, cx, |mut socket| socket.write(first))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.socket.shutdown(Shutdown::Write))
    }

    fn abort(self) {
        // If this fails, the drop ends the connection in order.
        let _ = SockRef::from(&self.0.socket).set_linger(Some(Duration::ZERO));
    }
}

/// Opens connections to one address.
#[derive(Debug)]
pub(crate) struct NetConnector {
    net: Arc<Net>,
    address: String,
    options: SocketOptions,
    /// The addresses of the name, as long as one of them answers: a lookup blocks.
    known: Arc<Mutex<Vec<SocketAddr>>>,
}

impl From<String> for NetConnector {
    fn from(address: String) -> Self {
        NetConnector {
            net: Net::of_this_handle(),
            address,
            options: SocketOptions::default(),
            known: Arc::default(),
        }
    }
}

impl Connector for NetConnector {
    type Stream = NetStream;

    fn connect(&mut self) -> Connect<NetStream> {
        let (net, address, options) = (Arc::clone(&self.net), self.address.clone(), self.options);
        let known = Arc::clone(&self.known);
        Box::pin(async move {
            if let Some(place) = UnixPlace::parse(&address)? {
                return Ok(NetStream(Source::new(&net, place.connect()?, true)?));
            }
            let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
            let mut addresses = std::mem::take(&mut *lock());
            if addresses.is_empty() {
                addresses = look_up(&address)?;
            }
            let attempt = |candidate| {
                let net = Arc::clone(&net);
                async move {
                    let stream = NetStream::open(&net, candidate).await?;
                    options.apply_to_connected(&SockRef::from(&stream))?;
                    Ok(NetStream(Source::new(&net, stream, true)?))
                }
            };
            let pause = || {
                let mut timer = NetTimer::new(&net);
                let at = timer.now() + NEXT_ADDRESS_AFTER;
                async move { poll_fn(|cx| timer.poll_until(cx, at)).await }
            };
            let stream = first_to_answer(&address, addresses.clone(), attempt, pause).await?;
            *lock() = addresses;
            Ok(stream)
        })
    }
}

/// Looks a name up, which blocks this thread: there is no other one.
fn look_up(address: &str) -> io::Result<Vec<SocketAddr>> {
    match HostPort::parse(address)? {
        HostPort::Address(address) => Ok(vec![address]),
        HostPort::Name(host, port) => Ok((host, port).to_socket_addrs()?.collect()),
    }
}

/// Waits for the edge.
#[derive(Debug)]
pub(crate) struct NetListener {
    /// The first field, so that the file of a Unix socket goes before the socket does.
    file: Option<UnixFile>,
    source: Source<TcpListener>,
    options: SocketOptions,
    is_unix: bool,
}

impl NetListener {
    fn new(
        listener: TcpListener,
        file: Option<UnixFile>,
        options: SocketOptions,
    ) -> io::Result<Self> {
        let is_unix = is_unix(&SockRef::from(&listener));
        let source = Source::new(&Net::of_this_handle(), listener, true)?;
        Ok(NetListener {
            file,
            source,
            options,
            is_unix,
        })
    }
}

impl Listener for NetListener {
    type Stream = NetStream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(NetStream, SocketAddr)>> {
        let (net, options, is_unix) = (&self.source.net, self.options, self.is_unix);
        let _ = &self.file;
        self.source.poll(READ, cx, |listener| {
            let (stream, source) = SockRef::from(listener).accept()?;
            stream.set_nonblocking(true)?;
            let source = match is_unix {
                true => Some(UNIX_PEER),
                false => source.as_socket(),
            };
            if !is_unix {
                options.apply_to_accepted(&SockRef::from(&stream));
            }
            let source = source.ok_or(ErrorKind::ConnectionAborted)?;
            Ok((NetStream(Source::new(net, stream.into(), true)?), source))
        })
    }
}

/// The clock of a handle, and one alarm.
#[derive(Debug)]
pub(crate) struct NetTimer {
    net: Arc<Net>,
    number: u64,
}

impl NetTimer {
    fn new(net: &Arc<Net>) -> NetTimer {
        let mut state = net.state();
        state.timers += 1;
        let number = state.timers;
        drop(state);
        let net = Arc::clone(net);
        NetTimer { net, number }
    }
}

impl Drop for NetTimer {
    fn drop(&mut self) {
        self.net.state().alarms.remove(&self.number);
    }
}

impl Default for NetTimer {
    fn default() -> Self {
        NetTimer::new(&Net::of_this_handle())
    }
}

impl Timer for NetTimer {
    fn now(&self) -> Time {
        self.net.now()
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, at: Time) -> Poll<()> {
        if at <= self.net.now() {
            return Poll::Ready(());
        }
        let alarm = (at, cx.waker().clone());
        self.net.state().alarms.insert(self.number, alarm);
        Poll::Pending
    }
}

/// The runtime of a handle, for the builders.
#[derive(Debug)]
pub(crate) struct NetRuntime;

impl Runtime for NetRuntime {
    type Listener = NetListener;
    type Connector = NetConnector;
    type Timer = NetTimer;

    async fn bind(
        address: String,
        options: SocketOptions,
    ) -> io::Result<(NetListener, SocketAddr)> {
        let resolved = std::future::ready(look_up(&address));
        let (listener, file) = match UnixPlace::parse(&address)? {
            Some(_) => listen(&address, &options, std::future::ready(Ok(Vec::new()))).await?,
            None => listen(&address, &options, resolved).await?,
        };
        let place = listener.local_addr().unwrap_or(UNIX_PEER);
        Ok((NetListener::new(listener, file, options)?, place))
    }

    fn listener(listener: TcpListener, options: SocketOptions) -> io::Result<NetListener> {
        NetListener::new(listener, None, options)
    }

    fn connector(address: String, options: SocketOptions) -> NetConnector {
        NetConnector {
            options,
            ..NetConnector::from(address)
        }
    }

    fn block_on<T: Send + 'static>(_: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
        Err(ErrorKind::Unsupported.into())
    }
}

/// Drives something of a handle, at most for `most`. `None`: it was not ready in time.
pub(crate) fn drive<T>(
    net: &Net,
    signal: &Arc<Signal>,
    most: Option<Duration>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> io::Result<Option<T>> {
    /// Rounds after the time is over, as long as there is something to do.
    const ROUNDS: u32 = 16;
    let until = most.and_then(|most| Instant::now().checked_add(most));
    let waker = Waker::from(Arc::clone(signal));
    let mut rounds = 0;
    loop {
        signal.take();
        if let Poll::Ready(done) = poll(&mut Context::from_waker(&waker)) {
            return Ok(Some(done));
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let is_over = left.is_some_and(|left| left.is_zero());
        net.wait(if signal.is_set() {
            Some(Duration::ZERO)
        } else {
            left
        })?;
        rounds += u32::from(is_over);
        if net.take_woken() || is_over && (!signal.is_set() || rounds >= ROUNDS) {
            return Ok(None);
        }
    }
}
