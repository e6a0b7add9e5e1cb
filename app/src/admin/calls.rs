//! The calls: from a request to its answer.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::process::{Signal, getpid, kill_process};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use voltlane_core::ClientId;
use voltlane_core::edge::{BanError, KickError, MAX_PAGE, SessionInfo};
use voltlane_core::link::v3::Kick;
use voltlane_core::protocol::{Code, Ledger};

use super::ban_file;
use super::desk::{Desk, PATIENCE};
use super::guard::Caller;
use super::request::{Refusal, Request};
use super::status::status;
use crate::config::{LogLevel, Settings, parse_network, values_in_effect};
use crate::logging;
use crate::text::excerpt;

/// The number of sessions on a page, unless the caller says another one.
const USUAL_PAGE: usize = 100;
/// The longest time for which the level of the log is changed.
const MAX_LEVEL_SECS: u64 = 3_600;
const USUAL_LEVEL_SECS: u64 = 300;
/// The longest time of a drain, of which the clients are told.
const MAX_SPREAD_SECS: u64 = 3_600;
const USUAL_SPREAD_SECS: u64 = 20;
/// The longest ban that is not for ever, in seconds: ten years.
const MAX_BAN_SECS: u64 = 315_360_000;

/// The number of characters of a refused path that are logged.
const MAX_SHOWN: usize = 80;

/// An answer: its status, and JSON.
pub(super) type Answer = Result<(u16, Value), Refusal>;

/// Answers a request that the guard let in.
pub(super) fn answer(desk: &Desk, caller: &Caller, request: &Request) -> Answer {
    let answer = dispatch(desk, caller, request);
    if request.is_change() {
        audit(caller, request, &answer);
    }
    answer
}

/// Calls what the request names. Parameters that a call does not have are refused before it begins.
fn dispatch(desk: &Desk, caller: &Caller, request: &Request) -> Answer {
    let path: Vec<&str> = request.path.split('/').skip(1).collect();
    let none = || request.only(&[]);
    match (&*request.method, path.as_slice()) {
        ("GET", ["v1", "status"]) => none().and_then(|()| ok(status(desk)?)),
        ("GET", ["v1", "config"]) => none().and_then(|()| ok(config(&desk.settings()))),
        ("GET", ["v1", "sessions"]) => sessions(desk, request),
        ("GET", ["v1", "sessions", id]) => none().and_then(|()| session(desk, id)),
        ("POST", ["v1", "sessions", id, "kick"]) => none().and_then(|()| kick(desk, id, request)),
        ("GET", ["v1", "bans"]) => bans(desk, request),
        ("POST", ["v1", "bans"]) => none().and_then(|()| ban(desk, caller, request)),
        ("DELETE", ["v1", "bans"]) => unban(desk, request),
        ("POST", ["v1", "drain"]) => none().and_then(|()| drain(desk, request)),
        ("DELETE", ["v1", "drain"]) => none().and_then(|()| undo_drain(desk)),
        #[cfg(feature = "backends")]
        ("POST", ["v1", "backends", number, "drain"]) => {
            none().and_then(|()| drain_backend(desk, number, true))
        }
        #[cfg(feature = "backends")]
        ("DELETE", ["v1", "backends", number, "drain"]) => {
            none().and_then(|()| drain_backend(desk, number, false))
        }
        #[cfg(feature = "backends")]
        ("POST", ["v1", "backends", number, "move"]) => {
            none().and_then(|()| move_backend(desk, number, true))
        }
        #[cfg(feature = "backends")]
        ("DELETE", ["v1", "backends", number, "move"]) => {
            none().and_then(|()| move_backend(desk, number, false))
        }
        ("POST", ["v1", "reload"]) => none().and_then(|()| reload()),
        ("POST", ["v1", "log_level"]) => none().and_then(|()| log_level(request)),
        _ => Err(Refusal::new(
            404,
            "there is no such call; see `voltlane ctl --help`",
        )),
    }
}

