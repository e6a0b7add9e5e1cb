//! The engine NATS JetStream: a key-value bucket, over the plain protocol of NATS. (SPEC 43.7)
//!
//! Its few calls are JetStream publishes and requests with the headers that they need, so the helpers of a library, which lose some of
//! them, are no help. The client has no thread and no runtime: its user polls it, in a thread of its own, and it has one socket. A name is
//! resolved and a connection is opened within [`poll`](crate::Engine::poll), which waits for a bounded time then.

mod greeting;
mod jetstream;
mod wire;

use std::time::Duration;

use serde_json::{Value, json};

use self::greeting::{check_server, login};
use self::jetstream::{ApiError, code, content, error_of, read_entry};
use self::wire::{Parser, Said};
use crate::engine::{
    Call, CallId, EngineError, Entry, MAX_ENTRIES, MAX_VALUE_BYTES, Reply, Request, key_of,
};
use crate::record::MAX_HOME;
use crate::server::{Asked, Progress, Turn, Wire, engine, nonsense};

pub use self::greeting::OLDEST;

/// The servers that a cluster of three or more keeps records at.
const MAX_REPLICAS: usize = 3;
/// All records of a cluster, with what JetStream adds to each.
const MAX_BUCKET_BYTES: usize = 8 << 20;

engine! {
    /// The engine NATS JetStream. The bucket of a cluster is `voltlane-NAME`.
    NatsEngine, Nats
}

/// Reads what a server says as it comes in these pieces, and returns all of it as text, with the reason if it makes no sense. What an answer
/// has of a record is read as well.
#[cfg(feature = "testkit")]
#[must_use]
pub fn said_in_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<String>, Option<&'static str>) {
    crate::server::said_in_pieces::<Parser>(pieces, |said| match said {
        Said::Info(text) => format!("{:?}", check_server(text, true)),
        Said::Message {
            status, payload, ..
        } => {
            // As if it were the record of home 1.
            let entry = |answer: Value| read_entry(ApiError::of(&answer), &answer, 1);
            format!("{:?}", content(*status, payload).map(entry))
        }
        Said::Error(text) => format!("{:?}", error_of(text.clone())),
        Said::Ping | Said::Pong | Said::Ok => String::new(),
    })
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

/// What is spoken on one connection to NATS.
#[derive(Debug)]
struct Nats {
    bucket: String,
    stage: Stage,
    /// By the subjects of the answers, which begin with that of an inbox.
    asked: Asked<Flying>,
    listings: Vec<Listing>,
}

impl Wire for Nats {
    type Parser = Parser;

    const BEGINS_ANYWHERE: bool = true;

    fn open(turn: &mut Turn<'_>) -> Nats {
        Nats {
            bucket: format!("voltlane-{}", turn.config.cluster),
            stage: Stage::Greeting,
            asked: Asked::new("_INBOX.", turn.spread),
            listings: Vec::new(),
        }
    }

    fn handle(&mut self, turn: &mut Turn<'_>, said: Said) -> Result<(), EngineError> {
        match said {
            Said::Info(text) if self.stage == Stage::Greeting => {
                let credentials = turn.config.credentials.as_ref();
                check_server(&text, credentials.is_some())?;
                let connect = login(credentials);
                let inbox = self.asked.name();
                turn.output.extend_from_slice(b"CONNECT ");
                turn.output.extend_from_slice(connect.as_bytes());
                let rest = format!("\r\nSUB {inbox}.* 1\r\nPING\r\n");
                turn.output.extend_from_slice(rest.as_bytes());
                self.stage = Stage::Login;
            }
            Said::Pong if self.stage == Stage::Login => {
                self.stage = Stage::Bucket;
                self.ask_for_bucket(turn);
            }
            Said::Ping => turn.output.extend_from_slice(b"PONG\r\n"),
            Said::Error(text) => return Err(error_of(text)),
            Said::Message {
                subject,
                status,
                payload,
            } => match self.asked.answered(&subject) {
                None => turn.count_stray(),
                Some(flying) => self.handle_answer(turn, flying, content(status, &payload))?,
            },
            // INFO comes again when the servers change, and a PONG may be one of ours.
            Said::Info(_) | Said::Pong | Said::Ok => {}
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        match self.stage {
            Stage::Ready => Progress::Ready,
            Stage::Greeting | Stage::Login | Stage::Bucket => Progress::Opening,
        }
    }

    fn begin(&mut self, turn: &mut Turn<'_>, Request { id, call }: Request) {
        match call {
            Call::Read { home } => self.read(turn, Flying::Read(id, home), home),
            Call::Write {
                home,
                expected,
                value,
            } => {
                let headers =
                    format!("NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {expected}\r\n\r\n");
                let subject = self.subject(home);
                self.publish(turn, Flying::Write(id), &subject, &headers, &value);
            }
            Call::List => {
                let filter = format!("$KV.{}.home.*", self.bucket);
                let content = json!({ "subjects_filter": filter });
                self.ask(turn, Flying::Homes(id), "INFO", &content);
            }
        }
    }

    /// A list is one call, whatever it reads.
    fn calls(&self) -> impl Iterator<Item = CallId> {
        let asked = self.asked.iter().filter_map(|flying| match flying {
            Flying::Read(id, _) | Flying::Write(id) | Flying::Homes(id) => Some(*id),
            Flying::Info | Flying::Create | Flying::Listed(..) => None,
        });
        asked.chain(self.listings.iter().map(|listing| listing.id))
    }

    fn waits_since(&self) -> Option<Duration> {
        self.asked.since()
    }
}

impl Nats {
    fn subject(&self, home: u16) -> String {
        format!("$KV.{}.{}", self.bucket, key_of(home))
    }

