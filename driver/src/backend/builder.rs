//! The builder of a backend: where it waits for its edge.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use voltlane_core::ClientId;

use super::verify::{Check, Refuse};
use super::{Backend, HostConfig, Joined, LinkSecret, ListenError, Means, Options, Overflow};
use crate::{BoxedListener, Listener, Runtime, SocketOptions, Timer};

/// The addresses at which a backend listens, at most.
pub const MAX_ADDRESSES: usize = crate::MAX_LISTENERS;

type Bound = Pin<Box<dyn Future<Output = io::Result<(BoxedListener, SocketAddr)>> + Send>>;

/// What a builder needs of a runtime.
#[derive(Clone, Copy)]
struct Runner {
    bind: fn(String, SocketOptions) -> Bound,
    timer: fn() -> Box<dyn Timer>,
    random: fn() -> [u8; 32],
}

/// Builds a [`Backend`]. Its setters are checked by [`listen`](Self::listen), all at once.
pub struct Builder {
    runner: Runner,
    addresses: Vec<String>,
    listeners: Vec<BoxedListener>,
    options: Options,
    sockets: SocketOptions,
    verify: Option<Check>,
    /// What is wrong with an option.
    wrong: Option<String>,
}

impl Builder {
    /// Begins with the address at which the edge comes: `host:port` or `tcp://host:port`, `unix:/path` or `unix:@name`. With port 0 the
    /// system chooses one.
    #[must_use]
    pub fn on<R: Runtime>(address: &str) -> Builder {
        let runner = Runner {
            bind: |address, options| {
                Box::pin(async move {
                    let (listener, address) = R::bind(address, options).await?;
                    Ok((BoxedListener::new(listener), address))
                })
            },
            timer: || Box::new(R::Timer::default()),
            random: R::random,
        };
        Builder {
            runner,
            addresses: vec![address.to_owned()],
            listeners: Vec::new(),
            options: Options::default(),
            sockets: SocketOptions::of_link(),
            verify: None,
            wrong: None,
        }
    }

    /// Another address at which the edge may come.
    #[must_use]
    pub fn or_address(mut self, address: &str) -> Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// A listener in place of the addresses, as one within TLS that takes only the edge's certificate.
    #[must_use]
    pub fn listener(mut self, own: impl Listener) -> Self {
        self.listeners.push(BoxedListener::new(own));
        self
    }

    /// Asks each edge for version 3 of the link: who comes, goes and is away, groups, classes of delivery, and nothing lost with a link. An edge
    /// that does not grant it gets version 2, after a second of silence at most. Default: not asked. (SPEC 33)
    #[must_use]
    pub fn ask_for_version_3(mut self) -> Self {
        self.options.asks = true;
        self
    }

    /// Takes up to this many edges, of 1 to [`MAX_EDGES`](super::MAX_EDGES), each with a `cluster.home` of its own. Their sessions are one:
    /// whoever is sent to is found, and [`recv`](Backend::recv) gives the events of all. It takes [version
    /// 3](Self::ask_for_version_3) of the link. Default: one, which needs no home. (SPEC 40)
    #[must_use]
    pub fn edges(mut self, most: usize) -> Self {
        self.options.edges = Some(most);
        self
    }

    /// What becomes of a client for which there is no room, since it takes less than it is sent. Default: its session ends with 303. With
    /// [`Overflow::Gap`] the oldest packets for it are given up and it goes on: it and the backend are told of each [`Gap`](super::Event::Gap).
    /// Over a link of version 2, and for a client of version 2, the session ends in any case. (SPEC 24.4)
    #[must_use]
    pub fn overflow(mut self, rule: Overflow) -> Self {
        self.options.overflow = rule;
        self
    }

    /// Proves this secret to each edge, and serves only one that proves it in turn: the 32 to 512 bytes that the edge's `master.token_file`
    /// has, without the white space around them. Such a link has version 3. The secret keeps out who does not have it, and protects no packet:
    /// where the network is not trusted, the link is within TLS. Default: none. (SPEC 34.5)
    #[must_use]
    pub fn secret(mut self, secret: impl AsRef<[u8]>) -> Self {
        match LinkSecret::new(secret.as_ref()) {
            Ok(secret) => return self.with_secret(secret),
            Err(error) => self.wrong = Some(error.to_string()),
        }
        self
    }

    /// Like [`secret`](Self::secret), of which the length is right.
    #[must_use]
    pub fn with_secret(mut self, secret: LinkSecret) -> Self {
        self.options.secret = Some(secret);
        self
    }

    /// Goes on where an earlier process of the application ended, so that each packet counts once even if that process was killed.
    ///
    /// The application saves the [number](super::Event::Packet) of the last packet of each client together with what came of it, as in one
    /// transaction. Given here, those packets are not told again. What it sends it saves as well, with the number that it will have, and sends
    /// again what [`Joined::sent`] says that the edge does not have. A client that was restored and is not there any more
    /// [ends](super::Event::Ended). It takes version 3 of the link. (SPEC 37.4(e))
    #[must_use]
    pub fn restore(mut self, saved: impl IntoIterator<Item = (ClientId, u64)>) -> Self {
        self.options.restored.extend(saved);
        self
    }

