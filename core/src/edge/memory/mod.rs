//! What waits, counted. Knows only the bounds that shards share.

pub(crate) mod account;
