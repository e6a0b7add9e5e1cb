//! The socket between the two processes: messages with bounds, and descriptors in them.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::{MAX_MESSAGE_BYTES, SOCKETS_AT_ONCE, UpgradeError, kind, system};

/// Messages of a partner that are looked at once more, when it has failed.
const MAX_LEFT: usize = 16;

/// The other end of a connection.
pub(super) struct Partner {
    socket: OwnedFd,
}

/// A message.
pub(super) struct Message {
    /// Its first byte.
    pub(super) kind: u8,
    /// The others.
    pub(super) body: Vec<u8>,
    pub(super) sockets: Vec<OwnedFd>,
}

impl Message {
    /// Returns what it says to people.
    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.chars().filter(|c| !c.is_control()).collect()
    }

    /// Returns the name and the address of a listener.
    pub(super) fn text_of_listener(&self) -> Result<String, UpgradeError> {
        let text = String::from_utf8(self.body.clone());
        text.map_err(|_| UpgradeError::Wrong("the name of a listener"))
    }

    /// Returns the message if it is of this kind.
    ///
    /// # Errors
    /// What it says if it is NO; otherwise that it has no place.
    pub(super) fn expect(self, kind: u8, what: &'static str) -> Result<Message, UpgradeError> {
        match self.kind {
            of if of == kind => Ok(self),
            kind::NO => Err(UpgradeError::No(self.text())),
            _ => Err(UpgradeError::Wrong(what)),
        }
    }
}

impl Partner {
    /// Connects to the process that listens at `path`.
    pub(super) fn connect(path: &Path) -> Result<Partner, UpgradeError> {
        let cannot = system("the process at general.upgrade_socket");
        let socket = new_socket().map_err(&cannot)?;
        let address = SocketAddrUnix::new(path).map_err(&cannot)?;
        rustix::net::connect(&socket, &address).map_err(&cannot)?;
        Ok(Partner { socket })
    }

