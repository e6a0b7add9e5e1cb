//! turmoil's sockets behind the driver's traits, with the faults that turmoil's TCP does not have.
//!
//! In turmoil one write is one segment, whatever its size, and no read joins two: so here reads and writes are cut
//! short by a seeded hand, and either may be `Pending` for no reason.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use voltlane_driver::{Connect, Connector, Listener, Stream};

use crate::rng::Rng;

/// How unkind the streams of a host are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chop {
    /// In how many of a hundred calls nothing is taken or given, for no reason.
    pub(crate) pending_percent: u64,
    /// Most bytes of one read or write, from 1 to this.
    pub(crate) bytes_max: u64,
}

impl Chop {
    pub(crate) fn draw(rng: &mut Rng) -> Chop {
        Chop {
            pending_percent: rng.pick(&[0, 5, 30]),
            bytes_max: rng.pick(&[3, 40, 1_500, 65_536]),
        }
    }

    /// The largest packet that is worth its pieces.
    pub(crate) fn packet_bytes_max(self) -> u64 {
        (self.bytes_max * 20).min(3_000)
    }
}

/// A turmoil stream, chopped.
pub(crate) struct Chopped {
    stream: turmoil::net::TcpStream,
    chop: Chop,
    rng: Rng,
}

impl Chopped {
    fn new(stream: turmoil::net::TcpStream, chop: Chop, rng: Rng) -> Chopped {
        Chopped { stream, chop, rng }
    }

    /// Bytes that this call may move; none: it is `Pending`, and woken at once.
    fn most(&mut self, cx: &Context<'_>) -> Poll<usize> {
        if self.rng.chance(self.chop.pending_percent) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.rng.between(1, self.chop.bytes_max) as usize)
    }
}

impl Stream for Chopped {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let most = ready!(self.most(cx)).min(buf.len());
        let mut buf = ReadBuf::new(&mut buf[..most]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        Poll::Ready(Ok(buf.filled().len()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let most = ready!(self.most(cx));
        let bytes: Vec<u8> = bufs
            .iter()
            .flat_map(|buf| buf.iter())
            .take(most)
            .copied()
            .collect();
        Pin::new(&mut self.stream).poll_write(cx, &bytes)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

type Accepting =
    Pin<Box<dyn Future<Output = io::Result<(turmoil::net::TcpStream, SocketAddr)>> + Send>>;

/// A turmoil listener.
pub(crate) struct Doors {
    listener: Arc<turmoil::net::TcpListener>,
    accepting: Option<Accepting>,
    chop: Chop,
    rng: Rng,
}

impl Doors {
    /// Listens on all addresses of this host.
    pub(crate) async fn open(port: u16, chop: Chop, rng: Rng) -> io::Result<Doors> {
        let listener = Arc::new(turmoil::net::TcpListener::bind(("0.0.0.0", port)).await?);
        Ok(Doors {
            listener,
            accepting: None,
            chop,
            rng,
        })
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
        let rng = Rng::new(self.rng.next());
        Poll::Ready(Ok((Chopped::new(stream, self.chop, rng), source)))
    }
}

/// Connects to a port of a turmoil host.
pub(crate) struct Dialer {
    host: &'static str,
    port: u16,
    chop: Chop,
    rng: Rng,
}

impl Dialer {
    pub(crate) fn new(host: &'static str, port: u16, chop: Chop, rng: Rng) -> Dialer {
        Dialer {
            host,
            port,
            chop,
            rng,
        }
    }
}

impl Connector for Dialer {
    type Stream = Chopped;

    fn connect(&mut self) -> Connect<Chopped> {
        let (host, port, chop, rng) = (self.host, self.port, self.chop, Rng::new(self.rng.next()));
        Box::pin(async move {
            let stream = turmoil::net::TcpStream::connect((host, port)).await?;
            Ok(Chopped::new(stream, chop, rng))
        })
    }
}
