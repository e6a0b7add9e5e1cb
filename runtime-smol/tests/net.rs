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
