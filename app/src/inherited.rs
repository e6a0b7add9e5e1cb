//! The dispositions and the mask of signals that a process inherits from its parent.

#[cfg(unix)]
pub(crate) use unix::{is_ignored, unblock};

#[cfg(unix)]
#[expect(unsafe_code, reason = "functions of the C library")]
mod unix {
    use std::io;
    use std::mem::MaybeUninit;
    use std::ptr;

    /// Unblocks `signals` on this thread and on those that it starts from now on. A parent may have blocked them, and a mask is
    /// inherited: the process could not be ended but by force. To be called before there are other threads.
    ///
    /// # Errors
    /// When one of them is no signal.
    pub(crate) fn unblock(signals: &[i32]) -> io::Result<()> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` writes a whole set, and `sigaddset` gets that set.
        let is_set = unsafe {
            libc::sigemptyset(set.as_mut_ptr()) == 0
                && signals
                    .iter()
                    .all(|&signal| libc::sigaddset(set.as_mut_ptr(), signal) == 0)
        };
        if !is_set {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the set is whole, and the mask of before is not asked for.
        match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Whether the process ignores `signal`, as `nohup` has it ignore SIGHUP. False once it has a handler.
    pub(crate) fn is_ignored(signal: i32) -> bool {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: without a new action it only asks, and where it returns 0 it has written the whole action.
        unsafe {
            libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0
                && action.assume_init().sa_sigaction == libc::SIG_IGN
        }
    }

    #[cfg(test)]
    mod tests {
        use signal_hook::consts::{SIGPIPE, SIGUSR1, SIGUSR2};

        use super::*;

        #[test]
        fn only_what_is_ignored_is() {
            // The standard library ignores it in every program.
            assert!(is_ignored(SIGPIPE));
            assert!(!is_ignored(SIGUSR1));
            assert!(!is_ignored(-1), "no signal");
        }

        #[test]
        fn no_signal_cannot_be_unblocked() {
            unblock(&[SIGUSR1, SIGUSR2]).expect("signals");
            assert!(unblock(&[SIGUSR1, 10_000]).is_err());
        }
    }
}
