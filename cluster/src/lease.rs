//! The lease of a home, as a state machine. (SPEC 43.4, 43.5, 43.6)
//!
//! Its user carries each [`Request`] of [`poll_call`](Lease::poll_call) to an engine, and each answer to
//! [`handle_answer`](Lease::handle_answer). No answer may come, or it may come late, twice or for another call: the machine bounds each wait
//! and knows its calls.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::{Answer, CALL_TIMEOUT, Call, CallId, EngineError, Entry, Reply, Request};
use crate::record::{ClusterName, Holder, MAX_LEASE, MIN_LEASE, Record, RecordError};
use crate::spread::Spread;

/// The lease is renewed when this part of it is over. (SPEC 43.4(c))
const RENEWALS: u32 = 3;
/// The first pause after a failure. Each further one is twice as long, up to the time between two renewals. (SPEC 43.2(f))
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A clock beyond this, in the year 2105, is not asked for a term, or no home would have terms left. (SPEC 43.4(b))
const MAX_CLOCK: u64 = 0xff00_0000;
/// Events that are not taken yet. The oldest has to go.
const MAX_EVENTS: usize = 64;

/// A moment, as the user of a lease tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "users make it")]
pub struct Moment {
    /// The time since any start, which never goes back. All waits are measured by it.
    pub at: Duration,
    /// Seconds since 1970, by a clock that may be wrong.
    pub unix: u64,
}

/// What a lease is for.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "users make it")]
pub struct LeaseConfig {
    /// The cluster.
    pub cluster: ClusterName,
    /// The home.
    pub home: u16,
    /// How long the home is held after each write.
    pub lease: Duration,
    /// A number of this process alone.
    pub nonce: u64,
    /// Its machine and process, for people.
    pub label: String,
    /// The address of its backend.
    pub backend: String,
    /// For the spread of retries.
    pub seed: u64,
}

/// What has happened to a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Another process has the home, and holds it for so long if it is not renewed.
    Waits {
        /// That process.
        holder: Holder,
        /// Its term.
        term: u32,
        /// The longest time until it is known to be gone.
        at_most: Duration,
    },
    /// The home is held, with this term.
    Taken {
        /// The term.
        term: u32,
    },
    /// The engine does not do what it is asked, for the first time since it did.
    Troubled(Trouble),
    /// It does again.
    Recovered,
    /// The home could not be renewed in time, so another process may take it. It is held until one has.
    RanOut,
    /// Another process has the home, with a later term: this one has lost it for certain.
    Lost {
        /// That process, unless it has given the home back already.
        holder: Option<Holder>,
        /// Its term.
        term: u32,
    },
    /// The home was given back.
    GivenBack,
}

/// Why a lease makes no progress.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The engine does not do it.
    #[error("{0}")]
    Engine(#[from] EngineError),
    /// The record of the home is none of this cluster. It is left alone.
    #[error("home {home}: {error}. Delete it if no edge uses it")]
    Record {
        /// The home.
        home: u16,
        /// What is wrong with it.
        error: RecordError,
    },
    /// The home has no terms left.
    #[error("home {0} has no terms left: delete its record and restart the backends")]
    NoTerms(u16),
}

/// How a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It was not held yet.
    Waits,
    /// It is held.
    Held,
    /// It is held, and the engine does not do what it is asked.
    Troubled,
    /// It was not renewed in time, and nobody is known to have taken it.
    RanOut,
    /// Another process has it.
    Lost,
    /// It was given back.
    GivenBack,
}

/// What is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    revision: u64,
    term: u32,
    /// Until then nobody takes it, if the engine has lost nothing.
    until: Duration,
}

/// What a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Take(u32),
    Renew,
    GiveBack,
}

/// What was asked, and is not answered.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Look,
    Write(Purpose),
}

/// What is due next.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The record is read.
    Look,
    /// It is written at this revision.
    Write(Purpose, u64),
}

/// A record of another process, which is taken for gone when it has stayed as it is for as long as its lease.
#[derive(Clone, Copy, Debug)]
struct Seen {
    revision: u64,
    nonce: u64,
    since: Duration,
}

/// The lease of a home. (SPEC 43.4)
#[derive(Debug)]
pub struct Lease {
    config: LeaseConfig,
    run: Option<u64>,
    is_linked: bool,
    next: Next,
    due: Duration,
    calls: u64,
    pending: Option<(CallId, Asked, Duration)>,
    /// When the last write began.
    written: Duration,
    held: Option<Held>,
    seen: Option<Seen>,
    failures: u32,
    trouble: Option<Trouble>,
    has_run_out: bool,
    is_ending: bool,
    over: Option<Standing>,
    strays: u64,
    spread: Spread,
    events: VecDeque<Event>,
}

