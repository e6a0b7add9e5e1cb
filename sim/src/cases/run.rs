//! The interpreter: plays a case on a stage.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use k256::elliptic_curve::sec1::ToSec1Point;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use voltlane_core::keys::{KeyPair, PublicKey, SharedKey};

use super::item::{literal, number, plain, spoil};
use super::link3::Asking;
use super::v3::Peers;
use super::{Case, Step, duration};
use crate::codec::{DATA, FAILURE, Hello, KICK, RESUMED, Tagged, frame};

/// The next event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole body.
    Body(Vec<u8>),
    /// The edge ended the stream in order.
    Closed,
    /// The edge ended the stream abruptly.
    Cut,
    /// Nothing yet. Returned only by a stage that can tell.
    Nothing,
}

/// The place where a case is played.
///
/// Connections have names. When a name is reused, the earlier connection is called `name'` from then on.
pub trait Stage {
    /// Opens a connection. Returns false if it is turned away before any byte.
    fn connect(&mut self, conn: &str, from: IpAddr) -> bool;
    /// Writes bytes that a line of the case names. Returns false if the stage ended the stream among them, which ends the case.
    fn write(&mut self, conn: &str, bytes: &[u8]) -> bool;
    /// Writes handshake bytes that only lead up to the point of the case.
    fn write_on_the_way(&mut self, conn: &str, bytes: &[u8]);
    /// Ends the stream, in order or not.
    fn end(&mut self, conn: &str, in_order: bool);
    /// Starts or stops reading from the connection.
    fn set_reading(&mut self, conn: &str, reading: bool);
    /// Reads `bytes` of what waits, though reading is stopped.
    fn take(&mut self, conn: &str, bytes: usize);
    /// Returns the next event. A stage that cannot see silence waits for one.
    fn incoming(&mut self, conn: &str) -> Incoming;
    /// Returns whether the stage can see that nothing comes.
    fn sees_silence(&self) -> bool;
    /// Like [`write`](Self::write), for the link.
    fn link_write(&mut self, bytes: &[u8]) -> bool;
    /// Ends the link.
    fn link_end(&mut self, in_order: bool);
    /// Makes the backend available again.
    fn link_comes(&mut self);
    /// Like [`set_reading`](Self::set_reading), for the link.
    fn set_link_reading(&mut self, reading: bool);
    /// Like [`take`](Self::take), for the link.
    fn link_take(&mut self, bytes: usize);
    /// Returns the next body on the link, or its end.
    fn link_incoming(&mut self) -> Incoming;
    /// Lets time pass.
    fn wait(&mut self, duration: Duration);
    /// Applies another configuration, given as all lines so far.
    fn configure(&mut self, config: &str);
    /// Shuts the edge down in order.
    fn shut_down(&mut self, within: Duration);
    /// Returns a counter or a gauge, or `None` if it cannot be seen.
    fn count(&mut self, name: &str) -> Option<u64>;
    /// A session with this id began in version 3, where a stage does not see it by itself.
    fn note_session(&mut self, _id: u64) {}
    /// Returns all whole bodies that are left on the connection, at the end of a case.
    fn rest(&mut self, conn: &str) -> Vec<Vec<u8>>;
    /// Ends the case: checks that there was no further output.
    fn finish(&mut self) -> Result<(), String>;
}

/// How far a case was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Played {
    /// To its end, with every expectation met.
    Whole,
    /// Up to the point where the stage ended a stream.
    Stopped,
}

struct Session {
    keys: KeyPair,
    id: u64,
}

/// The peer's side of a connection.
#[derive(Default)]
struct Conn {
    /// The session that it joined or claimed.
    session: String,
    challenge: Option<Vec<u8>>,
}

struct Player<'s, S: ?Sized> {
    stage: &'s mut S,
    rng: ChaCha20Rng,
    sessions: BTreeMap<String, Session>,
    conns: BTreeMap<String, Conn>,
    edge_key: Option<PublicKey>,
    /// The last response sent for each session.
    responses: BTreeMap<String, Vec<u8>>,
    peers: Peers,
    asking: Asking,
    config: String,
    stopped: bool,
}

