//! The numbers of the edge as JSON.

use std::time::Instant;

use serde_json::Value;

use super::desk::Desk;
use super::request::Refusal;
use crate::page::totals;

/// Returns the totals, the numbers of each shard, the addresses of the backends, and what this edge is among several.
pub(super) fn status(desk: &Desk) -> Result<Value, Refusal> {
    let uptime = Instant::now().saturating_duration_since(desk.began());
    let mut status = totals(&desk.numbers()?, uptime);
    let settings = desk.settings();
    let addresses: Vec<String> = settings
        .backends()
        .iter()
        .map(ToString::to_string)
        .collect();
    status["link"]["address"] = addresses.join(", ").into();
    if let Some(backends) = status.get_mut("backends").and_then(Value::as_array_mut) {
        for (backend, address) in backends.iter_mut().zip(addresses) {
            backend["address"] = address.into();
        }
    }
    #[cfg(feature = "engine")]
    {
        let cluster = settings.cluster;
        if cluster.home > 0 {
            status["cluster"] = serde_json::json!({
                "home": cluster.home,
                "engine": cluster.engine.to_string(),
                "name": cluster.name.to_string(),
            });
        }
    }
    Ok(status)
}
