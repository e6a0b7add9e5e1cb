//! `echo`: a backend that sends every packet back to the client it came from.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitCode;
use std::task::Poll;
use std::time::Duration;

use tracing::{debug, error, info};
use voltlane_driver::backend::{Backend, Event};
use voltlane_driver::{Listener, Runtime, SocketOptions, Timer};

use super::signals;
use crate::cli::EchoArgs;

/// How long the last echoes may take to leave.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Echoes until SIGINT or SIGTERM.
pub(super) fn run<R: Runtime>(args: &EchoArgs) -> ExitCode {
    let listen = args.listen.to_string();
    let echoed = R::block_on(async move {
        let mut stop =
            signals::stop().map_err(|error| format!("signals cannot be handled: {error}"))?;
        let (listener, address) = R::bind(listen.clone(), SocketOptions::of_link())
            .await
            .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        stop.serves();
        info!(%address, "waiting for an edge");
        let mut backend: Backend<R::Listener, R::Timer> = Backend::new(listener);
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

/// Handles an event as an echo backend does.
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
    }
}
