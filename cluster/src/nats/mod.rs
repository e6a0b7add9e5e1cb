//! The engine NATS JetStream: a key-value bucket, over the plain protocol of NATS. (SPEC 43.7)
//!
//! Its few calls are JetStream publishes and requests with the headers that they need, so the helpers of a library, which lose some of
//! them, are no help. The client has no thread and no runtime: its user polls it, in a thread of its own, and it has one socket. A name is
//! resolved and a connection is opened within [`poll`](crate::Engine::poll), which waits for a bounded time then.

mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
#[cfg(unix)]
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::wire::{Reader, Said};
use crate::engine::{
    Answer, CALL_TIMEOUT, Call, CallId, Engine, EngineError, Entry, MAX_CALLS, MAX_ENTRIES,
    MAX_VALUE_BYTES, Reply, Request,
};
use crate::record::{ClusterName, MAX_HOME};
use crate::spread::Spread;

/// The oldest server that the engine is tested with. (SPEC 43.7(b))
pub const OLDEST: &str = "2.9.0";
const OLDEST_PARTS: [u64; 3] = [2, 9, 0];
/// How long a connection may take to be accepted, at each of the first addresses of a name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The addresses of a name that are tried.
const MAX_ADDRESSES: usize = 2;
/// How long it may take until the bucket is known to be there.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause between attempts to connect, from half of it on.
const PAUSE: Duration = Duration::from_millis(500);
/// The bytes that are read at once.
const READ_BYTES: usize = 16 * 1_024;
/// The servers that a cluster of three or more keeps records at.
const MAX_REPLICAS: usize = 3;
/// All records of a cluster, with what JetStream adds to each.
const MAX_BUCKET_BYTES: usize = 8 << 20;

/// Codes of errors of JetStream.
mod code {
    /// The revision is another one: of one server, and of several.
    pub(super) const WRONG_REVISION: [u64; 2] = [10_071, 10_164];
    pub(super) const NO_MESSAGE: u64 = 10_037;
    pub(super) const NO_STREAM: u64 = 10_059;
    pub(super) const STREAM_IN_USE: u64 = 10_058;
}

/// What an engine is told to be let in.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// A user and a password.
    User(String, Zeroizing<String>),
    /// A token.
    Token(Zeroizing<String>),
}

