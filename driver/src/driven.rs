//! A client or a backend behind its lock. Whoever waits for it does its work.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::waiters::{For, READER, Relay, Ticket, Waiters};

/// A client or a backend, which the calls that wait for it drive.
pub(crate) trait Driven {
    /// Orders what is waited for.
    type Key: Ord + Copy;

    fn waiters(&mut self) -> &mut Waiters<Self::Key>;

    /// Returns whether the waker is registered for all I/O and the alarm. Nothing has to be done until it is woken.
    fn is_parked(&self) -> bool;

    /// Does what can be done. Events are kept for the reader.
    fn drive(&mut self, io: &mut Context<'_>);

    /// Wakes the waiters whose condition holds.
    fn settle(&mut self);
}

/// A driven machine with events for a reader.
pub(crate) trait Reads: Driven {
    type Event;

    /// Handles that the application came back for more, so it is done with the last event.
    fn come_back(&mut self, io: &mut Context<'_>);

    /// Returns an event that has come before, or a tick that comes before it.
    fn take_kept(&mut self, io: &mut Context<'_>) -> Option<Self::Event>;

    /// Does what can be done until there is an event for the reader, which is being polled.
    fn step_for_reader(&mut self, io: &mut Context<'_>) -> Poll<Self::Event>;

    /// Returns a tick that is due. There is none behind the end.
    fn take_tick(&mut self) -> Option<Self::Event>;

    /// Returns whether no more events will come.
    fn has_ended(&self) -> bool;

    /// Polls for the next event. `Ready(None)`: there will be none.
    fn poll_recv(&mut self, waker: &Waker, io: &mut Context<'_>) -> Poll<Option<Self::Event>> {
        self.waiters().withdraw(READER, For::Event);
        self.come_back(io);
        let polled = match self.take_kept(io) {
            Some(event) => Poll::Ready(Some(event)),
            None => {
                let waiters = self.waiters();
                waiters.attend(READER, waker);
                waiters.wait(READER, For::Event, waker);
                self.poll_new(io)
            }
        };
        if polled.is_ready() {
            let must_look = !self.is_parked();
            self.waiters().leave(READER, For::Event, must_look);
        }
        self.settle();
        polled
    }

    /// Polls for an event that has not come before.
    fn poll_new(&mut self, io: &mut Context<'_>) -> Poll<Option<Self::Event>> {
        if let Poll::Ready(event) = self.step_for_reader(io) {
            return Poll::Ready(Some(event));
        }
        match self.take_tick() {
            Some(tick) => Poll::Ready(Some(tick)),
            None if self.has_ended() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// Returns what there is without waiting, after one look at the I/O.
    fn try_recv(&mut self, io: &mut Context<'_>) -> Option<Self::Event> {
        self.come_back(io);
        let event = self.take_kept(io).or_else(|| {
            self.drive(io);
            self.take_kept(io).or_else(|| self.take_tick())
        });
        // This look may have used up the wake of a call that waits, or left it something to do.
        if !self.is_parked() {
            self.waiters().wake_driver();
        }
        self.settle();
        event
    }
}

/// The state that all handles share.
pub(crate) struct Shared<D> {
    core: Mutex<D>,
    /// The waker of all I/O.
    io: Waker,
}

impl<D: Driven> Shared<D> {
    /// Creates what is driven, with its waiters and the waker of all I/O.
    pub(crate) fn try_new<E>(
        make: impl FnOnce(Waiters<D::Key>) -> Result<D, E>,
    ) -> Result<Arc<Self>, E> {
        let relay = Arc::<Relay>::default();
        let io = Waker::from(Arc::clone(&relay));
        let core = Mutex::new(make(Waiters::new(relay))?);
        Ok(Arc::new(Shared { core, io }))
    }

    /// Calls `act`, and wakes the waiters that its changes concern.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut D, &mut Context<'_>) -> T) -> T {
        // A panic in between is a broken invariant of the machine, which cannot be used any more.
        let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
        let done = act(&mut core, &mut Context::from_waker(&self.io));
        let woken = core.waiters().take_woken();
        drop(core);
        // Outside of the lock, since a foreign waker may do anything.
        woken.into_iter().for_each(Waker::wake);
        done
    }

    /// Waits until `check` says so, and drives it meanwhile.
    pub(crate) async fn wait<T>(
        &self,
        what: For<D::Key>,
        mut check: impl FnMut(&mut D, &mut Context<'_>) -> Option<T>,
    ) -> T {
        let mut waiting = Waiting {
            shared: self,
            ticket: None,
            what,
        };
        poll_fn(|cx| {
            let ticket = &mut waiting.ticket;
            self.with(|core, io| poll_for(core, cx.waker(), io, (ticket, what), &mut check))
        })
        .await
    }

    /// Begins the wait of the reader.
    pub(crate) fn reading(&self) -> Waiting<'_, D> {
        Waiting {
            shared: self,
            ticket: Some(READER),
            what: For::Event,
        }
    }
}

/// A wait that may be dropped early. Another waiter is then woken for the I/O.
pub(crate) struct Waiting<'a, D: Driven> {
    pub(crate) shared: &'a Shared<D>,
    ticket: Option<Ticket>,
    what: For<D::Key>,
}

impl<D: Driven> Drop for Waiting<'_, D> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.shared.with(|core, _| leave(core, ticket, self.what));
        }
    }
}

/// Polls a waiter: it drives until `check` says that it is through.
fn poll_for<D: Driven, T>(
    core: &mut D,
    waker: &Waker,
    io: &mut Context<'_>,
    (ticket, what): (&mut Option<Ticket>, For<D::Key>),
    mut check: impl FnMut(&mut D, &mut Context<'_>) -> Option<T>,
) -> Poll<T> {
    let mut done = check(core, io);
    if done.is_none() {
        let waiters = core.waiters();
        let ticket = *ticket.get_or_insert_with(|| waiters.issue());
        waiters.withdraw(ticket, what);
        waiters.attend(ticket, waker);
        core.drive(io);
        done = check(core, io);
        if done.is_none() {
            core.waiters().wait(ticket, what, waker);
        }
    }
    if done.is_some()
        && let Some(ticket) = ticket.take()
    {
        let must_look = !core.is_parked();
        core.waiters().leave(ticket, what, must_look);
    }
    core.settle();
    done.map_or(Poll::Pending, Poll::Ready)
}

/// Forgets a waiter that was dropped.
fn leave<D: Driven>(core: &mut D, ticket: Ticket, what: For<D::Key>) {
    let must_look = !core.is_parked();
    core.waiters().leave(ticket, what, must_look);
    // It may have been woken for room that another one can use.
    core.settle();
}
