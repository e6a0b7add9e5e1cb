//! The second engine: the shipped drivers, unchanged, on turmoil's network.
//!
//! One host runs the edge's driver, one the backend library, and one or more run the clients, each in a task of its own. Some clients use
//! the shipped library, others speak the published protocol by themselves. Strangers have a host, too. In three of four runs without a crowd
//! they all come through a [door](Carriage), so records and requests are cut wherever a run cuts the stream. A stranger that asks for much
//! and reads none of it leaves its door with bytes that are never flushed.
//!
//! For 20 simulated seconds links are held, cut, slowed and reset, hosts crash and lose power, and single socket calls fail. Then all of
//! that ends, except for the strangers. Within a time that follows from the configuration every client must have its packets through. After
//! that nothing may be lost or late any more, sessions of clients that have left must end in time, and so must the edge when it is asked to
//! shut down. A [ledger](Seen) checks what the applications see against the promises of SPEC.txt.

mod carriage;
mod faults;
mod knobs;
mod ledger;
mod library;
mod party;
mod published;
mod run;
mod servers;
mod shared;
mod strangers;
mod stream;
mod wires;
mod world;

use carriage::Carried as _;
pub use faults::{Host, Place, Trouble};
pub use knobs::Knobs;
pub use ledger::{Broken, Seen};
pub use run::{Outcome, run};
pub use voltlane_core::link::v3::Carriage;
pub use world::World;

use voltlane_doors::DoorConnector;

use self::stream::{Dialer, Sockets};
use self::wires::{Side, Wire};
use crate::rng::Rng;

const EDGE_PORT: u16 = 42_000;
const BACKEND_PORT: u16 = 42_001;

fn dialer_to_edge(sockets: &Sockets, seed: u64) -> DoorConnector<Dialer> {
    sockets.carriage.wrap(Dialer {
        host: "edge",
        port: EDGE_PORT,
        wire: Wire::Front,
        side: Side::Peer,
        sockets: sockets.clone(),
        rng: Rng::new(seed),
    })
}

fn seed_of(rng: &mut Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill(&mut seed);
    seed
}
