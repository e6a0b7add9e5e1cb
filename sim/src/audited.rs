//! An edge that is audited between every two calls.

use std::ops::{Deref, DerefMut};

use voltlane_core::edge::Edge;

/// Whether the worlds audit their edges. A planted bug is to be found by what can be seen of the machine, and not by its own word.
pub(crate) const AUDITS: bool = cfg!(all(debug_assertions, not(feature = "planted")));

/// An edge of a small world: before each call that may change it, what the call before has left is audited. A walk over some ten
/// connections and sessions costs less than the rest of a step.
#[derive(Debug)]
pub(crate) struct Audited(Edge);

impl Audited {
    pub(crate) fn new(edge: Edge) -> Self {
        Audited(edge)
    }
}

impl Deref for Audited {
    type Target = Edge;

    fn deref(&self) -> &Edge {
        &self.0
    }
}

impl DerefMut for Audited {
    fn deref_mut(&mut self) -> &mut Edge {
        if AUDITS {
            self.0.audit();
        }
        &mut self.0
    }
}
