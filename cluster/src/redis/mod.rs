//! The engine Redis: a hash for each home, which one script reads and writes, over the plain protocol of Redis. (SPEC 43.8)
//!
//! Like that of NATS, the client has no thread and no runtime: its user polls it, in a thread of its own, and it has one socket. A name is
//! resolved and a connection is opened within [`poll`](crate::Engine::poll), which waits for a bounded time then. Answers of Redis have no
//! number, and come in order. Each call therefore has a token, which the script returns: an answer that comes twice is of no other call.

mod opening;
mod wire;

use std::time::Duration;

use self::opening::{ask, check_server, error_of, is_primary, login_error_of};
use self::wire::{Parser, Said, command};
use crate::engine::{Answer, Call, CallId, EngineError, Entry, Reply, Request, key_of};
use crate::record::MAX_HOME;
use crate::server::{Asked, Progress, Turn, Wire, engine, nonsense};

pub use self::opening::OLDEST;

/// How long a record is kept that nobody writes again. It decides nothing, and leaves no record for ever. (SPEC 43.8(a))
pub const KEPT_FOR: Duration = Duration::from_secs(7 * 24 * 3_600);
const SCRIPT: &str = include_str!("script.lua");

engine! {
    /// The engine Redis. The keys of a cluster begin with `voltlane:{NAME}:`.
    RedisEngine, Redis
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is to let the edge in.
    Login,
    /// It is to say what version it has.
    Server,
    /// It is to say whether it is a replica.
    Role,
    /// It is one.
    Replica,
    Ready,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Read(u16),
    Write,
    List,
}

/// What is spoken on one connection to Redis.
#[derive(Debug)]
struct Redis {
    stage: Stage,
    asked: Asked<(CallId, What)>,
}

impl Wire for Redis {
    type Parser = Parser;

    // The first one that is named is the primary, as a rule.
    const BEGINS_ANYWHERE: bool = false;

    fn open(turn: &mut Turn<'_>) -> Redis {
        let credentials = turn.config.credentials.as_ref();
        ask(turn.output, credentials);
        Redis {
            stage: match credentials {
                Some(_) => Stage::Login,
                None => Stage::Server,
            },
            asked: Asked::new("", turn.spread),
        }
    }

    fn handle(&mut self, turn: &mut Turn<'_>, said: Said) -> Result<(), EngineError> {
        match (self.stage, said) {
            (Stage::Login, Said::Status(_)) => self.stage = Stage::Server,
            (Stage::Login, Said::Error(text)) => return Err(login_error_of(&text)),
            (Stage::Login, _) => {
                return Err(nonsense("it answers credentials with something else"));
            }
            (Stage::Server | Stage::Role, Said::Error(text)) => return Err(error_of(&text).0),
            (Stage::Server, said) => {
                check_server(&said)?;
                self.stage = Stage::Role;
            }
            (Stage::Role, said) => {
                self.stage = match is_primary(&said)? {
                    true => Stage::Ready,
                    false => Stage::Replica,
                };
            }
            // It is left.
            (Stage::Replica, _) => {}
            (Stage::Ready, Said::Error(text)) => match error_of(&text) {
                (error, true) => return Err(error),
                // It has no token. Answers are in order.
                (error, false) => match self.asked.answered_first() {
                    Some((id, _)) => turn.answer(id, Err(error)),
                    None => turn.count_stray(),
                },
            },
            (Stage::Ready, Said::All(said)) => {
                let mut said = said.into_iter();
                let Some(Said::Text(token)) = said.next() else {
                    return Err(nonsense("an answer has no token"));
                };
                let token = std::str::from_utf8(&token).unwrap_or_default();
                match self.asked.answered(token) {
                    Some((id, what)) => turn.answer(id, answer_of(what, said)),
                    None => turn.count_stray(),
                }
            }
            (Stage::Ready, _) => return Err(nonsense("an answer has no token")),
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        match self.stage {
            Stage::Login | Stage::Server | Stage::Role => Progress::Opening,
            Stage::Replica => Progress::Unfit("it is a replica, and the primary is needed"),
            Stage::Ready => Progress::Ready,
        }
    }

    fn begin(&mut self, turn: &mut Turn<'_>, Request { id, call }: Request) {
        // Those of a cluster are in one slot of a Redis Cluster.
        let key = |name: &str| format!("voltlane:{{{}}}:{name}", turn.config.cluster);
        let record = |home: u16| key(&key_of(home));
        let revision = key("revision");
        let homes = match &call {
            // A list has no page of bans.
            Call::Write { home, .. } if *home > MAX_HOME => key("pages"),
            _ => key("homes"),
        };
        let (what, first, name, more) = match call {
            Call::Read { home } => (What::Read(home), record(home), "read", Vec::new()),
            Call::List => (What::List, key("home."), "list", Vec::new()),
            Call::Write {
                home,
                expected,
                value,
            } => {
                let numbers = [expected, home.into()].map(|number| number.to_string());
                let [expected, home_text] = numbers.map(String::into_bytes);
                let kept = KEPT_FOR.as_millis().to_string().into_bytes();
                let more = vec![expected, value, home_text, kept];
                (What::Write, record(home), "write", more)
            }
        };
        let token = self.asked.ask(turn.now, (id, what));
        let mut words: Vec<&[u8]> = vec![b"EVAL", SCRIPT.as_bytes(), b"3"];
        words.extend([&first, &revision, &homes, &token].map(|word| word.as_bytes()));
        words.push(name.as_bytes());
        words.extend(more.iter().map(Vec::as_slice));
        command(turn.output, &words);
    }

    fn calls(&self) -> impl Iterator<Item = CallId> {
        self.asked.iter().map(|(id, _)| *id)
    }

    fn waits_since(&self) -> Option<Duration> {
        self.asked.since()
    }
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

/// Reads what a server says as it comes in these pieces, and returns all of it as text, with the reason if it makes no sense. What an answer
/// has of records is read as well.
#[cfg(feature = "testkit")]
#[must_use]
pub fn said_in_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<String>, Option<&'static str>) {
    crate::server::said_in_pieces::<Parser>(pieces, |said| match said {
        Said::Text(_) => format!("{:?}", (check_server(said), is_primary(said))),
        Said::Error(text) => format!("{:?}", error_of(text)),
        Said::All(parts) => {
            let whats = [What::Read(1), What::Write, What::List];
            let read = |what| answer_of(what, parts.iter().skip(1).cloned());
            format!("{:?}", whats.map(read))
        }
        Said::Status(_) | Said::Number(_) | Said::Nothing => String::new(),
    })
}
