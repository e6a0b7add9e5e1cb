//! A minimal client: sends its arguments, prints what comes back, and says goodbye. Needs an edge at 127.0.0.1:42000, or at VOLTLANE_EDGE.
//!
//!     cargo run --example client -- hello world

use voltlane_tokio::client::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let edge = std::env::var("VOLTLANE_EDGE").unwrap_or("127.0.0.1:42000".to_owned());
    let mut client = voltlane_tokio::connect(&edge).await?;
    let mut waits_for = 0;
    for word in std::env::args().skip(1) {
        client.send(word).await?;
        waits_for += 1;
    }
    while waits_for > 0 {
        match client.recv().await {
            Some(Event::Packet { data, .. }) => {
                println!("{}", String::from_utf8_lossy(&data));
                waits_for -= 1;
            }
            Some(other) => eprintln!("{other:?}"),
            None => break,
        }
    }
    println!("{}", client.close().await);
    Ok(())
}
