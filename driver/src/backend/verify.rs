//! Somebody verifies clients, before the application hears of them.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use voltlane_core::ClientId;

use super::Joined;
use crate::register::register;

/// Clients that are verified at a time. Further ones wait for their turn.
pub const MAX_VERIFYING: usize = 64;

/// Why a client is kept out: a code that its client sees, and a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
#[non_exhaustive]
pub struct Refuse {
    /// 401, 405, or 500 to 699. Another one counts as 405.
    pub code: u16,
    /// Words for people, of at most 256 bytes. More are cut.
    pub text: String,
}

impl Refuse {
    /// Refuses with this code and this text.
    #[must_use]
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Refuse {
            code,
            text: text.into(),
        }
    }
}

/// The note of a client, or why it is kept out.
pub(super) type Verdict = Result<String, Refuse>;
type Verifying = Pin<Box<dyn Future<Output = Verdict> + Send>>;
pub(super) type Check = Box<dyn Fn(Joined) -> Verifying + Send>;

/// Wakes the reader for one client.
#[derive(Default)]
struct Alarm {
    is_due: AtomicBool,
    reader: Arc<Mutex<Option<Waker>>>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_due.store(true, Ordering::Release);
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = reader.clone();
        // Outside of the lock, since a foreign waker may do anything.
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The clients that are being verified, while the application waits for events.
pub(super) struct Verifier {
    check: Check,
    running: BTreeMap<ClientId, (Verifying, Arc<Alarm>)>,
    reader: Arc<Mutex<Option<Waker>>>,
}

impl Verifier {
    pub(super) fn new(check: Check) -> Self {
        Verifier {
            check,
            running: BTreeMap::new(),
            reader: Arc::default(),
        }
    }

    pub(super) fn begin(&mut self, joined: Joined) {
        let id = joined.id;
        let alarm = Alarm {
            is_due: AtomicBool::new(true),
            reader: Arc::clone(&self.reader),
        };
        let verifying = (self.check)(joined);
        self.running.insert(id, (verifying, Arc::new(alarm)));
    }

    /// Goes on with those that have something to do. Returns the verdicts.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Vec<(ClientId, Verdict)> {
        if self.running.is_empty() {
            return Vec::new();
        }
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        register(&mut reader, cx.waker());
        drop(reader);
        let mut verdicts = Vec::new();
        self.running.retain(|&id, (verifying, alarm)| {
            if !alarm.is_due.swap(false, Ordering::AcqRel) {
                return true;
            }
            let waker = Waker::from(Arc::clone(alarm));
            match verifying.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => true,
                Poll::Ready(verdict) => {
                    verdicts.push((id, verdict));
                    false
                }
            }
        });
        verdicts
    }
}
