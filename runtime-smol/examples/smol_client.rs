//! Two clients in one program that talk past each other through an edge at 127.0.0.1:42000, each as a task of smol.
//!
//!     cargo run -p voltlane-smol --example smol_client -- hello world

use voltlane_smol::Client;
use voltlane_smol::client::{Event, SendError};

/// Sends each word, and prints as many packets as were sent.
async fn talk(name: &'static str, words: Vec<String>) -> Result<(), SendError> {
    let mut client = Client::connect("127.0.0.1:42000");
    for word in &words {
        client.send(word.as_bytes()).await?;
    }
    let mut awaited = words.len();
    while awaited > 0 {
        match client.recv().await {
            Some(Event::Packet(data)) => {
                println!("{name}: {}", String::from_utf8_lossy(&data));
                awaited -= 1;
            }
            Some(other) => eprintln!("{name}: {other:?}"),
            None => break,
        }
    }
    Ok(())
}

fn main() -> Result<(), SendError> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    smol::block_on(async {
        let first = smol::spawn(talk("first", words.clone()));
        talk("second", words).await?;
        first.await
    })
}
