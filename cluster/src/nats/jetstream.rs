//! The answers of JetStream, and its errors.

use serde_json::Value;

use crate::engine::{EngineError, Entry, key_of};
use crate::server::{nonsense, plain};

/// Codes of errors of JetStream.
pub(super) mod code {
    /// The revision is another one: of one server, and of several.
    pub(in crate::nats) const WRONG_REVISION: [u64; 2] = [10_071, 10_164];
    pub(in crate::nats) const NO_MESSAGE: u64 = 10_037;
    pub(in crate::nats) const NO_STREAM: u64 = 10_059;
    pub(in crate::nats) const STREAM_IN_USE: u64 = 10_058;
}

/// An error that JetStream answers.
pub(super) struct ApiError {
    pub(super) code: u64,
    http: u64,
    text: String,
}

impl ApiError {
    pub(super) fn of(answer: &Value) -> Option<ApiError> {
        let error = answer.get("error")?;
        let text = error["description"].as_str().unwrap_or("no reason");
        Some(ApiError {
            code: error["err_code"].as_u64().unwrap_or(0),
            http: error["code"].as_u64().unwrap_or(0),
            text: plain(text),
        })
    }
}

impl From<ApiError> for EngineError {
    fn from(error: ApiError) -> EngineError {
        match error.http {
            503 => EngineError::Unreachable(error.text),
            _ => EngineError::Failed(error.text),
        }
    }
}

pub(super) fn error_of(text: String) -> EngineError {
    let text = plain(&text);
    let lower = text.to_ascii_lowercase();
    let is_denied = [
        "authorization",
        "authentication",
        "permissions",
        "expired",
        "revoked",
    ]
    .iter()
    .any(|word| lower.contains(word));
    match is_denied {
        true => EngineError::Denied(text),
        false => EngineError::Unreachable(text),
    }
}

pub(super) fn content(status: Option<u16>, payload: &[u8]) -> Result<Value, EngineError> {
    match status {
        Some(503) => Err(EngineError::Unreachable(
            "JetStream is not enabled there, or has no leader".to_owned(),
        )),
        Some(status) => Err(EngineError::Failed(format!("status {status}"))),
        None => {
            let read: Value =
                serde_json::from_slice(payload).map_err(|_| nonsense("an answer is no JSON"))?;
            match read.is_object() {
                true => Ok(read),
                false => Err(nonsense("an answer is no object")),
            }
        }
    }
}

pub(super) fn read_entry(
    error: Option<ApiError>,
    answer: &Value,
    home: u16,
) -> Result<Option<Entry>, EngineError> {
    match error {
        Some(error) if error.code == code::NO_MESSAGE => return Ok(None),
        Some(error) => return Err(error.into()),
        None => {}
    }
    let message = &answer["message"];
    let subject = message["subject"].as_str().unwrap_or_default();
    if !subject.ends_with(&format!(".{}", key_of(home))) {
        return Err(nonsense("a record is of another home"));
    }
    let revision = message["seq"].as_u64().filter(|revision| *revision > 0);
    let revision = revision.ok_or_else(|| nonsense("a record has no revision"))?;
    let text = message["data"].as_str().unwrap_or_default();
    let value = data_encoding::BASE64
        .decode(text.as_bytes())
        .map_err(|_| nonsense("a record is not in base 64"))?;
    Ok(Some(Entry {
        home,
        revision,
        value,
    }))
}
