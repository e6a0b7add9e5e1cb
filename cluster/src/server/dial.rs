//! A connection to a server of an engine.

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// How long a connection may take to be accepted, at each of the first addresses of a name.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The addresses of a name that are tried.
const MAX_ADDRESSES: usize = 2;

/// Connects to one of the servers, each host and port: that of this number, counted around. It waits for a bounded time, and the socket that
/// it returns never waits.
pub(super) fn dial(servers: &[(String, u16)], number: usize) -> io::Result<TcpStream> {
    let server = servers.get(number % servers.len().max(1));
    let no_server = || io::Error::new(io::ErrorKind::NotFound, "no server is named");
    let (host, port) = server.ok_or_else(no_server)?;
    let name = format!("{host}:{port}");
    let told = |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    let addresses = (host.as_str(), *port).to_socket_addrs().map_err(told)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses.take(MAX_ADDRESSES) {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(socket) => {
                socket.set_nonblocking(true)?;
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(told(last))
}
