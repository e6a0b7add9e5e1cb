//! One client of the churn.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::packet::{LAST, Packet};
use super::{Connection, Drop};
use crate::{Client, Random, Session};

/// The longest time that a client stays away.
const AWAY: Duration = Duration::from_millis(80);

/// The minimum number of connections that a client ends, even if the machine was suspended most of the time.
const LEAST_ENDED: usize = 6;

/// The observations of a client in a run.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) id: u64,
    pub(super) connections: Vec<Connection>,
    pub(super) abandoned: u64,
    /// Packets that were not for this client, or altered.
    pub(super) foreign: u64,
}

/// Drops and resumes until the time is over, then reads everything that is left for it.
pub(super) fn play(edge: SocketAddr, number: u32, seed: u64, until: Instant) -> Seen {
    let mut random = Random::new(seed ^ u64::from(number) << 32);
    let client = Client::join(edge);
    let mut player = Player {
        number,
        next: 0,
        seen: Seen {
            id: client.id().as_u64(),
            connections: Vec::new(),
            abandoned: 0,
            foreign: 0,
        },
        current: new_connection(0),
    };
    let mut client = client;
    while Instant::now() < until || player.seen.connections.len() < LEAST_ENDED {
        let sent = player.burst(&mut client, &mut random);
        // Each packet has an answer, so these arrive, after the missed ones. Some are left unread.
        if random.below(2) == 0 {
            player.catch_up(&mut client);
        } else {
            for _ in 0..random.below(sent + 1) {
                player.receive(&mut client);
            }
        }
        if random.below(3) == 0 {
            client = player.drop_and_return(client, edge, &mut random);
        }
    }
    player.finish(client)
}

struct Player {
    number: u32,
    /// The number of the next packet.
    next: u64,
    seen: Seen,
    /// The current connection.
    current: Connection,
}

impl Player {
    /// Sends a few packets. Returns how many.
    fn burst(&mut self, client: &mut Client, random: &mut Random) -> u64 {
        let count = 1 + random.below(6);
        for _ in 0..count {
            let more = random.size();
            let bytes = self.packet(self.mark()).encode(more);
            client.send(&bytes);
            self.next += 1;
            self.current.sent.1 = self.next;
        }
        count
    }

    fn mark(&self) -> u32 {
        u32::try_from(self.seen.connections.len()).expect("fewer connections")
    }

    fn packet(&self, mark: u32) -> Packet {
        Packet {
            client: self.number,
            mark,
            number: self.next,
        }
    }

    /// Receives packets up to the answer to its own latest one.
    fn catch_up(&mut self, client: &mut Client) {
        while self.receive(client) != Some(self.next - 1) {}
    }

    /// Receives one packet. Returns the number of the packet that it answers.
    fn receive(&mut self, client: &mut Client) -> Option<u64> {
        let bytes = client.recv();
        self.take(&bytes)
    }

    fn take(&mut self, bytes: &[u8]) -> Option<u64> {
        match Packet::decode(bytes) {
            Some(packet) if packet.client == self.number => {
                self.current.received.push(packet.number);
                Some(packet.mark.into())
            }
            _ => {
                self.seen.foreign += 1;
                None
            }
        }
    }

    /// Ends the connection in one of the ways, and resumes on a new one.
    fn drop_and_return(&mut self, client: Client, edge: SocketAddr, random: &mut Random) -> Client {
        let how = Drop::ALL[random.below(4) as usize];
        let (session, old) = match how {
            Drop::Orderly => {
                let (packets, session) = client.leave_with_packets();
                for packet in packets {
                    self.take(&packet);
                }
                (session, None)
            }
            Drop::Reset => (client.reset(), None),
            Drop::ResetInAFrame => {
                let mut client = client;
                let bytes = self.packet(0).encode(300);
                // The length is correct, but only half of the body follows. It counts as not sent.
                let length = u32::try_from(bytes.len()).expect("short");
                let half = [&length.to_le_bytes(), &bytes[..150]].concat();
                client.frames.write(&half);
                (client.reset(), None)
            }
            Drop::TakenOver => (client.session.clone(), Some(client)),
        };
        self.end_connection(how);
        if old.is_none() {
            thread::sleep(AWAY * u32::try_from(random.below(100)).expect("small") / 100);
        }
        let client = self.come_back(session, edge, random);
        drop(old);
        client
    }

    fn end_connection(&mut self, how: Drop) {
        let ended = std::mem::replace(&mut self.current, new_connection(self.next));
        self.seen.connections.push(Connection {
            ended: how,
            ..ended
        });
    }

    /// Resumes, sometimes after an abandoned attempt, or twice because the first connection dies at once.
    fn come_back(&mut self, session: Session, edge: SocketAddr, random: &mut Random) -> Client {
        if random.below(8) == 0 {
            self.seen.abandoned += 1;
            let _ = session.claim(edge);
        }
        let client = session.resume(edge);
        if random.below(8) > 0 {
            return client;
        }
        // In the middle of the missed packets, if there are any.
        let session = client.reset();
        self.end_connection(Drop::Reset);
        session.resume(edge)
    }

    /// Announces that this was all, and reads until the backend has done so as well.
    fn finish(mut self, mut client: Client) -> Seen {
        client.send(&self.packet(LAST).encode(0));
        self.next += 1;
        self.current.sent.1 = self.next;
        while self.receive(&mut client) != Some(LAST.into()) {}
        client.leave();
        self.end_connection(Drop::Orderly);
        self.seen
    }
}

fn new_connection(next: u64) -> Connection {
    Connection {
        sent: (next, next),
        received: Vec::new(),
        ended: Drop::Orderly,
    }
}
