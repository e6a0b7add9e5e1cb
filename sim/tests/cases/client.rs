//! The cases of a client (`sim/cases/client.txt`): the test plays an edge against the machine, in virtual time.
//!
//! | line | meaning |
//! | --- | --- |
//! | `client connects`, `client cannot connect` | its transport opens, or does not |
//! | `client sends ITEM …`, `… nothing` | its output, frame by frame: `version:2`, `key`, `claim`, `response`, `ping`, bytes |
//! | `client is STATE` | as the machine names it |
//! | `client gets ITEM` | a packet for the application; `id` and `return` are the events that it is connected |
//! | `application sends ITEM` | a packet of the application |
//! | `edge sends ITEM …` | `key`, `key:other`, `id`, `id:other`, `challenge`, `challenge:wrong`, `ping`, bytes |
//! | `edge ends`, `edge breaks`, `wait 5s` | as for an edge |

use std::collections::VecDeque;
use std::time::Duration;

use sim::cases::{Case, duration, of_clients, plain};
use sim::codec::{Frames, Hello};
use voltlane_core::Time;
use voltlane_core::client::{Client, ClientConfig, Closed, Event};
use voltlane_core::keys::{KeyPair, PublicKey, SharedKey};

const ID: u64 = 0x0102_0304_0506_0708;
const SECRET: [u8; 32] = [0x5c; 32];

struct World {
    client: Client,
    now: Time,
    keys: KeyPair,
    /// The client's key, once it was sent.
    theirs: Option<PublicKey>,
    /// The number of challenges so far; each has a nonce of its own.
    challenges: u8,
    frames: Frames,
    events: VecDeque<String>,
    chunk: usize,
}

impl World {
    fn new(chunk: usize) -> World {
        World {
            client: Client::new(ClientConfig::default(), [9; 32]),
            now: Time::ZERO,
            keys: KeyPair::from_bytes(&[0x11; 32]).expect("a key"),
            theirs: None,
            challenges: 0,
            frames: Frames::default(),
            events: VecDeque::new(),
            chunk,
        }
    }

    fn shared(&self) -> SharedKey {
        let other = self.keys.public();
        self.keys.agree(self.theirs.as_ref().unwrap_or(&other))
    }

