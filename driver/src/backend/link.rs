//! The stream of the edge, and the next one.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use tracing::{info, warn};
use voltlane_core::Time;
use voltlane_core::backend::Rivals;
use voltlane_core::backend::fleet::{Fleet, LinkId};

use crate::accept::Acceptors;
use crate::io::{Read, Written};
use crate::watch::WatchedChannel;
use crate::{BoxedListener, BoxedStream};

/// One link at a time. An edge that connects while there is one takes its place, once that has nothing more to read.
pub(super) struct Link {
    acceptors: Acceptors<BoxedListener>,
    channel: Option<WatchedChannel<BoxedStream>>,
    /// The name of the stream for the machine.
    pub(super) link: Option<LinkId>,
    /// The address of the edge, and since when the link is up.
    peer: Option<(SocketAddr, Time)>,
    rivals: Rivals,
    /// An edge that waits until the link of its predecessor has been read.
    successor: Option<(BoxedStream, SocketAddr)>,
}

/// What came of a look at the listeners.
pub(super) enum Accepted {
    Nothing,
    /// Something is to be done first.
    Progress,
    /// Another edge has come, and the link has nothing more to read.
    Replaced,
    /// There is a link.
    Edge,
}

impl Link {
    pub(super) fn new(listeners: Vec<BoxedListener>) -> Option<Self> {
        let mut listeners = listeners.into_iter();
        let mut acceptors = Acceptors::new(listeners.next()?);
        listeners.for_each(|listener| acceptors.push(listener));
        Some(Link {
            acceptors,
            channel: None,
            link: None,
            peer: None,
            rivals: Rivals::default(),
            successor: None,
        })
    }

    /// Takes out what accepts: there are several links in place of this one.
    pub(super) fn take_acceptors(&mut self) -> Acceptors<BoxedListener> {
        self.acceptors.take()
    }

    pub(super) fn is_up(&self) -> bool {
        self.channel.is_some()
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.peer.map(|(address, _)| address)
    }

    /// Returns whether the stream takes no more, and is to be read to its end.
    pub(super) fn is_broken(&self) -> bool {
        self.channel
            .as_ref()
            .is_some_and(|link| link.write_failed())
    }

    /// Accepts the edge. A connection that replaces a link waits until that has nothing more to read.
    pub(super) fn accept(&mut self, io: &mut Context<'_>, now: Time, may_read: bool) -> Accepted {
        if let Poll::Ready((stream, source, _)) = self.acceptors.poll_accept(io, now) {
            // Replaces another one that still waited, whose edge has given it up in turn.
            self.successor = Some((stream, source));
            if self.channel.is_some() {
                // The last packets of the old link may have arrived meanwhile.
                return Accepted::Progress;
            }
        }
        if self.channel.is_some() {
            return match &self.successor {
                Some((_, by)) if may_read => {
                    let by = *by;
                    self.tell_replaced(by, now);
                    Accepted::Replaced
                }
                _ => Accepted::Nothing,
            };
        }
        let Some((stream, address)) = self.successor.take() else {
            return Accepted::Nothing;
        };
        self.channel = Some(WatchedChannel::new(stream));
        self.peer = Some((address, now));
        Accepted::Edge
    }

    /// Logs whose place the connection from `by` takes.
    fn tell_replaced(&mut self, by: SocketAddr, now: Time) {
        let Some((address, since)) = self.peer else {
            return;
        };
        let lasted = now.since(since);
        if self.rivals.replaced(lasted) {
            warn!(
                %by, %address, ?lasted,
                "connections take each other's place again and again: two edges are likely at this backend, which serves one. \
                 Give each edge a backend of its own"
            );
        } else {
            info!(%by, %address, ?lasted, "a new connection takes the place of the edge's link");
        }
    }

    /// Writes once. Returns true if something changed.
    pub(super) fn write(&mut self, io: &mut Context<'_>, now: Time, machine: &mut Fleet) -> bool {
        let (Some(channel), Some(link)) = (&mut self.channel, self.link) else {
            return false;
        };
        match channel.write(io, now, [machine.output(link), &[]]) {
            Written::Nothing => channel.flush_fails(io),
            Written::Blocked => false,
            Written::Failed => true,
            Written::Bytes(bytes) => {
                machine.handle_written(link, bytes);
                true
            }
        }
    }

    /// Reads once.
    pub(super) fn read(&mut self, io: &mut Context<'_>, buffer: &mut [u8]) -> Read {
        let Some(channel) = &mut self.channel else {
            return Read::Blocked;
        };
        let read = channel.read(io, buffer);
        if matches!(read, Read::Eof | Read::Failed | Read::Answered) {
            self.rivals.ended();
        }
        read
    }

    /// Drops the stream if the edge has acknowledged nothing for too long. Returns whether it did.
    pub(super) fn gives_up(&mut self, now: Time) -> bool {
        let silent = self.channel.take_if(|link| link.is_given_up(now));
        silent.map(WatchedChannel::abort).is_some()
    }

    /// Drops the stream.
    pub(super) fn lose(&mut self) {
        self.channel = None;
        self.peer = None;
    }

    /// Ends the stream at once.
    pub(super) fn abort(&mut self) {
        if let Some(channel) = self.channel.take() {
            channel.abort();
        }
    }

    /// Ends the stream in order, behind what was written. Ready once it has ended or there is none.
    pub(super) fn poll_finish(&mut self, io: &mut Context<'_>, scratch: &mut [u8]) -> Poll<()> {
        match &mut self.channel {
            Some(channel) => channel.poll_finish(io, scratch),
            None => Poll::Ready(()),
        }
    }

    /// Returns when something is to be done even if nothing happens.
    pub(super) fn deadline(&self) -> Option<Time> {
        let next_look = self.channel.as_ref().and_then(|link| link.next_look());
        let rests = self.acceptors.rests_until();
        rests.into_iter().chain(next_look).min()
    }
}
