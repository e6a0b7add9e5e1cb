//! A stream within WebSocket over memory: what the layer adds to a read and to a write.

use std::hint::black_box;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr};
use std::task::{Context, Poll, Waker};

use voltlane_doors::websocket::http::Rules;
use voltlane_doors::{Door, DoorStream};
use voltlane_driver::Stream;

use super::edge::BURST;
use super::{Kind, Work};
use crate::load::carriage::{REQUEST, put_message};
use crate::wire;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// A driver's buffer.
const READ_BYTES: usize = 64 * 1024;
/// Messages per step.
const MESSAGES: usize = 16;

pub(super) fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for size in [64, 16 * 1024] {
        kinds.push(Kind::new("ws-up", size, |size| up(size, 1)));
        kinds.push(Kind::new("ws-down", size, |size| down(size, 1)));
    }
    kinds.push(Kind::new("ws-up-burst", 64, |size| up(size, BURST)));
    kinds.push(Kind::new("ws-down-burst", 64, |size| down(size, BURST)));
    kinds
}

/// Reads messages of a client. Each is a batch of `packets`, and comes in one read of the socket.
fn up(size: usize, packets: usize) -> Work {
    let mut stream = open();
    let batch = batch(size, packets);
    let mut message = Vec::new();
    put_message(&mut message, &batch, Some(MASK));
    let mut buffer = vec![0; READ_BYTES];
    Work::new(MESSAGES * packets, move || {
        for _ in 0..MESSAGES {
            stream.get_mut().put(&message);
            let read = poll_read(&mut stream, &mut buffer);
            assert_eq!(read, Some(batch.len()));
            black_box((&buffer, stream.take_overhead(), stream.held_bytes()));
            assert_eq!(poll_read(&mut stream, &mut buffer), None);
        }
    })
}

/// Writes batches of `packets` to a client, each in two parts.
fn down(size: usize, packets: usize) -> Work {
    let mut stream = open();
    let batch = batch(size, packets);
    let parts = batch.split_at(batch.len() / 2);
    let (first, second) = (parts.0.to_vec(), parts.1.to_vec());
    Work::new(MESSAGES * packets, move || {
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..MESSAGES {
            let mut left = [IoSlice::new(&first), IoSlice::new(&second)];
            let mut rest = &mut left[..];
            while !rest.is_empty() {
                let Poll::Ready(Ok(taken)) = stream.poll_write(cx, black_box(rest)) else {
                    unreachable!("memory takes everything");
                };
                IoSlice::advance_slices(&mut rest, taken);
            }
            assert!(stream.poll_flush(cx).is_ready());
            black_box((stream.take_overhead(), stream.held_bytes()));
        }
    })
}

fn batch(size: usize, packets: usize) -> Vec<u8> {
    let mut batch = Vec::new();
    (0..packets).for_each(|_| wire::put_frame(&mut batch, &vec![7; size]));
    batch
}

/// Opens a WebSocket.
fn open() -> DoorStream<Memory> {
    let door = Door::default().with_websocket(Rules::default(), 0);
    let entered = door.enter(Memory::default(), PEER);
    let mut stream = entered.expect("no randomness is needed");
    stream.get_mut().put(REQUEST);
    assert_eq!(poll_read(&mut stream, &mut [0; READ_BYTES]), None);
    assert!(stream.get_ref().taken > 0, "the request was not answered");
    stream
}

fn poll_read(stream: &mut DoorStream<Memory>, buffer: &mut [u8]) -> Option<usize> {
    match stream.poll_read(&mut Context::from_waker(Waker::noop()), buffer) {
        Poll::Ready(read) => Some(read.expect("it is open")),
        Poll::Pending => None,
    }
}

/// A socket that has what was put there, and takes everything.
#[derive(Debug, Default)]
struct Memory {
    input: Vec<u8>,
    read: usize,
    taken: usize,
}

impl Memory {
    fn put(&mut self, bytes: &[u8]) {
        self.input.clear();
        self.input.extend_from_slice(bytes);
        self.read = 0;
    }
}

impl Stream for Memory {
    type Parcel = Memory;

    fn pack(self) -> io::Result<Memory> {
        Ok(self)
    }

    fn unpack(parcel: Memory) -> io::Result<Memory> {
        Ok(parcel)
    }

    fn poll_read(&mut self, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let waiting = &self.input[self.read..];
        let bytes = waiting.len().min(buf.len());
        if bytes == 0 {
            return Poll::Pending;
        }
        buf[..bytes].copy_from_slice(&waiting[..bytes]);
        self.read += bytes;
        Poll::Ready(Ok(bytes))
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let bytes = black_box(bufs).iter().map(|buf| buf.len()).sum();
        self.taken += bytes;
        Poll::Ready(Ok(bytes))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
