//! The engine Redis: a hash for each home, which one script reads and writes, over the plain protocol of Redis. (SPEC 43.8)
//!
//! Like that of NATS, the client has no thread and no runtime: its user polls it, in a thread of its own, and it has one socket. A name is
//! resolved and a connection is opened within [`poll`](crate::Engine::poll), which waits for a bounded time then. Answers of Redis have no
//! number, and come in order. Each call therefore has a token, which the script returns: an answer that comes twice is of no other call.

mod connection;
mod opening;
mod wire;

use std::collections::VecDeque;
#[cfg(unix)]
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use self::connection::{Connection, Stage};
use self::opening::{check_server, error_of, is_primary, login_error_of};
#[cfg(feature = "testkit")]
use self::wire::Reader;
use self::wire::{Said, command};
use crate::credentials::Credentials;
use crate::engine::{
    Answer, Call, CallId, Engine, EngineError, Entry, MAX_CALLS, MAX_ENTRIES, MAX_VALUE_BYTES,
    Reply, Request,
};
use crate::record::{ClusterName, MAX_HOME};
use crate::spread::Spread;

pub use self::opening::OLDEST;

/// The pause between attempts to connect, from half of it on.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a record is kept that nobody writes again. It decides nothing, and leaves no record for ever. (SPEC 43.8(a))
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);
const SCRIPT: &str = include_str!("script.lua");

/// Where the engine is.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "users make it")]
pub struct RedisConfig {
    /// The servers, each as host and port. One after the other is tried, until one is a primary.
    pub servers: Vec<(String, u16)>,
    /// The cluster, whose keys begin with `voltlane:{NAME}:`.
    pub cluster: ClusterName,
    /// What the servers are told.
    pub credentials: Option<Credentials>,
    /// For tokens of calls, and for the spread of attempts.
    pub seed: u64,
}

/// What waits for an answer of the server.
#[derive(Debug)]
struct Flying {
    token: String,
    id: CallId,
    what: What,
    since: Duration,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Read(u16),
    Write,
    List,
}

/// The engine Redis.
#[derive(Debug)]
pub struct RedisEngine {
    config: RedisConfig,
    /// The server that is tried next.
    server: usize,
    connection: Option<Box<Connection>>,
    retry_at: Duration,
    /// Replicas that were met, one after the other.
    passed_over: usize,
    /// Calls for which there is no connection yet.
    waiting: VecDeque<Request>,
    answers: VecDeque<(CallId, Answer)>,
    strays: u64,
    tokens: u64,
    spread: Spread,
}

impl RedisEngine {
    /// Creates the engine. It connects at the first call.
    #[must_use]
    pub fn new(config: RedisConfig) -> RedisEngine {
        RedisEngine {
            // The first one that is named is the primary, as a rule.
            server: 0,
            connection: None,
            retry_at: Duration::ZERO,
            passed_over: 0,
            waiting: VecDeque::new(),
            answers: VecDeque::new(),
            strays: 0,
            tokens: 0,
            spread: Spread::new(config.seed),
            config,
        }
    }

    /// Returns how many answers came that nothing waited for.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Returns a key. Those of a cluster are in one slot of a Redis Cluster.
    fn key(&self, name: &str) -> String {
        format!("voltlane:{{{}}}:{name}", self.config.cluster)
    }

    /// Everything that waits has this answer, and the next server is tried after a pause.
    fn fail(&mut self, now: Duration, error: &EngineError) {
        let connection = self.connection.take();
        let flying = connection.map(|connection| connection.flying);
        let ids = flying.into_iter().flatten().map(|flying| flying.id);
        let waiting = self.waiting.drain(..).map(|request| request.id);
        let all = ids.chain(waiting);
        self.answers.extend(all.map(|id| (id, Err(error.clone()))));
        self.server = self.server.wrapping_add(1);
        self.passed_over = 0;
        self.retry_at = now + self.spread.upper_half(PAUSE);
    }

    /// Goes on with the next server at once, since this one is a replica, unless all of them are.
    fn pass_over(&mut self, now: Duration) -> Result<(), EngineError> {
        self.passed_over += 1;
        if self.passed_over >= self.config.servers.len() {
            let what = "it is a replica, and the primary is needed";
            return Err(EngineError::Unreachable(what.to_owned()));
        }
        self.connection = None;
        self.server = self.server.wrapping_add(1);
        self.retry_at = now;
        Ok(())
    }

