//! Parses `host:port`, tries the addresses of a name, and listens at one.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::net::TcpListener;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

#[cfg(unix)]
use crate::SocketOptions;
#[cfg(unix)]
use crate::unix::{SOCKET_MODE, UnixFile, UnixListening, UnixPlace};

/// How long an address may take to answer before the next one is tried in parallel (RFC 8305 section 5).
pub const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// The maximum number of a name's addresses that one connect attempt tries. Further ones would not be reached within its time.
pub const MAX_ADDRESSES: usize = 8;

/// A parsed `host:port`. The last colon separates, so `::1:42000` is accepted as well as `[::1]:42000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whoever connects has to handle each one"
)]
pub enum HostPort<'a> {
    /// An address, which needs no resolver.
    Address(SocketAddr),
    /// A host name for a resolver, and the port.
    Name(&'a str, u16),
}

impl<'a> HostPort<'a> {
    /// Parses `host:port`.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for any other form, with the expected one.
    pub fn parse(text: &'a str) -> io::Result<Self> {
        if let Ok(address) = text.parse() {
            return Ok(HostPort::Address(address));
        }
        let split = text.rsplit_once(':');
        split
            .and_then(|(host, port)| Some(HostPort::Name(host, port.parse().ok()?)))
            .ok_or_else(|| {
                let says = format!("`{text}` is not of the form host:port");
                io::Error::new(io::ErrorKind::InvalidInput, says)
            })
    }
}

/// Listens at `address`, given as `ip:port`, `host:port`, `unix:/path` or `unix:@name`. Of a name it takes the first address that this
/// machine has. `resolved` finds the addresses unless it is a Unix socket. Returns the listener, which is non-blocking, and the file of a
/// Unix socket, which must be dropped before it.
///
/// # Errors
/// An error of the resolver, or that of the last address tried; [`NotFound`](io::ErrorKind::NotFound) if there are none.
#[cfg(unix)]
pub async fn listen(
    address: &str,
    options: &SocketOptions,
    resolved: impl Future<Output = io::Result<Vec<SocketAddr>>>,
) -> io::Result<(TcpListener, Option<UnixFile>)> {
    if let Some(place) = UnixPlace::parse(address)? {
        let UnixListening { file, listener } = place.listen(options, SOCKET_MODE)?;
        return Ok((listener, file));
    }
    let mut failed = None;
    for candidate in resolved.await? {
        match options.listen(candidate) {
            Ok(listener) => return Ok((listener, None)),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| no_address(address)))
}

