//! How a transport ended.

/// How a transport ended, as far as its adapter can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "an adapter has to handle each one")]
pub enum Closed {
    /// In order: the peer ended its direction (FIN). The client link has no half-closed connections. (SPEC 4.1(b))
    Eof,
    /// By a failure: reset, unreachable, timed out, never connected.
    Error,
    /// The adapter closed it because the machine asked.
    Asked,
    /// The peer broke the rules of its transport, below the link. For a client of an edge that is an offence. (SPEC 10.6(d))
    Violation,
}

image!(enum Closed { 0 Eof {}, 1 Error {}, 2 Asked {}, 3 Violation {} });
