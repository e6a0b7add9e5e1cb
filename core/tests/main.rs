//! The tests of core from outside, as one target: it is built and linked once.

mod backend_machine;
mod client_machine;
mod client_v3;
mod proxy_header;
mod spec_document;
mod spec_examples;
mod spec_examples_link;
mod spec_examples_v3;
mod three_machines;
mod trunk;
mod v3_opening;
mod vectors;
mod walls;
mod wire_properties;
