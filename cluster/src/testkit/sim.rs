//! The engine of the simulator: the records of [`MemoryEngine`](crate::MemoryEngine), with answers that are late, come twice, get lost, are
//! old, make no sense or are those of a time before the last writes. A seed gives the same faults everywhere.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crate::engine::{Answer, Call, CallId, Engine, EngineError, Entry, Reply, Request};
use crate::memory::Store;
use crate::spread::Spread;

/// How often of 1,000 calls each fault happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "tests make it")]
pub struct Faults {
    /// The answer comes up to 5 s later.
    pub late: u64,
    /// The answer comes twice.
    pub doubled: u64,
    /// The call does not arrive.
    pub lost_call: u64,
    /// The call is carried out, and its answer does not arrive.
    pub lost_answer: u64,
    /// A record is read that is not the last one.
    pub stale: u64,
    /// A write is refused that is right.
    pub refused: u64,
    /// The answer makes no sense.
    pub nonsense: u64,
    /// The answer is that of another question.
    pub mixed: u64,
}

impl Faults {
    /// Each fault, once in `every` calls.
    #[must_use]
    pub fn all(every: u64) -> Faults {
        let of = 1_000 / every.max(1);
        Faults {
            late: of,
            doubled: of,
            lost_call: of,
            lost_answer: of,
            stale: of,
            refused: of,
            nonsense: of,
            mixed: of,
        }
    }
}

/// The store that engines of one simulation share.
#[derive(Clone, Debug)]
pub struct SimStore(Rc<RefCell<World>>);

#[derive(Debug)]
struct World {
    store: Store,
    /// The states before, the last one last.
    history: VecDeque<Store>,
    faults: Faults,
    is_down: bool,
    spread: Spread,
}

/// The states that can be gone back to.
const MAX_HISTORY: usize = 32;
/// The greatest delay of an answer, in milliseconds.
const MAX_DELAY: u64 = 5_000;

impl SimStore {
    /// Creates a store without records.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> SimStore {
        SimStore(Rc::new(RefCell::new(World {
            store: Store::default(),
            history: VecDeque::new(),
            faults,
            is_down: false,
            spread: Spread::new(seed),
        })))
    }

    /// Changes the faults of calls to come.
    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    /// Sets whether it can be reached.
    pub fn set_down(&self, is_down: bool) {
        self.0.borrow_mut().is_down = is_down;
    }

    /// Loses the last writes, although they were acknowledged. Their revisions are given again.
    pub fn roll_back(&self, writes: usize) {
        let world = &mut *self.0.borrow_mut();
        for _ in 0..writes {
            if let Some(before) = world.history.pop_back() {
                world.store = before;
            }
        }
    }

    /// Loses all records.
    pub fn forget(&self) {
        let world = &mut *self.0.borrow_mut();
        world.store = Store::default();
        world.history.clear();
    }

    /// Returns an engine over it.
    #[must_use]
    pub fn engine(&self) -> SimEngine {
        SimEngine {
            store: self.clone(),
            answers: Vec::new(),
        }
    }

    /// Returns the record of a home as it is.
    #[must_use]
    pub fn entry(&self, home: u16) -> Option<Entry> {
        let answer = self.0.borrow_mut().store.carry_out(Call::Read { home });
        match answer {
            Ok(Reply::Read(entry)) => entry,
            _ => None,
        }
    }

    /// Writes a record whatever there is, as an operator may.
    pub fn put(&self, home: u16, value: &[u8]) {
        let expected = self.entry(home).map_or(0, |entry| entry.revision);
        let value = value.to_vec();
        let call = Call::Write {
            home,
            expected,
            value,
        };
        let _ = self.0.borrow_mut().store.carry_out(call);
    }
}

impl World {
    fn happens(&mut self, of: u64) -> bool {
        of > 0 && self.spread.below(1_000) < of
    }

    fn answer(&mut self, call: Call) -> Answer {
        let faults = self.faults;
        if self.happens(faults.nonsense) {
            return Err(EngineError::Nonsense("by plan".to_owned()));
        }
        if self.happens(faults.mixed) {
            return Ok(match call {
                Call::Read { .. } => Reply::Written(1),
                Call::Write { .. } | Call::List => Reply::Read(None),
            });
        }
        match &call {
            Call::Write { .. } => {
                if self.happens(faults.refused) {
                    return Err(EngineError::Refused);
                }
                if self.history.len() == MAX_HISTORY {
                    self.history.pop_front();
                }
                let before = self.store.clone();
                let answer = self.store.carry_out(call);
                if answer.is_ok() {
                    self.history.push_back(before);
                }
                answer
            }
            Call::Read { .. } | Call::List => {
                let back = self.spread.below(8) as usize + 1;
                let is_stale = self.happens(faults.stale);
                let before = self.history.len().checked_sub(back);
                match before.and_then(|at| self.history.get_mut(at)) {
                    Some(old) if is_stale => old.carry_out(call),
                    _ => self.store.carry_out(call),
                }
            }
        }
    }
}

/// An engine whose answers have faults.
#[derive(Debug)]
pub struct SimEngine {
    store: SimStore,
    answers: Vec<(Duration, CallId, Answer)>,
}

impl Engine for SimEngine {
    fn call(&mut self, now: Duration, request: Request) {
        let world = &mut *self.store.0.borrow_mut();
        let faults = world.faults;
        if world.is_down {
            let error = EngineError::Unreachable("by plan".to_owned());
            self.answers.push((now, request.id, Err(error)));
            return;
        }
        if world.happens(faults.lost_call) {
            return;
        }
        let answer = world.answer(request.call);
        if world.happens(faults.lost_answer) {
            return;
        }
        let delay = match world.happens(faults.late) {
            true => Duration::from_millis(world.spread.below(MAX_DELAY)),
            false => Duration::ZERO,
        };
        if world.happens(faults.doubled) {
            let again = Duration::from_millis(world.spread.below(MAX_DELAY));
            self.answers.push((now + again, request.id, answer.clone()));
        }
        self.answers.push((now + delay, request.id, answer));
    }

    fn poll(&mut self, now: Duration) -> Option<(CallId, Answer)> {
        let due = self.answers.iter().position(|(at, ..)| *at <= now)?;
        let (_, id, answer) = self.answers.remove(due);
        Some((id, answer))
    }

    fn poll_timeout(&self) -> Option<Duration> {
        self.answers.iter().map(|(at, ..)| *at).min()
    }
}
