//! The types of keys about WebSocket: paths, and origins of pages.

use std::fmt;

use serde::{Deserialize, Deserializer};

use super::value::{Data, Kind, Value};

/// The path of a URL, without a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPath(String);

impl UrlPath {
    /// Returns a path that is known to be one.
    pub(super) fn of(path: &'static str) -> UrlPath {
        UrlPath(path.to_owned())
    }
}

impl fmt::Display for UrlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for UrlPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(UrlPath)
    }
}

impl Value for UrlPath {
    type Allowed = ();

    const KIND: Kind = Kind::Text;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        let is_of_path = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\".contains(&byte);
        if !self.0.starts_with('/') || !self.0.bytes().all(is_of_path) {
            return Err(String::new());
        }
        Ok(())
    }

    fn expected((): &(), _unit: &str) -> String {
        "the path of a URL such as \"/\" or \"/play\"".into()
    }

    fn data(&self) -> Data {
        Data::Text(self.0.clone())
    }
}

/// Origins of pages, as their browsers send them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OriginList(pub Vec<String>);

impl Value for OriginList {
    type Allowed = ();

    const KIND: Kind = Kind::Texts;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<String>::deserialize(deserializer).map(OriginList)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        self.0.iter().try_for_each(|origin| check_origin(origin))
    }

    fn expected((): &(), _unit: &str) -> String {
        "a list of origins such as [\"https://example.com\", \"https://*.example.com\"] or [\"*\"]"
            .into()
    }

    fn data(&self) -> Data {
        Data::Texts(self.0.clone())
    }
}

#[cfg(feature = "websocket")]
fn check_origin(origin: &str) -> Result<(), String> {
    use voltlane_doors::websocket::http::Origin;
    let parsed = origin.parse::<Origin>();
    parsed
        .map(|_| ())
        .map_err(|_| format!("{origin:?} is not an origin"))
}

/// Without WebSocket a list is of no use, and another rule says so.
#[cfg(not(feature = "websocket"))]
fn check_origin(origin: &str) -> Result<(), String> {
    let is_origin = origin == "*" || origin.contains("://");
    is_origin
        .then_some(())
        .ok_or_else(|| format!("{origin:?} is not an origin"))
}
