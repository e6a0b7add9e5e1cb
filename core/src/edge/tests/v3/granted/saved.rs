//! A backend that saves its counts with its own data, and is killed at any point (SPEC 37.4(e)), between the machines of both ends.

use super::*;
use crate::backend::host::{Event, Host, HostConfig};
use crate::edge::HasLink;

/// What the application has on its disk. It is written in one piece.
#[derive(Debug, Default)]
struct Disk {
    /// The number of the last packet that was applied.
    up: u64,
    applied: Vec<Vec<u8>>,
    /// What is sent to the client, with its numbers.
    rows: Vec<(u64, Vec<u8>)>,
}

/// A life of the backend, which is killed when no steps are left.
struct Life<'a> {
    host: Host,
    disk: &'a mut Disk,
    left: &'a mut Option<usize>,
    steps: &'a mut usize,
}

/// The process is killed.
struct Killed;

enum Happened {
    Joined(u64),
    Packet(u64, Vec<u8>),
    Other,
}

impl Life<'_> {
    fn step(&mut self) -> Result<(), Killed> {
        *self.steps += 1;
        match self.left {
            Some(0) => {
                *self.left = None;
                return Err(Killed);
            }
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn send(&mut self, id: ClientId, number: u64, row: &[u8]) {
        assert_eq!(self.host.send(id, row), Ok(number));
    }

    fn handle(&mut self, id: ClientId, happened: Happened) -> Result<(), Killed> {
        match happened {
            Happened::Joined(sent) => {
                for (number, row) in self.disk.rows.clone() {
                    if number > sent {
                        self.send(id, number, &row);
                        self.step()?;
                    }
                }
            }
            Happened::Packet(number, data) => {
                assert_eq!(number, self.disk.up + 1, "each once, in order");
                let row = (self.disk.rows.len() as u64 + 1, data.clone());
                self.disk.up = number;
                self.disk.applied.push(data);
                self.disk.rows.push(row.clone());
                self.step()?;
                self.send(id, row.0, &row.1);
            }
            Happened::Other => {}
        }
        self.step()
    }

    /// Runs until nothing is left to be done.
    fn run(&mut self, world: &mut World, id: ClientId) -> Result<(), Killed> {
        self.host.handle_connected(world.now);
        loop {
            let down = self.host.output().to_vec();
            // The stream takes it in two parts.
            for part in [&down[..down.len() / 2], &down[down.len() / 2..]] {
                self.host.handle_written(part.len());
                world.edge.handle_link_bytes(world.now, part);
                if !part.is_empty() {
                    self.step()?;
                }
            }
            let up = world.edge.link_takes(world.now, usize::MAX);
            if down.is_empty() && up.is_empty() {
                world.wait(Duration::from_millis(20));
                self.host.handle_timeout(world.now);
                if self.host.output().is_empty() && world.edge.link_output().concat().is_empty() {
                    return Ok(());
                }
            }
            let mut input = &up[..];
            loop {
                let happened = match self.host.handle_bytes(world.now, &mut input) {
                    Ok(None) => break,
                    Ok(Some(Event::Joined(joined))) => Happened::Joined(joined.numbered_down),
                    Ok(Some(Event::Packet { data, number, .. })) => {
                        Happened::Packet(number, data.to_vec())
                    }
                    Ok(Some(Event::Ended { .. } | Event::Malformed(_))) => panic!("it lives"),
                    Ok(Some(_)) => Happened::Other,
                    Err(error) => panic!("{error}"),
                };
                self.handle(id, happened)?;
                while let Some(event) = self.host.poll_event() {
                    assert!(!matches!(event, Event::Ended { .. }));
                }
                // It comes back.
                let mark = self.host.mark();
                self.host.taken_up(world.now, mark);
            }
        }
    }
}

/// Returns how many steps there are, what was applied, and what the client got.
fn killed_at(kill: Option<usize>) -> (usize, Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut world = world(demanding);
    let one = world.join();
    let (mut disk, mut left, mut steps) = (Disk::default(), kill, 0);
    let mut boot = 1;
    world.send(one.conn, b"1");
    world.send(one.conn, b"2");
    for text in [b"3", b"4"] {
        loop {
            let mut host = Host::new(HostConfig::default().asking([boot; 16]));
            host.restore(one.id, disk.up);
            let mut life = Life {
                host,
                disk: &mut disk,
                left: &mut left,
                steps: &mut steps,
            };
            let ran = life.run(&mut world, one.id);
            world.edge.handle_link_closed(world.now, Closed::Eof);
            while !world.edge.link_wants_connect(world.now) {
                world.wait(Duration::from_secs(1));
            }
            world.backend_comes();
            boot += 1;
            if ran.is_ok() {
                break;
            }
        }
        world.send(one.conn, text);
    }
    let heard = world.hear(one.conn);
    (
        steps,
        disk.applied,
        heard.into_iter().map(|packet| packet.to_vec()).collect(),
    )
}

#[test]
fn nothing_is_lost_or_doubled_wherever_a_backend_is_killed_that_saves() {
    let expected: Vec<Vec<u8>> = [b"1", b"2", b"3"].map(|text| text.to_vec()).into();
    let (steps, applied, heard) = killed_at(None);
    assert_eq!((&applied, &heard), (&expected, &expected));
    assert!(steps > 20, "{steps}");
    for at in 0..steps {
        let (_, applied, heard) = killed_at(Some(at));
        assert_eq!(applied, expected, "killed at step {at}");
        assert_eq!(heard, expected, "killed at step {at}");
    }
}

#[test]
fn a_session_that_is_restored_and_gone_has_ended() {
    let mut world = world(demanding);
    let one = world.join();
    let gone = ClientId::from_u64(77);
    let mut host = Host::new(HostConfig::default().asking(BOOT));
    host.restore(gone, 5);
    host.restore(one.id, 0);
    host.handle_connected(world.now);
    let ask = host.output().to_vec();
    host.handle_written(ask.len());
    world.edge.handle_link_bytes(world.now, &ask);
    let up = world.edge.link_takes(world.now, usize::MAX);
    let mut input = &up[..];
    while host.handle_bytes(world.now, &mut input).unwrap().is_some() {}
    let events: Vec<_> = core::iter::from_fn(|| host.poll_event()).collect();
    let ended = |event: &Event<'_>| matches!(event, Event::Ended { id, .. } if *id == gone);
    assert_eq!(events.iter().filter(|event| ended(event)).count(), 1);
    assert_eq!(host.sessions(), [one.id]);
}
