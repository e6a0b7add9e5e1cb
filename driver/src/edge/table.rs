//! The clients' streams, by the index of their connections.

use std::sync::Arc;
use std::task::Waker;

use voltlane_core::Time;
use voltlane_core::edge::{ConnKey, Edge};

use super::work::Work;
use crate::Stream;
use crate::io::Channel;
use crate::waker::{SourceWaker, Token};

/// Entries that stay allocated for future clients.
pub(super) const KEPT_CAPACITY: usize = 1_024;

/// Kept small: an idle client of an edge takes little but this.
pub(super) struct Client<S> {
    pub(super) key: ConnKey,
    pub(super) channel: Channel<S, Notes>,
    pub(super) source: Arc<SourceWaker>,
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
    /// Returns its waker. It is made for each turn, which takes less than the memory for one per client.
    pub(super) fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.source))
    }

    /// Tells the edge what the transport read besides the stream, and what it holds. Returns the former.
    pub(super) fn tell(&mut self, edge: &mut Edge, now: Time) -> usize {
        let stream = self.channel.stream_mut();
        let overhead = stream.take_overhead();
        let held_bytes = stream.held_bytes();
        if overhead > 0 {
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
pub(super) struct Table<S>(Vec<Option<Client<S>>>);

impl<S: Stream> Table<S> {
    pub(super) fn new() -> Self {
        Table(Vec::new())
    }

    /// Returns the number of places, some of which are free.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds an accepted stream, and queues it to be read.
    pub(super) fn insert(&mut self, key: ConnKey, stream: S, work: &mut Work) {
        let index = key.index();
        let token = Token::try_from(index)
            .expect("connections are bounded by descriptors, which are 31 bits");
        let source = SourceWaker::new(token, work.ready());
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        work.queue(&source);
        self.0[index] = Some(Client {
            key,
            channel: Channel::new(stream),
            source,
        });
    }

    /// Returns the client with this token, if there is one.
    pub(super) fn at(&mut self, token: Token) -> Option<&mut Client<S>> {
        self.0.get_mut(token as usize)?.as_mut()
    }

    /// Returns the client with this key, unless it is gone.
    pub(super) fn find(&mut self, key: ConnKey) -> Option<&mut Client<S>> {
        let client = self.0.get_mut(key.index())?.as_mut();
        client.filter(|client| client.key == key)
    }

    /// Returns whether there is a client with this key.
    pub(super) fn has(&self, key: ConnKey) -> bool {
        let client = self.0.get(key.index()).and_then(Option::as_ref);
        client.is_some_and(|client| client.key == key)
    }

    /// Removes the client with this key. The table shrinks after many have left.
    pub(super) fn remove(&mut self, key: ConnKey) -> Option<Client<S>> {
        let place = self.0.get_mut(key.index())?;
        let removed = place.take_if(|client| client.key == key);
        while let Some(None) = self.0.last() {
            self.0.pop();
        }
        if self.0.capacity() > KEPT_CAPACITY.max(4 * self.0.len()) {
            self.0.shrink_to(2 * self.0.len());
        }
        removed
    }

    /// Removes all clients, in order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Client<S>> + use<S> {
        std::mem::take(&mut self.0).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_takes_24_bytes_beside_its_stream() {
        assert!(size_of::<Option<Client<usize>>>() <= size_of::<usize>() + 24);
    }
}
