mod frames;
mod http;
pub(crate) mod oracles;
mod rules;