/// Plays `case`.
///
/// # Errors
/// A line whose expectation failed: what was expected, and what came instead.
pub fn run<S: Stage + ?Sized>(
    case: &Case,
    stage: &mut S,
    seed: [u8; 32],
) -> Result<Played, String> {
    let mut player = Player {
        stage,
        rng: ChaCha20Rng::from_seed(seed),
        sessions: BTreeMap::new(),
        conns: BTreeMap::new(),
        edge_key: None,
        responses: BTreeMap::new(),
        peers: Peers::new(seed),
        asking: Asking::default(),
        config: case.config.clone(),
        stopped: false,
    };
    for step in &case.steps {
        let told = |error| {
            let words = step.words.join(" ");
            format!(
                "{} \"{}\", line {} `{words}`: {error}",
                case.id, case.title, step.line
            )
        };
        player.step(step).map_err(told)?;
        if player.stopped {
            return Ok(Played::Stopped);
        }
    }
    let left = player.peers.finish(player.stage);
    let left = left.and_then(|()| player.pass_acks());
    left.and_then(|()| player.stage.finish())
        .map_err(|error| format!("{} \"{}\", at the end: {error}", case.id, case.title))?;
    Ok(Played::Whole)
}

type Done = Result<(), String>;

impl<S: Stage + ?Sized> Player<'_, S> {
    fn step(&mut self, step: &Step) -> Done {
        let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["wait", time] => {
                self.stage.wait(duration(time).ok_or("no such time")?);
                Ok(())
            }
            ["config", rest @ ..] => {
                self.config += &rest.join(" ");
                self.config += "\n";
                self.stage.configure(&self.config);
                Ok(())
            }
            ["edge", "counts", name, count] => {
                let wanted = number(count).ok_or("no such number")?;
                match self.stage.count(name) {
                    Some(found) if found != wanted => Err(format!("it is {found}")),
                    _ => Ok(()),
                }
            }
            ["edge", "shuts", "down", "within", time] => {
                self.stage.shut_down(duration(time).ok_or("no such time")?);
                Ok(())
            }
            ["backend", rest @ ..] => self.backend(rest),
            [conn, "joins", "in", "3", rest @ ..] => self.join_in_3(conn, rest),
            [conn, "claims", session, "in", "3", rest @ ..] => self.claim_in_3(conn, session, rest),
            [conn, "returns", "in", "3"] => self.return_in_3(conn, conn),
            [conn, "returns", "as", session, "in", "3"] => self.return_in_3(conn, session),
            [
                conn,
                how @ ("seals" | "skips" | "spoils" | "miscounts"),
                items @ ..,
            ] => self.seal(conn, how, items),
            [conn, "repeats"] => {
                let bytes = self.peers.again(conn)?;
                self.stopped = !self.stage.write(conn, &bytes);
                Ok(())
            }
            [conn, "joins", from @ ..] => {
                self.connect(conn, from)?;
                self.hello(conn)?;
                self.say(conn, &["key"])?;
                self.hear(conn, "id")
            }
            [conn, "connects", from @ ..] => self.connect(conn, from),
            [conn, "from", place, "is", "turned", "away"] => {
                let from = address(&["from", place])?;
                (!self.stage.connect(conn, from))
                    .then_some(())
                    .ok_or_else(|| "it was let in".to_owned())
            }
            [conn, "claims", session, from @ ..] => self.claim(conn, session, from),
            [conn, "returns"] => self.come_back(conn, conn, &[]),
            [conn, "returns", "as", session, from @ ..] => self.come_back(conn, session, from),
            [conn, "sends", items @ ..] => self.send(conn, items),
            [conn, "ends"] => {
                self.stage.end(conn, true);
                Ok(())
            }
            [conn, "breaks"] => {
                self.stage.end(conn, false);
                Ok(())
            }
            [conn, "stops", "reading"] => {
                self.stage.set_reading(conn, false);
                Ok(())
            }
            [conn, "takes", bytes, "bytes"] => {
                self.stage.take(conn, count(bytes)?);
                Ok(())
            }
            [conn, "reads"] => {
                self.stage.set_reading(conn, true);
                Ok(())
            }
            [conn, "hears", item, times, "times"] => {
                let times = number(times).ok_or("no such number")?;
                (0..times).try_for_each(|_| self.hear(conn, item))
            }
            [conn, "differs", "from", other] => {
                let (one, other) = (self.challenge(conn)?, self.challenge(other)?);
                // The nonce is the last 24 bytes.
                (one[..48] != other[..48] && one[48..] != other[48..])
                    .then_some(())
                    .ok_or_else(|| "they have something in common".to_owned())
            }
            [conn, "hears", items @ ..] => items.iter().try_for_each(|item| self.hear(conn, item)),
            [conn, "is", "open"] => {
                if !self.stage.sees_silence() {
                    return Ok(());
                }
                expect(&self.next_event(conn)?, &[Incoming::Nothing])
            }
            [conn, "is", "turned", "away"] => {
                (!self.stage.connect(conn, Ipv4Addr::LOCALHOST.into()))
                    .then_some(())
                    .ok_or_else(|| "it was let in".to_owned())
            }
            [conn, "is", "closed"] => {
                let come = self.next_event(conn)?;
                expect(&come, &[Incoming::Closed, Incoming::Cut])
            }
            [conn, "is", "cut"] => expect(&self.next_event(conn)?, &[Incoming::Cut]),
            _ => Err("this line means nothing".into()),
        }
    }

    /// Returns what comes next on a connection, but what version 3 passes over.
    fn next_event(&mut self, conn: &str) -> Result<Incoming, String> {
        match self.peers.has(conn) {
            true => self.peers.event(self.stage, conn),
            false => Ok(self.stage.incoming(conn)),
        }
    }

    /// Joins, with an empty token. What follows is a part of Hello: `longest=100`.
    fn join_in_3(&mut self, conn: &str, rest: &[&str]) -> Done {
        let (hello, from) = match rest {
            ["from", ..] | [] => ("hello".to_owned(), rest),
            [options, from @ ..] => (format!("hello,{options}"), from),
        };
        self.connect(conn, from)?;
        self.say(conn, &["version:3", &hello])?;
        self.peers.hear(self.stage, conn, "welcome")?;
        let bytes = self.peers.seal(conn, "seals", &["token:[]"])?;
        self.stage.write_on_the_way(conn, &bytes);
        Ok(())
    }

    /// Claims a session. What follows is a part of the Claim: `counter=3,received=0`.
    fn claim_in_3(&mut self, conn: &str, session: &str, rest: &[&str]) -> Done {
        let (options, from) = match rest {
            ["from", ..] | [] => (String::new(), rest),
            [options, from @ ..] => (format!(",{options}"), from),
        };
        self.connect(conn, from)?;
        self.say(conn, &["version:3", &format!("claim:{session}{options}")])
    }

    fn return_in_3(&mut self, conn: &str, session: &str) -> Done {
        self.claim_in_3(conn, session, &[])?;
        let bytes = self.peers.seal(conn, "seals", &[])?;
        self.stage.write_on_the_way(conn, &bytes);
        self.peers.hear(self.stage, conn, "answer:0")?;
        self.peers.hear(self.stage, conn, "resumed")?;
        let bytes = self.peers.seal(conn, "seals", &["early_end"])?;
        self.stage.write_on_the_way(conn, &bytes);
        Ok(())
    }

    /// Sends a record; or makes one and does not send it; or changes one of its bits, which the first word names.
    fn seal(&mut self, conn: &str, how: &str, items: &[&str]) -> Done {
        let (bit, items) = match (how, items) {
            ("spoils", [bit, items @ ..]) => (Some(count(bit)?), items),
            _ => (None, items),
        };
        let mut bytes = self.peers.seal(conn, how, items)?;
        if let Some(bit) = bit {
            let byte = bytes.get_mut(4 + bit / 8).ok_or("no such bit")?;
            *byte ^= 1 << (bit % 8);
        }
        if how != "skips" {
            self.stopped = !self.stage.write(conn, &bytes);
        }
        Ok(())
    }

    fn backend(&mut self, words: &[&str]) -> Done {
        match words {
            ["comes"] => self.stage.link_comes(),
            ["ends"] => self.stage.link_end(true),
            ["breaks"] => self.stage.link_end(false),
            ["stops", "reading"] => self.stage.set_link_reading(false),
            ["reads"] => self.stage.set_link_reading(true),
            ["takes", bytes, "bytes"] => self.stage.link_take(count(bytes)?),
            ["is", "dropped"] => {
                let come = self.stage.link_incoming();
                return expect(&come, &[Incoming::Closed, Incoming::Cut]);
            }
            ["asks", options @ ..] => {
                let ask = self.asking.ask(options).ok_or("no such ASK")?;
                self.link_write(&ask);
            }
            ["orders", who, orders @ ..] => {
                let id = self.id(who)?;
                let list = |names: &str| {
                    let ids = names.split('+').map(|name| self.id(name).ok());
                    let ids = ids.map(|id| id.map(u64::to_le_bytes));
                    ids.collect::<Option<Vec<_>>>().map(|ids| ids.concat())
                };
                let mut bytes = Vec::new();
                for order in orders {
                    bytes.extend(Asking::order(id, order, list).ok_or("no such order")?);
                }
                self.link_write(&bytes);
            }
            ["hears", "granted", options @ ..] => {
                return match self.stage.link_incoming() {
                    Incoming::Body(body) => self.asking.hear_grant(&body, options),
                    other => Err(format!("{} came", shown(&other))),
                };
            }
            ["hears", who, notice] if Asking::notice(notice).is_some() => {
                let id = self.id(who)?;
                let (flag, begins) = Asking::notice(notice).ok_or("no such notice")?;
                let next = match notice.starts_with("acked") {
                    true => self.stage.link_incoming(),
                    false => self.link_next(),
                };
                return match next {
                    Incoming::Body(body) if Asking::compares(&body, id, flag, &begins) => Ok(()),
                    other => Err(format!("{} came", shown(&other))),
                };
            }
            ["hears", "nothing"] => {
                if self.stage.sees_silence() {
                    return expect(&self.link_next(), &[Incoming::Nothing]);
                }
            }
            ["hears", who, "ends", reason, rest @ ..] => {
                let reason = literal(reason).ok_or("no such reason")?;
                return (0..times(rest)?).try_for_each(|_| self.link_hear(who, FAILURE, &reason));
            }
            ["hears", who, "returns", rest @ ..] => {
                return (0..times(rest)?).try_for_each(|_| self.link_hear(who, RESUMED, b""));
            }
            ["hears", who, item, rest @ ..] => {
                let data = plain(item).ok_or("no such item")?;
                return (0..times(rest)?).try_for_each(|_| self.link_hear(who, DATA, &data));
            }
            ["kicks", who] => {
                let id = self.id(who)?;
                let (flag, data) = (KICK, &[][..]);
                self.link_write(&Tagged { id, flag, data }.to_frame());
            }
            ["sends", "raw", items @ ..] => {
                let mut bytes = Vec::new();
                for item in items {
                    bytes.extend(self.backend_item(item)?);
                }
                self.link_write(&bytes);
            }
            ["sends", who, item, times, "times"] => {
                let (id, flag) = (self.id(who)?, DATA);
                let data = &plain(item).ok_or("no such item")?;
                let packet = Tagged { id, flag, data }.to_frame();
                self.link_write(&packet.repeat(count(times)?));
            }
            ["sends", who, items @ ..] => {
                let (id, flag) = (self.id(who)?, DATA);
                let mut bytes = Vec::new();
                for item in items {
                    let data = &plain(item).ok_or("no such item")?;
                    bytes.extend(Tagged { id, flag, data }.to_frame());
                }
                self.link_write(&bytes);
            }
            _ => return Err("this line means nothing".into()),
        }
        Ok(())
    }

    /// Returns the bytes of an item in a raw backend write, which may contain an id or a frame around one: `frame:id:a+[00]`.
    fn backend_item(&self, item: &str) -> Result<Vec<u8>, String> {
        if let Some(inner) = item.strip_prefix("frame:") {
            return Ok(frame(&self.backend_item(inner)?));
        }
        let mut bytes = Vec::new();
        for part in item.split('+') {
            match part.strip_prefix("id:") {
                Some(who) => bytes.extend(self.id(who)?.to_le_bytes()),
                None => bytes.extend(plain(part).ok_or("no such item")?),
            }
        }
        Ok(bytes)
    }

    /// Returns the next event on the link but an acknowledgement.
    fn link_next(&mut self) -> Incoming {
        loop {
            match self.stage.link_incoming() {
                Incoming::Body(body) if self.asking.passes_over(&body) => {}
                other => return other,
            }
        }
    }

    /// Passes over the acknowledgements that are left at the end of a case.
    fn pass_acks(&mut self) -> Done {
        if !self.asking.is_granted() {
            return Ok(());
        }
        match self.link_next() {
            Incoming::Nothing => Ok(()),
            more => Err(format!("the backend heard more: {}", shown(&more))),
        }
    }

    fn link_write(&mut self, bytes: &[u8]) {
        self.stopped = !self.stage.link_write(bytes);
    }

    fn link_hear(&mut self, who: &str, flag: u8, data: &[u8]) -> Done {
        let wanted = (self.id(who)?, flag, data.to_vec());
        match self.link_next() {
            Incoming::Body(body) => {
                let tagged = Tagged::read(&body).ok_or("a body that is no tagged packet")?;
                let came = (tagged.id, tagged.flag, tagged.data.to_vec());
                (came == wanted)
                    .then_some(())
                    .ok_or_else(|| format!("{} came", shown_packet(&came)))
            }
            other => Err(format!("{} came", shown(&other))),
        }
    }

    /// Returns the id of a session, or a literal number.
    fn id(&self, who: &str) -> Result<u64, String> {
        match self.sessions.get(who) {
            Some(session) => Ok(session.id),
            None => (self.peers.id(who).or_else(|| number(who)))
                .ok_or_else(|| format!("nobody is {who}")),
        }
    }

    fn connect(&mut self, conn: &str, from: &[&str]) -> Done {
        let from = address(from)?;
        self.peers.rename(conn);
        if !self.stage.connect(conn, from) {
            return Err("it was turned away".into());
        }
        let session = conn.to_owned();
        let challenge = None;
        self.conns
            .insert(conn.to_owned(), Conn { session, challenge });
        Ok(())
    }

    fn hello(&mut self, conn: &str) -> Done {
        self.say(conn, &["version:2"])?;
        self.hear(conn, "key")
    }

    fn claim(&mut self, conn: &str, session: &str, from: &[&str]) -> Done {
        self.connect(conn, from)?;
        self.hello(conn)?;
        self.say(conn, &[&format!("claim:{session}")])?;
        self.stage.wait(Duration::from_millis(1));
        self.hear(conn, "challenge")
    }

    fn come_back(&mut self, conn: &str, session: &str, from: &[&str]) -> Done {
        self.claim(conn, session, from)?;
        self.say(conn, &["response", "ping"])?;
        self.hear(conn, "ping")
    }

    fn send(&mut self, conn: &str, items: &[&str]) -> Done {
        let bytes = self.items(conn, items)?;
        self.stopped = !self.stage.write(conn, &bytes);
        Ok(())
    }

    /// Sends items that only lead up to the point of the case.
    fn say(&mut self, conn: &str, items: &[&str]) -> Done {
        let bytes = self.items(conn, items)?;
        self.stage.write_on_the_way(conn, &bytes);
        Ok(())
    }

    fn items(&mut self, conn: &str, items: &[&str]) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for item in items {
            match self.peers.packet(conn, item)? {
                Some(packet) => bytes.extend(packet),
                None => bytes.extend(self.item(conn, item)?),
            }
        }
        Ok(bytes)
    }

    fn item(&mut self, conn: &str, item: &str) -> Result<Vec<u8>, String> {
        if let Some(bytes) = plain(item) {
            return Ok(bytes);
        }
        let known = |bytes: Vec<u8>| Ok(Hello::PublicKey(bytes).to_frame());
        match item {
            "key" | "key:uncompressed" => {
                let keys = KeyPair::generate(&mut self.rng);
                let point = keys.public();
                self.sessions
                    .insert(conn.to_owned(), Session { keys, id: u64::MAX });
                return known(match item {
                    "key" => point.as_bytes().to_vec(),
                    _ => uncompressed(&point),
                });
            }
            "key:edge" => {
                let key = self.edge_key.as_ref().ok_or("no key was heard")?;
                return known(key.as_bytes().to_vec());
            }
            _ => {}
        }
        if let Some(session) = item.strip_prefix("claim:") {
            let id = self.id(session)?;
            if let Some(conn) = self.conns.get_mut(conn) {
                conn.session = session.to_owned();
            }
            return Ok(Hello::Id(id).to_frame());
        }
        let response = item.strip_prefix("response").ok_or("no such item")?;
        let (kind, changes) = match response.split_once('/') {
            Some((kind, changes)) => (kind, changes),
            None => (response, ""),
        };
        let sealed = self.response(conn, kind)?;
        let sealed = spoil(sealed, changes).ok_or("no such change")?;
        let session = self.conn(conn)?.session.clone();
        self.responses.insert(session, sealed.clone());
        Ok(Hello::Response(sealed).to_frame())
    }

    fn response(&mut self, conn: &str, kind: &str) -> Result<Vec<u8>, String> {
        let (session, at) = match kind.split(':').collect::<Vec<_>>().as_slice() {
            [""] => (self.conn(conn)?.session.clone(), conn),
            ["", "echo"] => return self.challenge(conn),
            ["", "again"] => {
                let session = &self.conn(conn)?.session;
                let last = self.responses.get(session);
                return Ok(last.ok_or("no response was sent")?.clone());
            }
            ["", "as", session] => ((*session).to_owned(), conn),
            ["", "to", other] => (self.conn(conn)?.session.clone(), *other),
            _ => return Err("no such response".into()),
        };
        let edge = self.edge_key.as_ref().ok_or("no key was heard")?;
        let owner = self.sessions.get(&session).ok_or("nobody's session")?;
        let shared: SharedKey = owner.keys.agree(edge);
        let challenge = self.challenge(at)?;
        let mut nonce = [0; 24];
        self.rng.fill_bytes(&mut nonce);
        let mut sealed = Vec::new();
        // A challenge that does not open is a decoy. Then any 32 bytes will do.
        let opened = shared.open(&challenge);
        let bytes = opened.map_or([0; 32].to_vec(), |opened| opened.to_vec());
        shared.seal_with_nonce(&bytes, &nonce, &mut sealed);
        Ok(sealed)
    }

    fn conn(&self, conn: &str) -> Result<&Conn, String> {
        self.conns
            .get(conn)
            .ok_or_else(|| format!("no connection {conn}"))
    }

    fn challenge(&self, conn: &str) -> Result<Vec<u8>, String> {
        let challenge = self.conn(conn)?.challenge.clone();
        challenge.ok_or_else(|| format!("{conn} heard no challenge"))
    }

    fn hear(&mut self, conn: &str, item: &str) -> Done {
        if self.peers.has(conn) {
            return self.peers.hear(self.stage, conn, item);
        }
        if item == "nothing" {
            if self.stage.sees_silence() {
                return expect(&self.stage.incoming(conn), &[Incoming::Nothing]);
            }
            return Ok(());
        }
        let body = match self.stage.incoming(conn) {
            Incoming::Body(body) => body,
            other => return Err(format!("{item} was expected, {} came", shown(&other))),
        };
        let other = || format!("{item} was expected, {} came", shown_bytes(&body));
        match (item, Hello::read(&body)) {
            ("key", Some(Hello::PublicKey(point))) => {
                let key = PublicKey::from_sec1(&point).map_err(|_| other())?;
                let same = self.edge_key.get_or_insert(key);
                (*same == key).then_some(()).ok_or_else(other)
            }
            ("id", Some(Hello::Id(id))) => {
                if let Some(session) = self.sessions.get_mut(conn) {
                    session.id = id;
                }
                Ok(())
            }
            ("challenge", Some(Hello::Challenge(sealed))) if sealed.len() == 72 => {
                if let Some(conn) = self.conns.get_mut(conn) {
                    conn.challenge = Some(sealed);
                }
                Ok(())
            }
            ("ping", Some(Hello::Ping)) => Ok(()),
            ("key" | "id" | "challenge" | "ping", _) => Err(other()),
            _ => {
                let wanted = plain(item).ok_or("no such item")?;
                (wanted == body).then_some(()).ok_or_else(other)
            }
        }
    }
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "no such number".to_owned())
}

