//! What the binaries of Voltlane share and that needs no runtime: configuration, arguments, logging, `check`.
#![forbid(unsafe_code)]

pub mod config;
