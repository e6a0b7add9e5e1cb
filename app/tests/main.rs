//! The tests that need no program, as one target: it is built and linked once.

mod config;
mod dashboard;
mod files;
mod generated;
mod key_file;
mod metrics;
mod readme;