impl Lease {
    /// Begins to take the home. A lease out of [`MIN_LEASE`] to [`MAX_LEASE`] becomes the nearest of them.
    #[must_use]
    pub fn new(now: Moment, mut config: LeaseConfig) -> Lease {
        config.lease = config.lease.clamp(MIN_LEASE, MAX_LEASE);
        Lease {
            run: None,
            is_linked: false,
            next: Next::Look,
            due: now.at,
            calls: 0,
            pending: None,
            written: now.at,
            held: None,
            seen: None,
            failures: 0,
            trouble: None,
            has_run_out: false,
            is_ending: false,
            over: None,
            strays: 0,
            spread: Spread::new(config.seed),
            events: VecDeque::new(),
            config,
        }
    }

    /// Tells what the next records say of this edge.
    pub fn describe(&mut self, run: Option<u64>, is_linked: bool) {
        self.run = run;
        self.is_linked = is_linked;
    }

    /// Returns the call that is due, if there is one. While one waits for its answer, no other is.
    pub fn poll_call(&mut self, now: Moment) -> Option<Request> {
        if let Some((_, asked, sent)) = self.pending
            && now.at >= sent + CALL_TIMEOUT
        {
            self.pending = None;
            self.fail(now, asked, EngineError::Late.into());
        }
        self.notice_end(now);
        if self.over.is_some() || self.pending.is_some() || now.at < self.due {
            return None;
        }
        let home = self.config.home;
        let (asked, call) = match self.next {
            Next::Look => (Asked::Look, Call::Read { home }),
            Next::Write(purpose, expected) => {
                self.written = now.at;
                let value = self.record(purpose, now).encode(&self.config.cluster, home);
                let call = Call::Write {
                    home,
                    expected,
                    value,
                };
                (Asked::Write(purpose), call)
            }
        };
        self.calls += 1;
        let id = CallId::new(self.calls);
        self.pending = Some((id, asked, now.at));
        Some(Request { id, call })
    }

