//! A minimal backend: sends everything back. Waits for its edge at 127.0.0.1:42001.
//!
//!     cargo run -p voltlane-smol --example smol_backend

use voltlane_smol::backend::Event;
use voltlane_smol::{Backend, TcpListener};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smol::block_on(async {
        let mut backend = Backend::new(TcpListener::bind("127.0.0.1:42001").await?);
        loop {
            match backend.recv().await {
                Event::Packet { id, data } => backend.send(id, &data).await?,
                other => eprintln!("{other:?}"),
            }
        }
    })
}
