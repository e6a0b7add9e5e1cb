//! Other clients that must be admitted during an attack: owners that come back, or newcomers.

use std::time::Duration;

use super::WINDOW;
use super::kinds::{Others, ROUND_TRIP};
use crate::load::fleet::{Client, Event, Fleet, Next, Speech};
use crate::load::payload::Clock;
use crate::load::sources::Sources;
use crate::load::{Bench, LoadError};
use crate::wire;

const READY_WITHIN: Duration = Duration::from_secs(10);

/// The other clients, and whether they have begun.
pub(super) struct Company {
    fleet: Fleet,
    clock: Clock,
    others: Others,
}

impl Company {
    /// Prepares them: owners join, send something and may leave; newcomers do nothing yet.
    pub(super) fn gather(others: Others, bench: &Bench) -> Result<Self, LoadError> {
        let clock = Clock::start();
        let mut fleet = Fleet::new(bench.running.address, Speech::V2, 1, clock)?;
        match others {
            Others::Nobody => {}
            Others::Newcomers(_) => fleet.come_from(Sources::apart(2)),
            Others::Owners(owners)
            | Others::OwnersApart(owners)
            | Others::KnownOwners(owners)
            | Others::Dropped(owners) => {
                let leaves = !matches!(others, Others::Dropped(_));
                match others {
                    Others::OwnersApart(owners) => {
                        let networks = u32::try_from(owners).expect("they are few");
                        fleet.come_from(Sources::others_apart(networks));
                    }
                    Others::KnownOwners(_) => fleet.answer_after = ROUND_TRIP,
                    _ => {}
                }
                fleet.add(owners);
                let mut heard = 0;
                while heard < owners && clock.now() < READY_WITHIN {
                    fleet.turn(clock.now() + WINDOW, &mut |client, event| match event {
                        Event::Ready => wire::put_frame(&mut client.out, &[7; 16]),
                        // Its echo: now the session has carried packets both ways.
                        Event::Packet(_) => {
                            heard += 1;
                            client.next = if leaves { Next::Leave } else { Next::Stay };
                        }
                        Event::Closed => client.next = Next::Rejoin,
                    })?;
                }
                if heard < owners {
                    return Err(LoadError::NotReady {
                        phase: "owners that join before the attack",
                        ready: heard,
                        clients: owners,
                        within: READY_WITHIN,
                    });
                }
            }
        }
        Ok(Self {
            fleet,
            clock,
            others,
        })
    }

    /// Makes them begin.
    pub(super) fn set_out(&mut self) {
        match self.others {
            Others::Nobody => {}
            Others::Newcomers(count) => self.fleet.add(count),
            Others::Owners(count)
            | Others::OwnersApart(count)
            | Others::KnownOwners(count)
            | Others::Dropped(count) => {
                for index in 0..count {
                    self.fleet.clients[index].next = Next::Resume;
                    self.fleet.flush(index, &mut |_, _| {});
                }
            }
        }
    }

    /// Checks each of them once. Those that were turned away retry.
    pub(super) fn go_on(&mut self) -> Result<(), LoadError> {
        if self.others == Others::Nobody {
            return Ok(());
        }
        let again = match self.others {
            Others::Newcomers(_) => Next::Rejoin,
            _ => Next::Resume,
        };
        let mut on = |client: &mut Client, event: Event<'_>| {
            if event == Event::Closed {
                client.next = again;
            }
        };
        self.fleet.turn(self.clock.now(), &mut on)?;
        for index in 0..self.fleet.clients.len() {
            // A delayed response is written without an event that asks for it.
            self.fleet.flush(index, &mut on);
        }
        Ok(())
    }

    /// Returns their ids.
    pub(super) fn ids(&self) -> Vec<u64> {
        self.fleet.clients.iter().map(|client| client.id).collect()
    }

    /// Returns how many were admitted, and how many there are.
    pub(super) fn are_in(&self) -> (usize, usize) {
        (self.fleet.ready(), self.others.count())
    }
}
