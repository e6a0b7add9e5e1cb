//! The account of waiting bytes. It knows only the bounds that shards share.

pub(crate) mod account;
