//! What all engines that are servers have in common: one connection at a time, what waits for it, and the next server when one fails.

mod asked;
mod connection;
mod credentials;
mod dial;
mod reader;
mod text;

use std::collections::VecDeque;
use std::fmt;
use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use zeroize::Zeroizing;

use self::connection::{Connection, READ_BYTES};
use crate::engine::{Answer, Call, CallId, EngineError, MAX_CALLS, MAX_VALUE_BYTES, Request};
use crate::record::ClusterName;
use crate::spread::Spread;

pub(crate) use self::asked::Asked;
pub use self::credentials::Credentials;
#[cfg(feature = "testkit")]
pub(crate) use self::reader::said_in_pieces;
#[cfg(test)]
pub(crate) use self::reader::tests::is_read_however_it_is_cut;
pub(crate) use self::reader::{Buffer, Parse, Reader, body, line};
pub(crate) use self::text::{check_version, nonsense, plain};

/// The pause between attempts to connect, from half of it on.
const PAUSE: Duration = Duration::from_millis(500);
/// The most reads of a poll: a server that always has something to say delays neither what is due nor the user. The rest is read at the next
/// poll, at once, since the socket is still readable.
const MAX_READS: usize = 64;

/// Where an engine is.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "users make it")]
pub struct EngineConfig {
    /// The servers, each as host and port. One after the other is tried, until one will do.
    pub servers: Vec<(String, u16)>,
    /// The cluster, by which its records are found.
    pub cluster: ClusterName,
    /// What the servers are told.
    pub credentials: Option<Credentials>,
    /// For the names of what is asked, and for the spread of attempts.
    pub seed: u64,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Opening,
    Ready,
    /// This server will not do, for this reason. Another one may.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "any NATS will do"))]
    Unfit(&'static str),
}

/// What one connection speaks, which has no socket and no clock.
pub(crate) trait Wire: fmt::Debug {
    type Parser: Parse;

    /// Whether the seed decides which server is tried first. If not, it is the first one that is named.
    const BEGINS_ANYWHERE: bool;

    /// Begins to speak.
    fn open(turn: &mut Turn<'_>) -> Self;

    /// Takes what the server says. With an error, the connection is of no use.
    fn handle(
        &mut self,
        turn: &mut Turn<'_>,
        said: <Self::Parser as Parse>::Said,
    ) -> Result<(), EngineError>;

    fn progress(&self) -> Progress;

    /// Begins a call, once it is ready.
    fn begin(&mut self, turn: &mut Turn<'_>, request: Request);

    /// Returns the calls that wait for answers.
    fn calls(&self) -> impl Iterator<Item = CallId>;

    /// Returns when the first of what waits for an answer was asked.
    fn waits_since(&self) -> Option<Duration>;
}

/// What stays when a connection ends.
#[derive(Debug)]
pub(crate) struct Common {
    config: EngineConfig,
    spread: Spread,
    answers: VecDeque<(CallId, Answer)>,
    strays: u64,
}

/// What a connection has of its engine for one step.
pub(crate) struct Turn<'a> {
    pub(crate) now: Duration,
    pub(crate) config: &'a EngineConfig,
    pub(crate) spread: &'a mut Spread,
    /// What is to be written.
    pub(crate) output: &'a mut Zeroizing<Vec<u8>>,
    answers: &'a mut VecDeque<(CallId, Answer)>,
    strays: &'a mut u64,
}

impl<'a> Turn<'a> {
    fn new(now: Duration, output: &'a mut Zeroizing<Vec<u8>>, common: &'a mut Common) -> Turn<'a> {
        Turn {
            now,
            config: &common.config,
            spread: &mut common.spread,
            output,
            answers: &mut common.answers,
            strays: &mut common.strays,
        }
    }

    pub(crate) fn answer(&mut self, id: CallId, answer: Answer) {
        self.answers.push_back((id, answer));
    }

    /// Counts an answer that came twice, or is the one to a question of nobody.
    pub(crate) fn count_stray(&mut self) {
        *self.strays += 1;
    }
}

/// An engine over the protocol of its servers.
#[derive(Debug)]
pub(crate) struct ServerEngine<W: Wire> {
    common: Common,
    /// The server that is tried next.
    server: usize,
    connection: Option<Box<Connection<W>>>,
    retry_at: Duration,
    /// Servers that would not do, one after the other.
    passed_over: usize,
    /// Calls for which there is no connection yet.
    waiting: VecDeque<Request>,
}

impl<W: Wire> ServerEngine<W> {
    pub(crate) fn new(config: EngineConfig) -> ServerEngine<W> {
        let mut spread = Spread::new(config.seed);
        let server = match config.servers.len() {
            servers @ 1.. if W::BEGINS_ANYWHERE => (spread.next() % servers as u64) as usize,
            _ => 0,
        };
        ServerEngine {
            common: Common {
                config,
                spread,
                answers: VecDeque::new(),
                strays: 0,
            },
            server,
            connection: None,
            retry_at: Duration::ZERO,
            passed_over: 0,
            waiting: VecDeque::new(),
        }
    }

    pub(crate) fn strays(&self) -> u64 {
        self.common.strays
    }

    /// Returns all calls that have no answer, in the order in which they fail.
    fn calls(&self) -> impl Iterator<Item = CallId> {
        let asked = self.connection.iter();
        let asked = asked.flat_map(|connection| connection.wire.calls());
        asked.chain(self.waiting.iter().map(|request| request.id))
    }

