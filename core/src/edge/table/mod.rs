//! Data structures under the edge's tables. They depend on nothing of the edge.

pub(crate) mod alarms;
pub(crate) mod by_size;
pub(crate) mod by_source;
pub(crate) mod deadlines;
pub(crate) mod groups;
pub(crate) mod list;
pub(crate) mod slab;
pub(crate) mod spare;