/// Attempts up to [`MAX_ADDRESSES`] addresses of `text`, alternating between IPv6 and IPv4, until one succeeds.
///
/// The next attempt begins when one has failed, or after each `pause`, which lasts [`NEXT_ADDRESS_AFTER`]. Attempts still in progress after
/// a success are dropped. The caller bounds the whole.
///
/// # Errors
/// That of the attempt that failed last; [`NotFound`](io::ErrorKind::NotFound) if there are no addresses.
pub async fn first_to_answer<T, F, P>(
    text: &str,
    addresses: Vec<SocketAddr>,
    mut attempt: impl FnMut(SocketAddr) -> F,
    mut pause: impl FnMut() -> P,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
    P: Future<Output = ()>,
{
    let mut next = in_turn(addresses).into_iter().take(MAX_ADDRESSES);
    let mut running: Vec<Pin<Box<F>>> = Vec::new();
    let mut pausing: Option<Pin<Box<P>>> = None;
    let mut failed = None;
    poll_fn(|cx| {
        loop {
            let mut at = 0;
            while at < running.len() {
                match running[at].as_mut().poll(cx) {
                    Poll::Ready(Ok(done)) => return Poll::Ready(Ok(done)),
                    Poll::Ready(Err(error)) => {
                        drop(running.remove(at));
                        failed = Some(error);
                        pausing = None;
                    }
                    Poll::Pending => at += 1,
                }
            }
            if let Some(pause) = &mut pausing
                && pause.as_mut().poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            match next.next() {
                Some(address) => {
                    running.push(Box::pin(attempt(address)));
                    pausing = Some(Box::pin(pause()));
                }
                None if running.is_empty() => {
                    return Poll::Ready(Err(failed.take().unwrap_or_else(|| no_address(text))));
                }
                None => {
                    pausing = None;
                    return Poll::Pending;
                }
            }
        }
    })
    .await
}

/// Orders the addresses so that the families alternate, beginning with that of the first address. If one family leads nowhere, the second
/// address tried is of the other one (RFC 8305 section 4).
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let (firsts, others): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv4() == first_is_v4);
    let (mut firsts, mut others) = (firsts.into_iter(), others.into_iter());
    let mut all = Vec::new();
    loop {
        let pair = [firsts.next(), others.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

fn no_address(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("`{text}` has no address"))
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::{pending, ready};
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn addresses(count: usize) -> Vec<SocketAddr> {
        let port = |at| u16::try_from(at).expect("few");
        let address = |at| SocketAddr::from(([192, 0, 2, 1], port(at)));
        (1..=count).map(address).collect()
    }

    /// Polls an attempt while `pauses` pauses pass. The address with port `good` answers at once, odd ports never answer, and the others
    /// refuse. Returns the result, and the ports tried.
    fn tried(count: usize, good: u16, pauses: usize) -> (Poll<io::Result<u16>>, Vec<u16>) {
        let ports = RefCell::new(Vec::new());
        let left = Cell::new(pauses);
        let attempt = |address: SocketAddr| {
            let port = address.port();
            ports.borrow_mut().push(port);
            async move {
                match port {
                    _ if port == good => Ok(port),
                    odd if odd % 2 == 1 => pending().await,
                    _ => Err(io::ErrorKind::ConnectionRefused.into()),
                }
            }
        };
        let pause = || {
            let is_over = left.get() > 0;
            left.set(left.get().saturating_sub(1));
            async move {
                if is_over {
                    ready(()).await
                } else {
                    pending().await
                }
            }
        };
        let polled = pin!(first_to_answer(
            "two.test:1",
            addresses(count),
            attempt,
            pause
        ))
        .poll(&mut Context::from_waker(Waker::noop()));
        (polled, ports.into_inner())
    }

    #[test]
    fn an_address_that_answers_nothing_is_passed_after_a_pause_and_one_that_refuses_at_once() {
        let (polled, ports) = tried(4, 2, 0);
        assert!(polled.is_pending());
        assert_eq!(ports, [1], "its time is not over");
        let (polled, ports) = tried(4, 2, 1);
        assert!(matches!(polled, Poll::Ready(Ok(2))), "{polled:?}");
        assert_eq!(ports, [1, 2]);
        // The second one refuses, so the third follows without a pause.
        let (polled, ports) = tried(4, 4, 3);
        assert!(matches!(polled, Poll::Ready(Ok(4))), "{polled:?}");
        assert_eq!(ports, [1, 2, 3, 4]);
        let (polled, ports) = tried(4, 4, 2);
        assert!(polled.is_pending());
        assert_eq!(ports, [1, 2, 3]);
    }

    #[test]
    fn no_more_than_the_bound_are_tried_and_the_last_failure_is_told() {
        let (polled, ports) = tried(MAX_ADDRESSES + 1, 0, usize::MAX);
        assert!(polled.is_pending(), "some may still answer");
        assert_eq!(ports.len(), MAX_ADDRESSES);
        let refuse = |_| ready(Err::<(), _>(io::ErrorKind::ConnectionRefused.into()));
        for (count, kind) in [
            (0, io::ErrorKind::NotFound),
            (3, io::ErrorKind::ConnectionRefused),
        ] {
            let attempt = pin!(first_to_answer(
                "x",
                addresses(count),
                refuse,
                pending::<()>
            ));
            match attempt.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Err(error)) => assert_eq!(error.kind(), kind),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_families_take_turns() {
        let read = |texts: &[&str]| -> Vec<SocketAddr> {
            let read = texts.iter().map(|text| text.parse().expect("an address"));
            read.collect()
        };
        let given = read(&["[::1]:1", "[::1]:2", "[::1]:3", "127.0.0.1:4"]);
        let turns = read(&["[::1]:1", "127.0.0.1:4", "[::1]:2", "[::1]:3"]);
        assert_eq!(in_turn(given), turns);
    }

    #[test]
    fn the_last_colon_splits() {
        let name = |host, port| Ok::<_, io::ErrorKind>(HostPort::Name(host, port));
        let read = |text| HostPort::parse(text).map_err(|error| error.kind());
        assert_eq!(read("edge.test:42000"), name("edge.test", 42_000));
        assert_eq!(read("::1:42000"), name("::1", 42_000));
        let address = "[::1]:42000".parse().expect("an address");
        assert_eq!(read("[::1]:42000"), Ok(HostPort::Address(address)));
        for wrong in ["no port", "127.0.0.1:", "127.0.0.1:65536", ""] {
            assert_eq!(read(wrong), Err(io::ErrorKind::InvalidInput), "{wrong}");
        }
    }
}
