//! A game server at 20 Hz. Players send where they are, in 8 bytes. Each team gets the places of its own players with every tick.
//!
//! ```text
//! cargo run -p voltlane-tokio --example game
//! cargo run -- run
//! ```
//!
//! A player who loses the connection stays in the game until the edge gives the session up. Only the newest state is worth sending to it, so
//! that goes by `send_latest`.

use std::collections::BTreeMap;
use std::time::Duration;

use voltlane_tokio::ClientId;
use voltlane_tokio::backend::{Backend, Event, Group, SendError};

/// 20 times a second.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// The key of a team's state: a newer one takes the place of one that waits.
const STATE: u64 = 1;
/// The code of a kick. Codes from 600 on tell a client to stop.
const NO_PLACE: u16 = 600;

struct Player {
    team: Group,
    place: [u8; 8],
}

/// Serves a game until the backend is closed.
pub(crate) async fn game(mut backend: Backend) -> Result<(), SendError> {
    let teams = ["red", "blue"].map(|name| backend.group(name));
    let mut players: BTreeMap<ClientId, Player> = BTreeMap::new();
    while let Some(event) = backend.recv().await {
        match event {
            Event::Tick { .. } => {
                for team in teams {
                    backend
                        .send_latest(team, STATE, state(&players, team))
                        .await?;
                }
            }
            Event::Joined(new) => {
                let reds = players.values().filter(|player| player.team == teams[0]);
                let team = teams[usize::from(2 * reds.count() > players.len())];
                let place = [0; 8];
                players.insert(new.id, Player { team, place });
                backend.add(team, new.id).await?;
            }
            Event::Packet { id, data, .. } => match (players.get_mut(&id), data.try_into()) {
                (Some(player), Ok(place)) => player.place = place,
                _ => backend.kick(id, NO_PLACE, "a place has 8 bytes").await?,
            },
            // It misses what was sent meanwhile, and needs no more than the newest.
            Event::Resumed { id, .. } => {
                if let Some(player) = players.get(&id) {
                    let team = player.team;
                    backend
                        .send_latest(id, STATE, state(&players, team))
                        .await?;
                }
            }
            Event::Ended { id, end, .. } => {
                println!("{id} has left: {end}");
                players.remove(&id);
            }
            _ => {}
        }
    }
    Ok(())
}

/// The places of all players of a team, one after another.
fn state(players: &BTreeMap<ClientId, Player>, team: Group) -> Vec<u8> {
    let members = players.values().filter(|player| player.team == team);
    members.flat_map(|player| player.place).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let backend = voltlane_tokio::backend("127.0.0.1:42001").tick(TICK);
    Ok(game(backend.listen().await?).await?)
}
