//! `run`: serve.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use tracing::{error, info};
use voltlane_core::edge::Edge;
use voltlane_driver::{Connect, Connector, EdgeDriver};

use super::{make_key, random, signals};
use crate::config::Settings;
use crate::key_file::load_or_make_key;
use crate::metrics::{self, Exchange, Snapshot};
use crate::{Resources, Runtime};

/// Serves until SIGINT or SIGTERM.
pub(super) fn run<R: Runtime>(settings: Settings) -> ExitCode {
    let served = R::block_on(serve::<R>(settings))
        .unwrap_or_else(|error| Err(format!("the runtime cannot start: {error}")));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn serve<R: Runtime>(settings: Settings) -> Result<(), String> {
    let mut stop =
        signals::stop().map_err(|error| format!("signals cannot be handled: {error}"))?;
    let keys = load_or_make_key(settings.general.key_file.as_deref(), make_key)
        .map_err(|error| error.to_string())?;
    let edge = Edge::new(
        settings.edge_config(Resources::raise_and_measure()),
        keys,
        *random(),
    );

    let listen = settings.listener.address.to_string();
    let (listener, address) = R::bind(listen.clone(), settings.listener_options())
        .await
        .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let mut backend = FirstThen {
        first: None,
        later: R::connector(
            settings.master.address.to_string(),
            settings.master_options(),
        ),
    };
    if settings.master.required_at_start {
        let problem = |error| {
            format!(
                "the backend {} cannot be reached: {error}",
                settings.master.address
            )
        };
        backend.first = Some(backend.later.connect().await.map_err(problem)?);
    }

    let (metrics, mut asked) = Exchange::new();
    let metrics = match &settings.metrics.address {
        None => None,
        Some(address) => {
            let started = metrics::Server::start(&address.to_string(), metrics);
            Some(started.map_err(|error| format!("cannot serve metrics on {address}: {error}"))?)
        }
    };

    let mut driver = pin!(EdgeDriver::new(
        edge,
        listener,
        backend,
        R::Timer::default()
    ));
    let handle = driver.handle();
    // Tests and scripts that let the system choose the port read it here.
    info!(%address, master = %settings.master.address, "listening");
    if let Some(metrics) = &metrics {
        info!(address = %metrics.address(), "metrics");
    }
    let within = Duration::from_secs(settings.general.shutdown_timeout_secs.into());
    let mut stopping = false;
    poll_fn(|cx| {
        if !stopping && pin!(&mut stop).poll(cx).is_ready() {
            stopping = true;
            handle.shutdown(within);
        }
        let polled = driver.as_mut().poll(cx);
        if metrics.is_some() {
            asked.answer(cx.waker(), || Snapshot {
                counters: driver.edge().counters().clone(),
                gauges: driver.edge().gauges(),
                is_ending: stopping,
            });
        }
        polled
    })
    .await;
    info!("ended");
    Ok(())
}

/// A connector that was asked once before.
struct FirstThen<C: Connector> {
    first: Option<C::Stream>,
    later: C,
}

impl<C: Connector> Connector for FirstThen<C> {
    type Stream = C::Stream;

    fn connect(&mut self) -> Connect<C::Stream> {
        match self.first.take() {
            Some(stream) => Box::pin(std::future::ready(Ok(stream))),
            None => self.later.connect(),
        }
    }
}
