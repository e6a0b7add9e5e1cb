//! What Linux knows about a connection beyond reads and writes: the peer's acknowledgements (TCP_INFO), and an end behind unread data.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use voltlane_driver::{Acknowledgements, PeerEnd};

/// The number of bytes requested: up to and including tcpi_notsent_bytes, which Linux has had since 4.6.
const BYTES: usize = 148;

// Offsets into `struct tcp_info` of linux/tcp.h. libc's definition lacks some of the fields on some systems.
const PROBES: usize = 3;
const UNACKED: usize = 24;
const LAST_ACK_RECV: usize = 56;
const TOTAL_RETRANS: usize = 100;
const NOTSENT_BYTES: usize = 144;

/// Returns what the system knows about the acknowledgements of the peer of `socket`, or `None` if it cannot tell.
#[must_use]
#[expect(unsafe_code, reason = "neither rustix nor socket2 has TCP_INFO")]
pub fn acknowledgements(socket: &impl AsRawFd) -> Option<Acknowledgements> {
    let mut info = [0u8; BYTES];
    let mut length = BYTES as libc::socklen_t;
    // SAFETY: both pointers are to locals that outlive the call. The system writes at most `length` bytes, which is the size of the buffer,
    // and any bytes are valid there. A descriptor that is not a TCP socket is an error.
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
    let mut known = Acknowledgements::default();
    known.age = Duration::from_millis(word(LAST_ACK_RECV)?.into());
    known.awaited = word(UNACKED)?;
    known.unsent = word(NOTSENT_BYTES)?;
    known.repeated = word(TOTAL_RETRANS)?;
    known.questions = u32::from(info[PROBES]);
    Some(known)
}

/// Returns the id of the user at the other end of a Unix socket.
///
/// rustix's `socket_peercred` is not sound here: its process id is never 0, and that of a process in another PID namespace is.
///
/// # Errors
/// Those of `getsockopt`.
#[expect(unsafe_code, reason = "no safe call takes a process id of 0")]
pub fn peer_uid(socket: &impl AsRawFd) -> io::Result<u32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: libc::uid_t::MAX,
        gid: libc::gid_t::MAX,
    };
    let bytes = size_of::<libc::ucred>() as libc::socklen_t;
    let mut length = bytes;
    // SAFETY: both pointers are to locals that outlive the call. The system writes at most `length` bytes, which is the size of the
    // structure, and its fields are integers, for which any bytes are valid. A descriptor that is not a socket is an error.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast::<c_void>(),
            &raw mut length,
        )
    };
    if failed != 0 {
        return Err(io::Error::last_os_error());
    }
    // Linux answers for TCP as well, with a user that does not exist.
    if length != bytes || peer.uid == libc::uid_t::MAX {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(peer.uid)
}

/// Returns how the peer of `socket` has ended, even with unread data before the end. `None` if it has not, or if the system cannot tell.
#[must_use]
pub fn peer_end(socket: &impl AsFd) -> Option<PeerEnd> {
    let mut asked = [PollFd::new(socket, PollFlags::RDHUP)];
    poll(&mut asked, Some(&Timespec::default())).ok()?;
    let said = asked[0].revents();
    if said.intersects(PollFlags::ERR | PollFlags::HUP) {
        Some(PeerEnd::Broken)
    } else if said.contains(PollFlags::RDHUP) {
        Some(PeerEnd::Finished)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[cfg(target_env = "gnu")]
    #[test]
    fn the_offsets_are_those_of_the_system() {
        use std::mem::offset_of;
        assert_eq!(UNACKED, offset_of!(libc::tcp_info, tcpi_unacked));
        assert_eq!(
            LAST_ACK_RECV,
            offset_of!(libc::tcp_info, tcpi_last_ack_recv)
        );
        assert_eq!(
            TOTAL_RETRANS,
            offset_of!(libc::tcp_info, tcpi_total_retrans)
        );
        assert_eq!(PROBES, offset_of!(libc::tcp_info, tcpi_probes));
    }

    #[test]
    fn bytes_without_room_are_unsent_and_acknowledged_ones_are_not_awaited() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _peer = listener.accept().unwrap();
        writer.set_nonblocking(true).unwrap();
        while writer.write(&[7; 65_536]).is_ok() {}
        let seen = acknowledgements(&writer).unwrap();
        assert!(seen.unsent > 0, "{seen:?}");
        assert!(seen.age < Duration::from_secs(20), "{seen:?}");
    }

    #[test]
    fn the_user_at_the_other_end_is_known_for_unix_sockets() {
        let (near, _far) = UnixStream::pair().unwrap();
        assert_eq!(peer_uid(&near).unwrap(), rustix::process::getuid().as_raw());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        peer_uid(&listener).unwrap_err();
        peer_uid(&std::fs::File::open("/dev/null").unwrap()).unwrap_err();
    }

    #[test]
    fn a_socket_without_a_connection_has_no_information() {
        assert_eq!(
            acknowledgements(&std::fs::File::open("/dev/null").unwrap()),
            None
        );
    }
}
