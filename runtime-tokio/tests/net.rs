//! The sockets keep the contract of the driver's traits, those of tokio and those on the reactor that tokio waits for.

#[path = "../../reactor/tests/sockets/mod.rs"]
mod sockets;

mod tokio {
    crate::sockets::tests_of!(voltlane_tokio::Tokio);
}

#[cfg(target_os = "linux")]
mod epoll {
    crate::sockets::tests_of!(voltlane_tokio::TokioEpoll);
}
