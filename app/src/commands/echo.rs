//! `echo`: a backend that sends every packet back to the client it came from.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;

use tracing::{debug, error, info};
use voltlane_driver::backend::{Backend, Event};
use voltlane_driver::{Listener, Runtime, SocketOptions, Timer};

use super::signals;
use crate::cli::EchoArgs;
use crate::config::Address;
use crate::listen;

/// How long the last echoes may take to be sent.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Echoes until SIGINT or SIGTERM.
pub(super) fn run<R: Runtime>(args: &EchoArgs) -> ExitCode {
    let name = args.listen.clone();
    let echoed = R::block_on(async move {
        let mut stop =
            signals::stop().map_err(|error| format!("signals cannot be handled: {error}"))?;
        let (mut backend, addresses) =
            backend::<R>(&name).map_err(|error| format!("cannot listen on {name}: {error}"))?;
        stop.serves();
        for address in addresses {
            info!(%address, "waiting for an edge");
        }
        loop {
            let event = poll_fn(|cx| {
                if pin!(&mut stop).poll(cx).is_ready() {
                    return Poll::Ready(None);
                }
                backend.poll_recv(cx).map(Some)
            });
            match event.await {
                Some(event) => echo(&mut backend, event).await,
                None => break,
            }
        }
        backend.close(CLOSE_WITHIN).await;
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

/// A backend on a runtime.
type OnRuntime<R> = Backend<<R as Runtime>::Listener, <R as Runtime>::Timer>;

/// Creates a backend at every address of `name`. Returns it with these addresses.
fn backend<R: Runtime>(name: &Address) -> io::Result<(OnRuntime<R>, Vec<SocketAddr>)> {
    let options = SocketOptions::of_link();
    let listeners = listen::bind(name, options)?.listen(1)?;
    let listeners = listeners.into_iter().next().unwrap_or_default();
    let addresses = listen::local_addrs(&listeners)?;
    let (first, more) = listen::for_runtime::<R>(listeners, options)?;
    let backend = Backend::new(first);
    let backend = more.into_iter().fold(backend, Backend::listening_at);
    Ok((backend, addresses))
}

/// Handles an event as an echo backend.
pub(super) async fn echo<L: Listener, T: Timer>(backend: &mut Backend<L, T>, event: Event) {
    match event {
        Event::Packet { id, data } => {
            if let Err(problem) = backend.send(id, &data).await {
                debug!(%id, %problem, "not echoed");
            }
        }
        Event::EdgeConnected { address } => info!(%address, "an edge is there"),
        Event::EdgeLost => info!("the edge is gone; waiting for it to come back"),
        Event::Resumed { id } => debug!(%id, "a client is back"),
        Event::Failed { id, reason } => debug!(%id, reason, "a client is gone"),
        // Event kinds of a newer library.
        _ => {}
    }
}
