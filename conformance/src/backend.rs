//! A backend spoken byte by byte.

use std::net::{SocketAddr, TcpListener};
use std::time::Instant;
use std::{fmt, io, thread};

use socket2::SockRef;
use voltlane_core::ClientId;
use voltlane_core::link::tagged::{Flag, Tagged};

use crate::{Frames, Incoming, PATIENCE, own_host};

/// A listener for the edge.
#[derive(Debug)]
pub struct Backend(TcpListener);

impl Backend {
    /// Listens on a free loopback port, which stays free after this listener is gone.
    #[must_use]
    pub fn bind() -> Backend {
        Backend::bind_to((own_host(), 0).into())
    }

    /// Listens at the address of an earlier backend.
    #[must_use]
    pub fn bind_to(address: SocketAddr) -> Backend {
        // std sets SO_REUSEADDR, as earlier connections may still be closing. A process that another test is starting holds the earlier
        // listener until it has become its program.
        let until = Instant::now() + PATIENCE;
        let listener = loop {
            match TcpListener::bind(address) {
                Err(error) if is_in_use(&error) && Instant::now() < until => thread::yield_now(),
                bound => break bound.expect("nobody else listens there"),
            }
        };
        // On Linux this bounds `accept`.
        SockRef::from(&listener)
            .set_read_timeout(Some(PATIENCE))
            .expect("a bound");
        Backend(listener)
    }

    /// Returns the listener's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().expect("it is bound")
    }

    /// Limits what the kernel buffers from an edge on a link to about `bytes`.
    pub fn narrow(&self, bytes: usize) {
        // Accepted connections inherit it.
        SockRef::from(&self.0)
            .set_recv_buffer_size(bytes)
            .expect("a small buffer");
    }

    /// Waits for the edge.
    #[must_use]
    pub fn accept(&self) -> Link {
        let (stream, _) = self.0.accept().expect("the edge connects in time");
        Link {
            frames: Frames::new(stream),
        }
    }
}

/// Returns whether the address is in use.
pub(crate) fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

/// A tagged packet from the edge.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    /// The client it is about.
    pub id: ClientId,
    /// Its meaning.
    pub flag: Flag,
    /// Its data.
    pub data: Vec<u8>,
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.data[..self.data.len().min(40)];
        let Packet { id, flag, data } = self;
        write!(
            f,
            "{flag:?} {id} {} bytes \"{}\"",
            data.len(),
            shown.escape_ascii()
        )
    }
}

/// One link of the edge to its backend.
#[derive(Debug)]
pub struct Link {
    /// The connection, for bytes that a backend would not send.
    pub frames: Frames,
}

impl Link {
    /// Returns the next packet, or `None` at the end of the link.
    pub fn try_recv(&mut self) -> Option<Packet> {
        match self.frames.incoming() {
            Incoming::Body(body) => {
                let Tagged { id, flag, data } = Tagged::decode(&body).expect("a tagged packet");
                let data = data.to_vec();
                Some(Packet { id, flag, data })
            }
            Incoming::Fin { .. } | Incoming::Reset => None,
        }
    }

    /// Returns the next packet.
    #[track_caller]
    pub fn recv(&mut self) -> Packet {
        self.try_recv().expect("a packet, not the end of the link")
    }

    /// Waits for exactly this packet.
    #[track_caller]
    pub fn expect(&mut self, id: ClientId, flag: Flag, data: &[u8]) {
        let data = data.to_vec();
        assert_eq!(self.recv(), Packet { id, flag, data });
    }

    /// Waits for this data from this client.
    #[track_caller]
    pub fn expect_data(&mut self, id: ClientId, data: &[u8]) {
        self.expect(id, Flag::Data, data);
    }

    /// Waits for the notice that this session ended.
    #[track_caller]
    pub fn expect_failure(&mut self, id: ClientId, reason: &str) {
        self.expect(id, Flag::Failure, reason.as_bytes());
    }

    /// Waits for the notice that this session was resumed.
    #[track_caller]
    pub fn expect_resumed(&mut self, id: ClientId) {
        self.expect(id, Flag::Resumed, b"");
    }

    /// Sends a packet to a client.
    pub fn send(&mut self, id: ClientId, data: &[u8]) {
        self.send_flag(id, Flag::Data, data);
    }

    /// Kicks a client.
    pub fn kick(&mut self, id: ClientId) {
        self.send_flag(id, Flag::Kick, b"");
    }

    /// Sends any tagged packet.
    pub fn send_flag(&mut self, id: ClientId, flag: Flag, data: &[u8]) {
        let mut bytes = Vec::new();
        Tagged { id, flag, data }.encode(&mut bytes);
        self.frames.write(&bytes);
    }

    /// Echoes packets until the edge ends the link. Returns the number of packets.
    pub fn echo(mut self) -> u64 {
        let mut packets = 0;
        while let Some(Packet { id, flag, data }) = self.try_recv() {
            if flag == Flag::Data {
                packets += 1;
                self.send(id, &data);
            }
        }
        packets
    }
}