    /// Returns when [`poll_call`](Lease::poll_call) is due next. `None`: never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.over.is_some() {
            return None;
        }
        let next = match self.pending {
            Some((_, _, sent)) => sent + CALL_TIMEOUT,
            None => self.due,
        };
        let end = self.held.filter(|_| !self.has_run_out);
        Some(end.map_or(next, |held| next.min(held.until)))
    }

    /// Handles the answer to a call. One that nothing waits for is counted, and else ignored.
    pub fn handle_answer(&mut self, now: Moment, id: CallId, answer: Answer) {
        let Some((_, asked, sent)) = self.pending.filter(|(pending, ..)| *pending == id) else {
            self.strays += 1;
            return;
        };
        self.pending = None;
        if now.at >= sent + CALL_TIMEOUT {
            // A process that was paused finds it. What it says may be long over.
            self.strays += 1;
            self.fail(now, asked, EngineError::Late.into());
            return self.notice_end(now);
        }
        match (asked, answer) {
            (Asked::Look, Ok(Reply::Read(None))) => self.found_nothing(now, 0),
            (Asked::Look, Ok(Reply::Read(Some(entry)))) if entry.home == self.config.home => {
                self.found(now, &entry);
            }
            (Asked::Write(purpose), Ok(Reply::Written(revision))) => {
                self.stands(now, purpose, revision);
            }
            (Asked::Write(_), Err(EngineError::Refused)) => {
                // An engine may refuse what is right, so a refusal is no trouble, and no reason to ask at once again and again.
                self.failures = self.failures.saturating_add(1);
                self.next = Next::Look;
                self.due = match self.failures {
                    1 => now.at,
                    _ => now.at + self.pause(),
                };
            }
            (asked, Err(error)) => self.fail(now, asked, error.into()),
            (asked, Ok(_)) => {
                let error = EngineError::Nonsense("it answers another question".to_owned());
                self.fail(now, asked, error.into());
            }
        }
        self.notice_end(now);
    }

    /// Begins to give the home back. A home that is not held is only left.
    pub fn give_back(&mut self, now: Moment) {
        if self.is_ending || self.over.is_some() {
            return;
        }
        self.is_ending = true;
        match (self.held, self.pending) {
            // A take may stand without an answer: its record is looked for.
            (None, None | Some((_, Asked::Look, _))) => {
                self.end(Standing::GivenBack, Event::GivenBack);
            }
            (None, Some(_)) => {}
            (Some(held), _) => {
                self.next = Next::Write(Purpose::GiveBack, held.revision);
                self.due = now.at;
            }
        }
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns the term, while the home is held.
    #[must_use]
    pub fn term(&self) -> Option<u32> {
        self.held
            .filter(|_| self.over.is_none())
            .map(|held| held.term)
    }

    /// Returns how it is.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (self.over, self.held) {
            (Some(over), _) => over,
            (None, None) => Standing::Waits,
            (None, Some(_)) if self.has_run_out => Standing::RanOut,
            (None, Some(_)) if self.trouble.is_some() => Standing::Troubled,
            (None, Some(_)) => Standing::Held,
        }
    }

    /// Returns until when nobody else takes the home, while it is held, is not being given back, and the engine loses nothing.
    #[must_use]
    pub fn held_until(&self) -> Option<Duration> {
        self.held
            .filter(|_| self.over.is_none() && !self.is_ending)
            .map(|held| held.until)
    }

    /// Returns why it makes no progress, if that is so.
    #[must_use]
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Returns how many answers came that nothing waited for.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    fn record(&self, purpose: Purpose, now: Moment) -> Record {
        let term = match purpose {
            Purpose::Take(term) => term,
            Purpose::Renew | Purpose::GiveBack => self.held.map_or(1, |held| held.term),
        };
        Record {
            term,
            lease: self.config.lease,
            written: now.unix,
            holder: (purpose != Purpose::GiveBack).then(|| Holder {
                nonce: self.config.nonce,
                run: self.run,
                label: self.config.label.clone(),
                backend: self.config.backend.clone(),
                is_linked: self.is_linked,
            }),
        }
    }

    fn every(&self) -> Duration {
        self.config.lease / RENEWALS
    }

    /// Returns the pause before the next try, which grows with each failure.
    fn pause(&mut self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        let most = FIRST_PAUSE * 2_u32.saturating_pow(doublings);
        self.spread.upper_half(most.min(self.every()))
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn end(&mut self, as_: Standing, event: Event) {
        self.over = Some(as_);
        self.pending = None;
        self.tell(event);
    }

    /// Tells once that the time is over for which the home was held.
    fn notice_end(&mut self, now: Moment) {
        if self.over.is_none()
            && !self.has_run_out
            && self.held.is_some_and(|held| now.at >= held.until)
        {
            self.has_run_out = true;
            self.tell(Event::RanOut);
        }
    }

    /// The engine did not do it, and perhaps did. What stands is read before anything else is written. (SPEC 43.2(e))
    fn fail(&mut self, now: Moment, asked: Asked, trouble: Trouble) {
        self.failures = self.failures.saturating_add(1);
        self.next = match (asked, self.held) {
            (Asked::Look, _) | (Asked::Write(_), None) => Next::Look,
            // Without an answer the revision may be another one by now. With it a write would be refused, and then the record is read.
            (Asked::Write(purpose), Some(held)) => Next::Write(purpose, held.revision),
        };
        self.due = now.at + self.pause();
        if self.trouble.replace(trouble.clone()).is_none() {
            self.tell(Event::Troubled(trouble));
        }
    }

    /// The engine did what it was asked.
    fn succeed(&mut self) {
        self.failures = 0;
        if self.trouble.take().is_some() {
            self.tell(Event::Recovered);
        }
    }

    fn stands(&mut self, now: Moment, purpose: Purpose, revision: u64) {
        self.succeed();
        let until = self.written + self.config.lease;
        match (purpose, self.held) {
            (Purpose::GiveBack, _) => return self.end(Standing::GivenBack, Event::GivenBack),
            // A short lease is over before a slow answer.
            (Purpose::Take(_), _) if until <= now.at => {
                self.next = Next::Look;
                self.due = now.at;
                return;
            }
            (Purpose::Take(term), _) => self.hold(term, revision, until),
            (Purpose::Renew, Some(held)) => self.hold(held.term, revision, until),
            (Purpose::Renew, None) => {}
        }
        self.go_on(now);
    }

    fn hold(&mut self, term: u32, revision: u64, until: Duration) {
        if self.held.is_none() {
            self.tell(Event::Taken { term });
        }
        self.has_run_out = false;
        self.held = Some(Held {
            revision,
            term,
            until,
        });
    }

    /// Renews the home after a while, or gives it back at once.
    fn go_on(&mut self, now: Moment) {
        let Some(held) = self.held else { return };
        let every = self.every();
        (self.next, self.due) = match self.is_ending {
            true => (Next::Write(Purpose::GiveBack, held.revision), now.at),
            false => {
                let pause = self.spread.upper_half(every);
                (Next::Write(Purpose::Renew, held.revision), now.at + pause)
            }
        };
    }

    /// Writes the home at this revision, at once.
    fn write(&mut self, now: Moment, purpose: Purpose, expected: u64) {
        let purpose = match purpose {
            Purpose::Renew if self.is_ending => Purpose::GiveBack,
            other => other,
        };
        self.next = Next::Write(purpose, expected);
        self.due = now.at;
    }

    /// There is no record: nobody has ever had the home, or the engine has forgotten it.
    fn found_nothing(&mut self, now: Moment, revision: u64) {
        match self.held {
            // What was written under this term is written again. (SPEC 43.5(d))
            Some(_) => self.write(now, Purpose::Renew, revision),
            None => self.take(now, 0, revision),
        }
    }

    fn found(&mut self, now: Moment, entry: &Entry) {
        if entry.value.is_empty() {
            return self.found_nothing(now, entry.revision);
        }
        let home = self.config.home;
        let record = match Record::decode(&entry.value, &self.config.cluster, home) {
            Ok(record) => record,
            Err(_) if self.leaves() => return,
            Err(error) => return self.fail(now, Asked::Look, Trouble::Record { home, error }),
        };
        let is_own = |holder: &Holder| holder.nonce == self.config.nonce;
        match (self.held, record.holder) {
            // A write of ours whose answer did not come. When it was is not known, so it is written again.
            (None, Some(holder)) if is_own(&holder) => match self.is_ending {
                false => self.write(now, Purpose::Take(record.term), entry.revision),
                true => {
                    self.held = Some(Held {
                        revision: entry.revision,
                        term: record.term,
                        until: now.at,
                    });
                    self.has_run_out = true;
                    self.write(now, Purpose::GiveBack, entry.revision);
                }
            },
            (None, Some(holder)) => {
                self.wait(now, entry.revision, record.term, record.lease, holder)
            }
            (None, None) => self.take(now, record.term, entry.revision),
            (Some(held), Some(holder)) if is_own(&holder) || record.term < held.term => {
                // Ours in an earlier state or of an earlier term: the answer is old, or the engine has lost writes. A write at this
                // revision shows which. (SPEC 43.5(d))
                self.held = Some(Held {
                    revision: entry.revision,
                    ..held
                });
                self.write(now, Purpose::Renew, entry.revision);
            }
            (Some(held), None) if record.term <= held.term => {
                self.held = Some(Held {
                    revision: entry.revision,
                    ..held
                });
                self.write(now, Purpose::Renew, entry.revision);
            }
            (Some(_), holder) => {
                let term = record.term;
                self.end(Standing::Lost, Event::Lost { holder, term });
            }
        }
    }

    /// Ends if there is nothing to give back after all. Returns whether it has.
    fn leaves(&mut self) -> bool {
        let leaves = self.is_ending && self.held.is_none();
        if leaves {
            self.end(Standing::GivenBack, Event::GivenBack);
        }
        leaves
    }

    /// Takes the home after its last `term`. (SPEC 43.4(b))
    fn take(&mut self, now: Moment, term: u32, revision: u64) {
        if self.leaves() {
            return;
        }
        let clock = Some(now.unix).filter(|unix| *unix <= MAX_CLOCK);
        let clock = clock.and_then(|unix| u32::try_from(unix).ok());
        match term.checked_add(1) {
            Some(next) => {
                let next = next.max(clock.unwrap_or(0));
                self.write(now, Purpose::Take(next), revision);
            }
            None => {
                let trouble = Trouble::NoTerms(self.config.home);
                self.fail(now, Asked::Look, trouble);
            }
        }
    }

    /// Waits until the holder gives the home back, or until its record has stayed as it is for as long as its lease. (SPEC 43.4(d))
    fn wait(&mut self, now: Moment, revision: u64, term: u32, lease: Duration, holder: Holder) {
        if self.leaves() {
            return;
        }
        self.succeed();
        let known = self.seen.filter(|seen| seen.revision == revision);
        let seen = known.unwrap_or(Seen {
            revision,
            nonce: holder.nonce,
            since: now.at,
        });
        let end = seen.since + lease;
        if known.is_some() && now.at >= end {
            self.seen = None;
            return self.take(now, term, revision);
        }
        if self.seen.is_none_or(|before| before.nonce != holder.nonce) {
            self.tell(Event::Waits {
                holder,
                term,
                at_most: end - now.at,
            });
        }
        self.seen = Some(seen);
        let every = self.every();
        let pause = self.spread.upper_half(every);
        self.next = Next::Look;
        self.due = end.min(now.at + pause);
    }
}
