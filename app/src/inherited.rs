//! The signal dispositions and the signal mask that a process inherits from its parent.

#[cfg(unix)]
pub(crate) use unix::{is_ignored, unblock};

#[cfg(unix)]
#[expect(unsafe_code, reason = "functions of the C library")]
mod unix {
    use std::io;
    use std::mem::MaybeUninit;
    use std::ptr;

    /// Unblocks `signals` on this thread and on those that it starts later. Must be called before there are other threads.
    ///
    /// A parent may have blocked them, and a mask is inherited: the process could then only be killed.
    ///
    /// # Errors
    /// When one of them is not a signal.
    pub(crate) fn unblock(signals: &[i32]) -> io::Result<()> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` initialises the whole set, and `sigaddset` gets that set.
        let is_set = unsafe {
            libc::sigemptyset(set.as_mut_ptr()) == 0
                && signals
                    .iter()
                    .all(|&signal| libc::sigaddset(set.as_mut_ptr(), signal) == 0)
        };
        if !is_set {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the set is initialised, and the previous mask is not requested.
        match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut()) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Returns whether the process ignores `signal`, as SIGHUP under `nohup`. False once it has a handler.
    pub(crate) fn is_ignored(signal: i32) -> bool {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: without a new action it only queries, and if it returns 0 it has written the whole action.
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
