//! Towards the backend: the line for room, the link, and the trunk that joins the links of several shards.

pub(crate) mod announce;
pub(crate) mod batch;
pub(crate) mod line;
pub(crate) mod link;
pub(crate) mod pass;
pub mod trunk;
