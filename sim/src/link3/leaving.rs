//! Clients that the backend asks to leave: they do so in the time that it tells, and none is sent away before. (SPEC 25.3, 36.5)

use std::time::Duration;

use voltlane_core::ClientId;
use voltlane_core::client::{Code, DropCause, State};
use voltlane_core::edge::CloseReason;

use super::World;
use crate::codec::Frames;
use crate::ledgered::Runs as _;

const GOAWAY: u8 = 0x28;
const MILLI_NANOS: u64 = 1_000_000;
/// How many sessions may have ended since, each of which is a millisecond.
const FEW: u64 = 8;

/// What the client of a connection was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Its session.
    id: u64,
    /// When the edge sends it away.
    until: u64,
    /// The time in which the client leaves, from when it is asked.
    latest: u64,
    /// The bytes that were written down when it was asked. `None`: not all of them are.
    behind: Option<u64>,
    /// Whether the time is over.
    pub(super) is_over: bool,
}

/// Times of a GOAWAY in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Times {
    latest: u64,
    drain: u64,
}

/// Returns for whom a frame of the backend is and which times it has, if it asks somebody to leave.
fn go_away_of(body: &[u8]) -> Option<(Option<u64>, Times)> {
    let id = u64::from_le_bytes(*body.first_chunk()?);
    let [GOAWAY, _, _, fields @ ..] = body.get(8..)? else {
        return None;
    };
    let number = |at: usize| -> Option<u64> {
        Some(u32::from_le_bytes(*fields.get(at..)?.first_chunk()?).into())
    };
    let times = Times {
        latest: number(4)?,
        drain: number(8)?,
    };
    Some(((id > 0).then_some(id), times))
}

impl World {
    /// The backend asks a client to leave, or everybody.
    pub(super) fn ask_to_leave(&mut self, client: usize, is_for_all: bool, within_millis: u64) {
        let within = Duration::from_millis(within_millis);
        let id = match self.told(client) {
            _ if is_for_all => None,
            Some(id) => Some(id),
            None => return,
        };
        self.host.ask_to_leave(id.map(ClientId::from_u64), within);
        self.asks.push((id, within_millis));
    }

    /// The edge has handled bytes of the backend.
    pub(super) fn edge_has_heard(&mut self, bytes: &[u8]) {
        let Some(link) = &mut self.link else { return };
        link.handed.push(bytes);
        let mut asked = Vec::new();
        while let Ok(Some(body)) = link.handed.next_body(u32::MAX) {
            asked.extend(go_away_of(&body));
        }
        // With several shards each is asked once the frame has come to it.
        if self.edge.shards() == 1 {
            for (id, times) in asked {
                self.is_asked(0, id, times);
            }
        }
    }

    /// A shard has handled frames of the backend.
    pub(super) fn shard_has_heard(&mut self, shard: usize, bytes: &[u8]) {
        let mut frames = Frames::default();
        frames.push(bytes);
        while let Ok(Some(body)) = frames.next_body(u32::MAX) {
            if let Some((id, times)) = go_away_of(&body) {
                self.is_asked(shard, id, times);
            }
        }
    }

    fn is_asked(&mut self, shard: usize, id: Option<u64>, times: Times) {
        let mut here = self.edge.attached();
        here.retain(|(_, (of, _))| *of == shard);
        let fastest = (here.len() as u64).min(times.drain);
        let latest = match id {
            // The edge may have let go of some meanwhile.
            None => times.latest.max(fastest) + FEW,
            Some(_) => times.latest,
        };
        self.note(|| format!("the edge is to ask {id:x?}: {times:?}"));
        if !self.asks.contains(&(id, times.drain)) {
            let text = format!("the backend did not ask {id:x?}: {times:?}");
            return self.ledger.fail("K13", "36.5(b)", text);
        }
        self.ledger.reached(match id {
            None => "all asked to leave",
            Some(_) => "asked to leave",
        });
        for (of, (_, index)) in here {
            let is_it = |conn: &&usize| {
                let conn = &self.conns[**conn];
                let key = conn.key.filter(|_| conn.shard == shard);
                key.is_some_and(|key| key.index() == index)
            };
            let conn = self.live.iter().find(is_it).copied();
            if let Some(conn) = conn.filter(|_| id.is_none_or(|id| id == of)) {
                self.conns[conn].asked = Some(Asked {
                    id: of,
                    until: self.now + times.drain * MILLI_NANOS,
                    latest: latest * MILLI_NANOS,
                    behind: None,
                    is_over: false,
                });
            }
        }
    }

