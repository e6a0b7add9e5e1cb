//! Data structures under the edge's tables. They know nobody.

pub(crate) mod deadlines;
pub(crate) mod list;
pub(crate) mod slab;
