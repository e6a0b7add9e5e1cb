//! `Debug` for types that hold streams, wakers and payloads: it shows their names and nothing else.

use std::fmt;

#[cfg(feature = "edge")]
use crate::Connector;
#[cfg(feature = "edge")]
use crate::{Listener, Timer};
#[cfg(feature = "edge")]
use crate::{Stream, Uplink};

macro_rules! opaque {
    ($Type:ident < $( $Param:ident : $Bound:ident ),+ >, $name:literal) => {
        impl< $( $Param: $Bound ),+ > fmt::Debug for crate::$Type< $( $Param ),+ > {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($name).finish_non_exhaustive()
            }
        }
    };
}

#[cfg(feature = "edge")]
opaque!(EdgeDriver<L: Listener, C: Uplink, T: Timer>, "EdgeDriver");
#[cfg(feature = "edge")]
opaque!(TrunkDriver<C: Connector, T: Timer>, "TrunkDriver");
#[cfg(feature = "edge")]
opaque!(Neighbours<S: Stream>, "Neighbours");

#[cfg(feature = "edge")]
impl<L> fmt::Debug for crate::Openings<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Openings").finish_non_exhaustive()
    }
}

#[cfg(feature = "edge")]
impl<C> fmt::Debug for crate::Handle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

#[cfg(feature = "edge")]
impl<C: Connector> fmt::Debug for crate::link::Link<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

#[cfg(feature = "edge")]
impl fmt::Debug for crate::branch::Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Branch").finish_non_exhaustive()
    }
}

#[cfg(feature = "edge")]
impl fmt::Debug for crate::BranchConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BranchConnector").finish_non_exhaustive()
    }
}
