//! The bounds of a host, and what it asks of its edge.

use crate::ConfigError;
use crate::backend::BackendConfig;
use crate::config::at_least;
use crate::link::v3::{LinkSecret, Overflow};

/// Sessions that a host knows unless its configuration says otherwise.
pub const MAX_SESSIONS: usize = 1_048_576;

/// Edges at one backend, at most. (SPEC 40.7)
pub const MAX_EDGES: usize = 64;

/// The bounds of a [`Host`](super::Host).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostConfig {
    pub(super) link: BackendConfig,
    pub(super) max_sessions: usize,
    pub(super) admits: bool,
    pub(in crate::backend) edges: usize,
    pub(in crate::backend) boot: Option<[u8; 16]>,
    pub(super) overflow: Overflow,
    pub(in crate::backend) secret: Option<(LinkSecret, [u8; 32])>,
}

impl Default for HostConfig {
    fn default() -> Self {
        HostConfig {
            link: BackendConfig::default(),
            max_sessions: MAX_SESSIONS,
            admits: false,
            edges: 1,
            boot: None,
            overflow: Overflow::End,
            secret: None,
        }
    }
}

impl HostConfig {
    /// Sets the bounds of the link.
    #[must_use]
    pub fn with_link(mut self, link: BackendConfig) -> Self {
        self.link = link;
        self
    }

    /// Sets how many sessions are known at a time, at least 1. Default: [`MAX_SESSIONS`].
    ///
    /// An edge has fewer. But in version 2 an edge that began again does not tell which sessions it has lost (SPEC 9.10(c)), so a host that
    /// lives longer than its edges would know more and more. Beyond this bound, the sixteenth of which nothing was heard for longest ends
    /// with the code 301.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] for 0.
    pub fn with_max_sessions(mut self, sessions: usize) -> Result<Self, ConfigError> {
        self.max_sessions = at_least("max_sessions", sessions, 1)?;
        Ok(self)
    }

    /// Sets how many edges a [`Fleet`](crate::backend::fleet::Fleet) takes, from 1 to [`MAX_EDGES`]. Default: 1. Of several, each has a home of
    /// its own and grants version 3 of the link, so the fleet is to [ask](Self::asking) as well; the other bounds hold for each. (SPEC 40)
    ///
    /// # Errors
    /// [`ConfigError`] outside of that range.
    pub fn with_edges(mut self, edges: usize) -> Result<Self, ConfigError> {
        self.edges = at_least("edges", edges, 1)?;
        match edges > MAX_EDGES {
            true => Err(ConfigError::TooMany {
                name: "edges",
                value: edges,
                max: MAX_EDGES,
            }),
            false => Ok(self),
        }
    }

    /// Asks each edge for version 3 of the link. An edge that does not grant it within [`ASK_WITHIN`](super::ASK_WITHIN) gets version 2. (SPEC 34)
    ///
    /// `boot` is 16 random bytes, others in each life of the backend. A backend that may send no packet of 57 bytes, which an ASK has, does
    /// not ask.
    #[must_use]
    pub fn asking(mut self, boot: [u8; 16]) -> Self {
        self.boot = Some(boot);
        self
    }

    /// Sets what becomes of a session that has no room for a packet. Default: it ends. With [`Overflow::Gap`] the edge gives packets up, the
    /// oldest first, and the session goes on: the client and the backend are told which numbers went. (SPEC 24.4, 36.6)
    ///
    /// A link of version 2 cannot say so, and a client of version 2 cannot be told: there the session ends.
    #[must_use]
    pub fn with_overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Proves a secret to each edge, and serves only one that proves it in turn (SPEC 34.5). Such a link has version 3, so the host is to
    /// [ask](Self::asking) as well. `seed` is 32 random bytes, others in each life of the backend.
    #[must_use]
    pub fn proving(mut self, secret: LinkSecret, seed: [u8; 32]) -> Self {
        self.secret = Some((secret, seed));
        self
    }

    /// Hides each session until [`admit`](super::Host::admit): [`sessions`](super::Host::sessions), [`note`](super::Host::note),
    /// [`ledgers`](super::Host::ledgers) and packets for everybody leave it out.
    #[must_use]
    pub fn admitting(mut self) -> Self {
        self.admits = true;
        self
    }

    /// Returns the bounds of the link.
    #[must_use]
    pub fn link(&self) -> &BackendConfig {
        &self.link
    }
}

impl From<BackendConfig> for HostConfig {
    fn from(link: BackendConfig) -> Self {
        HostConfig::default().with_link(link)
    }
}
