//! The cases of a client of version 3 (`sim/cases/v3/client.txt`): the test plays an edge against the machine, in virtual time. The lines
//! are described in `sim/cases/README.md`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sim::cases::v3::items::{Came, compare, decode, encode};
use sim::cases::v3::keys::{Key, Lane, Pair, expand, extract, open, seal, sha256};
use sim::cases::v3::{bytes, int, options};
use sim::cases::{Case, duration, of_clients_of_3, plain, spoil};
use sim::codec::{Frames, frame};
use voltlane_core::Time;
use voltlane_core::client::{Client, ClientConfig, Closed, Code, Event, State, Versions};
use voltlane_core::keys::KeyPair;

type Done = Result<(), String>;

const RUN: [u8; 8] = [0x77; 8];
const ID: u64 = 0x0102_0304_0506_0708;

/// The edge's end of the session.
struct Session {
    claim_key: Key,
    /// The resume secret of each counter from 1 on, as far as it was needed.
    chain: Vec<Key>,
    /// The highest numbers that came, and that were sent.
    received: u64,
    sent: u64,
    /// The attempts accepted since the last one whose EARLY_END came, that one included.
    accepted: Vec<[u8; 8]>,
}

/// The edge's end of a connection.
#[derive(Default)]
struct Line {
    hello: Vec<u8>,
    claim: Option<Claim>,
    opener: Option<Lane>,
    next_up: u64,
    up: Option<Key>,
    told_up: u64,
    sealer: Option<Lane>,
    next_down: u64,
    come: VecDeque<Option<Came>>,
    acked: u64,
    last: Vec<u8>,
}

struct Claim {
    tc: Key,
    secret: Key,
    received: u64,
}

struct World {
    client: Client,
    now: Time,
    frames: Frames,
    events: VecDeque<String>,
    chunk: usize,
    draws: u8,
    ids: u64,
    settings: BTreeMap<String, u64>,
    marks: BTreeMap<String, [u8; 8]>,
    session: Option<Session>,
    line: Line,
}

fn key(name: &str) -> Pair {
    Pair::new(&[if name == "other" { 0x22 } else { 0x11 }; 32])
}

impl World {
    fn new(case: &Case, chunk: usize) -> World {
        let mut config = ClientConfig::default().with_versions(Versions::V3);
        let (mut token, mut settings) = (None, BTreeMap::new());
        for line in case.config.lines() {
            let (name, value) = line.split_once(" = ").expect("NAME = VALUE");
            config = match (name, value) {
                ("versions", "2,3") => config.with_versions(Versions::V3OrV2),
                ("pin", pin) => {
                    let secret = [if pin == "other" { 0x22 } else { 0x11 }; 32];
                    let pair = KeyPair::from_bytes(&secret).expect("a key");
                    config.with_edge_key(pair.public())
                }
                ("token", text) => {
                    token = Some(bytes(text).expect("bytes"));
                    config.with_trust_first_use(true)
                }
                ("takes_over", "true") => config.with_take_over(true),
                ("longest", bytes) => config.with_max_receive_bytes(bytes.parse().expect("bytes")),
                (name, value) => {
                    let name = name.strip_prefix("welcome.").expect("a field of Welcome");
                    settings.insert(name.to_owned(), int(value).expect("a number"));
                    config
                }
            };
        }
        let mut client = Client::new(config, [9; 32]);
        if let Some(token) = token {
            client.set_token(&token).expect("it is short");
        }
        World {
            client,
            now: Time::ZERO,
            frames: Frames::default(),
            events: VecDeque::new(),
            chunk,
            draws: 0,
            ids: 0,
            settings,
            marks: BTreeMap::from([("join".into(), [0; 8]), ("foreign".into(), [0xff; 8])]),
            session: None,
            line: Line::default(),
        }
    }

    /// 32 bytes of the next number: 33, 34 and so on.
    fn random<const N: usize>(&mut self) -> [u8; N] {
        self.draws += 1;
        [0x32 + self.draws; N]
    }

    fn settle(&mut self) {
        loop {
            let output = self.client.output().to_vec();
            self.frames.push(&output);
            self.client.handle_written(self.now, output.len());
            while let Some(event) = self.client.poll_event() {
                self.events.extend(tell(&event));
            }
            if !self.client.wants_close() {
                if output.is_empty() {
                    return;
                }
                continue;
            }
            self.client.handle_closed(self.now, Closed::Eof);
        }
    }

