mod frames;
mod http;
pub(crate) mod oracles;
mod rules;
#[cfg(all(feature = "upgrade", unix))]
mod saved;