impl Credentials {
    /// Reads `user:password`, or a token, which has no colon.
    #[must_use]
    pub fn of(text: &str) -> Credentials {
        match text.split_once(':') {
            Some((user, password)) => {
                Credentials::User(user.to_owned(), Zeroizing::new(password.to_owned()))
            }
            None => Credentials::Token(Zeroizing::new(text.to_owned())),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
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

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// INFO is awaited.
    Greeting,
    /// PONG is awaited, behind CONNECT.
    Login,
    /// The bucket is looked for, or made.
    Bucket,
    Ready,
}

#[derive(Debug)]
struct Connection {
    socket: TcpStream,
    reader: Reader,
    output: Zeroizing<Vec<u8>>,
    stage: Stage,
    opened: Duration,
    /// What was asked, by the last part of the subject of its answer, and when.
    flying: BTreeMap<u64, (Flying, Duration)>,
    tokens: u64,
    inbox: String,
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

    fn connect(&mut self, now: Duration) -> io::Result<()> {
        let servers = self.config.servers.len().max(1);
        let server = self.config.servers.get(self.server % servers);
        let no_server = || io::Error::new(io::ErrorKind::NotFound, "no server is named");
        let (host, port) = server.ok_or_else(no_server)?;
        let name = format!("{host}:{port}");
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
        let addresses = (host.as_str(), *port).to_socket_addrs().map_err(told)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses.take(MAX_ADDRESSES) {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(socket) => {
                    socket.set_nonblocking(true)?;
                    socket.set_nodelay(true)?;
                    let inbox = format!("_INBOX.{:016x}", self.spread.next());
                    self.connection = Some(Box::new(Connection {
                        socket,
                        reader: Reader::default(),
                        output: Zeroizing::new(Vec::new()),
                        stage: Stage::Greeting,
                        opened: now,
                        flying: BTreeMap::new(),
                        tokens: 0,
                        inbox,
                    }));
                    return Ok(());
                }
                Err(error) => last = error,
            }
        }
        Err(told(last))
    }

    /// Reads and writes what can be.
    fn drive(&mut self, now: Duration) -> Result<(), EngineError> {
        let gone = |error: io::Error| EngineError::Unreachable(error.to_string());
        if self.connection.is_none() {
            if self.waiting.is_empty() || now < self.retry_at {
                return Ok(());
            }
            self.connect(now).map_err(gone)?;
        }
        let mut bytes = [0; READ_BYTES];
        loop {
            self.flush().map_err(gone)?;
            let Some(connection) = &mut self.connection else {
                return Ok(());
            };
            match connection.socket.read(&mut bytes) {
                Ok(0) => return Err(gone(io::Error::other("the server closed the connection"))),
                Ok(length) => connection.reader.push(&bytes[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(gone(error)),
            }
            while let Some(said) = self.next_said()? {
                self.handle(now, said)?;
            }
        }
        self.check_times(now)
    }

    fn next_said(&mut self) -> Result<Option<Said>, EngineError> {
        match &mut self.connection {
            None => Ok(None),
            Some(connection) => {
                let said = connection.reader.next();
                said.map_err(|why| EngineError::Nonsense(why.to_owned()))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        while !connection.output.is_empty() {
            match connection.socket.write(&connection.output) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => {
                    connection.output.drain(..length);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // What was written of a password does not stay in the room behind the end.
        connection.output = Zeroizing::new(Vec::new());
        Ok(())
    }

    fn check_times(&self, now: Duration) -> Result<(), EngineError> {
        match self.due() {
            Some(due) if now >= due => Err(EngineError::Late),
            _ => Ok(()),
        }
    }

    /// Returns when a connection has taken too long.
    fn due(&self) -> Option<Duration> {
        let connection = self.connection.as_ref()?;
        match connection.stage {
            Stage::Ready => {
                let sent = connection.flying.values().map(|(_, sent)| *sent).min()?;
                Some(sent + CALL_TIMEOUT)
            }
            _ => Some(connection.opened + OPEN_TIMEOUT),
        }
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

    /// Publishes a request, whose answer has a subject of its own.
    fn publish(
        &mut self,
        now: Duration,
        flying: Flying,
        subject: &str,
        headers: &str,
        content: &[u8],
    ) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        connection.tokens += 1;
        let token = connection.tokens;
        let inbox = &connection.inbox;
        let line = match headers.len() {
            0 => format!("PUB {subject} {inbox}.{token} {}\r\n", content.len()),
            head => {
                let all = head + content.len();
                format!("HPUB {subject} {inbox}.{token} {head} {all}\r\n{headers}")
            }
        };
        connection.output.extend_from_slice(line.as_bytes());
        connection.output.extend_from_slice(content);
        connection.output.extend_from_slice(b"\r\n");
        connection.flying.insert(token, (flying, now));
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

/// An error that JetStream answers.
struct ApiError {
    code: u64,
    http: u64,
    text: String,
}

impl ApiError {
    fn of(answer: &Value) -> Option<ApiError> {
        let error = answer.get("error")?;
        let text = error["description"].as_str().unwrap_or("no reason");
        Some(ApiError {
            code: error["err_code"].as_u64().unwrap_or(0),
            http: error["code"].as_u64().unwrap_or(0),
            text: plain(text),
        })
    }
}

impl From<ApiError> for EngineError {
    fn from(error: ApiError) -> EngineError {
        match error.http {
            503 => EngineError::Unreachable(error.text),
            _ => EngineError::Failed(error.text),
        }
    }
}

/// Cuts a text of a server, and leaves out what steers a terminal.
fn plain(text: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
    text.chars().filter(is_plain).take(200).collect()
}

fn error_of(text: String) -> EngineError {
    let text = plain(&text);
    let lower = text.to_ascii_lowercase();
    let is_denied = [
        "authorization",
        "authentication",
        "permissions",
        "expired",
        "revoked",
    ]
    .iter()
    .any(|word| lower.contains(word));
    match is_denied {
        true => EngineError::Denied(text),
        false => EngineError::Unreachable(text),
    }
}

fn content(status: Option<u16>, payload: &[u8]) -> Result<Value, EngineError> {
    match status {
        Some(503) => Err(EngineError::Unreachable(
            "JetStream is not enabled there, or has no leader".to_owned(),
        )),
        Some(status) => Err(EngineError::Failed(format!("status {status}"))),
        None => {
            let read: Value = serde_json::from_slice(payload)
                .map_err(|_| EngineError::Nonsense("an answer is no JSON".to_owned()))?;
            match read.is_object() {
                true => Ok(read),
                false => Err(EngineError::Nonsense("an answer is no object".to_owned())),
            }
        }
    }
}

fn read_entry(
    error: Option<ApiError>,
    answer: &Value,
    home: u16,
) -> Result<Option<Entry>, EngineError> {
    let nonsense = |why: &str| EngineError::Nonsense(why.to_owned());
    match error {
        Some(error) if error.code == code::NO_MESSAGE => return Ok(None),
        Some(error) => return Err(error.into()),
        None => {}
    }
    let message = &answer["message"];
    let subject = message["subject"].as_str().unwrap_or_default();
    if !subject.ends_with(&format!(".home.{home}")) {
        return Err(nonsense("a record is of another home"));
    }
    let revision = message["seq"].as_u64().filter(|revision| *revision > 0);
    let revision = revision.ok_or_else(|| nonsense("a record has no revision"))?;
    let text = message["data"].as_str().unwrap_or_default();
    let value = data_encoding::BASE64
        .decode(text.as_bytes())
        .map_err(|_| nonsense("a record is not in base 64"))?;
    Ok(Some(Entry {
        home,
        revision,
        value,
    }))
}

/// Checks that a server can do what is needed.
fn check_server(info: &str, has_credentials: bool) -> Result<(), EngineError> {
    let info: Value = serde_json::from_str(info)
        .map_err(|_| EngineError::Nonsense("its greeting is no JSON".to_owned()))?;
    let version = info["version"].as_str().unwrap_or_default();
    let parts: Option<Vec<u64>> = version
        .split(['.', '-'])
        .take(3)
        .map(|part| part.parse().ok())
        .collect();
    match parts {
        Some(parts) if parts.len() == 3 => {
            if parts[..] < OLDEST_PARTS[..] {
                return Err(EngineError::TooOld {
                    found: plain(version),
                    needed: OLDEST,
                });
            }
        }
        _ => {
            return Err(EngineError::Nonsense(
                "its greeting has no version".to_owned(),
            ));
        }
    }
    if info["tls_required"] == true {
        let what = "it demands TLS, which this client does not speak";
        return Err(EngineError::Failed(what.to_owned()));
    }
    if info["headers"] != true {
        let what = "it has headers turned off, which a write needs";
        return Err(EngineError::Failed(what.to_owned()));
    }
    if info["auth_required"] == true && !has_credentials {
        let what = "it demands credentials, and there are none";
        return Err(EngineError::Denied(what.to_owned()));
    }
    Ok(())
}

fn login(credentials: Option<&Credentials>) -> Zeroizing<String> {
    let mut login = json!({
        "verbose": false,
        "pedantic": false,
        "tls_required": false,
        "name": "voltlane",
        "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": 1,
        "headers": true,
        "no_responders": true,
    });
    match credentials {
        None => {}
        Some(Credentials::User(user, password)) => {
            login["user"] = json!(user);
            login["pass"] = json!(password.as_str());
        }
        Some(Credentials::Token(token)) => login["auth_token"] = json!(token.as_str()),
    }
    Zeroizing::new(login.to_string())
}
