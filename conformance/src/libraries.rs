//! Our own client and backend libraries as parties of a scenario, on either runtime.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::mpsc;
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use sha2::{Digest, Sha256};
use voltlane_core::{ClientId, Time};
use voltlane_driver::backend::{self, Backend, Event};
use voltlane_driver::client::{self, Client, ClientConfig, Means, Options, Versions};
use voltlane_driver::{Connector, Runtime, SocketOptions, Timer as _};

use crate::backend::is_in_use;
use crate::{PATIENCE, own_host};

/// Both versions, for scenarios that hold in either.
pub const BOTH: [Versions; 2] = [Versions::V2, Versions::V3];

/// Begins a client of the library on `R`, of the edge at `address`, given as `host:port`.
#[must_use]
pub fn client<R: Runtime>(address: impl Into<String>, versions: Versions) -> Client {
    client_with::<R>(address, options(versions))
}

/// Like [`client()`], with options.
#[must_use]
pub fn client_with<R: Runtime>(address: impl Into<String>, options: Options) -> Client {
    client_over::<R>(
        R::connector(address.into(), SocketOptions::default()),
        options,
    )
}

/// Like [`client_with`], with a connector of its own.
///
/// # Panics
/// If an option cannot be.
#[must_use]
pub fn client_over<R: Runtime>(connector: impl Connector, options: Options) -> Client {
    Client::begin(options, Means::on::<R>(connector)).expect("options that can be")
}

/// Returns the options of a client that speaks these versions.
#[must_use]
pub fn options(versions: Versions) -> Options {
    let mut options = Options::default();
    options.config = ClientConfig::default().with_versions(versions);
    options
}

/// Runs a future to completion on `R`, on this thread, within [`PATIENCE`].
///
/// # Panics
/// When it takes longer.
pub fn run_on<R: Runtime, T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> T {
    R::block_on(in_time::<R, T>(future)).expect("a runtime")
}

async fn in_time<R: Runtime, T>(future: impl Future<Output = T>) -> T {
    let mut timer = R::Timer::default();
    let until: Time = timer.now() + 2 * PATIENCE;
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(done),
        Poll::Pending => timer
            .poll_until(cx, until)
            .map(|()| panic!("nothing happens any more")),
    })
    .await
}

/// Runs futures concurrently, and returns their results in order.
pub async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T> + Send>) -> Vec<T> {
    let mut futures: Vec<Pin<Box<_>>> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *done = Some(output);
            }
        }
        match done.iter().all(Option::is_some) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Returns the next event of a client whose session must not be over.
pub async fn event(client: &mut Client) -> client::Event {
    client.recv().await.expect("the session goes on")
}

/// Waits until a new client has joined. In a crowd an edge may send it away first, to make room for others.
pub async fn joined(client: &mut Client) -> ClientId {
    loop {
        match event(client).await {
            client::Event::Connected { id, .. } => return id,
            client::Event::Dropped { .. } => {}
            other => panic!("a new session was expected, not {other:?}"),
        }
    }
}

/// Waits for a packet of a client that is not to be dropped before.
///
/// # Panics
/// If it is.
pub async fn steady_packet(client: &mut Client) -> Vec<u8> {
    loop {
        match event(client).await {
            client::Event::Packet { data, .. } => return data,
            client::Event::Connected { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Waits for a packet, whatever happens to the connection meanwhile.
///
/// # Panics
/// If the session ends before.
pub async fn packet(client: &mut Client) -> Vec<u8> {
    loop {
        match event(client).await {
            client::Event::Packet { data, .. } => return data,
            client::Event::Ended { end, .. } => panic!("the session is over: {end:?}"),
            _ => {}
        }
    }
}

/// A backend of the library on a thread of its own. It echoes packets, except for these commands:
///
/// - `kick`: kicks the client.
/// - `digest`: sends a SHA-256 over the lengths and bytes received from the client before.
/// - `stop`: ends the backend.
#[expect(
    missing_debug_implementations,
    reason = "a failure shows what was seen, not this"
)]
pub struct EchoBackend {
    address: SocketAddr,
    thread: JoinHandle<Vec<Event>>,
}

impl EchoBackend {
    /// Listens on a free port, which stays free after this backend is gone.
    #[must_use]
    pub fn start<R: Runtime>() -> EchoBackend {
        EchoBackend::start_at::<R>(format!("{}:0", own_host()))
    }

    /// Listens at a given address.
    #[must_use]
    pub fn start_at<R: Runtime>(address: String) -> EchoBackend {
        let (sender, bound) = mpsc::channel();
        let thread = thread::spawn(move || {
            let serve = async move {
                // See `crate::Backend::bind_to`.
                let until = Instant::now() + PATIENCE;
                let (listener, address) = loop {
                    match R::bind(address.clone(), SocketOptions::default()).await {
                        Err(error) if is_in_use(&error) && Instant::now() < until => {
                            thread::yield_now();
                        }
                        bound => break bound.expect("a free place"),
                    }
                };
                let _ = sender.send(address);
                let means = backend::Means::on::<R>(listener);
                let begun = Backend::begin(backend::Options::default(), means);
                serve(begun.expect("options that can be")).await
            };
            R::block_on(serve).expect("a runtime")
        });
        EchoBackend {
            address: bound.recv_timeout(PATIENCE).expect("it listens"),
            thread,
        }
    }

    /// Returns the address that the edge connects to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for its end, which a `stop` has begun. Returns every event other than a packet, in order.
    pub fn events(self) -> Vec<Event> {
        self.thread.join().expect("no panic")
    }
}

async fn serve(mut backend: Backend) -> Vec<Event> {
    let mut digests: BTreeMap<ClientId, Sha256> = BTreeMap::new();
    let mut events = Vec::new();
    while let Some(event) = backend.recv().await {
        let (id, data) = match event {
            Event::Packet { id, data, .. } => (id, data),
            other => {
                events.push(other);
                continue;
            }
        };
        match &data[..] {
            b"kick" => backend.kick(id, 401, "").await.expect("a kick"),
            b"stop" => {
                backend.send(id, b"stopped").await.expect("short");
                backend.close().await;
            }
            b"digest" => {
                let digest = digests.remove(&id).unwrap_or_default().finalize();
                backend.send(id, digest).await.expect("short");
            }
            data => {
                absorb(digests.entry(id).or_default(), data);
                backend
                    .send(id, data)
                    .await
                    .expect("no longer than it came");
            }
        }
    }
    events
}

/// Adds a packet to a digest.
pub fn absorb(digest: &mut Sha256, data: &[u8]) {
    digest.update((data.len() as u64).to_le_bytes());
    digest.update(data);
}
