//! Tests that the sockets keep the contract of the driver's traits, on both reactors.

#[path = "../../reactor/tests/sockets/mod.rs"]
mod sockets;

mod sockets_of_smol {
    crate::sockets::tests_of!(voltlane_smol::Smol);
}

#[cfg(target_os = "linux")]
mod hosted_epoll {
    crate::sockets::tests_of!(voltlane_smol::SmolEpoll);
}

mod kept_sessions {
    use std::io;

    use voltlane_smol::client::{ConnectError, SessionStore};

    /// A place that cannot be read.
    struct Shelf;

    impl SessionStore for Shelf {
        fn load(&mut self) -> io::Result<Option<Vec<u8>>> {
            Err(io::ErrorKind::PermissionDenied.into())
        }

        fn store(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_session_is_kept_in_one_place() {
        let client = || voltlane_smol::client("127.0.0.1:1");
        let error = client().session_store(Shelf).begin();
        match error.expect_err("it is asked for what it has") {
            ConnectError::Io(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
            other => panic!("{other}"),
        }
        for two in [
            client().session_store(Shelf).session_file("/nowhere/file"),
            client().session_store(Shelf).suspended(b"a session"),
        ] {
            let error = two.begin().expect_err("one of both").to_string();
            assert!(error.contains("leave one"), "{error}");
        }
        let error = client().suspended(b"a session").begin();
        let error = error.expect_err("no session").to_string();
        assert!(error.contains("the suspended session"), "{error}");
    }
}
