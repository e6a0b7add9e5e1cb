//! The bounds of a client.

use core::time::Duration;

use crate::ConfigError;
use crate::config::{at_least, some_time};
use crate::keys::PublicKey;
#[cfg(debug_assertions)]
use crate::protocol::client::KeyLog;
use crate::protocol::client::Versions;
use crate::protocol::{MAX_OPENING_BODY_BYTES, Version};
use crate::wire::frame::LENGTH_BYTES;

/// Maximum length of a handshake packet's body from an edge, in bytes. The longest in version 2 has 74.
pub const MAX_HANDSHAKE_BODY_BYTES: u32 = MAX_OPENING_BODY_BYTES;
/// The time that an edge has to answer a goodbye. (SPEC 25.4(d))
pub const GOODBYE_ANSWER_TIME: Duration = Duration::from_secs(1);
/// The time for which this client waits for the edge to end a connection that it broke the protocol on. (SPEC 25.5(c))
pub const LEAVING_TIME: Duration = Duration::from_secs(1);

/// When a client that saves its session acknowledges packets. (SPEC 46.1)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Saving {
    /// When the application has come back for more. What it did between that and the last save before it was killed comes again.
    Taken,
    /// When the application has [saved its state](super::Client::set_state). What it has sent leaves with the same save. So each packet
    /// counts once in both directions, however often the process is killed.
    Saved,
}

/// The bounds of a [`Client`](super::Client).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientConfig {
    /// Maximum length of a sent packet in bytes. An edge closes the connection if it exceeds the edge's own limit. Default: 1 MiB.
    pub(super) max_send_bytes: u32,
    /// Maximum length of a received packet in bytes. Default: 8 MiB.
    pub(super) max_receive_bytes: u32,
    /// Capacity of the send queue in packets. Default: 8,192.
    pub(super) queue_packets: usize,
    /// Capacity of the send queue in bytes, including four per packet for the length. Default: 8 MiB.
    pub(super) queue_bytes: usize,
    /// Maximum time from [`State::Connecting`](super::State::Connecting) to an open transport. Default: 10 s.
    pub(super) connect_timeout: Duration,
    /// Maximum time from an open transport to an established session. Default: 5 s.
    pub(super) handshake_timeout: Duration,
    /// Upper bound of the first pause after a lost connection; see [`Backoff`](crate::Backoff). Default: 100 ms.
    pub(super) backoff_min: Duration,
    /// Upper bound of any pause. Default: 5 s.
    pub(super) backoff_max: Duration,
    /// Maximum time from a goodbye until all that waits is sent. Default: 5 s.
    pub(super) goodbye_timeout: Duration,
    /// `None`: nobody said. Default.
    pub(super) versions: Option<Versions>,
    /// The keys of which the edge must have one. Default: none.
    pub(super) edge_keys: Vec<PublicKey>,
    /// Default: false.
    pub(super) trust_first_use: bool,
    /// Default: false.
    pub(super) take_over: bool,
    /// `None`: the session is not saved. Default.
    pub(super) saving: Option<Saving>,
    /// Default: false.
    pub(super) padding: bool,
    /// Default: false.
    #[cfg(feature = "tickets")]
    pub(super) tickets: bool,
    /// Default: none.
    #[cfg(debug_assertions)]
    pub(super) key_log: Option<KeyLog>,
}

impl ClientConfig {
    /// Sets the maximum length of a sent packet, in bytes. With 0 only empty packets can be sent. Default: 1 MiB.
    #[must_use]
    pub fn with_max_send_bytes(mut self, bytes: u32) -> Self {
        self.max_send_bytes = bytes;
        self
    }

    /// Sets the maximum length of a received packet, in bytes. Default: 8 MiB.
    #[must_use]
    pub fn with_max_receive_bytes(mut self, bytes: u32) -> Self {
        self.max_receive_bytes = bytes;
        self
    }

    /// Sets the capacity of the send queue in packets, at least 1. Default: 8,192.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the queue could hold no packet.
    pub fn with_queue_packets(mut self, packets: usize) -> Result<Self, ConfigError> {
        self.queue_packets = at_least("queue_packets", packets, 1)?;
        Ok(self)
    }

