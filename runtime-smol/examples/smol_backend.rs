//! A minimal backend: sends everything back. Waits for its edge at 127.0.0.1:42001.
//!
//!     cargo run -p voltlane-smol --example smol_backend

use voltlane_smol::backend::Event;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(async {
        let mut backend = voltlane_smol::listen("127.0.0.1:42001").await?;
        while let Some(event) = backend.recv().await {
            match event {
                Event::Packet { id, data, .. } => drop(backend.send(id, data).await?),
                other => eprintln!("{other:?}"),
            }
        }
        Ok(())
    })
}
