//! What an engine and a server of NATS say first.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::engine::EngineError;
use crate::server::{Credentials, check_version, nonsense};

/// The oldest server that the engine is tested with. (SPEC 43.7(b))
pub const OLDEST: &str = "2.9.0";

/// Checks that a server can do what is needed.
pub(super) fn check_server(info: &str, has_credentials: bool) -> Result<(), EngineError> {
    let info = serde_json::from_str(info);
    let info: Value = info.map_err(|_| nonsense("its greeting is no JSON"))?;
    let version = info["version"].as_str().unwrap_or_default();
    check_version(version, OLDEST, "its greeting")?;
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
