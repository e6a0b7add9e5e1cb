//! A backend of several edges, of one of the libraries, on a thread of its own.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{JoinHandle, spawn};

use voltlane_driver::backend::{Backend, BackendHandle, Builder, Event};
use voltlane_driver::client::{ClientSender, Event as ClientEvent};
use voltlane_tokio::client::Builder as ClientBuilder;

/// A backend library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// On tokio.
    Tokio,
    /// On smol.
    Smol,
}

/// A backend that serves.
#[derive(Debug)]
pub struct Serving {
    /// Where it listens.
    pub address: SocketAddr,
    /// The handle of the backend.
    pub handle: BackendHandle,
    /// The events of the backend, in order.
    pub events: Receiver<Event>,
    /// Its thread, which ends when it is [closed](close).
    pub thread: JoinHandle<()>,
}

/// Serves up to this many edges at a free port, with version 3 of the link.
///
/// # Panics
/// If it cannot listen.
#[must_use]
pub fn serve_several(library: Library, edges: usize) -> Serving {
    serve(library, edges, false)
}

/// Serves one edge at a free port, with version 3 of the link, and sends each packet back before it takes the next event.
///
/// # Panics
/// If it cannot listen.
#[must_use]
pub fn serve_echo(library: Library) -> Serving {
    serve(library, 1, true)
}

fn serve(library: Library, edges: usize, echoes: bool) -> Serving {
    let (tell, events) = channel();
    let (tell_place, place) = channel();
    let serve = async move |begun: Builder| {
        let asking = begun.ask_for_version_3();
        let listening = match edges {
            1 => asking.listen_at(),
            edges => asking.edges(edges).listen_at(),
        };
        let (mut backend, places) = listening.await.expect("a free port");
        let handle = Backend::handle(&backend);
        tell_place
            .send((places[0], handle.clone()))
            .expect("the test waits");
        while let Some(event) = backend.recv().await {
            if let (true, Event::Packet { id, data, .. }) = (echoes, &event) {
                handle.try_send(*id, data).expect("its session is here");
            }
            if tell.send(event).is_err() {
                return;
            }
        }
    };
    let thread = spawn(move || match library {
        Library::Tokio => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let serving = serve(voltlane_tokio::backend("127.0.0.1:0"));
            runtime.expect("a runtime").block_on(serving);
        }
        Library::Smol => smol::block_on(serve(voltlane_smol::backend("127.0.0.1:0"))),
    });
    let (address, handle) = place.recv().expect("it listens");
    Serving {
        address,
        handle,
        events,
        thread,
    }
}

/// Closes a backend. Its events end then.
pub fn close(handle: &BackendHandle) {
    wait_for(handle.close());
}

/// Waits on this thread for what a handle does.
pub fn wait_for<T>(does: impl Future<Output = T>) -> T {
    smol::block_on(does)
}

/// Begins a client of a library, on a thread of its own, that knows these addresses and is at the first one. Returns what it sends with, and
/// its events in order. It ends with the receiver of these.
///
/// # Panics
/// If there is no address, or nobody answers there.
#[must_use]
pub fn client_of(
    library: Library,
    addresses: Vec<String>,
) -> (ClientSender, Receiver<ClientEvent>) {
    let (tell, events) = channel();
    let (tell_sender, sender) = channel();
    let mut addresses = addresses.into_iter();
    let first = addresses.next().expect("an address");
    let run = async move |begun: ClientBuilder| {
        let builder = addresses.fold(begun, |builder, address| builder.or_address(&address));
        let mut client = builder.connect().await.expect("an edge is there");
        tell_sender.send(client.sender()).expect("the test waits");
        while let Some(event) = client.recv().await {
            if tell.send(event).is_err() {
                return;
            }
        }
    };
    spawn(move || match library {
        Library::Tokio => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let running = run(voltlane_tokio::client(&first));
            runtime.expect("a runtime").block_on(running);
        }
        Library::Smol => smol::block_on(run(voltlane_smol::client(&first))),
    });
    (sender.recv().expect("it connects"), events)
}

/// Waits until all that a client has sent is acknowledged.
///
/// # Panics
/// If its session ends before that.
pub fn flush(sender: &ClientSender) {
    smol::block_on(sender.flush()).expect("it lives");
}
