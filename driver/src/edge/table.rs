//! The clients' streams, by the index of their connections.

use std::sync::Arc;
use std::task::Waker;

use voltlane_core::Time;
use voltlane_core::edge::{ConnKey, Edge};

use super::wakers::Wakers;
use super::work::Work;
use crate::Stream;
use crate::io::Channel;
use crate::waker::{ReadyList, Token};

/// Entries that stay allocated for future clients.
pub(super) const KEPT_CAPACITY: usize = 1_024;

/// Kept small: an idle client of an edge takes little but this.
pub(super) struct Client<S> {
    pub(super) key: ConnKey,
    pub(super) channel: Channel<S, Notes>,
}

/// The state of a client's stream: the seven bytes that take no memory in its channel.
#[derive(Default)]
#[repr(Rust, packed)]
pub(super) struct Notes {
    /// The bytes that the transport holds, as the edge was last told.
    held_bytes: u32,
    pub(super) reading: Reading,
    /// Whether a write waits for the waker.
    pub(super) write_blocked: bool,
    /// Whether it is in the line for costly handshakes.
    pub(super) awaits_handshake: bool,
}

/// Whether a stream is read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reading {
    #[default]
    Read,
    /// It is read again, and still in the list of streams that are not.
    Listed,
    /// The edge wanted no bytes at the last check. The waker is not registered for reading, and the stream is in the list.
    Paused,
}

impl<S: Stream> Client<S> {
    /// Tells the edge what the transport read besides the stream, and what it holds. Returns the former.
    pub(super) fn tell(&mut self, edge: &mut Edge, now: Time) -> usize {
        let stream = self.channel.stream_mut();
        let overhead = stream.take_overhead();
        let held_bytes = stream.held_bytes();
        if overhead > 0 {
            stream.note_handshake(now, false);
            edge.handle_client_overhead(now, self.key, overhead);
        }
        let noted = u32::try_from(held_bytes).unwrap_or(u32::MAX);
        if noted != self.channel.notes.held_bytes {
            self.channel.notes.held_bytes = noted;
            edge.handle_client_held(now, self.key, held_bytes);
        }
        overhead
    }
}

impl Reading {
    /// Reads the stream again. It leaves the list when that is next walked.
    pub(super) fn resume(&mut self) {
        if *self == Reading::Paused {
            *self = Reading::Listed;
        }
    }
}

/// The table of streams, by [`ConnKey::index`], which is also each stream's token.
pub(super) struct Table<S> {
    places: Vec<Option<Client<S>>>,
    wakers: Wakers,
}

/// Returns the token of a client.
pub(super) fn token_of(key: ConnKey) -> Token {
    Token::try_from(key.index()).expect("connections are bounded by descriptors, which are 31 bits")
}

impl<S: Stream> Table<S> {
    pub(super) fn new(ready: &Arc<ReadyList>) -> Self {
        Table {
            places: Vec::new(),
            wakers: Wakers::new(ready),
        }
    }

    /// Returns the wakers of the streams.
    pub(super) fn wakers(&self) -> &Wakers {
        &self.wakers
    }

    /// Returns the number of places, some of which are free.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Adds an accepted stream, and queues it to be read.
    pub(super) fn insert(&mut self, key: ConnKey, stream: S, work: &mut Work) {
        let index = key.index();
        if self.places.len() <= index {
            self.places.resize_with(index + 1, || None);
            self.wakers.resize(self.places.len());
        }
        work.queue(&self.wakers, token_of(key));
        self.places[index] = Some(Client {
            key,
            channel: Channel::new(stream),
        });
    }

    /// Returns the client with this token, if there is one.
    pub(super) fn at(&mut self, token: Token) -> Option<&mut Client<S>> {
        self.places.get_mut(token as usize)?.as_mut()
    }

    /// Returns the client with this key, unless it is gone.
    pub(super) fn find(&mut self, key: ConnKey) -> Option<&mut Client<S>> {
        let client = self.places.get_mut(key.index())?.as_mut();
        client.filter(|client| client.key == key)
    }

    /// Returns the stream of the client with this key, if it has a socket that another process can go on with.
    #[cfg(all(feature = "upgrade", unix))]
    pub(super) fn movable(&self, key: ConnKey) -> Option<&S> {
        let client = self.places.get(key.index())?.as_ref();
        let client = client.filter(|client| client.key == key && !client.channel.write_failed())?;
        Some(client.channel.stream()).filter(|stream| stream.socket().is_some())
    }

    /// Returns its socket.
    #[cfg(all(feature = "upgrade", unix))]
    pub(super) fn socket(&self, key: ConnKey) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.movable(key)?.socket()
    }

    /// Like [`find`](Self::find), with its waker.
    pub(super) fn find_with_waker(&mut self, key: ConnKey) -> Option<(&mut Client<S>, Waker)> {
        let waker = self.wakers.waker(token_of(key))?;
        Some((self.find(key)?, waker))
    }

    /// Returns the stream of the client with this index, if there is one.
    pub(super) fn stream(&self, index: usize) -> Option<&S> {
        let client = self.places.get(index)?.as_ref()?;
        Some(client.channel.stream())
    }

    /// Returns whether there is a client with this key.
    pub(super) fn has(&self, key: ConnKey) -> bool {
        let client = self.places.get(key.index()).and_then(Option::as_ref);
        client.is_some_and(|client| client.key == key)
    }

    /// Removes the client with this key. The table shrinks after many have left.
    pub(super) fn remove(&mut self, key: ConnKey) -> Option<Client<S>> {
        let place = self.places.get_mut(key.index())?;
        let removed = place.take_if(|client| client.key == key);
        while let Some(None) = self.places.last() {
            self.places.pop();
        }
        self.wakers.resize(self.places.len());
        if self.places.capacity() > KEPT_CAPACITY.max(4 * self.places.len()) {
            self.places.shrink_to(2 * self.places.len());
        }
        removed
    }

    /// Removes all clients, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Client<S>> + use<S> {
        std::mem::take(&mut self.places).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_takes_16_bytes_beside_its_stream() {
        assert!(size_of::<Option<Client<usize>>>() <= size_of::<usize>() + 16);
    }
}
