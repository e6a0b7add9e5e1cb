//! The backend of a chat with rooms. The first line of a client is its name. Then `join ROOM` and `leave ROOM` do what they say, and
//! `ROOM words` says something there. Whoever joins a room gets what was said there last.
//!
//! ```text
//! cargo run -p voltlane-tokio --example chat
//! cargo run -- run
//! cargo run -- connect 127.0.0.1:42000
//! ```

use std::collections::{BTreeMap, VecDeque};

use voltlane_tokio::ClientId;
use voltlane_tokio::backend::{Backend, BackendHandle, Event, SendError};

/// Lines that a room keeps.
const HISTORY: usize = 20;

/// What was said in each room that has members.
type Histories = BTreeMap<String, VecDeque<String>>;

/// Serves a chat until the backend is closed.
pub(crate) async fn chat(mut backend: Backend) -> Result<(), SendError> {
    let mut names: BTreeMap<ClientId, String> = BTreeMap::new();
    let mut histories = Histories::new();
    while let Some(event) = backend.recv().await {
        match event {
            Event::Packet { id, data, .. } => {
                let line = String::from_utf8_lossy(&data).into_owned();
                match names.get(&id) {
                    Some(name) => obey(&backend, &mut histories, id, name, &line).await?,
                    None => drop(names.insert(id, line)),
                }
            }
            // It left its rooms by itself.
            Event::Ended { id, end, .. } => {
                if let Some(name) = names.remove(&id) {
                    for room in histories.keys() {
                        let line = format!("{room} * {name} is gone: {}", end.code);
                        backend.send(backend.group(room), line).await?;
                    }
                }
                forget_empty_rooms(&backend, &mut histories);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Does what a line says.
async fn obey(
    backend: &BackendHandle,
    histories: &mut Histories,
    id: ClientId,
    name: &str,
    line: &str,
) -> Result<(), SendError> {
    match line.split_once(' ') {
        Some(("join", room)) => {
            let group = backend.group(room);
            // A client can be in so many rooms, and there can be so many.
            if let Err(problem) = backend.add(group, id).await {
                backend.send(id, format!("! {problem}")).await?;
                return Ok(());
            }
            let history = histories.entry(room.to_owned()).or_default();
            for line in history.iter() {
                backend.send(id, line).await?;
            }
            let line = format!("{room} * {name} is here");
            backend.send(group.without(id), line).await
        }
        Some(("leave", room)) => {
            backend.remove(backend.group(room), id).await?;
            forget_empty_rooms(backend, histories);
            let line = format!("{room} * {name} has left");
            backend.send(backend.group(room), line).await
        }
        Some((room, words)) if backend.members(backend.group(room)).contains(&id) => {
            let line = format!("{room} {name}: {words}");
            let history = histories.entry(room.to_owned()).or_default();
            if history.len() == HISTORY {
                history.pop_front();
            }
            history.push_back(line.clone());
            backend.send(backend.group(room).without(id), line).await
        }
        _ => {
            let help = "! join ROOM, leave ROOM, or ROOM words in a room that you have joined";
            backend.send(id, help).await.map(drop)
        }
    }
}

fn forget_empty_rooms(backend: &BackendHandle, histories: &mut Histories) {
    histories.retain(|room, _| !backend.members(backend.group(room)).is_empty());
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    Ok(chat(voltlane_tokio::listen("127.0.0.1:42001").await?).await?)
}
