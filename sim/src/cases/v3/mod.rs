//! The peers of version 3 in a case of an edge: what a client seals, and what it opens (SPEC 19 to 25).

pub mod items;
pub mod keys;

use std::collections::{BTreeMap, VecDeque};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use self::items::{Came, compare, decode, encode};
use self::keys::{Key, Lane, Pair, expand, extract, open, seal, sha256};
use super::item::{literal, number, spoil};
use super::run::{Incoming, Stage};
use crate::codec::frame;

type Done = Result<(), String>;

/// A session as its client knows it.
#[derive(Clone)]
struct Session {
    id: u64,
    claim_key: Key,
    hint: [u8; 4],
    handle: Vec<u8>,
    run: Vec<u8>,
    /// The resume secret of the counter `least`.
    secret: Key,
    least: u64,
    counter: u64,
    /// The highest number up that was sealed, and the highest number down that came.
    sent: u64,
    received: u64,
}

/// A connection of version 3.
#[derive(Default)]
struct Line {
    session: String,
    /// A Hello that was sent, with its private key.
    hello: Option<(Vec<u8>, Pair)>,
    /// A Claim that was sent: its tc, and the resume secret of its counter.
    claim: Option<(Key, Key)>,
    sealer: Option<Lane>,
    /// The number of the next packet up.
    next: u64,
    /// What follows EARLY_END: the secret, and "up received" of RESUMED.
    up: Option<Key>,
    received_up: u64,
    /// "packets down received" of the Claim.
    claimed: u64,
    opener: Option<Lane>,
    /// What came and no line has asked for.
    come: VecDeque<Came>,
    pieces: Vec<u8>,
    /// The highest number up that was acknowledged on this connection.
    acked: u64,
    /// The last record, as a frame.
    last: Vec<u8>,
}

/// All peers of version 3 of a case.
pub(super) struct Peers {
    rng: ChaCha20Rng,
    sessions: BTreeMap<String, Session>,
    lines: BTreeMap<String, Line>,
    /// The marks of all attempts, by their connections.
    marks: BTreeMap<String, [u8; 8]>,
    edge: Option<Vec<u8>>,
}

/// The options of a word: names and values.
pub type Options<'a> = Vec<(&'a str, &'a str)>;

/// Splits `NAME,OPTION=VALUE,…/CHANGE/CHANGE` into the options and the changes.
///
/// # Errors
/// Something that is no option.
pub fn options(word: &str) -> Result<(Options<'_>, &str), String> {
    let (head, changes) = word.split_once('/').unwrap_or((word, ""));
    let options = head.split(',').skip(1);
    let options: Option<Vec<_>> = options.map(|one| one.split_once('=')).collect();
    Ok((options.ok_or("NAME,OPTION=VALUE")?, changes))
}

/// Parses a number.
///
/// # Errors
/// Something that is none.
pub fn int(text: &str) -> Result<u64, String> {
    number(text).ok_or_else(|| format!("{text} is no number"))
}

/// Parses literal bytes.
///
/// # Errors
/// Something that is none.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    literal(text).ok_or_else(|| format!("{text} is no bytes"))
}

impl Peers {
    pub(super) fn new(seed: [u8; 32]) -> Peers {
        Peers {
            rng: ChaCha20Rng::from_seed(seed),
            sessions: BTreeMap::new(),
            lines: BTreeMap::new(),
            marks: BTreeMap::from([("join".to_owned(), [0; 8])]),
            edge: None,
        }
    }

    pub(super) fn id(&self, who: &str) -> Option<u64> {
        self.sessions.get(who).map(|session| session.id)
    }

    /// Whether this connection is of version 3.
    pub(super) fn has(&self, conn: &str) -> bool {
        self.lines.contains_key(conn)
    }

    /// The name is given to another connection.
    pub(super) fn rename(&mut self, conn: &str) {
        if let Some(old) = self.lines.remove(conn) {
            self.lines.insert(format!("{conn}'"), old);
        }
    }

    fn line(&mut self, conn: &str) -> Result<&mut Line, String> {
        let line = self.lines.get_mut(conn);
        line.ok_or_else(|| format!("{conn} does not speak version 3"))
    }

    fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut random = [0; N];
        self.rng.fill_bytes(&mut random);
        random
    }

    /// Encodes a packet of the opening, or `None` if it is not one of version 3. `version:3` begins a connection of it.
    pub(super) fn packet(&mut self, conn: &str, word: &str) -> Result<Option<Vec<u8>>, String> {
        if word == "version:3" {
            self.lines.insert(conn.to_owned(), Line::default());
            return Ok(Some(frame(&[1, 3])));
        }
        if !self.has(conn) {
            return Ok(None);
        }
        let name = word.split([',', '/']).next().unwrap_or_default();
        match name.split_once(':').unwrap_or((name, "")) {
            ("hello", "") => self.hello(conn, word).map(Some),
            ("claim", session) => self.claim(conn, session, word).map(Some),
            _ => Ok(None),
        }
    }

    fn hello(&mut self, conn: &str, word: &str) -> Result<Vec<u8>, String> {
        let (options, changes) = options(word)?;
        let pair = Pair::new(&self.random());
        let (mut features, mut hint, mut point) = (0x8000_0000, vec![0; 4], pair.public());
        let mut extensions = Vec::new();
        for (option, value) in options {
            match option {
                "features" => features = int(value)? as u32,
                "hint" => hint = bytes(value)?,
                "point" => point = bytes(value)?,
                "longest" => {
                    extensions.extend([1, 4]);
                    extensions.extend((int(value)? as u32).to_le_bytes());
                }
                "ext" => extensions.extend(bytes(value)?),
                _ => return Err(format!("Hello has no {option}")),
            }
        }
        let body = [
            &[0x10],
            &features.to_le_bytes()[..],
            &hint,
            &point,
            &extensions,
        ]
        .concat();
        let body = spoil(body, changes).ok_or("no such change")?;
        let line = self.line(conn)?;
        line.hello = Some((body.clone(), pair));
        line.session = conn.to_owned();
        Ok(frame(&body))
    }

    fn claim(&mut self, conn: &str, who: &str, word: &str) -> Result<Vec<u8>, String> {
        let (options, changes) = options(word)?;
        let mut nonce: [u8; 24] = self.random();
        let session = self.sessions.get(who).ok_or("nobody's session")?.clone();
        let (mut counter, mut run) = (session.counter + 1, session.run.clone());
        let (mut hint, mut handle) = (session.hint.to_vec(), session.handle.clone());
        let (mut first, mut received) = (session.sent + 1, session.received);
        let (mut life, mut features, mut flags, mut extensions) = (0, 0, 0, Vec::new());
        for (option, value) in options {
            match option {
                "counter" => counter = int(value)?,
                "first" => first = int(value)?,
                "received" => received = int(value)?,
                "life" => life = int(value)?,
                "features" => features = int(value)? as u32,
                "flags" => flags = int(value)? as u32,
                "run" => run = bytes(value)?,
                "hint" => hint = bytes(value)?,
                "nonce" => nonce = bytes(value)?.try_into().map_err(|_| "24 bytes")?,
                "handle" => {
                    handle = match self.sessions.get(value) {
                        Some(other) => other.handle.clone(),
                        None => bytes(value)?,
                    }
                }
                "ext" => extensions = bytes(value)?,
                _ => return Err(format!("Claim has no {option}")),
            }
        }
        let position = [
            &counter.to_le_bytes()[..],
            &life.to_le_bytes(),
            &run,
            &first.to_le_bytes(),
            &received.to_le_bytes(),
            &features.to_le_bytes(),
            &flags.to_le_bytes(),
        ]
        .concat();
        let head = [&[0x12], &hint[..], &handle, &nonce].concat();
        let clear = [&head[..], &extensions].concat();
        let key = expand(&session.claim_key, &[b"seal"]);
        let sealed = seal(&key, nonce, &clear, &position);
        let body = [&head[..], &sealed, &extensions].concat();
        let body = spoil(body, changes).ok_or("no such change")?;
        let tc = sha256(&[b"voltlane 3 resume", &body]);
        let mut secret = session.secret;
        for _ in session.least..counter.min(session.least + 1_000) {
            secret = expand(&secret, &[b"next"]);
        }
        self.marks
            .insert(conn.to_owned(), tc[..8].try_into().expect("8 bytes"));
        if let Some(session) = self.sessions.get_mut(who) {
            session.counter = session.counter.max(counter);
        }
        let line = self.line(conn)?;
        who.clone_into(&mut line.session);
        line.claim = Some((tc, secret));
        line.sealer = Some(Lane::new(&expand(&secret, &[b"early", &tc])));
        (line.next, line.claimed) = (first, received);
        Ok(frame(&body))
    }

    /// Seals items as the next record. Returns its frame.
    pub(super) fn seal(
        &mut self,
        conn: &str,
        how: &str,
        words: &[&str],
    ) -> Result<Vec<u8>, String> {
        let (mut plain, mut numbers, mut ends_early) = (Vec::new(), 0, false);
        for word in words.iter().filter(|word| **word != "nothing") {
            let item = encode(word).ok_or_else(|| format!("{word} is no item"))?;
            plain.extend(item.bytes);
            numbers += item.numbers;
            ends_early |= *word == "early_end";
        }
        let line = self.line(conn)?;
        let number = line.next + u64::from(how == "miscounts");
        let sealer = line.sealer.as_mut().ok_or("there is no secret up")?;
        line.last = frame(&sealer.seal(number, &plain));
        line.next += numbers;
        let (sent, session) = (line.next - 1, line.session.clone());
        if ends_early && let Some(up) = line.up.take() {
            line.sealer = Some(Lane::new(&up));
            line.next = line.received_up.max(line.next - 1) + 1;
        }
        if let Some(session) = self.sessions.get_mut(&session) {
            session.sent = session.sent.max(sent);
        }
        Ok(self.line(conn)?.last.clone())
    }

    /// Returns the last record once more.
    pub(super) fn again(&mut self, conn: &str) -> Result<Vec<u8>, String> {
        Ok(self.line(conn)?.last.clone())
    }

    /// Hears what `word` names.
    pub(super) fn hear<S: Stage + ?Sized>(
        &mut self,
        stage: &mut S,
        conn: &str,
        word: &str,
    ) -> Done {
        if word == "nothing" {
            if !stage.sees_silence() {
                return Ok(());
            }
            return match self.event(stage, conn)? {
                Incoming::Nothing => Ok(()),
                other => Err(format!("{other:?} came")),
            };
        }
        if let Some(up_to) = word.strip_prefix("ack:") {
            return self.hear_ack(stage, conn, int(up_to)?);
        }
        if self.line(conn)?.opener.is_none() {
            return match stage.incoming(conn) {
                Incoming::Body(body) => self.opening(stage, conn, word, &body),
                other => Err(format!("{word} was expected, {other:?} came")),
            };
        }
        let came = match self.item(stage, conn)? {
            Ok(came) => came,
            Err(other) => return Err(format!("{word} was expected, {other:?} came")),
        };
        let marks = &self.marks;
        compare(&came, word, &|name| marks.get(name).copied())?;
        if let Came::Resumed([_, up, ..], _) = came {
            let line = self.lines.get_mut(conn).expect("it was there");
            line.received_up = up;
            let (_, secret) = line.claim.ok_or("nobody claimed")?;
            let session = line.session.clone();
            if let Some(session) = self.sessions.get_mut(&session) {
                session.secret = expand(&secret, &[b"next"]);
                session.least = session.counter + 1;
            }
        }
        Ok(())
    }

    fn hear_ack<S: Stage + ?Sized>(&mut self, stage: &mut S, conn: &str, up_to: u64) -> Done {
        loop {
            let acked = self.line(conn)?.acked;
            if acked == up_to {
                return Ok(());
            }
            let waits = self.line(conn)?.come.len();
            if acked > up_to || waits > 0 {
                return Err(format!("{acked} is acknowledged, {waits} items came"));
            }
            match stage.incoming(conn) {
                Incoming::Body(body) => self.record(conn, &body)?,
                other => return Err(format!("{acked} is acknowledged, {other:?} came")),
            }
        }
    }

    /// Returns the next item that is not passed over, or what came in its place.
    fn item<S: Stage + ?Sized>(
        &mut self,
        stage: &mut S,
        conn: &str,
    ) -> Result<Result<Came, Incoming>, String> {
        loop {
            if let Some(came) = self.line(conn)?.come.pop_front() {
                return Ok(Ok(came));
            }
            match stage.incoming(conn) {
                Incoming::Body(body) if self.line(conn)?.opener.is_some() => {
                    self.record(conn, &body)?;
                }
                other => return Ok(Err(other)),
            }
        }
    }

    /// Returns what comes next but acknowledgements.
    pub(super) fn event<S: Stage + ?Sized>(
        &mut self,
        stage: &mut S,
        conn: &str,
    ) -> Result<Incoming, String> {
        match self.item(stage, conn)? {
            Ok(came) => Err(format!("{came:?} came")),
            Err(other) => Ok(other),
        }
    }

    /// Opens a record. ACK, ACK_NOW and padding are passed over.
    fn record(&mut self, conn: &str, body: &[u8]) -> Done {
        let line = self.lines.get_mut(conn).ok_or("no such connection")?;
        let session = self.sessions.get_mut(&line.session);
        let session = session.ok_or("nobody's session")?;
        let opener = line.opener.as_mut().ok_or("there is no secret down")?;
        let plain = opener
            .open(session.received + 1, body)
            .ok_or("a record that does not open")?;
        for came in decode(&plain).ok_or("a malformed record")? {
            session.received += came.numbers();
            match came {
                Came::Ack(more) => line.acked += more,
                Came::AckNow | Came::Nothing => {}
                Came::Part(piece) => line.pieces.extend(piece),
                Came::Packet(last) if !line.pieces.is_empty() => {
                    let mut whole = std::mem::take(&mut line.pieces);
                    whole.extend(last);
                    line.come.push_back(Came::Packet(whole));
                }
                came => line.come.push_back(came),
            }
        }
        Ok(())
    }

    fn opening<S: Stage + ?Sized>(
        &mut self,
        stage: &mut S,
        conn: &str,
        word: &str,
        body: &[u8],
    ) -> Done {
        let name = word.split([':', ',']).next().unwrap_or_default();
        let rest = word[name.len()..].strip_prefix(':').unwrap_or_default();
        match (name, body.first()) {
            ("welcome", Some(0x11)) if rest == "foreign" => Ok(()),
            ("welcome", Some(0x11)) => self.welcome(stage, conn, word, body),
            ("answer", Some(0x13)) => self.answer(conn, rest, body),
            ("welcome" | "answer", _) => Err(format!("{body:02x?} came")),
            ("busy", _) => {
                let (code, wait) = rest.split_once(',').unwrap_or((rest, "wait=0"));
                let wait = wait.strip_prefix("wait=").ok_or("busy:CODE,wait=MS")?;
                let code = (int(code)? as u16).to_le_bytes();
                let wait = (int(wait)? as u32).to_le_bytes();
                let wanted = [&[0x14], &code[..], &wait].concat();
                let right = wanted == body;
                right
                    .then_some(())
                    .ok_or_else(|| format!("{body:02x?} came"))
            }
            _ => {
                let right = literal(word).as_deref() == Some(body);
                right
                    .then_some(())
                    .ok_or_else(|| format!("{body:02x?} came"))
            }
        }
    }

    fn welcome<S: Stage + ?Sized>(
        &mut self,
        stage: &mut S,
        conn: &str,
        word: &str,
        body: &[u8],
    ) -> Done {
        let (hello, pair) = self.line(conn)?.hello.clone().ok_or("no Hello was sent")?;
        let (point, edge, sealed) = (&body[1..34], &body[34..67], &body[67..]);
        if self.edge.get_or_insert_with(|| edge.to_vec()) != edge {
            return Err("another key came".into());
        }
        let agreed = |point| pair.agree(point).ok_or("no point came");
        let th = sha256(&[b"voltlane 3 join", &hello, point, edge]);
        let salt = b"voltlane 3 k256 xchacha20poly1305 sha256";
        let prk = extract(salt, &[&agreed(point)?, &agreed(edge)?]);
        let key = |label: &[u8]| -> Key { expand(&prk, &[label, &th]) };
        let Some(plain) = open(&key(b"hs"), [0; 24], &th, sealed) else {
            return Err("a Welcome that does not open".into());
        };
        let (options, _) = options(word)?;
        let field = |at: usize, width: usize| {
            let mut all = [0; 8];
            all[..width].copy_from_slice(&plain[at..at + width]);
            u64::from_le_bytes(all)
        };
        for (option, value) in options {
            let found = match option {
                "features" => field(72, 4),
                "longest" => field(76, 4),
                "ring_packets" => field(80, 4),
                "ring_bytes" => field(84, 4),
                "window" => field(88, 4),
                "ack_delay" => field(92, 2),
                "keep_alive" => field(94, 2),
                _ => return Err(format!("Welcome has no {option}")),
            };
            if found != int(value)? {
                return Err(format!("{option} is {found}"));
            }
        }
        let id = field(0, 8);
        stage.note_session(id);
        let session = Session {
            id,
            claim_key: plain[8..40].try_into().expect("32 bytes"),
            hint: sha256(&[edge])[..4].try_into().expect("4 bytes"),
            handle: plain[40..56].to_vec(),
            run: plain[56..64].to_vec(),
            secret: key(b"rs1"),
            least: 1,
            counter: 0,
            sent: 0,
            received: 0,
        };
        self.sessions.insert(conn.to_owned(), session);
        let line = self.line(conn)?;
        (line.sealer, line.next) = (Some(Lane::new(&key(b"up"))), 1);
        line.opener = Some(Lane::new(&key(b"down")));
        Ok(())
    }

    /// `CODE`, `CODE,highest=N,wait=N,jitter=N,up=N,down=N`.
    fn answer(&mut self, conn: &str, word: &str, body: &[u8]) -> Done {
        let line = self.lines.get_mut(conn).ok_or("no such connection")?;
        let (tc, secret) = line.claim.ok_or("nobody claimed")?;
        let session = self.sessions.get_mut(&line.session);
        let session = session.ok_or("nobody's session")?;
        let (head, sealed) = body.split_at_checked(25).ok_or("a short Answer")?;
        let key = expand(&session.claim_key, &[b"answer", &tc]);
        let nonce = head[1..].try_into().expect("24 bytes");
        let plain = open(&key, nonce, head, sealed).ok_or("an Answer that does not open")?;
        let field = |at: usize, width: usize| {
            let mut all = [0; 8];
            all[..width].copy_from_slice(&plain[at..at + width]);
            u64::from_le_bytes(all)
        };
        let (options, _) = options(word)?;
        let code = int(word.split(',').next().unwrap_or_default())?;
        if field(0, 2) != code {
            return Err(format!("Answer {} came", field(0, 2)));
        }
        for (option, value) in options {
            let found = match option {
                "highest" => field(4, 8),
                "wait" => field(12, 4),
                "jitter" => field(16, 4),
                "up" => field(44, 8),
                "down" => field(52, 8),
                _ => return Err(format!("Answer has no {option}")),
            };
            if found != int(value)? {
                return Err(format!("{option} is {found}"));
            }
        }
        session.handle = plain[28..44].to_vec();
        if code == 0 {
            session.received = line.claimed;
            let tr = sha256(&[&tc, body]);
            line.up = Some(expand(&secret, &[b"up", &tr]));
            line.opener = Some(Lane::new(&expand(&secret, &[b"down", &tr])));
        }
        Ok(())
    }

    /// Checks that nothing is left but what is passed over.
    pub(super) fn finish<S: Stage + ?Sized>(&mut self, stage: &mut S) -> Done {
        let names: Vec<String> = self.lines.keys().cloned().collect();
        for conn in names {
            for body in stage.rest(&conn) {
                if self.line(&conn)?.opener.is_none() {
                    return Err(format!("{conn} heard {} bytes more", body.len()));
                }
                self.record(&conn, &body)
                    .map_err(|error| format!("{conn}: {error}"))?;
            }
            let come = &self.line(&conn)?.come;
            if !come.is_empty() {
                return Err(format!("{conn} heard {come:?} more"));
            }
        }
        Ok(())
    }
}
