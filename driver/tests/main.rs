//! The tests of the drivers from outside, as one target: it is built and linked once.

mod edge;
mod interleavings;
mod libraries;
mod serving;
mod support;
mod trunk;