/// Parses `N times`; nothing means once.
fn times(words: &[&str]) -> Result<u64, String> {
    match words {
        [] => Ok(1),
        [times, "times"] => number(times).ok_or_else(|| "no such number".into()),
        _ => Err("how often?".into()),
    }
}

fn address(from: &[&str]) -> Result<IpAddr, String> {
    match from {
        [] => Ok(Ipv4Addr::LOCALHOST.into()),
        ["from", address] => address.parse().map_err(|_| "no such address".into()),
        _ => Err("from where?".into()),
    }
}

fn uncompressed(point: &PublicKey) -> Vec<u8> {
    let key = k256::PublicKey::from_sec1_bytes(point.as_bytes()).expect("a point");
    key.to_sec1_point(false).as_bytes().to_vec()
}

fn expect(come: &Incoming, wanted: &[Incoming]) -> Done {
    if wanted.contains(come) {
        return Ok(());
    }
    Err(format!("{} came", shown(come)))
}

fn shown(incoming: &Incoming) -> String {
    match incoming {
        Incoming::Body(body) => shown_bytes(body),
        Incoming::Closed => "an end in order".into(),
        Incoming::Cut => "an abrupt end".into(),
        Incoming::Nothing => "nothing".into(),
    }
}

fn shown_bytes(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(40)];
    format!("{} bytes \"{}\"", bytes.len(), start.escape_ascii())
}

fn shown_packet((id, flag, data): &(u64, u8, Vec<u8>)) -> String {
    format!("flag {flag} of {id:016x} with {}", shown_bytes(data))
}
