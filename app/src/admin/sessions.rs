//! The calls about sessions: which there are, and their end.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Instant;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};
use voltlane_core::ClientId;
use voltlane_core::edge::{KickError, MAX_PAGE, SessionInfo};
use voltlane_core::link::v3::Kick;
use voltlane_core::protocol::{Code, Ledger};

use super::calls::{Answer, body, network, ok};
use super::desk::{Desk, PATIENCE};
use super::request::{Refusal, Request};

/// The number of sessions on a page, unless the caller says another one.
const USUAL_PAGE: usize = 100;
/// The sessions that a shard may kick in one turn, of those that it looks at.
const KICKS_AT_ONCE: usize = 256;

/// Which sessions are wanted.
#[derive(Clone, Default)]
struct Filter {
    away: Option<bool>,
    source: Option<IpNet>,
    /// The number of the listener in the machine.
    listener: Option<usize>,
}

impl Filter {
    /// Parses what a caller wants.
    fn new(
        desk: &Desk,
        state: Option<&str>,
        source: Option<&str>,
        listener: Option<&str>,
    ) -> Result<Filter, Refusal> {
        let away = match state {
            None => None,
            Some("attached") => Some(false),
            Some("away") => Some(true),
            Some(_) => return Err(Refusal::new(400, "state is attached or away")),
        };
        let of_name = |name: &str| {
            let number = desk.names().iter().position(|known| known == name);
            let number = number.filter(|_| !name.is_empty());
            number.ok_or_else(|| Refusal::new(400, "no listener has this name"))
        };
        Ok(Filter {
            away,
            source: source.map(network).transpose()?,
            listener: listener.map(of_name).transpose()?,
        })
    }

    fn wants(&self, session: &SessionInfo) -> bool {
        let is_away = session.conn.is_none();
        let of_source = |network: &IpNet| {
            let source = session.source.map(|source| source.to_canonical());
            source.is_some_and(|source| network.contains(&source))
        };
        self.away.is_none_or(|away| away == is_away)
            && self.source.as_ref().is_none_or(of_source)
            && self
                .listener
                .is_none_or(|number| session.listener == Some(number))
    }
}

/// By what sessions are sorted. The largest is the first.
#[derive(Clone, Copy)]
enum Order {
    Queue,
    Backlog,
    Resumes,
    Age,
    Away,
}

impl Order {
    const NAMES: [(&str, Order); 5] = [
        ("queue", Order::Queue),
        ("backlog", Order::Backlog),
        ("resumes", Order::Resumes),
        ("age", Order::Age),
        ("away", Order::Away),
    ];

    fn parse(text: &str) -> Result<Order, Refusal> {
        let found = Order::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, order)| *order).ok_or_else(|| {
            let names = Order::NAMES.map(|(name, _)| name).join(", ");
            Refusal::new(400, format!("sort is one of {names}"))
        })
    }

    fn of(self, session: &SessionInfo) -> u128 {
        match self {
            Order::Queue => session.queue_bytes as u128,
            Order::Backlog => session.backlog_bytes as u128,
            Order::Resumes => session.resumes.into(),
            Order::Age => session.age.as_nanos(),
            Order::Away => session.away.map_or(0, |away| away.as_nanos()),
        }
    }
}

/// Where a walk over the sessions of all shards goes on.
#[derive(Clone, Copy, Default)]
struct Walk {
    shard: usize,
    place: u32,
}

impl Walk {
    /// Goes on where another call has ended.
    fn after(text: Option<&str>) -> Result<Walk, Refusal> {
        let Some(text) = text else {
            return Ok(Walk::default());
        };
        let walk = text.split_once('.').and_then(|(shard, place)| {
            Some(Walk {
                shard: shard.parse().ok()?,
                place: place.parse().ok()?,
            })
        });
        walk.ok_or_else(|| Refusal::new(400, "after is the \"next\" of another page"))
    }

    fn is_over(&self, desk: &Desk) -> bool {
        self.shard >= desk.shards()
    }

    /// Goes on behind a page.
    fn step(&mut self, next: Option<u32>) {
        match next {
            Some(next) => self.place = next,
            None => {
                *self = Walk {
                    shard: self.shard + 1,
                    place: 0,
                }
            }
        }
    }

    /// Returns where another call goes on, if there is more.
    fn next(&self, desk: &Desk) -> Option<String> {
        (!self.is_over(desk)).then(|| format!("{}.{}", self.shard, self.place))
    }
}

