//! The streams of several edges, each with its turn. (SPEC 40.5)

use std::net::SocketAddr;
use std::task::{Context, Poll};

use voltlane_core::Time;
use voltlane_core::backend::fleet::{Fleet, LinkId};

use crate::accept::Acceptors;
use crate::io::{Read, Written};
use crate::watch::WatchedChannel;
use crate::{BoxedListener, BoxedStream};

/// A stream of an edge.
struct Open {
    link: LinkId,
    channel: WatchedChannel<BoxedStream>,
    address: SocketAddr,
}

/// The streams of several edges. The machine bounds their number: it asks for the end of those that are too many.
pub(super) struct Links {
    acceptors: Acceptors<BoxedListener>,
    open: Vec<Open>,
    /// The place of the stream that is read next.
    turn: usize,
}

impl Links {
    pub(super) fn new(acceptors: Acceptors<BoxedListener>) -> Self {
        Links {
            acceptors,
            open: Vec::new(),
            turn: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn address(&self, link: LinkId) -> Option<SocketAddr> {
        let open = self.open.iter().find(|open| open.link == link);
        open.map(|open| open.address)
    }

    /// Accepts an edge. Returns whether one has come.
    pub(super) fn accept(&mut self, io: &mut Context<'_>, now: Time, machine: &mut Fleet) -> bool {
        let Poll::Ready((stream, address, _)) = self.acceptors.poll_accept(io, now) else {
            return false;
        };
        let link = machine.handle_connected(now);
        self.open.push(Open {
            link,
            channel: WatchedChannel::new(stream),
            address,
        });
        true
    }

    /// Writes once to each stream. Returns true if something changed.
    pub(super) fn write(&mut self, io: &mut Context<'_>, now: Time, machine: &mut Fleet) -> bool {
        let mut changed = false;
        for Open { link, channel, .. } in &mut self.open {
            changed |= match channel.write(io, now, [machine.output(*link), &[]]) {
                Written::Nothing => channel.flush_fails(io),
                Written::Blocked => false,
                Written::Failed => true,
                Written::Bytes(bytes) => {
                    machine.handle_written(*link, bytes);
                    true
                }
            };
        }
        changed
    }

    /// Returns whether everything of the machine is written that can be.
    pub(super) fn is_written(&self, machine: &Fleet) -> bool {
        let mut open = self.open.iter();
        open.all(|open| open.channel.write_failed() || machine.output(open.link).is_empty())
    }

    /// Returns whether some stream takes no more, and is to be read to its end.
    pub(super) fn is_broken(&self) -> bool {
        self.open.iter().any(|open| open.channel.write_failed())
    }

    /// Reads the next stream that has something, once.
    pub(super) fn read(
        &mut self,
        io: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Option<(LinkId, Read)> {
        let count = self.open.len();
        for step in 0..count {
            let place = (self.turn + step) % count;
            let open = self.open.get_mut(place)?;
            let read = open.channel.read(io, buffer);
            if !matches!(read, Read::Blocked) {
                self.turn = place + 1;
                return Some((open.link, read));
            }
        }
        None
    }

    /// Returns a stream whose edge has acknowledged nothing for too long.
    pub(super) fn silent(&mut self, now: Time) -> Option<LinkId> {
        let mut open = self.open.iter_mut();
        open.find_map(|open| open.channel.is_given_up(now).then_some(open.link))
    }

    /// Returns a stream that the machine does not want any more.
    pub(super) fn unwanted(&self, machine: &Fleet) -> Option<LinkId> {
        let mut open = self.open.iter().map(|open| open.link);
        open.find(|link| machine.wants_close(*link))
    }

    /// Reads what has come on a stream, for the last time.
    pub(super) fn read_rest(
        &mut self,
        io: &mut Context<'_>,
        link: LinkId,
        buffer: &mut [u8],
    ) -> usize {
        let open = self.open.iter_mut().find(|open| open.link == link);
        match open.map(|open| open.channel.read(io, buffer)) {
            Some(Read::Bytes(bytes)) => bytes,
            _ => 0,
        }
    }

    /// Ends a stream at once.
    pub(super) fn abort(&mut self, link: LinkId) {
        if let Some(place) = self.open.iter().position(|open| open.link == link) {
            self.open.remove(place).channel.abort();
        }
    }

    /// Ends all streams in order, behind what was written. Ready once they have ended.
    pub(super) fn poll_finish(&mut self, io: &mut Context<'_>, scratch: &mut [u8]) -> Poll<()> {
        let mut all = Poll::Ready(());
        for open in &mut self.open {
            if open.channel.poll_finish(io, scratch).is_pending() {
                all = Poll::Pending;
            }
        }
        all
    }

    /// Drops all streams.
    pub(super) fn lose_all(&mut self) {
        self.open.clear();
    }

    /// Returns when something is to be done even if nothing happens.
    pub(super) fn deadline(&self) -> Option<Time> {
        let looks = self.open.iter().filter_map(|open| open.channel.next_look());
        self.acceptors.rests_until().into_iter().chain(looks).min()
    }
}