    fn handle(&mut self, now: Duration, said: Said) -> Result<(), EngineError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        match (connection.stage, &said) {
            (Stage::Login, Said::Error(text)) => return Err(login_error_of(text)),
            (Stage::Server | Stage::Role, Said::Error(text)) => return Err(error_of(text).0),
            _ => {}
        }
        match (connection.stage, said) {
            (Stage::Login, Said::Status(_)) => connection.stage = Stage::Server,
            (Stage::Login, _) => {
                return Err(nonsense("it answers credentials with something else"));
            }
            (Stage::Server, said) => {
                check_server(&said)?;
                connection.stage = Stage::Role;
            }
            (Stage::Role, said) => {
                if !is_primary(&said)? {
                    return self.pass_over(now);
                }
                self.passed_over = 0;
                connection.stage = Stage::Ready;
                for request in std::mem::take(&mut self.waiting) {
                    self.begin(now, request);
                }
            }
            (Stage::Ready, Said::Error(text)) => match error_of(&text) {
                (error, true) => return Err(error),
                // It has no token. Answers are in order.
                (error, false) => match connection.flying.pop_front() {
                    Some(flying) => self.answers.push_back((flying.id, Err(error))),
                    None => self.strays += 1,
                },
            },
            (Stage::Ready, Said::All(said)) => {
                let mut said = said.into_iter();
                let Some(Said::Text(token)) = said.next() else {
                    return Err(nonsense("an answer has no token"));
                };
                let is_its = |flying: &Flying| flying.token.as_bytes() == token;
                let at = connection.flying.iter().position(is_its);
                match at.and_then(|at| connection.flying.remove(at)) {
                    // It came twice, or is the answer to a question of nobody.
                    None => self.strays += 1,
                    Some(flying) => {
                        let answer = answer_of(flying.what, said);
                        self.answers.push_back((flying.id, answer));
                    }
                }
            }
            (Stage::Ready, _) => return Err(nonsense("an answer has no token")),
        }
        Ok(())
    }

    fn begin(&mut self, now: Duration, Request { id, call }: Request) {
        let (revision, homes) = (self.key("revision"), self.key("homes"));
        let record = |home: u16| self.key(&format!("home.{home}"));
        let kept = KEPT_FOR.as_millis().to_string();
        let (what, key, name, more) = match call {
            Call::Read { home } => (What::Read(home), record(home), "read", Vec::new()),
            Call::List => (What::List, self.key("home."), "list", Vec::new()),
            Call::Write {
                home,
                expected,
                value,
            } => {
                let (expected, home_text) = (expected.to_string(), home.to_string());
                let more = [expected.into_bytes(), value, home_text.into_bytes()];
                let more = more.into_iter().chain([kept.into_bytes()]).collect();
                (What::Write, record(home), "write", more)
            }
        };
        self.tokens += 1;
        let token = format!("{:016x}.{}", self.spread.next(), self.tokens);
        let Some(connection) = &mut self.connection else {
            return;
        };
        let mut words: Vec<&[u8]> = vec![b"EVAL", SCRIPT.as_bytes(), b"3"];
        words.extend([&key, &revision, &homes].map(|key| key.as_bytes()));
        words.extend([token.as_bytes(), name.as_bytes()]);
        words.extend(more.iter().map(Vec::as_slice));
        command(&mut connection.output, &words);
        connection.flying.push_back(Flying {
            token,
            id,
            what,
            since: now,
        });
    }

    /// Returns how many calls wait for answers.
    fn calls(&self) -> usize {
        let connection = self.connection.as_ref();
        let flying = connection.map_or(0, |connection| connection.flying.len());
        flying + self.waiting.len()
    }
}

fn nonsense(why: &str) -> EngineError {
    EngineError::Nonsense(why.to_owned())
}

