//! Two clients in one program that talk past each other through an edge at 127.0.0.1:42000, or at VOLTLANE_EDGE, each as a task of smol.
//!
//!     cargo run -p voltlane-smol --example smol_client -- hello world

use voltlane_smol::client::Event;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Sends each word, and prints as many packets as were sent.
async fn talk(name: &'static str, words: Vec<String>) -> Outcome {
    let edge = std::env::var("VOLTLANE_EDGE").unwrap_or("127.0.0.1:42000".to_owned());
    let mut client = voltlane_smol::connect(&edge).await?;
    for word in &words {
        client.send(word).await?;
    }
    let mut awaited = words.len();
    while awaited > 0 {
        match client.recv().await {
            Some(Event::Packet { data, .. }) => {
                println!("{name}: {}", String::from_utf8_lossy(&data));
                awaited -= 1;
            }
            Some(other) => eprintln!("{name}: {other:?}"),
            None => break,
        }
    }
    println!("{name}: {}", client.close().await);
    Ok(())
}

fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    smol::block_on(async {
        let first = smol::spawn(talk("first", words.clone()));
        talk("second", words).await?;
        first.await
    })
}