    /// Sets the capacity of the send queue in bytes, at least 4. Each packet takes 4 more than its data. Default: 8 MiB.
    ///
    /// # Errors
    /// [`ConfigError::TooSmall`] if the queue could hold no packet.
    pub fn with_queue_bytes(mut self, bytes: usize) -> Result<Self, ConfigError> {
        self.queue_bytes = at_least("queue_bytes", bytes, LENGTH_BYTES)?;
        Ok(self)
    }

    /// Sets the maximum time from [`State::Connecting`](super::State::Connecting) to an open transport. Default: 10 s.
    ///
    /// # Errors
    /// [`ConfigError::NoTime`] if it is zero.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.connect_timeout = some_time("connect_timeout", timeout)?;
        Ok(self)
    }

    /// Sets the maximum time from an open transport to an established session. Default: 5 s.
    ///
    /// # Errors
    /// [`ConfigError::NoTime`] if it is zero.
    pub fn with_handshake_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.handshake_timeout = some_time("handshake_timeout", timeout)?;
        Ok(self)
    }

    /// Sets the upper bounds of the first pause after a lost connection and of any pause; see [`Backoff`](crate::Backoff). Default: 100 ms
    /// and 5 s.
    ///
    /// # Errors
    /// [`ConfigError::PausesReversed`] if `min` exceeds `max`.
    pub fn with_backoff(mut self, min: Duration, max: Duration) -> Result<Self, ConfigError> {
        if min > max {
            return Err(ConfigError::PausesReversed { min, max });
        }
        (self.backoff_min, self.backoff_max) = (min, max);
        Ok(self)
    }

    /// Sets the maximum time from a goodbye until all that waits is sent. The edge then has [`GOODBYE_ANSWER_TIME`]. Default: 5 s.
    ///
    /// # Errors
    /// [`ConfigError::NoTime`] if it is zero.
    pub fn with_goodbye_timeout(mut self, timeout: Duration) -> Result<Self, ConfigError> {
        self.goodbye_timeout = some_time("goodbye_timeout", timeout)?;
        Ok(self)
    }

    /// Lets nothing leave before it is saved, so that another process can go on where this one is killed. The adapter stores what
    /// [`Client::to_save`](super::Client::to_save) gives whenever the client [wants it](super::Client::wants_save). Default: no.
    #[must_use]
    pub fn with_saving(mut self, saving: Saving) -> Self {
        self.saving = Some(saving);
        self
    }

    /// Sets the versions that the client speaks. Default: version 2 alone.
    #[must_use]
    pub fn with_versions(mut self, versions: Versions) -> Self {
        self.versions = Some(versions);
        self
    }

    /// Sets the versions that the client speaks unless they are set already: the default of a library around it.
    #[must_use]
    pub fn or_versions(mut self, versions: Versions) -> Self {
        self.versions.get_or_insert(versions);
        self
    }

    /// Pins a key: the edge must prove that it has this one, or another one that is pinned. With pins the client speaks version 3 alone,
    /// since version 2 proves no key.
    #[must_use]
    pub fn with_edge_key(mut self, key: PublicKey) -> Self {
        self.edge_keys.push(key);
        self
    }

    /// Sets whether a token may go to the first edge that answers, where no key is pinned. Somebody in between can read it then. Default:
    /// false.
    #[must_use]
    pub fn with_trust_first_use(mut self, trusts: bool) -> Self {
        self.trust_first_use = trusts;
        self
    }

    /// Asks the edge for tickets, by which the client comes back at another edge of the same backend. To be set where the client knows several
    /// addresses. (SPEC 44) Default: false.
    #[must_use]
    #[cfg(feature = "tickets")]
    pub fn with_tickets(mut self, asks: bool) -> Self {
        self.tickets = asks;
        self
    }

    /// Sets whether the client goes on when somebody else has resumed its session. Default: false, and the session ends with
    /// [`Code::CONFLICT`](super::Code::CONFLICT).
    #[must_use]
    pub fn with_take_over(mut self, takes_over: bool) -> Self {
        self.take_over = takes_over;
        self
    }

    /// Pads records of version 3, so that their length tells less of what is in them. (SPEC 21.3(f))
    #[must_use]
    pub fn with_padding(mut self, padding: bool) -> Self {
        self.padding = padding;
        self
    }

    /// Gives away the keys of all records of version 3, for a viewer of captures. Default: it does not.
    ///
    /// It exists only in builds with debug assertions.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn with_key_log(mut self, log: KeyLog) -> Self {
        self.key_log = Some(log);
        self
    }

    /// Returns the versions that the client speaks.
    #[must_use]
    pub fn versions(&self) -> Versions {
        self.versions.unwrap_or(Versions::V2)
    }

    /// Returns the version that a new session is to have.
    pub(super) fn first_version(&self) -> Version {
        self.versions().first(!self.edge_keys.is_empty())
    }

    /// Returns whether no session may have version 2: the edge must prove a key, or version 3 is demanded. (SPEC 18.4)
    #[must_use]
    pub fn demands_v3(&self) -> bool {
        self.versions().is_v3_alone() || !self.edge_keys.is_empty()
    }

    /// Returns the pinned keys.
    #[must_use]
    pub fn edge_keys(&self) -> &[PublicKey] {
        &self.edge_keys
    }

    /// Returns the maximum time from a goodbye until all that waits is sent.
    #[must_use]
    pub fn goodbye_timeout(&self) -> Duration {
        self.goodbye_timeout
    }

    /// Returns the maximum length of a sent packet, in bytes.
    #[must_use]
    pub fn max_send_bytes(&self) -> u32 {
        self.max_send_bytes
    }

    /// Returns the maximum length of a received packet, in bytes.
    #[must_use]
    pub fn max_receive_bytes(&self) -> u32 {
        self.max_receive_bytes
    }

    /// Returns the capacity of the send queue in packets.
    #[must_use]
    pub fn queue_packets(&self) -> usize {
        self.queue_packets
    }

    /// Returns the capacity of the send queue in bytes.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Returns the maximum time from [`State::Connecting`](super::State::Connecting) to an open transport.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Returns the maximum time from an open transport to an established session.
    #[must_use]
    pub fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    /// Returns the upper bounds of the first pause and of any pause.
    #[must_use]
    pub fn backoff(&self) -> (Duration, Duration) {
        (self.backoff_min, self.backoff_max)
    }
}