    /// Accepts a connection of a process of the same user, or of root.
    ///
    /// # Errors
    /// Those of the system. Another user's process is told that it is one.
    pub(super) fn accept(listener: &OwnedFd) -> Result<Partner, UpgradeError> {
        let cannot = system("a connection at general.upgrade_socket");
        let socket = rustix::net::accept_with(listener, SocketFlags::CLOEXEC).map_err(&cannot)?;
        let partner = Partner { socket };
        let peer = sockopt::socket_peercred(&partner.socket).map_err(&cannot)?;
        if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
            partner.refuse("this process belongs to another user");
            return Err(UpgradeError::Wrong("a process of another user"));
        }
        Ok(partner)
    }

    /// Returns the process at the other end, which connected, and its number. It has the same user, so that this process can end it.
    pub(super) fn process(&self) -> Result<(Pid, Process), UpgradeError> {
        let peer = sockopt::socket_peercred(&self.socket).map_err(system("the other process"))?;
        if peer.uid != rustix::process::geteuid() {
            self.refuse("this process belongs to another user");
            return Err(UpgradeError::Wrong("a process of another user"));
        }
        Ok((peer.pid, Process::of(peer.pid)?))
    }

    /// Says NO. Whether that arrives does not matter.
    pub(super) fn refuse(&self, why: &str) {
        let why: String = why.chars().take(MAX_MESSAGE_BYTES / 8).collect();
        let message = [&[kind::NO], why.as_bytes()].concat();
        let _ = self.send(&message, &[], Instant::now() + Duration::from_millis(100));
    }

    /// Sends a message with these descriptors.
    pub(super) fn send(
        &self,
        message: &[u8],
        sockets: &[BorrowedFd<'_>],
        until: Instant,
    ) -> Result<(), UpgradeError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !sockets.is_empty() && !control.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(UpgradeError::Cut);
        }
        let parts = [IoSlice::new(message)];
        loop {
            self.wait_at_most(Timeout::Send, until)?;
            match rustix::net::sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL) {
                Ok(bytes) if bytes == message.len() => return Ok(()),
                Ok(_) => return Err(UpgradeError::Wrong("a message that was cut")),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(UpgradeError::Late),
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(UpgradeError::Gone),
                Err(error) => return Err(system("a message cannot be sent")(error)),
            }
        }
    }

    /// Receives a message.
    pub(super) fn receive(&self, until: Instant) -> Result<Message, UpgradeError> {
        let mut bytes = [0; MAX_MESSAGE_BYTES];
        loop {
            self.wait_at_most(Timeout::Recv, until)?;
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_AT_ONCE))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(&self.socket, &mut parts, &mut control, flags) {
                Ok(received) => {
                    let drained = control.drain();
                    let sockets = drained.flat_map(|message| match message {
                        RecvAncillaryMessage::ScmRights(sockets) => sockets.collect::<Vec<_>>(),
                        _ => Vec::new(),
                    });
                    let sockets = sockets.collect();
                    if received.flags.contains(ReturnFlags::CTRUNC) {
                        return Err(UpgradeError::Cut);
                    }
                    if received.flags.contains(ReturnFlags::TRUNC) {
                        return Err(UpgradeError::Wrong("a message that is too long"));
                    }
                    let read = bytes.get(..received.bytes).unwrap_or_default();
                    let (&kind, body) = read.split_first().ok_or(UpgradeError::Gone)?;
                    return Ok(Message {
                        kind,
                        body: body.to_vec(),
                        sockets,
                    });
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(UpgradeError::Late),
                Err(Errno::CONNRESET) => return Err(UpgradeError::Gone),
                Err(error) => return Err(system("a message cannot be received")(error)),
            }
        }
    }

    /// Has the next call wait until then at most.
    fn wait_at_most(&self, direction: Timeout, until: Instant) -> Result<(), UpgradeError> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(UpgradeError::Late);
        }
        // Less than a microsecond would be no bound.
        let left = left.max(Duration::from_millis(1));
        sockopt::set_socket_timeout(&self.socket, direction, Some(left)).map_err(system("a wait"))
    }

    /// Returns what has come already, up to a bound.
    pub(super) fn received(&self) -> Vec<Message> {
        let next = || self.receive(Instant::now() + Duration::from_millis(1)).ok();
        std::iter::from_fn(next).take(MAX_LEFT).collect()
    }
}

/// A process, by its descriptor: no other one is ever taken for it.
pub(super) struct Process(OwnedFd);

impl Process {
    /// Returns this process.
    pub(super) fn own() -> Result<Process, UpgradeError> {
        Process::of(rustix::process::getpid())
    }

    fn of(pid: Pid) -> Result<Process, UpgradeError> {
        let descriptor = rustix::process::pidfd_open(pid, PidfdFlags::empty());
        Ok(Process(descriptor.map_err(system("a process"))?))
    }

    /// Returns the process of this descriptor, which came from it.
    pub(super) fn from_descriptor(descriptor: OwnedFd) -> Process {
        Process(descriptor)
    }

    pub(super) fn as_descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Returns whether it has ended, or does so within the time: all that it had is closed then, and it can write nothing more. The end
    /// of its sockets tells less.
    pub(super) fn has_ended_within(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let wait = Timespec::try_from(left).ok();
            let mut ended = [PollFd::new(&self.0, PollFlags::IN)];
            match rustix::event::poll(&mut ended, wait.as_ref()) {
                Ok(1) => return true,
                Ok(_) if left.is_zero() => return false,
                Err(Errno::INTR) | Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "another process cannot be watched");
                    return false;
                }
            }
        }
    }

    /// Ends it, and waits until it has ended: only then is it certain who goes on.
    pub(super) fn end(&self) {
        // It may have ended by itself.
        let _ = rustix::process::pidfd_send_signal(&self.0, Signal::KILL);
        while !self.has_ended_within(Duration::from_secs(1)) {
            tracing::error!("the other process was ended, and is still there");
            let _ = rustix::process::pidfd_send_signal(&self.0, Signal::KILL);
        }
    }
}

/// Creates a socket that carries messages.
pub(super) fn new_socket() -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}
