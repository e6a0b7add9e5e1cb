//! Listens at an address of the configuration, which may be a name with several addresses.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use tracing::warn;
#[cfg(feature = "tools")]
use voltlane_driver::Runtime;
use voltlane_driver::{BoundAddresses, SocketOptions};

use crate::config::Address;

/// Binds every address of `name` that this machine has. Waits for the resolver. Warns about addresses that are left out: clients that find
/// one of them will not find this process.
///
/// # Errors
/// Those of the resolver, or of [`SocketOptions::bind_all`].
pub(crate) fn bind(name: &Address, options: SocketOptions) -> io::Result<BoundAddresses> {
    let bound = options.bind_all((name.host(), name.port()).to_socket_addrs()?)?;
    for (address, error) in bound.left_out() {
        warn!(name = %name.host(), %address, %error, "not listening on an address of the name");
    }
    Ok(bound)
}

/// Returns the listeners of one thread for its runtime, at least one.
///
/// # Errors
/// When the runtime cannot register one.
#[cfg(feature = "tools")]
pub(crate) fn for_runtime<R: Runtime>(
    listeners: Vec<TcpListener>,
    options: SocketOptions,
) -> io::Result<(R::Listener, Vec<R::Listener>)> {
    let mut listeners = listeners.into_iter();
    let first = listeners.next();
    let first = first.ok_or_else(|| io::Error::other("no listener"))?;
    let more = listeners.map(|listener| R::listener(listener, options));
    Ok((
        R::listener(first, options)?,
        more.collect::<Result<_, _>>()?,
    ))
}

/// Returns the addresses of one thread's listeners.
///
/// # Errors
/// Those of `getsockname`.
pub(crate) fn local_addrs(listeners: &[TcpListener]) -> io::Result<Vec<SocketAddr>> {
    listeners.iter().map(TcpListener::local_addr).collect()
}
