//! The beginning and the end of a connection.

use super::*;

impl Client {
    pub(super) fn establish(&mut self) -> Event<'static> {
        let resumed = matches!(self.state, State::AwaitPing | State::AwaitResumed);
        let steady_at = match self.session.steady_after() {
            Duration::ZERO => {
                self.pauses.reset();
                None
            }
            after => Some(self.now + after),
        };
        self.enter(State::Established, steady_at);
        if self.goodbye != Goodbye::No {
            self.part();
        }
        if self.keeper.is_some() && !resumed {
            // Packets go behind the answer.
            self.session.ask(self.now);
        }
        let id = self.id().expect("an established session has an id");
        if !self.tells_as_new(resumed) {
            let resumption = self.session.resumption();
            Event::Resumed {
                id,
                missed: resumption.missed,
                away: resumption.away,
            }
        } else {
            Event::Connected { id }
        }
    }

    /// Asks for the transport to be closed. `ending` tells what follows.
    pub(super) fn close_transport(&mut self, ending: Ending) {
        self.ending = Some(ending);
        self.enter(State::Closing, None);
    }

    /// Handles that the transport is gone. Partial data is discarded, except for a packet that it took in part.
    pub(super) fn end_connection(&mut self, ending: Ending) {
        self.reader.clear();
        self.session.lose();
        self.outbox.lose_transport();
        let ending = match ending {
            // Another session is only for packets that wait: a goodbye wants none.
            Ending::NotBegun(code, pause)
                if self.goodbye != Goodbye::No && self.outbox.is_empty() =>
            {
                Ending::Ended(code, String::new(), pause)
            }
            ending => ending,
        };
        match ending {
            Ending::Dropped(cause, pause) => self.retry(cause, pause),
            Ending::NotBegun(code, pause) => {
                self.session.forget();
                self.outbox
                    .resume_from(self.outbox.acked())
                    .expect("what is acknowledged was sent");
                self.retry(DropCause::Told(code), pause);
            }
            Ending::Refused(refusal) => {
                let ledgers = self.ledgers_now();
                self.end = Some(End::new(refusal.code(), refusal.to_string(), ledgers));
                if refusal == Refusal::UnknownOrExpired {
                    self.session.forget();
                }
                self.afresh = (self.now, AT_ONCE);
                self.may_start_over = true;
                self.enter(State::Ended, None);
                self.event = Some(Event::Refused(refusal));
            }
            Ending::Ended(code, text, pause) => {
                let end = End::new(code, text, self.ledgers_now());
                if let Some(keeper) = &mut self.keeper {
                    keeper.forget();
                }
                self.session.forget();
                self.outbox.clear();
                self.goodbye = Goodbye::No;
                self.may_start_over = end.code.class() == Class::Afresh;
                self.end = Some(end.clone());
                self.afresh = (self.now, pause);
                self.enter(State::Ended, None);
                self.event = Some(Event::Ended(end));
            }
        }
    }

    pub(super) fn retry(&mut self, cause: DropCause, pause: Pause) {
        let retry_in = self.pauses.next(pause, &mut self.draws);
        self.enter(State::Waiting, Some(self.now + retry_in));
        self.event = Some(Event::Dropped { cause, retry_in });
    }
}
