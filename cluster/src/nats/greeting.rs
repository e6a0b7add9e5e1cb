//! What an engine and a server of NATS say first.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::engine::EngineError;
use crate::text::{parts_of, plain};

/// The oldest server that the engine is tested with. (SPEC 43.7(b))
pub const OLDEST: &str = "2.9.0";
const OLDEST_PARTS: [u64; 3] = [2, 9, 0];

/// Checks that a server can do what is needed.
pub(super) fn check_server(info: &str, has_credentials: bool) -> Result<(), EngineError> {
    let info: Value = serde_json::from_str(info)
        .map_err(|_| EngineError::Nonsense("its greeting is no JSON".to_owned()))?;
    let version = info["version"].as_str().unwrap_or_default();
    let Some(parts) = parts_of(version) else {
        let what = "its greeting has no version";
        return Err(EngineError::Nonsense(what.to_owned()));
    };
    if parts < OLDEST_PARTS {
        return Err(EngineError::TooOld {
            found: plain(version),
            needed: OLDEST,
        });
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
