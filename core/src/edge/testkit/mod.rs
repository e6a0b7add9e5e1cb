//! What tests, simulators, fuzz targets and benchmarks do with an edge, in virtual time and without sockets. It is behind the feature
//! `testkit`, which no program has.
//!
//! Here is their adapter: a world decides when and how much its transports take and bring, and the adapter does the rest as [`Edge`]'s
//! contract requires. `audit.rs` checks the machine between two calls, `observed.rs` tells whether a session has changed, and `lifecycle/fork.rs`
//! copies the machine.

mod audit;
mod observed;

use crate::edge::{CloseKind, Closed, ConnKey, Deadline, Duty, Edge, HasLink as _};
use crate::id::ShardId;
use crate::time::Time;

/// How many connections may be listed in a row before that counts as endless.
const ENDLESS: usize = 1_000_000;

/// What an adapter does, for an [`Edge`].
pub trait Adapter {
    /// Returns what waits to be written to this client, if its connection is neither to be closed nor handed over.
    fn client_output(&mut self, conn: ConnKey) -> [&[u8]; 2];

    /// Returns how this connection is to be closed, if it is.
    fn client_close(&mut self, conn: ConnKey) -> Option<CloseKind>;

    /// Returns the shard to which this connection is to be handed over, if it is.
    fn client_handover(&mut self, conn: ConnKey) -> Option<ShardId>;

    /// Gives this connection the entropy that `draw` returns, if its next step needs some. Returns whether it did.
    fn give_entropy(&mut self, now: Time, conn: ConnKey, draw: impl FnOnce() -> [u8; 32]) -> bool;

    /// Lists the connections of which something has changed, each once.
    fn listed(&mut self) -> impl Iterator<Item = ConnKey>;

    /// Passes over the connections of which something has changed, as an adapter does that looks at all of them by itself.
    ///
    /// # Panics
    /// When the list does not end.
    fn skip_listed(&mut self);

    /// Makes the transport of a client take up to `most` bytes, and returns them.
    fn client_takes(&mut self, now: Time, conn: ConnKey, most: usize) -> Vec<u8>;

    /// Makes the transport of a client take everything that it is offered at once, without a copy. Returns how much that is.
    fn client_drains(&mut self, now: Time, conn: ConnKey, hear: impl FnOnce([&[u8]; 2])) -> usize;

    /// Closes the connection if that is asked for. Returns how.
    fn close_if_asked(&mut self, now: Time, conn: ConnKey) -> Option<CloseKind>;

    /// Connects to the backend at once, whether or not it is time to.
    fn link_up(&mut self, now: Time);

    /// Makes the transport of the link take up to `most` bytes, and returns them.
    fn link_takes(&mut self, now: Time, most: usize) -> Vec<u8>;

    /// Advances `now` to the next deadline up to `until`, handles it, and returns it. Without one, `now` is `until`.
    ///
    /// What a deadline of the link asks for, to dial again, is left to the caller.
    fn handle_next(&mut self, now: &mut Time, until: Time) -> Option<Deadline>;
}

impl Adapter for Edge {
    fn client_output(&mut self, conn: ConnKey) -> [&[u8]; 2] {
        match self.client_duty(conn) {
            Duty::Write(output) => output,
            _ => [&[], &[]],
        }
    }

    fn client_close(&mut self, conn: ConnKey) -> Option<CloseKind> {
        match self.client_duty(conn) {
            Duty::Close(kind) => Some(kind),
            _ => None,
        }
    }

    fn client_handover(&mut self, conn: ConnKey) -> Option<ShardId> {
        match self.client_duty(conn) {
            Duty::HandOver(shard) => Some(shard),
            _ => None,
        }
    }

    fn give_entropy(&mut self, now: Time, conn: ConnKey, draw: impl FnOnce() -> [u8; 32]) -> bool {
        let needs_some = self.client_duty(conn) == Duty::Entropy;
        if needs_some {
            self.handle_entropy(now, conn, draw());
        }
        needs_some
    }

    fn listed(&mut self) -> impl Iterator<Item = ConnKey> {
        core::iter::from_fn(|| self.poll_client())
    }

    fn skip_listed(&mut self) {
        let listed = self.listed().take(ENDLESS).count();
        assert!(listed < ENDLESS, "the list of connections ends");
    }

    fn client_takes(&mut self, now: Time, conn: ConnKey, most: usize) -> Vec<u8> {
        let mut bytes = self.client_output(conn).concat();
        bytes.truncate(most);
        self.handle_client_written(now, conn, bytes.len());
        bytes
    }

    fn client_drains(&mut self, now: Time, conn: ConnKey, hear: impl FnOnce([&[u8]; 2])) -> usize {
        let Duty::Write(output) = self.client_duty(conn) else {
            return 0;
        };
        let bytes = output.iter().map(|part| part.len()).sum();
        hear(output);
        self.handle_client_written(now, conn, bytes);
        bytes
    }

    fn close_if_asked(&mut self, now: Time, conn: ConnKey) -> Option<CloseKind> {
        let kind = self.client_close(conn)?;
        self.handle_client_closed(now, conn, Closed::Asked);
        Some(kind)
    }

    fn link_up(&mut self, now: Time) {
        self.handle_link_connecting(now);
        self.handle_link_connected(now);
    }

    fn link_takes(&mut self, now: Time, most: usize) -> Vec<u8> {
        let mut bytes = self.link_output().concat();
        bytes.truncate(most);
        self.handle_link_written(now, bytes.len());
        bytes
    }

    fn handle_next(&mut self, now: &mut Time, until: Time) -> Option<Deadline> {
        let due = self.poll_timeout().filter(|due| due.at <= until);
        *now = due.map_or(until, |due| due.at).max(*now);
        if due.is_some() {
            self.handle_timeout(*now);
        }
        due
    }
}