    fn deliver(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(self.chunk) {
            let mut input = chunk;
            while let Some(event) = self.client.handle_bytes(self.now, &mut input) {
                self.events.extend(tell(&event));
            }
            self.settle();
        }
    }

    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(due) = self.client.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.client.handle_timeout(self.now);
            self.settle();
            if self.client.state() == State::Connecting {
                break;
            }
        }
        self.now = until;
        if self.client.state() != State::Connecting {
            self.client.handle_timeout(self.now);
        }
        self.settle();
    }

    // ---- what the client sends

    fn body(&mut self) -> Option<Vec<u8>> {
        self.frames.next_body(u32::MAX).expect("no bound")
    }

    fn sends(&mut self, word: &str) -> Done {
        if word == "nothing" {
            return match self.item()? {
                None => Ok(()),
                Some(came) => Err(format!("{came:?} came")),
            };
        }
        let name = word.split([',', ':']).next().unwrap_or_default();
        if matches!(name, "version" | "hello" | "claim") {
            let body = self.body().ok_or("nothing came")?;
            return match name {
                "hello" => self.hello(word, body),
                "claim" => self.claim(word, body),
                _ => {
                    let wanted = plain(word).ok_or("no such version")?;
                    let right = wanted[4..] == body;
                    right
                        .then_some(())
                        .ok_or_else(|| format!("{body:02x?} came"))
                }
            };
        }
        if let Some(whole) = word.strip_prefix("joined:") {
            return self.sends_joined(&bytes(whole)?);
        }
        let came = self.item()?.ok_or("nothing came")?;
        if word == "empty" || came.is_none() {
            let right = word == "empty" && came.is_none();
            return right.then_some(()).ok_or_else(|| format!("{came:?} came"));
        }
        let came = came.expect("an item");
        if let (Some(wanted), Some(Came::Packet(_))) = (plain_packet(word), Some(&came)) {
            let right = came == Came::Packet(wanted);
            return right.then_some(()).ok_or_else(|| format!("{came:?} came"));
        }
        compare(&came, word, &|_| None)
    }

    /// A packet in pieces.
    fn sends_joined(&mut self, whole: &[u8]) -> Done {
        let mut joined = Vec::new();
        loop {
            match self.item()?.flatten() {
                Some(Came::Part(piece)) => joined.extend(piece),
                Some(Came::Packet(last)) => {
                    joined.extend(last);
                    let right = joined == whole;
                    return right
                        .then_some(())
                        .ok_or_else(|| format!("{} other bytes came", joined.len()));
                }
                other => return Err(format!("{other:?} came")),
            }
        }
    }

    /// The next item of the client, and `Some(None)` for an empty record. ACK and what is to be ignored is passed over.
    fn item(&mut self) -> Result<Option<Option<Came>>, String> {
        loop {
            if let Some(came) = self.line.come.pop_front() {
                return Ok(Some(came));
            }
            if self.line.opener.is_none() {
                return match self.body() {
                    None => Ok(None),
                    Some(body) => Err(format!("{body:02x?} came")),
                };
            }
            let Some(body) = self.body() else {
                return Ok(None);
            };
            self.record(&body)?;
        }
    }

    fn record(&mut self, body: &[u8]) -> Done {
        let line = &mut self.line;
        let opener = line.opener.as_mut().expect("it was there");
        let plain = opener
            .open(line.next_up, body)
            .ok_or("a record that does not open")?;
        let session = self.session.as_mut().ok_or("no session")?;
        let items = decode(&plain).ok_or("a malformed record")?;
        if items.is_empty() {
            line.come.push_back(None);
        }
        let mut ends_early = false;
        for came in items {
            line.next_up += came.numbers();
            session.received = session.received.max(line.next_up - 1);
            match came {
                Came::Ack(more) => line.acked += more,
                Came::AckNow | Came::Nothing => {}
                came => {
                    ends_early |= came == Came::EarlyEnd;
                    line.come.push_back(Some(came));
                }
            }
        }
        if ends_early {
            let up = line.up.take().ok_or("EARLY_END out of place")?;
            line.opener = Some(Lane::new(&up));
            line.next_up = line.told_up.max(line.next_up - 1) + 1;
            let last = session.accepted.pop();
            session.accepted = last.into_iter().collect();
        }
        Ok(())
    }

    fn acknowledges(&mut self, up_to: u64) -> Done {
        while let Some(body) = self.body() {
            self.record(&body)?;
        }
        let acked = self.line.acked;
        (acked == up_to)
            .then_some(())
            .ok_or_else(|| format!("{acked} is acknowledged"))
    }

    fn hello(&mut self, word: &str, body: Vec<u8>) -> Done {
        let wrong = || format!("{body:02x?} came");
        let right = |is: bool| is.then_some(()).ok_or_else(wrong);
        right(body.first() == Some(&0x10) && body.len() >= 42)?;
        let features = u32::from_le_bytes(body[1..5].try_into().expect("4 bytes"));
        right(features & 0x00ff_ffff == 0 && features.count_ones() == 1)?;
        right(matches!(body[9], 2 | 3))?;
        for (option, value) in options(word)?.0 {
            match option {
                "hint" => right(bytes(value)? == body[5..9])?,
                "longest" => {
                    let longest = (int(value)? as u32).to_le_bytes();
                    right(body[42..] == [&[1, 4], &longest[..]].concat())?;
                }
                _ => return Err("no such option".into()),
            }
        }
        self.line.hello = body;
        Ok(())
    }

    fn claim(&mut self, word: &str, body: Vec<u8>) -> Done {
        let session = self.session.as_mut().ok_or("there is no session")?;
        let wrong = || format!("{body:02x?} came");
        let right = |is: bool| is.then_some(()).ok_or_else(wrong);
        right(body.first() == Some(&0x12) && body.len() == 109)?;
        let (head, sealed) = body.split_at(45);
        right(head[1..5] == sha256(&[&key("edge").public()])[..4])?;
        let key = expand(&session.claim_key, &[b"seal"]);
        let nonce = head[21..].try_into().expect("24 bytes");
        let position = open(&key, nonce, head, sealed).ok_or("a Claim that does not open")?;
        let field =
            |at: usize| u64::from_le_bytes(position[at..at + 8].try_into().expect("8 bytes"));
        right(field(8) == 0 && position[16..24] == RUN && field(40) == 0)?;
        for (option, value) in options(word)?.0 {
            let found = match option {
                "counter" => field(0),
                "first" => field(24),
                "received" => field(32),
                _ => return Err("no such option".into()),
            };
            if found != int(value)? {
                return Err(format!("{option} is {found}"));
            }
        }
        let tc = sha256(&[b"voltlane 3 resume", &body]);
        let counter = usize::try_from(field(0)).map_err(|_| "the counter")?;
        while session.chain.len() < counter {
            let last = *session.chain.last().expect("that of the join");
            session.chain.push(expand(&last, &[b"next"]));
        }
        let secret = session.chain[counter - 1];
        let mark = tc[..8].try_into().expect("8 bytes");
        self.marks.insert(counter.to_string(), mark);
        self.line.opener = Some(Lane::new(&expand(&secret, &[b"early", &tc])));
        self.line.next_up = field(24);
        self.line.claim = Some(Claim {
            tc,
            secret,
            received: field(32),
        });
        Ok(())
    }

    // ---- what the edge sends

    fn packet(&mut self, word: &str) -> Result<Vec<u8>, String> {
        let (head, changes) = word.split_once('/').unwrap_or((word, ""));
        let name = head.split([',', ':']).next().unwrap_or_default();
        let body = match name {
            "welcome" => self.welcome(head)?,
            "answer" => self.answer(head, changes)?,
            "busy" => {
                let code = head.split([',', ':']).nth(1).ok_or("busy:CODE")?;
                let wait = options(head)?.0.first().map_or(Ok(0), |(_, ms)| int(ms))?;
                let code = (int(code)? as u16).to_le_bytes();
                [&[0x14], &code[..], &(wait as u32).to_le_bytes()].concat()
            }
            _ => return plain(word).ok_or_else(|| format!("{word} is no item")),
        };
        Ok(frame(&spoil(body, changes).ok_or("no such change")?))
    }

    fn welcome(&mut self, word: &str) -> Result<Vec<u8>, String> {
        let edge = key(if word.starts_with("welcome:other") {
            "other"
        } else {
            "edge"
        });
        let ephemeral = Pair::new(&self.random());
        let hello = self.line.hello.clone();
        let (point, public) = (ephemeral.public(), edge.public());
        let th = sha256(&[b"voltlane 3 join", &hello, &point, &public]);
        let theirs = hello.get(9..42).ok_or("no Hello came")?;
        let agreed = |pair: &Pair| pair.agree(theirs).ok_or("no point came");
        let salt = b"voltlane 3 k256 xchacha20poly1305 sha256";
        let prk = extract(salt, &[&agreed(&ephemeral)?, &agreed(&edge)?]);
        let key = |label: &[u8]| -> Key { expand(&prk, &[label, &th]) };
        let settings = &self.settings;
        let set = |name: &str, usual: u64| settings.get(name).copied().unwrap_or(usual);
        let claim_key = [0xc0 + self.ids as u8; 32];
        let mut plain = (ID + self.ids).to_le_bytes().to_vec();
        plain.extend(claim_key);
        plain.extend([0xa1; 16]);
        plain.extend(RUN);
        plain.extend(set("reserved", 0).to_le_bytes());
        for (name, usual) in [
            ("features", 0),
            ("longest", 1 << 20),
            ("ring_packets", 8_192),
            ("ring_bytes", 1 << 20),
            ("window", 300),
        ] {
            plain.extend((set(name, usual) as u32).to_le_bytes());
        }
        plain.extend((set("ack_delay", 250) as u16).to_le_bytes());
        plain.extend((set("keep_alive", 20) as u16).to_le_bytes());
        plain.resize(96 + set("more", 0) as usize, 0xee);
        self.ids += 1;
        let sealed = seal(&key(b"hs"), [0; 24], &th, &plain);
        self.session = Some(Session {
            claim_key,
            chain: vec![key(b"rs1")],
            received: 0,
            sent: 0,
            accepted: vec![[0; 8]],
        });
        self.line.opener = Some(Lane::new(&key(b"up")));
        self.line.sealer = Some(Lane::new(&key(b"down")));
        (self.line.next_up, self.line.next_down) = (1, 1);
        Ok([&[0x11], &point[..], &public, &sealed].concat())
    }

    fn answer(&mut self, word: &str, changes: &str) -> Result<Vec<u8>, String> {
        let claim = self.line.claim.as_ref().ok_or("no Claim came")?;
        let (tc, secret, received) = (claim.tc, claim.secret, claim.received);
        let (options, _) = options(word)?;
        let code = word.split([':', ',']).nth(1).ok_or("answer:CODE")?;
        let code = int(code)?;
        let mut fields = BTreeMap::new();
        for (name, value) in options {
            fields.insert(name, int(value)?);
        }
        let field = |name: &str| fields.get(name).copied().unwrap_or_default();
        let handle = [0xa1 + self.draws; 16];
        let mut plain = (code as u16).to_le_bytes().to_vec();
        plain.extend([0; 2]);
        plain.extend(field("highest").to_le_bytes());
        plain.extend((field("wait") as u32).to_le_bytes());
        plain.extend((field("jitter") as u32).to_le_bytes());
        plain.extend(RUN);
        plain.extend(handle);
        plain.extend(field("up").to_le_bytes());
        plain.extend(field("down").to_le_bytes());
        plain.resize(128 + field("more") as usize, 0);
        let nonce: [u8; 24] = self.random();
        let session = self.session.as_mut().ok_or("no session")?;
        let head = [&[0x13], &nonce[..]].concat();
        let key = expand(&session.claim_key, &[b"answer", &tc]);
        let body = [&head[..], &seal(&key, nonce, &head, &plain)].concat();
        if code == 0 && changes.is_empty() {
            // The early records count from here.
            while let Some(early) = self.body() {
                self.record(&early)?;
            }
            let session = self.session.as_mut().expect("it was there");
            let tr = sha256(&[&tc, &body]);
            self.line.up = Some(expand(&secret, &[b"up", &tr]));
            self.line.sealer = Some(Lane::new(&expand(&secret, &[b"down", &tr])));
            self.line.next_down = received + 1;
            session.accepted.push(tc[..8].try_into().expect("8 bytes"));
        }
        Ok(body)
    }

    /// RESUMED, with what the word says and else what is right.
    fn resumed(&mut self, word: &str) -> Result<(Vec<u8>, u64), String> {
        let session = self.session.as_ref().ok_or("no session")?;
        let (_, before) = session
            .accepted
            .split_last()
            .ok_or("nothing was accepted")?;
        let (mut marks, mut up) = (before.concat(), session.received);
        let (mut until, mut away, mut cause) = (session.sent, 0, 0);
        for (option, value) in options(word)?.0 {
            match option {
                "until" => until = int(value)?,
                "up" => up = int(value)?,
                "away" => away = int(value)?,
                "cause" => cause = int(value)?,
                "marks" => {
                    let named = value.split('+').map(|name| self.marks.get(name));
                    let named: Option<Vec<_>> = named.collect();
                    marks = named
                        .ok_or("no such mark")?
                        .into_iter()
                        .flatten()
                        .copied()
                        .collect();
                }
                _ => return Err("no such option".into()),
            }
        }
        self.line.told_up = up;
        let varint = sim::cases::v3::items::varint;
        let fields = [until, up, away, cause, marks.len() as u64].map(varint);
        Ok(([&[23], &fields.concat()[..], &marks].concat(), 0))
    }

    fn seals(&mut self, how: &str, words: &[&str]) -> Done {
        let (bit, words) = match (how, words) {
            ("spoils", [bit, words @ ..]) => (Some(int(bit)? as usize), words),
            _ => (None, words),
        };
        let (mut plain, mut numbers) = (Vec::new(), 0);
        for word in words.iter().filter(|word| **word != "nothing") {
            let (bytes, more) = if word.starts_with("resumed") {
                self.resumed(word)?
            } else {
                let item = encode(word).ok_or_else(|| format!("{word} is no item"))?;
                (item.bytes, item.numbers)
            };
            plain.extend(bytes);
            numbers += more;
        }
        let line = &mut self.line;
        let sealer = line.sealer.as_mut().ok_or("there is no secret down")?;
        let number = line.next_down + u64::from(how == "miscounts");
        let mut record = frame(&sealer.seal(number, &plain));
        line.next_down = line.next_down.saturating_add(numbers);
        if let Some(session) = &mut self.session {
            session.sent = session.sent.max(line.next_down - 1);
        }
        if let Some(bit) = bit {
            record[4 + bit / 8] ^= 1 << (bit % 8);
        }
        line.last.clone_from(&record);
        if how != "skips" {
            self.deliver(&record);
        }
        Ok(())
    }

    // ---- the lines

    fn step(&mut self, words: &[&str]) -> Done {
        match words {
            ["wait", time] => self.wait(duration(time).ok_or("no such time")?),
            ["client", "connects"] => {
                self.wait_until_it_dials()?;
                self.line = Line::default();
                self.frames = Frames::default();
                let random = self.random();
                self.client.handle_connected(self.now, random);
            }
            ["client", "cannot", "connect"] => {
                self.wait_until_it_dials()?;
                self.client.handle_connect_failed(self.now);
            }
            ["client", "dials"] => {
                let dials = self.client.wants_connect(self.now);
                return dials.then_some(()).ok_or_else(|| "it does not".into());
            }
            ["client", "rests"] => {
                let rests = !self.client.wants_connect(self.now)
                    && matches!(self.client.state(), State::Waiting | State::Connecting);
                return rests.then_some(()).ok_or_else(|| "it does not".into());
            }
            ["client", "sends", items @ ..] => {
                return items.iter().try_for_each(|item| self.sends(item));
            }
            ["client", "acknowledges", up_to] => return self.acknowledges(int(up_to)?),
            ["client", "is", state] => {
                let found = match self.client.state() {
                    State::Waiting | State::Connecting => "waiting",
                    State::AwaitWelcome => "welcome",
                    State::AwaitAnswer => "answer",
                    State::AwaitResumed => "resumed",
                    State::Established => "open",
                    State::Leaving => "leaving",
                    State::Ended => "over",
                    _ => "of version 2",
                };
                return (found == *state)
                    .then_some(())
                    .ok_or_else(|| format!("it is {found}"));
            }
            ["client", "gets", "nothing"] => {
                let next = self.events.front();
                return next.map_or(Ok(()), |event| Err(format!("it got {event}")));
            }
            ["client", "gets", events @ ..] => {
                for event in events {
                    let wanted = match plain_packet(event) {
                        Some(packet) => format!("{packet:?}"),
                        None => (*event).to_owned(),
                    };
                    let found = self.events.pop_front();
                    if found.as_ref() != Some(&wanted) {
                        return Err(format!("it got {found:?}"));
                    }
                }
            }
            ["application", "sends", items @ ..] => {
                for item in items {
                    let data = plain_packet(item).ok_or("no such item")?;
                    self.client.send(&data).map_err(|error| error.to_string())?;
                }
            }
            ["application", "takes", number] => self.client.taken(self.now, int(number)?),
            ["application", "closes"] => self.client.close(self.now),
            ["application", "starts", "over"] => self.client.start_over(),
            ["edge", "sends", items @ ..] => {
                let mut bytes = Vec::new();
                for item in items {
                    bytes.extend(self.packet(item)?);
                }
                self.deliver(&bytes);
            }
            [
                "edge",
                how @ ("seals" | "spoils" | "skips" | "miscounts"),
                items @ ..,
            ] => {
                return self.seals(how, items);
            }
            ["edge", "repeats"] => {
                let last = self.line.last.clone();
                self.deliver(&last);
            }
            ["edge", "ends"] => self.client.handle_closed(self.now, Closed::Eof),
            ["edge", "breaks"] => self.client.handle_closed(self.now, Closed::Error),
            _ => return Err("this line means nothing".into()),
        }
        self.settle();
        Ok(())
    }

    fn wait_until_it_dials(&mut self) -> Done {
        for _ in 0..10_000 {
            if self.client.wants_connect(self.now) {
                return Ok(());
            }
            self.now = self.now + Duration::from_millis(1);
            self.client.handle_timeout(self.now);
            self.settle();
        }
        Err("it does not dial".into())
    }
}