    /// How often there is a tick among the events. Default: never.
    #[must_use]
    pub fn tick(mut self, every: Duration) -> Self {
        self.options.tick = Some(every);
        self
    }

    /// Verifies each client before anything of it is seen. `check` gets what is known of it, above all its token, and returns a note of at most
    /// 64 bytes, such as who the user is, or why the client is refused. Until then its events wait, and the edge reads no more of it.
    ///
    /// It runs while [`recv`](Backend::recv) is waited for, for up to [`MAX_VERIFYING`](super::MAX_VERIFYING) clients at a time, and bounds its own
    /// time: over version 3 of the link nothing of anybody is acknowledged beyond the oldest client that waits for its verdict, so an edge stops
    /// reading once its queue is full. [`Everyone`](super::Everyone) and [`clients`](super::BackendHandle::clients) leave these clients out, and those that
    /// were refused. A client that sends more than [`MAX_HELD`](super::MAX_HELD) packets or
    /// [`MAX_HELD_BYTES`](super::MAX_HELD_BYTES) before is refused, and so is one whose events exceed
    /// [`MAX_HELD_BYTES_OF_ALL`](super::MAX_HELD_BYTES_OF_ALL) with those of all others. A client whose note an earlier life of this backend has set is not checked
    /// again. A link of version 2 knows no tokens.
    #[must_use]
    pub fn verify<F, R>(mut self, check: F) -> Self
    where
        F: Fn(Joined) -> R + Send + 'static,
        R: Future<Output = Result<String, Refuse>> + Send + 'static,
    {
        self.verify = Some(Box::new(move |joined| Box::pin(check(joined))));
        self
    }

    /// Other bounds.
    #[must_use]
    pub fn config(mut self, config: impl Into<HostConfig>) -> Self {
        self.options.config = config.into();
        self
    }

    /// Options of the sockets. Default: those of a link, [`SocketOptions::of_link`].
    #[must_use]
    pub fn sockets(mut self, options: SocketOptions) -> Self {
        self.sockets = options;
        self
    }

    /// Checks everything, and listens. The backend waits for its edge while it is waited for.
    ///
    /// # Errors
    /// [`ListenError::Config`] if an address or an option cannot be, and [`ListenError::Listen`] if the system does not let it listen there.
    ///
    /// # Cancel safety
    /// If the future is dropped, nobody listens.
    pub async fn listen(self) -> Result<Backend, ListenError> {
        self.listen_at().await.map(|(backend, _)| backend)
    }

    /// Like [`listen`](Self::listen). Returns the addresses at which the backend listens, too: none with a listener of its own.
    ///
    /// # Errors
    /// Those of [`listen`](Self::listen).
    ///
    /// # Cancel safety
    /// That of [`listen`](Self::listen).
    pub async fn listen_at(self) -> Result<(Backend, Vec<SocketAddr>), ListenError> {
        if let Some(wrong) = self.wrong {
            return Err(ListenError::Config(wrong));
        }
        let (mut listeners, mut places) = (self.listeners, Vec::new());
        if listeners.is_empty() {
            let (count, max) = (self.addresses.len(), MAX_ADDRESSES);
            if count > max {
                let says = format!("{count} addresses of a backend, {max} allowed");
                return Err(ListenError::Config(says));
            }
            for address in self.addresses {
                let place = place_of(&address)?.to_owned();
                let bound = (self.runner.bind)(place, self.sockets).await;
                let (listener, place) =
                    bound.map_err(|error| ListenError::Listen { address, error })?;
                listeners.push(listener);
                places.push(place);
            }
        }
        let means = Means {
            listeners,
            timer: (self.runner.timer)(),
            seed: (self.runner.random)(),
            verify: self.verify,
        };
        Ok((Backend::begin(self.options, means)?, places))
    }
}

/// Returns what a runtime can listen at.
fn place_of(address: &str) -> Result<&str, ListenError> {
    const FORMS: &str = "a backend listens at host:port, tcp://host:port, unix:/path or unix:@name";
    let wrong = |why: &str| Err(ListenError::Config(format!("`{address}`: {why}; {FORMS}")));
    match address.split_once("://") {
        None => Ok(address),
        Some(("tcp", place)) => Ok(place),
        Some(("tls", _)) => wrong("a backend within TLS has a listener of its own"),
        Some((scheme, _)) => wrong(&format!("the scheme {scheme} is unknown")),
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("addresses", &self.addresses)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_place_is_told_with_what_would_be_one() {
        for place in ["127.0.0.1:7", "[::1]:7", "unix:/run/a", "unix:@a"] {
            assert_eq!(place_of(place).expect("a place"), place);
        }
        assert_eq!(
            place_of("tcp://a.example:7").expect("a place"),
            "a.example:7"
        );
        for (wrong, why) in [
            ("tls://a.example:7", "a listener of its own"),
            ("wss://a.example/", "the scheme wss is unknown"),
        ] {
            let error = place_of(wrong).expect_err(wrong).to_string();
            assert!(
                error.contains(why) && error.contains("unix:/path"),
                "{error}"
            );
        }
    }
}
