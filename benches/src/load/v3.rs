//! A client of version 3 for the load tool: the client of core, in the place of the layers of other clients.

use std::io;
use std::time::Duration;

use voltlane_core::Time;
use voltlane_core::client::{Client, ClientConfig, Closed, Event, State, Versions};

use crate::wire;

/// A session over all its connections.
#[derive(Debug)]
pub struct ClientV3 {
    machine: Client,
    /// What is to be written to the socket.
    pub wire: Vec<u8>,
}

fn time(now: Duration) -> Time {
    Time::from_nanos(now.as_nanos() as u64)
}

/// Returns bytes of the operating system.
fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    match got {
        32 => Ok(bytes),
        _ => Err(io::Error::other("too few random bytes")),
    }
}

impl ClientV3 {
    /// Creates a client that joins as a new one.
    pub fn new() -> io::Result<Self> {
        let config = ClientConfig::default().with_versions(Versions::V3);
        Ok(Self {
            machine: Client::new(config, random()?),
            wire: Vec::new(),
        })
    }

    /// Begins an open connection: joins, or resumes.
    pub fn connect(&mut self, now: Duration) -> io::Result<()> {
        self.machine.handle_connected(time(now), random()?);
        self.fill(now);
        Ok(())
    }

    /// Returns whether the session is established.
    pub fn is_ready(&self) -> bool {
        self.machine.state() == State::Established
    }

    /// Returns whether everything that was sent is acknowledged.
    pub fn is_settled(&self) -> bool {
        self.machine.queued_packets() == 0
    }

    /// Sends the frames in `out`, as far as there is room.
    pub fn send(&mut self, now: Duration, out: &mut Vec<u8>) {
        let mut sent = 0;
        while let Some((body, rest)) = wire::split_frame(&out[sent..]) {
            if self.machine.send(body).is_err() {
                break;
            }
            sent = out.len() - rest.len();
        }
        out.drain(..sent);
        self.fill(now);
    }

    fn fill(&mut self, now: Duration) {
        // What is sealed goes to this connection, so no more is made than the socket is likely to take.
        while self.wire.len() < 64 * 1024 {
            let output = self.machine.output();
            if output.is_empty() {
                return;
            }
            let bytes = output.len();
            self.wire.extend_from_slice(output);
            self.machine.handle_written(time(now), bytes);
        }
    }

    /// Handles what was read, and appends the packets in it to `data` as frames.
    ///
    /// # Errors
    /// When the connection or the session is over.
    pub fn receive(&mut self, now: Duration, bytes: &[u8], data: &mut Vec<u8>) -> io::Result<()> {
        let now = time(now);
        let mut input = bytes;
        loop {
            let number = match self.machine.handle_bytes(now, &mut input) {
                Some(Event::Packet {
                    data: packet,
                    number,
                }) => {
                    wire::put_frame(data, packet);
                    number
                }
                Some(_) => continue,
                None => break,
            };
            self.machine.taken(now, number);
        }
        match self.machine.wants_close() {
            true => Err(io::Error::other("the edge ended the connection")),
            false => Ok(()),
        }
    }

    /// Handles that the connection is gone.
    pub fn lose(&mut self, now: Duration) {
        self.wire.clear();
        self.machine.handle_closed(time(now), Closed::Error);
        while self.machine.poll_event().is_some() {}
    }

    /// Handles that time has passed. Returns whether there is something to write.
    pub fn wake(&mut self, now: Duration) -> bool {
        if self.is_ready()
            && self
                .machine
                .poll_timeout()
                .is_some_and(|at| at <= time(now))
        {
            self.machine.handle_timeout(time(now));
            self.fill(now);
        }
        !self.wire.is_empty()
    }
}
