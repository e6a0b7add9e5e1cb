//! turmoil's sockets behind the driver's traits, with faults that turmoil's TCP does not have.
//!
//! In turmoil one write is one segment, whatever its size, and no read joins two. So reads and writes are cut short here at random from the
//! seed, and either may be `Pending` for no reason, or fail.

use std::future::{Future, pending};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use voltlane_driver::{Connect, Connector, Listener, Stream};

use super::Carriage;
use super::knobs::Knobs;
use super::wires::{Call, Plug, Side, Wire, Wires};
use super::world::World;
use crate::rng::Rng;

/// EMFILE: no descriptor is left.
const OUT_OF_DESCRIPTORS: i32 = 24;

/// State shared by all sockets of a host.
#[derive(Clone)]
pub(crate) struct Sockets {
    /// What the clients' link is carried in.
    pub(crate) carriage: Carriage,
    wires: Wires,
    knobs: Knobs,
    /// Where strangers request many packets, all of them must fit through the backend link, and not in millions of segments.
    busy_knobs: Knobs,
}

impl Sockets {
    pub(crate) fn new(world: &World, wires: &Wires) -> Sockets {
        let mut busy_knobs = world.knobs;
        if world.strangers > 0 {
            busy_knobs.window_bytes = Knobs::kind().window_bytes;
            busy_knobs.write_bytes_max = busy_knobs.write_bytes_max.max(1_500);
        }
        Sockets {
            carriage: world.carriage,
            wires: wires.clone(),
            knobs: world.knobs,
            busy_knobs,
        }
    }

    fn stream(&self, inner: turmoil::net::TcpStream, wire: Wire, side: Side, seed: u64) -> Chopped {
        let knobs = if wire == Wire::Front {
            self.knobs
        } else {
            self.busy_knobs
        };
        let addresses = inner
            .local_addr()
            .and_then(|local| Ok((local, inner.peer_addr()?)));
        let (local, remote) = addresses.expect("turmoil knows both ends of a stream");
        Chopped {
            plug: self.wires.plug(wire, side, local, remote),
            inner,
            knobs,
            rng: Rng::new(seed),
            broken: None,
            closed: false,
        }
    }
}

/// A turmoil stream whose reads and writes are cut short.
pub(crate) struct Chopped {
    inner: turmoil::net::TcpStream,
    plug: Plug,
    knobs: Knobs,
    rng: Rng,
    /// Whether it has failed. It then keeps failing.
    broken: Option<ErrorKind>,
    /// Whether its FIN was sent. turmoil treats a second one as an error, kernels do not.
    closed: bool,
}

impl Chopped {
    /// Decides what happens before a call: the connection may be dead or break now, a signal may arrive, or nothing happens for no reason.
    fn before(&mut self, cx: &Context<'_>, call: Call) -> Poll<io::Result<()>> {
        self.broken = self.broken.or_else(|| self.plug.dead());
        let (pending, breaks, interrupted) = match call {
            Call::Read => (
                self.knobs.read_pending,
                self.knobs.read_breaks,
                self.knobs.read_interrupted,
            ),
            Call::Write => (self.knobs.write_pending, self.knobs.write_breaks, 0),
        };
        if breaks > 0 && self.rng.below(100_000) < breaks && !self.plug.wires().is_calm() {
            self.broken.get_or_insert(ErrorKind::ConnectionReset);
        }
        if let Some(kind) = self.broken {
            return Poll::Ready(Err(kind.into()));
        }
        if interrupted > 0 && self.rng.below(1_000) < interrupted {
            return Poll::Ready(Err(ErrorKind::Interrupted.into()));
        }
        if pending > 0 && self.rng.chance(pending) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl Stream for Chopped {
    type Parcel = Chopped;

    fn pack(self) -> io::Result<Chopped> {
        Ok(self)
    }

    fn unpack(parcel: Chopped) -> io::Result<Chopped> {
        Ok(parcel)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.before(cx, Call::Read))?;
        let most = self.rng.between(1, self.knobs.read_bytes_max) as usize;
        let most = most.min(buf.len());
        let mut buf = ReadBuf::new(&mut buf[..most]);
        let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(cx, &mut buf) else {
            self.plug.wait(Call::Read, cx);
            return Poll::Pending;
        };
        read?;
        self.plug.received(buf.filled().len());
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.before(cx, Call::Write))?;
        let Poll::Ready(room) = self.plug.poll_room(cx, self.knobs.window_bytes as usize) else {
            self.plug.wait(Call::Write, cx);
            return Poll::Pending;
        };
        let most = self.rng.between(1, self.knobs.write_bytes_max) as usize;
        let bytes: Vec<u8> = bufs
            .iter()
            .flat_map(|buf| buf.iter())
            .take(most.min(room))
            .copied()
            .collect();
        let Poll::Ready(written) = Pin::new(&mut self.inner).poll_write(cx, &bytes) else {
            self.plug.wait(Call::Write, cx);
            return Poll::Pending;
        };
        let written = written?;
        self.plug.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.broken.or_else(|| self.plug.dead()) {
            return Poll::Ready(Err(kind.into()));
        }
        if self.rng.chance(self.knobs.close_fails) && !self.plug.wires().is_calm() {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        }
        if !self.closed {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            self.closed = true;
        }
        Poll::Ready(Ok(()))
    }
}

