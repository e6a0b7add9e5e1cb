//! How handshakes of TLS end, and how long they take.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use voltlane_driver::Time;

/// How a handshake of TLS ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeEnd {
    /// With a key exchange and a certificate.
    Full,
    /// With a ticket of an earlier connection.
    Resumed,
    /// By a fault of the peer, or for want of what both speak.
    Failed,
    /// The connection ended before.
    Left,
}

impl HandshakeEnd {
    /// Every end, in the order of its number.
    pub const ALL: [HandshakeEnd; 4] = [
        HandshakeEnd::Full,
        HandshakeEnd::Resumed,
        HandshakeEnd::Failed,
        HandshakeEnd::Left,
    ];

    /// Returns its name, as metrics have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            HandshakeEnd::Full => "full",
            HandshakeEnd::Resumed => "resumed",
            HandshakeEnd::Failed => "failed",
            HandshakeEnd::Left => "left",
        }
    }
}

/// Called once for each handshake of TLS, from the thread of its connection, with the time since that was accepted.
#[derive(Clone)]
pub struct TellHandshake(Arc<dyn Fn(HandshakeEnd, Duration) + Send + Sync>);

impl TellHandshake {
    /// Calls `tell`, which must not wait.
    pub fn new(tell: impl Fn(HandshakeEnd, Duration) + Send + Sync + 'static) -> Self {
        TellHandshake(Arc::new(tell))
    }
}

impl fmt::Debug for TellHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TellHandshake").finish_non_exhaustive()
    }
}

/// A handshake that is under way.
pub(crate) struct Handshake {
    began: Option<Time>,
    tell: TellHandshake,
}

impl Handshake {
    pub(crate) fn new(tell: &TellHandshake) -> Box<Handshake> {
        Box::new(Handshake {
            began: None,
            tell: tell.clone(),
        })
    }

    pub(crate) fn begin(&mut self, now: Time) {
        self.began = Some(now);
    }

    pub(crate) fn end(self, now: Time, end: HandshakeEnd) {
        if let Some(began) = self.began {
            (self.tell.0)(end, now.since(began));
        }
    }
}