impl Default for ClientConfig {
    fn default() -> Self {
        ClientConfig {
            max_send_bytes: 1 << 20,
            max_receive_bytes: 8 << 20,
            queue_packets: 8_192,
            queue_bytes: 8 << 20,
            connect_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            goodbye_timeout: Duration::from_secs(5),
            versions: None,
            edge_keys: Vec::new(),
            trust_first_use: false,
            take_over: false,
            saving: None,
            padding: false,
            #[cfg(feature = "tickets")]
            tickets: false,
            #[cfg(debug_assertions)]
            key_log: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_under_which_nothing_could_be_sent_is_refused_and_the_smallest_is_not() {
        let config = ClientConfig::default;
        let too_small = |name, value, min| Err(ConfigError::TooSmall { name, value, min });
        assert_eq!(
            config().with_queue_packets(0),
            too_small("queue_packets", 0, 1)
        );
        assert!(config().with_queue_packets(1).is_ok());
        assert_eq!(config().with_queue_bytes(3), too_small("queue_bytes", 3, 4));
        assert!(config().with_queue_bytes(4).is_ok());
        let no_time = |name| Err(ConfigError::NoTime { name });
        assert_eq!(
            config().with_connect_timeout(Duration::ZERO),
            no_time("connect_timeout")
        );
        assert_eq!(
            config().with_handshake_timeout(Duration::ZERO),
            no_time("handshake_timeout")
        );
        assert_eq!(
            config().with_goodbye_timeout(Duration::ZERO),
            no_time("goodbye_timeout")
        );
        let (min, max) = (Duration::from_secs(2), Duration::from_secs(1));
        let reversed = ConfigError::PausesReversed { min, max };
        assert_eq!(config().with_backoff(min, max), Err(reversed));
        assert_eq!(
            reversed.to_string(),
            "the first pause (2s) is longer than the longest (1s)"
        );
        let kept = config()
            .with_backoff(max, max)
            .map(|config| config.backoff());
        assert_eq!(kept, Ok((max, max)));
    }
}
