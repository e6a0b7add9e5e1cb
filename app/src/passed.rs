//! Sockets that a service manager opened and passed to this process at its start. (sd_listen_fds(3))
//!
//! A listener takes them by the name that its unit gave them (`FileDescriptorName`): `address = "fd:NAME"`. The manager keeps the sockets
//! while the process restarts, so that clients wait in their queue meanwhile.

use std::fmt;
use std::io;
use std::net::TcpListener;

use voltlane_driver::SocketOptions;

/// The prefix of a text that is the name of passed sockets.
const PREFIX: &str = "fd:";
/// The longest name, in bytes: that of systemd.
const MAX_NAME_BYTES: usize = 255;

/// The name of sockets that a service manager passes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PassedName(String);

impl PassedName {
    /// Parses a text that begins with `fd:`. `None` if it does not.
    ///
    /// # Errors
    /// If no name follows that systemd would give.
    pub fn parse(text: &str) -> Result<Option<PassedName>, String> {
        let Some(name) = text.strip_prefix(PREFIX) else {
            return Ok(None);
        };
        let is_name = name.bytes().all(|byte| byte.is_ascii_graphic());
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !is_name || name.contains(':') {
            return Err(format!(
                "a name must follow \"{PREFIX}\", of up to {MAX_NAME_BYTES} ASCII characters without spaces and colons"
            ));
        }
        Ok(Some(PassedName(name.to_owned())))
    }
}

impl fmt::Display for PassedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

#[cfg(not(all(feature = "systemd", target_os = "linux")))]
mod sockets {
    use super::*;

    pub(crate) fn receive() {}

    pub(crate) fn listeners(_: &PassedName, _: SocketOptions) -> io::Result<Vec<TcpListener>> {
        let says = "this program was built without the feature systemd, and takes no sockets of a service manager";
        Err(io::Error::new(io::ErrorKind::Unsupported, says))
    }
}

#[cfg(all(feature = "systemd", target_os = "linux"))]
mod sockets {
    use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
    use std::sync::OnceLock;

    use voltlane_driver::MAX_LISTENERS;

    use super::*;

    /// The first passed descriptor; the others follow it.
    const FIRST: RawFd = 3;
    /// The maximum number of passed descriptors.
    const MAX_PASSED: usize = 64;
    /// The name of those to which the unit gives none, as libsystemd has it.
    const UNNAMED: &str = "unknown";

