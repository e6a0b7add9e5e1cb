//! The engine of the cluster, as the configuration has it. (SPEC 43)

use std::path::Path;

#[cfg(feature = "redis")]
use voltlane_cluster::RedisEngine;
use voltlane_cluster::{ClusterName, Credentials, Engine, EngineConfig, NatsEngine};

use crate::config::{EngineKind, Settings};
use crate::secret_file;

/// Returns the name of the cluster.
pub(crate) fn name(settings: &Settings) -> Result<ClusterName, String> {
    let name = settings.cluster.name.to_string().parse();
    name.map_err(|error| format!("cluster.name: {error}"))
}

/// Makes the engine that the configuration names. `seed` spreads its attempts.
///
/// # Errors
/// When there are no credentials in the file that is to have them, or the program was built without that engine. No error quotes what the
/// file has.
pub(crate) fn engine(settings: &Settings, seed: u64) -> Result<Box<dyn Engine + Send>, String> {
    let cluster = &settings.cluster;
    let credentials = match &cluster.credentials_file {
        None => None,
        Some(path) => Some(credentials(path)?),
    };
    let servers = cluster.engine.servers.iter();
    let servers = servers.map(|server| (server.host().to_owned(), server.port()));
    let config = EngineConfig {
        servers: servers.collect(),
        cluster: name(settings)?,
        credentials,
        seed,
    };
    match cluster.engine.kind {
        EngineKind::Nats => Ok(Box::new(NatsEngine::new(config))),
        #[cfg(feature = "redis")]
        EngineKind::Redis => Ok(Box::new(RedisEngine::new(config))),
        #[cfg(not(feature = "redis"))]
        EngineKind::Redis => Err("this program was built without Redis".to_owned()),
    }
}

fn credentials(path: &Path) -> Result<Credentials, String> {
    let rule = |least| {
        let most = secret_file::MAX_BYTES;
        format!(
            "it has USER:PASSWORD or a token, of {least} to {most} printable characters on one line"
        )
    };
    let text = secret_file::read_of(path, 1, rule);
    let text =
        text.map_err(|error| format!("cluster.credentials_file {}: {error}", path.display()))?;
    Ok(Credentials::of(&text))
}
