//! What the tests of engines at servers share.

pub(crate) mod fake;
pub(crate) mod real;

use voltlane_cluster::{Credentials, Engine, EngineConfig, NatsEngine, RedisEngine};

/// An engine that is a server.
pub(crate) trait Remote: Engine + Send {
    fn strays(&self) -> u64;
}

impl Remote for NatsEngine {
    fn strays(&self) -> u64 {
        NatsEngine::strays(self)
    }
}

impl Remote for RedisEngine {
    fn strays(&self) -> u64 {
        RedisEngine::strays(self)
    }
}

pub(crate) type Make = fn(EngineConfig) -> Box<dyn Remote>;

pub(crate) fn nats(config: EngineConfig) -> Box<dyn Remote> {
    Box::new(NatsEngine::new(config))
}

pub(crate) fn redis(config: EngineConfig) -> Box<dyn Remote> {
    Box::new(RedisEngine::new(config))
}

/// Where servers of this machine are.
fn config(ports: &[u16], credentials: Option<Credentials>, seed: u64) -> EngineConfig {
    let servers = ports.iter().map(|port| ("127.0.0.1".to_owned(), *port));
    EngineConfig {
        servers: servers.collect(),
        cluster: "game".parse().expect("a name"),
        credentials,
        seed,
    }
}
