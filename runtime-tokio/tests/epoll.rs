//! The sockets keep the contract of the driver's traits where tokio waits for their reactor.
#![cfg(target_os = "linux")]

#[path = "../../reactor/tests/sockets/mod.rs"]
mod sockets;

sockets::tests_of!(voltlane_tokio::TokioEpoll);