/// Lists sessions: a page of them, or the first ones in an order.
pub(super) fn list(desk: &Desk, request: &Request) -> Answer {
    request.only(&["state", "source", "listener", "sort", "limit", "after"])?;
    let of = |name| request.parameter(name);
    let filter = Filter::new(desk, of("state"), of("source"), of("listener"))?;
    let limit = match of("limit").map(str::parse::<usize>) {
        None => USUAL_PAGE,
        Some(Ok(limit @ 1..=MAX_PAGE)) => limit,
        Some(_) => return Err(Refusal::new(400, format!("limit is 1 to {MAX_PAGE}"))),
    };
    let walk = Walk::after(of("after"))?;
    match of("sort").map(Order::parse).transpose()? {
        None => page(desk, &filter, limit, walk),
        Some(_) if of("after").is_some() => Err(Refusal::new(
            400,
            "a sorted list has no pages: leave out after, or sort",
        )),
        Some(order) => sorted(desk, &filter, limit, order),
    }
}

fn page(desk: &Desk, filter: &Filter, limit: usize, mut walk: Walk) -> Answer {
    let names = desk.names();
    let until = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    while !walk.is_over(desk) {
        let (place, left) = (walk.place, limit - found.len());
        let page = desk.ask(walk.shard, move |edge, _| edge.page(place, left))?;
        let wanted = page.sessions.iter().filter(|one| filter.wants(one));
        found.extend(wanted.map(|one| shown(one, walk.shard, &names)));
        walk.step(page.next);
        if found.len() >= limit || Instant::now() >= until {
            break;
        }
    }
    ok(json!({ "sessions": found, "next": walk.next(desk) }))
}

/// Looks at all sessions, as far as there is time, and keeps the largest. They change meanwhile, so a page could not follow.
fn sorted(desk: &Desk, filter: &Filter, limit: usize, order: Order) -> Answer {
    let names = desk.names();
    let until = Instant::now() + PATIENCE;
    let mut walk = Walk::default();
    // The largest is the first, and of equal ones the lowest id.
    let mut largest = BTreeMap::new();
    while !walk.is_over(desk) && Instant::now() < until {
        let place = walk.place;
        let page = desk.ask(walk.shard, move |edge, _| edge.page(place, MAX_PAGE))?;
        for one in page.sessions {
            if filter.wants(&one) {
                largest.insert((Reverse(order.of(&one)), one.id), (one, walk.shard));
            }
            if largest.len() > limit {
                largest.pop_last();
            }
        }
        walk.step(page.next);
    }
    let found = largest.values();
    let found: Vec<_> = found
        .map(|(one, shard)| shown(one, *shard, &names))
        .collect();
    ok(json!({ "sessions": found, "next": null, "whole": walk.is_over(desk) }))
}

fn parse_id(id: &str) -> Result<ClientId, Refusal> {
    let is_hex = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(id, 16).ok().filter(|_| is_hex);
    number
        .map(ClientId::from_u64)
        .ok_or_else(|| Refusal::new(400, "an id has 16 hexadecimal digits"))
}

/// Asks the shards for a session, until one has it. A session that has gone to another backend is not at the shard in its id (SPEC 45.6).
/// Returns what that one says, and its number.
fn find<T>(
    desk: &Desk,
    id: ClientId,
    ask: impl Fn(usize) -> Result<Option<T>, Refusal>,
) -> Result<(T, usize), Refusal> {
    let first = usize::from(id.shard().as_u8());
    let others = (0..desk.shards()).filter(|shard| *shard != first);
    for shard in std::iter::once(first).chain(others) {
        if let Some(found) = ask(shard)? {
            return Ok((found, shard));
        }
    }
    Err(Refusal::new(404, KickError::NoSession.to_string()))
}

pub(super) fn one(desk: &Desk, id: &str) -> Answer {
    let id = parse_id(id)?;
    let ((found, name), shard) = find(desk, id, |shard| {
        desk.ask_with_peers(shard, move |edge, _, peers| {
            let found = edge.inspect(id)?;
            let name = found.conn.and_then(|conn| peers.name_of(conn));
            Some((found, name))
        })
    })?;
    let mut shown = shown(&found, shard, &desk.names());
    // The name in the client's certificate, if it has shown one.
    shown["tls_name"] = name.into();
    ok(shown)
}

