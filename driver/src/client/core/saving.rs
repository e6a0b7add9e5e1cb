//! What a client stores, and what it tells of that.

use std::io;
use std::sync::Arc;

use voltlane_core::Time;
use voltlane_core::client::{self as machine, Code, End};
use voltlane_core::protocol::Version;

use super::{Core, Leaving};
use crate::client::Suspended;
use crate::client::heard::{Heard, Lent, hear};
use crate::client::store::SUSPEND_WITHIN;

/// What came of an attempt to store.
#[derive(PartialEq, Eq)]
enum Stored {
    /// There was nothing to store.
    Nothing,
    Done,
    Failed,
}

impl Core {
    /// Stores what must be stored now. Returns whether it has. Without that nothing leaves, so a disk that is full is like a network that is
    /// down.
    pub(super) fn saves(&mut self) -> bool {
        self.store_if_wanted() == Stored::Done
    }

    fn store_if_wanted(&mut self) -> Stored {
        let Some(store) = self.store.as_mut().filter(|_| self.machine.wants_save()) else {
            return Stored::Nothing;
        };
        match store.store(&self.machine.to_save()) {
            Ok(()) => {
                self.machine.handle_saved();
                Stored::Done
            }
            Err(error) => {
                tracing::error!(%error, "the session cannot be stored");
                self.transport.error = Some(Arc::new(error));
                self.machine.drop_connection();
                Stored::Failed
            }
        }
    }

    /// Takes what was read, up to an event. `None` if there is none for the application.
    pub(super) fn take_unread(&mut self) -> Option<Heard> {
        let now = self.timer.now();
        let mut input = &self.buffer[self.unread.clone()];
        let event = self.machine.handle_bytes(now, &mut input);
        self.has_more = event.is_some();
        let begun = match event {
            Some(machine::Event::Connected { id }) => Some(id),
            _ => None,
        };
        let heard = event
            .filter(|_| begun.is_none())
            .and_then(|event| hear(event, self.session, &mut self.id));
        self.unread.start = self.unread.end - input.len();
        // The application hears of no session that is not stored. (SPEC 46.1(h))
        match (self.store_if_wanted(), begun) {
            (Stored::Failed, _) | (_, None) => heard,
            (_, Some(id)) => hear(machine::Event::Connected { id }, self.session, &mut self.id),
        }
    }

    /// Stores the application's state, and with it what it has taken.
    pub(in crate::client) fn save_state(&mut self, state: &[u8]) -> io::Result<()> {
        let Some(store) = &mut self.store else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let now = self.timer.now();
        if let Some(Lent { number, session }) = &self.lent
            && *session == self.session
        {
            self.machine.taken(now, *number);
        }
        let set = self.machine.set_state(now, state);
        set.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        store.store(&self.machine.to_save())?;
        self.machine.handle_saved();
        self.tell_driver();
        Ok(())
    }

    /// Begins to leave with the session.
    pub(in crate::client) fn suspend(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Until(self.timer.now() + SUSPEND_WITHIN);
            self.tell_driver();
        }
    }

    /// Returns when the client leaves, whatever was sent.
    pub(super) fn leaves_at(&self) -> Option<Time> {
        match self.leaving {
            Leaving::Until(at) => Some(at),
            Leaving::No | Leaving::Over => None,
        }
    }

    /// Returns whether the client that leaves has nothing to wait for. What version 3 sends is kept with the session.
    pub(super) fn may_leave(&self) -> bool {
        self.leaves_at().is_some_and(|at| {
            let is_sent =
                || self.flushed >= self.machine.acknowledged() && !self.machine.has_unsent();
            self.machine.version() != Version::V2 || is_sent() || at <= self.timer.now()
        })
    }

    /// Leaves with the session, once it may. `None`: not yet.
    pub(in crate::client) fn leave(&mut self) -> Option<io::Result<Option<Suspended>>> {
        if self.is_over() {
            return Some(Ok(None));
        }
        self.may_leave().then(|| {
            let content = self.id.map(|_| self.machine.to_save());
            let stored = match (&mut self.store, &content) {
                (Some(store), Some(content)) => store.store(content),
                _ => Ok(()),
            };
            self.transport.lose();
            // It lets go of the session.
            self.store = None;
            let end = End::new(
                Code::GOODBYE,
                "left without a goodbye",
                self.machine.ledgers(),
            );
            self.note_end(self.acked(), &end);
            self.leaving = Leaving::Over;
            stored.map(|()| content.map(Suspended))
        })
    }
}
