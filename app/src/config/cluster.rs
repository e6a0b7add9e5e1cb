//! The engine of a cluster, and its name.

use std::fmt;

use serde::{Deserialize as _, Deserializer};

use super::address::Address;
use super::value::{Data, Kind, Value};

/// The servers that can be named.
const MAX_SERVERS: usize = 8;
/// The most bytes of the name of a cluster (SPEC 43.3).
const MAX_NAME: usize = 32;

/// A kind of engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// NATS with JetStream.
    #[default]
    Nats,
    /// Redis, or what speaks its protocol and has its scripts.
    Redis,
}

impl EngineKind {
    const ALL: [EngineKind; 2] = [EngineKind::Nats, EngineKind::Redis];

    fn scheme(self) -> &'static str {
        match self {
            EngineKind::Nats => "nats://",
            EngineKind::Redis => "redis://",
        }
    }
}

/// Where the engine is: no server is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineServers {
    /// What it is.
    pub kind: EngineKind,
    /// Its servers.
    pub servers: Vec<Address>,
}

impl fmt::Display for EngineServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.servers.is_empty() {
            return f.write_str("none");
        }
        let servers: Vec<_> = self.servers.iter().map(Address::to_string).collect();
        write!(f, "{}{}", self.kind.scheme(), servers.join(","))
    }
}

impl Value for EngineServers {
    type Allowed = ();

    const KIND: Kind = Kind::Text;
    const EXPLAINS: bool = true;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let text = String::deserialize(deserializer)?;
        if text == "none" {
            return Ok(EngineServers::default());
        }
        let wrong = |what: &str| D::Error::custom(what);
        let mut kinds = EngineKind::ALL.into_iter();
        let found = kinds.find_map(|kind| Some((kind, text.strip_prefix(kind.scheme())?)));
        let (kind, servers) = found.ok_or_else(|| {
            let is_tls = ["tls://", "rediss://"]
                .iter()
                .any(|tls| text.starts_with(tls));
            match is_tls {
                true => wrong("the link to an engine is not encrypted: lead it through a tunnel"),
                false => wrong("this is no engine"),
            }
        })?;
        if servers.contains('@') {
            return Err(wrong("credentials go into cluster.credentials_file"));
        }
        let parsed = servers.split(',').map(str::parse);
        let parsed: Result<Vec<Address>, _> = parsed.collect();
        let servers = parsed.map_err(D::Error::custom)?;
        Ok(EngineServers { kind, servers })
    }

    fn check(&self, (): &()) -> Result<(), String> {
        if self.servers.len() > MAX_SERVERS {
            return Err(format!("there are more than {MAX_SERVERS} servers"));
        }
        match self.servers.iter().any(|server| server.port() == 0) {
            true => Err("the port is not from 1 to 65535".into()),
            false => Ok(()),
        }
    }

    fn expected((): &(), _unit: &str) -> String {
        "\"none\", or servers such as \"nats://10.0.0.1:4222,10.0.0.2:4222\" or \"redis://10.0.0.1:6379\"".into()
    }

    fn data(&self) -> Data {
        Data::Text(self.to_string())
    }
}

/// The name of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterName(String);

impl ClusterName {
    /// Returns a name that is known to be one.
    pub(super) fn of(name: &'static str) -> ClusterName {
        ClusterName(name.to_owned())
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for ClusterName {
    type Allowed = ();

    const KIND: Kind = Kind::Text;

    fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(ClusterName)
    }

    fn check(&self, (): &()) -> Result<(), String> {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_fine = (1..=MAX_NAME).contains(&self.0.len()) && self.0.bytes().all(is_of_name);
        is_fine.then_some(()).ok_or_else(String::new)
    }

    fn expected((): &(), _unit: &str) -> String {
        format!("up to {MAX_NAME} letters, digits, \"-\" and \"_\"")
    }

    fn data(&self) -> Data {
        Data::Text(self.0.clone())
    }
}

#[cfg(all(test, feature = "engine"))]
mod tests {
    use super::*;

    /// The crate of the engine has the same rule.
    #[test]
    fn every_name_is_one_for_the_engine() {
        for text in [
            "voltlane",
            "a",
            "A_b-1",
            &"n".repeat(32),
            "",
            "a.b",
            "a b",
            &"n".repeat(33),
        ] {
            let name = ClusterName(text.to_owned());
            let parsed = text.parse::<voltlane_cluster::ClusterName>();
            assert_eq!(name.check(&()).is_ok(), parsed.is_ok(), "{text}");
        }
    }
}
