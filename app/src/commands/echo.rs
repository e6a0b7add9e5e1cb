//! `echo`: a backend that sends every packet back to the client it came from.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;

use tracing::{debug, error, info};
use voltlane_driver::backend::{Backend, BackendHandle, Event, Means, Options};
use voltlane_driver::{Runtime, SocketOptions};

use super::signals;
use crate::cli::EchoArgs;
use crate::config::Address;
use crate::listen;

/// Echoes until SIGINT or SIGTERM.
pub(super) fn run<R: Runtime>(args: &EchoArgs) -> ExitCode {
    let name = args.listen.clone();
    let options = options(args);
    let echoed = R::block_on(async move {
        let mut stop =
            signals::stop().map_err(|error| format!("signals cannot be handled: {error}"))?;
        let (mut backend, addresses) = backend::<R>(&name, options)
            .map_err(|error| format!("cannot listen on {name}: {error}"))?;
        stop.serves();
        for address in addresses {
            info!(%address, "waiting for an edge");
        }
        loop {
            let event = poll_fn(|cx| {
                if pin!(&mut stop).poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                backend.poll_recv(cx)
            });
            match event.await {
                Some(event) => echo(&backend, event).await,
                None => break,
            }
        }
        backend.close().await;
        info!("ended");
        Ok::<_, String>(())
    });
    match echoed.unwrap_or_else(|error| Err(format!("the runtime cannot start: {error}"))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// One edge may have either version of the link.
#[cfg_attr(not(feature = "cluster"), expect(unused_variables, unused_mut))]
fn options(args: &EchoArgs) -> Options {
    let mut options = Options::default();
    #[cfg(feature = "cluster")]
    if let Some(edges) = args.edges {
        options.asks = true;
        options.edges = Some(edges.into());
    }
    options
}

/// Creates a backend at every address of `name`. Returns it with these addresses.
fn backend<R: Runtime>(name: &Address, backend: Options) -> io::Result<(Backend, Vec<SocketAddr>)> {
    let options = SocketOptions::of_link();
    let listeners = listen::bind(name, options)?.listen(1)?;
    let listeners = listeners.into_iter().next().unwrap_or_default();
    let addresses = listen::local_addrs(&listeners)?;
    let (first, more) = listen::for_runtime::<R>(listeners, options)?;
    let means = more.into_iter().fold(Means::on::<R>(first), Means::and);
    let backend = Backend::begin(backend, means).map_err(io::Error::other)?;
    Ok((backend, addresses))
}

/// Handles an event as an echo backend.
pub(super) async fn echo(backend: &BackendHandle, event: Event) {
    match event {
        Event::Packet { id, data, .. } => {
            if let Err(problem) = backend.send(id, data).await {
                debug!(%id, %problem, "not echoed");
            }
        }
        Event::EdgeConnected { address, .. } => info!(%address, "an edge is there"),
        Event::EdgeLost { .. } => info!("the edge is gone; waiting for it to come back"),
        Event::Joined(new) => debug!(id = %new.id, "a client is here"),
        Event::Resumed { id, .. } => debug!(%id, "a client is back"),
        Event::Ended { id, end, .. } => debug!(%id, %end, "a client is gone"),
        // Event kinds of a newer library.
        _ => {}
    }
}
