//! `ctl`: asks a running edge through its admin interface, or has it change something. `top` shows it.

mod call;
mod show;
mod top;

use std::io::Write as _;

use serde_json::{Value, json};
use thiserror::Error;

use crate::cli::{CtlArgs, CtlCall, TopArgs};
use crate::config::Settings;
use call::{Caller, escaped, with_query};

/// Why a call has no result.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The caller must change something first.
    #[error("{0}")]
    Usage(String),
    /// The edge did not do it, or there is none.
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// Returns the exit code of the program: 1 if the edge did not do it, 2 if the call was wrong.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Refused(_) => 1,
        }
    }
}

/// Makes a call. Returns what is to be printed.
pub(crate) fn ask(settings: &Settings, args: &CtlArgs) -> Result<String, Failure> {
    let caller = Caller::new(settings)?;
    let shown = |value: &Value, show: fn(&Value) -> String| match args.json {
        true => format!("{value}\n"),
        false => show(value),
    };
    let get = |path: &str| caller.call("GET", path, None);
    let post = |path: &str, body: Value| caller.call("POST", path, Some(&body));
    Ok(match &args.call {
        CtlCall::Status => shown(&get("/v1/status")?, show::status),
        CtlCall::Config => shown(&get("/v1/config")?, show::config),
        CtlCall::Sessions {
            state,
            source,
            listener,
            sort,
            limit,
            after,
        } => {
            let limit = Some(limit.to_string());
            let query = [
                ("limit", &limit),
                ("state", state),
                ("source", source),
                ("listener", listener),
                ("sort", sort),
                ("after", after),
            ];
            shown(&get(&with_query("/v1/sessions", &query))?, show::sessions)
        }
        CtlCall::Session { id } => {
            let value = get(&format!("/v1/sessions/{}", escaped(id)))?;
            shown(&value, show::fields)
        }
        CtlCall::Kick {
            id: Some(id),
            code,
            wait_ms,
            text,
            ..
        } => {
            let path = format!("/v1/sessions/{}/kick", escaped(id));
            let body = json!({ "code": code, "wait_ms": wait_ms, "text": text });
            shown(&post(&path, body)?, show::fields)
        }
        CtlCall::Kick {
            id: None,
            source,
            listener,
            code,
            wait_ms,
            text,
        } => {
            let mut body = json!({
                "source": source, "listener": listener,
                "code": code, "wait_ms": wait_ms, "text": text,
            });
            // Each call does as much as a second allows. Sessions that begin behind it are not its concern.
            let mut kicked = 0;
            loop {
                let answer = post("/v1/sessions/kick", body.clone())?;
                kicked += answer["kicked"].as_u64().unwrap_or(0);
                match &answer["next"] {
                    Value::Null => break,
                    next => body["after"] = next.clone(),
                }
            }
            shown(&json!({ "kicked": kicked }), show::fields)
        }
        CtlCall::Bans { after } => {
            let path = with_query("/v1/bans", &[("after", after)]);
            shown(&get(&path)?, show::bans)
        }
        CtlCall::Ban {
            network,
            secs,
            note,
            force,
        } => {
            let body = json!({ "network": network, "secs": secs, "note": note, "force": force });
            shown(&post("/v1/bans", body)?, show::fields)
        }
        CtlCall::Unban { network } => {
            let path = with_query("/v1/bans", &[("network", &Some(network.clone()))]);
            shown(&caller.call("DELETE", &path, None)?, show::fields)
        }
        #[cfg(feature = "backends")]
        CtlCall::Drain {
            undo,
            backend: Some(backend),
            moves,
            ..
        } => {
            let what = if *moves { "move" } else { "drain" };
            let path = format!("/v1/backends/{backend}/{what}");
            let value = match undo {
                true => caller.call("DELETE", &path, None)?,
                false => post(&path, json!({}))?,
            };
            shown(&value, show::fields)
        }
        CtlCall::Drain {
            spread_secs, undo, ..
        } => {
            let value = match undo {
                true => caller.call("DELETE", "/v1/drain", None)?,
                false => post("/v1/drain", json!({ "spread_secs": spread_secs }))?,
            };
            shown(&value, show::fields)
        }
        CtlCall::Reload => shown(&post("/v1/reload", json!({}))?, show::fields),
        CtlCall::Log { level, secs } => {
            let value = post("/v1/log_level", json!({ "level": level, "secs": secs }))?;
            shown(&value, show::fields)
        }
        CtlCall::Tail { secs } => {
            let mut out = std::io::stdout();
            caller.watch(*secs, |name, value| {
                let line = match args.json {
                    true => format!("{value}\n"),
                    false => show::line(name, value),
                };
                // Whoever reads no more has seen enough.
                out.write_all(line.as_bytes()).is_ok()
            })?;
            String::new()
        }
    })
}

/// Shows the edge again and again.
pub(crate) fn show_top(settings: &Settings, args: &TopArgs) -> Result<(), Failure> {
    top::run(&Caller::new(settings)?, args)
}
