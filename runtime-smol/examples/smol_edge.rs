//! An edge embedded in a program, on smol: clients at 127.0.0.1:42000, the backend at 127.0.0.1:42001. It shuts down in order after a
//! minute, handing over queued data first.
//!
//!     cargo run -p voltlane-smol --example smol_edge

use std::time::Duration;

use voltlane_core::edge::{Edge, EdgeConfig};
use voltlane_core::keys::KeyPair;
use voltlane_smol::{EdgeDriver, TcpConnector, TcpListener, Timer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut private_key, mut seed) = ([0; 32], [0; 32]);
    getrandom::fill(&mut private_key)?;
    getrandom::fill(&mut seed)?;
    let edge = Edge::new(
        EdgeConfig::default(),
        KeyPair::from_bytes(&private_key)?,
        seed,
    );

    smol::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:42000").await?;
        let driver = EdgeDriver::new(
            edge,
            listener,
            TcpConnector::new("127.0.0.1:42001"),
            Timer::new(),
        );
        let handle = driver.handle();
        let ends = smol::spawn(async move {
            smol::Timer::after(Duration::from_secs(60)).await;
            handle.shutdown(Duration::from_secs(5));
        });
        driver.await;
        ends.await;
        Ok(())
    })
}