/// Logs a change, or an attempt. None of these lines is left out.
fn audit(caller: &Caller, request: &Request, answer: &Answer) {
    let (status, result) = match answer {
        Ok((status, value)) => (*status, value.to_string()),
        Err(refusal) => (refusal.status, refusal.says.clone()),
    };
    let asked = String::from_utf8_lossy(&request.body);
    let query = request.parameter("network").unwrap_or_default();
    tracing::info!(
        target: "voltlane::audit",
        who = %caller,
        call = %format_args!("{} {}", request.method, request.path),
        %asked,
        %query,
        status,
        %result,
        "a change by the admin interface"
    );
}

/// Logs a change that the guard refuses. Strangers can cause such lines, so they are limited like others.
pub(super) fn tell_refused(caller: &Caller, request: &Request, refusal: &Refusal) {
    if request.is_change() {
        tracing::warn!(
            who = %caller,
            call = %format_args!("{} {}", request.method, excerpt(&request.path, MAX_SHOWN)),
            status = refusal.status,
            result = %refusal.says,
            "a change by the admin interface was refused"
        );
    }
}

fn ok(value: Value) -> Answer {
    Ok((200, value))
}

/// Parses the body of a change. None is as good as an empty object.
fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Refusal> {
    let text: &[u8] = match request.body.trim_ascii() {
        b"" => b"{}",
        text => text,
    };
    serde_json::from_slice(text).map_err(|error| Refusal::new(400, format!("the body: {error}")))
}

fn config(settings: &Settings) -> Value {
    values_in_effect(settings)
}

// ---- sessions

/// Which sessions are wanted.
struct Filter {
    away: Option<bool>,
    source: Option<IpNet>,
}

impl Filter {
    fn wants(&self, session: &SessionInfo) -> bool {
        let is_away = session.conn.is_none();
        let of_source = |network: &IpNet| {
            let source = session.source.map(|source| source.to_canonical());
            source.is_some_and(|source| network.contains(&source))
        };
        self.away.is_none_or(|away| away == is_away) && self.source.as_ref().is_none_or(of_source)
    }
}

fn sessions(desk: &Desk, request: &Request) -> Answer {
    request.only(&["state", "source", "limit", "after"])?;
    let away = match request.parameter("state") {
        None => None,
        Some("attached") => Some(false),
        Some("away") => Some(true),
        Some(_) => return Err(Refusal::new(400, "state is attached or away")),
    };
    let source = request.parameter("source").map(network).transpose()?;
    let filter = Filter { away, source };
    let limit = match request.parameter("limit").map(str::parse::<usize>) {
        None => USUAL_PAGE,
        Some(Ok(limit @ 1..=MAX_PAGE)) => limit,
        Some(_) => return Err(Refusal::new(400, format!("limit is 1 to {MAX_PAGE}"))),
    };
    // Where to go on: the shard, and the place there.
    let after = request.parameter("after").map_or(Some((0, 0)), |after| {
        let (shard, place) = after.split_once('.')?;
        Some((shard.parse::<usize>().ok()?, place.parse::<u32>().ok()?))
    });
    let (mut shard, mut place) =
        after.ok_or_else(|| Refusal::new(400, "after is the \"next\" of another page"))?;
    let names = desk.names();
    let until = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    while shard < desk.shards() {
        let left = limit - found.len();
        let page = desk.ask(shard, move |edge, _| edge.page(place, left))?;
        let wanted = page.sessions.iter().filter(|one| filter.wants(one));
        found.extend(wanted.map(|one| shown(one, &names)));
        match page.next {
            Some(next) => place = next,
            None => (shard, place) = (shard + 1, 0),
        }
        if found.len() >= limit || Instant::now() >= until {
            break;
        }
    }
    let next = (shard < desk.shards()).then(|| format!("{shard}.{place}"));
    ok(json!({ "sessions": found, "next": next }))
}

fn parse_id(id: &str) -> Result<ClientId, Refusal> {
    let is_hex = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u64::from_str_radix(id, 16).ok().filter(|_| is_hex);
    number
        .map(ClientId::from_u64)
        .ok_or_else(|| Refusal::new(400, "an id has 16 hexadecimal digits"))
}

