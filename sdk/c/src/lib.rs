//! The client and the backend for C. `include/voltlane.h` is made from this crate, and documents it.
//!
//! There are two levels. `vl_machine_client` and `vl_machine_backend` are the machines of the core: bytes go in and come out, and their owner
//! has the socket and the clock. `vl_client` and `vl_backend` own a socket, and work while they are polled. Neither starts a thread.
//!
//! Every function can be called with null. A panic ends in an error, and its handle with it.
#![allow(
    non_camel_case_types,
    reason = "C has no namespaces, so its names have a prefix"
)]
#![allow(
    clippy::missing_safety_doc,
    reason = "the header says once for all what pointers must be"
)]

#[cfg(feature = "backend")]
mod backend;
mod client;
mod event;
mod handle;
mod machine;
mod net;
mod options;
mod result;
#[cfg(feature = "backend")]
mod target;

#[cfg(feature = "backend")]
pub use backend::*;
pub use client::*;
pub use event::{vl_event, vl_event_type, vl_ledger};
pub use machine::*;
pub use options::vl_client_options;
#[cfg(feature = "backend")]
pub use options::{VL_OVERFLOW_END, VL_OVERFLOW_GAP, vl_backend_options, vl_restored};
pub use result::*;
#[cfg(feature = "backend")]
pub use target::*;
