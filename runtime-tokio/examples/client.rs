//! A minimal client: sends its arguments, prints what comes back. Needs an edge at 127.0.0.1:42000.
//!
//!     cargo run --example client -- hello world

use voltlane_tokio::Client;
use voltlane_tokio::client::{Event, SendError};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), SendError> {
    let mut client = Client::connect("127.0.0.1:42000");
    let mut waits_for = 0;
    for word in std::env::args().skip(1) {
        client.send(word.as_bytes()).await?;
        waits_for += 1;
    }
    while waits_for > 0 {
        match client.recv().await {
            Some(Event::Packet(data)) => {
                println!("{}", String::from_utf8_lossy(&data));
                waits_for -= 1;
            }
            Some(other) => eprintln!("{other:?}"),
            None => break,
        }
    }
    Ok(())
}
