//! Resolves names without a thread pool: a name is looked up at most once for each connect attempt.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;

use voltlane_driver::address::HostPort;

use crate::Reactor;

/// Returns the addresses of `host:port`. Only a name is looked up.
pub(crate) async fn resolve<R: Reactor>(address: &str) -> io::Result<Vec<SocketAddr>> {
    match HostPort::parse(address)? {
        HostPort::Address(address) => Ok(vec![address]),
        HostPort::Name(host, port) => R::look_up(host.to_owned(), port).await,
    }
}

#[derive(Default)]
struct Answer {
    result: Option<io::Result<Vec<SocketAddr>>>,
    waker: Option<Waker>,
}

/// Looks up a name on a thread of its own, which ends with the lookup.
#[cfg(target_os = "linux")]
pub(crate) async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let answer = Arc::new(Mutex::new(Answer::default()));
    let asked = Arc::clone(&answer);
    thread::Builder::new()
        .name("resolver".into())
        .spawn(move || {
            let result = (host.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect);
            let waker = {
                let mut answer = asked.lock().unwrap_or_else(PoisonError::into_inner);
                answer.result = Some(result);
                answer.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        })?;
    poll_fn(move |cx| {
        let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
        match answer.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                answer.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}
