//! The yardstick: close to the minimum that the kernel allows for N clients over one backend connection.
//!
//! A single-threaded epoll loop. A turn reads every ready client once into one shared buffer, writes to the backend once, reads from the
//! backend once, and writes once to every client that received something. It frames and tags like version 2, so the same clients and the
//! same backend talk through it. It checks nothing: it has no bounds, limits, timeouts, key agreement, reconnects or memory limit.
//! Voltlane's cost above it is the price of what Voltlane does.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use crate::wire;

const LISTENER: Token = Token(usize::MAX - 1);
const BACKEND: Token = Token(usize::MAX - 2);

const CLIENT_READ_BYTES: usize = 64 * 1024;
const BACKEND_READ_BYTES: usize = 256 * 1024;
/// The low bits of an id are its slot, the bits above count the clients so far.
const SLOT_BITS: u32 = 24;
/// The number of empty output buffers kept for the next turn.
const SPARE_BUFFERS: usize = 4096;

/// Forwards between the clients that connect to `listen` and the backend until the backend goes away.
pub fn run(listen: SocketAddr, backend: SocketAddr) -> io::Result<()> {
    let mut forwarder = Forwarder::new(listen, backend)?;
    let mut events = Events::with_capacity(1024);
    loop {
        forwarder.turn(&mut events)?;
    }
}

enum Stage {
    AwaitVersion,
    AwaitKey,
    Established,
}

struct Client {
    stream: TcpStream,
    id: u64,
    stage: Stage,
    waits_for_room: bool,
    partial: wire::Partial,
    out: Vec<u8>,
}

struct Forwarder {
    poll: Poll,
    listener: TcpListener,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    joined: u64,
    read: Box<[u8]>,
    /// Clients whose last read filled the buffer. They may have more, and edge-triggered epoll will not report it.
    unread: Vec<usize>,
    /// Clients that received output in this turn.
    touched: Vec<usize>,
    spare: Vec<Vec<u8>>,
    link: Link,
}

struct Link {
    stream: TcpStream,
    up: Vec<u8>,
    down: Vec<u8>,
    down_bytes: usize,
    readable: bool,
    waits_for_room: bool,
}