    /// Publishes a request, whose answer has a subject of its own.
    fn publish(
        &mut self,
        turn: &mut Turn<'_>,
        flying: Flying,
        subject: &str,
        headers: &str,
        content: &[u8],
    ) {
        let reply = self.asked.ask(turn.now, flying);
        let line = match headers.len() {
            0 => format!("PUB {subject} {reply} {}\r\n", content.len()),
            head => {
                let all = head + content.len();
                format!("HPUB {subject} {reply} {head} {all}\r\n{headers}")
            }
        };
        turn.output.extend_from_slice(line.as_bytes());
        turn.output.extend_from_slice(content);
        turn.output.extend_from_slice(b"\r\n");
    }

    fn ask(&mut self, turn: &mut Turn<'_>, flying: Flying, call: &str, content: &Value) {
        let subject = format!("$JS.API.STREAM.{call}.KV_{}", self.bucket);
        let content = content.to_string();
        self.publish(turn, flying, &subject, "", content.as_bytes());
    }

    fn ask_for_bucket(&mut self, turn: &mut Turn<'_>) {
        self.ask(turn, Flying::Info, "INFO", &json!({}));
    }

    fn create_bucket(&mut self, turn: &mut Turn<'_>) {
        let bucket = &self.bucket;
        // One server has one copy. Several are taken for a cluster.
        let replicas = match turn.config.servers.len() {
            MAX_REPLICAS.. => MAX_REPLICAS,
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
        self.ask(turn, Flying::Create, "CREATE", &config);
    }

    fn handle_answer(
        &mut self,
        turn: &mut Turn<'_>,
        flying: Flying,
        answer: Result<Value, EngineError>,
    ) -> Result<(), EngineError> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.refuse(turn, &flying, error),
        };
        let error = ApiError::of(&answer);
        match flying {
            Flying::Info => match error {
                None => {
                    let most = &answer["config"]["max_msgs_per_subject"];
                    if most.as_i64() != Some(1) {
                        let what = format!("the stream KV_{} is not one of ours", self.bucket);
                        return Err(EngineError::Failed(what));
                    }
                    self.stage = Stage::Ready;
                }
                Some(error) if error.code == code::NO_STREAM => self.create_bucket(turn),
                Some(error) => return Err(error.into()),
            },
            Flying::Create => match error {
                None => self.stage = Stage::Ready,
                // Another edge was faster.
                Some(error) if error.code == code::STREAM_IN_USE => self.ask_for_bucket(turn),
                Some(error) => return Err(error.into()),
            },
            Flying::Read(id, home) => {
                let read = read_entry(error, &answer, home);
                turn.answer(id, read.map(Reply::Read));
            }
            Flying::Write(id) => {
                let stream = format!("KV_{}", self.bucket);
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
                turn.answer(id, written);
            }
            Flying::Homes(id) => match error {
                Some(error) => turn.answer(id, Err(error.into())),
                None => self.list(turn, id, &answer),
            },
            Flying::Listed(id, home) => {
                let read = match read_entry(error, &answer, home) {
                    Ok(read) => read,
                    Err(error) => return self.refuse(turn, &flying, error),
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
                    turn.answer(id, Ok(reply));
                }
            }
        }
        Ok(())
    }

    /// Answers a call with an error. Without a bucket the connection is of no use.
    fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        flying: &Flying,
        error: EngineError,
    ) -> Result<(), EngineError> {
        match *flying {
            Flying::Info | Flying::Create => return Err(error),
            Flying::Read(id, _) | Flying::Write(id) | Flying::Homes(id) => {
                turn.answer(id, Err(error));
            }
            Flying::Listed(id, _) => {
                let known = self.listings.len();
                self.listings.retain(|listing| listing.id != id);
                if self.listings.len() < known {
                    turn.answer(id, Err(error));
                }
            }
        }
        Ok(())
    }

    /// Reads each of the homes that there are.
    fn list(&mut self, turn: &mut Turn<'_>, id: CallId, answer: &Value) {
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
            turn.answer(id, Ok(Reply::List(Vec::new())));
            return;
        }
        self.listings.push(Listing {
            id,
            left: homes.len(),
            entries: Vec::new(),
        });
        for home in homes {
            self.read(turn, Flying::Listed(id, home), home);
        }
    }

    fn read(&mut self, turn: &mut Turn<'_>, flying: Flying, home: u16) {
        // This is answered by the leader. A direct get may be answered by a replica that is behind.
        let content = json!({ "last_by_subj": self.subject(home) });
        self.ask(turn, flying, "MSG.GET", &content);
    }
}
