//! A game server at 20 Hz: players send where they are, in 8 bytes, and all get the places of all.
//!
//! ```text
//! cargo run -p voltlane-smol --example smol_game
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use voltlane_smol::backend::{Backend, Event, Everyone, SendError};

/// 20 times a second.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// Serves a game until the backend is closed.
pub(crate) async fn game(mut backend: Backend) -> Result<(), SendError> {
    let mut places = BTreeMap::new();
    while let Some(event) = backend.recv().await {
        match event {
            Event::Tick { .. } => {
                let state: Vec<u8> = places.values().copied().flatten().collect();
                backend.send_latest(Everyone, 1, state).await?;
            }
            Event::Packet { id, data, .. } => match <[u8; 8]>::try_from(data) {
                Ok(place) => drop(places.insert(id, place)),
                Err(_) => backend.kick(id, 600, "a place has 8 bytes").await?,
            },
            Event::Ended { id, .. } => drop(places.remove(&id)),
            _ => {}
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(async {
        let backend = voltlane_smol::backend("127.0.0.1:42001").tick(TICK);
        Ok(game(backend.listen().await?).await?)
    })
}
