//! The home of this process among several edges, and its term. (SPEC 40.1, 43.4)

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the term of an edge without an engine: the seconds since 1970, which grow with each process of this edge (SPEC 34.4).
fn clock_term() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    })
}

/// Waits until the second is over, if the process before this one began in it. Both would have one term, and a backend that still knows the
/// other one would take this one for a second edge (SPEC 34.4(a)).
pub(super) fn wait_for_a_new_term(before: Option<SystemTime>) {
    if let Some(before) = before {
        std::thread::sleep(left_of_second(before, SystemTime::now()));
    }
}

/// Returns what is left of the second in which both times are: at most 1 s, and nothing if they are in two.
fn left_of_second(before: SystemTime, now: SystemTime) -> Duration {
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (before, now) = (since(before), since(now));
    match before.as_secs() == now.as_secs() {
        true => Duration::from_secs(now.as_secs() + 1).saturating_sub(now),
        false => Duration::ZERO,
    }
}

#[cfg(feature = "engine")]
mod leased {
    use std::sync::Arc;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use tracing::{error, info, warn};
    use voltlane_cluster::record::MAX_BACKEND_BYTES;
    use voltlane_cluster::{Event, Keeper, LeaseConfig, Standing};

    use super::clock_term;
    use crate::commands::random;
    use crate::config::Settings;
    use crate::engine;
    use crate::metrics::Exchange;
    #[cfg(feature = "admin")]
    use crate::shared_bans::Sharing;

    /// How long a machine may take to say whether it has a link.
    const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

    /// The home of this process. Without an engine it is what the configuration says.
    #[derive(Clone)]
    pub(in crate::commands::run) struct Home {
        keeper: Option<Arc<Keeper>>,
        term: u32,
    }

    impl Home {
        /// Returns whether there is an engine.
        pub(in crate::commands::run) fn is_leased(settings: &Settings) -> bool {
            !settings.cluster.engine.servers.is_empty()
        }

        /// Waits until this process has the home, if there is an engine.
        pub(in crate::commands::run) fn take(settings: &Settings) -> Result<Home, String> {
            if !Home::is_leased(settings) {
                return Ok(Home {
                    keeper: None,
                    term: clock_term(),
                });
            }
            let drawn = random();
            let number = |at: usize| {
                let bytes = drawn
                    .get(at..at + 8)
                    .and_then(|bytes| bytes.try_into().ok());
                u64::from_le_bytes(bytes.unwrap_or_default())
            };
            let cluster = &settings.cluster;
            let backends = settings.backends().iter().map(ToString::to_string);
            let home = u16::try_from(cluster.home).unwrap_or(0);
            let config = LeaseConfig {
                cluster: engine::name(settings)?,
                home,
                lease: Duration::from_secs(cluster.lease_secs.into()),
                nonce: number(0),
                label: label(),
                backend: joined(backends),
                seed: number(8),
            };
            let engine = engine::engine(settings, number(16))?;
            let keeper = Keeper::start(config, engine, move |event| tell(home, event));
            let keeper = keeper.map_err(|error| format!("no thread for the engine: {error}"))?;
            info!(home, engine = %cluster.engine, cluster = %cluster.name, "taking the home");
            let within = match cluster.wait_secs {
                0 => None,
                secs => Some(Duration::from_secs(secs.into())),
            };
            let term = keeper.wait(within).map_err(|why| {
                let secs = cluster.wait_secs;
                format!("the home {home} was not free within {secs} s (cluster.wait_secs): {why}")
            })?;
            Ok(Home {
                keeper: Some(Arc::new(keeper)),
                term,
            })
        }

        pub(in crate::commands::run) fn term(&self) -> u32 {
            self.term
        }

        /// Has the engine know the run, and from now on whether it has a link.
        pub(in crate::commands::run) fn serves(&self, run: [u8; 8], exchange: Exchange) {
            if let Some(keeper) = &self.keeper {
                let run = u64::from_be_bytes(run);
                keeper.watch(Box::new(move || {
                    let answer = exchange.ask(LOOK_TIMEOUT);
                    (Some(run), answer.is_some_and(|all| all.gauges.link_is_up))
                }));
            }
        }

        /// Returns what shares the bans of this edge, if that is configured.
        #[cfg(feature = "admin")]
        pub(in crate::commands::run) fn sharing(&self, settings: &Settings) -> Option<Sharing> {
            let keeper = self.keeper.as_ref()?;
            let home = u16::try_from(settings.cluster.home).unwrap_or(0);
            let shares = settings.cluster.share_bans;
            shares.then(|| Sharing::new(keeper.teller(), home))
        }

        /// Returns whether another process has taken the home. If not, the task is woken then.
        pub(in crate::commands::run) fn is_lost(&self, cx: &mut Context<'_>) -> bool {
            let keeper = self.keeper.as_ref();
            keeper.is_some_and(|keeper| keeper.poll_lost(cx) == Poll::Ready(()))
        }

