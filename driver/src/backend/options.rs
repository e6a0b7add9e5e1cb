//! What a backend is given when it begins.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::backend::host::{HostConfig, LinkSecret};

use super::verify::{Check, Refuse};
use super::{Joined, Overflow};
use crate::{BoxedListener, Listener, Runtime, Timer};

/// The options of a backend.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Bounds of the link, and of what is known of sessions.
    pub config: HostConfig,
    /// Whether each edge is asked for version 3 of the link, which tells who comes, goes and is away, and loses nothing. An edge that does not
    /// grant it gets version 2, after a second of silence at most. Default: false.
    pub asks: bool,
    /// How many edges there may be, up to [`MAX_EDGES`](super::MAX_EDGES). `None`: what the configuration says, which is one by default. Several
    /// take version 3 of the link.
    pub edges: Option<usize>,
    /// What becomes of a client for which there is no room: its session ends, or packets are given up and both ends are told. Default: it ends.
    pub overflow: Overflow,
    /// The secret that each edge must prove, and that is proven to it (SPEC 34.5). With one each edge is asked for version 3, and gets nothing
    /// if it does not grant it. Default: none.
    pub secret: Option<LinkSecret>,
    /// Sessions of which an earlier life of the application has saved how many of their packets it came back from: see
    /// [`Builder::restore`](super::Builder::restore). Default: none.
    pub restored: Vec<(ClientId, u64)>,
    /// How often there is a [tick](super::Event::Tick). Default: never.
    pub tick: Option<Duration>,
}

/// What a backend needs of its runtime: where its edge comes, a clock, and randomness.
pub struct Means {
    pub(super) listeners: Vec<BoxedListener>,
    pub(super) timer: Box<dyn Timer>,
    pub(super) seed: [u8; 32],
    pub(super) verify: Option<Check>,
}

impl Means {
    /// `seed` is 32 bytes of the system's randomness. The numbers of groups, and the name of this life of the
    /// backend, are made of them.
    pub fn new(listener: impl Listener, timer: impl Timer, seed: [u8; 32]) -> Self {
        Means {
            listeners: vec![BoxedListener::new(listener)],
            timer: Box::new(timer),
            seed,
            verify: None,
        }
    }

    /// What a backend has on the runtime `R`, with a listener of its own.
    pub fn on<R: Runtime>(listener: impl Listener) -> Self {
        Means::new(listener, R::Timer::default(), R::random())
    }

    /// Verifies clients before the application hears of them: see [`Builder::verify`](super::Builder::verify).
    #[must_use]
    pub fn verify<F, R>(mut self, check: F) -> Self
    where
        F: Fn(Joined) -> R + Send + 'static,
        R: Future<Output = Result<String, Refuse>> + Send + 'static,
    {
        self.verify = Some(Box::new(move |joined| Box::pin(check(joined))));
        self
    }

    /// Adds another place where the edge may come, as for a name with several addresses.
    #[must_use]
    pub fn and(mut self, listener: impl Listener) -> Self {
        self.listeners.push(BoxedListener::new(listener));
        self
    }
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Means").finish_non_exhaustive()
    }
}
