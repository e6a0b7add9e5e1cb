//! Orders to a serving process: to change its configuration, and to end.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tracing::info;
use voltlane_core::Time;
use voltlane_core::edge::{EdgeConfig, ListenerConfig};

use crate::commands::reload::{Reload, Reloads};
use crate::commands::signals::Stop;
use crate::config::Settings;
use crate::dial::{Dialer, dialer};
use crate::listeners::{Opening, SocketChange};
use crate::logging;
use crate::supervisor::Supervisor;

use super::home::Home;
use voltlane_driver::{Runtime, Timer};

use crate::Resources;

/// An order to the machines of the process.
pub(super) enum Order {
    /// Change to this configuration, which is that of the whole process.
    Reconfigure(Box<EdgeConfig>),
    /// Listen at these sockets as well, or in place of those of this number.
    Listen(Opening, Option<usize>),
    /// Close the sockets of this number.
    Unlisten(usize),
    /// Accept nobody, and have all clients leave within the time.
    Leave(Duration),
    /// End in order, within the time.
    Shutdown(Duration),
}

/// The configuration in effect, for those that show it.
pub(crate) struct InEffect {
    pub(crate) settings: Settings,
    /// The name of each listener, by its number in the machine.
    pub(crate) names: Vec<String>,
}

impl InEffect {
    /// Creates that of a process that starts: no listener has moved yet.
    pub(crate) fn new(settings: Settings) -> InEffect {
        let names = settings.listeners();
        InEffect {
            names: names.map(|listener| listener.name.to_string()).collect(),
            settings,
        }
    }
}

/// The sources of orders, polled in each round of the main loop.
pub(super) struct Orders<R: Runtime> {
    stop: Stop,
    reloads: Reloads,
    settings: Settings,
    /// The same, for others.
    in_effect: Arc<Mutex<InEffect>>,
    /// The descriptors and memory of the process. Those of its listeners are not taken off.
    measured: Resources,
    /// The configuration of each listener in the machine, by its number.
    rules: Vec<ListenerConfig>,
    /// The connector for future attempts to reach each backend.
    connectors: Vec<Arc<Mutex<Dialer<R>>>>,
    /// Keys that were read again, and may not be in effect everywhere yet.
    taken: Vec<String>,
    supervisor: Supervisor,
    home: Home,
    ending: Ending<R>,
}

/// How far the end of the process is.
enum Ending<R: Runtime> {
    No,
    /// Until then clients are accepted, and those that ask for the readiness are told of the end.
    Announced(R::Timer, Time),
    /// Clients have until then to leave.
    Drains(R::Timer, Time),
    Begun,
}

/// Returns whether the time has come. If not, the task is woken then.
fn is_over(timer: &mut impl Timer, until: Time, cx: &mut Context<'_>) -> bool {
    until <= timer.now() || timer.poll_until(cx, until).is_ready()
}

impl<R: Runtime> Orders<R> {
    pub(super) fn new(
        (stop, reloads): (Stop, Reloads),
        (settings, in_effect): (Settings, Arc<Mutex<InEffect>>),
        measured: Resources,
        connectors: Vec<Arc<Mutex<Dialer<R>>>>,
        (supervisor, home): (Supervisor, Home),
    ) -> Self {
        // No listener has moved yet.
        let config = settings.edge_config(measured);
        let rules = std::iter::once(config.listener).chain(config.more_listeners);
        Orders {
            stop,
            reloads,
            rules: rules.collect(),
            settings,
            in_effect,
            measured,
            connectors,
            taken: Vec::new(),
            supervisor,
            home,
            ending: Ending::No,
        }
    }

    /// Returns the places of the backends.
    pub(super) fn backends(&self) -> Vec<String> {
        self.settings
            .backends()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    /// Returns whether the process was asked to end.
    pub(super) fn is_ending(&self) -> bool {
        !matches!(self.ending, Ending::No)
    }

    /// Returns what an operator should know while the edge is ready.
    pub(super) fn note(&self) -> Option<&'static str> {
        self.home.note()
    }

    /// Passes on the orders that have come since.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, mut tell: impl FnMut(Order)) {
        while let Poll::Ready(reload) = self.reloads.poll(cx) {
            let Reload {
                change,
                listeners,
                secret,
            } = *reload;
            self.settings = change.settings;
            self.taken.extend(change.taken);
            let resources = self.settings.left(self.measured, listeners.addresses);
            let mut config = self.settings.edge_config(resources);
            config.master.secret = secret;
            listeners.arrange(&mut config, &mut self.rules);
            let mut in_effect = self
                .in_effect
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            in_effect.settings.clone_from(&self.settings);
            listeners.name(&self.settings, &mut in_effect.names);
            drop(in_effect);
            tell(Order::Reconfigure(Box::new(config)));
            for change in listeners.sockets {
                tell(match change {
                    SocketChange::Open(opening) => Order::Listen(opening, None),
                    SocketChange::Move(opening, from) => Order::Listen(opening, Some(from)),
                    SocketChange::Close(number) => Order::Unlisten(number),
                });
            }
            // There are as many as at the start.
            for (connector, backend) in self.connectors.iter().zip(self.settings.backends()) {
                let mut connector = connector.lock().unwrap_or_else(PoisonError::into_inner);
                *connector = dialer::<R>(&self.settings, backend);
            }
            let general = &self.settings.general;
            logging::set(general.log_level, general.log_format);
        }
        if !matches!(self.ending, Ending::Begun) && self.home.is_lost(cx) {
            // Whoever has the home now serves its clients. What this process still has is fenced (SPEC 40.4(e), 43.5(b)).
            self.ending = Ending::Begun;
            self.supervisor.ends(Duration::ZERO);
            tell(Order::Shutdown(Duration::ZERO));
        }
        if matches!(self.ending, Ending::No) && pin!(&mut self.stop).poll(cx).is_ready() {
            let general = &self.settings.general;
            let [within, drain, shutdown] = [
                general.pre_stop_secs,
                general.drain_secs,
                general.shutdown_timeout_secs,
            ]
            .map(|secs| Duration::from_secs(secs.into()));
            let timer = R::Timer::default();
            let until = timer.now() + within;
            self.ending = Ending::Announced(timer, until);
            self.supervisor.ends(within + drain + shutdown);
            if !within.is_zero() {
                info!(
                    ?within,
                    "the edge is no longer ready, and still accepts clients"
                );
            }
        }
        if let Ending::Announced(timer, until) = &mut self.ending
            && is_over(timer, *until, cx)
        {
            let timer = R::Timer::default();
            let within = Duration::from_secs(self.settings.general.drain_secs.into());
            let until = timer.now() + within;
            self.ending = Ending::Drains(timer, until);
            if !within.is_zero() {
                info!(
                    ?within,
                    "no more clients are accepted, and all are asked to leave"
                );
                tell(Order::Leave(within));
            }
        }
        if let Ending::Drains(timer, until) = &mut self.ending
            && is_over(timer, *until, cx)
        {
            self.ending = Ending::Begun;
            let within = self.settings.general.shutdown_timeout_secs;
            let within = Duration::from_secs(within.into());
            info!(?within, "shutting down");
            tell(Order::Shutdown(within));
        }
    }

    /// Logs what is in effect, once it `is_done`.
    pub(super) fn report(&mut self, is_done: impl FnOnce() -> bool) {
        if !self.taken.is_empty() && is_done() {
            let keys = std::mem::take(&mut self.taken).join(", ");
            info!(%keys, "the configuration was read again and is in effect");
            self.supervisor.reloaded();
        }
    }
}
