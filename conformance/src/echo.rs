//! A WebSocket server that sends each message back, as suites for servers want it, made of the edge's layer.
//!
//! The layer carries a byte stream: it takes binary messages alone, and drops their boundaries. So between it and the socket something makes
//! binary messages of text ones, and cuts what is sent back into the messages that had come. It changes nothing else, and checks nothing.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::task::{Context, Poll, Waker};
use std::thread;

use voltlane_doors::websocket::http::Rules;
use voltlane_doors::{Door, DoorStream};
use voltlane_driver::Stream;

const OPCODE: u8 = 0x0f;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const FIN: u8 = 0x80;

/// Serves on a free port as long as the process lives, and returns its address.
///
/// # Panics
/// When there is no free port.
#[must_use]
pub fn serve() -> SocketAddr {
    let listener = TcpListener::bind((crate::own_host(), 0)).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let door = Door::default().with_websocket(Rules::default(), 0);
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let door = door.clone();
            // A failure is the end of the connection, which the suite sees.
            thread::spawn(move || serve_one(&door, socket));
        }
    });
    address
}

fn serve_one(door: &Door, socket: TcpStream) -> io::Result<()> {
    let peer = socket.peer_addr()?.ip();
    let mut stream = door.enter(Messages::over(socket)?, peer)?;
    let ended = echo(&mut stream);
    if ended.is_ok() || matches!(&ended, Err(error) if error.kind() == ErrorKind::InvalidData) {
        wait(|cx| stream.poll_close(cx))?;
        // A reset would take away what was sent last.
        io::copy(&mut &stream.get_ref().socket, &mut io::sink())?;
    }
    ended
}

fn echo(stream: &mut DoorStream<Messages>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let bytes = wait(|cx| stream.poll_read(cx, &mut buffer))?;
        if bytes == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..bytes];
        while !rest.is_empty() {
            let taken = wait(|cx| stream.poll_write(cx, &[IoSlice::new(rest)]))?;
            rest = &rest[taken..];
        }
    }
}

/// Waits for an operation of a stream that blocks instead of being pending.
fn wait<T>(mut operation: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>) -> io::Result<T> {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(ready) = operation(&mut cx) {
            return ready;
        }
    }
}

/// A socket, with the messages of the suite on one side and a byte stream on the other.
#[derive(Debug)]
struct Messages {
    socket: TcpStream,
    /// What the suite sends.
    up: Frames,
    /// What the layer sends.
    down: Frames,
    /// The opcode and the bytes of the message that is coming.
    coming: (u8, u64),
    /// Those that have come, and are not sent back yet.
    whole: VecDeque<(u8, u64)>,
    /// What is to be sent back.
    payload: Vec<u8>,
}

impl Messages {
    fn over(socket: TcpStream) -> io::Result<Messages> {
        socket.set_nodelay(true)?;
        Ok(Messages {
            socket,
            up: Frames::default(),
            down: Frames::default(),
            coming: (0, 0),
            whole: VecDeque::new(),
            payload: Vec::new(),
        })
    }

    /// Notes the messages in `bytes`, and makes binary ones of them.
    fn rewrite(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        for byte in bytes {
            match self.up.next(*byte) {
                Part::First if *byte & OPCODE == TEXT => {
                    self.coming.0 = TEXT;
                    // The reserved bits stay.
                    *byte = *byte & !OPCODE | BINARY;
                }
                Part::First if *byte & OPCODE == BINARY => self.coming.0 = BINARY,
                _ => {}
            }
            if let Some((first, length)) = self.up.take_header()
                && first & OPCODE <= BINARY
            {
                self.coming.1 += length;
                if first & FIN != 0 {
                    self.whole.push_back(mem::take(&mut self.coming));
                }
            }
        }
        self.send_whole()
    }

    /// Sends back the messages that are there as a whole.
    fn send_whole(&mut self) -> io::Result<()> {
        while let Some(&(opcode, length)) = self.whole.front()
            && self.payload.len() as u64 >= length
        {
            self.whole.pop_front();
            let payload: Vec<u8> = self.payload.drain(..length as usize).collect();
            let mut frame = vec![FIN | opcode];
            match length {
                0..=125 => frame.push(length as u8),
                126..=0xffff => {
                    frame.push(126);
                    frame.extend_from_slice(&(length as u16).to_be_bytes());
                }
                _ => {
                    frame.push(127);
                    frame.extend_from_slice(&length.to_be_bytes());
                }
            }
            frame.extend_from_slice(&payload);
            self.socket.write_all(&frame)?;
        }
        Ok(())
    }

    /// Sends what the layer gives, but for its messages, which become those that had come.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut as_they_are = Vec::new();
        for &byte in bytes {
            let is_data = self.down.first & OPCODE == BINARY;
            match self.down.next(byte) {
                Part::First if byte & OPCODE == BINARY => {}
                Part::Header if is_data => {}
                Part::Payload if is_data => self.payload.push(byte),
                _ => as_they_are.push(byte),
            }
        }
        self.send_whole()?;
        self.socket.write_all(&as_they_are)
    }
}

impl Stream for Messages {
    type Parcel = Messages;

    fn pack(self) -> io::Result<Messages> {
        Ok(self)
    }

    fn unpack(parcel: Messages) -> io::Result<Messages> {
        Ok(parcel)
    }

    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.socket.read(buffer);
        Poll::Ready(read.and_then(|bytes| {
            self.rewrite(&mut buffer[..bytes])?;
            Ok(bytes)
        }))
    }

    fn poll_write(
        &mut self,
        _: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: Vec<u8> = buffers
            .iter()
            .flat_map(|part| part.iter().copied())
            .collect();
        Poll::Ready(self.send(&bytes).map(|()| bytes.len()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(Shutdown::Write))
    }
}

/// What a byte is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Head,
    First,
    Header,
    Payload,
}

/// Follows one direction of a connection, byte by byte.
#[derive(Debug, Default)]
struct Frames {
    /// How much of the empty line behind the HTTP head has come.
    head: usize,
    is_past_head: bool,
    header: Vec<u8>,
    /// The first byte of the frame.
    first: u8,
    left: u64,
    /// The length of a frame whose header has just ended.
    begun: Option<u64>,
}

impl Frames {
    fn next(&mut self, byte: u8) -> Part {
        if !self.is_past_head {
            self.head = match byte == b"\r\n\r\n"[self.head] {
                true => self.head + 1,
                false => usize::from(byte == b'\r'),
            };
            self.is_past_head = self.head == 4;
            return Part::Head;
        }
        if self.left > 0 {
            self.left -= 1;
            return Part::Payload;
        }
        self.header.push(byte);
        let part = match self.header.len() {
            1 => Part::First,
            _ => Part::Header,
        };
        self.first = self.header[0];
        let Some(&second) = self.header.get(1) else {
            return part;
        };
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        if self.header.len() == 2 + length_bytes + mask_bytes {
            let length = &self.header[2..2 + length_bytes];
            let length = length
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            self.left = match length_bytes {
                0 => u64::from(second & 0x7f),
                _ => length,
            };
            self.begun = Some(self.left);
            self.header.clear();
        }
        part
    }

    /// Returns the first byte and the length of a frame whose header has just ended.
    fn take_header(&mut self) -> Option<(u8, u64)> {
        self.begun.take().map(|length| (self.first, length))
    }
}
