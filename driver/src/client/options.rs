//! The options of a client, and what it needs of its runtime.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use voltlane_core::client::{ClientConfig, SavedSession, Saving};

use super::store::SessionStore;
use super::token::Ask;
use crate::{BoxedConnector, Connector, Runtime, Timer};

/// How long a client tries to reach an edge for the first time, unless its options say otherwise.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// The options of a client.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Bounds, timeouts, pauses, versions and pinned keys. Default: version 3, and version 2 with an edge that has no other.
    pub config: ClientConfig,
    /// The token that the client presents when it joins. Default: none.
    pub token: Option<Vec<u8>>,
    /// Whether a new session begins by itself after one whose end allows that. Default: false.
    pub start_over: bool,
    /// How long the client tries to begin its first session. Default: [`GIVE_UP_AFTER`]. `None`: for ever.
    pub give_up_after: Option<Duration>,
    /// How often there is a [tick](super::Event::Tick). Default: never.
    pub tick: Option<Duration>,
    /// A session of version 2 to be resumed. It cannot be combined with pinned keys, nor with version 3 alone.
    pub saved: Option<SavedSession>,
    /// What [`suspend`](super::Client::suspend) has returned, of either version, to go on with that session. It is used once: a second client
    /// with it is refused, or takes the session over. It cannot be combined with a store, which has it already.
    pub suspended: Option<Vec<u8>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            config: ClientConfig::default(),
            token: None,
            start_over: false,
            give_up_after: Some(GIVE_UP_AFTER),
            tick: None,
            saved: None,
            suspended: None,
        }
    }
}

impl fmt::Debug for Options {
    /// Does not show the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("config", &self.config)
            .field("start_over", &self.start_over)
            .field("give_up_after", &self.give_up_after)
            .field("tick", &self.tick)
            .finish_non_exhaustive()
    }
}

/// What a client needs of its runtime: the ways to its edge, a clock, and randomness.
pub struct Means {
    pub(super) connectors: Vec<BoxedConnector>,
    pub(super) timer: Box<dyn Timer>,
    pub(super) entropy: Entropy,
    pub(super) ask: Option<Ask>,
    pub(super) store: Option<(Box<dyn SessionStore>, Saving)>,
}

/// Returns 32 bytes that nobody can know or guess, different at each call.
pub(super) type Entropy = Box<dyn FnMut() -> [u8; 32] + Send>;

impl Means {
    /// Creates the means of a client. `entropy` returns 32 bytes of the system's randomness, different at each call, for the client's keys.
    pub fn new(
        connector: impl Connector,
        timer: impl Timer,
        entropy: impl FnMut() -> [u8; 32] + Send + 'static,
    ) -> Self {
        Means::boxed(
            BoxedConnector::new(connector),
            Box::new(timer),
            Box::new(entropy),
        )
    }

    /// Creates the means of a client on the runtime `R`, with this connector.
    pub fn on<R: Runtime>(connector: impl Connector) -> Self {
        Means::new(connector, R::Timer::default(), R::random)
    }

    /// Like [`new`](Self::new), with parts that are boxed already.
    #[must_use]
    pub fn boxed(
        connector: BoxedConnector,
        timer: Box<dyn Timer>,
        entropy: Box<dyn FnMut() -> [u8; 32] + Send>,
    ) -> Self {
        Means {
            connectors: vec![connector],
            timer,
            entropy,
            ask: None,
            store: None,
        }
    }

    /// Asks for a token before each attempt to join, in place of one in the [options](Options::token): one that is short-lived. A client
    /// that comes back asks for none.
    #[must_use]
    pub fn with_token<A>(mut self, ask: impl Fn() -> A + Send + 'static) -> Self
    where
        A: Future<Output = Vec<u8>> + Send + 'static,
    {
        self.ask = Some(Box::new(move || Box::pin(ask())));
        self
    }

    /// Keeps the session in this store, and goes on with what is in it. It is in place of [`Options::saved`].
    #[must_use]
    pub fn with_store(mut self, store: impl SessionStore, saving: Saving) -> Self {
        self.store = Some((Box::new(store), saving));
        self
    }

    /// Adds another connector, to be tried when the one before it fails.
    #[must_use]
    pub fn or(mut self, connector: BoxedConnector) -> Self {
        self.connectors.push(connector);
        self
    }
}

impl fmt::Debug for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Means").finish_non_exhaustive()
    }
}