impl Forwarder {
    fn new(listen: SocketAddr, backend: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(listen)?;
        let stream = std::net::TcpStream::connect(backend)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        poll.registry()
            .register(&mut stream, BACKEND, Interest::READABLE)?;
        let down = vec![0; BACKEND_READ_BYTES];
        let link = Link {
            stream,
            up: Vec::new(),
            down,
            down_bytes: 0,
            readable: false,
            waits_for_room: false,
        };
        Ok(Self {
            poll,
            listener,
            clients: Vec::new(),
            free: Vec::new(),
            joined: 0,
            read: vec![0; CLIENT_READ_BYTES].into_boxed_slice(),
            unread: Vec::new(),
            touched: Vec::new(),
            spare: Vec::new(),
            link,
        })
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let more_to_read = self.link.readable || !self.unread.is_empty();
        match self
            .poll
            .poll(events, more_to_read.then_some(Duration::ZERO))
        {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for slot in std::mem::take(&mut self.unread) {
            self.read_client(slot);
        }
        for event in events.iter() {
            match event.token() {
                LISTENER => self.accept()?,
                BACKEND => self.link.note(event, self.poll.registry())?,
                Token(slot) => self.client_event(slot, event),
            }
        }
        self.link.write(self.poll.registry())?;
        if self.link.readable {
            self.read_link()?;
        }
        let mut touched = std::mem::take(&mut self.touched);
        for slot in touched.drain(..) {
            self.write_client(slot);
        }
        self.touched = touched;
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let (mut stream, _) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                self.clients.len() - 1
            });
            self.poll
                .registry()
                .register(&mut stream, Token(slot), Interest::READABLE)?;
            self.joined += 1;
            self.clients[slot] = Some(Client {
                stream,
                id: self.joined << SLOT_BITS | slot as u64,
                stage: Stage::AwaitVersion,
                waits_for_room: false,
                partial: wire::Partial::default(),
                out: Vec::new(),
            });
        }
    }

    fn client_event(&mut self, slot: usize, event: &Event) {
        if event.is_writable() {
            self.write_client(slot);
        }
        if event.is_readable() {
            self.read_client(slot);
        }
    }

    fn read_client(&mut self, slot: usize) {
        let Some(client) = self.clients[slot].as_mut() else {
            return;
        };
        let read = match client.stream.read(&mut self.read) {
            Ok(0) => return self.drop_client(slot),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return self.drop_client(slot),
        };
        if read == self.read.len() {
            self.unread.push(slot);
        }
        let Client {
            partial,
            stage,
            stream,
            id,
            ..
        } = client;
        let up = &mut self.link.up;
        partial.frames(&self.read[..read], |body| match stage {
            Stage::Established => wire::put_tagged(up, *id, wire::FLAG_DATA, body),
            Stage::AwaitVersion => {
                *stage = Stage::AwaitKey;
                say(stream, |out| wire::put_pub_key(out, &wire::ANY_KEY));
            }
            Stage::AwaitKey => {
                *stage = Stage::Established;
                say(stream, |out| wire::put_client_id(out, *id));
            }
        });
    }

    /// Reads from the backend once and appends each packet to its client's output.
    fn read_link(&mut self) -> io::Result<()> {
        let Self {
            link,
            clients,
            touched,
            spare,
            ..
        } = self;
        let Some(bytes) = link.read()? else {
            return Ok(());
        };
        let mut rest = &link.down[..bytes];
        while let Some((body, after)) = wire::split_frame(rest) {
            rest = after;
            let Some((id, wire::FLAG_DATA, data)) = wire::split_tag(body) else {
                continue;
            };
            let slot = (id & ((1 << SLOT_BITS) - 1)) as usize;
            let Some(client) = clients
                .get_mut(slot)
                .and_then(Option::as_mut)
                .filter(|client| client.id == id)
            else {
                continue;
            };
            if client.out.is_empty() {
                touched.push(slot);
                client.out = spare.pop().unwrap_or_default();
            }
            wire::put_frame(&mut client.out, data);
        }
        let left = rest.len();
        link.keep_last(bytes, left);
        Ok(())
    }

    fn write_client(&mut self, slot: usize) {
        let Some(client) = self.clients[slot].as_mut() else {
            return;
        };
        if client.out.is_empty() {
            return;
        }
        match client.stream.write(&client.out) {
            Ok(written) if written == client.out.len() => {
                client.out.clear();
                let out = std::mem::take(&mut client.out);
                if self.spare.len() < SPARE_BUFFERS {
                    self.spare.push(out);
                }
                if std::mem::take(&mut client.waits_for_room) {
                    let _ = self.poll.registry().reregister(
                        &mut client.stream,
                        Token(slot),
                        Interest::READABLE,
                    );
                }
                return;
            }
            Ok(written) => drop(client.out.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return self.drop_client(slot),
        }
        if !std::mem::replace(&mut client.waits_for_room, true) {
            let both = Interest::READABLE | Interest::WRITABLE;
            let _ = self
                .poll
                .registry()
                .reregister(&mut client.stream, Token(slot), both);
        }
    }

    fn drop_client(&mut self, slot: usize) {
        // Closing the descriptor removes it from epoll.
        self.clients[slot] = None;
        self.free.push(slot);
    }
}

impl Link {
    fn note(&mut self, event: &Event, registry: &Registry) -> io::Result<()> {
        self.readable |= event.is_readable();
        if event.is_writable() && std::mem::take(&mut self.waits_for_room) {
            registry.reregister(&mut self.stream, BACKEND, Interest::READABLE)?;
        }
        Ok(())
    }

    fn write(&mut self, registry: &Registry) -> io::Result<()> {
        if self.up.is_empty() || self.waits_for_room {
            return Ok(());
        }
        match self.stream.write(&self.up) {
            Ok(written) if written == self.up.len() => {
                self.up.clear();
                return Ok(());
            }
            Ok(written) => drop(self.up.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        self.waits_for_room = true;
        registry.reregister(
            &mut self.stream,
            BACKEND,
            Interest::READABLE | Interest::WRITABLE,
        )
    }

    /// Reads once, after what is left of the last read. Returns the number of bytes held.
    fn read(&mut self) -> io::Result<Option<usize>> {
        if self.down_bytes == self.down.len() {
            self.down.resize(self.down.len() * 2, 0);
        }
        let room = &mut self.down[self.down_bytes..];
        match self.stream.read(room) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the backend is gone",
            )),
            Ok(read) => {
                self.readable = read == room.len();
                Ok(Some(self.down_bytes + read))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn keep_last(&mut self, bytes: usize, left: usize) {
        self.down.copy_within(bytes - left..bytes, 0);
        self.down_bytes = left;
    }
}

/// Writes one handshake frame. A fresh connection has room for it. If it has not, the client waits in vain: this program checks nothing.
fn say(stream: &mut TcpStream, put: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::with_capacity(64);
    put(&mut out);
    let _ = stream.write(&out);
}
