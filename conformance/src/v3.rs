//! A client of version 3, one step at a time: the library's machine over a blocking socket.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;
use voltlane_core::client::{self, Closed, Code, DropCause, End, Event, Gap, State, Versions};
use voltlane_core::{ClientId, Time};

use crate::{Frames, PATIENCE, random};

/// Maximum bytes per read.
const CHUNK_BYTES: usize = 64 * 1024;
/// The longest wait for bytes before the machine is told the time.
const LOOKS_EVERY: Duration = Duration::from_millis(100);

/// What the application of a client hears.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the events of the machine, owned")]
pub enum Heard {
    Connected,
    Packet(u64, Vec<u8>),
    Resumed { missed: u64 },
    CaughtUp,
    Gap(Gap),
    Skipped(u64),
    Dropped(DropCause),
    Ended(End),
}

/// A client of version 3.
#[derive(Debug)]
pub struct ClientV3 {
    machine: client::Client,
    stream: Option<TcpStream>,
    begun: Instant,
    heard: VecDeque<Heard>,
    /// The packet that the application got last, until it comes back for more.
    lent: Option<u64>,
    id: Option<ClientId>,
}

impl ClientV3 {
    /// Joins with a new session.
    #[must_use]
    pub fn join(edge: SocketAddr) -> ClientV3 {
        ClientV3::join_over(connect(edge))
    }

    /// Joins on a connection of which the kernel buffers few bytes.
    #[must_use]
    pub fn join_narrow(edge: SocketAddr) -> ClientV3 {
        ClientV3::join_over(narrow(edge))
    }

    fn join_over(stream: TcpStream) -> ClientV3 {
        let mut client = ClientV3::new();
        client.begin(stream);
        assert_eq!(client.outcome(), Heard::Connected);
        client.flush();
        client
    }

    fn new() -> ClientV3 {
        let config = client::ClientConfig::default().with_versions(Versions::V3);
        ClientV3 {
            machine: client::Client::new(config, random()),
            stream: None,
            begun: Instant::now(),
            heard: VecDeque::new(),
            lent: None,
            id: None,
        }
    }

    /// Tries to join. Returns what is heard of it.
    #[must_use]
    pub fn try_join(edge: SocketAddr) -> Heard {
        let mut client = ClientV3::new();
        client.begin(connect(edge));
        client.outcome()
    }