        /// Returns what an operator should know of it while the edge serves.
        pub(in crate::commands::run) fn note(&self) -> Option<&'static str> {
            match self.keeper.as_ref()?.standing() {
                Standing::Troubled => Some("the engine of the cluster cannot be used"),
                Standing::RanOut => Some(
                    "the lease of the home has run out, since the engine of the cluster cannot be used",
                ),
                _ => None,
            }
        }

        /// Checks at the end that the home was not lost.
        pub(in crate::commands::run) fn check(&self) -> Result<(), String> {
            match self.keeper.as_ref().map(|keeper| keeper.standing()) {
                Some(Standing::Lost) => Err(
                    "another process has taken the home of this one, which has stopped to serve"
                        .to_owned(),
                ),
                _ => Ok(()),
            }
        }

        /// Gives the home back, so that the next process does not wait.
        pub(in crate::commands::run) fn end(self) {
            // The orders have their part of it until now.
            if let Some(keeper) = self.keeper.and_then(Arc::into_inner) {
                keeper.give_back();
            }
        }
    }

    /// Returns the addresses of backends as a record has them: those for which there is room, each of them whole.
    pub(super) fn joined(backends: impl Iterator<Item = String>) -> String {
        backends
            .reduce(|mut all, backend| {
                if all.len() + 1 + backend.len() <= MAX_BACKEND_BYTES {
                    all.push(',');
                    all.push_str(&backend);
                }
                all
            })
            .unwrap_or_default()
    }

    /// Returns the machine and the process, for people.
    fn label() -> String {
        let name = rustix::system::uname();
        let node = name.nodename().to_string_lossy();
        format!("{node}/{}", std::process::id())
    }

    fn tell(home: u16, event: &Event) {
        match event {
            Event::Waits {
                holder,
                term,
                at_most,
            } => info!(
                home,
                holder = %holder.label,
                term,
                ?at_most,
                "another process has the home: waiting until it gives it back, or is gone for as long as its lease"
            ),
            Event::Taken { term } => info!(home, term, "this process has the home"),
            Event::Troubled(trouble) => {
                warn!(home, "{trouble}. Clients do not notice; still trying")
            }
            Event::Recovered => info!(home, "the engine of the cluster can be used again"),
            Event::RanOut => warn!(
                home,
                "the lease of the home has run out: another process may take it, and until then this one goes on"
            ),
            Event::Lost { holder, term } => error!(
                home,
                holder = holder
                    .as_ref()
                    .map_or("nobody any more", |holder| &holder.label),
                term,
                "another process has taken the home: this one stops to serve"
            ),
            Event::GivenBack => info!(home, "the home is given back"),
            _ => {}
        }
    }
}

/// Without engines: the home is what the configuration says.
#[cfg(not(feature = "engine"))]
mod leased {
    use std::task::Context;

    use super::clock_term;
    use crate::config::Settings;
    use crate::metrics::Exchange;

    #[derive(Clone)]
    pub(in crate::commands::run) struct Home;

    #[expect(clippy::unused_self, reason = "as if there could be an engine")]
    impl Home {
        pub(in crate::commands::run) fn is_leased(_: &Settings) -> bool {
            false
        }

        #[expect(clippy::unnecessary_wraps, reason = "as if it could be taken")]
        pub(in crate::commands::run) fn take(_: &Settings) -> Result<Home, String> {
            Ok(Home)
        }

        pub(in crate::commands::run) fn term(&self) -> u32 {
            clock_term()
        }

        pub(in crate::commands::run) fn serves(&self, _: [u8; 8], _: Exchange) {}

        pub(in crate::commands::run) fn is_lost(&self, _: &mut Context<'_>) -> bool {
            false
        }

        pub(in crate::commands::run) fn note(&self) -> Option<&'static str> {
            None
        }

        #[expect(clippy::unnecessary_wraps, reason = "as if it could be lost")]
        pub(in crate::commands::run) fn check(&self) -> Result<(), String> {
            Ok(())
        }

        pub(in crate::commands::run) fn end(self) {}
    }
}

pub(super) use leased::Home;

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "engine")]
    #[test]
    fn a_record_has_whole_addresses_of_backends() {
        let of = |backends: &[String]| leased::joined(backends.iter().cloned());
        assert_eq!(of(&[]), "");
        let [half, rest] = [127, 128].map(|length| "b".repeat(length));
        let whole = of(&[half.clone(), rest.clone()]);
        assert_eq!(whole, format!("{half},{rest}"), "at the bound");
        let beyond = of(&[half.clone(), rest + "b", "b:1".into()]);
        assert_eq!(beyond, format!("{half},b:1"), "beyond");
    }

    #[test]
    fn a_process_that_begins_in_the_second_of_another_one_waits_for_the_next() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        for (before, now, left) in [
            (7_000, 7_000, 1_000),
            (7_000, 7_250, 750),
            (7_999, 7_999, 1),
            (7_999, 8_000, 0),
            // A clock was set back.
            (8_000, 7_999, 0),
        ] {
            let expected = Duration::from_millis(left);
            assert_eq!(
                left_of_second(at(before), at(now)),
                expected,
                "{before}, {now}"
            );
        }
    }
}
