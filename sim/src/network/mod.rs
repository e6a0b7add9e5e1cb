//! The second engine: the drivers that ship, unchanged, on turmoil's network.
//!
//! One host runs the edge's driver, one the backend library, one the clients, each a client library in a task of its
//! own. Links are held, cut and healed, the backend crashes and comes back, clients drop their connections. What the
//! applications see is held against the promises of SPEC.txt by a [ledger](Seen).

mod ledger;
mod scenario;
mod stream;

pub use ledger::{Broken, Seen};
pub use scenario::{Outcome, Scenario, run};
