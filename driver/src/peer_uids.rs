//! The users that may connect to a Unix socket.

use std::io::{self, ErrorKind};

/// The users that may connect to a Unix socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerUids {
    uids: [u32; PeerUids::MAX],
    count: usize,
}

impl PeerUids {
    /// The maximum number of users.
    pub const MAX: usize = 8;

    /// Restricts connections to these users, by their ids; none: to nobody in particular. `None` if there are more than [`MAX`](Self::MAX).
    #[must_use]
    pub fn of(uids: &[u32]) -> Option<PeerUids> {
        let mut all = PeerUids::default();
        all.uids.get_mut(..uids.len())?.copy_from_slice(uids);
        all.count = uids.len();
        Some(all)
    }

    /// Checks the user at the other end of a connection that was accepted. `uid` reads the user's id, and is called only if it matters.
    ///
    /// # Errors
    /// [`ConnectionAborted`](ErrorKind::ConnectionAborted) if another user has connected; those of `uid`.
    pub fn admit(&self, uid: impl FnOnce() -> io::Result<u32>) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let uid = uid()?;
        if self.uids[..self.count].contains(&uid) {
            return Ok(());
        }
        tracing::debug!(uid, "a user who may not connect is turned away");
        Err(ErrorKind::ConnectionAborted.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_users_of_the_list_are_admitted() {
        let admit = |uids: &[u32]| PeerUids::of(uids).unwrap().admit(|| Ok(7));
        admit(&[8, 7]).unwrap();
        let error = admit(&[8]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        let unknown = || Err(ErrorKind::Unsupported.into());
        PeerUids::default().admit(unknown).unwrap();
        PeerUids::of(&[7]).unwrap().admit(unknown).unwrap_err();
        assert!(PeerUids::of(&[0; PeerUids::MAX]).is_some());
        assert!(PeerUids::of(&[0; PeerUids::MAX + 1]).is_none());
    }
}
