//! Who is let in: what each source may do, rates, and the headers of proxies. Knows no connection and no session.

pub(crate) mod limits;
pub mod proxy;
pub(crate) mod sources;
