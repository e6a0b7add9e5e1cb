//! How many descriptors the process may have.

/// Raises the limit as far as the system lets it be raised without privileges, and returns how many descriptors the process
/// may have then; `None` if there is no limit or no way to know.
///
/// Systems begin with a low limit for the sake of old programs that use `select`; nothing here does.
#[cfg(unix)]
#[must_use]
pub fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    // On failure the old limit holds, which is what is read next.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: before.maximum,
            ..before
        },
    );
    getrlimit(Resource::Nofile).current
}

/// There is no such limit to be known here.
#[cfg(not(unix))]
#[must_use]
pub fn raise_descriptor_limit() -> Option<u64> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::process::{Resource, getrlimit};

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        let limit = raise_descriptor_limit();
        assert_eq!(limit, getrlimit(Resource::Nofile).maximum);
        assert_eq!(raise_descriptor_limit(), limit);
    }
}
