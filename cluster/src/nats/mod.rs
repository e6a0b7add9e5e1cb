//! The engine NATS JetStream: a key-value bucket, over the plain protocol of NATS. (SPEC 43.7)
//!
//! Its few calls are JetStream publishes and requests with the headers that they need, so the helpers of a library, which lose some of
//! them, are no help. The client has no thread and no runtime: its user polls it, in a thread of its own, and it has one socket. A name is
//! resolved and a connection is opened within [`poll`](crate::Engine::poll), which waits for a bounded time then.

mod connection;
mod greeting;
mod jetstream;
mod wire;

use std::collections::{BTreeMap, VecDeque};
#[cfg(unix)]
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use serde_json::{Value, json};

use self::connection::{Connection, Stage};
use self::greeting::{check_server, login};
use self::jetstream::{ApiError, code, content, error_of, read_entry};
#[cfg(feature = "testkit")]
use self::wire::Reader;
use self::wire::Said;
use crate::credentials::Credentials;
use crate::engine::{
    Answer, Call, CallId, Engine, EngineError, Entry, MAX_CALLS, MAX_ENTRIES, MAX_VALUE_BYTES,
    Reply, Request,
};
use crate::record::{ClusterName, MAX_HOME};
use crate::spread::Spread;

pub use self::greeting::OLDEST;

/// The pause between attempts to connect, from half of it on.
const PAUSE: Duration = Duration::from_millis(500);
/// The servers that a cluster of three or more keeps records at.
const MAX_REPLICAS: usize = 3;
/// All records of a cluster, with what JetStream adds to each.
const MAX_BUCKET_BYTES: usize = 8 << 20;

/// Reads what a server says as it comes in these pieces, and returns all of it as text, with the reason if it makes no sense. What an answer
/// has of a record is read as well.
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
                        Said::Info(text) => format!("{:?}", check_server(text, true)),
                        Said::Message {
                            status, payload, ..
                        } => format!(
                            "{:?}",
                            content(*status, payload).map(|answer| entry_of(&answer))
                        ),
                        Said::Error(text) => format!("{:?}", error_of(text.clone())),
                        Said::Ping | Said::Pong | Said::Ok => String::new(),
                    };
                    all.push(format!("{said:?} {more}"));
                }
                Err(why) => return (all, Some(why)),
            }
        }
    }
    (all, None)
}

/// What an answer says of the record of home 1.
#[cfg(feature = "testkit")]
fn entry_of(answer: &Value) -> Result<Option<Entry>, EngineError> {
    read_entry(ApiError::of(answer), answer, 1)
}

/// Where the engine is.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "users make it")]
pub struct NatsConfig {
    /// The servers, each as host and port. One after the other is tried.
    pub servers: Vec<(String, u16)>,
    /// The cluster, whose bucket is `voltlane-NAME`.
    pub cluster: ClusterName,
    /// What the servers are told.
    pub credentials: Option<Credentials>,
    /// For names of inboxes, and for the spread of attempts.
    pub seed: u64,
}

/// What waits for an answer of the server.
#[derive(Debug)]
enum Flying {
    Info,
    Create,
    Read(CallId, u16),
    Write(CallId),
    Homes(CallId),
    /// One of a list.
    Listed(CallId, u16),
}

/// A list whose records are read.
#[derive(Debug)]
struct Listing {
    id: CallId,
    left: usize,
    entries: Vec<Entry>,
}

/// The engine NATS JetStream.
#[derive(Debug)]
pub struct NatsEngine {
    config: NatsConfig,
    /// The server that is tried next.
    server: usize,
    connection: Option<Box<Connection>>,
    retry_at: Duration,
    /// Calls for which there is no connection yet.
    waiting: VecDeque<Request>,
    listings: Vec<Listing>,
    answers: VecDeque<(CallId, Answer)>,
    strays: u64,
    spread: Spread,
}

impl NatsEngine {
    /// Creates the engine. It connects at the first call.
    #[must_use]
    pub fn new(config: NatsConfig) -> NatsEngine {
        let mut spread = Spread::new(config.seed);
        let server = match config.servers.len() {
            0 => 0,
            servers => (spread.next() % servers as u64) as usize,
        };
        NatsEngine {
            server,
            connection: None,
            retry_at: Duration::ZERO,
            waiting: VecDeque::new(),
            listings: Vec::new(),
            answers: VecDeque::new(),
            strays: 0,
            spread,
            config,
        }
    }

