//! The engine within one process: for tests, and for edges that a process has of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::engine::{
    Answer, Call, CallId, Engine, EngineError, Entry, MAX_VALUE_BYTES, Reply, Request,
};
use crate::record::MAX_HOME;

/// The records of a cluster, by home.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    revision: u64,
    records: BTreeMap<u16, (u64, Vec<u8>)>,
}

impl Store {
    /// Carries out a call. (SPEC 43.2)
    pub(crate) fn carry_out(&mut self, call: Call) -> Answer {
        match call {
            Call::Read { home } => Ok(Reply::Read(self.entry(home))),
            Call::Write {
                home,
                expected,
                value,
            } => {
                if value.len() > MAX_VALUE_BYTES {
                    return Err(EngineError::TooLarge(value.len()));
                }
                let known = self.records.get(&home).map_or(0, |(revision, _)| *revision);
                if known != expected {
                    return Err(EngineError::Refused);
                }
                self.revision += 1;
                self.records.insert(home, (self.revision, value));
                Ok(Reply::Written(self.revision))
            }
            Call::List => {
                let homes = self.records.keys().filter(|home| **home <= MAX_HOME);
                Ok(Reply::List(
                    homes.filter_map(|home| self.entry(*home)).collect(),
                ))
            }
        }
    }

    fn entry(&self, home: u16) -> Option<Entry> {
        let (revision, value) = self.records.get(&home)?;
        Some(Entry {
            home,
            revision: *revision,
            value: value.clone(),
        })
    }
}

/// An engine within one process. Its clones have the same records, and each has its own calls.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    store: Arc<Mutex<Store>>,
    answers: VecDeque<(CallId, Answer)>,
}

impl MemoryEngine {
    /// Creates an engine without records.
    #[must_use]
    pub fn new() -> MemoryEngine {
        MemoryEngine::default()
    }
}

impl Clone for MemoryEngine {
    fn clone(&self) -> Self {
        MemoryEngine {
            store: Arc::clone(&self.store),
            answers: VecDeque::new(),
        }
    }
}

impl Engine for MemoryEngine {
    fn call(&mut self, _: Duration, request: Request) {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = store.carry_out(request.call);
        self.answers.push_back((request.id, answer));
    }

    fn poll(&mut self, _: Duration) -> Option<(CallId, Answer)> {
        self.answers.pop_front()
    }
}