/// Reads what is behind the token of an answer.
fn answer_of(what: What, mut said: impl Iterator<Item = Said>) -> Answer {
    let reply = match what {
        What::Read(home) => match (said.next(), said.next()) {
            (Some(Said::Nothing), Some(Said::Nothing)) => Reply::Read(None),
            (Some(revision), Some(value)) => Reply::Read(Some(entry_of(home, &revision, value)?)),
            _ => return Err(nonsense("a record lacks something")),
        },
        What::Write => match said.next() {
            Some(Said::Number(0)) => return Err(EngineError::Refused),
            Some(Said::Number(revision @ 1..)) => Reply::Written(revision.cast_unsigned()),
            _ => return Err(nonsense("a write has no revision")),
        },
        What::List => {
            let mut entries = Vec::new();
            while let Some(home) = said.next() {
                let (Some(revision), Some(value)) = (said.next(), said.next()) else {
                    return Err(nonsense("a record lacks something"));
                };
                let home = number_of(&home).and_then(|home| u16::try_from(home).ok());
                let home = home.filter(|home| *home <= MAX_HOME);
                let home = home.ok_or_else(|| nonsense("a record is of no home"))?;
                entries.push(entry_of(home, &revision, value)?);
            }
            entries.sort_by_key(|entry| entry.home);
            entries.dedup_by_key(|entry| entry.home);
            entries.truncate(MAX_ENTRIES);
            return Ok(Reply::List(entries));
        }
    };
    match said.next() {
        None => Ok(reply),
        Some(_) => Err(nonsense("an answer has too much")),
    }
}

fn entry_of(home: u16, revision: &Said, value: Said) -> Result<Entry, EngineError> {
    let revision = number_of(revision).filter(|revision| *revision > 0);
    let revision = revision.ok_or_else(|| nonsense("a record has no revision"))?;
    match value {
        Said::Text(value) => Ok(Entry {
            home,
            revision,
            value,
        }),
        _ => Err(nonsense("a record has no value")),
    }
}

fn number_of(said: &Said) -> Option<u64> {
    let Said::Text(digits) = said else {
        return None;
    };
    let digits = std::str::from_utf8(digits).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}

impl Engine for RedisEngine {
    fn call(&mut self, now: Duration, request: Request) {
        let too_large = match &request.call {
            Call::Write { value, .. } => Some(value.len()).filter(|bytes| *bytes > MAX_VALUE_BYTES),
            _ => None,
        };
        if let Some(bytes) = too_large {
            self.answers
                .push_back((request.id, Err(EngineError::TooLarge(bytes))));
        } else if self.calls() >= MAX_CALLS {
            let error = EngineError::Failed("too many calls at once".to_owned());
            self.answers.push_back((request.id, Err(error)));
        } else if self
            .connection
            .as_ref()
            .is_some_and(|connection| connection.stage == Stage::Ready)
        {
            self.begin(now, request);
        } else {
            self.waiting.push_back(request);
        }
    }

    fn poll(&mut self, now: Duration) -> Option<(CallId, Answer)> {
        if let Err(error) = self.drive(now) {
            self.fail(now, &error);
        }
        self.answers.pop_front()
    }

    fn poll_timeout(&self) -> Option<Duration> {
        if !self.answers.is_empty() {
            return Some(Duration::ZERO);
        }
        match &self.connection {
            Some(_) => self.due(),
            None => (!self.waiting.is_empty()).then_some(self.retry_at),
        }
    }

    #[cfg(unix)]
    fn socket(&self) -> Option<(BorrowedFd<'_>, bool)> {
        let connection = self.connection.as_ref()?;
        Some((connection.socket.as_fd(), !connection.output.is_empty()))
    }
}

/// Reads what a server says as it comes in these pieces, and returns all of it as text, with the reason if it makes no sense. What an answer
/// has of records is read as well.
#[cfg(feature = "testkit")]
#[must_use]
pub fn said_in_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<String>, Option<&'static str>) {
    let (mut reader, mut all) = (Reader::default(), Vec::new());
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(said)) => {
                    let more = match &said {
                        Said::Text(_) => format!("{:?}", (check_server(&said), is_primary(&said))),
                        Said::Error(text) => format!("{:?}", error_of(text)),
                        Said::All(parts) => {
                            let whats = [What::Read(1), What::Write, What::List];
                            let read = |what| answer_of(what, parts.iter().skip(1).cloned());
                            format!("{:?}", whats.map(read))
                        }
                        Said::Status(_) | Said::Number(_) | Said::Nothing => String::new(),
                    };
                    all.push(format!("{said:?} {more}"));
                }
                Err(why) => return (all, Some(why)),
            }
        }
    }
    (all, None)
}
