//! The backend of a chat: the first line of a client is its name, each further line goes to all others.
//!
//! ```text
//! cargo run --example chat
//! cargo run -- run
//! cargo run -- connect 127.0.0.1:42000
//! ```

use std::collections::BTreeMap;

use voltlane_tokio::backend::Event;
use voltlane_tokio::{Backend, TcpListener};

/// Serves a chat, for ever.
pub(crate) async fn chat(mut backend: Backend) {
    let mut names = BTreeMap::new();
    loop {
        let (speaker, line) = match backend.recv().await {
            Event::Packet { id, data } => {
                let text = String::from_utf8_lossy(&data).into_owned();
                match names.get(&id) {
                    Some(name) => (id, format!("{name}: {text}")),
                    None => {
                        let line = format!("* {text} joined");
                        names.insert(id, text);
                        (id, line)
                    }
                }
            }
            Event::Resumed { id } => match names.get(&id) {
                Some(name) => (id, format!("* {name} is back")),
                None => continue,
            },
            Event::Failed { id, reason } => match names.remove(&id) {
                Some(name) => (id, format!("* {name} left: {reason}")),
                None => continue,
            },
            _ => continue,
        };
        for &id in names.keys().filter(|&&id| id != speaker) {
            if let Err(problem) = backend.send(id, line.as_bytes()).await {
                eprintln!("{id}: {problem}");
            }
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    chat(Backend::new(TcpListener::bind("127.0.0.1:42001").await?)).await;
    Ok(())
}