    /// Everything that waits has this answer, and the next server is tried after a pause.
    fn fail(&mut self, now: Duration, error: &EngineError) {
        let all: Vec<CallId> = self.calls().collect();
        let all = all.into_iter().map(|id| (id, Err(error.clone())));
        self.common.answers.extend(all);
        self.waiting.clear();
        self.passed_over = 0;
        let pause = self.common.spread.upper_half(PAUSE);
        self.leave(now + pause);
    }

    /// Ends the connection. The next server is tried at this time.
    fn leave(&mut self, retry_at: Duration) {
        self.connection = None;
        self.server = self.server.wrapping_add(1);
        self.retry_at = retry_at;
    }

    /// Reads and writes what can be.
    fn drive(&mut self, now: Duration) -> Result<(), EngineError> {
        let gone = |error: io::Error| EngineError::Unreachable(error.to_string());
        if self.connection.is_none() {
            if self.waiting.is_empty() || now < self.retry_at {
                return Ok(());
            }
            let opened = Connection::open(now, self.server, &mut self.common).map_err(gone)?;
            self.connection = Some(Box::new(opened));
        }
        let mut bytes = [0; READ_BYTES];
        for _ in 0..MAX_READS {
            let Some(connection) = &mut self.connection else {
                return Ok(());
            };
            connection.flush().map_err(gone)?;
            if !connection.read(&mut bytes).map_err(gone)? {
                break;
            }
            while let Some(connection) = &mut self.connection
                && connection.handle_next(now, &mut self.common)?
            {
                self.advance(now)?;
            }
        }
        let due = self.connection.as_ref().and_then(|open| open.due());
        match due {
            Some(due) if now >= due => Err(EngineError::Late),
            _ => Ok(()),
        }
    }

    /// Does what the connection is ready for. A server that will not do is left at once, unless none of them will.
    fn advance(&mut self, now: Duration) -> Result<(), EngineError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        match connection.wire.progress() {
            Progress::Opening => {}
            Progress::Ready => {
                self.passed_over = 0;
                let (wire, mut turn) = connection.turn(now, &mut self.common);
                for request in self.waiting.drain(..) {
                    wire.begin(&mut turn, request);
                }
            }
            Progress::Unfit(why) => {
                self.passed_over += 1;
                if self.passed_over >= self.common.config.servers.len() {
                    return Err(EngineError::Unreachable(why.to_owned()));
                }
                self.leave(now);
            }
        }
        Ok(())
    }

    /// Returns why a call cannot be made now.
    fn refusal(&self, call: &Call) -> Option<EngineError> {
        match call {
            Call::Write { value, .. } if value.len() > MAX_VALUE_BYTES => {
                Some(EngineError::TooLarge(value.len()))
            }
            _ if self.calls().count() >= MAX_CALLS => {
                Some(EngineError::Failed("too many calls at once".to_owned()))
            }
            _ => None,
        }
    }

    pub(crate) fn call(&mut self, now: Duration, request: Request) {
        if let Some(error) = self.refusal(&request.call) {
            self.common.answers.push_back((request.id, Err(error)));
            return;
        }
        match &mut self.connection {
            Some(connection) if connection.wire.progress() == Progress::Ready => {
                let (wire, mut turn) = connection.turn(now, &mut self.common);
                wire.begin(&mut turn, request);
            }
            _ => self.waiting.push_back(request),
        }
    }

    pub(crate) fn poll(&mut self, now: Duration) -> Option<(CallId, Answer)> {
        if let Err(error) = self.drive(now) {
            self.fail(now, &error);
        }
        self.common.answers.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        if !self.common.answers.is_empty() {
            return Some(Duration::ZERO);
        }
        match &self.connection {
            Some(connection) => connection.due(),
            None => (!self.waiting.is_empty()).then_some(self.retry_at),
        }
    }

    #[cfg(unix)]
    pub(crate) fn socket(&self) -> Option<(BorrowedFd<'_>, bool)> {
        let connection = self.connection.as_ref()?;
        Some((connection.socket.as_fd(), !connection.output.is_empty()))
    }
}

/// Makes a public engine of a [`Wire`], which is not public.
macro_rules! engine {
    ($(#[$doc:meta])* $name:ident, $wire:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name($crate::server::ServerEngine<$wire>);

        impl $name {
            /// Creates the engine. It connects at the first call.
            #[must_use]
            pub fn new(config: $crate::server::EngineConfig) -> $name {
                $name($crate::server::ServerEngine::new(config))
            }

            /// Returns how many answers came that nothing waited for.
            #[must_use]
            pub fn strays(&self) -> u64 {
                self.0.strays()
            }
        }

        impl $crate::engine::Engine for $name {
            fn call(&mut self, now: std::time::Duration, request: $crate::engine::Request) {
                self.0.call(now, request);
            }

            fn poll(
                &mut self,
                now: std::time::Duration,
            ) -> Option<($crate::engine::CallId, $crate::engine::Answer)> {
                self.0.poll(now)
            }

            fn poll_timeout(&self) -> Option<std::time::Duration> {
                self.0.poll_timeout()
            }

            #[cfg(unix)]
            fn socket(&self) -> Option<(std::os::fd::BorrowedFd<'_>, bool)> {
                self.0.socket()
            }
        }
    };
}
pub(crate) use engine;