    /// Why there is no socket of a name.
    #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
    pub(crate) enum PassedError {
        #[error("no service manager has passed sockets to this process (LISTEN_PID, LISTEN_FDS)")]
        Nothing,
        #[error("LISTEN_FDS is {0:?}, which is no number from 1 to {MAX_PASSED}")]
        Count(String),
        #[error("LISTEN_FDNAMES has {names} names for {sockets} sockets")]
        Names { names: usize, sockets: usize },
        #[error("descriptor {0} of LISTEN_FDS is not open")]
        NotOpen(RawFd),
        #[error("the service manager has passed no socket of this name, but {0}")]
        Unknown(String),
        #[error(
            "the service manager has passed {0} sockets of this name; {MAX_LISTENERS} are taken at most"
        )]
        TooMany(usize),
    }

    /// A descriptor and its name.
    type Passed = (String, OwnedFd);

    static PASSED: OnceLock<Result<Vec<Passed>, PassedError>> = OnceLock::new();

    /// Returns the names of the passed descriptors, in their order, as the variables of the environment tell.
    fn names(
        own: u32,
        pid: Option<&str>,
        count: Option<&str>,
        names: Option<&str>,
    ) -> Result<Vec<String>, PassedError> {
        // Those of a parent that did not take them off the environment are not for this process.
        let (Some(pid), Some(count)) = (pid, count) else {
            return Err(PassedError::Nothing);
        };
        if pid.parse() != Ok(own) {
            return Err(PassedError::Nothing);
        }
        let number = count.parse::<usize>().ok();
        let number = number.filter(|number| (1..=MAX_PASSED).contains(number));
        let sockets = number.ok_or_else(|| PassedError::Count(count.to_owned()))?;
        let Some(names) = names else {
            return Ok(vec![UNNAMED.to_owned(); sockets]);
        };
        let names: Vec<_> = names.split(':').map(str::to_owned).collect();
        match names.len() == sockets {
            true => Ok(names),
            false => Err(PassedError::Names {
                names: names.len(),
                sockets,
            }),
        }
    }

    /// Takes what the manager has passed. Must be called once, before the process opens any descriptor.
    pub(crate) fn receive() {
        let variable = |name| std::env::var_os(name).and_then(|value| value.into_string().ok());
        let received = names(
            std::process::id(),
            variable("LISTEN_PID").as_deref(),
            variable("LISTEN_FDS").as_deref(),
            variable("LISTEN_FDNAMES").as_deref(),
        );
        let received = received.and_then(|names| {
            let passed = (FIRST..).zip(names);
            passed.map(|(fd, name)| Ok((name, own(fd)?))).collect()
        });
        let _ = PASSED.set(received);
    }

    /// Takes over a descriptor. Programs that the process starts do not get it.
    #[expect(unsafe_code, reason = "a descriptor that is known by its number")]
    fn own(fd: RawFd) -> Result<OwnedFd, PassedError> {
        // SAFETY: it sets a flag of a descriptor, or fails if there is none of this number.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(PassedError::NotOpen(fd));
        }
        // SAFETY: it is open, and the manager says that it is for this process, which has opened none itself so far.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Returns the sockets of this name, which stay open for later callers as well.
    pub(crate) fn listeners(
        name: &PassedName,
        options: SocketOptions,
    ) -> io::Result<Vec<TcpListener>> {
        let passed = PASSED.get().unwrap_or(&Err(PassedError::Nothing));
        let passed = passed.as_ref();
        let passed = passed.map_err(|error| io::Error::other(error.clone()))?;
        let of_name = find(name, passed).map_err(io::Error::other)?;
        let adopted = of_name.iter().map(|socket| {
            let socket = socket.try_clone()?;
            options.adopt(socket)
        });
        adopted.collect()
    }

    fn find<'p, S>(
        name: &PassedName,
        passed: &'p [(String, S)],
    ) -> Result<Vec<&'p S>, PassedError> {
        let of_name = passed.iter().filter(|(of, _)| *of == name.0);
        let of_name: Vec<_> = of_name.map(|(_, socket)| socket).collect();
        match of_name.len() {
            0 => {
                let mut others: Vec<String> = Vec::new();
                for (of, _) in passed {
                    let other = format!("{of:?}");
                    if !others.contains(&other) {
                        others.push(other);
                    }
                }
                Err(PassedError::Unknown(others.join(", ")))
            }
            number if number > MAX_LISTENERS => Err(PassedError::TooMany(number)),
            _ => Ok(of_name),
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_the_variables_tell_is_for_this_process_alone() {
            let told = |pid, count, list| names(7, pid, count, list);
            let own = |texts: &[&str]| Ok(texts.iter().map(|text| (*text).to_owned()).collect());
            assert_eq!(told(Some("7"), Some("2"), Some("a:b")), own(&["a", "b"]));
            assert_eq!(told(Some("7"), Some("1"), None), own(&["unknown"]));
            for (pid, count) in [
                (None, Some("1")),
                (Some("7"), None),
                (Some("8"), Some("1")),
                (Some("x"), Some("1")),
            ] {
                let nothing = Err(PassedError::Nothing);
                assert_eq!(told(pid, count, Some("a")), nothing, "{pid:?} {count:?}");
            }
            let most = MAX_PASSED.to_string();
            assert_eq!(
                told(Some("7"), Some(&most), None).map(|of| of.len()),
                Ok(MAX_PASSED)
            );
            let beyond = (MAX_PASSED + 1).to_string();
            for count in ["0", "-1", "", "two", &beyond, "99999999999999999999999"] {
                let error = PassedError::Count(count.to_owned());
                assert_eq!(told(Some("7"), Some(count), None), Err(error));
            }
            for (list, names) in [("a", 1), ("a:b:c", 3)] {
                let error = PassedError::Names { names, sockets: 2 };
                assert_eq!(told(Some("7"), Some("2"), Some(list)), Err(error));
            }
        }

        #[test]
        fn sockets_are_found_by_their_name_up_to_the_bound() {
            let name = |text| PassedName::parse(text).expect("a name").expect("a name");
            let mut passed = vec![("web".to_owned(), 0)];
            let more = (1..=MAX_LISTENERS).map(|number| ("main".to_owned(), number));
            passed.extend(more);
            assert_eq!(find(&name("fd:web"), &passed), Ok(vec![&0]));
            let found = find(&name("fd:main"), &passed).expect("at the bound");
            assert_eq!(found.len(), MAX_LISTENERS);
            passed.push(("main".to_owned(), 99));
            let beyond = find(&name("fd:main"), &passed);
            assert_eq!(beyond, Err(PassedError::TooMany(MAX_LISTENERS + 1)));
            let unknown = find(&name("fd:mian"), &passed);
            let others = "\"web\", \"main\"".to_owned();
            assert_eq!(unknown, Err(PassedError::Unknown(others)));
        }

        #[test]
        fn a_descriptor_that_is_not_open_is_an_error() {
            assert_eq!(own(99_999).map(drop), Err(PassedError::NotOpen(99_999)));
        }
    }
}

pub(crate) use sockets::{listeners, receive};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(PassedName::parse("localhost:1"), Ok(None));
        let longest = format!("fd:{}", "a".repeat(MAX_NAME_BYTES));
        for good in ["fd:main", "fd:web.socket", &longest] {
            let name = PassedName::parse(good).expect(good).expect(good);
            assert_eq!(name.to_string(), good);
        }
        for wrong in ["fd:", "fd:a:b", "fd:a b", "fd:ä", &format!("{longest}a")] {
            PassedName::parse(wrong).expect_err(wrong);
        }
    }
}
