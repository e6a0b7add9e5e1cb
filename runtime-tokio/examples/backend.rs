//! A minimal backend: sends everything back. Waits for its edge at 127.0.0.1:42001.
//!
//!     cargo run --example backend

use voltlane_tokio::backend::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut backend = voltlane_tokio::listen("127.0.0.1:42001").await?;
    while let Some(event) = backend.recv().await {
        match event {
            Event::Packet { id, data, .. } => drop(backend.send(id, data).await?),
            other => eprintln!("{other:?}"),
        }
    }
    Ok(())
}
