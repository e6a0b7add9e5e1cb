//! The client's half of version 3. (SPEC sections 22 to 26)

mod arrivals;
mod leave;
mod open;
mod opening;
mod saved;
mod seat;
mod session;
mod terms;

pub use leave::{Breach, MAX_BREACHES};
pub use opening::{
    Attempting, ClientError, Joining, MAX_MARKS, Outcome, Resumable, Returning, Welcomed,
};
pub use seat::Ledgers;
pub use terms::Gap;

pub(crate) use leave::Leave;
pub(crate) use saved::{Mark, Restored, load_packets, load_session, save_packets};
pub(crate) use session::Session;
pub(crate) use terms::{Resumption, Told, Trust};