fn session(desk: &Desk, id: &str) -> Answer {
    let id = parse_id(id)?;
    let found = desk.ask(usize::from(id.shard().as_u8()), move |edge, _| {
        edge.inspect(id)
    })?;
    let found = found.ok_or_else(|| Refusal::new(404, KickError::NoSession.to_string()))?;
    ok(shown(&found, &desk.names()))
}

fn shown(session: &SessionInfo, names: &[String]) -> Value {
    let listener = session.listener.and_then(|number| names.get(number));
    json!({
        "id": session.id.to_string(),
        "shard": session.id.shard().as_u8(),
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

#[derive(Deserialize)]
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

fn kick(desk: &Desk, id: &str, request: &Request) -> Answer {
    let id = parse_id(id)?;
    let KickBody {
        code,
        wait_ms,
        text,
    } = body(request)?;
    let code = Code::from_u16(code);
    let code = code.ok_or_else(|| Refusal::new(400, "a code is 401, 405 or 500 to 699"))?;
    let done = desk.ask(usize::from(id.shard().as_u8()), move |edge, now| {
        let text = &text;
        edge.handle_kick(
            now,
            id,
            &Kick {
                code,
                wait_ms,
                text,
            },
        )
    })?;
    match done {
        Ok(()) => ok(json!({ "kicked": id.to_string() })),
        Err(error @ KickError::NoSession) => Err(Refusal::new(404, error.to_string())),
        Err(error) => Err(Refusal::new(400, error.to_string())),
    }
}

// ---- bans

fn network(text: &str) -> Result<IpNet, Refusal> {
    parse_network(text).map_err(|error| Refusal::new(400, format!("network: {error}")))
}

fn bans(desk: &Desk, request: &Request) -> Answer {
    request.only(&["after"])?;
    let after = request.parameter("after").map(network).transpose()?;
    let page = desk.ask(0, move |edge, _| edge.bans(after))?;
    let last = page.bans.last().map(|(network, ..)| network.to_string());
    let next = last.filter(|_| page.has_more);
    let bans: Vec<Value> = page
        .bans
        .iter()
        .map(|(network, left, note)| {
            json!({
                "network": network.to_string(),
                "left_secs": left.map(|left| left.as_secs()),
                "note": note,
            })
        })
        .collect();
    ok(json!({ "bans": bans, "next": next }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BanBody {
    network: String,
    secs: Option<u64>,
    #[serde(default)]
    note: String,
    #[serde(default)]
    force: bool,
}

fn ban(desk: &Desk, caller: &Caller, request: &Request) -> Answer {
    let asked: BanBody = body(request)?;
    let network = network(&asked.network)?;
    if matches!(asked.secs, Some(secs) if secs == 0 || secs > MAX_BAN_SECS) {
        let says = format!("secs is 1 to {MAX_BAN_SECS}; without it the ban is for ever");
        return Err(Refusal::new(400, says));
    }
    let own = match caller {
        Caller::User(_) => None,
        Caller::Token(from) => Some(from.to_canonical()),
    };
    let loopback: [IpAddr; 2] = [[127, 0, 0, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()];
    let mut kept = loopback.into_iter().chain(own);
    if !asked.force && kept.any(|address| network.contains(&address)) {
        let says =
            "the network has this machine or the caller in it; say \"force\": true if it is meant";
        return Err(Refusal::new(409, says));
    }
    let within = asked.secs.map(Duration::from_secs);
    let note = asked.note;
    let done = desk.ask(0, move |edge, now| {
        edge.handle_ban(now, network, within, &note)
    })?;
    match done {
        Ok(()) => {
            keep_bans(desk)?;
            ok(json!({ "banned": network.to_string(), "secs": asked.secs }))
        }
        Err(error @ BanError::TooMany) => Err(Refusal::new(409, error.to_string())),
        Err(error) => Err(Refusal::new(400, error.to_string())),
    }
}

/// Writes the bans to their file, if they have one.
fn keep_bans(desk: &Desk) -> Result<(), Refusal> {
    let file = desk.settings().admin.ban_file;
    file.map_or(Ok(()), |file| ban_file::save(desk, &file))
}

fn unban(desk: &Desk, request: &Request) -> Answer {
    request.only(&["network"])?;
    let asked = request.parameter("network");
    let asked = asked.ok_or_else(|| Refusal::new(400, "the parameter network is missing"))?;
    let network = network(asked)?;
    match desk.ask(0, move |edge, now| edge.handle_unban(now, network))? {
        true => {
            keep_bans(desk)?;
            ok(json!({ "lifted": network.to_string() }))
        }
        false => Err(Refusal::new(404, "exactly this network is not banned")),
    }
}

// ---- the process

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainBody {
    spread_secs: Option<u64>,
}

fn drain(desk: &Desk, request: &Request) -> Answer {
    let DrainBody { spread_secs } = body(request)?;
    let secs = spread_secs.unwrap_or(USUAL_SPREAD_SECS);
    if secs > MAX_SPREAD_SECS {
        let says = format!("spread_secs is 0 to {MAX_SPREAD_SECS}");
        return Err(Refusal::new(400, says));
    }
    drain_all(desk, Some(Duration::from_secs(secs)))?;
    ok(json!({ "draining": true, "spread_secs": secs }))
}

fn undo_drain(desk: &Desk) -> Answer {
    drain_all(desk, None)?;
    ok(json!({ "draining": false }))
}

fn drain_all(desk: &Desk, within: Option<Duration>) -> Result<(), Refusal> {
    for shard in 0..desk.shards() {
        desk.ask(shard, move |edge, now| edge.handle_drain(now, within))?;
    }
    Ok(())
}

/// Has one of several backends get no more sessions, or undoes it.
#[cfg(feature = "backends")]
fn drain_backend(desk: &Desk, number: &str, is_draining: bool) -> Answer {
    let backend = number_of_backend(number)?;
    if !is_draining {
        order_moves(desk, backend, false)?;
    }
    // All shards share what is known of the backends.
    let control = desk.ask(0, |edge, _| edge.backends())?;
    match control.drain(backend, is_draining) {
        true => ok(json!({ "backend": backend, "draining": is_draining })),
        false => {
            let says = "there is no backend of this number, or only one: see /v1/status";
            Err(Refusal::new(404, says))
        }
    }
}

/// Has the sessions of one of several backends go to others, and none begin there; or undoes it.
#[cfg(feature = "backends")]
fn move_backend(desk: &Desk, number: &str, moves: bool) -> Answer {
    let backend = number_of_backend(number)?;
    // The end of a drain ends the moves.
    drain_backend(desk, number, moves)?;
    if moves {
        order_moves(desk, backend, true)?;
    }
    ok(json!({ "backend": backend, "draining": moves, "moving": moves }))
}

#[cfg(feature = "backends")]
fn order_moves(desk: &Desk, backend: u8, moves: bool) -> Result<(), Refusal> {
    for shard in 0..desk.shards() {
        desk.ask(shard, move |edge, now| {
            edge.handle_move(now, backend, moves);
        })?;
    }
    Ok(())
}

#[cfg(feature = "backends")]
fn number_of_backend(number: &str) -> Result<u8, Refusal> {
    number.parse().map_err(|_| {
        Refusal::new(
            400,
            "the number of a backend is a whole number from 0: /v1/status has them",
        )
    })
}

/// The log tells what comes of it, as after SIGHUP.
fn reload() -> Answer {
    let sent = kill_process(getpid(), Signal::HUP);
    sent.map_err(|error| Refusal::new(503, error.to_string()))?;
    Ok((
        202,
        json!({ "reload": "asked for; the log tells the outcome" }),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LevelBody {
    level: LogLevel,
    secs: Option<u64>,
}

fn log_level(request: &Request) -> Answer {
    let LevelBody { level, secs } = body(request)?;
    let secs = secs.unwrap_or(USUAL_LEVEL_SECS);
    if !(1..=MAX_LEVEL_SECS).contains(&secs) {
        return Err(Refusal::new(400, format!("secs is 1 to {MAX_LEVEL_SECS}")));
    }
    logging::set_for(level, Duration::from_secs(secs));
    ok(json!({ "level": level.to_string(), "secs": secs }))
}
