mod frames;
pub(crate) mod oracles;
mod rules;
