//! Admission: limits of sources, rates, and PROXY headers. It knows no connection and no session.

pub(crate) mod bans;
pub(crate) mod limits;
pub(crate) mod listeners;
pub mod proxy;
pub(crate) mod sources;
