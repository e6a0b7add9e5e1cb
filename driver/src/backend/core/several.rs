//! The links of several edges. (SPEC 40)

use std::net::SocketAddr;
use std::task::{Context, Poll};

use tracing::{info, warn};
use voltlane_core::backend::fleet::LinkId;
use voltlane_core::backend::host::Mark;

use super::{Closing, Core, Event, Heard};
use crate::backend::EdgeInfo;
use crate::io::Read;

impl Core {
    /// Returns the address of the edge of a stream.
    pub(super) fn address_of(&self, link: LinkId) -> Option<SocketAddr> {
        match &self.links {
            Some(links) => links.address(link),
            None => self.link.address(),
        }
    }

    /// Notes the mark of a frame that came.
    pub(super) fn see(&mut self, mark: Mark) {
        let seen = self.seen.iter_mut().find(|seen| seen.is_of_edge(mark));
        match seen {
            Some(seen) => *seen = mark.max(*seen),
            None => self.seen.push(mark),
        }
    }

    /// Ends a stream at once. Returns what is told, if the application knows of it.
    pub(super) fn abort_link(&mut self, link: LinkId) -> Option<Heard> {
        match &mut self.links {
            Some(links) => {
                links.abort(link);
                self.lose_one(link)
            }
            None => {
                self.link.abort();
                self.lose()
            }
        }
    }

    /// The stream of one of several edges is gone. Returns what is told, if the application knows of it.
    fn lose_one(&mut self, link: LinkId) -> Option<Heard> {
        if self.unread_of == Some(link) {
            self.unread = 0..0;
        }
        let edge = self.machine.edge_of(link);
        self.machine.handle_closed(link);
        let told = self.told_of.iter().position(|told| *told == link)?;
        self.told_of.remove(told);
        let event = Event::EdgeLost { edge };
        let mark = Mark::NONE;
        // The next link of that edge may have been told already.
        edge.map(|_| Heard { event, mark })
    }

    /// Closes a stream that the machine does not want. What has come on it is read, so that it is counted.
    fn close_unwanted(&mut self, io: &mut Context<'_>, link: LinkId) -> Option<Heard> {
        let (address, now) = (self.address_of(link), self.timer.now());
        let is_fenced = self.machine.is_fenced(link);
        if self.unread.is_empty()
            && is_fenced
            && let Some(links) = &mut self.links
        {
            let bytes = links.read_rest(io, link, &mut self.buffer);
            let mut input = &self.buffer[..bytes];
            let _ = self.machine.handle_bytes(link, now, &mut input);
        }
        match is_fenced {
            true => info!(
                ?address,
                "the link of an edge is closed, whose place another link has taken"
            ),
            false => warn!(
                ?address,
                "the edge does not grant version 3 of the link; its link is closed"
            ),
        }
        self.abort_link(link)
    }

    /// Does what [`step`](Core::step) does, for several edges.
    pub(super) fn step_several(
        &mut self,
        io: &mut Context<'_>,
        steps: &mut usize,
        reads: bool,
    ) -> Poll<Heard> {
        while *steps > 0 {
            *steps -= 1;
            let is_broken = self.links.as_ref().is_some_and(|links| links.is_broken());
            let may_read = reads || is_broken;
            if may_read && let Some(heard) = self.take_read() {
                return Poll::Ready(heard);
            }
            if self.is_over() {
                return self.park();
            }
            let now = self.timer.now();
            if let Closing::Until(until) = self.closing {
                if self.go_on_closing(io, now, until).is_pending() {
                    return self.park();
                }
                continue;
            }
            self.machine.handle_timeout(now);
            let Some(links) = &mut self.links else {
                return self.park();
            };
            if let Some(link) = links.unwanted(&self.machine) {
                match self.close_unwanted(io, link) {
                    Some(heard) => return Poll::Ready(heard),
                    None => continue,
                }
            }
            let mut moved = links.write(io, now, &mut self.machine);
            let mut lost = None;
            if may_read {
                match links.read(io, &mut self.buffer) {
                    Some((link, Read::Bytes(bytes))) => {
                        self.unread = 0..bytes;
                        self.unread_of = Some(link);
                        continue;
                    }
                    Some((link, _)) => lost = Some(link),
                    None => {}
                }
            }
            if lost.is_none() {
                moved |= links.accept(io, now, &mut self.machine);
                lost = links.silent(now);
            }
            if let Some(link) = lost {
                match self.abort_link(link) {
                    Some(heard) => return Poll::Ready(heard),
                    None => continue,
                }
            }
            if moved {
                continue;
            }
            if let Some(outcome) = self.end_turn(io) {
                return outcome;
            }
        }
        self.waiters.wake_driver();
        self.park()
    }

    /// Returns what is known of the edges.
    pub(in crate::backend) fn edges(&self) -> Vec<EdgeInfo> {
        let edges = self.machine.edges().into_iter();
        let edges = edges.filter(|state| !state.is_given_up);
        let edges = edges.map(|state| EdgeInfo {
            edge: state.edge,
            address: state.link.and_then(|link| self.address_of(link)),
            sessions: state.sessions,
        });
        edges.collect()
    }

    /// Gives up an edge.
    pub(in crate::backend) fn give_up(&mut self, home: u16) -> bool {
        let gives_up = self.machine.give_up(home);
        if gives_up {
            // Its ends are to be told.
            self.is_parked = false;
            self.waiters.wake_driver();
        }
        gives_up
    }

    /// Writes to all streams.
    pub(super) fn write_links(&mut self, io: &mut Context<'_>) {
        let now = self.timer.now();
        match &mut self.links {
            Some(links) => drop(links.write(io, now, &mut self.machine)),
            None => drop(self.link.write(io, now, &mut self.machine)),
        }
    }
}