    /// The edge has handled what was due.
    pub(super) fn look_at_leaving(&mut self) {
        let now = self.now;
        let mut stays = None;
        for conn in &self.live {
            let conn = &mut self.conns[*conn];
            let (Some(key), Some(asked)) = (conn.key, &mut conn.asked) else {
                continue;
            };
            if asked.until <= now && !std::mem::replace(&mut asked.is_over, true) {
                self.sent_away += 1;
                self.ledger.reached("sent away for the backend");
                let place = self.edge.inspect(asked.id);
                let place = place.and_then(|(shard, one)| Some((shard, one.conn?)));
                if place == Some((conn.shard, key.index())) {
                    stays = Some((*asked, conn.client));
                } else if let Some(session) = self.ledger.sessions.get_mut(&asked.id) {
                    // It may be away from now on, and its connection ends later.
                    session.let_go_at.get_or_insert(now);
                }
            }
        }
        let gone = self.edge.closed(CloseReason::Shutdown);
        let due = self.sent_away;
        // An edge that ends in order sends everybody away.
        if let Some((asked, client)) = stays {
            let text = format!("client {client} is there: {asked:?}");
            self.ledger.fail("K13", "25.3(b)", text);
        } else if gone > due && !self.is_saving {
            let text = format!("{gone} clients were sent away, and the time of {due} was over");
            self.ledger.fail("K13", "25.3(b)", text);
        }
    }

    /// The edge has nothing more for this connection.
    pub(super) fn all_is_written(&mut self, conn: usize) {
        let conn = &mut self.conns[conn];
        if let Some(asked) = &mut conn.asked {
            asked.behind.get_or_insert(conn.written);
        }
    }

    /// A client has read. Once it has read that it is asked to leave, it will.
    pub(super) fn has_read(&mut self, client: usize, conn: usize, count: usize) {
        let (now, wire) = (self.now, &mut self.conns[conn]);
        wire.read += count as u64;
        let read = wire.read;
        let Some(asked) = wire.asked.as_mut() else {
            return;
        };
        let state = &self.clients[client];
        let is_asked = asked.behind.is_some_and(|bytes| bytes <= read);
        let is_there = state.machine.state() == State::Established && !state.says_goodbye;
        if !(is_asked && is_there && state.is_numbered) {
            return;
        }
        asked.behind = Some(u64::MAX);
        let leaves_at = state.machine.poll_timeout().map(|at| at.as_nanos());
        if leaves_at.is_none_or(|at| at > now + asked.latest) {
            let text = format!("client {client} stays, as it seems: {asked:?}, {leaves_at:?}");
            self.ledger.fail("K13", "36.5(b)", text);
        }
    }

    /// A client says why its last connection has ended.
    pub(super) fn has_left(&mut self, client: usize, cause: DropCause) {
        let last = self.conns.iter().rfind(|conn| conn.client == client);
        let is_sent_away = last.is_some_and(|conn| conn.sent_away_at.is_some());
        let asked = last.and_then(|conn| conn.asked);
        let (is_right, reached) = match cause {
            DropCause::Moved(code) => (
                code == Code::GOING_AWAY && (asked.is_some() || is_sent_away),
                "left when the backend asked",
            ),
            DropCause::Told(Code::GOING_AWAY) => (
                asked.is_some_and(|asked| asked.is_over) || is_sent_away,
                "was sent away",
            ),
            _ => return,
        };
        self.ledger.reached(reached);
        if !is_right {
            let text = format!("client {client}: {cause}, {asked:?}");
            self.ledger.fail("K13", "36.5(b)", text);
        }
    }
}
