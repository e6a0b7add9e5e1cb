//! `run`: serve.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tracing::{error, info};
use voltlane_core::edge::Edge;
use voltlane_driver::{Connect, Connector, EdgeDriver};

use super::{make_key, random, reload, signals};
use crate::cli::ConfigArgs;
use crate::config::Settings;
use crate::key_file::load_or_make_key;
use crate::logging;
use crate::metrics::{self, Exchange, Snapshot};
use crate::{Resources, Runtime};

/// Serves until SIGINT or SIGTERM. At SIGHUP the configuration is read again, with `args`.
pub(super) fn run<R: Runtime>(settings: Settings, args: ConfigArgs) -> ExitCode {
    let served = R::block_on(serve::<R>(settings, args))
        .unwrap_or_else(|error| Err(format!("the runtime cannot start: {error}")));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            error!("{problem}");
            ExitCode::FAILURE
        }
    }
}

async fn serve<R: Runtime>(mut settings: Settings, args: ConfigArgs) -> Result<(), String> {
    let unhandled = |error| format!("signals cannot be handled: {error}");
    let mut stop = signals::stop().map_err(unhandled)?;
    let reloads = reload::on_hangup(args, settings.clone()).map_err(unhandled)?;
    let keys = load_or_make_key(settings.general.key_file.as_deref(), make_key)
        .map_err(|error| error.to_string())?;
    let resources = Resources::raise_and_measure();
    let edge = Edge::new(settings.edge_config(resources), keys, *random());

    let listen = settings.listener.address.to_string();
    let (listener, address) = R::bind(listen.clone(), settings.listener_options())
        .await
        .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let connector = |settings: &Settings| {
        R::connector(
            settings.master.address.to_string(),
            settings.master_options(),
        )
    };
    let later = Arc::new(Mutex::new(connector(&settings)));
    let mut backend = FirstThen {
        first: None,
        later: Arc::clone(&later),
    };
    if settings.master.required_at_start {
        let problem = |error| {
            format!(
                "the backend {} cannot be reached: {error}",
                settings.master.address
            )
        };
        backend.first = Some(backend.connect().await.map_err(problem)?);
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
    let mut stopping = false;
    poll_fn(|cx| {
        let mut taken = Vec::new();
        while let Poll::Ready(change) = reloads.poll(cx) {
            settings = change.settings;
            taken.extend(change.taken);
            handle.reconfigure(settings.edge_config(resources));
            *later.lock().unwrap_or_else(PoisonError::into_inner) = connector(&settings);
            logging::set_level(settings.general.log_level);
        }
        if !stopping && pin!(&mut stop).poll(cx).is_ready() {
            stopping = true;
            let within = settings.general.shutdown_timeout_secs;
            handle.shutdown(Duration::from_secs(within.into()));
        }
        let polled = driver.as_mut().poll(cx);
        if !taken.is_empty() {
            // By now it is: the driver had its turn.
            let keys = taken.join(", ");
            info!(%keys, "the configuration was read again and is in effect");
        }
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

/// A connector that was asked once before, and that another one can take the place of.
struct FirstThen<C: Connector> {
    first: Option<C::Stream>,
    later: Arc<Mutex<C>>,
}

impl<C: Connector> Connector for FirstThen<C> {
    type Stream = C::Stream;

    fn connect(&mut self) -> Connect<C::Stream> {
        match self.first.take() {
            Some(stream) => Box::pin(std::future::ready(Ok(stream))),
            None => self
                .later
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .connect(),
        }
    }
}
