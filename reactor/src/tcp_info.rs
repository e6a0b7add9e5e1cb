//! What Linux knows of the acknowledgements of a connection (TCP_INFO).

use std::ffi::c_void;
use std::os::fd::AsRawFd;
use std::time::Duration;

use voltlane_driver::Acknowledgements;

/// Bytes that are asked for: up to tcpi_notsent_bytes, which Linux has had since 4.6.
const BYTES: usize = 148;

// Where `struct tcp_info` of linux/tcp.h has what is wanted of it; libc's has not all of it on every system.
const PROBES: usize = 3;
const UNACKED: usize = 24;
const LAST_ACK_RECV: usize = 56;
const TOTAL_RETRANS: usize = 100;
const NOTSENT_BYTES: usize = 144;

/// What the system knows of the acknowledgements of the peer of `socket`. `None` when it does not say.
#[must_use]
#[expect(unsafe_code, reason = "neither rustix nor socket2 has TCP_INFO")]
pub fn acknowledgements(socket: &impl AsRawFd) -> Option<Acknowledgements> {
    let mut info = [0u8; BYTES];
    let mut length = BYTES as libc::socklen_t;
    // SAFETY: both pointers are of locals that live until the call is over; the system writes no more than `length` says, which is the
    // room that there is, and any bytes are good ones. A descriptor that is no TCP socket is an error.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast::<c_void>(),
            &raw mut length,
        )
    };
    if failed != 0 || (length as usize) < BYTES {
        return None;
    }
    let word = |at: usize| Some(u32::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    Some(Acknowledgements {
        age: Duration::from_millis(word(LAST_ACK_RECV)?.into()),
        awaited: word(UNACKED)?,
        unsent: word(NOTSENT_BYTES)?,
        repeated: word(TOTAL_RETRANS)?,
        questions: u32::from(info[PROBES]),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_a_peer_has_no_room_for_is_unsent_and_what_it_acknowledged_is_not_awaited() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _peer = listener.accept().unwrap();
        writer.set_nonblocking(true).unwrap();
        while writer.write(&[7; 65_536]).is_ok() {}
        let seen = acknowledgements(&writer).unwrap();
        assert!(seen.unsent > 0, "{seen:?}");
        assert_eq!(seen.repeated, 0);
        assert!(seen.age < Duration::from_secs(20), "{seen:?}");
    }

    #[test]
    fn what_is_no_connection_says_nothing() {
        assert_eq!(
            acknowledgements(&std::fs::File::open("/dev/null").unwrap()),
            None
        );
    }
}
