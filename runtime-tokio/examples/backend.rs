//! A minimal backend: sends everything back. Waits for its edge at 127.0.0.1:42001.
//!
//!     cargo run --example backend

use voltlane_tokio::backend::Event;
use voltlane_tokio::{Backend, TcpListener};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut backend = Backend::new(TcpListener::bind("127.0.0.1:42001").await?);
    loop {
        match backend.recv().await {
            Event::Packet { id, data } => backend.send(id, &data).await?,
            other => eprintln!("{other:?}"),
        }
    }
}