    /// Completes this instant: takes the client's output, records its events, and closes what it gives up.
    fn settle(&mut self) {
        loop {
            let output = self.client.output().to_vec();
            self.frames.push(&output);
            self.client.handle_written(self.now, output.len());
            while let Some(event) = self.client.poll_event() {
                let told = tell(&event);
                self.events.extend(told);
            }
            if !self.client.wants_close() {
                return;
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
        }
        self.now = until;
        self.settle();
    }

    fn item(&mut self, item: &str) -> Result<Vec<u8>, String> {
        let other = KeyPair::from_bytes(&[0x22; 32]).expect("a key");
        Ok(match item {
            "key" => Hello::PublicKey(self.keys.public().as_bytes().to_vec()).to_frame(),
            "key:other" => Hello::PublicKey(other.public().as_bytes().to_vec()).to_frame(),
            "id" => Hello::Id(ID).to_frame(),
            "id:other" => Hello::Id(ID + 1).to_frame(),
            "challenge" | "challenge:wrong" | "challenge:short" => {
                self.challenges += 1;
                let key = match item {
                    "challenge:wrong" => other.agree(&self.keys.public()),
                    _ => self.shared(),
                };
                let secret = &SECRET[..if item == "challenge:short" { 31 } else { 32 }];
                let mut sealed = Vec::new();
                key.seal_with_nonce(secret, &[self.challenges; 24], &mut sealed);
                Hello::Challenge(sealed).to_frame()
            }
            _ => plain(item).ok_or("no such item")?,
        })
    }

    fn sends(&mut self, item: &str) -> Result<(), String> {
        let body = self.frames.next_body(u32::MAX).expect("no bound");
        if item == "nothing" {
            return body.map_or(Ok(()), |body| Err(format!("{body:02x?} came")));
        }
        let body = body.ok_or("nothing came")?;
        let right = match (item, Hello::read(&body)) {
            ("key", Some(Hello::PublicKey(point))) => {
                self.theirs = Some(PublicKey::from_sec1(&point).map_err(|e| e.to_string())?);
                true
            }
            ("claim", Some(Hello::Id(id))) => id == ID,
            ("response", Some(Hello::Response(sealed))) => {
                let fresh = sealed[48..] != [self.challenges; 24];
                let opened = self.shared().open(&sealed);
                fresh && opened.is_ok_and(|plain| plain[..] == SECRET)
            }
            ("key" | "claim" | "response", _) => false,
            _ => plain(item).ok_or("no such item")?.get(4..) == Some(&body[..]),
        };
        right
            .then_some(())
            .ok_or_else(|| format!("{body:02x?} came"))
    }

    fn step(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["wait", time] => self.wait(duration(time).ok_or("no such time")?),
            ["client", "connects"] => {
                self.wait_until_it_dials()?;
                self.client.handle_connected(self.now, [8; 32]);
                self.frames = Frames::default();
            }
            ["client", "cannot", "connect"] => {
                self.wait_until_it_dials()?;
                self.client.handle_connect_failed(self.now);
            }
            ["client", "sends", items @ ..] => {
                return items.iter().try_for_each(|item| self.sends(item));
            }
            ["client", "is", state] => {
                let found = format!("{:?}", self.client.state());
                return found
                    .starts_with(state)
                    .then_some(())
                    .ok_or_else(|| format!("it is {found}"));
            }
            ["client", "gets", what] => {
                let wanted = match *what {
                    "id" | "return" => (*what).to_owned(),
                    item => format!("{:?}", plain(item).ok_or("no such item")?),
                };
                let found = self.events.pop_front();
                return (found.as_ref() == Some(&wanted))
                    .then_some(())
                    .ok_or_else(|| format!("it got {found:?}"));
            }
            ["application", "sends", item] => {
                let data = plain(item).ok_or("no such item")?;
                self.client.send(&data).map_err(|error| error.to_string())?;
            }
            ["application", "starts", "over"] => self.client.start_over(),
            ["edge", "sends", items @ ..] => {
                let mut bytes = Vec::new();
                for item in items {
                    bytes.extend(self.item(item)?);
                }
                self.deliver(&bytes);
            }
            ["edge", "ends"] => self.client.handle_closed(self.now, Closed::Eof),
            ["edge", "breaks"] => self.client.handle_closed(self.now, Closed::Error),
            _ => return Err("this line means nothing".into()),
        }
        self.settle();
        Ok(())
    }

    fn wait_until_it_dials(&mut self) -> Result<(), String> {
        for _ in 0..10_000 {
            if self.client.wants_connect(self.now) {
                return Ok(());
            }
            self.now = self.now + Duration::from_millis(1);
            self.client.handle_timeout(self.now);
        }
        Err("it does not dial".into())
    }
}

fn tell(event: &Event<'_>) -> Option<String> {
    match event {
        Event::Connected { .. } => Some("id".into()),
        Event::Resumed { .. } => Some("return".into()),
        Event::Packet { data, .. } => Some(format!("{data:?}")),
        Event::Dropped { .. } | Event::Refused(_) => None,
        event => unreachable!("{event:?} in version 2"),
    }
}

fn play(case: &Case, chunk: usize) -> Result<(), String> {
    let mut world = World::new(chunk);
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
    let left = (world.events.pop_front(), world.frames.next_body(u32::MAX));
    let unasked = (left != (None, Ok(None))).then(|| format!("{} {left:?} came", case.id));
    unasked.map_or(Ok(()), Err)
}

#[test]
fn every_case_of_a_client_whole_and_in_pieces() {
    let mut failures = Vec::new();
    for case in of_clients().iter().flat_map(Case::expanded) {
        for chunk in [usize::MAX, 1, 2, 3, 5, 7, 40] {
            failures.extend(play(&case, chunk).err());
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
