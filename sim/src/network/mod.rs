//! The second engine: the drivers that ship, unchanged, on turmoil's network.
//!
//! One host runs the edge's driver, one the backend library, one or more the clients, each in a task of its own: clients of the
//! library that ships, and clients that speak the published protocol by themselves. Strangers have a host too. For 20 simulated
//! seconds links are held, cut, slowed and reset, hosts crash and lose power, single calls of sockets fail. Then all of that ends
//! (the strangers go on), and within a time that follows from the configuration every client must have its packets through; after
//! that nothing may be lost or late any more, sessions of clients that have left must end in time, and so must the edge when it is
//! asked to. What the applications see is held against the promises of SPEC.txt by a [ledger](Seen).

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

pub use faults::{Host, Place, Trouble};
pub use knobs::Knobs;
pub use ledger::{Broken, Seen};
pub use run::{Outcome, run};
pub use world::World;

use self::stream::{Dialer, Sockets};
use self::wires::{Side, Wire};
use crate::rng::Rng;

const EDGE_PORT: u16 = 42_000;
const BACKEND_PORT: u16 = 42_001;

fn dialer_to_edge(sockets: &Sockets, seed: u64) -> Dialer {
    Dialer {
        host: "edge",
        port: EDGE_PORT,
        wire: Wire::Front,
        side: Side::Peer,
        sockets: sockets.clone(),
        rng: Rng::new(seed),
    }
}

fn seed_of(rng: &mut Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill(&mut seed);
    seed
}