type Accepting =
    Pin<Box<dyn Future<Output = io::Result<(turmoil::net::TcpStream, SocketAddr)>> + Send>>;

/// A turmoil listener.
pub(crate) struct Doors {
    listener: Arc<turmoil::net::TcpListener>,
    accepting: Option<Accepting>,
    /// The wire of connections that do not come from the street.
    wire: Wire,
    side: Side,
    sockets: Sockets,
    rng: Rng,
}

impl Doors {
    /// Listens on all addresses of this host.
    pub(crate) async fn open(
        port: u16,
        wire: Wire,
        side: Side,
        sockets: Sockets,
        rng: Rng,
    ) -> io::Result<Doors> {
        let listener = Arc::new(turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?);
        Ok(Doors {
            listener,
            accepting: None,
            wire,
            side,
            sockets,
            rng,
        })
    }

    /// Creates another listener at the same port, as a kernel has one for each shard.
    pub(crate) fn sibling(&mut self) -> Doors {
        Doors {
            listener: Arc::clone(&self.listener),
            accepting: None,
            wire: self.wire,
            side: self.side,
            sockets: self.sockets.clone(),
            rng: Rng::new(self.rng.next()),
        }
    }

    fn fails(&mut self) -> Option<io::Error> {
        let knobs = self.sockets.knobs;
        if self.rng.chance(knobs.accept_aborted) {
            return Some(ErrorKind::ConnectionAborted.into());
        }
        self.rng
            .chance(knobs.accept_exhausted)
            .then(|| io::Error::from_raw_os_error(OUT_OF_DESCRIPTORS))
    }
}

impl Listener for Doors {
    type Stream = Chopped;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Chopped, SocketAddr)>> {
        let listener = Arc::clone(&self.listener);
        let accepting = self
            .accepting
            .get_or_insert_with(|| Box::pin(async move { listener.accept().await }));
        let accepted = ready!(accepting.as_mut().poll(cx));
        self.accepting = None;
        let (stream, source) = accepted?;
        if !self.sockets.wires.is_calm()
            && let Some(error) = self.fails()
        {
            return Poll::Ready(Err(error));
        }
        let name = turmoil::reverse_lookup(source.ip()).unwrap_or_default();
        let wire = if name.starts_with("strangers") {
            Wire::Street
        } else {
            self.wire
        };
        let stream = self
            .sockets
            .stream(stream, wire, self.side, self.rng.next());
        Poll::Ready(Ok((stream, source)))
    }
}

/// Connects to a port of a turmoil host.
pub(crate) struct Dialer {
    pub(crate) host: &'static str,
    pub(crate) port: u16,
    pub(crate) wire: Wire,
    pub(crate) side: Side,
    pub(crate) sockets: Sockets,
    pub(crate) rng: Rng,
}

impl Connector for Dialer {
    type Stream = Chopped;

    fn connect(&mut self) -> Connect<Chopped> {
        let knobs = self.sockets.knobs;
        let (refused, hangs) = (
            self.rng.chance(knobs.connect_refused),
            self.rng.chance(knobs.connect_hangs),
        );
        let (host, port, wire, side) = (self.host, self.port, self.wire, self.side);
        let (sockets, seed) = (self.sockets.clone(), self.rng.next());
        Box::pin(async move {
            if hangs && !sockets.wires.is_calm() {
                pending::<()>().await;
            }
            if refused && !sockets.wires.is_calm() {
                return Err(ErrorKind::ConnectionRefused.into());
            }
            let stream = turmoil::net::TcpStream::connect((host, port)).await?;
            Ok(sockets.stream(stream, wire, side, seed))
        })
    }
}
