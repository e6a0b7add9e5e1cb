//! Streams with layers over sockets of both runtimes, and over sockets that do not want to.

mod bounds;
mod header;
mod life;
mod opened;
mod reluctant;