    /// Returns the client's id.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.id.expect("it has joined")
    }

    /// Sends a packet, at once if there is a connection. Returns its number.
    pub fn send(&mut self, data: &[u8]) -> u64 {
        let number = self.machine.send(data).expect("there is room");
        self.flush();
        number
    }

    /// Queues a packet, and writes only so many bytes of what the connection is to carry.
    pub fn send_cut(&mut self, data: &[u8], bytes: usize) {
        self.machine.send(data).expect("there is room");
        let output = self.machine.output();
        let bytes = bytes.min(output.len());
        let stream = self.stream.as_mut().expect("it is connected");
        stream
            .write_all(&output[..bytes])
            .expect("the edge takes bytes");
        let now = self.now();
        self.machine.handle_written(now, bytes);
    }

    /// Returns the next event. The packet before it is taken.
    #[track_caller]
    pub fn hear(&mut self) -> Heard {
        if let Some(number) = self.lent.take() {
            let now = self.now();
            self.machine.taken(now, number);
        }
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(heard) = self.heard.pop_front() {
                if let Heard::Packet(number, _) = heard {
                    self.lent = Some(number);
                }
                return heard;
            }
            assert!(Instant::now() < until, "nothing is heard any more");
            self.look();
        }
    }

    /// Returns the next packet.
    #[track_caller]
    pub fn recv(&mut self) -> (u64, Vec<u8>) {
        loop {
            match self.hear() {
                Heard::Packet(number, data) => return (number, data),
                Heard::CaughtUp => {}
                other => panic!("a packet was expected, not {other:?}"),
            }
        }
    }

    /// Waits for exactly this packet.
    #[track_caller]
    pub fn expect(&mut self, data: &[u8]) {
        let (number, received) = self.recv();
        assert!(
            received == data,
            "{} bytes were expected, {} other ones came as packet {number}",
            data.len(),
            received.len()
        );
    }

    /// Waits for the end of the session.
    #[track_caller]
    pub fn expect_end(&mut self, code: Code) -> End {
        loop {
            match self.hear() {
                Heard::Ended(end) => {
                    assert_eq!(end.code, code, "{end:?}");
                    return end;
                }
                Heard::Packet(..) | Heard::CaughtUp => {}
                other => panic!("an end was expected, not {other:?}"),
            }
        }
    }

    /// Waits until everything that was sent is acknowledged.
    pub fn flush_all(&mut self) {
        let until = Instant::now() + PATIENCE;
        while self.machine.queued_packets() > 0 {
            assert!(Instant::now() < until, "no more is acknowledged");
            self.look();
        }
    }

    /// Ends the connection in order, reads it to its end, and waits until the edge has ended it, too: afterwards the session is away.
    pub fn leave(&mut self) {
        self.flush();
        self.leave_cut();
    }

    /// Like [`leave`](Self::leave), with nothing more written before that.
    pub fn leave_cut(&mut self) {
        let stream = self.stream.as_ref().expect("it is connected");
        let _ = stream.shutdown(Shutdown::Write);
        let until = Instant::now() + PATIENCE;
        while self.stream.is_some() {
            assert!(Instant::now() < until, "the edge does not end it");
            self.read();
        }
        self.heard
            .retain(|heard| !matches!(heard, Heard::Dropped(_)));
    }

    /// Resets the connection. The edge may not have noticed yet when this returns.
    pub fn reset(&mut self) {
        let stream = self.abandon();
        let socket = SockRef::from(&stream);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("a TCP socket");
    }

    /// Leaves the connection to the caller, as if the client had lost sight of it.
    pub fn abandon(&mut self) -> TcpStream {
        let stream = self.stream.take().expect("it is connected");
        let now = self.now();
        self.machine.handle_closed(now, Closed::Error);
        let _ = self.machine.poll_event();
        stream
    }

    /// Resumes. Returns how many packets come that were missed.
    #[track_caller]
    pub fn come_back(&mut self, edge: SocketAddr) -> u64 {
        self.come_back_over(connect(edge))
    }

    /// Resumes on a connection of which the kernel buffers few bytes.
    #[track_caller]
    pub fn come_back_narrow(&mut self, edge: SocketAddr) -> u64 {
        self.come_back_over(narrow(edge))
    }

    #[track_caller]
    fn come_back_over(&mut self, stream: TcpStream) -> u64 {
        self.begin(stream);
        match self.outcome() {
            Heard::Resumed { missed } => {
                self.flush();
                missed
            }
            other => panic!("it was to resume, and hears {other:?}"),
        }
    }

    /// Tries to resume, and returns what is heard of it. One byte is written at a time if it is `slow`.
    pub fn try_come_back(&mut self, edge: SocketAddr, slow: bool) -> Heard {
        self.begin(connect(edge));
        while slow && self.machine.state() == State::AwaitAnswer {
            let Some(byte) = self.machine.output().first().copied() else {
                break;
            };
            let stream = self.stream.as_mut().expect("it is connected");
            stream.write_all(&[byte]).expect("the edge takes bytes");
            let now = self.now();
            self.machine.handle_written(now, 1);
        }
        self.outcome()
    }

    /// Waits for what becomes of an attempt, ahead of packets that have come before it.
    #[track_caller]
    fn outcome(&mut self) -> Heard {
        let is_outcome = |heard: &Heard| {
            !matches!(
                heard,
                Heard::Packet(..) | Heard::CaughtUp | Heard::Gap(_) | Heard::Skipped(_)
            )
        };
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(place) = self.heard.iter().position(is_outcome) {
                return self.heard.remove(place).expect("it is there");
            }
            assert!(Instant::now() < until, "nothing is heard of the attempt");
            self.look();
        }
    }

    /// Says goodbye, and returns how the session ended.
    #[track_caller]
    pub fn close(mut self) -> End {
        let now = self.now();
        if let Some(number) = self.lent.take() {
            self.machine.taken(now, number);
        }
        self.machine.close(now);
        loop {
            match self.hear() {
                Heard::Ended(end) => return end,
                Heard::Packet(..) | Heard::CaughtUp => {}
                other => panic!("an end was expected, not {other:?}"),
            }
        }
    }

    // ---- the adapter

    fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.begun.elapsed().as_nanos()).expect("a short time"))
    }

    fn begin(&mut self, stream: TcpStream) {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a bound");
        let now = self.now();
        self.machine.handle_connected(now, random());
        self.stream = Some(stream);
    }

    /// Writes what there is.
    pub fn flush(&mut self) {
        let now = self.now();
        let Some(stream) = &mut self.stream else {
            return;
        };
        loop {
            let output = self.machine.output();
            if output.is_empty() {
                return;
            }
            // An end shows when it is read.
            let written = stream.write(output).unwrap_or(output.len());
            self.machine.handle_written(now, written);
        }
    }

    /// Does what is due, and waits a little for bytes.
    fn look(&mut self) {
        let now = self.now();
        if self.machine.poll_timeout().is_some_and(|at| at <= now) {
            self.machine.handle_timeout(now);
        }
        self.flush();
        if self.machine.wants_close() {
            self.lose(Closed::Eof);
        } else if self.stream.is_some() {
            self.read();
        }
        self.poll();
    }

    fn lose(&mut self, closed: Closed) {
        self.stream = None;
        let now = self.now();
        self.machine.handle_closed(now, closed);
        self.poll();
    }

    fn poll(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            self.heard.extend(owned(event, &mut self.id));
        }
    }

    fn read(&mut self) {
        let now = self.now();
        let due = self.machine.poll_timeout();
        let wait = due.map_or(LOOKS_EVERY, |at| at.since(now).min(LOOKS_EVERY));
        let Some(stream) = &mut self.stream else {
            return;
        };
        let wait = wait.max(Duration::from_millis(1));
        stream.set_read_timeout(Some(wait)).expect("a bound");
        let mut chunk = vec![0; CHUNK_BYTES];
        match stream.read(&mut chunk) {
            Ok(0) => self.lose(Closed::Eof),
            Ok(read) => {
                let now = self.now();
                let mut input = &chunk[..read];
                while let Some(event) = self.machine.handle_bytes(now, &mut input) {
                    self.heard.extend(owned(event, &mut self.id));
                }
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
                ) => {}
            Err(_) => self.lose(Closed::Error),
        }
    }
}

fn connect(edge: SocketAddr) -> TcpStream {
    TcpStream::connect(edge).expect("somebody listens")
}

fn narrow(edge: SocketAddr) -> TcpStream {
    let frames = Frames::connect_narrow(edge, 4_096);
    frames.stream().try_clone().expect("a descriptor")
}

fn owned(event: Event<'_>, own: &mut Option<ClientId>) -> Option<Heard> {
    Some(match event {
        Event::Connected { id } => {
            *own = Some(id);
            Heard::Connected
        }
        Event::Packet { data, number } => Heard::Packet(number, data.to_vec()),
        Event::Resumed { id, missed, .. } => {
            assert_eq!(*own, Some(id), "it keeps its identity");
            Heard::Resumed { missed }
        }
        Event::CaughtUp => Heard::CaughtUp,
        Event::Gap(gap) => Heard::Gap(gap),
        Event::Skipped { count } => Heard::Skipped(count),
        Event::Dropped { cause, .. } => Heard::Dropped(cause),
        Event::Ended(end) => Heard::Ended(end),
        _ => return None,
    })
}
