//! The conformance suite against both programs, as one target: most of its tests wait, so those of one program run while those of the
//! other wait.
#![allow(
    clippy::duplicate_mod,
    reason = "the scenarios are there once for each program"
)]

mod conformance_smol;
mod conformance_tokio;