    /// Returns how many answers came that nothing waited for.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    fn bucket(&self) -> String {
        format!("voltlane-{}", self.config.cluster)
    }

    fn subject(&self, home: u16) -> String {
        format!("$KV.{}.home.{home}", self.bucket())
    }

    /// Everything that waits has this answer, and the next server is tried after a pause.
    fn fail(&mut self, now: Duration, error: &EngineError) {
        let connection = self.connection.take();
        let flying = connection.map(|connection| connection.flying);
        let flying = flying.into_iter().flat_map(BTreeMap::into_values);
        let ids = flying.filter_map(|(flying, _)| match flying {
            Flying::Read(id, _) | Flying::Write(id) | Flying::Homes(id) => Some(id),
            Flying::Info | Flying::Create | Flying::Listed(..) => None,
        });
        let lists = self.listings.drain(..).map(|listing| listing.id);
        let waiting = self.waiting.drain(..).map(|request| request.id);
        let all = ids.chain(lists).chain(waiting);
        self.answers.extend(all.map(|id| (id, Err(error.clone()))));
        self.server = self.server.wrapping_add(1);
        self.retry_at = now + self.spread.upper_half(PAUSE);
    }

    fn handle(&mut self, now: Duration, said: Said) -> Result<(), EngineError> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        match said {
            Said::Info(text) if connection.stage == Stage::Greeting => {
                check_server(&text, self.config.credentials.is_some())?;
                let connect = login(self.config.credentials.as_ref());
                let inbox = &connection.inbox;
                let output = &mut connection.output;
                output.extend_from_slice(b"CONNECT ");
                output.extend_from_slice(connect.as_bytes());
                output.extend_from_slice(format!("\r\nSUB {inbox}.* 1\r\nPING\r\n").as_bytes());
                connection.stage = Stage::Login;
            }
            Said::Pong if connection.stage == Stage::Login => {
                connection.stage = Stage::Bucket;
                self.ask_for_bucket(now);
            }
            Said::Ping => connection.output.extend_from_slice(b"PONG\r\n"),
            Said::Error(text) => return Err(error_of(text)),
            Said::Message {
                subject,
                status,
                payload,
            } => {
                let token = subject.strip_prefix(&connection.inbox);
                let token = token.and_then(|rest| rest.strip_prefix('.')?.parse().ok());
                let flying = token.and_then(|token: u64| connection.flying.remove(&token));
                match flying {
                    // It came twice, or is the answer to a question of nobody.
                    None => self.strays += 1,
                    Some((flying, _)) => {
                        let answer = content(status, &payload);
                        self.handle_answer(now, flying, answer)?;
                    }
                }
            }
            // INFO comes again when the servers change, and a PONG may be one of ours.
            Said::Info(_) | Said::Pong | Said::Ok => {}
        }
        Ok(())
    }

    fn ask(&mut self, now: Duration, flying: Flying, call: &str, content: &Value) {
        let subject = format!("$JS.API.STREAM.{call}.KV_{}", self.bucket());
        let content = content.to_string();
        self.publish(now, flying, &subject, "", content.as_bytes());
    }

    fn ask_for_bucket(&mut self, now: Duration) {
        self.ask(now, Flying::Info, "INFO", &json!({}));
    }

    fn create_bucket(&mut self, now: Duration) {
        let bucket = self.bucket();
        // One server has one copy. Several are taken for a cluster.
        let replicas = match self.config.servers.len() {
            servers @ MAX_REPLICAS.. => servers.min(MAX_REPLICAS),
            _ => 1,
        };
        let config = json!({
            "name": format!("KV_{bucket}"),
            "description": "the homes of edges of Voltlane",
            "subjects": [format!("$KV.{bucket}.>")],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_msgs_per_subject": 1,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": MAX_BUCKET_BYTES,
            "max_age": 0,
            "max_msg_size": 2 * MAX_VALUE_BYTES,
            "num_replicas": replicas,
            "allow_rollup_hdrs": true,
            "deny_delete": true,
        });
        self.ask(now, Flying::Create, "CREATE", &config);
    }

    fn handle_answer(
        &mut self,
        now: Duration,
        flying: Flying,
        answer: Result<Value, EngineError>,
    ) -> Result<(), EngineError> {
        let nonsense = |why: &str| EngineError::Nonsense(why.to_owned());
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.refuse(&flying, error),
        };
        let error = ApiError::of(&answer);
        match flying {
            Flying::Info => match error {
                None => {
                    let most = &answer["config"]["max_msgs_per_subject"];
                    if most.as_i64() != Some(1) {
                        let what = format!("the stream KV_{} is not one of ours", self.bucket());
                        return Err(EngineError::Failed(what));
                    }
                    self.is_ready(now);
                }
                Some(error) if error.code == code::NO_STREAM => self.create_bucket(now),
                Some(error) => return Err(error.into()),
            },
            Flying::Create => match error {
                None => self.is_ready(now),
                // Another edge was faster.
                Some(error) if error.code == code::STREAM_IN_USE => self.ask_for_bucket(now),
                Some(error) => return Err(error.into()),
            },
            Flying::Read(id, home) => {
                let read = read_entry(error, &answer, home);
                self.answers.push_back((id, read.map(Reply::Read)));
            }
            Flying::Write(id) => {
                let stream = format!("KV_{}", self.bucket());
                let written = match error {
                    Some(error) if code::WRONG_REVISION.contains(&error.code) => {
                        Err(EngineError::Refused)
                    }
                    Some(error) => Err(error.into()),
                    None if answer["stream"] != stream.as_str() => {
                        Err(nonsense("another stream has taken the record"))
                    }
                    None => match answer["seq"].as_u64() {
                        Some(revision @ 1..) => Ok(Reply::Written(revision)),
                        _ => Err(nonsense("a write has no revision")),
                    },
                };
                self.answers.push_back((id, written));
            }
            Flying::Homes(id) => match error {
                Some(error) => self.answers.push_back((id, Err(error.into()))),
                None => self.list(now, id, &answer),
            },
            Flying::Listed(id, home) => {
                let read = match read_entry(error, &answer, home) {
                    Ok(read) => read,
                    Err(error) => return self.refuse(&flying, error),
                };
                let Some(at) = self.listings.iter().position(|listing| listing.id == id) else {
                    return Ok(());
                };
                let listing = &mut self.listings[at];
                listing.entries.extend(read);
                listing.left -= 1;
                if listing.left == 0 {
                    let mut listing = self.listings.swap_remove(at);
                    listing.entries.sort_by_key(|entry| entry.home);
                    let reply = Reply::List(listing.entries);
                    self.answers.push_back((id, Ok(reply)));
                }
            }
        }
        Ok(())
    }

    /// Answers a call with an error. Without a bucket the connection is of no use.
    fn refuse(&mut self, flying: &Flying, error: EngineError) -> Result<(), EngineError> {
        match *flying {
            Flying::Info | Flying::Create => return Err(error),
            Flying::Read(id, _) | Flying::Write(id) | Flying::Homes(id) => {
                self.answers.push_back((id, Err(error)));
            }
            Flying::Listed(id, _) => {
                let known = self.listings.len();
                self.listings.retain(|listing| listing.id != id);
                if self.listings.len() < known {
                    self.answers.push_back((id, Err(error)));
                }
            }
        }
        Ok(())
    }

    /// Reads each of the homes that there are.
    fn list(&mut self, now: Duration, id: CallId, answer: &Value) {
        let prefix = self.subject(0);
        let prefix = &prefix[..prefix.len() - 1];
        let subjects = answer["state"]["subjects"].as_object();
        let homes = subjects.into_iter().flatten();
        let home_of = |subject: &String| {
            let home = subject.strip_prefix(prefix)?.parse().ok();
            home.filter(|home| *home <= MAX_HOME)
        };
        let homes: Vec<u16> = homes
            .filter_map(|(subject, _)| home_of(subject))
            .take(MAX_ENTRIES)
            .collect();
        if homes.is_empty() {
            self.answers.push_back((id, Ok(Reply::List(Vec::new()))));
            return;
        }
        self.listings.push(Listing {
            id,
            left: homes.len(),
            entries: Vec::new(),
        });
        for home in homes {
            self.read(now, Flying::Listed(id, home), home);
        }
    }

    fn read(&mut self, now: Duration, flying: Flying, home: u16) {
        // This is answered by the leader. A direct get may be answered by a replica that is behind.
        let content = json!({ "last_by_subj": self.subject(home) });
        self.ask(now, flying, "MSG.GET", &content);
    }

    fn is_ready(&mut self, now: Duration) {
        if let Some(connection) = &mut self.connection {
            connection.stage = Stage::Ready;
        }
        for request in std::mem::take(&mut self.waiting) {
            self.begin(now, request);
        }
    }

    fn begin(&mut self, now: Duration, Request { id, call }: Request) {
        match call {
            Call::Read { home } => self.read(now, Flying::Read(id, home), home),
            Call::Write {
                home,
                expected,
                value,
            } => {
                let headers =
                    format!("NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {expected}\r\n\r\n");
                let subject = self.subject(home);
                self.publish(now, Flying::Write(id), &subject, &headers, &value);
            }
            Call::List => {
                let filter = format!("$KV.{}.home.*", self.bucket());
                let content = json!({ "subjects_filter": filter });
                self.ask(now, Flying::Homes(id), "INFO", &content);
            }
        }
    }

    /// Returns how many calls wait for answers. A list is one, whatever it reads.
    fn calls(&self) -> usize {
        let connection = self.connection.as_ref();
        let flying = connection.map(|connection| connection.flying.values());
        let is_call = |flying: &Flying| match flying {
            Flying::Read(..) | Flying::Write(_) | Flying::Homes(_) => true,
            Flying::Info | Flying::Create | Flying::Listed(..) => false,
        };
        let flying = flying.into_iter().flatten();
        let flying = flying.filter(|(flying, _)| is_call(flying)).count();
        flying + self.listings.len() + self.waiting.len()
    }
}

impl Engine for NatsEngine {
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
