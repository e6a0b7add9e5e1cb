//! The health check of a balancer or a supervisor during an attack.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::strangers::Tally;

/// How long a response may take.
const WITHIN: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

/// Repeats the check until told to stop, and counts those without a good response in time.
pub(super) fn run(address: SocketAddr, stop: &AtomicBool, tally: &Tally) {
    while !stop.load(Relaxed) {
        if !check(address).is_ok_and(|is_well| is_well) {
            tally.unhealthy.fetch_add(1, Relaxed);
        }
        std::thread::sleep(PAUSE);
    }
}

fn check(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: edge\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(status == *b"HTTP/1.1 200")
}
