//! The numbers of the edge as JSON.

use std::time::Instant;

use serde_json::Value;

use super::desk::Desk;
use super::request::Refusal;
use crate::page::totals;

/// Returns the totals, the numbers of each shard, the address of the backend, and what this edge is among several.
pub(super) fn status(desk: &Desk) -> Result<Value, Refusal> {
    let uptime = Instant::now().saturating_duration_since(desk.began());
    let mut status = totals(&desk.numbers()?, uptime);
    status["link"]["address"] = desk.settings().master.address.to_string().into();
    #[cfg(feature = "engine")]
    {
        let cluster = desk.settings().cluster;
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
