//! The client's half of version 3. (SPEC sections 22 to 26)

mod leave;
mod opening;
mod seat;
mod session;

pub use leave::{Breach, MAX_BREACHES};
pub use opening::{
    Attempting, ClientError, Joining, MAX_MARKS, Outcome, Resumable, Returning, Welcomed,
};
pub use seat::Ledgers;
pub use session::Gap;

pub(crate) use leave::Leave;
pub(crate) use session::{Resumption, Session, Told, Trust};