/// The bytes of a literal item.
fn plain_packet(word: &str) -> Option<Vec<u8>> {
    bytes(word).ok()
}

fn tell(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Connected { .. } => Some("connected".into()),
        Event::Packet { data, .. } => Some(format!("{data:?}")),
        Event::Gap(gap) => Some(format!("gap:{}:{}:{}", gap.first, gap.count, gap.reason)),
        Event::Skipped { count } => Some(format!("skipped:{count}")),
        Event::Resumed { missed, away, .. } => {
            Some(format!("resumed:{missed}:{}", away.as_millis()))
        }
        Event::CaughtUp => Some("caught_up".into()),
        Event::Dropped { .. } => None,
        Event::Ended(end) => Some(match end.code {
            Code::CONFLICT => "end:conflict".into(),
            Code::OTHER_EDGE => "end:other_edge".into(),
            code => format!("end:{}", code.to_u16()),
        }),
        event => unreachable!("{event:?} in version 3"),
    }
}

fn play(case: &Case, chunk: usize) -> Done {
    let mut world = World::new(case, chunk);
    for step in &case.steps {
        let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
        world.step(&words).map_err(|error| {
            let line = words.join(" ");
            format!(
                "{} {} line {} `{line}`: {error}",
                case.place, case.id, step.line
            )
        })?;
    }
    let left = (world.events.pop_front(), world.item()?);
    let unasked = (left != (None, None)).then(|| format!("{} {left:?} came", case.id));
    unasked.map_or(Ok(()), Err)
}

#[test]
fn every_case_of_a_client_of_version_3_whole_and_in_pieces() {
    let (mut failures, mut runs) = (Vec::new(), 0);
    for case in of_clients_of_3().iter().flat_map(Case::expanded) {
        for chunk in [usize::MAX, 1, 2, 3, 7, 40] {
            runs += 1;
            let failure = play(&case, chunk).err();
            let stop = failure.is_some();
            failures.extend(failure);
            if stop {
                break;
            }
        }
    }
    println!("{runs} runs");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
