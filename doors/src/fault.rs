//! Why the layers of a connection ended it.

#[cfg(feature = "tls")]
use crate::tls::TlsFault;
#[cfg(feature = "websocket")]
use crate::websocket::Violation;
#[cfg(feature = "websocket")]
use crate::websocket::http::{HeadFault, NotUpgraded, Refusal};

/// Why the layers of a connection ended it. It is the source of the error that a read returns.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DoorFault {
    /// TLS.
    #[cfg(feature = "tls")]
    #[error("TLS: {0}")]
    Tls(TlsFault),
    /// A malformed frame, or a flood of empty ones.
    #[cfg(feature = "websocket")]
    #[error("WebSocket: {0}")]
    Frame(Violation),
    /// What came is no request, or no answer to one.
    #[cfg(feature = "websocket")]
    #[error("HTTP: {0}")]
    Head(HeadFault),
    /// A request is refused.
    #[cfg(feature = "websocket")]
    #[error("HTTP: a request was answered with {status}", status = .0.status())]
    Refused(Refusal),
    /// The server did not open a WebSocket.
    #[cfg(feature = "websocket")]
    #[error("WebSocket: {0}")]
    NotUpgraded(NotUpgraded),
    /// A question about the health of the server was answered.
    #[cfg(feature = "websocket")]
    #[error("a question about health was answered")]
    Health,
    /// The peer closed with this code.
    #[cfg(feature = "websocket")]
    #[error("the peer closed the WebSocket with code {0}{meaning}", meaning = crate::websocket::meaning(*.0))]
    Closed(u16),
    /// The peer ended the connection before it was open.
    #[error("the peer ended the connection while it was opened")]
    Early,
}

impl DoorFault {
    /// Returns whether it is an offence of the peer (SPEC 10.6(d)): it broke a rule, and did not only ask for what it cannot have.
    #[must_use]
    pub fn is_offence(&self) -> bool {
        match self {
            // An alert is the peer's complaint about us.
            #[cfg(feature = "tls")]
            DoorFault::Tls(
                TlsFault::Peer(
                    rustls::Error::AlertReceived(_) | rustls::Error::NoApplicationProtocol,
                )
                | TlsFault::UnknownName
                | TlsFault::NotReady,
            ) => false,
            #[cfg(feature = "tls")]
            DoorFault::Tls(_) => true,
            #[cfg(feature = "websocket")]
            DoorFault::Frame(_) | DoorFault::Head(_) => true,
            #[cfg(feature = "websocket")]
            DoorFault::Refused(refusal) => refusal.is_offence(),
            #[cfg(feature = "websocket")]
            DoorFault::NotUpgraded(_) | DoorFault::Health | DoorFault::Closed(_) => false,
            DoorFault::Early => false,
        }
    }
}