fn shown(session: &SessionInfo, shard: usize, names: &[String]) -> Value {
    let listener = session.listener.and_then(|number| names.get(number));
    json!({
        "id": session.id.to_string(),
        "shard": shard,
        "version": session.version,
        "state": if session.conn.is_some() { "attached" } else { "away" },
        "conn": session.conn,
        "age_secs": session.age.as_secs(),
        "away_secs": session.away.map(|away| away.as_secs()),
        "source": session.source,
        "listener": listener,
        "queue_packets": session.queue_packets,
        "queue_bytes": session.queue_bytes,
        "backlog_bytes": session.backlog_bytes,
        "waiting": session.is_waiting,
        "paused": session.is_paused,
        "resumes": session.resumes,
        "exchanged": session.has_exchanged,
        "up": ledger(&session.up),
        "down": ledger(&session.down),
        "cause": session.cause.map(|cause| cause.to_string()),
    })
}

fn ledger(ledger: &Ledger) -> Value {
    json!({
        "numbered": ledger.numbered, "acknowledged": ledger.acknowledged,
        "superseded": ledger.superseded, "gapped": ledger.gapped,
        "open_sent": ledger.open_sent, "open_unsent": ledger.open_unsent,
        "skipped": ledger.skipped,
    })
}

/// The body of a kick: the code, the wait and the text that the client gets.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KickBody {
    code: u16,
    wait_ms: u32,
    text: String,
}

impl Default for KickBody {
    fn default() -> Self {
        KickBody {
            code: Code::KICKED.to_u16(),
            wait_ms: 0,
            text: String::new(),
        }
    }
}

impl KickBody {
    fn code(&self) -> Result<Code, Refusal> {
        let code = Code::from_u16(self.code).filter(|code| Kick::allows(*code));
        code.ok_or_else(|| Refusal::new(400, "a code is 401, 405 or 500 to 699"))
    }

    fn kick(&self, code: Code) -> Kick<'_> {
        Kick {
            code,
            wait_ms: self.wait_ms,
            text: &self.text,
        }
    }
}

pub(super) fn kick(desk: &Desk, id: &str, request: &Request) -> Answer {
    let id = parse_id(id)?;
    let words: KickBody = body(request)?;
    let code = words.code()?;
    let (done, _) = find(desk, id, |shard| {
        let words = words.clone();
        let done = desk.ask(shard, move |edge, now| {
            edge.handle_kick(now, id, &words.kick(code))
        })?;
        Ok(Some(done).filter(|done| *done != Err(KickError::NoSession)))
    })?;
    done.map_err(|error| Refusal::new(400, error.to_string()))?;
    ok(json!({ "kicked": id.to_string() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KickAllBody {
    state: Option<String>,
    source: Option<String>,
    listener: Option<String>,
    after: Option<String>,
    code: Option<u16>,
    #[serde(default)]
    wait_ms: u32,
    #[serde(default)]
    text: String,
}

/// Kicks all sessions of a source or of a listener, as far as there is time. The answer says where another call goes on.
pub(super) fn kick_all(desk: &Desk, request: &Request) -> Answer {
    let asked: KickAllBody = body(request)?;
    let [state, source, listener] =
        [&asked.state, &asked.source, &asked.listener].map(Option::as_deref);
    if source.or(listener).is_none() {
        let says = "source or listener is missing: to end all sessions, end the edge";
        return Err(Refusal::new(400, says));
    }
    let filter = Filter::new(desk, state, source, listener)?;
    let words = KickBody {
        code: asked.code.unwrap_or(KickBody::default().code),
        wait_ms: asked.wait_ms,
        text: asked.text,
    };
    let code = words.code()?;
    let mut walk = Walk::after(asked.after.as_deref())?;
    let until = Instant::now() + PATIENCE;
    let mut kicked = 0_usize;
    while !walk.is_over(desk) && Instant::now() < until {
        let (place, filter, words) = (walk.place, filter.clone(), words.clone());
        let done = desk.ask(walk.shard, move |edge, now| {
            let page = edge.page(place, KICKS_AT_ONCE);
            let mut kicked = 0;
            for one in page.sessions.iter().filter(|one| filter.wants(one)) {
                match edge.handle_kick(now, one.id, &words.kick(code)) {
                    Ok(()) => kicked += 1,
                    Err(KickError::NoSession) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok((kicked, page.next))
        })?;
        let (ended, next) = done.map_err(|error| Refusal::new(400, error.to_string()))?;
        kicked += ended;
        walk.step(next);
    }
    ok(json!({ "kicked": kicked, "next": walk.next(desk) }))
}
