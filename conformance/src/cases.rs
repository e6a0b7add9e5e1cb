//! Real sockets as a stage for the cases of `sim/cases`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub use sim::cases::all;
use sim::cases::{Case, Incoming, Stage, run};
use sim::codec::Hello;
use voltlane_core::ClientId;
use voltlane_core::link::tagged::Flag;

use crate::{Backend, Client, Edge, Frames, Link, Program, Rig, frames, random};

/// Plays the cases that sockets can play against a program, with one edge for each configuration. Returns the number of runs.
///
/// # Panics
/// When a case's expectation fails. All failures are printed.
#[must_use]
pub fn play(program: Program, cases: &[Case]) -> usize {
    let mut by_config: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    let playable = cases.iter().filter(|case| case.is_for_sockets());
    for case in playable.flat_map(Case::expanded) {
        by_config.entry(case.config.clone()).or_default().push(case);
    }
    let (mut runs, mut failures) = (0, Vec::new());
    for (config, cases) in by_config {
        let mut stage = Sockets::start(program, &config);
        for case in cases {
            runs += 1;
            // A missing event ends in a panic that does not name the case.
            let played = AssertUnwindSafe(|| run(&case, &mut stage, random()));
            let played = catch_unwind(played);
            let failure = match played {
                Ok(Ok(_)) => {
                    if loses_link(&case) {
                        // Links that are lost again and again are retried with growing pauses (SPEC 7.6(j)).
                        stage = Sockets::start(program, &config);
                    }
                    continue;
                }
                Ok(Err(failure)) => failure,
                Err(_) => format!("{} \"{}\"", case.id, case.title),
            };
            failures.push(format!("{}: {failure}", case.place));
            // The rest of this run would disturb the next one.
            stage = Sockets::start(program, &config);
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    runs
}

/// Returns whether the link of this case ends.
fn loses_link(case: &Case) -> bool {
    let mut words = case.steps.iter().map(|step| &step.words);
    words.any(|words| {
        words.first().is_some_and(|who| who == "backend")
            && words
                .get(1)
                .is_some_and(|verb| !matches!(verb.as_str(), "sends" | "hears" | "kicks"))
    })
}

/// An edge with its backend, and the connections of the current case.
struct Sockets {
    edge: Edge,
    backend: Backend,
    /// `None` while there is none.
    link: Option<Link>,
    conns: BTreeMap<String, Frames>,
    /// Every id that was seen. Their sessions are ended after the case.
    ids: BTreeSet<u64>,
    /// The proxy's header in front of each client's bytes.
    header: &'static [u8],
}

impl Sockets {
    fn start(program: Program, config: &str) -> Sockets {
        let Rig {
            edge,
            backend,
            link,
        } = Rig::start(program, &format!("general.shards = 1\n{config}"));
        Sockets {
            edge,
            backend,
            link: Some(link),
            conns: BTreeMap::new(),
            ids: BTreeSet::new(),
            header: match config.contains("proxy_protocol") {
                true => b"PROXY UNKNOWN\r\n",
                false => b"",
            },
        }
    }

    fn link(&mut self) -> &mut Link {
        self.link.as_mut().expect("the case has a link here")
    }

    /// Sends a stranger's packet, behind everything on its way to the backend.
    fn fence(&mut self) -> Client {
        let mut frames = Frames::connect(self.edge.address());
        frames.write(self.header);
        let mut client = Client::join_over(frames);
        client.send(b"fence");
        self.ids.insert(client.id().as_u64());
        client
    }
}

fn incoming(come: frames::Incoming) -> Incoming {
    match come {
        frames::Incoming::Body(body) => Incoming::Body(body),
        frames::Incoming::Fin { .. } => Incoming::Closed,
        frames::Incoming::Reset => Incoming::Cut,
    }
}

impl Stage for Sockets {
    fn connect(&mut self, name: &str, _from: IpAddr) -> bool {
        if let Some(old) = self.conns.remove(name) {
            self.conns.insert(format!("{name}'"), old);
        }
        let frames = Frames::connect(self.edge.address());
        self.conns.insert(name.to_owned(), frames);
        true
    }

    fn write(&mut self, conn: &str, bytes: &[u8]) -> bool {
        self.write_on_the_way(conn, bytes);
        true
    }

    fn write_on_the_way(&mut self, conn: &str, bytes: &[u8]) {
        let conn = self.conns.get_mut(conn).expect("a connection of that name");
        // Some cases are about an edge that has closed it.
        let _ = conn.try_write(bytes);
    }

    fn end(&mut self, conn: &str, in_order: bool) {
        let mut frames = self.conns.remove(conn).expect("a connection");
        if in_order {
            // Closed on both sides, so the edge knows.
            frames.finish();
            let _ = frames.rest();
        } else {
            frames.reset();
        }
    }

    fn set_reading(&mut self, _conn: &str, _reading: bool) {
        unreachable!("not for sockets");
    }

    fn take(&mut self, _conn: &str, _bytes: usize) {
        unreachable!("not for sockets");
    }

    fn incoming(&mut self, conn: &str) -> Incoming {
        let conn = self.conns.get_mut(conn).expect("a connection of that name");
        let come = incoming(conn.incoming());
        if let Incoming::Body(body) = &come
            && let Some(Hello::Id(id)) = Hello::read(body)
        {
            self.ids.insert(id);
        }
        come
    }

    fn sees_silence(&self) -> bool {
        false
    }

    fn link_write(&mut self, bytes: &[u8]) -> bool {
        self.link().frames.write(bytes);
        true
    }

    fn link_end(&mut self, in_order: bool) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        if in_order {
            link.frames.finish();
            let _ = link.frames.rest();
        } else {
            link.frames.reset();
            // The edge dials again once it has noticed.
            self.link = Some(self.backend.accept());
        }
    }

    fn link_comes(&mut self) {
        if self.link.is_none() {
            self.link = Some(self.backend.accept());
        }
    }

    fn set_link_reading(&mut self, _reading: bool) {
        unreachable!("not for sockets");
    }

    fn link_take(&mut self, _bytes: usize) {
        unreachable!("not for sockets");
    }

    fn link_incoming(&mut self) -> Incoming {
        let come = incoming(self.link().frames.incoming());
        if matches!(come, Incoming::Closed | Incoming::Cut) {
            self.link = None;
        }
        come
    }

    fn wait(&mut self, duration: Duration) {
        // The reply delay, which the next line waits for in any case.
        assert!(duration <= Duration::from_millis(1), "not for sockets");
    }

    fn configure(&mut self, _config: &str) {
        unreachable!("not for sockets");
    }

    fn shut_down(&mut self, _within: Duration) {
        unreachable!("not for sockets");
    }

    fn count(&mut self, _name: &str) -> Option<u64> {
        None
    }

    fn note_session(&mut self, id: u64) {
        self.ids.insert(id);
    }

    fn rest(&mut self, conn: &str) -> Vec<Vec<u8>> {
        self.conns.remove(conn).map_or(Vec::new(), |mut conn| {
            conn.finish();
            conn.rest().0
        })
    }

    /// Checks that nothing else is on its way to the backend or to a client, then ends every session of the case.
    fn finish(&mut self) -> Result<(), String> {
        self.link_comes();
        let fence = self.fence();
        let packet = self.link().recv();
        if packet.id != fence.id() {
            return Err(format!("the backend heard more: {packet:?}"));
        }
        for (name, mut conn) in std::mem::take(&mut self.conns) {
            conn.finish();
            let (bodies, _) = conn.rest();
            if !bodies.is_empty() {
                return Err(format!("{name} heard {} packets more", bodies.len()));
            }
        }
        for id in std::mem::take(&mut self.ids) {
            self.link().kick(ClientId::from_u64(id));
        }
        let last = self.fence().id();
        loop {
            match self.link().recv() {
                packet if packet.id != last => {}
                packet if packet.flag == Flag::Failure => return Ok(()),
                _ => self.link().kick(last),
            }
        }
    }
}
