//! The calls: from a request to its answer.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rustix::process::{Signal, getpid, kill_process};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use voltlane_core::edge::BanError;

use super::ban_file::Ban;
use super::desk::Desk;
use super::guard::Caller;
use super::request::{Refusal, Request};
use super::sessions;
use super::status::status;
use crate::config::{LogLevel, Origins, Settings, parse_network, values_in_effect};
use crate::logging;
use crate::text::excerpt;

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
        ("GET", ["v1", "sessions"]) => sessions::list(desk, request),
        ("POST", ["v1", "sessions", "kick"]) => {
            none().and_then(|()| sessions::kick_all(desk, request))
        }
        ("GET", ["v1", "sessions", id]) => none().and_then(|()| sessions::one(desk, id)),
        ("POST", ["v1", "sessions", id, "kick"]) => {
            none().and_then(|()| sessions::kick(desk, id, request))
        }
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

pub(super) fn ok(value: Value) -> Answer {
    Ok((200, value))
}

/// Parses the body of a change. None is as good as an empty object.
pub(super) fn body<T: DeserializeOwned>(request: &Request) -> Result<T, Refusal> {
    let text: &[u8] = match request.body.trim_ascii() {
        b"" => b"{}",
        text => text,
    };
    serde_json::from_slice(text).map_err(|error| Refusal::new(400, format!("the body: {error}")))
}

fn config(settings: &Settings) -> Value {
    values_in_effect(settings, &Origins::in_effect())
}

// ---- bans

pub(super) fn network(text: &str) -> Result<IpNet, Refusal> {
    parse_network(text).map_err(|error| Refusal::new(400, format!("network: {error}")))
}

fn bans(desk: &Desk, request: &Request) -> Answer {
    request.only(&["after"])?;
    let after = request.parameter("after").map(network).transpose()?;
    let page = desk.ask(0, move |edge, _| edge.bans(after))?;
    let last = page.bans.last().map(|(network, ..)| network.to_string());
    let next = last.filter(|_| page.has_more);
    let homes = desk.homes();
    let bans: Vec<Value> = page
        .bans
        .iter()
        .map(|(network, left, note)| {
            json!({
                "network": network.to_string(),
                "left_secs": left.map(|left| left.as_secs()),
                "home": homes.get(network),
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
        let says = "the network has this machine or the caller in it; add \"force\" (ctl: --force) if it is meant";
        return Err(Refusal::new(409, says));
    }
    let within = asked.secs.map(Duration::from_secs);
    let ban = Ban {
        network,
        within,
        note: asked.note,
        home: None,
    };
    let note = ban.note.clone();
    let done = desk.ask(0, move |edge, now| {
        edge.handle_ban(now, network, within, &note)
    })?;
    match done {
        Ok(()) => {
            let is_shared = desk.share_ban(&ban);
            desk.keep_bans()?;
            let mut done = json!({ "banned": network.to_string(), "secs": asked.secs });
            if let Some(is_shared) = is_shared {
                done["shared"] = json!(is_shared);
            }
            ok(done)
        }
        Err(error @ BanError::TooMany) => Err(Refusal::new(409, error.to_string())),
        Err(error) => Err(Refusal::new(400, error.to_string())),
    }
}

fn unban(desk: &Desk, request: &Request) -> Answer {
    request.only(&["network"])?;
    let asked = request.parameter("network");
    let asked = asked.ok_or_else(|| Refusal::new(400, "the parameter network is missing"))?;
    let network = network(asked)?;
    let was_here = desk.ask(0, move |edge, now| edge.handle_unban(now, network))?;
    // It may be in effect elsewhere alone.
    let was_shared = desk.share_lift(network);
    match was_here || was_shared {
        true => {
            desk.keep_bans()?;
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
