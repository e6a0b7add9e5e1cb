//! What an engine and a server of NATS say first.

use std::fmt;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::jetstream::plain;
use crate::engine::EngineError;

/// The oldest server that the engine is tested with. (SPEC 43.7(b))
pub const OLDEST: &str = "2.9.0";
const OLDEST_PARTS: [u64; 3] = [2, 9, 0];

/// What an engine is told to be let in.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// A user and a password.
    User(String, Zeroizing<String>),
    /// A token.
    Token(Zeroizing<String>),
}

impl Credentials {
    /// Reads `user:password`, or a token, which has no colon.
    #[must_use]
    pub fn of(text: &str) -> Credentials {
        match text.split_once(':') {
            Some((user, password)) => {
                Credentials::User(user.to_owned(), Zeroizing::new(password.to_owned()))
            }
            None => Credentials::Token(Zeroizing::new(text.to_owned())),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// Checks that a server can do what is needed.
pub(super) fn check_server(info: &str, has_credentials: bool) -> Result<(), EngineError> {
    let info: Value = serde_json::from_str(info)
        .map_err(|_| EngineError::Nonsense("its greeting is no JSON".to_owned()))?;
    let version = info["version"].as_str().unwrap_or_default();
    let parts: Option<Vec<u64>> = version
        .split(['.', '-'])
        .take(3)
        .map(|part| part.parse().ok())
        .collect();
    match parts {
        Some(parts) if parts.len() == 3 => {
            if parts[..] < OLDEST_PARTS[..] {
                return Err(EngineError::TooOld {
                    found: plain(version),
                    needed: OLDEST,
                });
            }
        }
        _ => {
            return Err(EngineError::Nonsense(
                "its greeting has no version".to_owned(),
            ));
        }
    }
    if info["tls_required"] == true {
        let what = "it demands TLS, which this client does not speak";
        return Err(EngineError::Failed(what.to_owned()));
    }
    if info["headers"] != true {
        let what = "it has headers turned off, which a write needs";
        return Err(EngineError::Failed(what.to_owned()));
    }
    if info["auth_required"] == true && !has_credentials {
        let what = "it demands credentials, and there are none";
        return Err(EngineError::Denied(what.to_owned()));
    }
    Ok(())
}

pub(super) fn login(credentials: Option<&Credentials>) -> Zeroizing<String> {
    let mut login = json!({
        "verbose": false,
        "pedantic": false,
        "tls_required": false,
        "name": "voltlane",
        "lang": "rust",
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": 1,
        "headers": true,
        "no_responders": true,
    });
    match credentials {
        None => {}
        Some(Credentials::User(user, password)) => {
            login["user"] = json!(user);
            login["pass"] = json!(password.as_str());
        }
        Some(Credentials::Token(token)) => login["auth_token"] = json!(token.as_str()),
    }
    Zeroizing::new(login.to_string())
}
